"""The global minimum of each voxel: the best of the refined candidates.

The algebra and its notation are those of `relaxnet.fitting.separable`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from relaxnet.fitting.grid_search import STEP, Grid, candidates, exact_reductions, reductions
from relaxnet.fitting.inner_problem import Profile, profile
from relaxnet.fitting.separable import (
    Problem,
    binding,
    corners,
    divide,
    dot,
    neighbours,
    with_polarity,
)

#: Refinement stops when log T moves by less.
TOLERANCE = 1e-7
MAX_ITERATIONS = 80
#: Bytes of the table of one search.
BLOCK_BYTES = 1 << 20


def global_minimum(problem: Problem, grid: Grid, S: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least cost of each voxel within the bounds, and where it is.

    The first search ignores the bounds of A but for its sign. If no candidate of a voxel ends on a
    bound of A, the best candidate is the global minimum. The other voxels are searched again with
    the bounds.

    Parameters
    ----------
    problem : Problem
    grid : Grid
        Of the problem.
    S : array, shape (n, N), float64
        Samples in the problem's order, relative to the voxel's maximum; no voxel is zero.

    Returns
    -------
    cost : array, shape (n,)
    kappa : array, shape (n, Q)
    """
    cost, kappa, bounded = _best_candidates(problem, grid, S, bounded=False)
    again = np.flatnonzero(bounded)
    if again.size:
        cost[again], kappa[again], _ = _best_candidates(problem, grid, S[again], bounded=True)
    return cost, kappa


def _best_candidates(
    problem: Problem, grid: Grid, S: np.ndarray, bounded: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cost and kappa of the best candidate, and whether any candidate ends on a bound of A."""
    norm = np.sqrt(dot(S, S))[:, None]
    unit = (S / norm).astype(np.float32)
    amplitudes = problem.bounds[0] / norm
    block = max(16, BLOCK_BYTES // (4 * grid.m.shape[1]))
    found = []
    for rows in (slice(i, i + block) for i in range(0, len(S), block)):
        if problem.kind == "pair":
            R = exact_reductions(problem, grid, S[rows] / norm[rows])
        else:
            R = reductions(grid, unit[rows], amplitudes[rows] if bounded else None)
        voxel, k, x, ends = candidates(grid, R)
        found.append((voxel + rows.start, k, x, ends))
    voxel, k, x, ends = (np.concatenate(v) for v in zip(*found, strict=True))
    cost, kappa = refine(problem, S[voxel], k, x, ends)
    low, high = problem.bounds[0]
    on_bound = (kappa[:, 0] >= high) | ((kappa[:, 0] <= low) & (low > 0))
    touched = np.zeros(len(S), dtype=bool)
    touched[voxel[on_bound]] = problem.kind != "pair"
    best = best_of(voxel, cost)
    return cost[best], kappa[best], touched


def best_of(voxel: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """Index of each voxel's candidate of least cost; `voxel` ascends."""
    order = np.lexsort((cost, voxel))
    first = np.concatenate([[True], voxel[1:] != voxel[:-1]])
    return order[first]


def refine(
    problem: Problem, S: np.ndarray, k: np.ndarray, x: np.ndarray, ends: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Local minimum of the cost of polarity k along log T, from x.

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
    y = with_polarity(S, k) if problem.polarity else S
    edges = binding(S, k) if problem.splits else neighbours(k)

    def evaluate(x: np.ndarray, rows: np.ndarray) -> Profile:
        return profile(problem, x, edges[rows], y[rows])

    return descend(evaluate, x, ends, corners(problem, edges))


def descend(
    evaluate: Callable[[np.ndarray, np.ndarray], Profile],
    x: np.ndarray,
    ends: np.ndarray,
    marks: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Local minimum of each voxel's cost along log T.

    A Newton iteration on the slope. As soon as the slope has had both signs, its root stays
    bracketed, so that the iteration ends in a minimum and not in a maximum.

    Parameters
    ----------
    evaluate : callable
        `Profile` of the voxels `rows` at ``x``.
    x : array, shape (n,)
        Start.
    ends : array, shape (n, 2)
        Range of log T.
    marks : array, shape (n, m)
        Values of log T where the slope may jump; they are tried before the middle of a bracket.
        NaN for none.

    Returns
    -------
    cost : array, shape (n,)
    kappa : array, shape (n, Q)
    """
    rows = np.arange(len(x))
    lowest, highest = ends.T
    x = np.clip(x, lowest, highest)
    left, right = np.full(len(x), -np.inf), np.full(len(x), np.inf)
    x_old, p_old = x, None
    for iteration in range(MAX_ITERATIONS):
        p = evaluate(x, rows)
        if p_old is None:
            cost, kappa = p.cost, p.kappa
        else:
            cost[rows], kappa[rows] = p.cost, p.kappa
        left, right = np.where(p.slope < 0, x, left), np.where(p.slope < 0, right, x)
        step = _step(x, p, x_old, p_old)
        new = x + step
        bracketed = np.isfinite(left) & np.isfinite(right)
        bisect = (new <= left) | (new >= right) | ((iteration > 5) & (iteration % 2 == 0))
        middle = _middle(left, right, marks, bracketed)
        new = np.clip(np.where(bisect & bracketed, middle, new), lowest, highest)
        active = (np.abs(step) > TOLERANCE) & (right - left > TOLERANCE) & (new != x)
        if not active.any():
            break
        x_old, x = x[active], new[active]
        p_old = (p.slope[active], p.regime[active])
        left, right, rows, marks = left[active], right[active], rows[active], marks[active]
        lowest, highest = lowest[active], highest[active]
    return cost, kappa


def _middle(
    left: np.ndarray, right: np.ndarray, marks: np.ndarray, bracketed: np.ndarray
) -> np.ndarray:
    """A mark within the bracket, or else its middle."""
    inside = (marks > left[:, None]) & (marks < right[:, None]) & bracketed[:, None]
    mark = np.take_along_axis(marks, inside.argmax(axis=1)[:, None], axis=1)[:, 0]
    middle = 0.5 * (np.where(bracketed, left, 0.0) + np.where(bracketed, right, 0.0))
    return np.where(inside.any(axis=1), mark, middle)


def _step(
    x: np.ndarray, p: Profile, x_old: np.ndarray, old: tuple[np.ndarray, np.ndarray] | None
) -> np.ndarray:
    """Newton step; its curvature is the secant's if the last two points have one regime."""
    curvature = p.curvature
    if old is not None:
        secant = divide(p.slope - old[0], x - x_old)
        curvature = np.where((old[1] == p.regime) & (secant > 0), secant, curvature)
    move = np.where(curvature > 0, -divide(p.slope, curvature), -np.sign(p.slope) * STEP)
    return np.clip(move, -1.5 * STEP, 1.5 * STEP)
