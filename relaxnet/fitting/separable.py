"""Variable projection: the global minimum of a separable least-squares problem, for many voxels.

A signal model is linear in its first parameters once the last one, the relaxation time T, is
given (`Separable.basis`). The cost of a voxel,

    V(T) = min over the linear parameters of  sum_n (S_n - |f_n|)^2,   f = A (phi_0 + r phi_1),

is then a function of T alone, and its inner minimum has a closed form. Three forms of the linear
part are known, told apart by what `Separable.from_linear` makes of the coefficients c:

    ray    c = A            f = A phi_0
    ratio  c = (A, A r)     f = A (phi_0 + r phi_1), r without unit (B of inversion recovery)
    pair   c = (A, C)       f = A phi_0 + C phi_1

**Polarity.** For magnitude data the sign of f is unknown. With the times sorted, f changes sign
once: its first k samples are negative and the others are not. For given T that holds for r in an
interval, whose ends are the roots of ``phi_0 + r phi_1`` at times k - 1 and k, cut to the bounds
of r. On each interval the modulus is gone and the cost is a quadratic in c on a planar cone with
two edges. The intervals k = 0 ... N cover the box of bounds, so the least of the N + 1 cone-wise
minima is the minimum, for samples of either sign (a modulus with Gaussian noise may be negative;
the cost then has convex kinks on the edges, which the cones hold).

**Search** (`relaxnet.fitting.grid_search`). On a grid in log T, each (T, k) has an orthonormal pair
(m, w) of signal vectors, m along the bisector of its cone, of half-angle alpha. With y1 = m.S, y2 =
w.S the cost is ``|S|^2 - R``, and

    R = y1^2 + y2^2                                 inside:  |y2| cos(alpha) <= y1 sin(alpha)
    R = max(0, y1 cos(alpha) + |y2| sin(alpha))^2   outside: the nearer edge

so all costs of all voxels are two matrix products and a few element-wise passes. All the local
maxima of R along T whose refined value could be the largest are handed on.

**Refinement** (`relaxnet.fitting.refine`). Per candidate, the root of dV/dlogT by a bracketed
Newton iteration in float64, with the bounds of every linear parameter in the inner minimum
(`relaxnet.fitting.inner_problem`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from relaxsim.models.signal_model import Separable, SignalModel

#: Points of log T on which the range of each polarity is found.
FINE = 2048
#: Distance of log T kept from the ends of those ranges.
INSET = 1e-9


@dataclass(frozen=True)
class Problem:
    """A separable fit: model, sorted times, bounds.

    Attributes
    ----------
    model : SignalModel
    tau : array, shape (N,)
        Times in ms, in the order in which `polarity` runs through them.
    bounds : array, shape (Q, 2)
        Of each parameter; those of the amplitudes relative to the voxel's maximum.
    kind : str
        ``"ray"``, ``"ratio"`` or ``"pair"``.
    polarity : bool
        Whether the data are the modulus of the signal.
    """

    model: SignalModel
    tau: np.ndarray
    bounds: np.ndarray
    kind: str
    polarity: bool

    @property
    def log_T_bounds(self) -> tuple[float, float]:
        """Bounds of the relaxation time, as logarithms."""
        return float(np.log(self.bounds[-1, 0])), float(np.log(self.bounds[-1, 1]))

    @property
    def splits(self) -> bool:
        """Whether polarity intervals of r are searched (not where r is fixed)."""
        return self.polarity and self.kind == "ratio" and self.bounds[1, 0] < self.bounds[1, 1]

    @cached_property
    def ranges(self) -> tuple[np.ndarray, np.ndarray]:
        """Each number of negative samples that the signal can have, and where along T it has it.

        Arrays k, shape (K,), and ends, shape (K, 2): the least and the greatest log T at which
        some r within the bounds gives k negative samples.
        """
        return _ranges(self)

    @property
    def amplitudes(self) -> tuple[int, ...]:
        """Indices of the parameters in the unit of S."""
        return (0, 1) if self.kind == "pair" else (0,)


def make_problem(
    tau: np.ndarray, model: SignalModel, bounds: np.ndarray, polarity: bool
) -> tuple[Problem, np.ndarray]:
    """Problem, and the order that sorts the images for it.

    Parameters
    ----------
    tau : array, shape (N,)
        Times in ms, in any order.
    model : SignalModel
    bounds : array, shape (Q, 2)
    polarity : bool
        Whether the data are magnitudes of a signal that changes sign.

    Raises
    ------
    ValueError
        If the model's linear part is of no known form, or its signed signal changes sign along
        tau in a way that no split describes.
    """
    kind = _kind(model)
    order = np.argsort(tau, kind="stable")
    if not polarity:
        return Problem(model, tau[order], bounds, kind, False), order
    if kind == "pair":
        raise ValueError(
            f"{model.name} holds a modulus of two amplitudes; write its linear part as "
            "coefficients (A, A r) with a ratio r, or fit signed data."
        )
    signs = _corner_signs(model, tau[order], bounds)
    rising = (np.diff(signs, axis=-1) >= 0).all()
    falling = (np.diff(signs, axis=-1) <= 0).all()
    if not rising and not falling:
        raise ValueError(f"the signal of {model.name} changes sign more than once along tau.")
    if not rising:
        order = order[::-1]
    return Problem(model, tau[order], bounds, kind, True), order


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
        "(A, C), and one relaxation time."
    )


def _corner_signs(model: SignalModel, tau: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Sign of the signal at the bounds of r and over T, (..., N); zeros count as positive."""
    T = np.geomspace(bounds[-1, 0], bounds[-1, 1], 64)
    if model.num_parameters == 2:
        kappa = np.stack([np.ones_like(T), T], axis=-1)
    else:
        r = np.linspace(bounds[1, 0], bounds[1, 1], 9)[:, None]
        kappa = np.stack(np.broadcast_arrays(1.0, r, T), axis=-1)
    return np.where(model.signed(kappa, tau, np) < 0, -1, 1)


def columns(problem: Problem, T: np.ndarray) -> list[np.ndarray]:
    """Basis at T, shape (n,): one array (n, N) per linear coefficient."""
    phi = _form(problem.model).basis(T, problem.model.table(problem.tau), None, np)
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

    Beyond the root of a sample that is not negative, the quadratic of k is above the true cost:
    it needs no end there, and without it the cost is smooth.
    """
    index = np.arange(S.shape[1])
    held = S < 0
    low = np.where(held & (index < k[:, None]), index, -1).max(axis=1)
    high = np.where(held & (index >= k[:, None]), index, S.shape[1]).min(axis=1)
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
        Equal where no r within the bounds is between the roots.
    """
    low, high = problem.bounds[1]
    N = len(problem.tau)
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
    k = np.arange(len(problem.tau) + 1)
    fewest, most = _negative_samples(problem, x)
    possible = (fewest[:, None] <= k) & (k <= most[:, None])
    k = k[possible.any(axis=0)]
    first = possible[:, k].argmax(axis=0)
    last = FINE - 1 - possible[::-1, k].argmax(axis=0)
    left = _bisect(problem, k, x[first], x[np.maximum(first - 1, 0)])
    right = _bisect(problem, k, x[last], x[np.minimum(last + 1, FINE - 1)])
    # where the range of r closes to a point, the slope has no one value: stay just within
    return k, np.stack([left + INSET, right - INSET], axis=-1)


def _negative_samples(problem: Problem, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest number of negative samples at log T, over the bounds of r."""
    phi = columns(problem, np.exp(x))
    if problem.kind == "ray":
        edges = [phi[0], phi[0]]
    else:
        edges = [phi[0] + r * phi[1] for r in problem.bounds[1]]
    fewest, most = ((edge < 0).sum(axis=1) for edge in edges)
    return fewest, most


def _bisect(problem: Problem, k: np.ndarray, inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """Last log T, on the way from `inside` to `outside`, at which k samples can be negative."""
    for _ in range(45):
        middle = 0.5 * (inside + outside)
        fewest, most = _negative_samples(problem, middle)
        possible = (fewest <= k) & (k <= most)
        inside, outside = np.where(possible, middle, inside), np.where(possible, outside, middle)
    return inside


def corners(problem: Problem, edges: np.ndarray) -> np.ndarray:
    """Where along log T a root meets a bound of r, just below and above: the slope jumps there.

    Returns an array (n, 4), with NaN for what is not there.
    """
    N = len(problem.tau)
    k, ends = problem.ranges
    low, high = np.full(N + 2, np.nan), np.full(N + 2, np.nan)
    low[k], high[k] = ends.T  # the root of sample k - 1 leaves, and that of k meets, its bound
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
