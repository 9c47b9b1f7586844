"""Figures of the experiment on real brains: maps, repeatability, boundary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from boundary import along, fit_sigmoid, positions
from figures import PAGE, draw_box, legend_below, offsets, save_figure, subplots
from methods import Method
from real_data import Brain

#: Range of the map, of differences and of the agreement's axes, ms; of CV maps, per cent.
WINDOWS = {
    "brain_ir": {"map": (300, 1800), "difference": 200, "cv": 30},
    "brain_t1": {"map": (500, 2500), "difference": 200, "cv": 20},
    "brain_t2": {"map": (20, 150), "difference": 20, "cv": 20},
}


def draw_maps(
    brain: Brain,
    methods: Sequence[Method],
    maps: Mapping[str, np.ndarray],
    cvs: Mapping[str, np.ndarray],
    path: Path,
) -> None:
    """Figure: methods across; map, difference to the MLE, agreement and CV down."""
    window, parameter = WINDOWS[brain.name], brain.model.main
    count = len(methods)
    figure, axes = subplots(4, count, PAGE, 6.6 if count > 2 else 9.0)
    mask = brain.mask[..., 0]
    base = maps["mle"]
    limit = window["difference"]
    images = {}
    for column, method in enumerate(methods):
        T = maps[method.name]
        values = np.where(mask, T, np.nan)
        low, high = window["map"]
        images[0] = _image(axes[0, column], values, mask, low, high, "viridis")
        axes[0, column].set_title(method.title, fontsize=6)
        difference = np.where(mask, T - base, np.nan)
        images[1] = _image(axes[1, column], difference, mask, -limit, limit, "RdBu_r")
        _agreement(axes[2, column], base[mask], T[mask], window["map"], parameter)
        if column == 0:
            axes[2, 0].set_ylabel(f"method's {parameter} (ms)", fontsize=6)
        cv = np.where(mask, cvs[method.name], np.nan)
        images[3] = _image(axes[3, column], cv, mask, 0, window["cv"], "magma")
    words = {
        0: f"{parameter} (ms)",
        1: f"{parameter} - MLE's (ms)",
        3: "CV (%), 3 sigma added",
    }
    for row, label in words.items():
        figure.colorbar(images[row], ax=axes[row, :], label=label, shrink=0.8, aspect=12)
    save_figure(figure, path)


def _image(axis: Any, values: np.ndarray, mask: np.ndarray, low: float, high: float, colours: str):
    """Part of a map around its mask, first axis to the right."""
    x, y = (np.flatnonzero(mask.any(axis=1 - a)) for a in (0, 1))
    part = values[x[0] : x[-1] + 1, y[0] : y[-1] + 1]
    axis.set_xticks([])
    axis.set_yticks([])
    axis.grid(visible=False)
    for spine in axis.spines.values():
        spine.set_visible(False)
    if part.shape[0] < part.shape[1]:
        part = part[:, ::-1].T
    return axis.imshow(part, vmin=low, vmax=high, cmap=colours, interpolation="nearest")


def _agreement(
    axis: Any, x: np.ndarray, y: np.ndarray, window: tuple[float, float], parameter: str
) -> None:
    low, high = window
    axis.hist2d(x, y, bins=60, range=[window, window], cmap="Greys", cmin=1, norm="log")
    axis.plot(window, window, color="#D55E00", linewidth=0.6)
    axis.set_aspect("equal")
    ticks = [t for t in (50, 100, 500, 1000, 1500, 2000) if low <= t <= high]
    axis.set_xticks(ticks)
    axis.set_yticks(ticks)
    axis.tick_params(labelsize=5)
    axis.set_xlabel(f"MLE's {parameter} (ms)", fontsize=6)


def draw_repeats(
    rows: Sequence[Mapping[str, Any]], methods: Mapping[str, Method], path: Path
) -> None:
    """Figure: boxes of CV in each region, a panel for each series and level of added noise."""
    keys = list(dict.fromkeys((row["series"], row["added_sigma"]) for row in rows))
    regions = list(dict.fromkeys(row["region"] for row in rows))
    columns = min(2, len(keys))
    count = -(-len(keys) // columns)
    figure, axes = subplots(count, columns, PAGE * columns / 2, 1.8 * count + 0.5, sharey=True)
    for axis, key in zip(axes.flat, keys, strict=True):
        chosen = [r for r in rows if (r["series"], r["added_sigma"]) == key]
        present = [name for name in methods if any(r["method"] == name for r in chosen)]
        places, width = offsets(len(present))
        for row in chosen:
            place = regions.index(row["region"]) + places[present.index(row["method"])]
            draw_box(axis, place, row, methods[row["method"]].colour, width)
        axis.set_yscale("log")
        axis.set_yticks([0.3, 1, 3, 10, 30, 100], ["0.3", "1", "3", "10", "30", "100"])
        axis.minorticks_off()
        axis.set_xticks(range(len(regions)), regions)
        axis.set_ylabel("CV (%), 5 to 95 % of voxels")
        axis.set_title(f"{key[0]}, {key[1]:g} sigma added")
    legend_below(figure, list({m.title: m.colour for m in methods.values()}.items()))
    save_figure(figure, path)


def draw_boundaries(
    drawn: Sequence[tuple[Brain, np.ndarray, Mapping[str, np.ndarray]]],
    rows: Sequence[Mapping[str, Any]],
    methods: Mapping[str, Method],
    path: Path,
) -> None:
    """Figure: the lines on the reference map, one of them with its fits, the slopes."""
    figure, axes = subplots(len(drawn), 3, PAGE, 2.2 * len(drawn) + 0.5)
    present = [methods[name] for name in dict.fromkeys(row["method"] for row in rows)]
    for (picture, example, boxes), (brain, lines, maps) in zip(axes, drawn, strict=True):
        low, high = WINDOWS[brain.name]["map"]
        reference = np.where(brain.mask[..., 0], brain.reference, np.nan)
        picture.imshow(reference.T, vmin=low, vmax=high, cmap="gray")
        for line in lines:
            picture.plot(line[:, 0], line[:, 1], color="#D55E00", linewidth=1.2)
        x, y = np.nonzero(brain.mask[..., 0])
        picture.set_xlim(x.min() - 2, x.max() + 2)
        picture.set_ylim(y.max() + 2, y.min() - 2)
        picture.axis("off")
        picture.set_title(f"{brain.name}: lines on the reference")
        _example(example, lines[0], maps, present)
        for place, method in enumerate(present):
            chosen = [
                r["slope"] for r in rows if (r["series"], r["method"]) == (brain.name, method.name)
            ]
            numbers = dict(
                zip(
                    ("low", "lower", "median", "upper", "high"),
                    np.percentile(chosen, [0, 25, 50, 75, 100]),
                    strict=True,
                )
            )
            draw_box(boxes, place, numbers, method.colour, 0.8)
        boxes.set_xticks([])
        boxes.set_ylabel("|slope| (1/voxel)")
        boxes.set_title(f"{len(lines)} lines")
    legend_below(figure, [(m.title, m.colour) for m in present])
    save_figure(figure, path)


def _example(
    axis: Any, line: np.ndarray, maps: Mapping[str, np.ndarray], methods: Sequence[Method]
) -> None:
    x = positions()
    fine = np.linspace(x[0], x[-1], 200)
    for method in methods:
        values = along(maps[method.name], line)
        axis.plot(x, values, ".", color=method.colour, markersize=2)
        axis.plot(fine, fit_sigmoid(values)(fine), color=method.colour, linewidth=0.8)
    axis.set_xlabel("voxels from the boundary")
    axis.set_ylabel("T1 (ms)")
    axis.set_title("first line and its fits")
