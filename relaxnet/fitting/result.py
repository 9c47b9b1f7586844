"""The result of a fit: estimates, their standard deviations and a status for each voxel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaincinv

#: Values of `Fit.status`.
CONVERGED, AT_BOUND, NOT_IDENTIFIABLE, NO_SIGNAL, INVALID = range(5)
STATUS_NAMES = ("converged", "at a bound", "not identifiable", "no signal", "invalid")

#: A parameter lies on a bound if its distance to it is below this part of the bounds' width.
NEAR_BOUND = 1e-6
#: `estimate_sigma` leaves voxels at a bound out if at least this share of the voxels remains.
LEAST_SHARE = 0.1


@dataclass(frozen=True)
class Fit:
    """Estimates of each voxel and how well the data determine them.

    Attributes
    ----------
    kappa : array, shape (..., Q), float32
        Estimates in physical units; 0 where status is NO_SIGNAL or INVALID, and outside the mask.
    std : array, shape (..., Q), float32
        Cramér-Rao standard deviations at the estimate; inf where not identifiable, 0 where no fit.
    residual : array, shape (...), float32
        Root mean square of the residuals over N - Q degrees of freedom (Q less the parameters that
        bounds fix), in the unit of S; 0 where no fit.
    status : array, shape (...), uint8
        CONVERGED; AT_BOUND, a parameter lies on one of its bounds; NOT_IDENTIFIABLE, the
        information is singular or the standard deviation of the main parameter exceeds the range
        of its bounds; NO_SIGNAL, all samples are zero (and outside the mask); INVALID, a sample or
        a known map is not finite.
    """

    kappa: np.ndarray
    std: np.ndarray
    residual: np.ndarray
    status: np.ndarray


def signal_status(S: np.ndarray, known: np.ndarray | None = None) -> np.ndarray:
    """CONVERGED where voxels can be fitted, else NO_SIGNAL or INVALID.

    Parameters
    ----------
    S : array, shape (n, N)
    known : array, shape (n, K), optional

    Returns
    -------
    status : array, shape (n,), uint8
    """
    finite = np.isfinite(S).all(axis=1)
    if known is not None:
        finite &= np.isfinite(known).all(axis=1)
    zero = (S == 0).all(axis=1)
    return np.where(finite, np.where(zero, NO_SIGNAL, CONVERGED), INVALID).astype(np.uint8)


def at_bound(kappa: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Whether a parameter (..., Q) lies on a bound, (Q, 2) or (..., Q, 2), that does not fix it."""
    low, high = bounds[..., 0], bounds[..., 1]
    near = NEAR_BOUND * (high - low)
    return (((kappa <= low + near) | (kappa >= high - near)) & (high > low)).any(axis=-1)


def with_identifiability(
    std: np.ndarray, status: np.ndarray, width: float
) -> tuple[np.ndarray, np.ndarray]:
    """Standard deviations and status, with NOT_IDENTIFIABLE where the data leave T open.

    Parameters
    ----------
    std : array, shape (..., Q)
    status : array, shape (...)
    width : float
        Range of the main parameter's bounds: a larger standard deviation of it is not identifiable.

    Returns
    -------
    std : array, shape (..., Q)
        Infinite where not identifiable, 0 where there is no fit.
    status : array, shape (...), uint8
    """
    fitted = status < NO_SIGNAL
    with np.errstate(invalid="ignore"):
        loose = fitted & ~(std[..., -1] <= width)
    std = np.where(loose[..., None], np.inf, std).astype(std.dtype)
    std[~fitted] = 0.0
    return std, np.where(loose, NOT_IDENTIFIABLE, status).astype(np.uint8)


def estimate_sigma(S: np.ndarray, fit: Fit, mask: np.ndarray | None, num_parameters: int) -> float:
    """Noise standard deviation of the images, pooled from the residuals of a fit.

    Each voxel's squared residual is its sum of squares over N - Q degrees of freedom. Voxels that
    the model does not describe (vessels, motion, edges) have large ones: the pool is the median
    over voxels, divided by the median of chi^2 over its degrees of freedom, so that it is unbiased
    for Gaussian noise and any minority of outlying voxels moves it little.

    Parameters
    ----------
    S : array, shape (..., N)
    fit : Fit
        Fit of `S`.
    mask : bool array, shape (...), optional
        Voxels that count, where they were fitted; those at a bound are left out if others remain.
    num_parameters : int
        Q, or fewer if bounds fixed some.

    Returns
    -------
    sigma : float
        In the unit of S; 0 if no voxel was fitted or no degree of freedom is left.
    """
    status = fit.status if mask is None else np.where(mask, fit.status, NO_SIGNAL)
    return pooled_sigma(fit.residual, status, S.shape[-1] - num_parameters)


def pooled_sigma(residual: np.ndarray, status: np.ndarray, dof: int) -> float:
    """`estimate_sigma` of residuals (...) and status (...), with the degrees of freedom."""
    if dof < 1:
        return 0.0
    fitted = status < NO_SIGNAL
    free = fitted & (status != AT_BOUND)
    values = residual[free if free.sum() >= LEAST_SHARE * fitted.sum() else fitted]
    if values.size == 0:
        return 0.0
    chi2_median = 2.0 * gammaincinv(0.5 * dof, 0.5)
    return float(np.sqrt(np.median(values.astype(np.float64) ** 2) * dof / chi2_median))
