"""Plots of a report: histograms and curves as inline SVG, coloured by the page's style."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from relaxnet.report.html import Html, element

_WIDTH, _HEIGHT = 360, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 18, 12, 42


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


def histogram(values: np.ndarray, low: float, high: float, x_label: str, alt: str) -> Html:
    """Histogram between two values, what lies beyond them left out, with a line at the median.

    Parameters
    ----------
    values : array, shape (n,)
    low, high : float
    x_label : str
    alt : str
        What it shows, for those who do not see it.
    """
    bins = int(np.clip(math.sqrt(values.size), 10, 60))
    counts, edges = np.histogram(values, bins, (low, high))
    axes = Axes((low, high), (0.0, 1.08 * max(1, int(counts.max()))))
    base = axes.up(0)
    bars = [
        element(
            "rect",
            x=_places(axes.across(left)),
            y=_places(axes.up(count)),
            width=_places(max(axes.across(right) - axes.across(left) - 0.5, 0.5)),
            height=_places(base - axes.up(count)),
        )
        for count, left, right in zip(counts, edges[:-1], edges[1:], strict=True)
        if count
    ]
    marks = []
    median = float(np.median(values)) if values.size else low
    if low <= median <= high:
        x = _places(axes.across(median))
        marks = [element("line", x1=x, x2=x, y1=_TOP, y2=_places(base), class_="median")]
    return _plot(axes, [element("g", bars, class_="bars"), *marks], x_label, "voxels", alt)


def curves(
    tau: np.ndarray,
    data: np.ndarray | None,
    sigma: float,
    times: np.ndarray,
    curve: np.ndarray,
    neighbours: Sequence[np.ndarray],
    x_label: str,
    alt: str,
) -> Html:
    """Samples of a voxel, its fitted curve and those of its neighbours.

    Parameters
    ----------
    tau : array, shape (N,)
        Times of the samples in ms.
    data : array, shape (N,), or None
    sigma : float
        Half the length of the error bars.
    times : array, shape (M,)
        Of the curves.
    curve : array, shape (M,)
    neighbours : sequence of arrays, shape (M,)
    x_label, alt : str
    """
    shown = [curve, *neighbours, *([] if data is None else [data + sigma, data - sigma])]
    joined = np.concatenate(shown)
    joined = joined[np.isfinite(joined)]
    top = float(joined.max()) if joined.size else 1.0
    bottom = min(0.0, float(joined.min())) if joined.size else 0.0
    room = 0.05 * ((top - bottom) or 1.0)
    axes = Axes((0.0, float(times[-1])), (bottom - (room if bottom < 0 else 0), top + room))
    content = [element("path", d=_path(axes, times, n), class_="neighbour") for n in neighbours]
    content.append(element("path", d=_path(axes, times, curve), class_="curve"))
    if data is not None:
        content += _samples(axes, tau, data, sigma)
    return _plot(axes, content, x_label, "signal (a.u.)", alt)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers between two values, about so many.

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


def _samples(axes: Axes, tau: np.ndarray, data: np.ndarray, sigma: float) -> list[Html]:
    marks = []
    for t, value in zip(tau, data, strict=True):
        if not np.isfinite(value):
            continue
        x = _places(axes.across(t))
        low, high = _places(axes.up(value - sigma)), _places(axes.up(value + sigma))
        marks.append(element("line", x1=x, x2=x, y1=low, y2=high, class_="error"))
        marks.append(element("circle", cx=x, cy=_places(axes.up(value)), r=3, class_="sample"))
    return marks


def _path(axes: Axes, times: np.ndarray, values: np.ndarray) -> str:
    points = (
        f"{_places(axes.across(t))} {_places(axes.up(v))}"
        for t, v in zip(times, values, strict=True)
    )
    return "M" + "L".join(points)


def _plot(axes: Axes, content: list[Html], x_label: str, y_label: str, alt: str) -> Html:
    """Frame, ticks and labels around the content."""
    base, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts: list[Html] = []
    for value in ticks(*axes.y):
        y = _places(axes.up(value))
        parts.append(element("line", x1=_LEFT, x2=right, y1=y, y2=y, class_="grid"))
        parts.append(
            element("text", _tick(value), x=_LEFT - 5, y=f"{float(y) + 4:.1f}", class_="y")
        )
    for value in ticks(*axes.x):
        x = _places(axes.across(value))
        parts.append(element("line", x1=x, x2=x, y1=base, y2=base + 4, class_="axis"))
        parts.append(element("text", _tick(value), x=x, y=base + 16, class_="x"))
    parts.append(element("line", x1=_LEFT, x2=right, y1=base, y2=base, class_="axis"))
    middle = (_LEFT + right) / 2
    parts.append(element("text", x_label, x=middle, y=_HEIGHT - 6, class_="x label"))
    turned = f"translate(12 {(_TOP + base) / 2}) rotate(-90)"
    parts.append(element("text", y_label, transform=turned, class_="x label"))
    return element(
        "svg",
        element("title", alt),
        element("g", parts, content, aria_hidden="true"),
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_label=alt,
        class_="plot",
    )


def _places(value: float) -> str:
    return f"{value:.1f}"


def _tick(value: float) -> str:
    return f"{value:.0f}" if 1e3 <= abs(value) < 1e5 else f"{value:g}"
