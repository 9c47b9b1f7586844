"""Experiment: bias and CV in the spheres of a system phantom (paper, section 5.2, Fig. 4).

Simulated NIST/ISMRM plates of 1.5 mm voxels, with C repeats. Bias and CV of a sphere are medians
over its voxels. Spheres whose T lies between the first and the last time are drawn in full colour;
the averages are over these spheres, those of the bias over its absolute values.

With --data the real plates are mapped, too: the median of each method over a sphere's voxels beside
the fit of its mean signal. A single scan has no CV.

Example:
    python tools/experiments/phantom.py --data ../shared/data
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from experiment_command import SHARED, Experiment, experiment_command
from figures import COLUMN, legend_below, save_figure, subplots, write_rows
from kept import Rows, kept_rows
from methods import (
    NETWORKS_ANY,
    Method,
    fit_method,
    methods_for,
    networks_for,
)
from plates import SPHERE_COLUMNS, SUMMARY, compare_plates, draw_plates, summary_rows
from real_data import Plate, load_plates
from text_tables import table, write_markdown

from relaxnet.evaluation.metrics import coefficient_of_variation, relative_bias, relative_rmse
from relaxsim.core.snr import SIGNAL as MEAN_A
from relaxsim.models.protocols import Protocol, read_protocol
from relaxsim.models.registry import model_of
from relaxsim.phantoms.phantoms import Phantom, noisy_series, plate_phantom

TIMES = Path(__file__).parents[1] / "times"
#: Times of the simulated plates; the paper's are cine23 and fse6.
PROTOCOLS = (
    ("cine23", "tis"),
    ("cine31", "tis"),
    (TIMES / "nist3t.txt", "tis"),
    ("fse6", "tes"),
    (TIMES / "mese32.txt", "tes"),
)
#: Table of `averages`.
AVERAGES = {
    "protocol": ("protocol", ""),
    "snr": ("SNR", "g"),
    "method": ("method", ""),
    "absolute_bias": ("mean of absolute bias (%)", ".2f"),
    "cv": ("mean CV (%)", ".2f"),
    "rmse": ("mean RMSE (%)", ".2f"),
    "spheres": ("spheres", "d"),
}
#: mm and voxels: the paper's voxel, and a field of view that holds the plate.
VOXEL_SIZE, MATRIX = 1.5, 140


def plate(protocol: Protocol, seed: int, quick: bool) -> Phantom:
    """Noise-free plate of the parameter that the times are for."""
    model = protocol.model
    voxel_size, matrix = (3.0, 70) if quick else (VOXEL_SIZE, MATRIX)
    rng = np.random.default_rng(seed)
    array = model.main
    return plate_phantom(array, protocol.tau, model, rng, voxel_size, matrix, "smooth")


def sphere_rows(estimates: np.ndarray, phantom: Phantom) -> Rows:
    """Bias, CV and RMSE of each sphere, medians over its pure voxels.

    Parameters
    ----------
    estimates : array, shape (C, X, Y)
        T in ms.
    phantom : Phantom
    """
    rows = []
    labels, truth = phantom.labels[:, :, 0], phantom.kappa[:, :, 0, -1]
    pure = phantom.regions["pure"][:, :, 0]
    for sphere in range(1, 15):
        inside = pure & (labels == sphere)
        T = float(np.median(truth[inside]))
        e, t = estimates[:, inside], truth[inside]
        rows.append(
            {
                "sphere": sphere,
                "T_ms": T,
                "in_range": bool(phantom.tau.min() <= T <= phantom.tau.max()),
                "bias": float(np.median(relative_bias(e, t))),
                "cv": float(np.median(coefficient_of_variation(e))),
                "rmse": float(np.median(relative_rmse(e, t))),
                "voxels": int(inside.sum()),
            }
        )
    return rows


def simulated(
    protocol: Protocol,
    method: Method,
    snr: float,
    repeats: int,
    seed: int,
    quick: bool,
    cache: Path,
) -> Rows:
    """Rows of a method on a simulated plate; kept."""

    def make() -> Rows:
        phantom, sigma = plate(protocol, seed, quick), MEAN_A / snr
        estimates = []
        for repeat in range(repeats):
            rng = np.random.default_rng([seed, round(100 * snr), repeat])
            S = noisy_series(phantom, sigma, rng)[:, :, 0]
            mask = phantom.mask[:, :, 0]
            estimates.append(method.estimate(S, phantom.tau, phantom.model, sigma, mask)[..., -1])
        head = {"protocol": protocol.name, "snr": snr, "method": method.name}
        return [{**head, **row} for row in sphere_rows(np.stack(estimates), phantom)]

    settings = {
        "tau": protocol.tau.tolist(),
        "method": method.identity,
        "snr": snr,
        "repeats": repeats,
        "seed": seed,
        "quick": quick,
    }
    name = f"plate {protocol.name} SNR {snr:g} {method.name}"
    return kept_rows(cache / "phantom", name, settings, make)


def averages(rows: Sequence[Mapping[str, Any]]) -> Rows:
    """Means over the spheres in range: absolute bias, CV, RMSE."""
    out = []
    keys = ("protocol", "snr", "method")
    for key in dict.fromkeys(tuple(row[k] for k in keys) for row in rows):
        chosen = [r for r in rows if tuple(r[k] for k in keys) == key and r["in_range"]]
        means = {
            "absolute_bias": float(np.mean([abs(r["bias"]) for r in chosen])),
            "cv": float(np.mean([r["cv"] for r in chosen])),
            "rmse": float(np.mean([r["rmse"] for r in chosen])),
        }
        out.append({**dict(zip(keys, key, strict=True)), **means, "spheres": len(chosen)})
    return out


def draw(rows: Sequence[Mapping[str, Any]], methods: Mapping[str, Method], path: Path) -> None:
    """Figure of one protocol and SNR: bias above, CV below, along T."""
    figure, axes = subplots(2, 1, COLUMN, 3.9, sharex=True)
    for axis, metric in zip(axes[:, 0], ("bias", "cv"), strict=True):
        for name, method in methods.items():
            chosen = sorted((r for r in rows if r["method"] == name), key=lambda r: r["T_ms"])
            x = np.array([r["T_ms"] for r in chosen])
            y = np.clip([r[metric] for r in chosen], *WINDOWS[metric])
            inside = np.array([r["in_range"] for r in chosen], bool)
            style = {"color": method.colour, "marker": "o", "markersize": 2.5, "linewidth": 1}
            axis.plot(x, y, alpha=0.25, **style)
            axis.plot(x[inside], y[inside], **style)
    _scales(axes[0, 0], axes[1, 0], _parameter(rows))
    legend_below(figure, [(m.title, m.colour) for m in methods.values()])
    save_figure(figure, path)


#: Figures show values within these, per cent; others are drawn at the edge.
WINDOWS = {"bias": (-100.0, 200.0), "cv": (0.1, 200.0)}


def _parameter(rows: Sequence[Mapping[str, Any]]) -> str:
    """T1 or T2, whichever the rows' protocol measures."""
    return "T2" if rows[0]["protocol"] in ("fse6", "mese32") else "T1"


def _scales(bias: Any, cv: Any, parameter: str) -> None:
    bias.set_xscale("log")
    ticks = [10, 30, 100, 300, 1000, 3000]
    bias.set_xticks(ticks, [f"{t}" for t in ticks])
    bias.axhline(0.0, color="black", linewidth=0.5)
    bias.set_yscale("symlog", linthresh=5.0)
    bias.set_yticks([-100, -20, -5, 0, 5, 20, 100], ["-100", "-20", "-5", "0", "5", "20", "100"])
    bias.set_ylabel("relative bias (%)")
    cv.set_yscale("log")
    cv.set_yticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
    cv.set_ylabel("CV (%)")
    cv.set_xlabel(f"true {parameter} (ms)")
    for axis in (bias, cv):
        axis.minorticks_off()


def run_simulated(run: Experiment, snrs: Sequence[float], repeats: int) -> None:
    """Tables and figures of the simulated plates."""
    rows: Rows = []
    for name, times in PROTOCOLS[::3] if run.quick else PROTOCOLS:
        protocol = read_protocol(name, times)
        chosen = methods_for(protocol.name, model_of(times), run.files, run.only)
        methods = {method.name: method for method in chosen}
        for snr in snrs:
            new = []
            for method in chosen:
                new += simulated(protocol, method, snr, repeats, run.seed, run.quick, run.cache)
            draw(new, methods, run.path(f"phantom_{protocol.name}_snr{snr:g}", ".png"))
            rows += new
    write_rows(run.path("phantom", ".csv"), rows)
    means = averages(rows)
    write_rows(run.path("phantom_averages", ".csv"), means)
    write_markdown(run.path("phantom", ".md"), "Simulated plates", [("", table(means, AVERAGES))])
    for row in means:
        click.echo(
            f"{row['protocol']} SNR {row['snr']:g} {row['method']}: mean |bias| "
            f"{row['absolute_bias']:.2f} %, mean CV {row['cv']:.2f} % ({row['spheres']} spheres)"
        )


def run_real(run: Experiment, data: Path) -> None:
    """Table and figure of the real plates."""
    rows: Rows = []
    methods: dict[str, Method] = {}
    plates = load_plates(data)
    for real in plates[::2] if run.quick else plates:
        chosen = _plate_methods(real, run.files, run.only)
        methods |= {method.name: method for method in chosen}
        for skip in (0,) if real.name[1] == "1" else (0, 1):
            rows += compare_plates(real, skip, chosen, run.cache)
    write_rows(run.path("plates", ".csv"), rows)
    parts = [("", table(summary_rows(rows), SUMMARY))]
    for plate in dict.fromkeys(row["plate"] for row in rows):
        parts.append((plate, table([r for r in rows if r["plate"] == plate], SPHERE_COLUMNS)))
    write_markdown(run.path("plates", ".md"), "Real plates", parts)
    draw_plates(rows, methods, run.path("plates", ".png"))


def _plate_methods(plate: Plate, files: dict[str, Path], only: Sequence[str]) -> list[Method]:
    """Networks for any times, those that `--models` gives for the plate, and the voxel-wise fit.

    Fits with a smooth B are left out: TR is 1000 ms there, so that B differs from sphere to sphere.
    """
    protocol = "nist3t" if plate.name.startswith("T1") else "mese32"
    names = (*NETWORKS_ANY[plate.model.name], f"rim-{protocol}")
    given = {name: path for name, path in files.items() if name in names}
    found = [*networks_for(NETWORKS_ANY[plate.model.name], given), fit_method("mle")]
    return [method for method in found if not only or method.name in only]


@experiment_command(__doc__, SHARED)
@click.option("--data", type=click.Path(path_type=Path, exists=True), help="Folder of real data.")
@click.option("--simulated/--no-simulated", "simulate", default=True)
@click.option("--snr", "snrs", multiple=True, type=float, help="Default: 10 30 100.")
@click.option("--repeats", default=4, type=click.IntRange(2), show_default=True, help="Scans, C.")
def main(
    run: Experiment,
    data: Path | None,
    simulate: bool,
    snrs: tuple[float, ...],
    repeats: int,
) -> None:
    """Run the experiment, write its tables and draw its figures."""
    if simulate:
        snrs = snrs or ((30.0,) if run.quick else (10.0, 30.0, 100.0))
        run_simulated(run, snrs, 2 if run.quick else repeats)
    if data is not None:
        run_real(run, data)


if __name__ == "__main__":
    main()
