"""Experiment: precision against the number of images and the longest time.

Times are spaced geometrically. First their number varies, then the longest time; the noise of an
image is the same throughout. The bound is the Cramer-Rao bound of unbiased voxel-wise estimators of
T, B being free: its median over the voxels of a tissue.

Example:
    python tools/experiments/images.py --brains subject45_crisp_v.mnc.gz
"""

from __future__ import annotations

import click
import numpy as np
from any_protocol import ANY
from figures import PAGE, write_rows
from kept import Rows
from methods import Method, fit_method, networks_for
from patches import Patches
from sweep import Panel, Setup, draw_panels, score_table
from sweep_command import Sweep, sweep_command
from text_tables import write_markdown

from relaxnet.fitting.crlb import crlb
from relaxsim.core.snr import SIGNAL as MEAN_A
from relaxsim.models.registry import model_of

#: First time, longest time where the number varies, number where the longest time varies, in ms.
FIRST = {"tis": 50.0, "tes": 10.0}
LONGEST = {"tis": 3000.0, "tes": 250.0}
NUMBER = {"tis": 10, "tes": 8}
NUMBERS = {"tis": (4, 6, 10, 20, 40), "tes": (3, 4, 8, 16, 32)}
LAST_TIMES = {
    "tis": (800.0, 1200.0, 2000.0, 3000.0, 5000.0),
    "tes": (60.0, 100.0, 160.0, 250.0, 500.0),
}
#: Tissues, and of how many voxels the bound is taken.
LABELS, MOST_VOXELS = {"GM": 2, "WM": 3}, 2000
BOUND = Method("bound", "bound (unbiased, voxel-wise)", "#000000", "mle")


def setups(times: str, snr: float, quick: bool) -> list[Setup]:
    """Set-ups: one for each number of images, then one for each longest time."""
    step = 2 if quick else 1
    varied = [("images", n, LONGEST[times]) for n in NUMBERS[times][::step]]
    varied += [("longest time", NUMBER[times], last) for last in LAST_TIMES[times][::step]]
    out = []
    for what, number, last in varied:
        tau = np.geomspace(FIRST[times], last, number).round(1)
        columns = {"times": times, "varied": what, "images": number, "last_ms": last}
        out.append(Setup(columns, tuple(tau), model_of(times), snr))
    return out


def bound_rows(setup: Setup, patches: Patches) -> Rows:
    """Bound of grey and white matter, as CV and RMSE, per cent: medians over their pure voxels."""
    rows: Rows = []
    for tissue, label in LABELS.items():
        kappa = patches.kappa[patches.pure & (patches.labels == label)].astype(float)
        kappa = kappa[:: max(1, len(kappa) // MOST_VOXELS)]
        std = crlb(kappa, patches.tau, MEAN_A / setup.snr, patches.model)[:, -1]
        value = float(np.median(100 * std / kappa[:, -1]))
        head = {**setup.columns, "snr": setup.snr, "method": BOUND.name, "tissue": tissue}
        rows.append({**head, "cv": value, "rmse": value})
    return rows


def panels(rows: Rows, metric: str = "rmse") -> list[Panel]:
    """RMSE along the number of images and along the longest time, for each kind of times."""
    out = []
    axes = {"images": ("images", "images"), "longest time": ("last_ms", "longest time (ms)")}
    for times in dict.fromkeys(row["times"] for row in rows):
        fixed = {
            "images": f"{FIRST[times]:g} to {LONGEST[times]:g} ms",
            "longest time": f"{NUMBER[times]} images from {FIRST[times]:g} ms",
        }
        parameter = model_of(times).main
        for varied, (x, label) in axes.items():
            chosen = [r for r in rows if (r["times"], r["varied"]) == (times, varied)]
            title = f"{parameter}: {fixed[varied]}"
            out.append(Panel(title, chosen, x, label, metric, x_log=True, y_log=True))
    return out


@sweep_command("images", __doc__, repeats=4)
@click.option("--snr", default=30.0, show_default=True)
def main(sweep: Sweep, snr: float) -> None:
    """Run the experiment, write its table and draw its figure."""
    rows: Rows = []
    for times, network in ANY.items():
        given = {name: path for name, path in sweep.files.items() if name == network}
        chosen = [*networks_for([network], given), fit_method("mle")]
        for setup in setups(times, snr, sweep.quick):
            rows += sweep.rows(setup, chosen)
            bounds = bound_rows(setup, setup.patches(sweep.places, sweep.seed))
            rows += [{**dict.fromkeys(rows[-1], ""), **row} for row in bounds]
    write_rows(sweep.path(".csv"), rows)
    keys = {"varied": "varied", "images": "images", "last_ms": "longest time (ms)"}
    parts = [
        (parameter, score_table([r for r in rows if r["times"] == times], keys))
        for times, parameter in (("tis", "T1"), ("tes", "T2"))
    ]
    write_markdown(sweep.path(".md"), "Number of images and longest time", parts)
    methods = sweep.methods | {BOUND.name: BOUND}
    draw_panels(panels(rows), methods, sweep.path(".png"), 2, PAGE)


if __name__ == "__main__":
    main()
