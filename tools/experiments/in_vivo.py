"""Experiment: real brains (paper, section 5.3, Figs. 5 to 8).

Maps of each method, their difference to the voxel-wise fit (MLE) and agreement with it; spread
within white and grey matter; repeatability, and the sharpness of the boundary of the two tissues.

Regions come from a further map, that of the fit with one B, median-filtered: a range of T1 for each
tissue, eroded by one voxel (`real_data`). The boundary's lines are drawn on it, too (`boundary`).
There is one scan of each brain. Repeatability is therefore the CV over scans with noise *added*, of
one and three times the standard deviation that the scan has; methods get the total sigma.

Example:
    python tools/experiments/in_vivo.py --data ../shared/data
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
from boundary import along, draw_lines, fit_sigmoid, paired_p
from experiment_command import SHARED, Experiment, experiment_command
from figures import write_rows
from in_vivo_figures import draw_boundaries, draw_maps, draw_repeats
from kept import Rows
from methods import (
    Method,
    fit_method,
    methods_for,
)
from real_data import RANGES, Brain, load_brains
from scans import Scan, make_scan
from text_tables import table, write_markdown

#: Protocol that each series has.
PROTOCOL = {"brain_ir": "barral2010", "brain_t1": "santini_t1", "brain_t2": "santini_t2"}
#: Noise that is added, in units of the noise of the scan.
ADDED = (1.0, 3.0)
REGIONS = ("WM", "GM", "brain")
#: Tables: see `region_rows`, `repeat_rows` and `sharpness`.
REGION_COLUMNS = {
    "series": ("series", ""),
    "region": ("region", ""),
    "method": ("method", ""),
    "median_ms": ("median (ms)", ".1f"),
    "spread": ("interquartile range (% of it)", ".1f"),
    "of_medians": ("to the MLE's median (%)", "+.2f"),
    "to_shared": ("to that with one B (%)", "+.2f"),
    "median_difference_ms": ("median difference to the MLE (ms)", "+.1f"),
    "mean_difference_ms": ("mean difference (ms)", "+.1f"),
    "correlation": ("correlation with the MLE", ".2f"),
    "voxels": ("voxels", "d"),
}
REPEAT_COLUMNS = {
    "series": ("series", ""),
    "added_sigma": ("sigma added", "g"),
    "method": ("method", ""),
    "median": ("median CV (%)", ".2f"),
    "mean": ("mean CV (%)", ".2f"),
    "repeats": ("scans", "d"),
}
SHARP_COLUMNS = {
    "series": ("series", ""),
    "method": ("method", ""),
    "median": ("median slope (1/voxel)", ".2f"),
    "lower": ("lower quartile", ".2f"),
    "upper": ("upper quartile", ".2f"),
    "p_against_mle": ("p, paired t-test against the MLE", ".3g"),
    "lines": ("lines", "d"),
}


def region_rows(scan: Scan, methods: Sequence[Method]) -> Rows:
    """Medians and spread of each method in each region, and its differences to the MLE.

    ``of_medians`` are differences of medians to that of the MLE, ``to_shared`` to that of the fit
    with one B, per cent; the others are medians and means over voxels.
    """
    fitted = {m.name: scan.T(m) for m in methods if m.kind == "mle"}
    base = scan.T(next(m for m in methods if m.name == "mle")).astype(float)
    rows = []
    for method in methods:
        T = scan.T(method).astype(float)
        for region in REGIONS:
            inside = scan.regions[region] & (base > 0) & (T > 0)
            t, b = T[inside], base[inside]
            lower, median, upper = np.percentile(t, [25, 50, 75])
            rows.append(
                {
                    "series": scan.brain.name,
                    "region": region,
                    "method": method.name,
                    "median_ms": float(median),
                    "spread": float(100 * (upper - lower) / median),
                    "of_medians": float(100 * (median / np.median(b) - 1)),
                    "to_shared": _relative(median, fitted.get("mle-shared"), inside),
                    "median_difference": float(np.median(100 * (t / b - 1))),
                    "median_difference_ms": float(np.median(t - b)),
                    "mean_difference_ms": float(np.mean(t - b)),
                    "correlation": float(np.corrcoef(t, b)[0, 1]),
                    "voxels": int(inside.sum()),
                }
            )
    return rows


def _relative(median: float, T: np.ndarray | None, inside: np.ndarray) -> float:
    """Difference of a median to that of a map, per cent; NaN without one."""
    return float("nan") if T is None else float(100 * (median / np.median(T[inside]) - 1))


def repeat_rows(scan: Scan, methods: Sequence[Method], repeats: int, seed: int) -> Rows:
    """CV in each region over scans with noise added."""
    rows = []
    for added in ADDED:
        for method in methods:
            cv = scan.cv(method, added, repeats, seed)
            for region in REGIONS:
                values = cv[scan.regions[region] & (cv > 0)]
                low, lower, median, upper, high = np.percentile(values, [5, 25, 50, 75, 95])
                rows.append(
                    {
                        "series": scan.brain.name,
                        "added_sigma": added,
                        "region": region,
                        "method": method.name,
                        "mean": float(values.mean()),
                        "low": float(low),
                        "lower": float(lower),
                        "median": float(median),
                        "upper": float(upper),
                        "high": float(high),
                        "repeats": repeats,
                    }
                )
    return rows


def boundary_rows(scan: Scan, methods: Sequence[Method]) -> tuple[Rows, np.ndarray]:
    """Sharpness of each line in each method's map, and the lines."""
    brain = scan.brain
    lines = draw_lines(brain.reference, brain.mask[..., 0], RANGES[brain.name])
    rows = []
    for method in methods:
        T = scan.T(method)[..., 0]
        for number, line in enumerate(lines, start=1):
            fit = fit_sigmoid(along(T, line))
            rows.append(
                {
                    "series": brain.name,
                    "method": method.name,
                    "line": number,
                    "slope": abs(fit.v),
                    "height_ms": abs(fit.V),
                    "residual_ms": fit.residual,
                }
            )
    return rows, lines


def sharpness(rows: Rows) -> Rows:
    """Quartiles of the slopes, and the paired t-test of each method against the MLE."""
    out = []
    for series in dict.fromkeys(row["series"] for row in rows):
        slopes = {
            name: np.array(
                [r["slope"] for r in rows if (r["series"], r["method"]) == (series, name)]
            )
            for name in dict.fromkeys(row["method"] for row in rows if row["series"] == series)
        }
        for name, values in slopes.items():
            low, lower, median, upper, high = np.percentile(values, [0, 25, 50, 75, 100])
            out.append(
                {
                    "series": series,
                    "method": name,
                    "low": float(low),
                    "lower": float(lower),
                    "median": float(median),
                    "upper": float(upper),
                    "high": float(high),
                    "mean": float(values.mean()),
                    "p_against_mle": paired_p(values, slopes["mle"]),
                    "lines": len(values),
                }
            )
    return out


@experiment_command(__doc__, SHARED)
@click.option("--data", required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--repeats", default=8, type=click.IntRange(2), help="Scans with noise added.")
def main(
    run: Experiment,
    data: Path,
    repeats: int,
) -> None:
    """Run the experiment, write its tables and draw its figures."""
    only = run.only
    if run.quick:
        repeats, only = 2, only or ("rim-t1", "mle", "mle-shared")
    regions: Rows = []
    repeated: Rows = []
    slopes: Rows = []
    drawn, methods = [], {}
    brains = load_brains(data)
    for brain in brains[:1] if run.quick else brains:
        scan = make_scan(brain, run.cache)
        chosen = _methods(brain, run.files, only)
        methods |= {method.name: method for method in chosen}
        regions += region_rows(scan, [*chosen, *_further_fits(brain, only)])
        repeated += repeat_rows(scan, chosen, repeats, run.seed)
        cvs = {m.name: scan.cv(m, ADDED[-1], repeats, run.seed)[..., 0] for m in chosen}
        maps = {m.name: scan.T(m)[..., 0] for m in chosen}
        draw_maps(brain, chosen, maps, cvs, run.path(f"in_vivo_{brain.name}", ".png"))
        if brain.name in RANGES:
            rows, lines = boundary_rows(scan, chosen)
            slopes += rows
            drawn.append((brain, lines, maps))
    write_rows(run.path("in_vivo_regions", ".csv"), regions)
    write_rows(run.path("in_vivo_repeatability", ".csv"), repeated)
    draw_repeats(repeated, methods, run.path("in_vivo_repeatability", ".png"))
    write_rows(run.path("in_vivo_lines", ".csv"), slopes)
    sharp = sharpness(slopes)
    write_rows(run.path("in_vivo_sharpness", ".csv"), sharp)
    draw_boundaries(drawn, slopes, methods, run.path("in_vivo_boundary", ".png"))
    medians = [row for row in repeated if row["region"] == "brain"]
    parts = [
        ("Regions", table(regions, REGION_COLUMNS)),
        ("CV over scans with noise added, in the brain", table(medians, REPEAT_COLUMNS)),
        ("Sharpness of the boundary", table(sharp, SHARP_COLUMNS)),
    ]
    write_markdown(run.path("in_vivo", ".md"), "Real brains", parts)
    for line in _summary(regions, repeated, sharp):
        click.echo(line)


def _methods(brain: Brain, files: dict[str, Path], only: Sequence[str]) -> list[Method]:
    """Networks for any times, those that `--models` gives for the protocol, and the fits."""
    of_protocol = f"rim-{PROTOCOL[brain.name]}"
    any_times = "rim-t1" if brain.model.shared else "rim-t2"
    given = {name: path for name, path in files.items() if name in (of_protocol, any_times)}
    found = methods_for(PROTOCOL[brain.name], brain.model, given, say=_nobody)
    return [m for m in found if not only or m.name in (*only, "mle")]  # all stand beside the MLE


def _further_fits(brain: Brain, only: Sequence[str]) -> list[Method]:
    """Fits of the table of regions alone: B at most 2, since no pulse does more than invert."""
    return [fit_method("mle-b2")] if brain.model.shared and not only else []


def _nobody(line: str) -> None:
    """Take a line and print nothing."""


def _summary(regions: Rows, repeated: Rows, sharp: Rows) -> list[str]:
    lines = []
    for row in regions:
        if row["method"].startswith("rim"):
            mle = next(
                r
                for r in regions
                if (r["series"], r["region"], r["method"]) == (row["series"], row["region"], "mle")
            )
            lines.append(
                f"{row['series']} {row['region']} {row['method']}: {row['median_ms']:.1f} ms "
                f"({row['of_medians']:+.2f} % to the MLE's), spread {row['spread']:.1f} % "
                f"(MLE {mle['spread']:.1f} %)"
            )
    for row in repeated:
        if row["region"] == "brain":
            lines.append(
                f"{row['series']} {row['added_sigma']:g} sigma added, {row['method']}: CV median "
                f"{row['median']:.2f} %, mean {row['mean']:.2f} %"
            )
    for row in sharp:
        lines.append(
            f"{row['series']} {row['method']}: slope {row['median']:.2f} per voxel "
            f"(median of {row['lines']}), p {row['p_against_mle']:.3g} against the MLE"
        )
    return lines


if __name__ == "__main__":
    main()
