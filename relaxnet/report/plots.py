"""Plots of a report: where the marks of histograms and curves lie; a template draws them as SVG.

They are no pictures of matplotlib, since the page's style colours them, for dark screens too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from relaxnet.report.voxels import VoxelFit

_WIDTH, _HEIGHT = 360, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 18, 12, 42
#: Part of the range that stays free above and below curves, and above bars.
_ROOM, _ROOM_OF_BARS = 0.05, 0.08
#: Fewest and most bins of a histogram.
_BINS = (10, 60)


@dataclass(frozen=True)
class Tick:
    """A mark of an axis: its place in the picture and its text."""

    place: str
    text: str


@dataclass(frozen=True)
class Line:
    """A straight line, with the class that styles it."""

    kind: str
    x1: str
    x2: str
    y1: str
    y2: str


@dataclass(frozen=True)
class Plot:
    """What a plot shows, in the units of the picture.

    Attributes
    ----------
    alt : str
        What it shows, for those who do not see it.
    x_label, y_label : str
    x_ticks, y_ticks : tuple of Tick
    bars : tuple of (x, y, width, height)
    paths : tuple of (class, path data)
    lines : tuple of Line
    dots : tuple of (x, y)
    """

    alt: str
    x_label: str
    y_label: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    bars: tuple[tuple[str, str, str, str], ...] = ()
    paths: tuple[tuple[str, str], ...] = ()
    lines: tuple[Line, ...] = ()
    dots: tuple[tuple[str, str], ...] = ()

    width = _WIDTH
    height = _HEIGHT
    left = _LEFT
    right = _WIDTH - _RIGHT
    top = _TOP
    base = _HEIGHT - _BOTTOM


@dataclass(frozen=True)
class Axes:
    """Plane of a plot: data ranges, and where they lie in the picture."""

    x: tuple[float, float]
    y: tuple[float, float]

    def across(self, value: float) -> float:
        """Horizontal place of a value."""
        span = (self.x[1] - self.x[0]) or 1.0
        return _LEFT + (value - self.x[0]) / span * (_WIDTH - _LEFT - _RIGHT)

    def up(self, value: float) -> float:
        """Vertical place of a value."""
        span = (self.y[1] - self.y[0]) or 1.0
        return _HEIGHT - _BOTTOM - (value - self.y[0]) / span * (_HEIGHT - _TOP - _BOTTOM)

    def x_ticks(self) -> tuple[Tick, ...]:
        """Ticks along the horizontal axis."""
        return tuple(Tick(_places(self.across(v)), _tick_text(v)) for v in ticks(*self.x))

    def y_ticks(self) -> tuple[Tick, ...]:
        """Ticks along the vertical axis."""
        return tuple(Tick(_places(self.up(v)), _tick_text(v)) for v in ticks(*self.y))

    def path(self, x: np.ndarray, y: np.ndarray) -> str:
        """Path data of a curve."""
        points = (
            f"{_places(self.across(a))} {_places(self.up(b))}" for a, b in zip(x, y, strict=True)
        )
        return "M" + "L".join(points)


def histogram(values: np.ndarray, low: float, high: float, x_label: str, alt: str) -> Plot:
    """Histogram between two values, what lies beyond them left out, with a line at the median.

    Parameters
    ----------
    values : array, shape (n,)
    low, high : float
    x_label : str
    alt : str
        What it shows, for those who do not see it.
    """
    bins = int(np.clip(math.sqrt(values.size), *_BINS))
    counts, edges = np.histogram(values, bins, (low, high))
    axes = Axes((low, high), (0.0, (1 + _ROOM_OF_BARS) * max(1, int(counts.max()))))
    base = axes.up(0)
    bars = [
        (
            _places(axes.across(left)),
            _places(axes.up(count)),
            _places(max(axes.across(right) - axes.across(left) - 0.5, 0.5)),
            _places(base - axes.up(count)),
        )
        for count, left, right in zip(counts, edges[:-1], edges[1:], strict=True)
        if count
    ]
    lines = []
    median = float(np.median(values)) if values.size else low
    if low <= median <= high:
        x = _places(axes.across(median))
        lines.append(Line("median", x, x, str(_TOP), _places(base)))
    return Plot(
        alt, x_label, "voxels", axes.x_ticks(), axes.y_ticks(), bars=tuple(bars), lines=tuple(lines)
    )


def curves(fit: VoxelFit, sigma: float, x_label: str, alt: str) -> Plot:
    """Samples of a voxel, its fitted curves and those of its neighbours.

    Parameters
    ----------
    fit : VoxelFit
    sigma : float
        Half the length of the error bars.
    x_label, alt : str
    """
    data = [] if fit.data is None else [fit.data + sigma, fit.data - sigma]
    axes = Axes((0.0, float(fit.grid[-1])), _signal_range([*fit.curves, *fit.neighbours, *data]))
    paths = [("neighbour", axes.path(fit.grid, curve)) for curve in fit.neighbours]
    paths += [("curve", axes.path(fit.grid, curve)) for curve in fit.curves]
    lines, dots = [], []
    for x, value in zip(fit.at, [] if fit.data is None else fit.data, strict=False):
        if np.isfinite(value):
            place = _places(axes.across(x))
            ends = _places(axes.up(value - sigma)), _places(axes.up(value + sigma))
            lines.append(Line("error", place, place, *ends))
            dots.append((place, _places(axes.up(value))))
    return Plot(
        alt,
        x_label,
        "signal (a.u.)",
        axes.x_ticks(),
        axes.y_ticks(),
        paths=tuple(paths),
        lines=tuple(lines),
        dots=tuple(dots),
    )


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers between two values, about `count` of them.

    Examples
    --------
    >>> ticks(0, 3000)
    [0.0, 500.0, 1000.0, 1500.0, 2000.0, 2500.0, 3000.0]
    """
    if not high > low:
        return [low]
    step = (high - low) / count
    power = 10.0 ** math.floor(math.log10(step))
    step = power * next(f for f in (1, 2, 5, 10) if power * f >= step * 0.8)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [float(f"{n * step:.12g}") for n in range(first, last + 1)]


def _signal_range(shown: Sequence[np.ndarray]) -> tuple[float, float]:
    """Range of the vertical axis: from 0, or below it where the signal is negative."""
    values = np.concatenate(shown)
    values = values[np.isfinite(values)]
    top = float(values.max()) if values.size else 1.0
    bottom = min(0.0, float(values.min())) if values.size else 0.0
    room = _ROOM * ((top - bottom) or 1.0)
    return bottom - (room if bottom < 0 else 0), top + room


def _places(value: float) -> str:
    return f"{value:.1f}"


def _tick_text(value: float) -> str:
    return f"{value:.0f}" if 1e3 <= abs(value) < 1e5 else f"{value:g}"
