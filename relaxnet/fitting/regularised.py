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
from dataclasses import replace

import numpy as np

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
from relaxnet.fitting.joint_result import JointSeries, RegularisedFit, Solution, dof, maps_of
from relaxnet.fitting.known_ratio import RatioProblem, make_dictionary
from relaxnet.fitting.laplacian import make_smoothness
from relaxnet.fitting.nonlinear import NonlinearProblem, suits
from relaxnet.fitting.options import VOXELWISE, FitOptions, shared_words
from relaxnet.fitting.result import NO_SIGNAL, estimate_sigma
from relaxnet.fitting.separable import AMPLITUDE, RATIO, TIME, make_problem
from relaxnet.fitting.voxelwise import fit_voxelwise
from relaxsim.models.signal_model import SignalModel

Progress = Callable[[int], object]

#: The paper's weight.
LAMBDA_B = 500.0
#: Noise of a series whose residuals hold none, relative to its largest sample.
LEAST_NOISE = 1e-6


def fit_regularised(
    measurement: Measurement, options: FitOptions, progress: Progress | None = None
) -> RegularisedFit:
    """Joint fit with a penalty on the Laplacian of the shared parameter.

    Parameters
    ----------
    measurement : Measurement
        Of a model with a shared parameter that is separable or one of
        `relaxnet.fitting.nonlinear`, and one protocol for all slices. Sigma is by
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
        return maps_of(series, _shared(series))
    if weight == 0 or not series.fitted.any():
        return maps_of(series, _voxelwise(series))
    smoothness = make_smoothness(series.fitted, measurement.spacing)
    first = LAMBDA_B if weight is None else weight
    state = start_state(series.voxels, smoothness, first, _start(series))
    if weight is None:
        weight, state = automatic_weight(series.voxels, smoothness, LAMBDA_B, state)
    else:
        state = minimise(series.voxels, smoothness, weight, state)
    variance = ratio_variance(smoothness, weight, state)
    return maps_of(series, Solution(state.kappa, _squares(series, state), weight, variance))


def fit_shared(
    measurement: Measurement, options: FitOptions = VOXELWISE, progress: Progress | None = None
) -> RegularisedFit:
    """Joint fit with one value of the shared parameter for the whole mask.

    Arguments, and errors, as for `fit_regularised`; the `lambda_b` of `options` is not used.
    """
    series = _prepare(measurement, options, options.bounds, progress)
    return maps_of(series, _shared(series))


def fit_fixed(
    measurement: Measurement,
    value: float | np.ndarray,
    options: FitOptions = VOXELWISE,
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
        return maps_of(series, _voxelwise(series))
    state = evaluate(series.voxels, value[series.fitted])
    exact = np.zeros(len(state.ratio))
    squares = _squares(series, state)
    return maps_of(series, Solution(state.kappa, squares, np.inf, exact, is_given=True))


def _check_shared(model: SignalModel) -> None:
    """Refuse a model whose shared parameter is not the ratio of a fit."""
    if suits(model):
        return
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
) -> JointSeries:
    """Voxel-wise fit, noise, and the samples of the voxels that were fitted."""
    model = options.fitted_model(measurement.model)
    _check_shared(model)
    S = np.asarray(measurement.S)
    limits = fit_bounds(model, bounds)
    check_series(S, measurement.protocol, model, int((limits[:, 1] > limits[:, 0]).sum()))
    tables = protocol_tables(measurement.protocol, model)
    if len(tables) > 1:
        raise ValueError(
            f"a fit with a smooth, shared or known {shared_words(model)} takes one protocol for "
            f"all slices, received {len(tables)}; fit voxel by voxel."
        )
    modulus = model.magnitude and not measurement.signed
    problem: RatioProblem
    if suits(model):
        problem, order = NonlinearProblem(model, tables[0], limits), np.arange(len(tables[0]))
    else:
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
    return JointSeries(measurement.model, tr, start, fitted, scale, voxels)


def _start(series: JointSeries) -> np.ndarray:
    """Kappa (n, 3) of the voxel-wise fit, relative to the voxel's maximum."""
    kappa = series.start.kappa[series.fitted].astype(np.float64)
    kappa[:, AMPLITUDE] /= series.scale
    return kappa


def _voxelwise(series: JointSeries) -> Solution:
    """The fit without a penalty."""
    relative = series.start.residual[series.fitted] / series.scale
    squares = dof(series, series.problem.free) * relative**2
    return Solution(_start(series), squares, 0.0, None)


def _shared(series: JointSeries) -> Solution:
    """The fit with one ratio."""
    if not series.fitted.any():
        return _voxelwise(series)
    state = shared_ratio(series.voxels)
    variance = np.full(len(state.ratio), 1.0 / max(state.curvature.sum(), 1e-300))
    return Solution(state.kappa, _squares(series, state), np.inf, variance)


def _squares(series: JointSeries, state: State) -> np.ndarray:
    """Sum of squared residuals of each voxel, shape (n,)."""
    voxels, problem = series.voxels, series.problem
    if not voxels.rician:
        return 2.0 * state.W * voxels.sigma**2
    signal = np.abs(problem.model.signed(state.kappa, problem.protocol, np))
    return ((voxels.S - signal) ** 2).sum(axis=1)
