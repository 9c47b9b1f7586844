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
