"""Experiment: T2 between 500 and 2500 ms, where the paper's networks collapsed to one value.

Every tissue of a patch draws its T2 log-uniformly from that range. Bias is the median over voxels
of the relative error, the slope that of a straight line through (truth, estimate) of all voxels.
The bound is the Cramer-Rao bound of unbiased voxel-wise estimators, at A = 0.75 and one T2.

Example:
    python tools/experiments/long_t2.py --brains subject45_crisp_v.mnc.gz
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from any_protocol import methods_of, protocols_of
from figures import COLUMN, legend_below, save_figure, subplots, write_rows
from kept import Rows
from methods import Method
from patches import Patches
from sweep import Setup
from sweep_command import Sweep, sweep_command
from text_tables import table, write_markdown

from relaxnet.fitting.crlb import crlb
from relaxsim.core.snr import SIGNAL as MEAN_A
from relaxsim.models.t2_decay import MODEL as T2_DECAY
from relaxsim.simulation.tissue_maps import TissueValues

RANGE = (500.0, 2500.0)
#: Columns of the table, in order.
COLUMNS = "protocol last_ms snr method bin_ms bias slope rmse bound voxels lower median upper"
TABLE = {
    "protocol": ("protocol", ""),
    "snr": ("SNR", "g"),
    "method": ("method", ""),
    "bias": ("median bias (%)", "+.1f"),
    "slope": ("slope", ".2f"),
    "rmse": ("RMSE (%)", ".1f"),
    "bound": ("bound at 1000 ms (%)", ".1f"),
}
#: Edges of the bins of true T2 in figures, ms.
EDGES = np.geomspace(*RANGE, 7)


def log_uniform(values: TissueValues, rng: np.random.Generator) -> TissueValues:
    """Tissue values with T2 drawn from `RANGE`."""
    by_label = values.by_label.copy()
    by_label[..., -1] = np.exp(rng.uniform(*np.log(RANGE), by_label.shape[:-1]))
    return replace(values, by_label=by_label)


def line_rows(T: np.ndarray, patches: Patches) -> Rows:
    """Bias and slope over all pure voxels, then quartiles of the estimates in bins of truth.

    ``bin_ms`` is the median truth of a bin, 0 of all voxels.
    """
    truth = patches.kappa[..., -1][patches.pure].astype(np.float64)
    inside = (truth > RANGE[0]) & (truth < RANGE[1])
    truth, T = truth[inside], T[:, patches.pure][:, inside].astype(np.float64)
    error = 100 * (T / truth - 1)
    slope = np.polyfit(np.tile(truth, len(T)), T.ravel(), 1)[0]
    whole = {"bin_ms": 0.0, "bias": float(np.median(error)), "slope": float(slope)}
    rows = [{**whole, "rmse": float(np.sqrt(np.mean(error**2))), "voxels": len(truth)}]
    for low, high in itertools.pairwise(EDGES):
        part = (truth >= low) & (truth < high)
        if part.any():
            middle = float(np.median(truth[part]))
            rows.append({**_bin(T[:, part], error[:, part]), "bin_ms": middle})
    return rows


def _bin(T: np.ndarray, error: np.ndarray) -> dict[str, Any]:
    lower, median, upper = np.percentile(T, [25, 50, 75])
    return {
        "bias": float(np.median(error)),
        "rmse": float(np.sqrt(np.mean(error**2))),
        "voxels": T.shape[1],
        "lower": float(lower),
        "median": float(median),
        "upper": float(upper),
    }


def bound(setup: Setup, T2: float) -> float:
    """Relative Cramer-Rao bound of T2 at A = 0.75, per cent."""
    tau = np.array(setup.tau)
    std = crlb(np.array([MEAN_A, T2]), tau, MEAN_A / setup.snr, T2_DECAY)
    return float(100 * std[-1] / T2)


def draw(rows: Sequence[Mapping[str, Any]], methods: Mapping[str, Method], path: Path) -> None:
    """Figure: estimate against truth, a panel for each protocol, at the highest SNR."""
    snr = max(row["snr"] for row in rows)
    protocols = list(dict.fromkeys(row["protocol"] for row in rows))
    figure, axes = subplots(len(protocols), 1, COLUMN, 2.1 * len(protocols) + 0.5, sharex=True)
    for axis, protocol in zip(axes[:, 0], protocols, strict=True):
        axis.plot(RANGE, RANGE, color="black", linewidth=0.6)
        for name, method in methods.items():
            chosen = [
                r
                for r in rows
                if (r["protocol"], r["method"], r["snr"]) == (protocol, name, snr) and r["bin_ms"]
            ]
            x, lower, median, upper = (
                [r[key] for r in chosen] for key in ("bin_ms", "lower", "median", "upper")
            )
            axis.fill_between(x, lower, upper, color=method.colour, alpha=0.25, linewidth=0)
            axis.plot(x, median, "o-", color=method.colour, markersize=2.5, linewidth=1)
        axis.set_xscale("log")
        axis.set_yscale("log")
        ticks = [500, 1000, 2000]
        axis.set_xticks(ticks, [f"{t}" for t in ticks])
        axis.set_yticks([250, *ticks, 4000], ["250", *(f"{t}" for t in ticks), "4000"])
        axis.minorticks_off()
        axis.set_ylim(200, 5000)
        axis.set_ylabel("estimated T2 (ms)")
        axis.set_title(f"{protocol}, SNR {snr:g}: median and quartiles")
    axes[-1, 0].set_xlabel("true T2 (ms)")
    legend_below(figure, [(m.title, m.colour) for m in methods.values()])
    save_figure(figure, path)


@sweep_command("long_t2", __doc__)
@click.option("--snr", "snrs", multiple=True, type=float, help="Default: 30 100.")
def main(sweep: Sweep, snrs: tuple[float, ...]) -> None:
    """Run the experiment, write its table and draw its figure."""
    rows: Rows = []
    for protocol in protocols_of("tes", random=0):
        chosen = methods_of(protocol, sweep.files)
        for snr in snrs or ((100.0,) if sweep.quick else (30.0, 100.0)):
            columns = {"protocol": protocol.name, "last_ms": float(protocol.tau.max())}
            setup = Setup(columns, tuple(protocol.tau), T2_DECAY, snr, change=log_uniform)
            for method in chosen:
                new = sweep.rows(setup, [method], line_rows)
                rows += [
                    {
                        **dict.fromkeys(COLUMNS.split(), ""),
                        **r,
                        "bound": bound(setup, r["bin_ms"] or 1000.0),
                    }
                    for r in new
                ]
                first = new[0]
                click.echo(
                    f"{protocol.name} SNR {snr:g} {method.name}: bias {first['bias']:+.1f} %, "
                    f"slope {first['slope']:.2f}"
                )
    write_rows(sweep.path(".csv"), rows)
    whole = [row for row in rows if not row["bin_ms"]]
    write_markdown(sweep.path(".md"), "T2 from 500 to 2500 ms", [("", table(whole, TABLE))])
    draw(rows, sweep.methods, sweep.path(".png"))


if __name__ == "__main__":
    main()
