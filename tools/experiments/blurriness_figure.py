"""The figure of the blurriness experiment, laid out like the paper's Fig. 3."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from figures import FIVE, PAGE, draw_box, legend_below, offsets, save_figure, subplots
from methods import Method

from relaxsim.phantoms.phantoms import Phantom
from relaxsim.phantoms.structures import STRUCTURES

#: The paper's largest relative bias of the RIM in a structure, per cent.
PAPER = 3.43
#: Voxels on each side of a structure that are shown.
AROUND = 8
PANELS = (
    ("bias", "structure"),
    ("bias", "neighborhood"),
    ("cv", "structure"),
    ("cv", "neighborhood"),
)
#: Boxes and whiskers that leave this range of the bias are cut, per cent.
BIASES, TICKS = (-100.0, 300.0), (-100, -30, -10, -5, 0, 5, 10, 30, 100, 300)
LEVELS = ((0.01, "**"), (0.05, "*"))


def draw(
    rows: Sequence[dict[str, Any]], methods: Sequence[Method], phantom: Phantom, path: Path
) -> None:
    """The structures, then bias and CV in them and around them, E1 (pale) beside E2."""
    figure, axes = subplots(5, 1, PAGE, 8.8, height_ratios=[1.35, 1, 1, 1, 1])
    _draw_structures(figure, axes[0, 0], phantom)
    limit = None
    by_key = {(r["method"], r["structure"], r["region"], r["scenario"]): r for r in rows}
    for axis, (metric, region) in zip(axes[1:, 0], PANELS, strict=True):
        limit = _draw_panel(axis, by_key, methods, metric, region) or limit
        axis.set_ylabel(
            f"{'relative bias' if metric == 'bias' else 'CV'} (%)\n{region.replace('bor', 'bour')}"
        )
    entries = [(method.title, method.colour) for method in methods]
    legend_below(figure, [*entries, ("pale: E1, without structures", "#e5e5e5")], [limit])
    save_figure(figure, path)


def _draw_panel(
    axis: Any, by_key: dict, methods: Sequence[Method], metric: str, region: str
) -> Any:
    """Draw one metric in one region; returns the line of the paper's bias, if it is drawn."""
    limit = None
    places, width = offsets(2 * len(methods))
    for i, structure in enumerate(STRUCTURES):
        for m, method in enumerate(methods):
            pair = [by_key.get((method.name, structure.name, region, s)) for s in ("E1", "E2")]
            if None in pair:
                continue
            for s, row in enumerate(pair):
                colour = method.colour if s else _pale(method.colour)
                place = i + places[2 * m + s]
                if metric == "bias":
                    shown = {name: float(np.clip(row[name], *BIASES)) for name in FIVE}
                    draw_box(axis, place, shown, colour, width)
                else:
                    bar = {"color": colour, "edgecolor": "black", "linewidth": 0.4}
                    error = {"yerr": row["cv_sd"], "error_kw": {"linewidth": 0.6}}
                    axis.bar(place, row["cv"], 0.9 * width, **bar, **error)
            mark = next((m for level, m in LEVELS if pair[1][f"p_{metric}"] < level), "")
            middle = i + places[2 * m : 2 * m + 2].mean()
            axis.annotate(
                mark, (middle, 1.0), xycoords=("data", "axes fraction"), ha="center", fontsize=7
            )
    if metric == "bias":
        axis.axhline(0.0, color="black", linewidth=0.5)
        for value in (-PAPER, PAPER):
            limit = axis.axhline(value, color="black", linewidth=0.6, linestyle=":")
        limit.set_label(f"paper's RIM, hypo-intense point: {PAPER:g} %")
        axis.set_yscale("symlog", linthresh=10.0, linscale=1.5)
        axis.set_yticks(TICKS, [str(tick) for tick in TICKS])
        axis.set_ylim(*BIASES)
    else:
        axis.set_yscale("log")
        axis.set_yticks([1, 3, 10, 30, 100], ["1", "3", "10", "30", "100"])
        axis.set_ylim(0.7, 200.0)
    axis.minorticks_off()
    axis.set_xticks(range(len(STRUCTURES)), [s.name for s in STRUCTURES])
    axis.grid(axis="x", visible=False)
    return limit


def _draw_structures(figure: Any, axis: Any, phantom: Phantom) -> None:
    """Truth of the slice, and of each structure with its neighbourhood outlined."""
    axis.axis("off")
    T = phantom.kappa[:, :, 0, -1]
    top = 2.5 * float(np.median(T[phantom.labels[:, :, 0] == 3]))
    picture = axis.inset_axes([0.0, 0.0, 0.24, 1.0])
    shown = picture.imshow(T.T, origin="lower", cmap="gray", vmin=0, vmax=top)
    picture.set_title(f"true {phantom.model.main}")
    for number, structure in enumerate(STRUCTURES, start=1):
        inside = phantom.regions[f"structure-{number}"][:, :, 0]
        x, y = (round(float(c)) for c in np.argwhere(inside).mean(axis=0))
        side = AROUND + 0.5
        picture.plot(x, y, "s", markersize=6, fillstyle="none", color="#D55E00", markeredgewidth=1)
        small = axis.inset_axes([0.26 + 0.17 * (number - 1), 0.1, 0.155, 0.75])
        small.imshow(T.T, origin="lower", cmap="gray", vmin=0, vmax=top)
        region = phantom.regions[f"neighborhood-{number}"][:, :, 0] | inside
        small.contour(region.T, levels=[0.5], colors="#D55E00", linewidths=0.8)
        small.set_xlim(x - side, x + side)
        small.set_ylim(y - side, y + side)
        small.set_title(structure.name.replace("hyper-intense ", "hyper-intense\n"))
        _hide(small)
    _hide(picture)
    bar = figure.colorbar(shown, ax=axis, fraction=0.02, pad=0.0)
    bar.set_label(f"{phantom.model.main} (ms)")


def _hide(axis: Any) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    axis.grid(visible=False)


def _pale(colour: str) -> str:
    """The colour mixed with white, for E1."""
    parts = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return "#" + "".join(f"{(c + 2 * 255) // 3:02x}" for c in parts)
