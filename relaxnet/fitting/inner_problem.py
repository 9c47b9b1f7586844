"""The inner minimum of a separable fit: cost, slope and curvature along T.

The algebra and its notation are those of `relaxnet.fitting.separable`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from relaxnet.fitting.separable import RATIO, TIME, Problem, columns, divide, dot, interval


@dataclass(frozen=True)
class Profile:
    """Cost along log T, at the best linear parameters of one polarity.

    Attributes
    ----------
    cost, slope, curvature : arrays, shape (n,)
        Value, derivative, and second derivative without the terms in the residuals
        (Gauss-Newton). Where the best r lies on a root, they follow the root as it moves with T.
    regime : int array, shape (n,)
        Whether r is free (0), at its lower end (1) or at its upper end (2).
    kappa : array, shape (n, Q)
    """

    cost: np.ndarray
    slope: np.ndarray
    curvature: np.ndarray
    regime: np.ndarray
    kappa: np.ndarray


def profile(problem: Problem, x: np.ndarray, edges: np.ndarray, y: np.ndarray) -> Profile:
    """Cost along log T.

    Parameters
    ----------
    x : array, shape (n,)
        log T.
    edges : int array, shape (n, 2)
        Samples whose roots end r (`neighbours`, `binding`); used where `problem.splits`.
    y : array, shape (n, N)
        Samples in the problem's order, `with_polarity`.
    """
    T = np.exp(x)
    phi = columns(problem, T)
    limits = interval(problem, phi, edges) if problem.splits else None
    linear = solve_linear(problem, phi, y, limits)
    kappa = np.stack([*linear, T], axis=-1)
    c = [linear[0], linear[0] * linear[1]] if problem.kind == "ratio" else linear
    residual = y.copy()
    for coefficient, column in zip(c, phi, strict=True):
        residual -= coefficient[:, None] * column
    J = problem.model.signed_jacobian(kappa, problem.protocol, np)
    along = J[..., -1]
    regime = np.zeros(len(x), dtype=np.int8)
    if problem.kind == "ratio":
        ends = problem.bounds[RATIO] if limits is None else limits
        regime[linear[RATIO] <= ends[0]] = 1
        regime[linear[RATIO] >= ends[1]] = 2
        if limits is not None:
            along = _with_moving_edge(problem, edges, regime, kappa, J)
    slope = -2.0 * T * dot(residual, along)
    curvature = 2.0 * T**2 * _unexplained(phi, linear, regime, along)
    return Profile(dot(residual, residual), slope, curvature, regime, kappa)


def solve_linear(
    problem: Problem,
    phi: Sequence[np.ndarray],
    y: np.ndarray,
    limits: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, ...]:
    """Linear parameters of least squared error within their bounds.

    Parameters
    ----------
    phi : one or two arrays, shape (n, N)
    y : array, shape (n, N)
        Data with the polarity of the signal.
    limits : two arrays, shape (n,), optional
        Ends of the second parameter, in place of its bounds.

    Returns
    -------
    parameters : one or two arrays, shape (n,)
        A, or (A, r), or (A, C).
    """
    low, high = problem.bounds[0]
    g00, b0 = dot(phi[0], phi[0]), dot(phi[0], y)
    if problem.kind == "ray":
        return (np.clip(divide(b0, g00), low, high),)
    g01, g11, b1 = dot(phi[0], phi[1]), dot(phi[1], phi[1]), dot(phi[1], y)
    if limits is None:
        limits = (np.full(len(y), problem.bounds[1, 0]), np.full(len(y), problem.bounds[1, 1]))
    det = g00 * g11 - g01**2
    c0, c1 = b0 * g11 - b1 * g01, b1 * g00 - b0 * g01
    a = divide(c0, det)
    s = divide(c1, c0 if problem.kind == "ratio" else det)
    outside = ~(
        (a >= low) & (a <= high) & (s >= limits[0]) & (s <= limits[1]) & (det > 1e-15 * g00 * g11)
    )
    i = np.flatnonzero(outside)
    if i.size:
        moments = [v[i] for v in (g00, g01, g11, b0, b1)]
        a[i], s[i] = _on_edges(
            moments, (low, high), (limits[0][i], limits[1][i]), problem.kind == "ratio"
        )
    return a, s


def _on_edges(
    moments: list[np.ndarray],
    a_bounds: tuple[float, float],
    s_bounds: tuple[np.ndarray, np.ndarray],
    ratio: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Least quadratic on the four edges of the region of (a, s)."""
    g00, g01, g11, b0, b1 = moments
    points = []
    for s in s_bounds:
        if ratio:
            a = divide(b0 + s * b1, g00 + 2 * s * g01 + s**2 * g11)
        else:
            a = divide(b0 - s * g01, g00)
        points.append((np.clip(a, *a_bounds), s))
    for bound in a_bounds:
        a = np.full_like(g00, bound)
        if ratio:
            s = divide(b1 - a * g01, a * g11)
        else:
            s = divide(b1 - a * g01, g11)
        points.append((a, np.clip(s, *s_bounds)))
    A, s = (np.stack(v) for v in zip(*points, strict=True))
    c = A * s if ratio else s
    q = A**2 * g00 + 2 * A * c * g01 + c**2 * g11 - 2 * (A * b0 + c * b1)
    best = np.argmin(q, axis=0)[None]
    return np.take_along_axis(A, best, 0)[0], np.take_along_axis(s, best, 0)[0]


def _with_moving_edge(
    problem: Problem, edges: np.ndarray, regime: np.ndarray, kappa: np.ndarray, J: np.ndarray
) -> np.ndarray:
    """Derivative of the signal along T; where r lies on a root, r moves with T along it."""
    along = J[..., TIME]
    r, (low, high) = kappa[:, RATIO], problem.bounds[RATIO]
    i = np.flatnonzero((regime > 0) & (r > low) & (r < high))
    if not i.size:
        return along
    row = J[i, edges[i, regime[i] - 1]]
    along = along.copy()
    along[i] -= divide(row[:, TIME], row[:, RATIO])[:, None] * J[i, :, RATIO]
    return along


def _unexplained(
    phi: Sequence[np.ndarray],
    linear: tuple[np.ndarray, ...],
    regime: np.ndarray,
    v: np.ndarray,
) -> np.ndarray:
    """Squared norm of the part of v that the free linear parameters cannot follow."""
    norm = dot(v, v)
    g00, p0 = dot(phi[0], phi[0]), dot(phi[0], v)
    if len(phi) == 1:
        return norm - divide(p0**2, g00)
    g01, g11, p1 = dot(phi[0], phi[1]), dot(phi[1], phi[1]), dot(phi[1], v)
    det = g00 * g11 - g01**2
    both = divide(g11 * p0**2 - 2 * g01 * p0 * p1 + g00 * p1**2, det)
    r = linear[1]
    one = divide((p0 + r * p1) ** 2, g00 + 2 * r * g01 + r**2 * g11)
    return norm - np.where(regime == 0, both, one)
