"""Noise from the residuals of a fit: what the model leaves of the series in tissue.

Residuals hold the noise, less the degrees of freedom that the fit took, and where the model does
not describe a voxel (partial volumes, vessels, motion) more than that. In magnitude images below a
signal-to-noise ratio of about 3 they hold less, since there the modulus narrows the noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.special import chdtr, chdtri, i0e, i1e

from relaxnet.fitting.result import AT_BOUND, NO_SIGNAL, Fit
from relaxnet.series.sample import Sample
from relaxnet.series.shared_course import SharedCourse, shared_course
from relaxsim.models.signal_model import SignalModel

#: Voxels that are fitted at most, evenly spaced: three degrees of freedom a voxel give sigma to
#: within 0.5 %.
VOXELS = 6_000
#: Degrees of freedom of the voxels that are fitted with the Rician likelihood: they give sigma to
#: within 0.4 %.
RICIAN_FREEDOM = 30_000
#: Share of the voxels without misfit that lies below the cut of the mean square.
CUT = 0.9
#: Steps of the correction for magnitudes, and with fewer degrees of freedom than `FEW`. At low SNR
#: more of them lead astray: the fit of few images then takes ever more of the signal for noise.
RICIAN_STEPS, FEW_STEPS, FEW = 3, 1, 4
#: The steps end when one changes sigma by less than this share.
SETTLED = 5e-3
#: Without correction if the modulus narrows the noise's variance by less than this share.
NARROWED = 0.02


@dataclass(frozen=True)
class ResidualNoise:
    """Noise of the residuals of a voxel-wise fit.

    Attributes
    ----------
    sigma : float
        Standard deviation of all that the fit leaves, in the unit of the sample; 0 if no voxel was
        fitted or no degree of freedom is left.
    misfit : float
        Kolmogorov-Smirnov distance of the voxels' sums of squares from chi squared: small if
        noise is all that the model leaves, and the same noise everywhere.
    course : SharedCourse
        What the residuals of all voxels share, which is no noise.
    """

    sigma: float
    misfit: float
    course: SharedCourse

    @property
    def noise(self) -> float:
        """Sigma, without the course that the voxels share where that dominates."""
        return self.sigma * (self.course.noise if self.course.dominates else 1.0)


def residual_noise(sample: Sample, signed: bool, rician: bool) -> ResidualNoise:
    """Noise standard deviation from the residuals of a voxel-wise fit.

    The mean of the voxels' sums of squares, each over its degrees of freedom, below a cut that
    leaves out a tenth of voxels without misfit, corrected for that tenth; the cut follows sigma
    until it rests. In signed data a parameter at a bound takes no degree of freedom, and none does
    where the amplitude is zero. In magnitudes at most one parameter at a bound takes none; the
    choice of polarities takes what the others give back.

    For `rician` magnitudes, if that sigma says that some images lie in the noise floor, the fit is
    repeated with the Rician likelihood, and its residuals are taken around the mean of the Rice
    distribution in units of its narrower width.

    Parameters
    ----------
    sample : Sample
        Voxels of tissue, finite.
    signed : bool
        The samples carry the signal's sign.
    rician : bool
        The samples are magnitudes with Rician noise.

    Returns
    -------
    ResidualNoise
    """
    sample = sample.every(-(-len(sample.S) // VOXELS))
    fit = sample.fit(signed=signed and sample.model.magnitude)
    sigma, misfit = _pooled(fit, _squares(sample, fit), sample, signed)
    fitted = fit.status < NO_SIGNAL
    dof = sample.num_images - sample.model.num_parameters
    if not sigma > 0:
        return ResidualNoise(sigma, misfit, shared_course(np.zeros((0, 1)), np.zeros(0), dof))
    course = _course(sample, fit, sigma, signed)
    if not rician or signed:
        return ResidualNoise(sigma, misfit, course)
    curve = np.abs(sample.part(fitted).forward(fit.kappa[fitted].astype(np.float64)))
    if np.mean(rice_moments(curve / sigma)[1]) > 1 - NARROWED:
        return ResidualNoise(sigma, misfit, course)
    sample = sample.every(-(-len(sample.S) * dof // RICIAN_FREEDOM))
    for _ in range(FEW_STEPS if dof < FEW else RICIAN_STEPS):
        fit = sample.fit(sigma, likelihood="rician")
        better, misfit = _rician_step(sample, fit, sigma)
        before, sigma = sigma, better or sigma
        if abs(sigma / before - 1) < SETTLED:
            break
    return ResidualNoise(sigma, misfit, _course(sample, fit, sigma, rician=True))


def residual_sigma(sample: Sample, signed: bool, rician: bool) -> tuple[float, float]:
    """Sigma and misfit of `residual_noise`."""
    found = residual_noise(sample, signed, rician)
    return found.sigma, found.misfit


def _course(
    sample: Sample, fit: Fit, sigma: float, signed: bool = False, rician: bool = False
) -> SharedCourse:
    """What the residuals of a fit share, in units of the noise of each sample."""
    fitted = fit.status < NO_SIGNAL
    sample, kappa = sample.part(fitted), fit.kappa[fitted].astype(np.float64)
    with np.errstate(all="ignore"):  # estimates at a bound
        signal = sample.signed(kappa) if signed else sample.forward(kappa)
        residuals = (sample.S - signal) / sigma
        if rician:
            mean, variance = rice_moments(np.abs(signal) / sigma)
            residuals = (sample.S / sigma - mean) / np.sqrt(variance)
    largest = np.abs(sample.S).max(axis=1, initial=0.0) / sigma
    return shared_course(residuals, largest, sample.num_images - sample.model.num_parameters)


def rice_moments(snr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of the Rice distribution for sigma = 1.

    Parameters
    ----------
    snr : array
        Noise-free signal over sigma, not negative.

    Examples
    --------
    >>> mean, variance = rice_moments(np.array([0.0, 100.0]))
    >>> mean.round(3).tolist(), variance.round(3).tolist()
    ([1.253, 100.005], [0.429, 1.0])
    """
    grid, table = _rice_table()
    snr = np.asarray(snr, np.float64)
    mean = np.where(snr < grid[-1], np.interp(snr, grid, table), snr + 0.5 / np.maximum(snr, 1.0))
    inside = np.minimum(snr, grid[-1])
    return mean, np.where(snr < grid[-1], 2 + inside**2 - np.interp(inside, grid, table) ** 2, 1.0)


@cache
def _rice_table() -> tuple[np.ndarray, np.ndarray]:
    grid = np.linspace(0.0, 12.0, 4801)
    x = grid**2 / 4
    return grid, np.sqrt(np.pi / 8) * ((2 + grid**2) * i0e(x) + grid**2 * i1e(x))


def _squares(sample: Sample, fit: Fit) -> np.ndarray:
    """Sum of squared residuals of each voxel."""
    dof = max(sample.num_images - fit.kappa.shape[-1], 1)
    return fit.residual.astype(np.float64) ** 2 * dof


def _rician_step(sample: Sample, fit: Fit, sigma: float) -> tuple[float, float]:
    """Sigma from the residuals of a Rician fit that was made with another one."""
    mean, variance = rice_moments(sample.forward(fit.kappa.astype(np.float64)) / sigma)
    squares = ((sample.S - sigma * mean) ** 2).sum(axis=-1) / variance.mean(axis=-1)
    return _pooled(fit, squares, sample)


def _pooled(
    fit: Fit, squares: np.ndarray, sample: Sample, signed: bool = False
) -> tuple[float, float]:
    """Sigma from the voxels' sums of squares, and their distance from chi squared."""
    dof = sample.num_images - sample.model.num_parameters
    fitted = fit.status < NO_SIGNAL
    if dof < 1 or not fitted.any():
        return 0.0, 1.0
    if signed:
        dofs = dof + _num_at_bounds(fit.kappa[fitted], sample.S[fitted], sample.model)
    else:
        dofs = dof + (fit.status[fitted] == AT_BOUND)
    squares = squares[fitted]
    cut = chdtri(np.arange(dof, sample.num_images + 1), 1 - CUT)[dofs - dof]
    mean = dofs * chdtr(dofs + 2, cut) / CUT
    variance = float(np.median(squares / dofs))
    for _ in range(200):
        keep = squares <= cut * variance
        better = float(squares[keep].mean() / mean[keep].mean()) if keep.any() else 0.0
        rests = abs(better - variance) <= 1e-6 * variance
        variance = better
        if rests:
            break
    if not variance > 0:
        return 0.0, 1.0
    shares = np.sort(chdtr(dofs, squares / variance))
    steps = np.arange(1, len(shares) + 1) / len(shares)
    return float(np.sqrt(variance)), float(np.abs(shares - steps).max())


def _num_at_bounds(kappa: np.ndarray, S: np.ndarray, model: SignalModel) -> np.ndarray:
    """Parameters of each voxel that take no degree of freedom.

    Those at a bound; all of them where the amplitude is zero.
    """
    low, high = np.array(model.bounds).T
    scale = np.where(np.array(model.units) == "a.u.", np.abs(S).max(-1, keepdims=True), 1.0)
    near = 1e-6 * (high - low)
    values = kappa / np.maximum(scale, np.finfo(np.float32).tiny)
    at_bounds = ((values <= low + near) | (values >= high - near)).sum(-1)
    return np.where(values[:, 0] <= low[0] + near[0], model.num_parameters, at_bounds)
