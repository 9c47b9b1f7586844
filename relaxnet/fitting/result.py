"""What a fit gives for each voxel, and the noise that its residuals show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaincinv

#: Values of `Fit.status`.
CONVERGED, AT_BOUND, NOT_IDENTIFIABLE, NO_SIGNAL, INVALID = range(5)
STATUS_NAMES = ("converged", "at a bound", "not identifiable", "no signal", "invalid")


@dataclass(frozen=True)
class Fit:
    """Estimates and how far to trust them.

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
        information is singular or the relaxation time's standard deviation exceeds the range of
        its bounds;
        NO_SIGNAL, all samples are zero (and outside the mask); INVALID, a sample is not finite.
    """

    kappa: np.ndarray
    std: np.ndarray
    residual: np.ndarray
    status: np.ndarray


def empty_fit(shape: tuple[int, ...], num_parameters: int) -> Fit:
    """Fit of no voxel: zeros, with status NO_SIGNAL."""
    return Fit(
        np.zeros((*shape, num_parameters), dtype=np.float32),
        np.zeros((*shape, num_parameters), dtype=np.float32),
        np.zeros(shape, dtype=np.float32),
        np.full(shape, NO_SIGNAL, dtype=np.uint8),
    )


def store(fit: Fit, voxels: np.ndarray, values: Sequence[np.ndarray]) -> None:
    """Put kappa, std, residual and status of some voxels, an index or a mask, into a fit."""
    with np.errstate(over="ignore"):  # a standard deviation beyond float32 is infinite
        for target, value in zip(vars(fit).values(), values, strict=True):
            target[voxels] = value


def signal_status(S: np.ndarray) -> np.ndarray:
    """CONVERGED where voxels (n, N) can be fitted, else NO_SIGNAL or INVALID; shape (n,)."""
    finite = np.isfinite(S).all(axis=1)
    zero = (S == 0).all(axis=1)
    return np.where(finite, np.where(zero, NO_SIGNAL, CONVERGED), INVALID).astype(np.uint8)


def at_bound(kappa: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Whether a parameter (..., Q) lies on a bound, (Q, 2) or (..., Q, 2), that does not fix it."""
    low, high = bounds[..., 0], bounds[..., 1]
    near = 1e-6 * (high - low)
    return (((kappa <= low + near) | (kappa >= high - near)) & (high > low)).any(axis=-1)


def flag_loose(fit: Fit, width: float) -> Fit:
    """Fit with NOT_IDENTIFIABLE where the relaxation time's standard deviation exceeds `width`."""
    fitted = fit.status < NO_SIGNAL
    with np.errstate(invalid="ignore"):
        loose = fitted & ~(fit.std[..., -1] <= width)
    fit.std[loose] = np.inf
    fit.std[~fitted] = 0.0
    status = np.where(loose, NOT_IDENTIFIABLE, fit.status).astype(np.uint8)
    return Fit(fit.kappa, fit.std, fit.residual, status)


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
        Q.

    Returns
    -------
    sigma : float
        In the unit of S; 0 if no voxel was fitted or no degree of freedom is left.
    """
    dof = S.shape[-1] - num_parameters
    if dof < 1:
        return 0.0
    fitted = fit.status < NO_SIGNAL
    if mask is not None:
        fitted &= np.asarray(mask, dtype=bool)
    free = fitted & (fit.status != AT_BOUND)
    values = fit.residual[free if free.sum() >= 0.1 * fitted.sum() else fitted]
    if values.size == 0:
        return 0.0
    chi2_median = 2.0 * gammaincinv(0.5 * dof, 0.5)
    return float(np.sqrt(np.median(values.astype(np.float64) ** 2) * dof / chi2_median))
