"""Joint maximum-likelihood fit of all voxels, with a smooth, a shared or a known B (or e).

The objective, of the paper's Eq. 2, is

    J = sum_x sum_n (S_n(x) - |f_n(A, B, T)(x)|)^2 / (2 sigma(x)^2)
        + lambda_B / 2  sum_x (Laplacian of B)(x)^2,

with the Laplacian in voxels (a sum of second differences over the neighbours inside the mask, see
`relaxnet.fitting.laplacian`), and A and T free in every voxel. The paper gives lambda_B = 500
without the scale of its likelihood; here lambda_B is one over the variance that it grants the
Laplacian of B: 500 stands for a standard deviation of 0.045.

**Elimination.** For given B the least cost over A and T is a matter of each voxel alone
(`relaxnet.fitting.known_ratio`): ``W_x(B) = min over A, T``. What is left,

    J(B) = sum_x W_x(B_x) + lambda_B / 2 |L B|^2,

is minimised by Newton steps with a line search (`relaxnet.fitting.joint`). The second derivative of
W is the Schur complement ``h = F_BB - F_Ba F_aa^-1 F_aB`` of the voxel's Fisher information, a =
(A, T), so that each step is one sparse system ``(diag(h) + lambda_B L'L) dB = -(dW/dB + lambda_B
L'L B)``, solved by preconditioned conjugate gradients. B stays within its bounds by an active set.
With few images W has barriers between polarities; then a start also comes through larger weights.

**Automatic lambda_B.** The weight that makes the data most probable (type-II maximum likelihood,
in Laplace's approximation), by its fixed point

    lambda_B = (tr(H P^-1) - c) / |L B|^2,   H = diag(h), P = H + lambda_B L'L,

c being the number of connected parts of the mask, whose constants cost nothing.

**Finite TR.** With `tr` the efficiency e takes the place of B (`relaxnet.fitting.finite_tr`): it is
smooth in space where B, which then depends on T1, is not. Results are given as (A, B, T1) all the
same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from relaxnet.fitting.crlb import covariance_with_known, fisher_information, inverse
from relaxnet.fitting.finite_tr import apparent, apparent_jacobian, finite_tr_model
from relaxnet.fitting.inputs import Bounds, check_mask, check_series, check_sigma, fit_bounds
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
from relaxnet.fitting.parallel import in_chunks
from relaxnet.fitting.result import (
    AT_BOUND,
    CONVERGED,
    NO_SIGNAL,
    Fit,
    at_bound,
    empty_fit,
    estimate_sigma,
    flag_loose,
    store,
)
from relaxnet.fitting.separable import make_problem
from relaxnet.fitting.voxelwise import fit_voxelwise
from relaxsim.models.signal_model import SignalModel

#: The paper's weight.
LAMBDA_B = 500.0


@dataclass(frozen=True)
class RegularisedFit(Fit):
    """A `Fit` whose ratio, B or the efficiency, is smooth, shared or known.

    Attributes
    ----------
    ratio : array, shape (...), float32
        B, or the efficiency with a finite TR; 0 where no fit.
    lambda_b : float
        Weight of the penalty: 0 for none, inf for a shared or known ratio.
    """

    ratio: np.ndarray
    lambda_b: float


@dataclass(frozen=True)
class _Series:
    """A series ready for a joint fit, and its voxel-wise fit in the parameters of `model`."""

    model: SignalModel
    tr: float | None
    start: Fit
    fitted: np.ndarray  # (...) bool
    scale: np.ndarray  # (n,)
    voxels: Voxels


def fit_regularised(
    S: np.ndarray,
    tau: np.ndarray,
    model: SignalModel,
    sigma: float | np.ndarray | None = None,
    mask: np.ndarray | None = None,
    lambda_b: float | str = LAMBDA_B,
    parameter: str = "B",
    signed: bool = False,
    bounds: Bounds | None = None,
    tr: float | None = None,
    spacing: Sequence[float] | None = None,
    likelihood: str = "gaussian",
    progress: Callable[[int], object] | None = None,
) -> RegularisedFit:
    """Joint fit with a penalty on the Laplacian of the ratio.

    Parameters
    ----------
    S : array, shape (X, N), (X, Y, N) or (X, Y, Z, N)
        Weighted images.
    tau : array, shape (N,)
        Times in ms.
    model : SignalModel
        One with a ratio, such as inversion recovery.
    sigma : float or array, shape (...), optional
        Noise standard deviation in the unit of S; by default from the residuals of the voxel-wise
        fit.
    mask : bool array, shape (...), optional
    lambda_b : float or "auto"
        Weight of the penalty, not negative: 0 is the voxel-wise fit, inf a ratio shared by the
        mask. ``"auto"`` is the weight of greatest marginal likelihood.
    parameter : str
        The ratio's name in `model`.
    signed, bounds
        As for `relaxnet.fitting.voxelwise.fit_voxelwise`; with `tr`, bounds are of M0, e and T1.
    tr : float, optional
        Repetition time in ms: the efficiency then takes the place of B.
    spacing : sequence of float, optional
        Voxel size along each axis; by default all axes count alike.
    likelihood : str
        ``"gaussian"`` (above) or ``"rician"``: for magnitude images of low signal-to-noise ratio,
        the likelihood of `relaxnet.fitting.rician` takes the place of the squares.
    progress : callable, optional
        Called with numbers of voxels while the voxel-wise fit, the start, is made.

    Returns
    -------
    fit : RegularisedFit

    Raises
    ------
    ValueError
        As `relaxnet.fitting.voxelwise.fit_voxelwise`; for a parameter that is no ratio of the
        model, a negative weight, or a repetition time with another model than inversion recovery.
    """
    weight = check_weight(lambda_b)
    series = _prepare(
        S, tau, model, sigma, mask, parameter, signed, bounds, tr, likelihood, progress
    )
    if weight == np.inf:
        return _shared(series)
    if weight == 0 or not series.fitted.any():
        return _voxelwise(series)
    smoothness = make_smoothness(series.fitted, spacing)
    first = LAMBDA_B if weight is None else weight
    state = start_state(series.voxels, smoothness, first, _free(series))
    if weight is None:
        weight, state = automatic_weight(series.voxels, smoothness, LAMBDA_B, state)
    else:
        state = minimise(series.voxels, smoothness, weight, state)
    variance = ratio_variance(smoothness, weight, state)
    return _result(series, state.kappa, _residual(series, state, 0), variance, weight)


def fit_shared(
    S: np.ndarray,
    tau: np.ndarray,
    model: SignalModel,
    sigma: float | np.ndarray | None = None,
    mask: np.ndarray | None = None,
    parameter: str = "B",
    signed: bool = False,
    bounds: Bounds | None = None,
    tr: float | None = None,
    likelihood: str = "gaussian",
    progress: Callable[[int], object] | None = None,
) -> RegularisedFit:
    """Joint fit with one ratio for the whole mask; arguments as for `fit_regularised`."""
    return _shared(
        _prepare(S, tau, model, sigma, mask, parameter, signed, bounds, tr, likelihood, progress)
    )


def fit_fixed(
    S: np.ndarray,
    tau: np.ndarray,
    model: SignalModel,
    value: float | np.ndarray,
    sigma: float | np.ndarray | None = None,
    mask: np.ndarray | None = None,
    parameter: str = "B",
    signed: bool = False,
    bounds: Bounds | None = None,
    tr: float | None = None,
    likelihood: str = "gaussian",
    progress: Callable[[int], object] | None = None,
) -> RegularisedFit:
    """Fit with a known ratio: a number, or a map of shape (...).

    Other arguments, and errors, as for `fit_regularised`. A value outside the bounds widens them.
    """
    value = np.asarray(value, dtype=np.float64)
    shape = np.asarray(S).shape[:-1]
    if value.shape not in ((), shape):
        raise ValueError(f"{parameter} has shape {value.shape}, the images have {shape}.")
    inside = check_mask(mask, shape)
    value = np.broadcast_to(value, shape)
    if not np.isfinite(value[inside]).all():
        raise ValueError(f"the fixed {parameter} must be finite.")
    _check_ratio(model, parameter)
    work = model if tr is None else finite_tr_model(model, tr)
    limits = fit_bounds(work, bounds)
    if inside.any():
        limits[1] = value[inside].min(), value[inside].max()
    series = _prepare(
        S, tau, model, sigma, mask, parameter, signed, list(limits), tr, likelihood, progress
    )
    if not series.fitted.any():
        return _voxelwise(series)
    state = evaluate(series.voxels, value[series.fitted])
    exact = np.zeros(len(state.ratio))
    residual = _residual(series, state, 1)
    return _result(series, state.kappa, residual, exact, np.inf, given=True)


def check_weight(lambda_b: float | str) -> float | None:
    """The weight, or None for an automatic one; refuses what is no weight (ValueError)."""
    if lambda_b == "auto":
        return None
    try:
        weight = float(lambda_b)
    except (TypeError, ValueError):
        weight = np.nan
    if not weight >= 0:
        raise ValueError(f"lambda_b must be a number >= 0 or auto, received {lambda_b!r}.")
    return weight


def _check_ratio(model: SignalModel, parameter: str) -> None:
    if model.num_parameters != 3 or model.parameters[1] != parameter:
        raise ValueError(
            f"{model.name} has no ratio called {parameter!r} that could be regularised "
            f"(its parameters: {', '.join(model.parameters)})."
        )


def _prepare(
    S: np.ndarray,
    tau: np.ndarray,
    model: SignalModel,
    sigma: float | np.ndarray | None,
    mask: np.ndarray | None,
    parameter: str,
    signed: bool,
    bounds: Bounds | None,
    tr: float | None,
    likelihood: str,
    progress: Callable[[int], object] | None,
) -> _Series:
    """Voxel-wise fit, noise, and the samples of the voxels that were fitted."""
    _check_ratio(model, parameter)
    model = model if tr is None else finite_tr_model(model, tr)
    S, tau = np.asarray(S), np.asarray(tau, dtype=np.float64)
    check_series(S, tau, model)
    limits = fit_bounds(model, bounds)
    problem, order = make_problem(tau, model, limits, model.magnitude and not signed)
    if problem.kind != "ratio":
        raise ValueError(f"{parameter} of {model.name} is no ratio and cannot be regularised.")
    inside = check_mask(mask, S.shape[:-1])
    start = fit_voxelwise(S, tau, model, sigma, inside, signed, list(limits), likelihood, progress)
    fitted = start.status < NO_SIGNAL
    samples = S[fitted][:, order]
    scale = np.abs(samples).max(axis=1).astype(np.float64)
    if sigma is None:
        free = int((limits[:, 1] > limits[:, 0]).sum())
        sigma = estimate_sigma(S, start, inside, free) or 1e-6 * scale.max(initial=1e-30)
    noise = check_sigma(sigma, inside)[fitted]
    relative = (samples / scale[:, None]).astype(np.float32)
    rician = likelihood == "rician"
    voxels = Voxels(problem, make_dictionary(problem), relative, noise / scale, rician)
    return _Series(model, tr, start, fitted, scale, voxels)


def _free(series: _Series) -> np.ndarray:
    """Kappa (n, 3) of the voxel-wise fit, relative to the voxel's maximum."""
    kappa = series.start.kappa[series.fitted].astype(np.float64)
    kappa[:, 0] /= series.scale
    return kappa


def _voxelwise(series: _Series) -> RegularisedFit:
    """The fit without a penalty."""
    return _result(series, _free(series), series.start.residual[series.fitted], None, 0.0)


def _shared(series: _Series) -> RegularisedFit:
    """The fit with one ratio."""
    if not series.fitted.any():
        return _voxelwise(series)
    state = shared_ratio(series.voxels)
    variance = np.full(len(state.ratio), 1.0 / max(state.curvature.sum(), 1e-300))
    return _result(series, state.kappa, _residual(series, state, 1), variance, np.inf)


def _residual(series: _Series, state: State, known: int) -> np.ndarray:
    """Root mean square of the residuals; `known` parameters cost no degree of freedom."""
    voxels = series.voxels
    N, Q = voxels.S.shape[1], series.model.num_parameters
    cost = 2.0 * state.W * voxels.sigma**2
    if voxels.rician:  # whose W is more than squares
        signal = np.abs(series.model.signed(state.kappa, voxels.problem.tau, np))
        cost = ((voxels.S - signal) ** 2).sum(axis=1)
    return np.sqrt(cost / max(N - Q + known, 1)) * series.scale


def _result(
    series: _Series,
    kappa: np.ndarray,
    residual: np.ndarray,
    variance: np.ndarray | None,
    weight: float,
    given: bool = False,
) -> RegularisedFit:
    """Maps of a fit.

    `kappa` is that of `series.model` and of samples relative to the voxel's maximum; `variance` is
    that of the ratio, None where the voxel's own data are all that is known of it. A ratio that
    was `given` lies on no bound.
    """
    voxels, scale = series.voxels, series.scale
    bounds = voxels.problem.bounds
    limits = bounds.copy()
    if given:
        limits[1] = 0.0
    status = np.where(at_bound(kappa, limits), AT_BOUND, CONVERGED)
    out = np.empty_like(kappa)
    std = np.empty_like(kappa)

    def work(chunk: np.ndarray) -> None:
        own = None if variance is None else variance[chunk]
        out[chunk], std[chunk] = _estimates(series, kappa[chunk], voxels.sigma[chunk], own)

    in_chunks(work, np.arange(len(kappa)), len(voxels.problem.tau))
    out[:, 0] *= scale
    std[:, 0] *= scale
    start = series.start
    fit = empty_fit(start.status.shape, kappa.shape[1])
    fit.status[...] = start.status
    store(fit, series.fitted, (out, std, residual, status))
    fit = flag_loose(fit, bounds[2, 1] - bounds[2, 0])
    ratio = np.zeros_like(start.residual)
    ratio[series.fitted] = kappa[:, 1]
    return RegularisedFit(**vars(fit), ratio=ratio, lambda_b=weight)


def _estimates(
    series: _Series, kappa: np.ndarray, sigma: np.ndarray, variance: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Parameters (A, B, T) and their standard deviations, relative to the voxel's maximum."""
    likelihood = "rician" if series.voxels.rician else "gaussian"
    F = fisher_information(kappa, series.voxels.problem.tau, sigma, series.model, likelihood)
    C = inverse(F) if variance is None else covariance_with_known(F, 1, variance)
    known = np.isfinite(C).all(axis=(1, 2))
    C[~known] = 0.0
    out = kappa
    if series.tr is not None:
        out, G = apparent(kappa, series.tr), apparent_jacobian(kappa, series.tr)
        C = G @ C @ np.swapaxes(G, 1, 2)
    std = np.sqrt(np.maximum(np.diagonal(C, axis1=1, axis2=2), 0.0))
    std[~known] = np.inf
    return out, std
