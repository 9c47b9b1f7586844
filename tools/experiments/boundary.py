"""Sharpness of the boundary of grey and white matter (paper, section 5.3, Fig. 7).

The paper's twenty lines were drawn by hand. Here a rule draws them on the median-filtered map of
the fit with one B (`real_data.Brain.reference`). All methods then have the same lines; the map of
that fit itself is not independent of them. The rule:

1. The reference map, smoothed by a Gaussian of one voxel, crosses half-way between the medians of
   white and grey matter; voxels at the crossing are candidates.
2. A line goes through the crossing along the gradient, `HALF` voxels to both sides. It must stay
   in the mask, its first voxel within the range of white matter, its last one within that of grey
   matter, where it stays for `BEYOND` more voxels, and the smoothed map must rise along it.
3. The first line is that of the steepest gradient; each further one belongs to the candidate that
   is farthest from those taken.

Values along a line are interpolated linearly, and the sigmoid ``V / (1 + exp(-v (x - x0))) + b`` is
fitted by least squares; |v| is the sharpness, per voxel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage, optimize, stats

NUM_LINES = 20
#: Voxels to each side of the crossing, and between samples.
HALF, STEP = 2.5, 0.25
#: Voxels past a line's end that must not show CSF.
BEYOND = 2.0
#: Steepest sigmoid that samples of voxels can show, per voxel.
STEEPEST = 8.0


@dataclass(frozen=True)
class Sigmoid:
    """Fit of one line: y = V / (1 + exp(-v (x - x0))) + b; `residual` is its root mean square."""

    V: float
    v: float
    x0: float
    b: float
    residual: float

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Value at x, in voxels from the crossing."""
        return _sigmoid((self.V, self.v, self.x0, self.b), x)


def positions() -> np.ndarray:
    """Places of a line's samples, voxels from the crossing; white matter is at the negative end."""
    return np.arange(-HALF, HALF + STEP / 2, STEP)


def draw_lines(
    reference: np.ndarray,
    mask: np.ndarray,
    ranges: Mapping[str, tuple[float, float]],
    count: int = NUM_LINES,
) -> np.ndarray:
    """Lines across the boundary, by the rule of this module.

    Parameters
    ----------
    reference : array, shape (X, Y)
        T1 in ms.
    mask : bool array, shape (X, Y)
        Brain.
    ranges : mapping
        ``WM`` and ``GM`` -> lowest and highest T1 in ms.
    count : int

    Returns
    -------
    lines : array, shape (at most count, K, 2)
        Coordinates of the samples, in voxels.
    """
    medians = [
        np.median(reference[mask & (reference > low) & (reference < high)])
        for low, high in (ranges["WM"], ranges["GM"])
    ]
    level = float(np.mean(medians))
    smooth = ndimage.gaussian_filter(np.where(mask, reference, medians[1]).astype(float), 1.0)
    gradient = np.stack(np.gradient(smooth), axis=-1)
    steepness = np.linalg.norm(gradient, axis=-1)
    above = smooth > level
    crossing = mask & (ndimage.binary_dilation(above) & ~above) & (steepness > 0)
    kept, lines = [], []
    for x, y in np.argwhere(crossing):
        unit = gradient[x, y] / steepness[x, y]
        centre = np.array([x, y]) + unit * (level - smooth[x, y]) / steepness[x, y]
        line = centre + positions()[:, None] * unit
        if _is_boundary(line, reference, smooth, mask, ranges):
            kept.append((x, y))
            lines.append(line)
    if not lines:
        return np.zeros((0, len(positions()), 2))
    places = np.array(kept, float)
    first = int(np.argmax([steepness[x, y] for x, y in kept]))
    return np.array(lines)[farthest_points(places, first, count)]


def _is_boundary(
    line: np.ndarray,
    reference: np.ndarray,
    smooth: np.ndarray,
    mask: np.ndarray,
    ranges: Mapping[str, tuple[float, float]],
) -> bool:
    shape = np.array(mask.shape)
    if (line < 0).any() or (line > shape - 1).any():
        return False
    if not mask[tuple(np.round(line).astype(int).T)].all():
        return False
    values = along(reference, line)
    (w_low, w_high), (g_low, g_high) = ranges["WM"], ranges["GM"]
    voxel = round(1 / STEP) + 1
    further = line[-1] + (line[-1] - line[0]) * BEYOND / (2 * HALF)
    past = along(reference, np.linspace(line[-1], further, 5))
    white, grey = values[:voxel], np.append(values[-voxel:], past)
    begins = ((w_low < white) & (white < w_high)).all()
    ends = ((g_low < grey) & (grey < g_high)).all()
    rises = (np.diff(along(smooth, line)) > 0).all()
    return bool(begins and ends and rises)


def farthest_points(places: np.ndarray, first: int, count: int) -> list[int]:
    """Indices of up to `count` points (M, 2): each farthest from those taken before.

    Examples
    --------
    >>> farthest_points(np.array([[0.0, 0], [1, 0], [5, 0], [9, 0]]), 0, 3)
    [0, 3, 2]
    """
    taken = [first]
    distance = np.linalg.norm(places - places[first], axis=1)
    while len(taken) < min(count, len(places)):
        taken.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(places - places[taken[-1]], axis=1))
    return taken


def along(values: np.ndarray, line: np.ndarray) -> np.ndarray:
    """Map (X, Y) at the samples (K, 2) of a line, interpolated linearly."""
    return ndimage.map_coordinates(values.astype(float), line.T, order=1, mode="nearest")


def fit_sigmoid(y: np.ndarray, x: np.ndarray | None = None) -> Sigmoid:
    """Sigmoid of least squares through the samples of a line.

    Parameters
    ----------
    y : array, shape (K,)
        Values.
    x : array, shape (K,), optional
        Voxels from the crossing; default `positions`.
    """
    x = positions() if x is None else x
    rise = float(y[-1] - y[0])
    span = max(float(np.ptp(y)), 1e-9)
    sign = 1.0 if rise >= 0 else -1.0
    low = [-3 * span, 0.05, x[0], y.min() - 2 * span]
    high = [3 * span, STEEPEST, x[-1], y.max() + 2 * span]
    best = None
    for steepness in (0.7, 2.0, 5.0):
        begin = (sign * span, steepness, 0.0, y[0])
        found = optimize.least_squares(
            lambda p: _sigmoid(p, x) - y, begin, bounds=(low, high), x_scale=(span, 1, 1, span)
        )
        best = found if best is None or found.cost < best.cost else best
    V, v, x0, b = (float(value) for value in best.x)
    return Sigmoid(V, v, x0, b, float(np.sqrt(2 * best.cost / len(x))))


def _sigmoid(p: tuple[float, ...] | np.ndarray, x: np.ndarray) -> np.ndarray:
    V, v, x0, b = p
    return V / (1 + np.exp(-v * (x - x0))) + b


def paired_p(first: np.ndarray, second: np.ndarray) -> float:
    """Two-sided p of a paired t-test; 1 where the two are alike."""
    if np.allclose(first, second):
        return 1.0
    return float(stats.ttest_rel(first, second).pvalue)
