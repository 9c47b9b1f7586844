"""Voxel-wise maximum-likelihood fit of a signal model, vectorised over voxels.

For independent Gaussian noise the estimate is that of least squares,

    kappa_hat = argmin over kappa within its bounds of  sum_n (S_n - f_n(kappa))^2,

and does not depend on sigma. It is found by variable projection: the linear parameters are
eliminated in closed form, all polarities of magnitude data included, and what is left is a search
along the relaxation time. The algebra is in `relaxnet.separable`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from relaxnet.search import Grid, candidates, exact_reductions, make_grid, reductions, refine
from relaxnet.separable import Problem, dot, make_problem
from relaxnet.uncertainty import unit_std
from relaxsim.signals import SignalModel

#: Values of `Fit.status`.
CONVERGED, AT_BOUND, NOT_IDENTIFIABLE, NO_SIGNAL, INVALID = range(5)
STATUS_NAMES = ("converged", "at a bound", "not identifiable", "no signal", "invalid")

Bounds = Mapping[str, tuple[float, float]] | Sequence[tuple[float, float]]

_CHUNK = 4096  # voxels refined together
_BLOCK_BYTES = 1 << 20  # of the table of one search


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


def check_series(S: np.ndarray, tau: np.ndarray, model: SignalModel) -> None:
    """Refuse a series that no fit can use.

    Parameters
    ----------
    S : array, shape (..., N)
    tau : array, shape (N,)
        ms.
    model : SignalModel

    Raises
    ------
    ValueError
        In one line: not real numbers, number of images and times differ, fewer images than
        parameters, times not finite, negative or all equal, fewer distinct times than parameters.
    """
    S, tau, Q = np.asarray(S), np.asarray(tau), model.num_parameters
    if S.dtype.kind not in "biuf":
        raise ValueError(f"images must be real numbers, received dtype {S.dtype}.")
    if tau.ndim != 1 or tau.size == 0:
        raise ValueError(f"times must be a list of numbers, received shape {tau.shape}.")
    if S.ndim == 0 or S.shape[-1] != tau.size:
        found = S.shape[-1] if S.ndim else 0
        raise ValueError(
            f"the series holds {found} images (shape {' x '.join(map(str, S.shape))}), but "
            f"{tau.size} {model.time_name} are given. Give one time per image."
        )
    if not np.isfinite(tau).all() or (tau < 0).any():
        raise ValueError(f"{model.time_name} must be finite and not negative.")
    if tau.size < Q:
        raise ValueError(
            f"{tau.size} images cannot determine the {Q} parameters ({', '.join(model.parameters)})"
            f" of {model.name}; at least {Q} are needed."
        )
    distinct = np.unique(tau).size
    if distinct == 1:
        raise ValueError(f"all {tau.size} {model.time_name} are {tau[0]:g} ms; they must differ.")
    if distinct < Q:
        raise ValueError(
            f"only {distinct} of the {tau.size} {model.time_name} are distinct; the {Q} parameters "
            f"of {model.name} need {Q}."
        )


def fit_bounds(model: SignalModel, bounds: Bounds | None = None) -> np.ndarray:
    """Bounds of each parameter, shape (Q, 2), checked; the model's own unless given.

    Parameters
    ----------
    model : SignalModel
    bounds : mapping of names to (low, high), or sequence of Q pairs, optional
        A mapping may leave parameters out. Bounds of amplitudes are relative to the largest
        modulus among the voxel's samples. Equal bounds fix a linear parameter.

    Raises
    ------
    ValueError
        If a name is unknown, the number of pairs is not Q, or a pair is not a range.
    """
    if isinstance(bounds, Mapping):
        unknown = [name for name in bounds if name not in model.parameters]
        if unknown:
            raise ValueError(
                f"bounds of {unknown[0]!r}: {model.name} has {', '.join(model.parameters)}."
            )
        pairs = [bounds.get(p, b) for p, b in zip(model.parameters, model.bounds, strict=True)]
    else:
        pairs = list(model.bounds if bounds is None else bounds)
    try:
        out = np.array(pairs, dtype=np.float64)
    except (TypeError, ValueError):
        out = np.empty(0)
    if out.shape != (model.num_parameters, 2) or not np.isfinite(out).all():
        raise ValueError(
            f"bounds must be two finite numbers for each of {', '.join(model.parameters)}."
        )
    for name, (low, high) in zip(model.parameters, out, strict=True):
        if low > high:
            raise ValueError(f"bounds of {name}: {low:g} is above {high:g}.")
    if out[0, 0] < 0 or out[0, 1] <= 0:
        raise ValueError(f"bounds of {model.parameters[0]} must not be negative.")
    if not 0 < out[-1, 0] < out[-1, 1]:
        raise ValueError(f"bounds of {model.parameters[-1]} must be positive and differ.")
    return out


def fit_voxelwise(
    S: np.ndarray,
    tau: np.ndarray,
    model: SignalModel,
    sigma: float | np.ndarray | None = None,
    mask: np.ndarray | None = None,
    signed: bool = False,
    bounds: Bounds | None = None,
    likelihood: str = "gaussian",
    progress: Callable[[int], object] | None = None,
) -> Fit:
    """Maximum-likelihood estimate of each voxel: the global minimum within the bounds.

    Parameters
    ----------
    S : array, shape (..., N)
        Weighted images, any real dtype.
    tau : array, shape (N,)
        Times in ms, one per image, in any order.
    model : SignalModel
    sigma : float or array, shape (...), optional
        Noise standard deviation in the unit of S, for the standard deviations. Without it they
        use `estimate_sigma` over the fitted voxels.
    mask : bool array, shape (...), optional
        Voxels to fit.
    signed : bool
        Whether the images hold the signed signal and not its modulus.
    bounds : mapping or sequence, optional
        See `fit_bounds`.
    likelihood : str
        ``"gaussian"``.
    progress : callable, optional
        Called with the number of voxels done since the last call.

    Returns
    -------
    fit : Fit

    Raises
    ------
    ValueError
        For a series that no fit can use (`check_series`), a mask or sigma of another shape, or
        bounds that are none.

    Examples
    --------
    >>> from relaxsim.signals import INVERSION_RECOVERY as model
    >>> tau = np.array([50.0, 400.0, 1100.0, 2500.0])
    >>> S = model.forward(np.array([3.0, 1.9, 1000.0]), tau)
    >>> fit_voxelwise(S, tau, model).kappa.round(2).tolist()
    [3.0, 1.899999976158142, 1000.0]
    """
    S, tau = np.asarray(S), np.asarray(tau, dtype=np.float64)
    check_series(S, tau, model)
    limits = fit_bounds(model, bounds)
    if likelihood != "gaussian":
        raise ValueError(f"no likelihood is called {likelihood!r}; there is: gaussian.")
    shape, N, Q = S.shape[:-1], S.shape[-1], model.num_parameters
    inside = _voxels(mask, shape, "mask").astype(bool)
    sigmas = None if sigma is None else _check_sigma(sigma, shape)
    problem, order = make_problem(tau, model, limits, model.magnitude and not signed)
    grid = make_grid(problem)

    flat = S.reshape(-1, N)
    kappa = np.zeros((len(flat), Q), dtype=np.float32)
    std = np.zeros((len(flat), Q), dtype=np.float32)
    residual = np.zeros(len(flat), dtype=np.float32)
    status = np.full(len(flat), NO_SIGNAL, dtype=np.uint8)

    def fit_chunk(voxels: np.ndarray) -> int:
        samples = flat[voxels][:, order].astype(np.float64)
        code = _signal_status(samples)
        status[voxels] = code
        good, samples = voxels[code == CONVERGED], samples[code == CONVERGED]
        if good.size:
            kappa[good], std[good], residual[good], status[good] = _fit(problem, grid, samples)
        return len(voxels)

    chunks = _chunks(np.flatnonzero(inside), _CHUNK)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done in pool.map(fit_chunk, chunks):
            if progress is not None:
                progress(done)

    fit = Fit(
        kappa.reshape(*shape, Q),
        std.reshape(*shape, Q),
        residual.reshape(shape),
        status.reshape(shape),
    )
    if sigmas is None:
        free = int((limits[:, 1] > limits[:, 0]).sum())
        sigmas = np.float32(estimate_sigma(S, fit, inside.reshape(shape), free))
    return _with_sigma(fit, sigmas, limits[-1, 1] - limits[-1, 0])


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
    return float(np.sqrt(np.median(values.astype(np.float64) ** 2) * dof / _chi2_median(dof)))


def _chi2_median(dof: int) -> float:
    from scipy.special import gammaincinv

    return float(2.0 * gammaincinv(0.5 * dof, 0.5))


def _fit(problem: Problem, grid: Grid, S: np.ndarray) -> tuple[np.ndarray, ...]:
    """Kappa, standard deviations for sigma = 1, residual and status of finite, non-zero voxels."""
    scale = np.abs(S).max(axis=1)
    S = S / scale[:, None]
    cost, kappa, bounded = _global_minimum(problem, grid, S)
    again = np.flatnonzero(bounded)
    if again.size:
        cost[again], kappa[again], _ = _global_minimum(problem, grid, S[again], bounded=True)
    status = np.where(_at_bound(kappa, problem.bounds), AT_BOUND, CONVERGED)
    free = problem.bounds[:, 1] > problem.bounds[:, 0]
    std = np.zeros(kappa.shape)
    std[:, free] = unit_std(problem.model.signed_jacobian(kappa, problem.tau, np)[..., free])
    amplitudes = list(problem.amplitudes)
    std /= scale[:, None]
    std[:, amplitudes] *= scale[:, None]
    kappa[:, amplitudes] *= scale[:, None]
    dof = max(len(problem.tau) - free.sum(), 1)
    return kappa, std, np.sqrt(cost / dof) * scale, status


def _global_minimum(
    problem: Problem, grid: Grid, S: np.ndarray, bounded: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cost and kappa of each voxel, and whether the search must be repeated with bounds on A.

    The first search only keeps A from being negative. If no candidate ends on a bound of A, the
    best of them is the global minimum; if one does, the bounds belong into the search.
    """
    norm = np.sqrt(dot(S, S))[:, None]
    unit = (S / norm).astype(np.float32)
    amplitudes = problem.bounds[0] / norm if bounded else None
    block = max(16, _BLOCK_BYTES // (4 * grid.m.shape[1]))
    found = []
    for rows in (slice(i, i + block) for i in range(0, len(S), block)):
        if problem.kind == "pair":
            R = exact_reductions(problem, grid, S[rows] / norm[rows])
        else:
            R = reductions(grid, unit[rows], amplitudes[rows] if bounded else None)
        voxel, k, x, ends = candidates(grid, R)
        found.append((voxel + rows.start, k, x, ends))
    voxel, k, x, ends = (np.concatenate(v) for v in zip(*found, strict=True))
    cost, kappa = refine(problem, S[voxel], k, x, ends)
    low, high = problem.bounds[0]
    on_bound = (kappa[:, 0] >= high) | ((kappa[:, 0] <= low) & (low > 0))
    touched = np.zeros(len(S), dtype=bool)
    touched[voxel[on_bound]] = problem.kind != "pair"
    best = _best_of(voxel, cost)
    return cost[best], kappa[best], touched


def _best_of(voxel: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """Index of each voxel's candidate of least cost; `voxel` ascends."""
    order = np.lexsort((cost, voxel))
    first = np.concatenate([[True], voxel[1:] != voxel[:-1]])
    return order[first]


def _at_bound(kappa: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Whether a parameter lies on a bound that is not fixed."""
    free = bounds[:, 1] > bounds[:, 0]
    near = 1e-6 * (bounds[:, 1] - bounds[:, 0])
    return (((kappa <= bounds[:, 0] + near) | (kappa >= bounds[:, 1] - near)) & free).any(axis=1)


def _with_sigma(fit: Fit, sigma: np.ndarray, width: float) -> Fit:
    """Standard deviations for the noise at hand, and the status that follows from them.

    `width` is the range of the relaxation time's bounds.
    """
    fitted = fit.status < NO_SIGNAL
    std = fit.std
    std *= np.broadcast_to(np.asarray(sigma, dtype=np.float32), fitted.shape)[..., None]
    with np.errstate(invalid="ignore"):
        loose = fitted & ~(std[..., -1] <= width)
    std[loose] = np.inf
    std[~fitted] = 0.0
    status = np.where(loose, NOT_IDENTIFIABLE, fit.status).astype(np.uint8)
    return Fit(fit.kappa, std, fit.residual, status)


def _signal_status(S: np.ndarray) -> np.ndarray:
    finite = np.isfinite(S).all(axis=1)
    zero = (S == 0).all(axis=1)
    return np.where(finite, np.where(zero, NO_SIGNAL, CONVERGED), INVALID).astype(np.uint8)


def _chunks(voxels: np.ndarray, size: int) -> Iterable[np.ndarray]:
    return (voxels[i : i + size] for i in range(0, len(voxels), size))


def _voxels(values: np.ndarray | None, shape: tuple[int, ...], name: str) -> np.ndarray:
    """Values of each voxel, flat; ones for None."""
    if values is None:
        return np.ones(int(np.prod(shape)))
    values = np.asarray(values)
    if values.shape != shape:
        raise ValueError(f"{name} has shape {values.shape}, the images have {shape}.")
    return values.reshape(-1)


def _check_sigma(sigma: float | np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    sigma = np.asarray(sigma, dtype=np.float64)
    if sigma.shape not in ((), shape):
        raise ValueError(f"sigma has shape {sigma.shape}, the images have {shape}.")
    if not np.isfinite(sigma).all() or (sigma <= 0).any():
        raise ValueError("sigma must be positive and finite.")
    return sigma
