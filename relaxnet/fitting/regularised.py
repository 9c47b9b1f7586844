"""Joint maximum-likelihood fit of all voxels, with a smooth, a shared or a known ratio r.

The ratio is the model's shared parameter, which neighbours have in common: B of inversion recovery,
or the efficiency e with a finite repetition time. The objective, of the paper's Eq. 2, is

    J = sum_x sum_n (S_n(x) - |f_n(A, r, T)(x)|)^2 / (2 sigma(x)^2)
        + lambda / 2  sum_x (Laplacian of r)(x)^2.

The Laplacian is in voxels: a sum of second differences over the neighbours inside the mask
(`relaxnet.fitting.laplacian`). A and T are free in every voxel. The paper gives lambda_B = 500
without the scale of its likelihood. Here lambda (`FitOptions.lambda_b`) is one over the variance
that it allows the Laplacian of r: 500 stands for a standard deviation of 0.045.

**Elimination.** At given r, the least cost over A and T is a problem of each voxel alone
(`relaxnet.fitting.known_ratio`): ``W_x(r) = min over A, T``. The rest,

    J(r) = sum_x W_x(r_x) + lambda / 2 |L r|^2,

is minimised by Newton steps with a line search (`relaxnet.fitting.joint`). The second derivative of
W is the Schur complement ``h = F_rr - F_ra F_aa^-1 F_ar`` of the voxel's Fisher information, with a
= (A, T). Each step is therefore one sparse system ``(diag(h) + lambda L'L) dr = -(dW/dr + lambda
L'L r)``, which preconditioned conjugate gradients solve. An active set keeps r within its bounds.
With few images W has barriers between polarities; one more start then comes through larger weights.

**Automatic lambda.** The weight that makes the data most probable (type-II maximum likelihood, in
Laplace's approximation), by its fixed point

    lambda = (tr(H P^-1) - c) / |L r|^2,   H = diag(h), P = H + lambda L'L.

c is the number of connected parts of the mask: a constant of each part costs nothing.

**Finite TR.** With a repetition time the fit has the parameters of the model's finite-TR form
(`relaxsim.models.signal_model.FiniteTR`). Its shared parameter, the efficiency, is smooth in space,
while B then depends on T1 and is not. Results are converted to the parameters of the model at
infinite TR.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from relaxnet.fitting.crlb import covariance_with_known, fisher_information, inverse
from relaxnet.fitting.inputs import (
    Bounds,
    Measurement,
    check_mask,
    check_series,
    check_sigma,
    fit_bounds,
    protocol_tables,
)
from relaxnet.fitting.joint import (
    State,
    Voxels,
    automatic_weight,
    evaluate,
    minimise,
    ratio_variance,
    shared_ratio,
    start_state,
)
from relaxnet.fitting.known_ratio import make_dictionary
from relaxnet.fitting.laplacian import make_smoothness
from relaxnet.fitting.options import FitOptions, shared_words
from relaxnet.fitting.parallel import in_chunks
from relaxnet.fitting.result import (
    AT_BOUND,
    CONVERGED,
    NO_SIGNAL,
    Fit,
    at_bound,
    estimate_sigma,
    with_identifiability,
)
from relaxnet.fitting.separable import AMPLITUDE, RATIO, TIME, Problem, make_problem
from relaxnet.fitting.voxelwise import fit_voxelwise
from relaxsim.models.signal_model import SignalModel

Progress = Callable[[int], object]

#: The paper's weight.
LAMBDA_B = 500.0
#: Noise of a series whose residuals hold none, relative to its largest sample.
LEAST_NOISE = 1e-6
SHARED = FitOptions(share_b=True)


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
class _Series:
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
    def problem(self) -> Problem:
        """The separable problem that the voxels share."""
        return self.voxels.problem


@dataclass(frozen=True)
class _Solution:
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


def fit_regularised(
    measurement: Measurement, options: FitOptions, progress: Progress | None = None
) -> RegularisedFit:
    """Joint fit with a penalty on the Laplacian of the shared parameter.

    Parameters
    ----------
    measurement : Measurement
        Of a separable model with a shared parameter, and one protocol for all slices. Sigma is by
        default that of the residuals of the voxel-wise fit.
    options : FitOptions
        Of which this fit uses `bounds` (with `tr` those of the finite-TR parameters),
        `likelihood`, `tr` and `lambda_b`: 0 or none is the voxel-wise fit, inf a ratio that the
        mask shares, ``"auto"`` the weight of greatest marginal likelihood. Under the Rician
        likelihood its negative logarithm takes the place of the squares in J.
    progress : callable, optional
        Called with the number of voxels done since the last call, during the voxel-wise fit that
        the joint one starts from.

    Returns
    -------
    fit : RegularisedFit

    Raises
    ------
    ValueError
        As `relaxnet.fitting.voxelwise.fit_voxelwise`; for a model without a shared parameter that
        is a ratio, a protocol for each slice, or a repetition time that the model does not know.
    """
    series = _prepare(measurement, options, options.bounds, progress)
    weight = options.weight
    if weight == np.inf:
        return _result(series, _shared(series))
    if weight == 0 or not series.fitted.any():
        return _result(series, _voxelwise(series))
    smoothness = make_smoothness(series.fitted, measurement.spacing)
    first = LAMBDA_B if weight is None else weight
    state = start_state(series.voxels, smoothness, first, _start(series))
    if weight is None:
        weight, state = automatic_weight(series.voxels, smoothness, LAMBDA_B, state)
    else:
        state = minimise(series.voxels, smoothness, weight, state)
    variance = ratio_variance(smoothness, weight, state)
    return _result(series, _Solution(state.kappa, _squares(series, state), weight, variance))


def fit_shared(
    measurement: Measurement, options: FitOptions = SHARED, progress: Progress | None = None
) -> RegularisedFit:
    """Joint fit with one value of the shared parameter for the whole mask.

    Arguments, and errors, as for `fit_regularised`.
    """
    series = _prepare(measurement, options, options.bounds, progress)
    return _result(series, _shared(series))


def fit_fixed(
    measurement: Measurement,
    value: float | np.ndarray,
    options: FitOptions = SHARED,
    progress: Progress | None = None,
) -> RegularisedFit:
    """Fit with a known shared parameter: a number, or a map of shape (...).

    Other arguments, and errors, as for `fit_regularised`. A value outside the bounds widens them.
    """
    value = np.asarray(value, dtype=np.float64)
    shape = np.asarray(measurement.S).shape[:-1]
    model = options.fitted_model(measurement.model)
    _check_shared(model)
    name = shared_words(model)
    if value.shape not in ((), shape):
        raise ValueError(f"{name} has shape {value.shape}, the images have {shape}.")
    inside = check_mask(measurement.mask, shape)
    value = np.broadcast_to(value, shape)
    if not np.isfinite(value[inside]).all():
        raise ValueError(f"the fixed {name} must be finite.")
    bounds = fit_bounds(model, options.bounds)
    if inside.any():
        bounds[RATIO] = value[inside].min(), value[inside].max()
    series = _prepare(measurement, options, list(bounds), progress)
    if not series.fitted.any():
        return _result(series, _voxelwise(series))
    state = evaluate(series.voxels, value[series.fitted])
    exact = np.zeros(len(state.ratio))
    squares = _squares(series, state)
    return _result(series, _Solution(state.kappa, squares, np.inf, exact, is_given=True))


def _check_shared(model: SignalModel) -> None:
    """Refuse a model whose shared parameter is not the ratio of a separable form."""
    if model.separable is None or model.known_maps:
        raise ValueError(f"{model.name} has no separable form: it is fitted voxel by voxel alone.")
    if model.num_parameters != TIME + 1 or model.shared_index != RATIO:
        raise ValueError(
            f"{model.name} has no ratio that voxels could share "
            f"(its parameters: {', '.join(model.parameters)})."
        )


def _prepare(
    measurement: Measurement,
    options: FitOptions,
    bounds: Bounds | None,
    progress: Progress | None,
) -> _Series:
    """Voxel-wise fit, noise, and the samples of the voxels that were fitted."""
    model = options.fitted_model(measurement.model)
    _check_shared(model)
    S = np.asarray(measurement.S)
    check_series(S, measurement.protocol, model)
    tables = protocol_tables(measurement.protocol, model)
    if len(tables) > 1:
        raise ValueError(
            f"a fit with a smooth, shared or known {shared_words(model)} takes one protocol for "
            f"all slices, received {len(tables)}; fit voxel by voxel."
        )
    limits = fit_bounds(model, bounds)
    modulus = model.magnitude and not measurement.signed
    problem, order = make_problem(tables[0], model, limits, modulus)
    if problem.kind != "ratio":
        raise ValueError(f"{shared_words(model)} of {model.name} is no ratio of a separable form.")
    inside = check_mask(measurement.mask, S.shape[:-1])
    alone = FitOptions(bounds=list(limits), likelihood=options.likelihood)
    start = fit_voxelwise(replace(measurement, model=model), alone, progress)
    fitted = start.status < NO_SIGNAL
    samples = S[fitted][:, order]
    scale = np.abs(samples).max(axis=1).astype(np.float64)
    sigma = measurement.sigma
    if sigma is None:
        pooled = estimate_sigma(S, start, inside, int(problem.free.sum()))
        sigma = pooled or LEAST_NOISE * scale.max(initial=1e-30)
    noise = check_sigma(sigma, inside)[fitted]
    relative = (samples / scale[:, None]).astype(np.float32)
    voxels = Voxels(problem, make_dictionary(problem), relative, noise / scale, options.is_rician)
    tr = None if options.tr is None else float(options.tr)
    return _Series(measurement.model, tr, start, fitted, scale, voxels)


def _start(series: _Series) -> np.ndarray:
    """Kappa (n, 3) of the voxel-wise fit, relative to the voxel's maximum."""
    kappa = series.start.kappa[series.fitted].astype(np.float64)
    kappa[:, AMPLITUDE] /= series.scale
    return kappa


def _voxelwise(series: _Series) -> _Solution:
    """The fit without a penalty."""
    relative = series.start.residual[series.fitted] / series.scale
    dof = _dof(series, series.problem.free)
    return _Solution(_start(series), dof * relative**2, 0.0, None)


def _shared(series: _Series) -> _Solution:
    """The fit with one ratio."""
    if not series.fitted.any():
        return _voxelwise(series)
    state = shared_ratio(series.voxels)
    variance = np.full(len(state.ratio), 1.0 / max(state.curvature.sum(), 1e-300))
    return _Solution(state.kappa, _squares(series, state), np.inf, variance)


def _squares(series: _Series, state: State) -> np.ndarray:
    """Sum of squared residuals of each voxel, shape (n,)."""
    voxels, problem = series.voxels, series.problem
    if not voxels.rician:
        return 2.0 * state.W * voxels.sigma**2
    signal = np.abs(problem.model.signed(state.kappa, problem.protocol, np))
    return ((voxels.S - signal) ** 2).sum(axis=1)


def _dof(series: _Series, fitted: np.ndarray) -> int:
    """Degrees of freedom of the residuals, at least 1, for the parameters that were fitted (3,)."""
    return max(series.problem.num_images - int(fitted.sum()), 1)


def _result(series: _Series, solution: _Solution) -> RegularisedFit:
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
    residual = np.sqrt(solution.cost / _dof(series, of_voxel)) * series.scale
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


def _estimates(series: _Series, solution: _Solution) -> tuple[np.ndarray, np.ndarray]:
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
    series: _Series, chunk: np.ndarray, kappa: np.ndarray, variance: np.ndarray | None
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
    series: _Series, kappa: np.ndarray, C: np.ndarray
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
