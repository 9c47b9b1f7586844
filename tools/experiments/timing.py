"""Experiment: time of all methods for 256 x 256 voxels and 31 images (paper, sections 6.1 and 7).

Run it on a quiet machine. The series lies in memory, every voxel is mapped, and the noise is
given (to be checked, as ``relaxnet predict`` does, by a fit of some voxels).
The first call of a network, which compiles it, is timed separately. "scipy loop" is the simplest
fit: a bounded `scipy.optimize.least_squares` with the model's Jacobian for one voxel after
another, timed on some voxels. The paper's 700 samples are 700 such series; times of the samples
and of the loop are extrapolated.

Example:
    python tools/experiments/timing.py
"""

from __future__ import annotations

import importlib
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import numpy as np
from experiment_command import Experiment, experiment_command
from figures import COLUMN, save_figure, subplots, write_rows
from kept import Rows, out_option
from methods import Method, methods_for, methods_option, models_option
from slices import quick_option
from text_tables import table, write_markdown

from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY
from relaxsim.models.protocols import read_protocol

TOOLS = Path(__file__).parents[1]
SIDE, SAMPLES = 256, 700
#: Seconds for one series in the paper (Intel Core i5, 2.7 GHz), and hours for all samples.
PAPER = {"rim": (3.8, 0.75), "resnet": (27.0, None), "mle": (575.0, 110.0)}
LOOP = "scipy-loop"
#: Table; "samples" are the paper's 700.
COLUMNS = {
    "method": ("method", ""),
    "voxels": ("voxels timed", "d"),
    "first_s": ("first call (s)", ".2f"),
    "median_s": ("median (s)", ".2f"),
    "least_s": ("least (s)", ".2f"),
    "most_s": ("most (s)", ".2f"),
    "voxels_per_s": ("voxels/s", ".0f"),
    "series_s": ("one series (s)", ".2f"),
    "paper_s": ("paper (s)", "g"),
    "samples_h": (f"{SAMPLES} samples, extrapolated (h)", ".2f"),
    "paper_h": ("paper (h)", "g"),
}


def seconds(call: Callable[[], object], runs: int) -> list[float]:
    """Wall seconds of each of `runs` calls."""
    out = []
    for _ in range(runs):
        begin = time.perf_counter()
        call()
        out.append(time.perf_counter() - begin)
    return out


def timed(method: Method, S: np.ndarray, tau: np.ndarray, sigma: float, runs: int) -> dict:
    """First call, median and range of the further ones."""
    everywhere = np.ones(S.shape[:2], bool)

    def call() -> object:
        return method.estimate(S, tau, INVERSION_RECOVERY, sigma, everywhere)

    (first,) = seconds(call, 1)
    further = seconds(call, runs)
    return row_of(method.name, method.kind, S.shape[0] * S.shape[1], further, first)


def row_of(name: str, kind: str, voxels: int, further: Sequence[float], first: float) -> dict:
    """Row of the table: seconds of one series, hours of the samples, the paper's beside them."""
    median = float(np.median(further))
    paper, paper_hours = PAPER[kind]
    whole = SIDE * SIDE / voxels
    return {
        "method": name,
        "voxels": voxels,
        "first_s": first,
        "median_s": median,
        "least_s": float(min(further)),
        "most_s": float(max(further)),
        "voxels_per_s": voxels / median,
        "series_s": whole * median,
        "samples_h": whole * median * SAMPLES / 3600,
        "paper_s": paper,
        "paper_h": float("nan") if paper_hours is None else paper_hours,
    }


def benchmark(name: str) -> ModuleType:
    """One of the scripts in tools/, as a module."""
    if str(TOOLS) not in sys.path:
        sys.path.append(str(TOOLS))
    return importlib.import_module(name)


def machine() -> list[str]:
    """Machine and versions that the times are of, in lines."""
    import scipy

    versions = [f"Python {platform.python_version()}", f"numpy {np.__version__}"]
    versions.append(f"scipy {scipy.__version__}")
    if (tensorflow := sys.modules.get("tensorflow")) is not None:
        gpus = len(tensorflow.config.list_physical_devices("GPU"))
        versions += [f"TensorFlow {tensorflow.__version__}", f"{gpus} GPUs"]
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return [
        f"{benchmark('benchmark').processor()}, {os.cpu_count()} cores, {allowed} allowed, "
        f"{_memory()}",
        f"load {load:.1f}, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}",
        ", ".join(versions),
    ]


def _memory() -> str:
    info = Path("/proc/meminfo")
    if not info.is_file():
        return "memory unknown"
    return f"{int(info.read_text().split()[1]) / 1e6:.0f} GB"


def ratios(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines: how many times faster each network is than the fits."""
    by_name = {row["method"]: row["series_s"] for row in rows}
    lines = []
    for name, seconds_of_it in by_name.items():
        if name.startswith(("rim", "resnet")):
            parts = [
                f"{by_name[other] / seconds_of_it:.2g} times the speed of {other}"
                for other in ("mle", "mle-500", LOOP)
                if other in by_name
            ]
            lines.append(f"{name}: {', '.join(parts)} (paper: RIM 150 times its MLE)")
    return lines


def draw(rows: Sequence[Mapping[str, Any]], colours: Mapping[str, str], path: Path) -> None:
    """Figure: seconds of one series, the paper's as open marks."""
    figure, axes = subplots(1, 1, COLUMN, 0.22 * len(rows) + 1.0)
    axis = axes[0, 0]
    for place, row in enumerate(reversed(rows)):
        colour = colours.get(row["method"], "#000000")
        axis.barh(place, row["series_s"], 0.7, color=colour, edgecolor="black", linewidth=0.4)
        axis.plot(row["paper_s"], place, "D", markersize=3.5, color="white", markeredgecolor="k")
    axis.set_xscale("log")
    axis.set_xlim(left=min(0.3, *(row["series_s"] / 3 for row in rows)))
    axis.set_yticks(range(len(rows)), [row["method"] for row in reversed(rows)])
    axis.set_xlabel(f"s for {SIDE} x {SIDE} x 31 (diamonds: the paper's machine)")
    axis.grid(axis="y", visible=False)
    save_figure(figure, path)


@experiment_command(__doc__, (models_option, methods_option, quick_option, out_option))
@click.option("--runs", default=5, type=click.IntRange(1), show_default=True, help="Timed calls.")
@click.option("--loop", default=500, type=click.IntRange(1), help="Voxels of the scipy loop.")
def main(
    run: Experiment,
    runs: int,
    loop: int,
) -> None:
    """Time all methods; write the table, the machine and the figure."""
    fits = benchmark("benchmark_mle")
    side, runs, loop = (64, 1, 40) if run.quick else (SIDE, runs, loop)
    tau = read_protocol("cine31", "tis").tau
    S, sigma, _ = fits.phantom((side, side), INVERSION_RECOVERY, tau)
    wanted = [name for name in run.only if name != LOOP]
    methods: list[Method] = []
    if wanted or not run.only:
        methods = methods_for("cine31", INVERSION_RECOVERY, run.files, wanted)
    rows: Rows = []
    for method in methods:
        rows.append(timed(method, S, tau, sigma, runs))
        click.echo(f"{method.name}: {rows[-1]['median_s']:.2f} s (first {rows[-1]['first_s']:.1f})")
    if not run.only or LOOP in run.only:
        speed = fits.scipy_loop(S, tau, INVERSION_RECOVERY, loop)
        of_loop = row_of(LOOP, "mle", loop, [loop / speed], loop / speed)
        rows.append(of_loop)
        click.echo(f"{LOOP}: {speed:.0f} voxels/s, {of_loop['series_s']:.0f} s for a series")
    write_rows(run.path("timing", ".csv"), rows)
    lines = machine()
    lines += ratios(rows)
    parts = [("", [f"- {line}" for line in lines]), ("", table(rows, COLUMNS))]
    title = f"Time for {SIDE} x {SIDE} voxels and 31 images"
    write_markdown(run.path("timing", ".md"), title, parts)
    for line in lines:
        click.echo(line)
    draw(rows, {method.name: method.colour for method in methods}, run.path("timing", ".png"))


if __name__ == "__main__":
    main()
