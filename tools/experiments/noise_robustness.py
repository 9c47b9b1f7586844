"""Experiment: bias, CV and RMSE against SNR on one slice (paper, section 5.1.1, Figs. 2 and A1).

Boxes are over the voxels of the brain mask, whiskers go to minimum and maximum. The lines are
Cramer-Rao bounds of unbiased voxel-wise estimators, medians over the mask: an estimator below
them uses more than the data of the voxel alone. All methods get the true sigma and the same noise.

An interrupted run is continued by the same command; with more --repeats it adds to the draws kept.

Example:
    python tools/experiments/noise_robustness.py --protocol cine31 \
        --brains subject45_crisp_v.mnc.gz --brains subject46_crisp_v.mnc.gz
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from accuracy_text import B_WORDS
from bounds import relative_bounds
from cells import Cell, run_cells
from experiment_command import Experiment, experiment_command
from figures import (
    FIVE,
    PAGE,
    draw_box,
    five_numbers,
    legend_below,
    offsets,
    save_figure,
    subplots,
    write_rows,
)
from methods import Method, methods_for, shown
from pivot import pivot
from slices import make_scene
from text_tables import write_markdown

from relaxnet.evaluation.metrics import Moments
from relaxsim.core.snr import SIGNAL
from relaxsim.phantoms.phantoms import Phantom

METRICS = ("bias", "cv", "rmse")
#: Columns that identify a row.
KEYS = ("b_field", "snr", "method", "parameter", "metric")
LABELS = {"bias": "relative bias (%)", "cv": "CV (%)", "rmse": "RMSE (%)"}
BOUNDS = {"bound, B free": "black", "bound, B known": "#666666"}
BOUND_STYLES = {"bound, B free": "-", "bound, B known": "--"}
#: Metrics are drawn between these, per cent; boxes and whiskers are cut there.
WINDOWS = {"bias": (-100.0, 200.0), "cv": (0.1, 300.0), "rmse": (0.1, 300.0)}


def rows_of(cell: Cell, moments: Moments) -> list[dict[str, Any]]:
    """Rows of the table: distribution over the mask's voxels of each metric and parameter."""
    rows = []
    for q, parameter in enumerate(cell.scene.model.parameters):
        for metric in METRICS:
            values = getattr(moments, metric)[:, q]
            rows.append(_row(cell, cell.method.name, moments.count, parameter, metric, values))
    return rows


def bound_rows(cell: Cell, phantom: Phantom) -> list[dict[str, Any]]:
    """Rows of the bounds of unbiased voxel-wise estimators, in the columns of CV and RMSE."""
    rows = []
    for name, std in relative_bounds(
        phantom.kappa[phantom.mask], phantom.tau, cell.sigma, phantom.model
    ).items():
        for q, parameter in enumerate(phantom.model.parameters):
            if parameter != "B" or "known" not in name:
                rows.append(_row(cell, name, 0, parameter, "cv", 100 * std[:, q]))
    return rows


def _row(
    cell: Cell, name: str, repeats: int, parameter: str, metric: str, values: np.ndarray
) -> dict[str, Any]:
    return {
        "protocol": cell.scene.protocol.name,
        "b_field": cell.b_field,
        "snr": cell.snr,
        "method": name,
        "parameter": parameter,
        "metric": metric,
        **five_numbers(values),
        "voxels": len(values),
        "repeats": repeats,
    }


def text(rows: Sequence[dict[str, Any]], parameter: str) -> list[tuple[str, list[str]]]:
    """Tables of medians over the mask: bias / CV / RMSE of one parameter, methods by SNR."""
    parts = []
    for b_field in dict.fromkeys(row["b_field"] for row in rows):
        found: dict[tuple[str, float], dict[str, Any]] = {}
        for row in rows:
            if (row["b_field"], row["parameter"]) == (b_field, parameter):
                key = row["method"], row["snr"]
                found.setdefault(key, {"method": key[0], "snr": key[1]})
                found[key][row["metric"]] = row["median"]
        field = f", {B_WORDS[b_field]}" if parameter == "T1" else ""
        lines = pivot(found.values(), "method", "snr", _cell, "SNR {:g}")
        parts.append((f"{parameter}{field}: bias / CV / RMSE (%)", lines))
    return parts


def _cell(row: dict[str, Any]) -> str:
    if "bias" not in row:
        return f"{row['cv']:.1f}"
    return f"{row['bias']:+.1f} / {row['cv']:.1f} / {row['rmse']:.1f}"


def draw(
    rows: Sequence[dict[str, Any]], methods: Sequence[Method], parameters: Sequence[str], path: Path
) -> None:
    """Figure of one kind of B: metrics down, parameters across."""
    snrs = sorted({row["snr"] for row in rows})
    size = PAGE, 1.9 * len(METRICS) + 0.6
    figure, axes = subplots(len(METRICS), len(parameters), *size, sharex=True)
    places, width = offsets(len(methods))
    by_key = {(r["method"], r["snr"], r["parameter"], r["metric"]): r for r in rows}
    for m, metric in enumerate(METRICS):
        for q, parameter in enumerate(parameters):
            axis = axes[m, q]
            for place, method in zip(places, methods, strict=True):
                for i, snr in enumerate(snrs):
                    numbers = by_key.get((method.name, snr, parameter, metric))
                    if numbers and np.isfinite(numbers["median"]):
                        box = _within(numbers, WINDOWS[metric])
                        draw_box(axis, i + place, box, method.colour, width)
            lines = [] if metric == "bias" else _draw_bounds(axis, by_key, snrs, parameter)
            _finish(axis, metric, parameter if m == 0 else "", q == 0)
            axis.set_xticks(range(len(snrs)), [f"{snr:g}" for snr in snrs])
            if m == len(METRICS) - 1:
                axis.set_xlabel("SNR")
    legend_below(figure, [(method.title, method.colour) for method in methods], lines)
    save_figure(figure, path)


def _within(numbers: dict[str, Any], window: tuple[float, float]) -> dict[str, float]:
    return {name: float(np.clip(numbers[name], *window)) for name in FIVE}


def _draw_bounds(axis: Any, by_key: dict, snrs: Sequence[float], parameter: str) -> list[Any]:
    lines = []
    for name in ("bound", *BOUNDS):
        values = [by_key.get((name, snr, parameter, "cv"), {}).get("median") for snr in snrs]
        if None in values or not np.isfinite(values).all():
            continue
        label = f"{name} (unbiased, voxel-wise)"
        style = {"color": BOUNDS.get(name, "black"), "linestyles": BOUND_STYLES.get(name, "-")}
        places = np.arange(len(snrs))
        lines.append(
            axis.hlines(
                values, places - 0.46, places + 0.46, label=label, linewidth=1.1, zorder=3, **style
            )
        )
    return lines


def _finish(axis: Any, metric: str, title: str, first: bool) -> None:
    if metric == "bias":
        axis.set_yscale("symlog", linthresh=5.0)
        axis.set_yticks(
            [-100, -20, -5, 0, 5, 20, 100], ["-100", "-20", "-5", "0", "5", "20", "100"]
        )
        axis.axhline(0.0, color="black", linewidth=0.5)
    else:
        axis.set_yscale("log")
        axis.set_yticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
    axis.set_ylim(*WINDOWS[metric])
    axis.minorticks_off()
    axis.grid(axis="x", visible=False)
    if first:
        axis.set_ylabel(LABELS[metric])
    if title:
        axis.set_title(title)


@experiment_command(__doc__)
@click.option("--protocol", default="cine31", help="cine23, cine25, cine31 or fse6.")
@click.option("--snr", "snrs", multiple=True, type=float, help="Default: 3 5 10 30 60 100.")
@click.option("--b-field", "b_fields", multiple=True, type=click.Choice(["patch", "smooth"]))
@click.option("--repeats", default=100, type=click.IntRange(2), help="Draws of noise, C.")
def main(
    run: Experiment,
    protocol: str,
    snrs: tuple[float, ...],
    b_fields: tuple[str, ...],
    repeats: int,
) -> None:
    """Run the experiment, write its table and draw its figures."""
    scene = make_scene(run.brains, protocol, run.seed, run.quick)
    methods = methods_for(protocol, scene.model, run.files, run.only)
    if run.quick:
        repeats = min(repeats, 3)
    snrs = snrs or ((5.0, 30.0) if run.quick else (3.0, 5.0, 10.0, 30.0, 60.0, 100.0))
    stem = f"noise_{protocol}"
    fields = scene.b_fields(b_fields or ("patch", "smooth"))
    rows: list[dict[str, Any]] = []
    for cell, phantom, moments in run_cells(scene, methods, snrs, fields, [0], repeats, run.cache):
        rows += rows_of(cell, moments)
        if cell.method is methods[-1]:
            rows += bound_rows(cell, phantom)
    if run.keep_others:
        rows = run.with_kept(stem, rows, KEYS)
        methods = shown(methods_for(protocol, scene.model, run.files), rows)
    write_rows(run.path(stem, ".csv"), rows)
    for b_field in dict.fromkeys(row["b_field"] for row in rows):
        some = [row for row in rows if row["b_field"] == b_field]
        ending = f"_{b_field}.png" if scene.model.shared else ".png"
        draw(some, methods, scene.model.parameters, run.path(stem, ending))
    title = f"Noise robustness, {protocol}: medians over the brain mask"
    write_markdown(run.path(stem, ".md"), title, text(rows, scene.model.main))
    click.echo(f"sigma = {SIGNAL:g} / SNR, {len(scene.brains)} brain(s), seed {run.seed}")


if __name__ == "__main__":
    main()
