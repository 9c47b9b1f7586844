"""Search for the minima of all voxels on a grid of T and the polarity.

The algebra and its notation are those of `relaxnet.fitting.separable`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from relaxnet.fitting.inner_problem import profile
from relaxnet.fitting.parallel import product
from relaxnet.fitting.separable import (
    RATIO,
    Problem,
    columns,
    divide,
    dot,
    interval,
    neighbours,
    with_polarity,
)

#: Largest grid step of log T.
STEP = 0.1
#: Largest rise of R between grid points, relative to its change from point to point.
SLACK = 0.5
#: Rounding of the float32 search, relative to |S|^2.
ROUNDING = 3e-6


@dataclass(frozen=True)
class Grid:
    """Cones of all (T, k), as columns; a zero column separates one k from the next.

    Attributes
    ----------
    m, w : arrays, shape (N, M), float32
        Orthonormal pair of each cone, with its polarity. `w` is None where all cones are rays.
    cos, sin : arrays, shape (M,), float32
        Of the half-angle.
    norms : array, shape (2, M)
        Norms of the two edges at A = 1.
    x : array, shape (M,)
        log T.
    k : int array, shape (M,)
        Number of negative samples.
    ends : array, shape (M, 2)
        Range of log T of this k.
    step : array, shape (M,)
        Grid step of log T; 0 for separators.
    """

    m: np.ndarray
    w: np.ndarray | None
    cos: np.ndarray
    sin: np.ndarray
    norms: np.ndarray
    x: np.ndarray
    k: np.ndarray
    ends: np.ndarray
    step: np.ndarray


def make_grid(problem: Problem) -> Grid:
    """Cones of every polarity, each on a grid in log T over the range where it occurs."""
    parts = [_segment(problem, k, *ends) for k, ends in zip(*problem.ranges, strict=True)]
    m, w, cos, sin, norms, x, k, ends, step = (np.concatenate(v) for v in zip(*parts, strict=True))
    return Grid(
        np.ascontiguousarray(m.T, dtype=np.float32),
        np.ascontiguousarray(w.T, dtype=np.float32) if (sin > 0).any() else None,
        cos.astype(np.float32),
        sin.astype(np.float32),
        norms.T,
        x,
        k,
        ends,
        step,
    )


def _segment(problem: Problem, k: int, low: float, high: float) -> tuple[np.ndarray, ...]:
    """Cones of one k from log T `low` to `high`, between two zero columns."""
    x = np.linspace(low, high, max(3, int(np.ceil((high - low) / STEP)) + 1))
    phi = columns(problem, np.exp(x))
    if problem.kind == "ray":
        edges, second = (phi[0], phi[0]), phi[0]
    else:
        ends = problem.bounds[RATIO][:, None] * np.ones(len(x))
        if problem.polarity:
            ends = interval(problem, phi, neighbours(np.full(len(x), k)))
        low_edge, high_edge = (phi[0] + r[:, None] * phi[1] for r in ends)
        edges, second = (low_edge, high_edge), phi[1]
    if problem.polarity:
        sign = np.where(np.arange(problem.num_images) < k, -1.0, 1.0)
        edges, second = (edges[0] * sign, edges[1] * sign), second * sign
    first, last = (_unit(edge) for edge in edges)
    m = _unit(first + last)
    w = _unit(second - dot(second, m)[:, None] * m)
    cos = np.clip(dot(first, m), 0.0, 1.0)
    sin = np.abs(dot(last, w)) if problem.kind == "ratio" else np.zeros_like(cos)
    norms = np.stack([np.sqrt(dot(edge, edge)) for edge in edges], axis=-1)
    step = np.full(len(x), max(x[1] - x[0], 1e-12))
    pad = ((1, 1), (0, 0))
    flat = [np.pad(v, (1, 1)) for v in (cos, sin, x, step)]
    return (
        np.pad(m, pad),
        np.pad(w, pad),
        flat[0],
        flat[1],
        np.pad(norms, pad),
        flat[2],
        np.full(len(x) + 2, k),
        np.full((len(x) + 2, 2), (low, high)),
        flat[3],
    )


def _unit(v: np.ndarray) -> np.ndarray:
    return divide(v, np.sqrt(dot(v, v))[:, None])


def reductions(grid: Grid, S: np.ndarray, amplitudes: np.ndarray | None = None) -> np.ndarray:
    """Part of |S|^2 that each cone explains.

    Parameters
    ----------
    grid : Grid
    S : array, shape (n, N), float32
        In the problem's order.
    amplitudes : array, shape (n, 2), optional
        Bounds of A in the unit of S; without them A is only not negative.

    Returns
    -------
    R : array, shape (n, M), float32
    """
    y1 = product(S, grid.m)
    y2 = np.zeros((1, 1), np.float32) if grid.w is None else product(S, grid.w)
    if amplitudes is not None:
        return _bounded(grid, y1, y2, amplitudes)
    if grid.w is None:
        np.maximum(y1, 0.0, out=y1)
        return np.square(y1, out=y1)
    np.abs(y2, out=y2)
    edge = y1 * grid.cos
    edge += y2 * grid.sin
    np.maximum(edge, 0.0, out=edge)
    np.square(edge, out=edge)
    inside = y1 * grid.sin >= y2 * grid.cos
    np.square(y1, out=y1)
    y1 += np.square(y2, out=y2)
    return np.where(inside, y1, edge)


def _bounded(grid: Grid, y1: np.ndarray, y2: np.ndarray, amplitudes: np.ndarray) -> np.ndarray:
    """R with A between its bounds; otherwise R of the nearest point with A on the bound.

    In the plane of (m, w) the points of amplitude A lie between A p0 and A p1, p0 and p1 being
    the edges at A = 1, and ``A = n.z`` for every z of the cone.
    """
    q0, q1 = grid.norms
    n1 = divide(divide(0.5, q0) + divide(0.5, q1), grid.cos)
    n2 = divide(divide(0.5, q1) - divide(0.5, q0), grid.sin)
    side = np.sign(y2)
    edge = np.maximum(y1 * grid.cos + np.abs(y2) * grid.sin, 0.0)
    inside = y1 * grid.sin >= np.abs(y2) * grid.cos
    z1 = np.where(inside, y1, edge * grid.cos)
    z2 = np.where(inside, y2, edge * grid.sin * side)
    wanted = n1 * z1 + n2 * z2
    A = np.clip(wanted, amplitudes[:, :1], amplitudes[:, 1:])
    p1, p2 = grid.cos * q0, -grid.sin * q0
    d1, d2 = grid.cos * (q1 - q0), grid.sin * (q1 + q0)
    d = np.maximum(d1**2 + d2**2, 1e-30)
    along = (y1 - A * p1) * d1 + (y2 - A * p2) * d2
    t = np.clip(divide(along, A * d), 0.0, 1.0)
    on_bound = A != wanted
    z1 = np.where(on_bound, A * (p1 + t * d1), z1)
    z2 = np.where(on_bound, A * (p2 + t * d2), z2)
    return (2.0 * (y1 * z1 + y2 * z2) - z1**2 - z2**2).astype(np.float32)


def exact_reductions(problem: Problem, grid: Grid, S: np.ndarray) -> np.ndarray:
    """R from the inner minimum, for models whose possible signals are no cone."""
    R = np.zeros((len(S), len(grid.x)))
    S = S.astype(np.float64)
    total = dot(S, S)
    for column in np.flatnonzero(grid.step):
        x = np.full(len(S), grid.x[column])
        k = np.full(len(S), grid.k[column])
        R[:, column] = total - profile(problem, x, neighbours(k), with_polarity(S, k)).cost
    return R


def candidates(grid: Grid, R: np.ndarray) -> tuple[np.ndarray, ...]:
    """Candidates of the global minimum: local maxima of R that could be the largest.

    Between two grid points R may exceed both of them. The excess is a fraction of the change of R
    between neighbouring points: an eighth for a parabola, and up to `SLACK` where r reaches or
    leaves an edge of the cone, since the curvature changes there.

    Parameters
    ----------
    grid : Grid
    R : array, shape (n, M)
        `reductions` of samples of unit norm.

    Returns
    -------
    voxel, k : int arrays, shape (c,)
        `voxel` ascends; every voxel has at least one candidate.
    x : array, shape (c,)
        log T.
    ends : array, shape (c, 2)
        Range of log T of this k.
    """
    R = _above_separators(grid, R)
    here = R[:, 1:-1]
    best = R.max(axis=1)
    peak = here >= R[:, :-2]
    peak &= here >= R[:, 2:]
    peak &= here >= np.maximum(0.5 * best, np.finfo(R.dtype).tiny)[:, None]
    peak[best <= 0, 0] = True  # no cone explains anything: take any candidate
    voxel, column = np.divmod(np.flatnonzero(peak), peak.shape[1])
    column += 1
    drops = _changes(grid, R, voxel, column)
    keep = R[voxel, column] + SLACK * np.abs(drops).max(axis=0) + ROUNDING >= best[voxel]
    voxel, column, left, right = voxel[keep], column[keep], *drops[:2, keep]
    inner = (grid.step[column - 1] > 0) & (grid.step[column + 1] > 0)
    shift = np.where(inner, 0.5 * divide(left - right, left + right), 0.0)
    x = grid.x[column] + shift * grid.step[column]
    return voxel, grid.k[column], x, grid.ends[column]


def _above_separators(grid: Grid, R: np.ndarray) -> np.ndarray:
    """R, shifted to positive values in voxels whose R is negative in all real columns.

    That happens where the bounds of A exclude the best amplitudes. The columns that separate the
    polarities are 0 and would win there. Only differences of R count.
    """
    real = grid.step > 0
    below = np.flatnonzero(R[:, real].max(axis=1) <= 0)
    if below.size:
        R = R.copy()
        lifted = R[below] - R[below][:, real].min(axis=1, keepdims=True) + 1.0
        R[below] = np.where(real, lifted, 0.0)
    return R


def _changes(grid: Grid, R: np.ndarray, voxel: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Changes of R to the left and right neighbour of a column, and from these to the next."""
    last = len(grid.x) - 1
    out = []
    for side in (-1, 1):
        inner = R[voxel, column]
        for distance in (1, 2):
            i = np.clip(column + distance * side, 0, last)
            real = (grid.step[i] > 0) & (grid.k[i] == grid.k[column])
            outer = np.where(real, R[voxel, i], inner)
            out.append(inner - outer)
            inner = outer
    return np.stack([out[0], out[2], out[1], out[3]])
