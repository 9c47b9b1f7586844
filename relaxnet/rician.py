"""Rician likelihood: magnitude images of low signal-to-noise ratio.

The modulus of a complex image whose two parts have noise of standard deviation sigma is Rice
distributed. With ``nu = |f(kappa)|`` and ``z = S nu / sigma^2`` the negative log-likelihood of a
sample, less what does not depend on kappa, is

    L = (S - nu)^2 / (2 sigma^2) - log(exp(-z) I_0(z)),

and its derivative ``dL/dnu = (nu - S I_1(z) / I_0(z)) / sigma^2``. The exponentially scaled Bessel
functions keep both finite at any z. In the signed signal f the cost is smooth and even, so that no
polarity has to be chosen.

References
----------
Sijbers et al. 1998, doi 10.1109/42.712125; Gudbjartsson and Patz 1995, doi 10.1002/mrm.1910340618.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy.special import i0e, i1e

from relaxsim.signals import SignalModel

#: Least second derivative along nu, relative to 1 / sigma^2, in the steps of a fit.
LEAST_CURVATURE = 0.05
#: A fit stops when no parameter moves by more, relative to its bounds (log T: absolute), or when a
#: nearly undamped step promises to lower the negative log-likelihood by less.
TOLERANCE, LEAST_DECREASE, NEARLY_UNDAMPED = 1e-7, 1e-8, 1e-2
MAX_ITERATIONS = 200
#: Signal-to-noise ratio above which the loss of information is taken from its asymptote.
ASYMPTOTIC = 20.0


def rician_nll(S: np.ndarray, signal: np.ndarray, sigma: np.ndarray | float) -> np.ndarray:
    """Negative log-likelihood of each voxel, less what does not depend on the signal.

    Parameters
    ----------
    S : array, shape (..., N)
        Magnitude images, not negative.
    signal : array, shape (..., N)
        Noise-free signal, of either sign.
    sigma : float or array, shape (..., 1)
        Noise standard deviation of each part of the complex image.

    Returns
    -------
    L : array, shape (...)

    Examples
    --------
    >>> bool(np.isfinite(rician_nll(np.ones(3), np.ones(3), 1e-6)))
    True
    """
    nu = np.abs(signal)
    z = S * nu / sigma**2
    return (0.5 * ((S - nu) / sigma) ** 2 - np.log(i0e(z))).sum(axis=-1)


def information_factor(snr: np.ndarray) -> np.ndarray:
    """Fisher information on nu that a Rician sample holds, relative to a Gaussian one.

    Parameters
    ----------
    snr : array
        ``nu / sigma``, not negative.

    Returns
    -------
    factor : array
        ``E[(S/sigma)^2 (I_1/I_0)^2] - snr^2``: 0 at snr = 0, rising to 1.
    """
    snr = np.asarray(snr, dtype=np.float64)
    grid, table = _information_table()
    far = 1.0 - 0.5 / np.maximum(snr, ASYMPTOTIC) ** 2
    return np.where(snr < ASYMPTOTIC, np.interp(snr, grid, table), far)


@cache
def _information_table() -> tuple[np.ndarray, np.ndarray]:
    grid = np.linspace(0.0, ASYMPTOTIC, 2001)
    offsets = np.linspace(-9.0, 9.0, 1801)
    s = np.maximum(grid[:, None] + offsets, 0.0)
    z = s * grid[:, None]
    density = s * i0e(z) * np.exp(-0.5 * (s - grid[:, None]) ** 2)
    score = s * i1e(z) / i0e(z) - grid[:, None]
    return grid, (density * score**2).sum(axis=1) / density.sum(axis=1)


def without_floor(S: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Magnitudes (n, N) freed of the noise in their square: ``sqrt(S^2 - 2 sigma^2)``, from 0."""
    square = np.maximum(np.maximum(S, 0.0) ** 2 - 2.0 * sigma[:, None] ** 2, 0.0)
    square[:, 0] += 1e-12  # no voxel is zero
    return np.sqrt(square)


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
    S = np.maximum(S, 0.0)
    low, high = _to_steps(bounds[..., 0]), _to_steps(bounds[..., 1])
    u = np.clip(_to_steps(kappa), low, high)
    width = np.maximum(high - low, 1e-300)
    width[:, -1] = 1.0
    damping = np.full(len(u), 1e-3)
    nll = rician_nll(S, model.signed(_from_steps(u), tau, np), sigma[:, None])
    rows = np.arange(len(u))
    for _ in range(MAX_ITERATIONS):
        now, s, y = u[rows], sigma[rows], S[rows]
        gradient, curvature = derivatives(y, tau, model, _from_steps(now), s)
        step = _bounded_step(gradient, curvature, damping[rows], now, low[rows], high[rows])
        new = np.clip(now + step, low[rows], high[rows])
        value = rician_nll(y, model.signed(_from_steps(new), tau, np), s[:, None])
        better = value <= nll[rows]
        u[rows[better]], nll[rows[better]] = new[better], value[better]
        damping[rows] = np.where(better, np.maximum(damping[rows] * 0.2, 1e-12), damping[rows] * 8)
        small = (np.abs(new - now) <= TOLERANCE * width[rows]).all(axis=1)
        promised = -0.5 * (gradient * step).sum(axis=1)
        small |= better & (promised < LEAST_DECREASE) & (damping[rows] < NEARLY_UNDAMPED)
        rows = rows[~small & (damping[rows] < 1e12)]
        if not rows.size:
            break
    return nll, _from_steps(u)


def _to_steps(kappa: np.ndarray) -> np.ndarray:
    return np.concatenate([kappa[:, :-1], np.log(kappa[:, -1:])], axis=1)


def _from_steps(u: np.ndarray) -> np.ndarray:
    return np.concatenate([u[:, :-1], np.exp(u[:, -1:])], axis=1)


def derivatives(
    S: np.ndarray, tau: np.ndarray, model: SignalModel, kappa: np.ndarray, sigma: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gradient (n, Q) and positive curvature (n, Q, Q) of the likelihood in (A, ..., log T).

    S (n, N), kappa (n, Q) and sigma (n,) as for `refine_rician`.
    """
    f = model.signed(kappa, tau, np) / sigma[:, None]
    J = model.signed_jacobian(kappa, tau, np) / sigma[:, None, None]
    J[..., -1] *= kappa[:, -1:]
    s, nu = S / sigma[:, None], np.abs(f)
    z = s * nu
    ratio = i1e(z) / i0e(z)
    over_z = np.where(z > 1e-6, ratio / np.where(z > 1e-6, z, 1.0), 0.5)
    second = 1.0 - s**2 * (1.0 - ratio**2 - over_z)
    weight = np.clip(second, LEAST_CURVATURE, 1.0)
    gradient = np.einsum("inq,in->iq", J, np.sign(f) * (nu - s * ratio))
    return gradient, np.swapaxes(J, 1, 2) @ (J * weight[..., None])


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
