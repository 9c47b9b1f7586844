"""Damped Newton descent within bounds, many voxels at once (Levenberg-Marquardt)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

#: A descent stops when no coordinate moves by more than this part of its bounds' width (the last
#: one, log T: by more than this), or when a nearly undamped step promises too small a decrease.
TOLERANCE, NEARLY_UNDAMPED = 1e-7, 1e-2
MAX_ITERATIONS = 200
#: Damping: at the start, its factors after a good and a bad step, and its range.
FIRST_DAMPING, AFTER_GOOD, AFTER_BAD, DAMPING_RANGE = 1e-3, 0.2, 8.0, (1e-12, 1e12)

#: Cost (n,), gradient (n, Q) and a positive curvature (n, Q, Q) of rows at coordinates u (n, Q).
Evaluate = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]


def bounded_newton(
    evaluate: Evaluate, u: np.ndarray, low: np.ndarray, high: np.ndarray, least_decrease: float
) -> tuple[np.ndarray, np.ndarray]:
    """Local minimum of each row's cost within bounds.

    Coordinates that a step would carry across a bound stay on it.

    Parameters
    ----------
    evaluate : callable
        ``evaluate(u, rows)``: cost, gradient and curvature of the rows at u.
    u : array, shape (n, Q)
        Start; cut to the bounds. The last coordinate is log T (`to_steps`).
    low, high : arrays, shape (n, Q)
    least_decrease : float
        Decrease of the cost that is not worth a step.

    Returns
    -------
    cost : array, shape (n,)
    u : array, shape (n, Q)
    """
    u = np.clip(u, low, high)
    width = np.maximum(high - low, 1e-300)
    width[:, -1] = 1.0
    damping = np.full(len(u), FIRST_DAMPING)
    rows = np.arange(len(u))
    cost, gradient, curvature = evaluate(u, rows)
    for _ in range(MAX_ITERATIONS):
        now, slope = u[rows], gradient[rows]
        step = _bounded_step(slope, curvature[rows], damping[rows], (low[rows], now, high[rows]))
        new = np.clip(now + step, low[rows], high[rows])
        tried = evaluate(new, rows)
        better = tried[0] <= cost[rows]
        for kept, values in zip((u, cost, gradient, curvature), (new, *tried), strict=True):
            kept[rows[better]] = values[better]
        good = np.maximum(damping[rows] * AFTER_GOOD, DAMPING_RANGE[0])
        damping[rows] = np.where(better, good, damping[rows] * AFTER_BAD)
        done = (np.abs(new - now) <= TOLERANCE * width[rows]).all(axis=1)
        promised = -0.5 * (slope * step).sum(axis=1)
        done |= better & (promised < least_decrease) & (damping[rows] < NEARLY_UNDAMPED)
        rows = rows[~done & (damping[rows] < DAMPING_RANGE[1])]
        if not rows.size:
            break
    return cost, u


def to_steps(kappa: np.ndarray) -> np.ndarray:
    """Coordinates of a descent: kappa (..., Q) with the logarithm of its last parameter, T."""
    return np.concatenate([kappa[..., :-1], np.log(kappa[..., -1:])], axis=-1)


def from_steps(u: np.ndarray) -> np.ndarray:
    """Kappa of coordinates of a descent."""
    return np.concatenate([u[..., :-1], np.exp(u[..., -1:])], axis=-1)


def _bounded_step(
    gradient: np.ndarray,
    curvature: np.ndarray,
    damping: np.ndarray,
    place: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> np.ndarray:
    """Damped Newton step of the coordinates that do not press against a bound.

    `place` are the lower bounds, the coordinates and the upper bounds, each (n, Q).
    """
    low, u, high = place
    pressed = ((u <= low) & (gradient > 0)) | ((u >= high) & (gradient < 0))
    identity = np.eye(u.shape[1])
    diagonal = np.diagonal(curvature, axis1=1, axis2=2)
    floor = 1e-12 * diagonal.max(axis=1, keepdims=True) + 1e-300
    scale = np.sqrt(np.maximum(diagonal, floor))
    H = curvature / (scale[:, :, None] * scale[:, None, :])
    H = H + (damping[:, None, None] + 1e-12) * identity
    H = np.where(pressed[:, :, None] | pressed[:, None, :], identity, H)
    g = np.where(pressed, 0.0, gradient / scale)
    return -np.linalg.solve(H, g[..., None])[..., 0] / scale
