"""How a map becomes a picture: its range, its colours, its slices and their orientation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from relaxnet.maps.reader import Run
from relaxnet.maps.status import (
    AT_BOUND,
    DISAGREE,
    INVALID,
    NO_CORRECTION,
    NO_SIGNAL,
    NOT_IDENTIFIABLE,
    OK,
    POOR_FIT,
    UNTRAINED,
)
from relaxnet.report.facts import parameter_of, unit_factor

#: Range of the residual in units of sigma: 1 is that of noise alone.
_RESIDUAL_RANGE = (0.0, 3.0)
#: Without a range of its own a standard deviation ends at this part of its map's 99th percentile.
_STD_PART = 0.1
#: Colours of the status codes, which differ with any colour vision (Okabe and Ito; Tol).
STATUS_COLOURS = {
    OK: "#56b4e9",
    NO_SIGNAL: "#882255",
    INVALID: "#ffffff",
    AT_BOUND: "#e69f00",
    NOT_IDENTIFIABLE: "#d55e00",
    UNTRAINED: "#cc79a7",
    POOR_FIT: "#f0e442",
    DISAGREE: "#009e73",
    NO_CORRECTION: "#0072b2",
}
_OTHER_STATUS = "#5b5b5b"
#: World axis of each direction's letter.
_WORLD = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}
_OPPOSITE = dict(zip("RLAPSI", "LRPAIS", strict=True))
#: What lies to the left or at the top of a picture, by world axis.
_SIDE = {0: "R", 1: "A", 2: "S"}
_MARGIN = 2


@dataclass(frozen=True)
class Scale:
    """Range and colours of a map.

    Attributes
    ----------
    low, high : float
    label : str
        Name and unit.
    colours : str
        Matplotlib's name of a perceptually uniform colour map.
    """

    low: float
    high: float
    label: str
    colours: str


@dataclass(frozen=True)
class Plane:
    """How slices are cut, turned and cropped.

    Attributes
    ----------
    axis : int
        Across the slices.
    transposed : bool
        The picture's rows run along the second axis of the plane, not the first.
    flips : (bool, bool)
        Rows and columns run against the index.
    rows, columns : slice
        Of the turned slice: the box around the mask.
    letters : tuple of str, or None
        What lies to the left, right, top and bottom; None if the header does not say.
    aspect : float
        Height of a voxel over its width.
    """

    axis: int
    transposed: bool
    flips: tuple[bool, bool]
    rows: slice
    columns: slice
    letters: tuple[str, str, str, str] | None
    aspect: float

    def cut(self, volume: np.ndarray, index: int) -> np.ndarray:
        """Slice as it is shown: rows from the top, columns from the left."""
        return self._turned(np.take(volume, index, axis=self.axis))[self.rows, self.columns]

    def _turned(self, plane: np.ndarray) -> np.ndarray:
        plane = plane.T if self.transposed else plane
        plane = plane[::-1] if self.flips[0] else plane
        return plane[:, ::-1] if self.flips[1] else plane


def scale_of(run: Run, stem: str, ranges: Mapping[str, tuple[float, float]] | None = None) -> Scale:
    """Range and colours of a map: its border's, or up to the 99th percentile where units are free.

    Parameters
    ----------
    run : Run
    stem : str
        Of the map.
    ranges : mapping, optional
        Ranges by stem that go before the border's, in the map's unit.
    """
    title, unit = run.maps[stem].title, unit_words(run, stem)
    label = f"{title} ({unit})" if unit else title
    fixed = _fixed_range(run, stem)
    if ranges and stem in ranges:
        low, high = ranges[stem]
    elif fixed is not None:
        low, high = fixed
    else:
        low, high = 0.0, _percentile(run, stem)
    return Scale(low, high, label, _colours(run, stem))


def _fixed_range(run: Run, stem: str) -> tuple[float, float] | None:
    """Range in the map's unit that is the same for all series; None where there is none."""
    if stem == "residual":
        return _RESIDUAL_RANGE
    if (found := parameter_of(run, stem)) is None:
        return None
    _, border = found
    limits = border.std_range if stem.endswith("std") else border.range
    if limits is None:
        return None
    factor = unit_factor(run, stem)
    return factor * limits[0], factor * limits[1]


def _colours(run: Run, stem: str) -> str:
    """Colour map by what a map holds: deviations, an amplitude, a time, another parameter."""
    if stem.endswith("std") or stem == "residual":
        return "magma"
    found = parameter_of(run, stem)
    unit = run.maps[stem].unit if found is None else found[0].unit
    return {"a.u.": "gray", "ms": "viridis", "s": "viridis"}.get(unit, "cividis")


def plane_of(run: Run) -> Plane:
    """How the slices of a run are shown.

    With a place in space, the patient's right is to the left (radiological convention), anterior
    or superior at the top; without one, the first axis runs to the right and the second upwards.
    The box is that of the mask with a margin.
    """
    axis = run.slice_axis
    first, second = (a for a in range(3) if a != axis)
    if run.codes is None:
        plane = Plane(axis, True, (True, False), slice(None), slice(None), None, 1.0)
        vertical, horizontal = second, first
    else:
        worlds = {a: _WORLD[run.codes[a]] for a in (first, second)}
        vertical = max(worlds, key=worlds.__getitem__)
        horizontal = first if vertical == second else second
        left, top = _SIDE[worlds[horizontal]], _SIDE[worlds[vertical]]
        flips = run.codes[vertical] == top, run.codes[horizontal] == left
        letters = (left, _OPPOSITE[left], top, _OPPOSITE[top])
        plane = Plane(axis, vertical == second, flips, slice(None), slice(None), letters, 1.0)
    outline = plane._turned(np.asarray(run.mask.any(axis)))
    rows, columns = (_around(np.asarray(outline.any(side))) for side in (1, 0))
    aspect = run.zooms[vertical] / run.zooms[horizontal]
    return replace(plane, rows=rows, columns=columns, aspect=min(max(aspect, 0.1), 10.0))


def chosen_slices(run: Run, most: int = 6) -> list[int]:
    """Slices to show: all that hold the mask, or `most` evenly spaced ones among them."""
    axes = tuple(a for a in range(3) if a != run.slice_axis)
    filled = np.flatnonzero(run.mask.any(axis=axes))
    if not filled.size:
        return [run.shape[run.slice_axis] // 2]
    if len(filled) <= most:
        return [int(i) for i in filled]
    positions = (np.arange(most) + 0.5) / most * len(filled)
    return [int(filled[int(p)]) for p in positions.clip(0, len(filled) - 1)]


def montage(run: Run, plane: Plane, volume: np.ndarray, slices: list[int]) -> np.ndarray:
    """Slices side by side, in `montage_columns` columns; missing places hold 0."""
    pictures = [plane.cut(volume, index) for index in slices]
    columns = montage_columns(len(slices))
    empty = np.zeros_like(pictures[0])
    pictures += [empty] * (-len(pictures) % columns)
    rows = [np.hstack(pictures[i : i + columns]) for i in range(0, len(pictures), columns)]
    return np.vstack(rows)


def montage_columns(count: int) -> int:
    """Columns of a montage: 1, 2, 2 (of 3 and 4), 3, ..."""
    return math.ceil(math.sqrt(count))


def coloured_status(status: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Picture of status codes, shape (h, w, 4), uint8; transparent outside the mask."""
    picture = np.zeros((*status.shape, 4), np.uint8)
    for code in np.unique(status[shown]):
        picture[shown & (status == code)] = (*rgb(status_colour(int(code))), 255)
    return picture


def status_colour(code: int) -> str:
    """Colour of a status code, ``#rrggbb``."""
    return STATUS_COLOURS.get(code, _OTHER_STATUS)


def beyond(run: Run, stem: str, scale: Scale) -> tuple[float, float]:
    """Share of a map's voxels below and above its range."""
    values = run.maps[stem].values[run.shown(stem)]
    if not values.size:
        return 0.0, 0.0
    return float((values < scale.low).mean()), float((values > scale.high).mean())


def rgb(colour: str) -> tuple[int, int, int]:
    """Levels of a colour ``#rrggbb``."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def unit_words(run: Run, stem: str) -> str:
    """Unit of a map in words; empty if it has none. BIDS's names of a unit become the model's."""
    unit, found = run.maps[stem].unit, parameter_of(run, stem)
    if found is not None and unit == found[1].bids_unit and found[1].bids_factor == 1.0:
        unit = found[0].unit
    return {"sigma": "in units of sigma", "1": ""}.get(unit, unit)


def _percentile(run: Run, stem: str) -> float:
    """A round number near the 99th percentile of ok voxels; of a deviation a part of its map's."""
    source = stem.removesuffix("std") + "map" if stem.endswith("std") else stem
    source = source if source in run.maps else stem
    keep, status = run.shown(source), run.status
    if status is not None and (keep & (status == OK)).any():
        keep = keep & (status == OK)
    values = run.maps[source].values[keep]
    top = float(np.percentile(values, 99)) if values.size else 1.0
    top = top * _STD_PART if source != stem else top
    if not top > 0:
        return 1.0
    digit = 10.0 ** math.floor(math.log10(top) - 1)
    return math.ceil(top / digit) * digit


def _around(used: np.ndarray) -> slice:
    """Range of the true entries with a margin; everything if there are none."""
    places = np.flatnonzero(used)
    if not places.size:
        return slice(0, len(used))
    return slice(max(0, int(places[0]) - _MARGIN), min(len(used), int(places[-1]) + 1 + _MARGIN))
