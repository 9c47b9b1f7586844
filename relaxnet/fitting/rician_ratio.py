"""Best amplitude and T of each voxel for a known ratio, under Rician noise.

The counterpart of `relaxnet.fitting.known_ratio` for Rician noise: the least cost over A and T at
a given ratio r, and its derivatives along r.
"""

from __future__ import annotations

import numpy as np

from relaxnet.fitting.known_ratio import Dictionary, RatioProblem, solve_at_ratio
from relaxnet.fitting.rician import without_floor
from relaxnet.fitting.rician_fit import RicianVoxels, cost_and_derivatives, least_of_descents
from relaxnet.fitting.separable import AMPLITUDE, RATIO, TIME

#: The parameters that are fitted at a known ratio.
OTHERS = [AMPLITUDE, TIME]
#: A parameter within this part of a bound lies on it.
NEAR_BOUND = 1e-9


def solve_rician_at_ratio(
    problem: RatioProblem,
    dictionary: Dictionary,
    S: np.ndarray,
    sigma: np.ndarray,
    r: np.ndarray,
    start: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Least negative log-likelihood of each voxel over A and T within their bounds, and its kappa.

    Parameters
    ----------
    S : array, shape (n, N)
        Magnitudes in the problem's order, relative to the voxel's maximum.
    sigma : array, shape (n,)
        Noise standard deviation, relative likewise.
    r : array, shape (n,)
    start : array, shape (n, 3), optional
        Kappa to descend from. By default there are two starts: the least squares of the samples,
        and those of samples freed of the noise floor.

    Returns
    -------
    nll : array, shape (n,)
    kappa : array, shape (n, 3)
    """
    bounds = np.repeat(problem.bounds[None], len(S), axis=0)
    bounds[:, RATIO] = r[:, None]
    if start is None:
        samples = (S, without_floor(S, sigma))
        starts = [solve_at_ratio(problem, dictionary, y, r)[1] for y in samples]
    else:
        starts = [start]
    voxels = RicianVoxels(S, sigma, problem.model, problem.protocol)
    return least_of_descents(voxels, starts, bounds)


def rician_along_ratio(
    problem: RatioProblem, S: np.ndarray, sigma: np.ndarray, kappa: np.ndarray
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
    voxels = RicianVoxels(S, sigma, problem.model, problem.protocol)
    _, gradient, F = cost_and_derivatives(voxels, kappa)
    low, high = problem.bounds[OTHERS].T
    values = kappa[:, OTHERS]
    fixed = (values <= low * (1 + NEAR_BOUND)) | (values >= high * (1 - NEAR_BOUND))
    inner = F[:, OTHERS][:, :, OTHERS]
    diagonal = np.diagonal(inner, axis1=1, axis2=2)
    scale = np.sqrt(np.maximum(diagonal, 1e-300))
    free = ~(fixed[:, :, None] | fixed[:, None, :])
    C = np.where(free, inner / (scale[:, :, None] * scale[:, None, :]), np.eye(2))
    mixed = np.where(fixed, 0.0, F[:, OTHERS, RATIO] / scale)
    solved = np.linalg.solve(C + 1e-12 * np.eye(2), mixed[..., None])[..., 0]
    curvature = np.maximum(F[:, RATIO, RATIO] - (mixed * solved).sum(axis=1), 0.0)
    return gradient[:, RATIO], curvature
