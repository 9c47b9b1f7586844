"""Bias, CV and RMSE of anyone's maps against the truth, per region."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from relaxnet.evaluation.metrics import (
    Summary,
    coefficient_of_variation,
    relative_bias,
    relative_rmse,
    summarise,
)
from relaxnet.io.inputs import check_grid, load_maps, mask_of, whole_labels
from relaxsim.core.files import write_whole
from relaxsim.core.matplotlib_import import import_matplotlib

#: Name of the region that is the whole mask.
WHOLE = "mask"
METRICS = ("bias", "cv", "rmse")
TABLE, FIGURE = "metrics.csv", "metrics.png"
#: Ratio of two medians beyond which maps and truth are suspected to have different units.
UNITS_DIFFER = 100.0
#: Above this, per cent, the figure's axis is logarithmic.
LINEAR_TO = 100.0
_STYLE = {"boxprops": {"facecolor": "#56B4E9"}, "medianprops": {"color": "black"}}


@dataclass(frozen=True)
class Region:
    """Metrics of the voxels of one region, per cent.

    Attributes
    ----------
    name : str
        ``mask``, or a label.
    bias : array, shape (M,)
        Relative bias (Eq. 7) of each voxel that counts.
    cv : array, shape (M,), or None
        Coefficient of variation (Eq. 8); None for a single map.
    rmse : array, shape (M,)
        Root mean square error relative to the truth.
    left_out : int
        Voxels of the region that do not count, see `evaluate_maps`.
    """

    name: str
    bias: np.ndarray
    cv: np.ndarray | None
    rmse: np.ndarray
    left_out: int

    @property
    def pooled_rmse(self) -> float:
        """Root mean square of the relative error over repeats and voxels."""
        return float(np.sqrt(np.mean(self.rmse**2))) if self.rmse.size else float("nan")

    def summary(self, metric: str) -> Summary | None:
        """Median and quartiles of ``bias``, ``cv`` or ``rmse``; None if there is no such metric."""
        values = getattr(self, metric)
        return None if values is None else summarise(values)


@dataclass(frozen=True)
class Evaluation:
    """Metrics of maps.

    Attributes
    ----------
    regions : tuple of Region
        The whole mask, then each label.
    num_maps : int
        Repeats, C.
    notes : tuple of str
        What a user should know, a line each.
    """

    regions: tuple[Region, ...]
    num_maps: int
    notes: tuple[str, ...]


def evaluate_maps(
    estimates: np.ndarray,
    truth: np.ndarray,
    mask: np.ndarray,
    labels: np.ndarray | None = None,
) -> Evaluation:
    """Metrics of repeated maps against the truth, over a mask and each label in it.

    A voxel counts where the truth is finite and not zero and every map is so, too: in maps 0
    stands for no estimate.

    Parameters
    ----------
    estimates : array, shape (C, ...)
        Repeated maps, in the unit of the truth.
    truth, mask : arrays, shape (...)
    labels : integer array, shape (...), optional
        0 is no region.

    Returns
    -------
    Evaluation

    Raises
    ------
    ValueError
        If shapes differ or no voxel of the mask counts.

    Examples
    --------
    >>> truth = np.array([800.0, 1000.0])
    >>> maps = np.stack([1.01 * truth, 1.03 * truth])
    >>> region = evaluate_maps(maps, truth, truth > 0).regions[0]
    >>> round(region.summary("bias").median, 3)
    2.0
    """
    estimates, truth, mask = np.asarray(estimates), np.asarray(truth), np.asarray(mask, bool)
    for name, array in (("maps", estimates[0]), ("mask", mask), ("labels", labels)):
        if array is not None and np.shape(array) != truth.shape:
            raise ValueError(f"{name} have shape {np.shape(array)}, the truth {truth.shape}.")
    e, t = estimates[:, mask].astype(np.float64), truth[mask].astype(np.float64)
    true = np.isfinite(t) & (t != 0)
    finite = np.asarray(np.isfinite(e).all(axis=0))
    estimated = np.asarray((e != 0).all(axis=0))
    counts = true & finite & estimated
    if not counts.any():
        raise ValueError(
            f"none of the mask's {t.size} voxels counts: the truth is zero or not finite in "
            f"{(~true).sum()}, a map in {(~(finite & estimated)).sum()}."
        )
    notes = _left_out_notes(true, finite, estimated) + _unit_notes(e[:, counts], t[counts])
    if len(e) == 1:
        notes.append("a single map has no CV: give repeats for it.")
    regions = [(WHOLE, np.ones(t.size, bool))]
    if labels is not None:
        label = np.asarray(labels)[mask]
        inside = np.unique(label[label > 0])
        regions += [(str(number), label == number) for number in inside]
        if not inside.size:
            notes.append("no label above zero lies in the mask.")
    rows = tuple(_region(name, place, counts, e, t) for name, place in regions)
    return Evaluation(rows, len(e), tuple(notes))


def evaluate_files(
    truth: Path, maps: Sequence[Path], mask: Path, labels: Path | None = None
) -> Evaluation:
    """`evaluate_maps` of NIfTI files, which must lie on one grid.

    Parameters
    ----------
    truth, mask : path
        3-D; of a soft mask voxels from half its range up count, of another those above zero
        (`relaxnet.io.inputs.mask_of`).
    maps : sequence of path
        3-D repeats, or one 4-D file of them.
    labels : path, optional
        Whole numbers.

    Returns
    -------
    Evaluation

    Raises
    ------
    relaxsim.core.nifti_reader.NiftiError
        If a file cannot be read or lies on another grid.
    ValueError
        If truth, mask or labels hold several images, labels are no whole numbers, or no voxel
        counts.
    """
    reference = load_maps([truth])
    estimates = load_maps(maps)
    check_grid("map", estimates, reference)
    planes = {"truth": _single("truth", reference.data, truth)}
    for name, path in (("mask", mask), ("label map", labels)):
        if path is not None:
            found = load_maps([path])
            check_grid(name, found, reference)
            planes[name] = _single(name, found.data, path)
    inside, half = mask_of(planes["mask"], Path(mask).name)
    numbers = None
    if labels is not None:
        numbers = whole_labels(planes["label map"], Path(labels).name)
    evaluation = evaluate_maps(np.moveaxis(estimates.data, -1, 0), planes["truth"], inside, numbers)
    if not half:
        return evaluation
    note = f"mask {Path(mask).name} holds probabilities: voxels from {half:g} up count."
    return replace(evaluation, notes=(note, *evaluation.notes))


def table_text(evaluation: Evaluation) -> str:
    """Table for a terminal: medians and quartiles over voxels, per cent."""
    lines = [
        f"{evaluation.num_maps} map(s); median (quartiles) over voxels, per cent of the truth",
        f"{'region':8} {'voxels':>8}  {'relative bias':26}{'CV':24}{'RMSE':24}pooled RMSE",
    ]
    for region in evaluation.regions:
        cells = [_words(region.summary(metric)) for metric in METRICS]
        pooled = f"{region.pooled_rmse:.2f}" if region.rmse.size else "-"
        lines.append(
            f"{region.name:8} {region.bias.size:8}  {cells[0]:26}{cells[1]:24}{cells[2]:24}{pooled}"
        )
    return "\n".join(lines)


def write_table(evaluation: Evaluation, path: Path) -> None:
    """Write the table as CSV; an empty cell stands for what there is not."""
    names = ["region", "voxels", "left_out", "maps"]
    for metric in METRICS:
        names += [f"{metric}_median", f"{metric}_lower", f"{metric}_upper"]
    with (
        write_whole(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="replace") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*names, "pooled_rmse"])
        for region in evaluation.regions:
            row = [region.name, region.bias.size, region.left_out, evaluation.num_maps]
            for metric in METRICS:
                found = region.summary(metric)
                values = () if found is None else (found.median, found.lower, found.upper)
                row += [_number(v) for v in values or (np.nan,) * 3]
            writer.writerow([*row, _number(region.pooled_rmse)])


def draw_figure(evaluation: Evaluation, path: Path) -> None:
    """Box plots of the metrics by region: quartiles, median, whiskers to minimum and maximum."""
    import_matplotlib()
    from matplotlib.figure import Figure

    metrics = [m for m in METRICS if evaluation.regions[0].summary(m) is not None]
    titles = {"bias": "relative bias (%)", "cv": "CV (%)", "rmse": "RMSE (%)"}
    width = 0.9 + 0.35 * len(evaluation.regions)
    figure = Figure(figsize=(max(2.4, width) * len(metrics), 2.8), layout="constrained")
    axes = figure.subplots(1, len(metrics), squeeze=False)[0]
    for axis, metric in zip(axes, metrics, strict=True):
        filled = [r for r in evaluation.regions if r.bias.size]
        boxes = [_five(getattr(r, metric), r.name) for r in filled]
        axis.bxp(boxes, showfliers=False, patch_artist=True, **_STYLE)
        axis.set_ylabel(titles[metric])
        axis.set_xlabel("region")
        if metric == "bias":
            axis.axhline(0.0, color="0.6", linewidth=0.6, zorder=0)
        else:
            axis.set_ylim(bottom=0.0)
        if max(abs(box[end]) for box in boxes for end in ("whislo", "whishi")) > LINEAR_TO:
            axis.set_yscale("symlog", linthresh=10.0)
            axis.yaxis.set_major_formatter("{x:g}")
        axis.tick_params(axis="x", rotation=0 if len(filled) < 8 else 90)
    with write_whole(path) as temporary:
        figure.savefig(temporary, dpi=150)


def _region(
    name: str, place: np.ndarray, counts: np.ndarray, estimates: np.ndarray, truth: np.ndarray
) -> Region:
    keep = place & counts
    e, t = estimates[:, keep], truth[keep]
    cv = coefficient_of_variation(e) if len(e) > 1 else None
    return Region(name, relative_bias(e, t), cv, relative_rmse(e, t), int(place.sum() - keep.sum()))


def _left_out_notes(true: np.ndarray, finite: np.ndarray, estimated: np.ndarray) -> list[str]:
    """What keeps voxels of the mask from counting; arrays of shape (M,)."""
    reasons = {
        "the truth is zero or not finite": ~true,
        "a map is not finite": true & ~finite,
        "a map is 0, no estimate": true & finite & ~estimated,
    }
    return [
        f"{where.sum()} of the mask's {where.size} voxels are left out: {reason}."
        for reason, where in reasons.items()
        if where.any()
    ]


def _unit_notes(estimates: np.ndarray, truth: np.ndarray) -> list[str]:
    ratio = abs(float(np.median(estimates) / np.median(truth)))
    if 1 / UNITS_DIFFER < ratio < UNITS_DIFFER:
        return []
    return [f"the maps are {ratio:.3g} times the truth in the median: do their units differ?"]


def _single(name: str, data: np.ndarray, path: Path) -> np.ndarray:
    if data.shape[-1] != 1:
        raise ValueError(f"{name} {Path(path).name} holds {data.shape[-1]} images, expected one.")
    return data[..., 0]


def _five(values: np.ndarray, name: str) -> dict[str, Any]:
    low, lower, median, upper, high = np.percentile(values, [0, 25, 50, 75, 100])
    return {
        "whislo": low, "q1": lower, "med": median, "q3": upper, "whishi": high, "label": name
    }  # fmt: skip


def _words(summary: Summary | None) -> str:
    if summary is None or not summary.num_voxels:
        return "-"
    return f"{summary.median:.2f} ({summary.lower:.2f} to {summary.upper:.2f})"


def _number(value: float) -> str:
    return f"{value:.6g}" if np.isfinite(value) else ""
