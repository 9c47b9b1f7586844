"""Least squares of a signal model without a separable form, or with known maps.

Every model is linear in its first parameter, the amplitude A: ``f = A g(theta)``. For given theta
the least cost over A is ``|S|^2 - R`` with

    R = (2 S.g - A |g|^2) A,    A = S.g / |g|^2 cut to its bounds,

where |g| takes the place of g if the data are moduli. R is searched on a grid of theta; the best of
its local maxima are the starts of Levenberg-Marquardt descents in all parameters, and the least of
the minima is the estimate. A minimum in a valley narrower than the grid can be missed; those of
moduli, which differ in the signs of samples, are tried one by one about the best.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import maximum_filter

from relaxnet.fitting.bounded_newton import bounded_newton, from_steps, to_steps
from relaxnet.fitting.parallel import product
from relaxnet.fitting.refine import best_of
from relaxnet.fitting.separable import divide, dot
from relaxsim.models.signal_model import SignalModel

#: Grid: step of the logarithm; ratio of positive bounds above which it is logarithmic; points of a
#: linear one.
LOG_STEP, LOG_RATIO, LINEAR_POINTS = 0.1, 20.0, 33
#: Local maxima of the grid from which a voxel descends.
STARTS = 4
#: Starts cost at most this part of the voxel's power more than the best one: between grid points of
#: one relaxation time a descent gains less than a tenth of it. Along a shared parameter it may gain
#: more.
CLOSE = 0.02
#: Samples of least modulus whose other sign is tried.
FLIPS = 2
#: Decrease of the sum of squares, relative to the voxel's maximum, that is not worth a step.
LEAST_DECREASE = 1e-15
#: Bytes of the signals of one block of the search.
BLOCK_BYTES = 1 << 24


@dataclass(frozen=True)
class GeneralProblem:
    """A fit by grid search and descent.

    Attributes
    ----------
    model : SignalModel
    protocol : array, shape (N, D)
    bounds : array, shape (Q, 2)
        Of each parameter; that of A relative to the voxel's maximum.
    modulus : bool
        Whether the data are moduli of a signal that changes sign.
    shape : tuple of int
        Grid points along each parameter but A; their product is M.
    nodes : array, shape (M, Q)
        Kappa of the grid points, with A = 1.
    """

    model: SignalModel
    protocol: np.ndarray
    bounds: np.ndarray
    modulus: bool
    shape: tuple[int, ...]
    nodes: np.ndarray

    def signal(self, kappa: np.ndarray, known: np.ndarray | None) -> np.ndarray:
        """Signal as the data have it: its modulus if `modulus`."""
        f = self.model.signed(kappa, self.protocol, np, known)
        return np.abs(f) if self.modulus else f


def make_general(
    model: SignalModel, protocol: np.ndarray, bounds: np.ndarray, modulus: bool
) -> GeneralProblem:
    """Problem with the grid of its bounds."""
    points = [_points(model, q, *bounds[q]) for q in range(1, model.num_parameters)]
    mesh = np.meshgrid(*points, indexing="ij")
    nodes = np.stack([np.ones(mesh[0].size), *(values.ravel() for values in mesh)], axis=-1)
    return GeneralProblem(model, protocol, bounds, modulus, mesh[0].shape, nodes)


def _points(model: SignalModel, q: int, low: float, high: float) -> np.ndarray:
    """Grid of parameter q from its lower to its upper bound."""
    if low == high:
        return np.array([low])
    logarithmic = low > 0 and high / low > LOG_RATIO
    if model.shared is not None and q == model.shared_index:
        num = model.shared.points
    elif logarithmic:
        num = 1 + int(np.ceil(np.log(high / low) / LOG_STEP))
    else:
        num = LINEAR_POINTS
    return np.geomspace(low, high, num) if logarithmic else np.linspace(low, high, num)


def descend_from_grid(
    problem: GeneralProblem, S: np.ndarray, known: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Least sum of squares of each voxel within the bounds, and its kappa.

    Parameters
    ----------
    problem : GeneralProblem
    S : array, shape (n, N), float64
        Samples relative to the voxel's maximum; no voxel is zero.
    known : array, shape (n, K), or None

    Returns
    -------
    cost : array, shape (n,)
    kappa : array, shape (n, Q)
    """
    parts = [
        _starts(problem, S[rows], _take(known, rows), rows.start) for rows in _blocks(problem, S)
    ]
    voxel, starts = (np.concatenate(v) for v in zip(*parts, strict=True))
    cost, kappa = _descend(problem, S[voxel], starts, _take(known, voxel))
    best = best_of(voxel, cost)
    cost, kappa = cost[best], kappa[best]
    return _with_other_signs(problem, S, cost, kappa, known) if problem.modulus else (cost, kappa)


def _descend(
    problem: GeneralProblem, S: np.ndarray, kappa: np.ndarray, known: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Local minimum (n,) of the sum of squares within the bounds, and its kappa (n, Q)."""

    def evaluate(u: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return _cost_and_derivatives(problem, S[rows], from_steps(u), _take(known, rows))

    low, high = (to_steps(problem.bounds[:, side]) for side in (0, 1))
    limits = np.broadcast_to(low, kappa.shape), np.broadcast_to(high, kappa.shape)
    half, u = bounded_newton(evaluate, to_steps(kappa), *limits, LEAST_DECREASE)
    return 2.0 * half, from_steps(u)


def _with_other_signs(
    problem: GeneralProblem,
    S: np.ndarray,
    cost: np.ndarray,
    kappa: np.ndarray,
    known: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """The better of a minimum and those that other signs of its smallest samples lead to.

    Each choice of signs has its own minimum, and two that differ in a sample near zero lie closer
    to each other than grid points do.
    """
    f = problem.model.signed(kappa, problem.protocol, np, known)
    signed = replace(problem, modulus=False)
    for n in np.argsort(np.abs(f), axis=1)[:, :FLIPS].T:
        signs = np.where(f < 0, -1.0, 1.0)
        signs[np.arange(len(S)), n] *= -1.0
        _, other = _descend(signed, signs * S, kappa, known)
        other_cost, other = _descend(problem, S, other, known)
        better = other_cost < cost
        cost = np.where(better, other_cost, cost)
        kappa = np.where(better[:, None], other, kappa)
    return cost, kappa


def _blocks(problem: GeneralProblem, S: np.ndarray) -> Iterator[slice]:
    """Rows of S in blocks of which the signals of all grid points fit in `BLOCK_BYTES`."""
    size = max(16, BLOCK_BYTES // (8 * len(problem.nodes) * S.shape[1]))
    for first in range(0, len(S), size):
        yield slice(first, min(first + size, len(S)))


def _take(known: np.ndarray | None, rows: np.ndarray | slice) -> np.ndarray | None:
    return None if known is None else known[rows]


def _starts(
    problem: GeneralProblem, S: np.ndarray, known: np.ndarray | None, first: int
) -> tuple[np.ndarray, np.ndarray]:
    """Voxel, counted from `first`, and kappa of the best local maxima of R on the grid."""
    nodes, n = problem.nodes, len(S)
    if known is None:
        g = problem.signal(nodes, None)  # (M, N)
        match, norm = product(S, g.T), dot(g, g)[None]
    else:
        # What depends on kappa alone, and what on the known map alone, is computed once for each.
        g = problem.signal(nodes[None], known[:, None])  # (n, M, N)
        match, norm = np.einsum("in,imn->im", S, g), np.einsum("imn,imn->im", g, g)
    A = np.clip(divide(match, np.broadcast_to(norm, match.shape)), *problem.bounds[0])
    R = np.nan_to_num((2.0 * match - A * norm) * A, nan=-np.inf)
    neighbourhood = (1, *(3 for _ in problem.shape))
    highest = maximum_filter(R.reshape(n, *problem.shape), neighbourhood, mode="nearest")
    score = np.where(R == highest.reshape(n, -1), R, -np.inf)
    order = np.argsort(-score, axis=1, kind="stable")[:, :STARTS]
    best = np.take_along_axis(score, order, axis=1)
    close = np.inf if problem.model.shared is not None else CLOSE
    keep = best >= best[:, :1] - close * dot(S, S)[:, None]
    keep &= np.isfinite(best)
    keep[:, 0] = True
    row, place = np.nonzero(keep)
    column = order[row, place]
    kappa = nodes[column].copy()
    kappa[:, 0] = A[row, column]
    return row + first, kappa


def _cost_and_derivatives(
    problem: GeneralProblem, S: np.ndarray, kappa: np.ndarray, known: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Half the sum of squares, its gradient and its Gauss-Newton curvature in (A, ..., log T)."""
    J = problem.model.signed_jacobian(kappa, problem.protocol, np, known)
    f = kappa[:, :1] * J[..., 0]  # linear in A
    J[..., -1] *= kappa[:, -1:]
    if problem.modulus:
        sign = np.where(f < 0, -1.0, 1.0)
        f, J = f * sign, J * sign[..., None]
    residual = f - S
    gradient = np.einsum("inq,in->iq", J, residual)
    return 0.5 * dot(residual, residual), gradient, np.swapaxes(J, 1, 2) @ J
