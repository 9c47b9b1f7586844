"""Voxel-wise maximum-likelihood fit of a signal model, vectorised over voxels.

For independent Gaussian noise the estimate is that of least squares,

    kappa_hat = argmin over kappa within its bounds of  sum_n (S_n - f_n(kappa))^2,

and does not depend on sigma. It is found by variable projection: the linear parameters are
eliminated in closed form, all polarities of magnitude data included, and what is left is a search
along the relaxation time. The algebra is in `relaxnet.fitting.separable`.

For magnitude images of low signal-to-noise ratio there is the Rician likelihood, whose minimum is
refined from Gaussian ones (`relaxnet.fitting.rician_fit`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from relaxnet.fitting.crlb import fisher_information, inverse_std, unit_std
from relaxnet.fitting.grid_search import Grid, make_grid
from relaxnet.fitting.inputs import Bounds, check_mask, check_series, check_sigma, fit_bounds
from relaxnet.fitting.parallel import in_chunks
from relaxnet.fitting.refine import global_minimum
from relaxnet.fitting.result import (
    AT_BOUND,
    CONVERGED,
    INVALID,
    NO_SIGNAL,
    NOT_IDENTIFIABLE,
    STATUS_NAMES,
    Fit,
    at_bound,
    empty_fit,
    estimate_sigma,
    flag_loose,
    signal_status,
    store,
)
from relaxnet.fitting.rician import without_floor
from relaxnet.fitting.rician_fit import least_of_descents
from relaxnet.fitting.separable import Problem, make_problem
from relaxsim.models.signal_model import SignalModel

__all__ = [
    "AT_BOUND",
    "CONVERGED",
    "INVALID",
    "NOT_IDENTIFIABLE",
    "NO_SIGNAL",
    "STATUS_NAMES",
    "Bounds",
    "Fit",
    "check_series",
    "estimate_sigma",
    "fit_bounds",
    "fit_voxelwise",
]

LIKELIHOODS = ("gaussian", "rician")


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
        Noise standard deviation in the unit of S, for the standard deviations and the Rician
        likelihood. Without it: `estimate_sigma` over the voxels of a Gaussian fit.
    mask : bool array, shape (...), optional
        Voxels to fit.
    signed : bool
        Whether the images hold the signed signal and not its modulus.
    bounds : mapping or sequence, optional
        See `fit_bounds`.
    likelihood : str
        ``"gaussian"``, or ``"rician"`` for magnitude images of low signal-to-noise ratio; negative
        samples then count as 0.
    progress : callable, optional
        Called with the number of voxels done since the last call.

    Returns
    -------
    fit : Fit

    Raises
    ------
    ValueError
        For a series that no fit can use (`check_series`), a mask or sigma of another shape,
        bounds that are none, an unknown likelihood, or signed data with the Rician one.

    Examples
    --------
    >>> from relaxsim.models.inversion_recovery import MODEL as model
    >>> tau = np.array([50.0, 400.0, 1100.0, 2500.0])
    >>> S = model.forward(np.array([3.0, 1.9, 1000.0]), tau)
    >>> fit_voxelwise(S, tau, model).kappa.round(2).tolist()
    [3.0, 1.899999976158142, 1000.0]
    """
    S, tau = np.asarray(S), np.asarray(tau, dtype=np.float64)
    check_series(S, tau, model)
    limits = fit_bounds(model, bounds)
    _check_likelihood(likelihood, signed)
    inside = check_mask(mask, S.shape[:-1])
    noise = None if sigma is None else check_sigma(sigma, inside)
    problem, order = make_problem(tau, model, limits, model.magnitude and not signed)
    grid = make_grid(problem)
    flat, voxels = S.reshape(-1, S.shape[-1]), np.flatnonzero(inside)
    fit = empty_fit((len(flat),), model.num_parameters)

    def gaussian(chunk: np.ndarray) -> None:
        samples = flat[chunk][:, order].astype(np.float64)
        code = signal_status(samples)
        fit.status[chunk] = code
        good = chunk[code == CONVERGED]
        if good.size:
            store(fit, good, _fit_gaussian(problem, grid, samples[code == CONVERGED]))

    def rician(chunk: np.ndarray) -> None:
        samples = flat[chunk][:, order].astype(np.float64)
        store(fit, chunk, _fit_rician(problem, grid, samples, fit.kappa[chunk], noise_of[chunk]))

    one_pass = likelihood == "gaussian"
    in_chunks(gaussian, voxels, flat.shape[1], progress if one_pass else None)
    if noise is None:
        free = int((limits[:, 1] > limits[:, 0]).sum())
        noise = np.full(inside.shape, estimate_sigma(flat, fit, inside.reshape(-1), free))
    noise_of = noise.reshape(-1)
    if one_pass:
        with np.errstate(invalid="ignore", over="ignore"):
            fit.std[...] *= noise_of[:, None]
    elif not (noise > 0).any():
        raise ValueError("no noise is left in the residuals; the Rician likelihood needs a sigma.")
    else:
        in_chunks(rician, voxels[fit.status[voxels] < NO_SIGNAL], flat.shape[1], progress)
    fit = flag_loose(fit, limits[-1, 1] - limits[-1, 0])
    return Fit(*(v.reshape(inside.shape + v.shape[1:]) for v in vars(fit).values()))


def _check_likelihood(likelihood: str, signed: bool) -> None:
    if likelihood not in LIKELIHOODS:
        raise ValueError(
            f"no likelihood is called {likelihood!r}; there are: {', '.join(LIKELIHOODS)}."
        )
    if likelihood == "rician" and signed:
        raise ValueError("the Rician likelihood is one of magnitudes; these data are signed.")


def _fit_gaussian(problem: Problem, grid: Grid, S: np.ndarray) -> tuple[np.ndarray, ...]:
    """Kappa, standard deviations for sigma = 1, residual and status of finite, non-zero voxels."""
    scale = np.abs(S).max(axis=1)
    cost, kappa = global_minimum(problem, grid, S / scale[:, None])
    free = problem.bounds[:, 1] > problem.bounds[:, 0]
    std = np.zeros(kappa.shape)
    std[:, free] = unit_std(problem.model.signed_jacobian(kappa, problem.tau, np)[..., free])
    status = np.where(at_bound(kappa, problem.bounds), AT_BOUND, CONVERGED)
    amplitudes = list(problem.amplitudes)
    std /= scale[:, None]
    std[:, amplitudes] *= scale[:, None]
    kappa[:, amplitudes] *= scale[:, None]
    dof = max(len(problem.tau) - free.sum(), 1)
    return kappa, std, np.sqrt(cost / dof) * scale, status


def _fit_rician(
    problem: Problem, grid: Grid, S: np.ndarray, kappa: np.ndarray, sigma: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Kappa, standard deviations, residual and status under the Rician likelihood.

    Starts are the Gaussian fit and one of samples freed of the noise floor.
    """
    scale = np.abs(S).max(axis=1)
    S, sigma = S / scale[:, None], sigma / scale
    kappa = kappa.astype(np.float64)
    amplitudes = list(problem.amplitudes)
    kappa[:, amplitudes] /= scale[:, None]
    starts = [kappa, global_minimum(problem, grid, without_floor(S, sigma))[1]]
    bounds = np.broadcast_to(problem.bounds, (len(S), *problem.bounds.shape))
    _, kappa = least_of_descents(S, problem.tau, problem.model, starts, sigma, bounds)
    free = problem.bounds[:, 1] > problem.bounds[:, 0]
    information = fisher_information(kappa, problem.tau, sigma, problem.model, "rician")
    std = np.zeros(kappa.shape)
    std[:, free] = inverse_std(information[:, free][:, :, free])
    status = np.where(at_bound(kappa, problem.bounds), AT_BOUND, CONVERGED)
    residual = S - np.abs(problem.model.signed(kappa, problem.tau, np))
    dof = max(len(problem.tau) - free.sum(), 1)
    std[:, amplitudes] *= scale[:, None]
    kappa[:, amplitudes] *= scale[:, None]
    return kappa, std, np.sqrt((residual**2).sum(axis=1) / dof) * scale, status
