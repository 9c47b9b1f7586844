"""Real phantom plates: methods beside the fit of each sphere's mean signal."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from figures import PAGE, legend_below, save_figure, subplots
from kept import Rows, kept_array
from methods import Method
from real_data import SPHERES, Plate

from relaxnet.fitting.inputs import Measurement
from relaxnet.fitting.voxelwise import fit_voxelwise
from relaxnet.series.foreground import automatic_mask

#: Spheres that are listed but left out of the mean: the fits themselves disagree there.
LEFT_OUT = {("T1_plate4", 14)}


def compare_plates(plate: Plate, skip: int, methods: Sequence[Method], cache: Path) -> Rows:
    """A row for each sphere and method.

    Parameters
    ----------
    plate : Plate
    skip : int
        Images left out at the start.
    methods : sequence of Method
        Each maps the plate as ``relaxnet predict`` does: automatic mask, noise from residuals.
    cache : Path

    Returns
    -------
    rows : list of dict
        ``fit_of_mean`` is the fit of the sphere's mean signal; ``median`` the method's median over
        its voxels, ``spread`` their interquartile range as a share of it; ``difference`` that of
        the two. ``counted`` are the spheres whose T lies within the times that were used and that
        the mean is over.
    """
    S, tau = plate.S[..., skip:], plate.tau[skip:]
    wanted = plate.spheres > 0
    means = np.stack([S[plate.spheres == i].mean(axis=0) for i in range(1, SPHERES + 1)])
    of_mean = fit_voxelwise(Measurement(means, tau, plate.model)).kappa[:, -1]
    mask = automatic_mask(S) | wanted
    rows: Rows = []
    for method in methods:
        T = _map(plate.name, method, S, tau, plate, mask, cache)
        for i in range(1, SPHERES + 1):
            lower, median, upper = np.percentile(T[plate.spheres == i], [25, 50, 75])
            fit = float(of_mean[i - 1])
            inside = tau.min() <= fit <= tau.max() and (plate.name, i) not in LEFT_OUT
            rows.append(
                {
                    "plate": plate.name,
                    "first_image": skip + 1,
                    "method": method.name,
                    "sphere": i,
                    "nominal_ms": float(plate.nominal[i - 1]),
                    "published_ms": float(plate.published[i - 1]),
                    "fit_of_mean_ms": fit,
                    "median_ms": float(median),
                    "spread": float(100 * (upper - lower) / median),
                    "difference": float(100 * (median / fit - 1)),
                    "counted": bool(inside),
                }
            )
        mean, worst, count = mean_difference(rows[-SPHERES:])
        click.echo(
            f"{plate.name} from image {skip + 1}, {method.name}: mean |difference| {mean:.2f} % "
            f"over {count} spheres, worst {worst:.2f} %"
        )
    return rows


#: Tables of `summary_rows` and `compare_plates`.
SUMMARY = {
    "plate": ("plate", ""),
    "first_image": ("from image", "d"),
    "method": ("method", ""),
    "mean": ("mean of absolute difference to the fit of the mean (%)", ".2f"),
    "worst": ("worst (%)", ".2f"),
    "spread": ("mean spread (%)", ".2f"),
    "spheres": ("spheres", "d"),
}
SPHERE_COLUMNS = {
    "first_image": ("from image", "d"),
    "method": ("method", ""),
    "sphere": ("sphere", "d"),
    "nominal_ms": ("nominal (ms)", ".1f"),
    "published_ms": ("published fit (ms)", ".1f"),
    "fit_of_mean_ms": ("fit of the mean (ms)", ".1f"),
    "median_ms": ("median (ms)", ".1f"),
    "difference": ("difference (%)", "+.2f"),
    "spread": ("spread (%)", ".2f"),
    "counted": ("counted", ""),
}


def summary_rows(rows: Rows) -> Rows:
    """Differences and spread over the counted spheres, for each plate and method, and for both.

    Both are the two plates of T1, or of T2.
    """
    out: Rows = []
    keys = ("plate", "first_image", "method")
    rows = [*rows, *({**row, "plate": f"both {row['plate'][:2]}"} for row in rows)]
    for key in dict.fromkeys(tuple(row[k] for k in keys) for row in rows):
        chosen = [r for r in rows if tuple(r[k] for k in keys) == key]
        mean, worst, count = mean_difference(chosen)
        spread = float(np.mean([r["spread"] for r in chosen if r["counted"]] or [np.nan]))
        numbers = {"mean": mean, "worst": worst, "spread": spread, "spheres": count}
        out.append({**dict(zip(keys, key, strict=True)), **numbers})
    return out


def mean_difference(rows: Sequence[Mapping[str, Any]]) -> tuple[float, float, int]:
    """Mean and largest absolute difference over the counted spheres, and their number."""
    values = [abs(row["difference"]) for row in rows if row["counted"]]
    if not values:
        return float("nan"), float("nan"), 0
    return float(np.mean(values)), float(np.max(values)), len(values)


def _map(
    name: str,
    method: Method,
    S: np.ndarray,
    tau: np.ndarray,
    plate: Plate,
    mask: np.ndarray,
    cache: Path,
) -> np.ndarray:
    """T (X, Y, 1) in ms; kept."""
    settings = {
        "series": hashlib.sha256(np.ascontiguousarray(S).tobytes()).hexdigest(),
        "mask": hashlib.sha256(mask.tobytes()).hexdigest(),
        "tau": tau.tolist(),
        "method": method.identity,
    }
    words = f"{name} from image {1 + len(plate.tau) - len(tau)} {method.name}"
    return kept_array(
        cache / "plates",
        words,
        settings,
        lambda: method.maps(S, tau, plate.model, mask=mask).kappa[..., -1],
    )


def draw_plates(rows: Rows, methods: Mapping[str, Method], path: Path) -> None:
    """Figure: difference to the fit of the mean signal along it, a panel for each plate."""
    keys = list(dict.fromkeys((row["plate"], row["first_image"]) for row in rows))
    columns = min(2, len(keys))
    count = -(-len(keys) // columns)
    figure, axes = subplots(count, columns, PAGE * columns / 2, 1.8 * count + 0.6, sharey=True)
    for axis, key in zip(axes.flat, keys, strict=False):
        axis.axhline(0.0, color="black", linewidth=0.5)
        for name, method in methods.items():
            chosen = [
                r for r in rows if (r["plate"], r["first_image"], r["method"]) == (*key, name)
            ]
            chosen.sort(key=lambda r: r["fit_of_mean_ms"])
            x = np.array([r["fit_of_mean_ms"] for r in chosen])
            y = np.clip([r["difference"] for r in chosen], -50, 50)
            inside = np.array([r["counted"] for r in chosen], bool)
            style = {"color": method.colour, "marker": "o", "markersize": 2.5, "linewidth": 1}
            axis.plot(x, y, alpha=0.25, **style)
            axis.plot(x[inside], y[inside], **style)
        _finish(axis, key)
    for axis in axes.flat[len(keys) :]:
        axis.set_visible(False)
    legend_below(figure, list({m.title: m.colour for m in methods.values()}.items()))
    save_figure(figure, path)


def _finish(axis: Any, key: tuple[str, int]) -> None:
    plate, first = key
    axis.set_xscale("log")
    ticks = [10, 100, 1000]
    axis.set_xticks(ticks, [f"{t}" for t in ticks])
    axis.set_yscale("symlog", linthresh=2.0)
    axis.set_yticks([-20, -5, -1, 0, 1, 5, 20], ["-20", "-5", "-1", "0", "1", "5", "20"])
    axis.minorticks_off()
    axis.set_xlabel(f"{plate[:2]} of the fit of the mean signal (ms)")
    axis.set_ylabel("difference (%)")
    axis.set_title(plate.replace("_", " ") + (f", from image {first}" if first > 1 else ""))
