"""Best amplitude and relaxation time of each voxel for a given ratio, under Rician noise.

What `relaxnet.fitting.known_ratio` does for Gaussian noise: the least cost over A and T with r
known, and how it changes along r.
"""

from __future__ import annotations

import numpy as np

from relaxnet.fitting.known_ratio import Dictionary, solve_at_ratio
from relaxnet.fitting.rician import without_floor
from relaxnet.fitting.rician_fit import cost_and_derivatives, least_of_descents
from relaxnet.fitting.separable import Problem


def solve_rician_at_ratio(
    problem: Problem,
    dictionary: Dictionary,
    S: np.ndarray,
    sigma: np.ndarray,
    r: np.ndarray,
    near: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Least negative log-likelihood of each voxel over A and T within their bounds, and its kappa.

    Starts are the least squares of the samples and those of samples freed of the noise floor, or
    kappa `near` by.

    Parameters
    ----------
    S : array, shape (n, N)
        Magnitudes in the problem's order, relative to the voxel's maximum.
    sigma : array, shape (n,)
        Noise standard deviation, relative likewise.
    r : array, shape (n,)
    near : array, shape (n, 3), optional

    Returns
    -------
    nll : array, shape (n,)
    kappa : array, shape (n, 3)
    """
    bounds = np.repeat(problem.bounds[None], len(S), axis=0)
    bounds[:, 1] = r[:, None]
    if near is None:
        samples = (S, without_floor(S, sigma))
        starts = [solve_at_ratio(problem, dictionary, y, r)[1] for y in samples]
    else:
        starts = [near]
    return least_of_descents(S, problem.tau, problem.model, starts, sigma, bounds)


def rician_along_ratio(
    problem: Problem, S: np.ndarray, sigma: np.ndarray, kappa: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """First derivative along r of the least cost over A and T, and a positive second one.

    The second is the Schur complement of the curvature that the fit's steps use
    (`relaxnet.fitting.rician_fit.cost_and_derivatives`). A or T on a bound stay there.

    Parameters
    ----------
    S, sigma
        As for `solve_rician_at_ratio`.
    kappa : array, shape (n, 3)
        Of the least cost at its r.

    Returns
    -------
    slope, curvature : arrays, shape (n,)
    """
    _, gradient, F = cost_and_derivatives(S, problem.tau, problem.model, kappa, sigma)
    low, high = problem.bounds[[0, 2]].T
    beside = kappa[:, [0, 2]]
    held = (beside <= low * (1 + 1e-9)) | (beside >= high * (1 - 1e-9))
    inner = F[:, [0, 2]][:, :, [0, 2]]
    diagonal = np.diagonal(inner, axis1=1, axis2=2)
    scale = np.sqrt(np.maximum(diagonal, 1e-300))
    loose = ~(held[:, :, None] | held[:, None, :])
    C = np.where(loose, inner / (scale[:, :, None] * scale[:, None, :]), np.eye(2))
    mixed = np.where(held, 0.0, F[:, [0, 2], 1] / scale)
    solved = np.linalg.solve(C + 1e-12 * np.eye(2), mixed[..., None])[..., 0]
    return gradient[:, 1], np.maximum(F[:, 1, 1] - (mixed * solved).sum(axis=1), 0.0)
