"""Mosaic of the maps of a run, or of several runs side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from relaxnet.maps.reader import Run, in_one_unit, read_run
from relaxnet.report.panels import (
    Scale,
    beyond,
    chosen_slices,
    coloured_status,
    montage,
    montage_columns,
    plane_of,
    scale_of,
    status_colour,
)
from relaxsim.core.files import write_whole
from relaxsim.core.matplotlib_import import drawable, import_matplotlib

#: Colour of voxels without a value.
_NO_VALUE = "#e4e4e4"
#: Width of a panel with its colour bar, inches.
_WIDTH = 3.2
#: Endings that pictures may have.
_FORMATS = (".png", ".pdf", ".svg", ".jpg", ".webp")


def draw_runs(
    folders: Sequence[str | Path],
    out: str | Path,
    *,
    labels: Sequence[str] = (),
    stems: Sequence[str] = (),
    slices: int = 6,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    dpi: int = 110,
) -> Path:
    """Draw all maps of a run, or chosen maps of several runs, a row each.

    The signal model's border gives fixed ranges for most maps, so that pictures compare; other
    ranges end at the first run's 99th percentile. Voxels without a value (outside the mask, not
    identifiable) are grey.

    Parameters
    ----------
    folders : sequence of path
        Runs.
    out : path
        Picture; its ending names the format.
    labels : sequence of str
        Name of each run; by default the folders' names, if there are several.
    stems : sequence of str
        Maps to draw, such as ``T1map``; by default all of a single run, the parameters of several.
    slices : int
        At most, of a volume.
    ranges : mapping of str to (float, float), optional
        Ranges by stem, in the unit of the first run's map; times of all runs are drawn in it.
    dpi : int

    Returns
    -------
    out : pathlib.Path

    Raises
    ------
    ValueError
        If there are no maps, a map of `stems` does not exist, there are more labels than runs, or
        matplotlib does not write the format that `out` names.
    """
    import_matplotlib()
    from matplotlib.figure import Figure

    out = Path(out)
    if out.suffix.lower() not in _FORMATS:
        raise ValueError(f"{out.name}: expected a picture's ending ({', '.join(_FORMATS)}).")
    runs = [read_run(folder) for folder in folders]
    if not runs:
        raise ValueError("no folder of maps was given.")
    runs = in_one_unit(runs)
    if len(labels) > len(runs):
        raise ValueError(f"{len(labels)} labels for {len(runs)} folders; give one for each.")
    names = [drawable(name) for name in (*labels, *_names(runs)[len(labels) :])]
    rows = _layout(runs, _checked(runs, stems))
    scales = _shared_scales(runs, rows, ranges)
    heights = [_height(runs[index], slices) for index, _ in (row[0] for row in rows)]
    width = max(len(row) for row in rows)
    figure = Figure(figsize=(_WIDTH * width, sum(heights)), layout="constrained")
    grid = figure.subplots(len(rows), width, squeeze=False, height_ratios=heights)
    for axes, row in zip(grid, rows, strict=True):
        for axis in axes[len(row) :]:
            axis.set_axis_off()
        for axis, (index, stem) in zip(axes, row, strict=False):
            label = names[index] if (len(runs) > 1 or labels) and stem == row[0][1] else ""
            _draw(figure, axis, runs[index], stem, scales.get(stem), slices, label)
    if words := _letters(runs):
        figure.supxlabel(words, fontsize=8, color="#444444")
    out.parent.mkdir(parents=True, exist_ok=True)
    with write_whole(out) as temporary:
        figure.savefig(temporary, dpi=dpi, format=out.suffix[1:].lower())
    return out


Cell = tuple[int, str]


def _names(runs: Sequence[Run]) -> list[str]:
    """Names of runs: their BIDS entities where these differ, otherwise their folders' names.

    Folders of the same name are named with as many of the folders above as makes them differ.
    """
    series = [run.series for run in runs]
    if all(series) and len(set(series)) == len(runs) > 1:
        return series
    places = [run.folder.absolute() for run in runs]
    for depth in range(1, max(len(place.parts) for place in places) + 1):
        names = ["/".join(place.parts[-depth:]) for place in places]
        if len(set(names)) == len(set(places)):
            break
    return names


def _checked(runs: Sequence[Run], stems: Sequence[str]) -> list[str]:
    """Maps to draw; by default all of one run, the parameters of several."""
    existing = list(dict.fromkeys(stem for run in runs for stem in run.maps))
    for stem in stems:
        if stem not in existing:
            raise ValueError(f"no map is called {stem}; there are: {', '.join(existing)}.")
    if stems:
        return list(stems)
    return existing if len(runs) == 1 else [stem for stem in existing if stem.endswith("map")]


def _layout(runs: Sequence[Run], stems: Sequence[str]) -> list[list[Cell]]:
    """Rows of panels: of one run parameters, deviations, the rest; of several a row each."""
    if len(runs) > 1:
        if len(stems) == 1:
            return [[(index, stems[0]) for index, run in enumerate(runs) if stems[0] in run.maps]]
        rows = [[(i, s) for s in stems if s in run.maps] for i, run in enumerate(runs)]
        return [row for row in rows if row]
    kinds = [
        [s for s in stems if s.endswith("map")],
        [s for s in stems if s.endswith("std")],
        [s for s in stems if not s.endswith(("map", "std"))],
    ]
    return [[(0, stem) for stem in kind] for kind in kinds if kind]


def _shared_scales(
    runs: Sequence[Run],
    rows: Sequence[Sequence[Cell]],
    ranges: Mapping[str, tuple[float, float]] | None,
) -> dict[str, Scale]:
    """Range of each map: that of the first run that has it."""
    scales: dict[str, Scale] = {}
    for row in rows:
        for index, stem in row:
            if stem != "status" and stem not in scales:
                scales[stem] = scale_of(runs[index], stem, ranges)
    return scales


def _height(run: Run, slices: int) -> float:
    """Height of a row in inches, from the proportions of its montage."""
    plane, count = plane_of(run), len(chosen_slices(run, slices))
    tall, wide = plane.cut(run.mask, 0).shape
    columns = montage_columns(count)
    proportion = tall * plane.aspect * -(-count // columns) / (wide * columns)
    return min(max(0.8 * _WIDTH * proportion, 1.2), 6.0) + 0.4


def _draw(
    figure: Any, axis: Any, run: Run, stem: str, scale: Scale | None, slices: int, label: str
) -> None:
    """One panel with its colour bar, or its legend."""
    plane, chosen = plane_of(run), chosen_slices(run, slices)
    values = montage(run, plane, run.maps[stem].values, chosen)
    shown = montage(run, plane, run.shown(stem), chosen)
    axis.set_facecolor(_NO_VALUE)
    if scale is None:
        picture = coloured_status(values.astype(np.uint8), shown)
        axis.imshow(picture, interpolation="none", aspect=plane.aspect)
        axis.set_title("status", fontsize=10)
        _draw_legend(axis, run)
    else:
        image = axis.imshow(
            np.ma.masked_array(values, ~shown),
            vmin=scale.low,
            vmax=scale.high,
            cmap=scale.colours,
            interpolation="none",
            aspect=plane.aspect,
        )
        axis.set_title(scale.label, fontsize=10)
        below, above = beyond(run, stem, scale)
        ends = {(True, True): "both", (True, False): "min", (False, True): "max"}
        extend = ends.get((below > 0, above > 0), "neither")
        bar = figure.colorbar(image, ax=axis, extend=extend, fraction=0.05, pad=0.03)
        bar.ax.tick_params(labelsize=8)
    axis.set_xticks([])
    axis.set_yticks([])
    if label:
        axis.set_ylabel(label, fontsize=10)


def _draw_legend(axis: Any, run: Run) -> None:
    """Words for the codes that occur."""
    from matplotlib.patches import Patch

    status, mask = run.status, run.mask
    codes, counts = np.unique(status[mask] if status is not None else [], return_counts=True)
    patches = [
        Patch(
            facecolor=status_colour(int(code)),
            label=f"{run.legend.get(int(code), f'code {code}')}, {100 * n / counts.sum():.1f} %",
        )
        for code, n in zip(codes, counts, strict=True)
    ]
    if patches:
        axis.legend(
            handles=patches,
            fontsize=8,
            frameon=False,
            loc="upper center",
            bbox_to_anchor=(0.5, -0.01),
            borderaxespad=0.2,
        )


def _letters(runs: Sequence[Run]) -> str:
    """What lies to the left and at the top of the pictures; empty unless it is one for all runs."""
    found = {plane_of(run).letters for run in runs}
    if len(found) != 1 or (letters := found.pop()) is None:
        return ""
    left, _, top, _ = letters
    return f"left in the pictures: {left}, top: {top}"
