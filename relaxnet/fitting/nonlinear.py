"""Least squares of a model of A, p and T whose shared parameter p has no closed form.

The signal is ``f = A g(p, T)``, as that of an echo train, in which p is the transmit field. For
given (p, T) the least cost over A is ``|S|^2 - R`` with

    R = m^2 / q,    m = S.g,    q = |g|^2,    A = m / q.

**Search.** One matrix product with unit signals gives R of all voxels on a grid of p and log T. The
starts are its maxima along p of the greatest R along T, which a parabola through the nodes tells.

**Descent.** Damped Gauss-Newton steps in p and log T, with A eliminated: the gradient of R / 2 is
``A (m_i - A q_i / 2)``, and its curvature ``A^2 (g_i.g_j - (g.g_i)(g.g_j) / q)``. The best of the
minima is the estimate. Where two p on either side of a value give one signal, as of a train without
a slice profile, the lesser is searched (`relaxsim.models.signal_model.SharedParameter.mirror`).

A voxel whose best A lies beyond its bounds is left to the general fit
(`relaxnet.fitting.general`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from relaxnet.fitting.general import GeneralProblem, descend_from_grid, make_general
from relaxnet.fitting.parallel import product
from relaxnet.fitting.refine import best_of
from relaxnet.fitting.separable import AMPLITUDE, RATIO, TIME, divide, dot
from relaxsim.models.signal_model import SignalModel

#: Steps of the grid: of log T, and of p relative to the points that its model asks for.
LOG_T_STEP, DENSER = 0.16, 2
#: A start is dropped if its cost exceeds that of the best one by this factor and, since nodes lie
#: apart, by this share of the voxel's power.
WORSE, APART = 4.0, 2e-3
#: Nodes of p over which R must hardly change for both ends of the range to be starts.
FLAT = 2
#: Descents: first damping, its factors after a good and a bad step and where it ends, longest step
#: and most steps of all descents, and of the best one of a voxel after that.
DAMPING, AFTER_GOOD, AFTER_BAD, LARGEST = 1e-3, 0.2, 10.0, 1e6
LONGEST, MAX_STEPS, LAST_STEPS = 0.4, 8, 12
#: A descent that has not ended goes on if so many times its next step would make it the best.
CATCHES_UP = 4.0
#: After each so many steps, a descent ends if it is as near as this to another one of its voxel, in
#: p and log T.
MEETING, TOGETHER = 3, 0.02
#: A descent ends when a step that is damped by no more than the last of these promises less than
#: the first part of the noise's variance, or of the second part of the voxel's power.
ENOUGH, ROUNDING, NEARLY_UNDAMPED = 1e-3, 1e-12, 1e-2
#: Bytes of the products with one block of voxels.
BLOCK_BYTES = 1 << 21


@dataclass(frozen=True)
class NonlinearProblem:
    """A fit of such a model; attributes are named as in `relaxnet.fitting.separable.Problem`.

    Attributes
    ----------
    model : SignalModel
    protocol : array, shape (N, D)
    bounds : array, shape (3, 2)
        Of A, relative to the voxel's maximum, p and T.
    kind : str
        ``"ratio"``: p takes the place of a ratio that voxels may share.
    polarity : bool
        False: the signal does not change its sign.
    """

    model: SignalModel
    protocol: np.ndarray
    bounds: np.ndarray
    kind: str = "ratio"
    polarity: bool = False

    @property
    def num_images(self) -> int:
        """Number of images, N."""
        return len(self.protocol)

    @property
    def free(self) -> np.ndarray:
        """Whether each parameter is fitted and not fixed by equal bounds, shape (3,)."""
        return self.bounds[:, 1] > self.bounds[:, 0]

    @property
    def log_T_bounds(self) -> tuple[float, float]:
        """Bounds of T, as logarithms."""
        return float(np.log(self.bounds[-1, 0])), float(np.log(self.bounds[-1, 1]))

    def ray(self, r: np.ndarray | float, T: np.ndarray) -> np.ndarray:
        """Signal of A = 1, (n, N), at the shared parameter r and T, each (n,)."""
        r = np.broadcast_to(r, T.shape)
        return self.model.signed(np.stack([np.ones_like(T), r, T], axis=-1), self.protocol, np)

    @cached_property
    def searched(self) -> np.ndarray:
        """Range of p and log T that holds the minima, (2, 2)."""
        shared, (low, high) = self.model.shared, self.bounds[RATIO]
        assert shared is not None
        mirror = None if shared.mirror is None else shared.mirror(self.protocol)
        if mirror is not None and low <= 2.0 * mirror - high < mirror:
            high = mirror
        return np.array([(low, high), self.log_T_bounds])

    @cached_property
    def grid(self) -> Grid:
        """Unit signals among which a search begins."""
        return make_grid(self)

    @cached_property
    def general(self) -> GeneralProblem:
        """The same fit by grid search and descent in all parameters."""
        return make_general(self.model, self.protocol, self.bounds, modulus=False)


@dataclass(frozen=True)
class Grid:
    """Unit signals on a grid.

    Attributes
    ----------
    p : array, shape (P,)
    x : array, shape (M,)
        log T.
    atoms : array, shape (N, P M), float32
    """

    p: np.ndarray
    x: np.ndarray
    atoms: np.ndarray


def suits(model: SignalModel) -> bool:
    """Whether this fit takes a model: of A, p and T, p shared, not separable, of one sign."""
    return (
        model.separable is None
        and not model.known_maps
        and not model.magnitude
        and model.num_parameters == TIME + 1
        and model.shared_index == RATIO
    )


def make_grid(problem: NonlinearProblem) -> Grid:
    """Grid over the bounds of p and T."""
    shared = problem.model.shared
    assert shared is not None
    low, high = problem.searched[0]
    p = np.linspace(low, high, DENSER * shared.points - 1) if high > low else np.array([low])
    first, last = problem.log_T_bounds
    x = np.linspace(first, last, 1 + int(np.ceil((last - first) / LOG_T_STEP)))
    mesh = np.meshgrid(p, x, indexing="ij")
    g = problem.ray(mesh[0].ravel(), np.exp(mesh[1].ravel()))
    atoms = divide(g, np.sqrt(dot(g, g))[:, None])
    return Grid(p, x, np.ascontiguousarray(atoms.T, dtype=np.float32))


def nonlinear_minimum(problem: NonlinearProblem, S: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least sum of squares of each voxel within the bounds, and its kappa.

    Parameters
    ----------
    problem : NonlinearProblem
    S : array, shape (n, N), float64
        Samples relative to the voxel's maximum; no voxel is zero.

    Returns
    -------
    cost : array, shape (n,)
    kappa : array, shape (n, 3)
    """
    power = dot(S, S)
    voxel, start = _starts(problem.grid, S, power)
    R, _, x, promised = _descend(problem, S, voxel, start, power, MAX_STEPS)
    most = np.zeros(len(S))
    np.maximum.at(most, voxel, R)
    best = R + CATCHES_UP * promised >= most[voxel]
    best &= (R >= most[voxel]) | (promised > 0)
    voxel = voxel[best]
    R, A, x, _ = _descend(problem, S, voxel, x[best], power, LAST_STEPS)
    best = best_of(voxel, -R)
    cost, kappa = power - R[best], np.column_stack([A, x[:, 0], np.exp(x[:, 1])])[best]
    low, high = problem.bounds[AMPLITUDE]
    rows = np.flatnonzero((kappa[:, 0] <= low) | (kappa[:, 0] >= high))
    if rows.size:
        cost[rows], kappa[rows] = descend_from_grid(problem.general, S[rows], None)
    return np.maximum(cost, 0.0), kappa


def _starts(grid: Grid, S: np.ndarray, power: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Voxel, which ascends, and (p, log T) of each start."""
    size = max(16, BLOCK_BYTES // (4 * grid.atoms.shape[1]))
    samples, found = S.astype(np.float32), []
    out = np.empty((min(size, len(S)), grid.atoms.shape[1]), np.float32)
    for first in range(0, len(S), size):
        rows = slice(first, min(first + size, len(S)))
        match = product(samples[rows], grid.atoms, out[: rows.stop - first])
        voxel, start = _peaks(
            grid, match.reshape(-1, len(grid.p), len(grid.x)), power[rows], S.shape[1]
        )
        found.append((voxel + first, start))
    voxel, start = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return voxel, start


def _peaks(
    grid: Grid, match: np.ndarray, power: np.ndarray, N: int
) -> tuple[np.ndarray, np.ndarray]:
    """Starts of a block, of which `match` (n, P, M) holds the root of R, from N images.

    Where R changes by less than the noise's variance over several nodes of p, the ends of this
    range are starts, too: minima within it may lie closer to each other than nodes do.
    """
    R, x = _along_T(grid, match)
    edge = np.full((len(match), 1), -np.inf)
    peak = (R >= np.hstack([edge, R[:, :-1]])) & (R > np.hstack([R[:, 1:], edge]))
    most = R.max(axis=1, keepdims=True)
    spent = power[:, None]
    peak &= spent - R <= WORSE * (spent - most) + APART * spent
    peak |= most == R
    level = R >= most - np.maximum(spent - most, 0.0) / N
    begin, end = level.argmax(axis=1), R.shape[1] - 1 - level[:, ::-1].argmax(axis=1)
    flat = np.flatnonzero(end - begin > FLAT)
    peak[flat, begin[flat]] = peak[flat, end[flat]] = True
    voxel, column = np.nonzero(peak)
    return voxel, np.stack([grid.p[column], x[voxel, column]], axis=-1)


def _along_T(grid: Grid, match: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Greatest R along T by a parabola through nodes, and its log T; (n, P, M) -> (n, P)."""
    flat = match.reshape(-1, match.shape[-1])
    place, last = flat.argmax(axis=1), flat.shape[1] - 1
    rows = np.arange(len(flat))
    left, here, right = (
        np.maximum(flat[rows, np.clip(place + k, 0, last)], 0.0).astype(np.float64) ** 2
        for k in (-1, 0, 1)
    )
    bend = np.maximum(2.0 * here - left - right, 1e-12)
    shift = np.clip(0.5 * (right - left) / bend, -0.5, 0.5)
    step = grid.x[1] - grid.x[0] if last else 0.0
    R, x = here + 0.25 * shift * (right - left), grid.x[place] + shift * step
    return R.reshape(match.shape[:2]), x.reshape(match.shape[:2])


def _descend(
    problem: NonlinearProblem,
    S: np.ndarray,
    voxel: np.ndarray,
    start: np.ndarray,
    power: np.ndarray,
    most: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Local maximum of R from each start: R (n,), its A (n,) and its (p, log T), (n, 2).

    The last array (n,) is what the next step of a descent that has not ended promises, else 0. Of
    two descents of a `voxel` (n,) that come together one ends.
    """
    low, high = problem.searched.T
    x, rows = np.clip(start, low, high), np.arange(len(start))
    damping = np.full(len(x), DAMPING)
    R, A, gradient, H = _derivatives(problem, S[voxel], x)
    left = np.zeros(len(x))
    for number in range(most):
        now = x[rows]
        step = _step(now, gradient[rows], H[rows], damping[rows], (low, high))
        promised = (gradient[rows] * step).sum(axis=1)
        of_row = voxel[rows]
        noise = np.maximum(power[of_row] - R[rows], ROUNDING * power[of_row]) / problem.num_images
        new = now + step
        tried = _derivatives(problem, S[of_row], new)
        better = tried[0] >= R[rows]
        for kept, values in zip((x, R, A, gradient, H), (new, *tried), strict=True):
            kept[rows[better]] = values[better]
        damping[rows] *= np.where(better, AFTER_GOOD, AFTER_BAD)
        done = better & (promised <= ENOUGH * noise) & (damping[rows] < NEARLY_UNDAMPED)
        rows = rows[~done & (damping[rows] < LARGEST)]
        if number % MEETING == MEETING - 1:
            rows = rows[~_meets(voxel, x)[rows]]
        if not rows.size:
            break
    else:
        step = _step(x[rows], gradient[rows], H[rows], damping[rows], (low, high))
        left[rows] = (gradient[rows] * step).sum(axis=1)
    return R, A, x, left


def _meets(voxel: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Whether a descent (n,) is next to the one before it of the same voxel."""
    near = (np.abs(np.diff(x, axis=0, prepend=np.inf)) < TOGETHER).all(axis=1)
    return near & (np.diff(voxel, prepend=-1) == 0)


def _derivatives(
    problem: NonlinearProblem, S: np.ndarray, x: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """R and A (n,), half the gradient of R (n, 2) along p and log T, minus half its curvature.

    The curvature (n, 3) is that of Gauss and Newton, of (p, p), (p, log T) and (log T, log T).
    """
    T = np.exp(x[:, 1])
    kappa = np.stack([np.ones_like(T), x[:, 0], T], axis=-1)
    J = problem.model.signed_jacobian(kappa, problem.protocol, np)
    g, along_p, along_x = J[..., 0], J[..., RATIO], J[..., TIME] * T[:, None]
    m, q = dot(S, g), np.maximum(dot(g, g), 1e-300)
    A = np.maximum(m, 0.0) / q
    mixed = [dot(g, along) for along in (along_p, along_x)]
    gradient = [A * (dot(S, d) - A * c) for d, c in zip((along_p, along_x), mixed, strict=True)]
    H = [
        dot(along_p, along_p) - mixed[0] ** 2 / q,
        dot(along_p, along_x) - mixed[0] * mixed[1] / q,
        dot(along_x, along_x) - mixed[1] ** 2 / q,
    ]
    return A * m, A, np.stack(gradient, axis=-1), np.stack(H, axis=-1) * (A * A)[:, None]


def _step(
    x: np.ndarray,
    gradient: np.ndarray,
    H: np.ndarray,
    damping: np.ndarray,
    ends: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
    """Damped step (n, 2); a coordinate that it would carry across a bound stays on it."""
    low, high = ends
    pressed = ((x <= low) & (gradient < 0)) | ((x >= high) & (gradient > 0)) | (low >= high)
    g = np.where(pressed, 0.0, gradient)
    least = 1e-9 * (H[:, 0] + H[:, 2]) + 1e-100  # nothing is known where A is 0
    a, c = (np.maximum(H[:, i], least) * (1.0 + damping) for i in (0, 2))
    b = np.where(pressed.any(axis=1), 0.0, H[:, 1])
    determinant = np.maximum(a * c - b * b, 1e-12 * a * c)
    step = np.stack([c * g[:, 0] - b * g[:, 1], a * g[:, 1] - b * g[:, 0]], axis=-1)
    step = np.clip(step / determinant[:, None], -LONGEST, LONGEST)
    return np.clip(x + step, low, high) - x
