"""How well data can determine kappa: Fisher information and the Cramér-Rao lower bound (numpy).

With independent Gaussian noise of standard deviation sigma the Fisher information of a voxel is
``F = J' J / sigma^2``, J being the (N, Q) Jacobian of its signal, and the covariance of any
unbiased voxel-wise estimator is at least ``F^-1``. An estimator below it uses a prior.
"""

from __future__ import annotations

import numpy as np

from relaxnet.rician import information_factor
from relaxsim.signals import SignalModel

#: Below this determinant of the information scaled to unit diagonal, it counts as singular.
SINGULAR = 1e-14


def fisher_information(
    kappa: np.ndarray,
    tau: np.ndarray,
    sigma: float | np.ndarray,
    model: SignalModel,
    likelihood: str = "gaussian",
) -> np.ndarray:
    """Fisher information of each voxel.

    The modulus changes the sign of rows of J, which ``J' J`` does not see: signed and magnitude
    data have the same information.

    Parameters
    ----------
    kappa : array, shape (..., Q)
        Tissue parameters, T in ms.
    tau : array, shape (N,)
        Times in ms.
    sigma : float or array, shape (...)
        Noise standard deviation in the unit of A.
    model : SignalModel
    likelihood : str
        ``"gaussian"``, or ``"rician"``: a sample of little signal then says less, by
        `relaxnet.rician.information_factor`.

    Returns
    -------
    F : array, shape (..., Q, Q), float64
    """
    kappa = np.asarray(kappa, dtype=np.float64)
    tau, sigma = np.asarray(tau, dtype=np.float64), np.asarray(sigma, dtype=np.float64)
    J = model.signed_jacobian(kappa, tau, np)
    if likelihood == "rician":
        snr = np.abs(model.signed(kappa, tau, np)) / sigma[..., None]
        J = J * np.sqrt(information_factor(snr))[..., None]
    return gram(J) / sigma[..., None, None] ** 2


def crlb(
    kappa: np.ndarray,
    tau: np.ndarray,
    sigma: float | np.ndarray,
    model: SignalModel,
    likelihood: str = "gaussian",
) -> np.ndarray:
    """Cramér-Rao lower bound of the standard deviation of each parameter, at `kappa`.

    Parameters
    ----------
    kappa, tau, sigma, model, likelihood
        As for `fisher_information`.

    Returns
    -------
    std : array, shape (..., Q), float64
        In the unit of each parameter; inf where the information is singular.

    Examples
    --------
    >>> from relaxsim.signals import T2_DECAY
    >>> tau = np.array([10.0, 20.0, 40.0, 80.0, 160.0, 320.0])
    >>> [round(float(v), 4) for v in crlb(np.array([1.0, 80.0]), tau, 0.01, T2_DECAY)]
    [0.0107, 1.9796]
    """
    return inverse_std(fisher_information(kappa, tau, sigma, model, likelihood))


def unit_std(J: np.ndarray) -> np.ndarray:
    """Bound of the standard deviations for sigma = 1, from the Jacobian.

    Parameters
    ----------
    J : array, shape (..., N, Q)

    Returns
    -------
    std : array, shape (..., Q), float64
        ``sqrt(diag((J' J)^-1))``; inf where ``J' J`` is singular.
    """
    return inverse_std(gram(J))


def inverse_std(F: np.ndarray) -> np.ndarray:
    """``sqrt(diag(F^-1))`` of symmetric matrices (..., Q, Q); inf where F is singular."""
    scale = np.sqrt(np.diagonal(F, axis1=-2, axis2=-1))
    positive = (scale > 0).all(axis=-1) & np.isfinite(scale).all(axis=-1)
    scale = np.where(positive[..., None], scale, 1.0)
    correlation = F / (scale[..., :, None] * scale[..., None, :])
    identity = np.eye(F.shape[-1])
    correlation = np.where(positive[..., None, None], correlation, identity)
    regular = positive & (np.linalg.det(correlation) > SINGULAR)
    inverse = np.linalg.inv(np.where(regular[..., None, None], correlation, identity))
    variance = np.diagonal(inverse, axis1=-2, axis2=-1)
    regular &= (variance > 0).all(axis=-1)
    std = np.sqrt(np.where(regular[..., None], variance, 1.0)) / scale
    return np.where(regular[..., None], std, np.inf)


def gram(J: np.ndarray) -> np.ndarray:
    """``J' J`` of Jacobians (..., N, Q)."""
    return np.swapaxes(J, -1, -2) @ J
