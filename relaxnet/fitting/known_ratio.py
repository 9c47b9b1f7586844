"""Best amplitude and T of each voxel for a known ratio r.

With r known, the signal is ``f = A g`` with ``g = phi_0 + r phi_1`` (the notation is that of
`relaxnet.fitting.separable`), or with the signal g of A = 1 of a model that is not linear in r
(`relaxnet.fitting.nonlinear`). The polarity of magnitude data is that of g, and as long as A is
within its bounds the least cost over A is ``|S|^2 - (S . |g|)^2 / |g|^2``. The ratio may differ
from voxel to voxel: the search uses a dictionary of |g| on a grid of r and log T, the refinement
uses each voxel's r.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from relaxnet.fitting.inner_problem import Profile
from relaxnet.fitting.nonlinear import NonlinearProblem
from relaxnet.fitting.parallel import product
from relaxnet.fitting.refine import descend
from relaxnet.fitting.separable import (
    AMPLITUDE,
    RATIO,
    TIME,
    Problem,
    divide,
    dot,
)

#: Fits whose shared parameter, the ratio, can be known.
RatioProblem = Problem | NonlinearProblem

#: Grid steps of the dictionary: r, and log T.
RATIO_STEP, LOG_T_STEP = 0.01, 0.02
#: A sample of the signal below this share of A is a zero.
AT_ZERO = 1e-6
#: Candidates explain at least this share of what the best one explains on the grid.
NEAR_BEST = 0.998
#: A parameter within this part of a bound lies on it.
NEAR_BOUND = 1e-9


@dataclass(frozen=True)
class Dictionary:
    """Unit signals on a grid of r and log T.

    Attributes
    ----------
    ratios : array, shape (R,)
    x : array, shape (M,)
        log T.
    atoms : array, shape (R, N, M), float32
    norms : array, shape (R, M), float32
        Norm of g, the signal of amplitude 1.
    """

    ratios: np.ndarray
    x: np.ndarray
    atoms: np.ndarray
    norms: np.ndarray

    def nearest(self, r: np.ndarray) -> np.ndarray:
        """Index of the ratio nearest to r."""
        return np.abs(self.ratios - r[..., None]).argmin(axis=-1)


def make_dictionary(problem: RatioProblem) -> Dictionary:
    """Dictionary over the bounds of r and T."""
    low, high = problem.bounds[RATIO]
    ratios = np.linspace(low, high, 1 + int(np.ceil((high - low) / RATIO_STEP)))
    first, last = problem.log_T_bounds
    x = np.linspace(first, last, 2 + int((last - first) / LOG_T_STEP))
    T = np.exp(x)
    atoms = np.empty((len(ratios), problem.num_images, len(x)), dtype=np.float32)
    norms = np.empty((len(ratios), len(x)), dtype=np.float32)
    for atom, norm, r in zip(atoms, norms, ratios, strict=True):
        g = problem.ray(r, T)
        norm[...] = np.sqrt(dot(g, g))
        atom[...] = divide(np.abs(g) if problem.polarity else g, norm[:, None]).T
    return Dictionary(ratios, x, atoms, norms)


def solve_at_ratio(
    problem: RatioProblem, dictionary: Dictionary, S: np.ndarray, r: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Least cost of each voxel over A and T within their bounds, and its kappa.

    Parameters
    ----------
    S : array, shape (n, N)
        Samples in the problem's order, relative to the voxel's maximum.
    r : array, shape (n,)

    Returns
    -------
    cost : array, shape (n,)
    kappa : array, shape (n, 3)
    """
    rows, x = _candidates(dictionary, S.astype(np.float32), r, problem.bounds[AMPLITUDE])
    samples, ratio = S[rows].astype(np.float64), r[rows]

    def evaluate(x: np.ndarray, active: np.ndarray) -> Profile:
        return _profile(problem, x, ratio[active], samples[active])

    ends = np.tile(problem.log_T_bounds, (len(x), 1))
    cost, kappa = descend(evaluate, x, ends, np.full((len(x), 1), np.nan))
    order = np.lexsort((cost, rows))
    best = order[np.searchsorted(rows[order], np.arange(len(S)))]
    return cost[best], kappa[best]


def _candidates(
    dictionary: Dictionary, S: np.ndarray, r: np.ndarray, amplitudes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Row and log T of each local maximum on the grid that is near the best one."""
    nearest = dictionary.nearest(r)
    rows, where = [], []
    for i in np.unique(nearest):
        group = np.flatnonzero(nearest == i)
        match = product(S[group], dictionary.atoms[i])
        norm = dictionary.norms[i]
        best = match.argmax(axis=1)
        top = match[np.arange(len(group)), best]
        outside = (top < amplitudes[0] * norm[best]) | (top > amplitudes[1] * norm[best])
        found = []
        if not outside.all():
            inside = ~outside if outside.any() else np.s_[:]
            floor = np.sqrt(NEAR_BEST) * top[inside]
            found.append((group[inside], *_peaks(match[inside], floor)))
        if outside.any():
            m, samples = match[outside], S[group[outside]]
            a = np.clip(m, amplitudes[0] * norm, amplitudes[1] * norm)
            explained = (2.0 * m - a) * a
            floor = explained.max(axis=1) - (1.0 - NEAR_BEST) * dot(samples, samples)
            found.append((group[outside], *_peaks(explained, floor)))
        for voxels, row, column in found:
            rows.append(voxels[row])
            where.append(dictionary.x[column])
    return np.concatenate(rows), np.concatenate(where)


def _peaks(score: np.ndarray, floor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of each local maximum along a row that is not below the row's floor."""
    edge = np.full((len(score), 1), -np.inf, dtype=score.dtype)
    peak = score >= np.hstack([edge, score[:, :-1]])
    peak &= score > np.hstack([score[:, 1:], edge])
    peak &= score >= floor[:, None]
    row, column = np.nonzero(peak)
    return row, column


def _profile(problem: RatioProblem, x: np.ndarray, r: np.ndarray, S: np.ndarray) -> Profile:
    """Cost along log T at the best amplitude, for given r."""
    T = np.exp(x)
    g = problem.ray(r, T)
    y = np.where(g < 0, -S, S) if problem.polarity else S
    gg = dot(g, g)
    A = np.clip(divide(dot(g, y), gg), *problem.bounds[AMPLITUDE])
    residual = y - A[:, None] * g
    kappa = np.stack([A, r, T], axis=-1)
    along = problem.model.signed_jacobian(kappa, problem.protocol, np)[..., TIME]
    free = dot(along, along) - divide(dot(g, along) ** 2, gg)
    slope, curvature = -2.0 * T * dot(residual, along), 2.0 * T**2 * free
    return Profile(dot(residual, residual), slope, curvature, np.zeros(len(x), np.int8), kappa)


def along_ratio(
    problem: RatioProblem, S: np.ndarray, kappa: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """First and second derivative along r of the least cost over A and T (the Schur complement).

    ``dV/dr = -2 J_r . residual``, and without the terms in the residuals
    ``d2V/dr2 = 2 (|J_r|^2 - |projection of J_r on J_A and J_T|^2)``. A or T on a bound stay there.
    Where the minimum keeps the signal of a negative sample at zero, T moves with r so that it
    stays zero.

    Parameters
    ----------
    S : array, shape (n, N)
    kappa : array, shape (n, 3)
        Of the least cost at its r.

    Returns
    -------
    slope, curvature : arrays, shape (n,)
    """
    f = problem.model.signed(kappa, problem.protocol, np)
    J = problem.model.signed_jacobian(kappa, problem.protocol, np)
    y = np.where(f < 0, -S, S) if problem.polarity else S
    JA, Jr, JT = (np.ascontiguousarray(J[..., q]) for q in range(3))
    low, high = problem.bounds[[AMPLITUDE, TIME]].T
    values = kappa[:, [AMPLITUDE, TIME]]
    fixed = (values <= low * (1 + NEAR_BOUND)) | (values >= high * (1 - NEAR_BOUND))
    if problem.polarity:
        zero = (S < 0) & (np.abs(f) < AT_ZERO * kappa[:, :1])
        i = np.flatnonzero(zero.any(axis=1) & ~fixed[:, 1])
        n = zero[i].argmax(axis=1)
        Jr[i] -= divide(Jr[i, n], JT[i, n])[:, None] * JT[i]
        fixed[i, 1] = True
    JA[fixed[:, 0]], JT[fixed[:, 1]] = 0.0, 0.0
    a, t, at = dot(JA, JA), dot(JT, JT), dot(JA, JT)
    ar, tr = dot(JA, Jr), dot(JT, Jr)
    tr_given_a = tr - divide(at * ar, a)
    curvature = dot(Jr, Jr) - divide(ar**2, a) - divide(tr_given_a**2, t - divide(at**2, a))
    return -2.0 * dot(Jr, y - f), 2.0 * np.maximum(curvature, 0.0)
