"""Experiment: networks on times that they were not trained for (paper, section 5.4, Fig. 9).

The networks for 23, 25 and 31 inversion times and the network for any times map a slice measured
with each of the three lists. Beside them are the ResNet of each list, which takes no other list,
and the fits. CV and RMSE are medians over the brain mask. The paper measured repeated scans; here
they are simulated from one truth, so that there is an RMSE.

Example:
    python tools/experiments/generalisability.py --brains subject45_crisp_v.mnc.gz
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from cells import run_cells
from experiment_command import Experiment, experiment_command
from figures import PAGE, save_figure, subplots, write_rows
from methods import (
    FITS,
    Method,
    fit_method,
    networks_for,
)
from pivot import pivot
from slices import Scene, make_scene
from text_tables import write_markdown

from relaxnet.evaluation.metrics import Moments

PROTOCOLS = ("cine23", "cine25", "cine31")
STEM = "generalisability"
#: Columns that identify a row.
KEYS = ("protocol", "b_field", "snr", "method")
RIMS = ("rim-cine23", "rim-cine25", "rim-cine31", "rim-t1")
MARKERS = {"rim-cine23": "v", "rim-cine25": "s", "rim-cine31": "o", "rim-t1": "D"}
METRICS = {"bias": "relative bias of T1 (%)", "cv": "CV of T1 (%)", "rmse": "RMSE of T1 (%)"}


def methods_on(protocol: str, networks: Sequence[Method], fits: Sequence[Method]) -> list[Method]:
    """Networks and fits for a protocol: a ResNet takes the list of its name only."""
    return [
        method
        for method in [*networks, *fits]
        if method.kind != "resnet" or method.name.endswith(protocol)
    ]


def row_of(scene: Scene, method: Method, snr: float, b_field: str, m: Moments) -> dict[str, Any]:
    """Medians and quartiles over the mask of the metrics of T1."""
    row: dict[str, Any] = {
        "protocol": scene.protocol.name,
        "b_field": b_field,
        "snr": snr,
        "method": method.name,
    }
    for metric in METRICS:
        lower, median, upper = np.percentile(getattr(m, metric)[:, -1], [25, 50, 75])
        row |= {metric: float(median), f"{metric}_lower": float(lower)}
        row[f"{metric}_upper"] = float(upper)
    return row | {"outliers": float(100 * m.outliers[:, -1].mean() / m.count), "repeats": m.count}


def draw(rows: Sequence[dict[str, Any]], methods: Sequence[Method], path: Path) -> None:
    """Metrics across, SNR down; protocols beside each other, a mark for each method."""
    snrs = list(dict.fromkeys(row["snr"] for row in rows))
    figure, axes = subplots(
        len(snrs), len(METRICS), PAGE, 2.0 * len(snrs) + 0.7, sharex=True, sharey="col"
    )
    by_key = {(row["snr"], row["protocol"], row["method"]): row for row in rows}
    drawn: dict[str, Any] = {}
    for axis, snr in zip(axes, snrs, strict=True):
        for panel, metric in zip(axis, METRICS, strict=True):
            for i, protocol in enumerate(PROTOCOLS):
                _marks(panel, i, protocol, snr, metric, methods, by_key, drawn)
            panel.set_xticks(range(len(PROTOCOLS)), PROTOCOLS)
            panel.set_xlim(-0.5, len(PROTOCOLS) - 0.5)
            panel.set_ylabel(f"{METRICS[metric]}, SNR {snr:g}")
            if metric == "bias":
                panel.set_yscale("symlog", linthresh=5.0)
                panel.axhline(0.0, color="black", linewidth=0.5)
            else:
                panel.set_yscale("log")
                panel.minorticks_off()
                panel.set_yticks([0.3, 1, 3, 10, 30, 100])
            panel.yaxis.set_major_formatter("{x:g}")
            panel.grid(axis="x", visible=False)
    figure.legend(handles=list(drawn.values()), loc="outside lower center", ncols=4, frameon=False)
    save_figure(figure, path)


def _marks(
    axis: Any,
    i: int,
    protocol: str,
    snr: float,
    metric: str,
    methods: Sequence[Method],
    by_key: dict,
    drawn: dict[str, Any],
) -> None:
    """Median and quartiles of each method on one protocol; a ring marks the RIM of the protocol."""
    places = np.linspace(-0.36, 0.36, len(methods))
    for place, method in zip(i + places, methods, strict=True):
        row = by_key.get((snr, protocol, method.name))
        if row is None:
            continue
        axis.vlines(place, row[f"{metric}_lower"], row[f"{metric}_upper"], color=method.colour)
        style = {"linestyle": "", "marker": MARKERS.get(method.name, "o"), "markersize": 4.5}
        of_protocol = method.name.endswith(protocol)
        style |= {"markeredgecolor": "black", "markeredgewidth": 1.2 if of_protocol else 0.3}
        name = "ResNet of the list" if method.kind == "resnet" else _title(method)
        marks = axis.plot(place, row[metric], color=method.colour, label=name, **style)
        drawn.setdefault(name, marks[0])


def _title(method: Method) -> str:
    return method.name if method.kind == "rim" else method.title


def _cell(row: dict[str, Any]) -> str:
    return f"{row['bias']:+.2f} / {row['cv']:.2f} / {row['rmse']:.2f}"


@experiment_command(__doc__)
@click.option("--snr", "snrs", multiple=True, type=float, help="Default: 10 and 30.")
@click.option("--b-field", default="smooth", type=click.Choice(["patch", "smooth"]))
@click.option("--repeats", default=20, type=click.IntRange(2), show_default=True, help="C.")
def main(
    run: Experiment,
    snrs: tuple[float, ...],
    b_field: str,
    repeats: int,
) -> None:
    """Run the experiment, write its table and draw its figure."""
    snrs = snrs or ((10.0,) if run.quick else (10.0, 30.0))
    repeats = min(repeats, 2) if run.quick else repeats
    networks = networks_for([*RIMS, *(f"resnet-{protocol}" for protocol in PROTOCOLS)], run.files)
    fits = [fit_method(name) for name in ([*FITS][:2] if run.quick else FITS)]
    if unknown := set(run.only) - {method.name for method in (*networks, *fits)}:
        raise ValueError(f"no such method: {', '.join(sorted(unknown))}.")
    rows = []
    for protocol in PROTOCOLS:
        scene = make_scene(run.brains, protocol, run.seed, run.quick)
        of_list = methods_on(protocol, networks, fits)
        methods = [m for m in of_list if not run.only or m.name in run.only]
        for cell, _, m in run_cells(scene, methods, snrs, [b_field], [0], repeats, run.cache):
            rows.append(row_of(scene, cell.method, cell.snr, b_field, m))
    rows = run.with_kept(STEM, rows, KEYS)
    write_rows(run.path(STEM, ".csv"), rows)
    rows = [row for row in rows if row["b_field"] == b_field]
    draw(rows, [*networks, *fits], run.path(STEM, ".png"))
    parts = [
        (
            f"SNR {snr:g}: bias / CV / RMSE of T1 (%)",
            pivot((r for r in rows if r["snr"] == snr), "method", "protocol", _cell, "{}"),
        )
        for snr in dict.fromkeys(row["snr"] for row in rows)
    ]
    write_markdown(run.path(STEM, ".md"), "Generalisability: medians over the brain mask", parts)


if __name__ == "__main__":
    main()
