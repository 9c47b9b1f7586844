"""Experiment: how strongly the fit's B should be regularised (paper, section 4.4.1).

The paper tried lambda_B of 0, 1, 5, 10, 50, 100, 500 and 1000 on a scan and chose the one whose T1
map had the fewest outliers. Here the truth is known: an outlier is an estimate of T1 that is more
than 50 % off. Beside these weights are the one that the data choose, and one B for the whole
mask. The equation of the penalty is in `relaxnet.fitting.regularised`.

Example:
    python tools/experiments/lambda_sweep.py --brains subject45_crisp_v.mnc.gz
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
from kept import cache_option, out_option
from methods import fit_method
from pivot import pivot
from slices import brains_option, make_scene, quick_option, seed_option
from text_tables import write_markdown

from relaxnet.evaluation.metrics import Moments

#: The paper's weights, then the weight that the data choose and an infinite one.
WEIGHTS = {
    "mle": "0",
    "mle-1": "1",
    "mle-5": "5",
    "mle-10": "10",
    "mle-50": "50",
    "mle-100": "100",
    "mle-500": "500",
    "mle-1000": "1000",
    "mle-auto": "auto",
    "mle-shared": "shared",
}
QUICK = ("mle", "mle-500", "mle-shared")
METRICS = {
    "outliers": "outliers of T1 (%)",
    "bias": "relative bias of T1 (%)",
    "cv": "CV of T1 (%)",
    "rmse": "RMSE of T1 (%)",
}
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#E69F00")
WORDS = {"patch": "B constant", "smooth": "B smooth"}


def row_of(name: str, b_field: str, snr: float, moments: Moments) -> dict[str, Any]:
    """Share of outliers; medians over the mask of the other metrics of T1 and of B's RMSE."""
    row: dict[str, Any] = {"b_field": b_field, "snr": snr, "lambda_b": WEIGHTS[name]}
    row["outliers"] = float(100 * moments.outliers[:, -1].mean() / moments.count)
    for metric in ("bias", "cv", "rmse"):
        row[metric] = float(np.median(getattr(moments, metric)[:, -1]))
    row["pooled_rmse"] = float(np.sqrt(np.mean(moments.rmse[:, -1] ** 2)))
    return row | {"rmse_B": float(np.median(moments.rmse[:, 1])), "repeats": moments.count}


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Metrics across, kinds of B down; a line for each SNR."""
    fields = list(dict.fromkeys(row["b_field"] for row in rows))
    snrs = list(dict.fromkeys(row["snr"] for row in rows))
    weights = [w for w in WEIGHTS.values() if any(row["lambda_b"] == w for row in rows)]
    figure, axes = subplots(len(fields), len(METRICS), PAGE, 1.8 * len(fields) + 0.5, sharex=True)
    for line, b_field in zip(axes, fields, strict=True):
        for axis, (metric, label) in zip(line, METRICS.items(), strict=True):
            for snr, colour in zip(snrs, COLOURS, strict=False):
                found = {
                    row["lambda_b"]: row[metric]
                    for row in rows
                    if (row["b_field"], row["snr"]) == (b_field, snr)
                }
                values = [found[w] for w in weights]
                axis.plot(values, "o-", color=colour, markersize=3, linewidth=0.9)
            axis.set_xticks(range(len(weights)), weights, rotation=90)
            axis.set_ylabel(f"{label}\n{WORDS[b_field]}")
            if metric in ("cv", "rmse"):
                axis.set_yscale("log")
                axis.minorticks_off()
                axis.set_yticks([1, 3, 10, 30, 100])
            else:
                axis.set_yscale("symlog", linthresh=1.0)
                if metric == "outliers":
                    axis.set_ylim(bottom=-0.05)
            axis.yaxis.set_major_formatter("{x:g}")
    for axis in axes[-1]:
        axis.set_xlabel("lambda_B")
    handles = [axes[0, 0].lines[i] for i in range(min(len(snrs), len(COLOURS)))]
    labels = [f"SNR {snr:g}" for snr in snrs]
    figure.legend(handles, labels, loc="outside lower center", ncols=len(snrs), frameon=False)
    save_figure(figure, path)


def _cell(row: dict[str, Any]) -> str:
    shares = f"{row['outliers']:.2f} / {row['bias']:+.2f}"
    return f"{shares} / {row['cv']:.2f} / {row['rmse']:.2f}"


#: No option of methods: the weights are the methods.
OPTIONS = (brains_option, seed_option, quick_option, cache_option, out_option)


@experiment_command(__doc__, OPTIONS)
@click.option("--protocol", default="cine31", help="cine23, cine25 or cine31.")
@click.option("--snr", "snrs", multiple=True, type=float, help="Default: 5 10 30 100.")
@click.option("--repeats", default=4, type=click.IntRange(2), show_default=True, help="C.")
def main(
    run: Experiment,
    protocol: str,
    snrs: tuple[float, ...],
    repeats: int,
) -> None:
    """Run the sweep, write its table and draw its figure."""
    scene = make_scene(run.brains, protocol, run.seed, run.quick)
    if scene.model.shared is None:
        raise ValueError(f"{protocol} has no B; choose cine23, cine25 or cine31.")
    if len(snrs) > len(COLOURS):
        raise ValueError(f"{len(snrs)} SNRs are given; at most {len(COLOURS)} are drawn.")
    methods = [fit_method(name) for name in (QUICK if run.quick else WEIGHTS)]
    snrs = snrs or ((10.0,) if run.quick else (5.0, 10.0, 30.0, 100.0))
    repeats = 2 if run.quick else repeats
    rows = []
    for cell, _, moments in run_cells(
        scene, methods, snrs, ["patch", "smooth"], [0], repeats, run.cache
    ):
        rows.append(row_of(cell.method.name, cell.b_field, cell.snr, moments))
    write_rows(run.path("lambda_sweep", ".csv"), rows)
    draw(rows, run.path("lambda_sweep", ".png"))
    parts = [
        (
            f"{WORDS[field]}: outliers / bias / CV / RMSE of T1 (%)",
            pivot((r for r in rows if r["b_field"] == field), "lambda_b", "snr", _cell, "SNR {:g}"),
        )
        for field in ("patch", "smooth")
    ]
    write_markdown(run.path("lambda_sweep", ".md"), "Weight of B's regularisation", parts)


if __name__ == "__main__":
    main()
