"""Experiment: how far small structures are blurred away (paper, section 5.1.2, Fig. 3).

E1 is a slice at the mean tissue values, E2 the same slice with four small structures
(`relaxsim.phantoms.structures`); the two have different draws of noise. The bias of a repetition is
the mean relative error over the voxels of a region: the structure itself or its neighbourhood. E1
and E2 are compared by independent t-tests over the repetitions (Welch): for the bias the test is on
that mean, for the spread on its absolute deviation from the mean over repetitions (Levene). The CV
is that of a voxel, median over the region.

An interrupted run is continued by the same command; with more --repeats it adds to the draws kept.

Example:
    python tools/experiments/blurriness.py --brains subject45_crisp_v.mnc.gz
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from blurriness_figure import draw
from cells import SAVE_EVERY, Cell
from experiment_command import Experiment, experiment_command
from figures import five_numbers, write_rows
from methods import methods_for, shown
from pivot import pivot
from scipy import stats
from slices import make_scene
from text_tables import write_markdown

from relaxsim.core.files import write_whole
from relaxsim.phantoms.phantoms import Phantom
from relaxsim.phantoms.structures import STRUCTURES, with_structures

#: Scenarios and their first draws of noise, so that they are independent.
FIRST_NOISE = {"E1": 0, "E2": 1_000_000}
REGIONS = ("structure", "neighborhood")
#: Columns that identify a row.
KEYS = ("snr", "method", "structure", "region", "scenario")


def relative_errors(
    cell: Cell, phantom: Phantom, places: np.ndarray, repeats: int, first: int, path: Path
) -> np.ndarray:
    """Relative errors of T in the voxels `places`, shape (C, V); a file keeps them and grows.

    Parameters
    ----------
    cell : Cell
    phantom : Phantom
        E1 or E2.
    places : bool array, shape (X, Y)
    repeats : int
        C, at least.
    first : int
        Number of the first draw of noise.
    path : Path
        File that keeps them.
    """
    inside = phantom.mask[:, :, 0]
    truth = phantom.kappa[:, :, 0, -1][places].astype(np.float64)
    errors = _kept(path, len(truth))
    had, saved = len(errors), time.monotonic()
    try:
        while len(errors) < repeats:
            estimate = cell.estimate(phantom, first + len(errors))[:, -1]
            errors.append(estimate[places[inside]] / truth - 1)
            if time.monotonic() - saved > SAVE_EVERY:
                _keep(path, errors)
                saved = time.monotonic()
    finally:
        if len(errors) > had:
            _keep(path, errors)
    return np.array(errors)


def _kept(path: Path, num: int) -> list[np.ndarray]:
    try:
        errors = np.load(path)
    except (OSError, ValueError, EOFError):
        return []
    return list(errors) if errors.ndim == 2 and errors.shape[1] == num else []


def _keep(path: Path, errors: Sequence[np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_whole(path) as temporary:
        np.save(temporary, np.array(errors))


def rows_of(
    cell: Cell, phantom: Phantom, places: np.ndarray, errors: dict[str, np.ndarray]
) -> list[dict[str, Any]]:
    """Rows of one method, one for each structure, region and scenario."""
    rows = []
    for number, structure in enumerate(STRUCTURES, start=1):
        for region in REGIONS:
            here = phantom.regions[f"{region}-{number}"][:, :, 0][places]
            some = {scenario: e[:, here] for scenario, e in errors.items()}
            p_bias, p_cv = _tests(some["E1"], some["E2"])
            for scenario, e in some.items():
                mean = e.mean(axis=1)
                rows.append(
                    {
                        "protocol": cell.scene.protocol.name,
                        "snr": cell.snr,
                        "method": cell.method.name,
                        "structure": structure.name,
                        "region": region,
                        "scenario": scenario,
                        "bias": float(100 * mean.mean()),
                        "bias_error": float(100 * mean.std(ddof=1) / np.sqrt(len(mean))),
                        **five_numbers(100 * mean),
                        **_cv(e),
                        "rmse": float(100 * np.sqrt(np.mean(e**2))),
                        "p_bias": p_bias,
                        "p_cv": p_cv,
                        "voxels": e.shape[1],
                        "repeats": e.shape[0],
                    }
                )
    return rows


def _cv(errors: np.ndarray) -> dict[str, float]:
    """Median and standard deviation over voxels of the CV, from relative errors (C, V)."""
    cv = 100 * errors.std(axis=0, ddof=1) / (1 + errors.mean(axis=0))
    return {"cv": float(np.median(cv)), "cv_sd": float(cv.std())}


def _tests(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Probabilities that bias and CV are the same in two scenarios; relative errors (C, V)."""

    def p(values: list[np.ndarray]) -> float:
        return float(stats.ttest_ind(*values, equal_var=False).pvalue)

    both = one, other
    spreads = [np.abs((e - e.mean(axis=0)) / (1 + e.mean(axis=0))) for e in both]
    return p([e.mean(axis=1) for e in both]), p([d.mean(axis=1) for d in spreads])


def text(rows: Sequence[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    """Tables of bias and CV in each structure and around it, E1 to E2, with marks."""

    def cell(metric: str, pair: dict[str, Any]) -> str:
        one, two = pair["E1"], pair["E2"]
        mark = next((m for p, m in ((0.01, "**"), (0.05, "*")) if two[f"p_{metric}"] < p), "")
        error = f" ± {two['bias_error']:.2f}" if metric == "bias" else ""
        sign = "+" if metric == "bias" else ""
        values = f"{one[metric]:{sign}.2f} to {two[metric]:{sign}.2f}{error}"
        return f"{values} {mark.replace('*', chr(92) + '*')}".rstrip()

    parts = []
    for region in REGIONS:
        pairs: dict[tuple[str, str], dict[str, Any]] = {}
        for row in (row for row in rows if row["region"] == region):
            key = row["method"], row["structure"]
            pairs.setdefault(key, {"method": key[0], "structure": key[1]})
            pairs[key][row["scenario"]] = row
        for metric, words in (("bias", "relative bias"), ("cv", "CV")):
            lines = pivot(
                pairs.values(), "method", "structure", functools.partial(cell, metric), "{}"
            )
            parts.append((f"{words} (%), {region}, E1 to E2", lines))
    return parts


@experiment_command(__doc__)
@click.option("--protocol", default="cine31", help="cine23, cine25, cine31 or fse6.")
@click.option("--snr", default=10.0, type=click.FloatRange(0, min_open=True), show_default=True)
@click.option("--b-field", default="patch", type=click.Choice(["patch", "smooth"]))
@click.option("--repeats", default=100, type=click.IntRange(3), help="Draws of noise, C.")
def main(
    run: Experiment,
    protocol: str,
    snr: float,
    b_field: str,
    repeats: int,
) -> None:
    """Run the experiment, write its table and draw its figure."""
    scene = make_scene(run.brains, protocol, run.seed, run.quick).at_the_means()
    if run.quick:
        scene = replace(scene, voxel_size=0.85, matrix=256)  # else there is no room
        repeats = min(repeats, 3)
    methods = methods_for(protocol, scene.model, run.files, run.only)
    if run.quick and not run.only:
        methods = [method for method in methods if method.name != "mle-auto"]  # the slowest
    plain = scene.slice(0, b_field)
    phantoms = {"E1": plain, "E2": with_structures(plain)}
    regions = phantoms["E2"].regions
    places = (regions["structure"] | regions["neighborhood"])[:, :, 0]
    rows: list[dict[str, Any]] = []
    for method in methods:
        cell, begin, errors = Cell(method, scene, 0, b_field, snr), time.monotonic(), {}
        for scenario, phantom in phantoms.items():
            path = run.cache / protocol / f"blur-{scenario}-{cell.path(run.cache).stem}.npy"
            first = FIRST_NOISE[scenario]
            errors[scenario] = relative_errors(cell, phantom, places, repeats, first, path)
        click.echo(f"{method.name}: {repeats} repeats, {time.monotonic() - begin:.0f} s")
        rows += rows_of(cell, phantoms["E2"], places, errors)
    field = "" if b_field == "patch" else f"_{b_field}"
    stem = f"blurriness_{protocol}{field}"
    if run.keep_others:
        rows = run.with_kept(stem, rows, KEYS)
        methods = shown(methods_for(protocol, scene.model, run.files), rows)
    write_rows(run.path(stem, ".csv"), rows)
    rows = [row for row in rows if row["snr"] == snr]
    draw(rows, methods, phantoms["E2"], run.path(stem, ".png"))
    write_markdown(run.path(stem, ".md"), f"Blurriness, {protocol}, SNR {snr:g}", text(rows))


if __name__ == "__main__":
    main()
