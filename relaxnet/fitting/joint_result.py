"""Maps of a joint fit: parameters, standard deviations, residual and status of each voxel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from relaxnet.fitting.crlb import covariance_with_known, fisher_information, inverse
from relaxnet.fitting.joint import Voxels
from relaxnet.fitting.known_ratio import RatioProblem
from relaxnet.fitting.parallel import in_chunks
from relaxnet.fitting.result import AT_BOUND, CONVERGED, Fit, at_bound, with_identifiability
from relaxnet.fitting.separable import AMPLITUDE, RATIO, TIME
from relaxsim.models.signal_model import SignalModel


@dataclass(frozen=True)
class RegularisedFit(Fit):
    """A `Fit` whose ratio, the model's shared parameter, is smooth, shared or known.

    Attributes
    ----------
    ratio : array, shape (...), float32
        The shared parameter as it was fitted: with a finite TR the efficiency. 0 where no fit.
    lambda_b : float
        Weight of the penalty: 0 for none, inf for a shared or known ratio.
    """

    ratio: np.ndarray
    lambda_b: float


@dataclass(frozen=True)
class JointSeries:
    """A series ready for a joint fit, and its voxel-wise fit.

    Attributes
    ----------
    model : SignalModel
        Of the measurement, at infinite TR.
    tr : float or None
        Repetition time in ms.
    start : Fit
        Voxel-wise fit in the parameters of `voxels.problem.model`.
    fitted : bool array, shape (...)
        Voxels of the joint fit.
    scale : array, shape (n,)
        Largest modulus of each of them.
    voxels : Voxels
    """

    model: SignalModel
    tr: float | None
    start: Fit
    fitted: np.ndarray
    scale: np.ndarray
    voxels: Voxels

    @property
    def problem(self) -> RatioProblem:
        """The problem that the voxels share."""
        return self.voxels.problem


@dataclass(frozen=True)
class Solution:
    """Kappa of the voxels of a joint fit, and how the ratio was found.

    Attributes
    ----------
    kappa : array, shape (n, 3)
        In the parameters of the problem's model, A relative to the voxel's maximum.
    cost : array, shape (n,)
        Sum of squared residuals, relative likewise.
    weight : float
        As `RegularisedFit.lambda_b`.
    variance : array, shape (n,), or None
        Of the ratio; None where it comes from the voxel's data alone.
    is_given : bool
        The ratio was known: it lies on no bound.
    """

    kappa: np.ndarray
    cost: np.ndarray
    weight: float
    variance: np.ndarray | None
    is_given: bool = False


def dof(series: JointSeries, fitted: np.ndarray) -> int:
    """Degrees of freedom of the residuals, at least 1, for the parameters that were fitted (3,)."""
    return max(series.problem.num_images - int(fitted.sum()), 1)


def maps_of(series: JointSeries, solution: Solution) -> RegularisedFit:
    """Maps of a solution."""
    problem, kappa = series.problem, solution.kappa
    of_voxel = problem.free.copy()
    if solution.weight == np.inf:
        of_voxel[RATIO] = False
    limits = problem.bounds.copy()
    if solution.is_given:
        limits[RATIO] = 0.0
    start, fitted = series.start, series.fitted
    status = start.status.copy()
    status[fitted] = np.where(at_bound(kappa, limits), AT_BOUND, CONVERGED)
    of_fitted, std_of_fitted = _estimates(series, solution)
    std = _on_grid(start.std, fitted, std_of_fitted)
    std, status = with_identifiability(std, status, np.ptp(problem.bounds[TIME]))
    residual = np.sqrt(solution.cost / dof(series, of_voxel)) * series.scale
    return RegularisedFit(
        kappa=_on_grid(start.kappa, fitted, of_fitted),
        std=std,
        residual=_on_grid(start.residual, fitted, residual),
        status=status,
        ratio=_on_grid(start.residual, fitted, kappa[:, RATIO]),
        lambda_b=solution.weight,
    )


def _on_grid(like: np.ndarray, fitted: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Map of the shape and type of `like`, with the values of the fitted voxels and 0 elsewhere."""
    out = np.zeros_like(like)
    with np.errstate(over="ignore"):  # a standard deviation beyond float32 is infinite
        out[fitted] = values
    return out


def _estimates(series: JointSeries, solution: Solution) -> tuple[np.ndarray, np.ndarray]:
    """Kappa of the model at infinite TR and its standard deviations, each (n, 3), in units of S."""
    kappa = np.empty_like(solution.kappa)
    std = np.empty_like(solution.kappa)
    variance = solution.variance
    if not series.problem.free[RATIO]:
        variance = np.zeros(len(kappa))  # bounds fix the ratio

    def work(chunk: np.ndarray) -> None:
        v = None if variance is None else variance[chunk]
        C = _covariance(series, chunk, solution.kappa[chunk], v)
        kappa[chunk], std[chunk] = _at_infinite_tr(series, solution.kappa[chunk], C)

    in_chunks(work, np.arange(len(kappa)), series.problem.num_images)
    kappa[:, AMPLITUDE] *= series.scale
    std[:, AMPLITUDE] *= series.scale
    return kappa, std


def _covariance(
    series: JointSeries, chunk: np.ndarray, kappa: np.ndarray, variance: np.ndarray | None
) -> np.ndarray:
    """Covariance (n, 3, 3) of the fitted parameters; not finite where not identifiable.

    `variance` is that of the ratio, None where it comes from the voxel's data alone.
    """
    problem, sigma = series.problem, series.voxels.sigma[chunk]
    likelihood = "rician" if series.voxels.rician else "gaussian"
    F = fisher_information(kappa, problem.protocol, sigma, problem.model, likelihood)
    if problem.free[AMPLITUDE]:
        return inverse(F) if variance is None else covariance_with_known(F, RATIO, variance)
    C = np.zeros_like(F)
    F = F[:, 1:, 1:]
    C[:, 1:, 1:] = inverse(F) if variance is None else covariance_with_known(F, RATIO - 1, variance)
    return C


def _at_infinite_tr(
    series: JointSeries, kappa: np.ndarray, C: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Kappa (n, 3) of the model at infinite TR, and standard deviations by the chain rule."""
    determined = np.isfinite(C).all(axis=(1, 2))
    C = np.where(determined[:, None, None], C, 0.0)
    if series.tr is not None and series.model.finite_tr is not None:
        G = series.model.finite_tr.apparent_jacobian(kappa, series.tr)
        kappa = series.model.finite_tr.apparent(kappa, series.tr)
        C = G @ C @ np.swapaxes(G, 1, 2)
    std = np.sqrt(np.maximum(np.diagonal(C, axis1=1, axis2=2), 0.0))
    return kappa, np.where(determined[:, None], std, np.inf)
