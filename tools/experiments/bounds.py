"""Limits of estimators: bounds of unbiased ones, and the slope of the Bayes-optimal one."""

from __future__ import annotations

import numpy as np

from relaxnet.fitting.crlb import covariance_with_known, fisher_information, inverse
from relaxsim.models.signal_model import SignalModel


def relative_bounds(
    kappa: np.ndarray,
    tau: np.ndarray,
    sigma: float,
    model: SignalModel,
    likelihood: str = "gaussian",
) -> dict[str, np.ndarray]:
    """Cramer-Rao bounds of unbiased voxel-wise estimators, relative to the truth.

    Parameters
    ----------
    kappa : array, shape (M, Q)
    tau : array, shape (N,)
        ms.
    sigma : float
    model : SignalModel
    likelihood : str
        ``gaussian`` or ``rician``, as the noise is.

    Returns
    -------
    bounds : dict of str to array, shape (M, Q)
        With B free and B known; one bound for a model without B.
    """
    kappa = np.asarray(kappa, np.float64)
    F = fisher_information(kappa, tau, sigma, model, likelihood)
    covariances = {"bound": inverse(F)}
    if model.shared:
        known = covariance_with_known(F, model.parameters.index("B"), np.zeros(len(kappa)))
        covariances = {"bound, B free": covariances["bound"], "bound, B known": known}
    return {
        name: np.sqrt(np.diagonal(C, axis1=1, axis2=2)) / kappa for name, C in covariances.items()
    }


def bayes_slopes(
    kappa: np.ndarray,
    tau: np.ndarray,
    sigma: float,
    model: SignalModel,
    spread: float,
    likelihood: str = "gaussian",
) -> np.ndarray:
    """Slope of the optimal estimate on the truth inside a tissue, for each voxel and parameter.

    The estimator knows the tissue's mean, B, and that A and T vary about it independently with a
    standard deviation of `spread` times their value (covariance P); the signal is linearised. Its
    estimate is the posterior mean, which follows a voxel's deviation by the gain
    ``G = (P^-1 + F)^-1 F``: the slope is G's diagonal. A smaller slope is over-smoothing, a larger
    one costs mean square error.

    Returns
    -------
    slopes : array, shape (M, Q)
        NaN for B, which does not vary inside a tissue.
    """
    kappa = np.asarray(kappa, np.float64)
    varying = [q for q, name in enumerate(model.parameters) if name != "B"]
    F = fisher_information(kappa, tau, sigma, model, likelihood)[:, varying][:, :, varying]
    precision = np.zeros_like(F)
    for i, q in enumerate(varying):
        precision[:, i, i] = 1.0 / (spread * kappa[:, q]) ** 2
    gain = np.linalg.solve(precision + F, F)
    slopes = np.full(kappa.shape, np.nan)
    slopes[:, varying] = np.diagonal(gain, axis1=1, axis2=2)
    return slopes
