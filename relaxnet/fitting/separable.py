"""Variable projection: the global minimum of a separable least-squares problem, for many voxels.

A separable signal model is linear in all parameters but its last one, T (a relaxation time, for
instance), once that one is given (`relaxsim.models.signal_model.Separable`). For given T the least
cost of a voxel over the linear parameters has a closed form, and what remains is a search along T:

    V(T) = min over the linear parameters of  sum_n (S_n - |f_n|)^2.

The linear part has one of three forms. `Separable.from_linear` tells which: it turns the
coefficients c of the basis columns phi_0 and phi_1 into parameters.

    ray    c = A            f = A phi_0
    ratio  c = (A, A r)     f = A (phi_0 + r phi_1), r without unit (B of inversion recovery)
    pair   c = (A, C)       f = A phi_0 + C phi_1

**Polarity.** Magnitude data do not have the sign of f. With the images sorted, f changes its sign
at most once: its first k samples are negative and the others are not. At given T this is true for
r in an interval. The ends of the interval are the roots of ``phi_0 + r phi_1`` at the samples k - 1
and k, cut to the bounds of r. In each interval the signs are known, so that the cost is a quadratic
function of c on a planar cone with two edges. The intervals k = 0 ... N cover all r within the
bounds. The least of the minima on the N + 1 cones is therefore the minimum. This is true of
negative samples as well: a modulus with Gaussian noise may be negative, and the cost then has
convex kinks, which lie on the edges of the cones.

**Search** (`relaxnet.fitting.grid_search`). On a grid in log T, each (T, k) has an orthonormal pair
(m, w) of signal vectors; m is the bisector of its cone, and alpha the half-angle. With y1 = m.S and
y2 = w.S the cost is ``|S|^2 - R``, where

    R = y1^2 + y2^2                                 inside:  |y2| cos(alpha) <= y1 sin(alpha)
    R = max(0, y1 cos(alpha) + |y2| sin(alpha))^2   outside: the nearer edge

The costs of all voxels are thus two matrix products and a few element-wise passes. A local maximum
of R along T is a candidate if its refined value could be the largest.

**Refinement** (`relaxnet.fitting.refine`). For each candidate, a bracketed Newton iteration in
float64 finds the root of dV/dlogT. Its inner minimum respects the bounds of every linear parameter
(`relaxnet.fitting.inner_problem`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from relaxsim.models.signal_model import Separable, SignalModel

#: Indices of the parameters of a ratio model: A, r and T.
AMPLITUDE, RATIO, TIME = 0, 1, 2
#: Points of log T on which the range of each polarity is searched.
FINE = 2048
#: Distance of log T kept from the ends of those ranges.
INSET = 1e-9
#: Bisections of the end of a range: the whole range of log T to rounding.
BISECTIONS = 45


@dataclass(frozen=True)
class Problem:
    """A separable fit: model, sorted protocol, bounds.

    Attributes
    ----------
    model : SignalModel
    protocol : array, shape (N, D)
        Rows sorted by the first column, so that the signal changes from negative to positive.
    bounds : array, shape (Q, 2)
        Of each parameter; those of the amplitudes relative to the voxel's maximum.
    kind : str
        ``"ray"``, ``"ratio"`` or ``"pair"``.
    polarity : bool
        Whether the data are the modulus of the signal.
    """

    model: SignalModel
    protocol: np.ndarray
    bounds: np.ndarray
    kind: str
    polarity: bool

    @property
    def num_images(self) -> int:
        """Number of images, N."""
        return len(self.protocol)

    @property
    def free(self) -> np.ndarray:
        """Whether each parameter is fitted and not fixed by equal bounds, shape (Q,)."""
        return self.bounds[:, 1] > self.bounds[:, 0]

    @property
    def log_T_bounds(self) -> tuple[float, float]:
        """Bounds of T, as logarithms."""
        return float(np.log(self.bounds[-1, 0])), float(np.log(self.bounds[-1, 1]))

    def ray(self, r: np.ndarray | float, T: np.ndarray) -> np.ndarray:
        """Signal of A = 1, (n, N), at the ratio r, a number or (n,), and T, (n,)."""
        phi = columns(self, T)
        return phi[0] + np.reshape(r, (-1, 1)) * phi[1]

    @property
    def splits(self) -> bool:
        """Whether polarity intervals of r are searched (not where r is fixed)."""
        return self.polarity and self.kind == "ratio" and bool(self.free[RATIO])

    @cached_property
    def ranges(self) -> tuple[np.ndarray, np.ndarray]:
        """Possible numbers of negative samples, and the range of T of each.

        Arrays k, shape (K,), and ends, shape (K, 2): the least and the greatest log T at which
        some r within the bounds gives k negative samples.
        """
        return _ranges(self)

    @property
    def amplitudes(self) -> tuple[int, ...]:
        """Indices of the parameters in the unit of S."""
        return (0, 1) if self.kind == "pair" else (0,)


def make_problem(
    protocol: np.ndarray, model: SignalModel, bounds: np.ndarray, polarity: bool
) -> tuple[Problem, np.ndarray]:
    """Problem, and the order that sorts the images for it.

    Parameters
    ----------
    protocol : array, shape (N, D), (N,) of a model with one column
        In any order.
    model : SignalModel
    bounds : array, shape (Q, 2)
    polarity : bool
        Whether the data are magnitudes of a signal that changes sign.

    Raises
    ------
    ValueError
        If the model's linear part is of no known form, or its signed signal changes sign more than
        once along the protocol.
    """
    kind = _kind(model)
    table = model.table(np.asarray(protocol, dtype=np.float64))
    order = np.argsort(table[:, 0], kind="stable")
    if not polarity:
        return Problem(model, table[order], bounds, kind, False), order
    if kind == "pair":
        raise ValueError(
            f"{model.name} holds a modulus of two amplitudes; write its linear part as "
            "coefficients (A, A r) with a ratio r, or fit signed data."
        )
    signs = _corner_signs(model, table[order], bounds)
    rising = (np.diff(signs, axis=-1) >= 0).all()
    falling = (np.diff(signs, axis=-1) <= 0).all()
    if not rising and not falling:
        raise ValueError(f"the signal of {model.name} changes sign more than once.")
    if not rising:
        order = order[::-1]
    return Problem(model, table[order], bounds, kind, True), order


def _kind(model: SignalModel) -> str:
    L = model.num_parameters - 1
    T = np.array([100.0])
    if L == 1 and np.allclose(_form(model).from_linear(np.array([[3.0]]), T, np), [[3.0, 100.0]]):
        return "ray"
    if L == 2:
        kappa = _form(model).from_linear(np.array([[3.0, 1.5]]), T, np)
        if np.allclose(kappa, [[3.0, 0.5, 100.0]]):
            return "ratio"
        if np.allclose(kappa, [[3.0, 1.5, 100.0]]):
            return "pair"
    raise ValueError(
        f"{model.name}: the fit takes models whose basis has coefficients (A,), (A, A r) or "
        "(A, C), and one parameter that they depend on."
    )


def _corner_signs(model: SignalModel, protocol: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Sign of the signal at the bounds of r and over T, (..., N); zeros count as positive."""
    T = np.geomspace(bounds[-1, 0], bounds[-1, 1], 64)
    if model.num_parameters == 2:
        kappa = np.stack([np.ones_like(T), T], axis=-1)
    else:
        r = np.linspace(bounds[RATIO, 0], bounds[RATIO, 1], 9)[:, None]
        kappa = np.stack(np.broadcast_arrays(1.0, r, T), axis=-1)
    return np.where(model.signed(kappa, protocol, np) < 0, -1, 1)


def columns(problem: Problem, T: np.ndarray) -> list[np.ndarray]:
    """Basis at T, shape (n,): one array (n, N) per linear coefficient."""
    phi = _form(problem.model).basis(T, problem.protocol, None, np)
    return [np.ascontiguousarray(phi[..., i]) for i in range(phi.shape[-1])]


# --- polarity ---


def with_polarity(S: np.ndarray, k: np.ndarray) -> np.ndarray:
    """Samples (n, N) with the sign of the first k, shape (n,), changed."""
    return np.where(np.arange(S.shape[1]) < k[:, None], -S, S)


def neighbours(k: np.ndarray) -> np.ndarray:
    """Samples, shape (n, 2), whose roots end the interval of r with k negative samples."""
    return np.stack([k - 1, k], axis=-1)


def binding(S: np.ndarray, k: np.ndarray) -> np.ndarray:
    """Samples, shape (n, 2), whose roots must end the interval of r with k negative samples.

    Only negative samples need an end. Beyond the root of another sample, the quadratic of k is
    above the true cost, so that its minimum is no false one; without an end there the cost is
    smooth.
    """
    index = np.arange(S.shape[1])
    negative = S < 0
    low = np.where(negative & (index < k[:, None]), index, -1).max(axis=1)
    high = np.where(negative & (index >= k[:, None]), index, S.shape[1]).min(axis=1)
    return np.stack([low, high], axis=-1)


def interval(
    problem: Problem, phi: Sequence[np.ndarray], edges: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Range of r between the roots of two samples, cut to its bounds.

    Parameters
    ----------
    phi : two arrays, shape (n, N)
    edges : int array, shape (n, 2)
        Samples; -1 and N stand for the bounds of r.

    Returns
    -------
    low, high : arrays, shape (n,)
        Equal where no r within the bounds lies between the roots.
    """
    low, high = problem.bounds[RATIO]
    N = problem.num_images
    rows = np.arange(len(edges))
    i, j = np.maximum(edges[:, 0], 0), np.minimum(edges[:, 1], N - 1)
    left = np.where(edges[:, 0] < 0, low, _root(phi[0][rows, i], phi[1][rows, i], low, high))
    right = np.where(edges[:, 1] >= N, high, _root(phi[0][rows, j], phi[1][rows, j], low, high))
    return left, np.maximum(left, right)


def _root(p0: np.ndarray, p1: np.ndarray, low: float, high: float) -> np.ndarray:
    """Least r in [low, high] above which ``p0 + r p1`` is negative; `high` if it never is."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        root = -p0 / p1
    root = np.where(p0 + low * p1 <= 0, low, np.where(p0 + high * p1 >= 0, high, root))
    return np.clip(root, low, high)


def _ranges(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    x = np.linspace(*problem.log_T_bounds, FINE)
    if not problem.polarity:
        return np.zeros(1, dtype=int), x[None, [0, -1]]
    k = np.arange(problem.num_images + 1)
    fewest, most = _negative_samples(problem, x)
    possible = (fewest[:, None] <= k) & (k <= most[:, None])
    k = k[possible.any(axis=0)]
    first = possible[:, k].argmax(axis=0)
    last = FINE - 1 - possible[::-1, k].argmax(axis=0)
    left = _bisect(problem, k, x[first], x[np.maximum(first - 1, 0)])
    right = _bisect(problem, k, x[last], x[np.minimum(last + 1, FINE - 1)])
    # Where the range of r closes to a point the slope is undefined: stay just within.
    return k, np.stack([left + INSET, right - INSET], axis=-1)


def _negative_samples(problem: Problem, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest number of negative samples at log T, over the bounds of r."""
    phi = columns(problem, np.exp(x))
    if problem.kind == "ray":
        edges = [phi[0], phi[0]]
    else:
        edges = [phi[0] + r * phi[1] for r in problem.bounds[RATIO]]
    fewest, most = ((edge < 0).sum(axis=1) for edge in edges)
    return fewest, most


def _bisect(problem: Problem, k: np.ndarray, inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """Last log T, on the way from `inside` to `outside`, at which k samples can be negative."""
    for _ in range(BISECTIONS):
        middle = 0.5 * (inside + outside)
        fewest, most = _negative_samples(problem, middle)
        possible = (fewest <= k) & (k <= most)
        inside, outside = np.where(possible, middle, inside), np.where(possible, outside, middle)
    return inside


def corners(problem: Problem, edges: np.ndarray) -> np.ndarray:
    """Values of log T just below and above those at which a root meets a bound of r.

    The slope of the cost jumps there. Returns an array (n, 4), NaN where there is no such value.
    """
    N = problem.num_images
    k, ends = problem.ranges
    low, high = np.full(N + 2, np.nan), np.full(N + 2, np.nan)
    low[k], high[k] = ends.T  # where the root of sample k - 1 leaves, that of k meets its bound
    below = np.where(edges[:, 0] >= 0, high[edges[:, 0]], np.nan)
    above = np.where(edges[:, 1] < N, low[edges[:, 1] + 1], np.nan)
    corners = [below - INSET, below + 3 * INSET, above - 3 * INSET, above + INSET]
    return np.stack(corners, axis=-1)


# --- arithmetic ---


def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Sum over the last axis of the product of two arrays (n, N)."""
    return np.einsum("ij,ij->i", a, b)


def divide(a: np.ndarray | float, b: np.ndarray) -> np.ndarray:
    """Quotient a / b, and 0 where b is 0."""
    out = np.zeros(np.broadcast_shapes(np.shape(a), np.shape(b)))
    return np.divide(a, b, out=out, where=b != 0)


def _form(model: SignalModel) -> Separable:
    """The model's separable form; refuses a model without one."""
    if model.separable is None:
        raise ValueError(f"{model.name} has no separable form.")
    return model.separable
