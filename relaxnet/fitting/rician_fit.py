"""Descent to the minima of the Rician likelihood, many voxels at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import i0e, i1e

from relaxsim.models.signal_model import SignalModel

#: Least second derivative along nu, relative to 1 / sigma^2, in the steps of a fit.
LEAST_CURVATURE = 0.05
#: A fit stops when no parameter moves by more, relative to its bounds (log T: absolute), or when a
#: nearly undamped step promises to lower the negative log-likelihood by less.
TOLERANCE, LEAST_DECREASE, NEARLY_UNDAMPED = 1e-7, 1e-6, 1e-2
MAX_ITERATIONS = 200
#: Starts that differ by less, relative to the values of the first, lead to one minimum.
SAME_START = 0.02


def least_of_descents(
    S: np.ndarray,
    tau: np.ndarray,
    model: SignalModel,
    starts: Sequence[np.ndarray],
    sigma: np.ndarray,
    bounds: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The least of the minima that lie below several starts, each (n, Q).

    Other parameters, and returns, as for `refine_rician`. A voxel descends from a later start only
    where that differs from the first.
    """
    nll, kappa = refine_rician(S, tau, model, starts[0], sigma, bounds)
    for start in starts[1:]:
        apart = np.abs(start - starts[0]) > SAME_START * np.abs(starts[0])
        rows = np.flatnonzero(apart.any(axis=1))
        found = refine_rician(S[rows], tau, model, start[rows], sigma[rows], bounds[rows])
        better = found[0] < nll[rows]
        nll[rows[better]], kappa[rows[better]] = found[0][better], found[1][better]
    return nll, kappa


def refine_rician(
    S: np.ndarray,
    tau: np.ndarray,
    model: SignalModel,
    kappa: np.ndarray,
    sigma: np.ndarray,
    bounds: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Local minimum of the Rician likelihood within bounds, from given kappa.

    Levenberg-Marquardt in (A, ..., log T) with the second derivative of L along nu, held positive;
    parameters that a step would carry across a bound stay on it.

    Parameters
    ----------
    S : array, shape (n, N), float64
    tau : array, shape (N,)
    model : SignalModel
    kappa : array, shape (n, Q)
        Start, within the bounds.
    sigma : array, shape (n,)
    bounds : array, shape (n, Q, 2)

    Returns
    -------
    nll : array, shape (n,)
    kappa : array, shape (n, Q)
    """
    low, high = _to_steps(bounds[..., 0]), _to_steps(bounds[..., 1])
    u = np.clip(_to_steps(kappa), low, high)
    width = np.maximum(high - low, 1e-300)
    width[:, -1] = 1.0
    damping = np.full(len(u), 1e-3)
    nll, gradient, curvature = cost_and_derivatives(S, tau, model, _from_steps(u), sigma)
    rows = np.arange(len(u))
    for _ in range(MAX_ITERATIONS):
        now, slope = u[rows], gradient[rows]
        step = _bounded_step(slope, curvature[rows], damping[rows], now, low[rows], high[rows])
        new = np.clip(now + step, low[rows], high[rows])
        found = cost_and_derivatives(S[rows], tau, model, _from_steps(new), sigma[rows])
        better = found[0] <= nll[rows]
        for kept, values in zip((u, nll, gradient, curvature), (new, *found), strict=True):
            kept[rows[better]] = values[better]
        damping[rows] = np.where(better, np.maximum(damping[rows] * 0.2, 1e-12), damping[rows] * 8)
        done = (np.abs(new - now) <= TOLERANCE * width[rows]).all(axis=1)
        promised = -0.5 * (slope * step).sum(axis=1)
        done |= better & (promised < LEAST_DECREASE) & (damping[rows] < NEARLY_UNDAMPED)
        rows = rows[~done & (damping[rows] < 1e12)]
        if not rows.size:
            break
    return nll, _from_steps(u)


def cost_and_derivatives(
    S: np.ndarray, tau: np.ndarray, model: SignalModel, kappa: np.ndarray, sigma: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Negative log-likelihood, its gradient and a positive curvature in (A, ..., log T).

    S (n, N), of which negative samples count as 0, kappa (n, Q) and sigma (n,) as for
    `refine_rician`; shapes (n,), (n, Q) and (n, Q, Q). The first is that of
    `relaxnet.fitting.rician.rician_nll`.
    """
    f = model.signed(kappa, tau, np) / sigma[:, None]
    J = model.signed_jacobian(kappa, tau, np) / sigma[:, None, None]
    J[..., -1] *= kappa[:, -1:]
    s, nu = np.maximum(S, 0.0) / sigma[:, None], np.abs(f)
    z = s * nu
    scaled = i0e(z)
    ratio = i1e(z) / scaled
    nll = (0.5 * (s - nu) ** 2 - np.log(scaled)).sum(axis=-1)
    over_z = np.where(z > 1e-6, ratio / np.where(z > 1e-6, z, 1.0), 0.5)
    second = 1.0 - s**2 * (1.0 - ratio**2 - over_z)
    weight = np.clip(second, LEAST_CURVATURE, 1.0)
    gradient = np.einsum("inq,in->iq", J, np.sign(f) * (nu - s * ratio))
    return nll, gradient, np.swapaxes(J, 1, 2) @ (J * weight[..., None])


def _to_steps(kappa: np.ndarray) -> np.ndarray:
    return np.concatenate([kappa[:, :-1], np.log(kappa[:, -1:])], axis=1)


def _from_steps(u: np.ndarray) -> np.ndarray:
    return np.concatenate([u[:, :-1], np.exp(u[:, -1:])], axis=1)


def _bounded_step(
    gradient: np.ndarray,
    curvature: np.ndarray,
    damping: np.ndarray,
    u: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
) -> np.ndarray:
    """Damped Newton step of the parameters that no bound holds."""
    held = ((u <= low) & (gradient > 0)) | ((u >= high) & (gradient < 0))
    identity = np.eye(u.shape[1])
    diagonal = np.diagonal(curvature, axis1=1, axis2=2)
    floor = 1e-12 * diagonal.max(axis=1, keepdims=True) + 1e-300
    scale = np.sqrt(np.maximum(diagonal, floor))
    H = curvature / (scale[:, :, None] * scale[:, None, :])
    H = H + (damping[:, None, None] + 1e-12) * identity
    H = np.where(held[:, :, None] | held[:, None, :], identity, H)
    g = np.where(held, 0.0, gradient / scale)
    return -np.linalg.solve(H, g[..., None])[..., 0] / scale
