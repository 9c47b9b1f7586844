"""Search along the relaxation time: a grid for all voxels at once, then a refinement of each.

The algebra and its notation are those of `relaxnet.separable`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from relaxnet.separable import (
    Problem,
    columns,
    divide,
    dot,
    interval,
    profile,
    ranges,
    with_polarity,
)

#: Largest grid step of log T.
STEP = 0.12
#: Refinement stops when log T moves by less.
TOLERANCE = 1e-8
MAX_ITERATIONS = 80
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
    parts = [_segment(problem, k, *ends) for k, ends in zip(*ranges(problem), strict=True)]
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
        ends = problem.bounds[1][:, None] * np.ones(len(x))
        if problem.polarity:
            ends = interval(problem, phi, np.full(len(x), k))
        edges, second = tuple(phi[0] + r[:, None] * phi[1] for r in ends), phi[1]
    if problem.polarity:
        sign = np.where(np.arange(len(problem.tau)) < k, -1.0, 1.0)
        edges, second = tuple(edge * sign for edge in edges), second * sign
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


# --- search --------------------------------------------------------------------------------------


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
    y1 = S @ grid.m
    y2 = np.zeros((1, 1), np.float32) if grid.w is None else S @ grid.w
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
    """R with A between its bounds: where it is not, of the nearest point with A on the bound.

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
    """R by the inner minimum itself, for models whose feasible signals are no cone."""
    R = np.zeros((len(S), len(grid.x)))
    S = S.astype(np.float64)
    total = dot(S, S)
    for column in np.flatnonzero(grid.step):
        x = np.full(len(S), grid.x[column])
        k = np.full(len(S), grid.k[column])
        R[:, column] = total - profile(problem, x, k, with_polarity(S, k))[0]
    return R


def candidates(grid: Grid, R: np.ndarray) -> tuple[np.ndarray, ...]:
    """Candidates of the global minimum: local maxima of R that could be the largest.

    The maximum between grid points exceeds that of a parabola through them by a fraction of the
    drop to the neighbours (an eighth, half a step away; a third, a full step beyond the end).

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
    here = R[:, 1:-1]
    best = R.max(axis=1)
    peak = (here >= R[:, :-2]) & (here >= R[:, 2:]) & (here >= 0.5 * best[:, None]) & (here > 0)
    peak[best <= 0, 0] = True  # nothing is explained: any candidate will do
    voxel, column = np.nonzero(peak)
    column += 1
    top = R[voxel, column]
    real = np.stack([grid.step[column - 1] > 0, grid.step[column + 1] > 0])
    drop = np.where(real, top - np.stack([R[voxel, column - 1], R[voxel, column + 1]]), 0.0)
    inner = real.all(axis=0)
    keep = top + np.where(inner, 0.3, 0.7) * drop.max(axis=0) + ROUNDING >= best[voxel]
    voxel, column, drop, inner = voxel[keep], column[keep], drop[:, keep], inner[keep]
    shift = np.where(inner, 0.5 * divide(drop[0] - drop[1], drop.sum(axis=0)), 0.0)
    x = grid.x[column] + shift * grid.step[column]
    return voxel, grid.k[column], x, grid.ends[column]


# --- refinement ----------------------------------------------------------------------------------


def refine(
    problem: Problem, S: np.ndarray, k: np.ndarray, x: np.ndarray, ends: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Local minimum of the cost along log T, from x.

    A secant iteration on the slope; once the slope has been seen with both signs, its root stays
    bracketed, so that the end is a minimum and not a maximum.

    Parameters
    ----------
    S : array, shape (n, N), float64
    k, x : arrays, shape (n,)
    ends : array, shape (n, 2)
        Range of log T.

    Returns
    -------
    cost : array, shape (n,)
    kappa : array, shape (n, Q)
    """
    n = len(x)
    cost, kappa = np.empty(n), np.empty((n, problem.model.num_parameters))
    rows = np.arange(n)
    y = with_polarity(S, k) if problem.polarity else S
    lowest, highest = ends.T
    x = np.clip(x, lowest, highest)
    left, right = np.full(n, -np.inf), np.full(n, np.inf)
    x_old = slope_old = np.full(n, np.nan)
    for iteration in range(MAX_ITERATIONS):
        value, slope, parameters = profile(problem, x, k, y)
        cost[rows], kappa[rows] = value, parameters
        left, right = np.where(slope < 0, x, left), np.where(slope < 0, right, x)
        new = x + _secant(x, slope, x_old, slope_old)
        bracketed = np.isfinite(left) & np.isfinite(right)
        bisect = (new <= left) | (new >= right) | (iteration % 4 == 3)
        middle = np.where(bracketed, 0.5 * (left + right), x)
        new = np.clip(np.where(bisect & bracketed, middle, new), lowest, highest)
        active = (np.abs(new - x) > TOLERANCE) & (slope != 0)
        if not active.any():
            break
        x_old, slope_old, x = x[active], slope[active], new[active]
        left, right, rows = left[active], right[active], rows[active]
        k, y = k[active], y[active]
        lowest, highest = lowest[active], highest[active]
    return cost, kappa


def _secant(
    x: np.ndarray, slope: np.ndarray, x_old: np.ndarray, slope_old: np.ndarray
) -> np.ndarray:
    """Secant step; a short downhill step first, a long one where the cost is not convex."""
    curvature = divide(slope - slope_old, x - x_old)
    downhill = -np.sign(slope)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        move = np.where(curvature > 0, -slope / curvature, downhill * STEP)
    move = np.where(np.isnan(curvature), downhill * 0.05 * STEP, move)
    return np.clip(move, -1.5 * STEP, 1.5 * STEP)
