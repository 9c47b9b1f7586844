"""Variable projection: the global minimum of a separable least-squares problem, for many voxels.

A signal model is linear in its first parameters once the last one, the relaxation time T, is
given (`SignalModel.basis`). The cost of a voxel,

    V(T) = min over the linear parameters of  sum_n (S_n - |f_n|)^2,   f = A (phi_0 + r phi_1),

is then a function of T alone, and its inner minimum has a closed form. Three forms of the linear
part are known, told apart by what `SignalModel.from_linear` makes of the coefficients c:

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

**Search** (`relaxnet.search`). On a grid in log T, each (T, k) has an orthonormal pair (m, w) of
signal vectors, m along the bisector of its cone, of half-angle alpha. With y1 = m.S, y2 = w.S the
cost is ``|S|^2 - R``, and

    R = y1^2 + y2^2                                 inside:  |y2| cos(alpha) <= y1 sin(alpha)
    R = max(0, y1 cos(alpha) + |y2| sin(alpha))^2   outside: the nearer edge

so all costs of all voxels are two matrix products and a few element-wise passes. All the local
maxima of R along T whose refined value could be the largest are handed on.

**Refinement** (`relaxnet.search.refine`). Per candidate, the root of dV/dlogT by a bracketed secant
iteration in float64, with the bounds of every linear parameter in the inner minimum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from relaxsim.signals import SignalModel

#: Points of log T on which the range of each polarity is found.
FINE = 2048


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
    if L == 1 and np.allclose(model.from_linear(np.array([[3.0]]), T, np), [[3.0, 100.0]]):
        return "ray"
    if L == 2:
        kappa = model.from_linear(np.array([[3.0, 1.5]]), T, np)
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
    T = np.geomspace(*bounds[-1], 64)
    columns = [np.ones_like(T)]
    if model.num_parameters == 2:
        kappa = np.stack([*columns, T], axis=-1)
    else:
        r = np.linspace(*bounds[1], 9)[:, None]
        kappa = np.stack(np.broadcast_arrays(1.0, r, T), axis=-1)
    return np.where(model.signed(kappa, tau, np) < 0, -1, 1)


def columns(problem: Problem, T: np.ndarray) -> list[np.ndarray]:
    """Basis at T, shape (n,): one array (n, N) per linear coefficient."""
    phi = problem.model.basis(T, problem.tau, np)
    return [np.ascontiguousarray(phi[..., i]) for i in range(phi.shape[-1])]


# --- polarity ------------------------------------------------------------------------------------


def interval(
    problem: Problem, phi: Sequence[np.ndarray], k: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Ends of r for which the first k samples are negative, cut to its bounds.

    Parameters
    ----------
    phi : two arrays, shape (n, N)
    k : int array, shape (n,)

    Returns
    -------
    low, high : arrays, shape (n,)
        Equal where no r within the bounds has this polarity.
    """
    low, high = problem.bounds[1]
    N = len(problem.tau)
    rows = np.arange(len(k))
    left = _root(phi[0][rows, np.maximum(k - 1, 0)], phi[1][rows, np.maximum(k - 1, 0)], low, high)
    right = _root(phi[0][rows, np.minimum(k, N - 1)], phi[1][rows, np.minimum(k, N - 1)], low, high)
    r_low = np.where(k == 0, low, left)
    return r_low, np.maximum(np.where(k == N, high, right), r_low)


def _root(p0: np.ndarray, p1: np.ndarray, low: float, high: float) -> np.ndarray:
    """Least r in [low, high] above which ``p0 + r p1`` is negative; `high` if it never is."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        root = -p0 / p1
    root = np.where(p0 + low * p1 <= 0, low, np.where(p0 + high * p1 >= 0, high, root))
    return np.clip(root, low, high)


def ranges(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """Each number of negative samples that the signal can have, and where along T it has it.

    Returns
    -------
    k : int array, shape (K,)
    ends : array, shape (K, 2)
        Least and greatest log T at which some r within the bounds gives k negative samples.
    """
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
    return k, np.stack([left, right], axis=-1)


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


# --- the inner minimum ---------------------------------------------------------------------------


def solve_linear(
    problem: Problem,
    phi: Sequence[np.ndarray],
    y: np.ndarray,
    limits: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, ...]:
    """Linear parameters of least squared error within their bounds.

    Parameters
    ----------
    phi : one or two arrays, shape (n, N)
    y : array, shape (n, N)
        Data with the polarity of the signal.
    limits : two arrays, shape (n,), optional
        Ends of the second parameter, in place of its bounds.

    Returns
    -------
    parameters : one or two arrays, shape (n,)
        A, or (A, r), or (A, C).
    """
    low, high = problem.bounds[0]
    g00, b0 = dot(phi[0], phi[0]), dot(phi[0], y)
    if problem.kind == "ray":
        return (np.clip(divide(b0, g00), low, high),)
    g01, g11, b1 = dot(phi[0], phi[1]), dot(phi[1], phi[1]), dot(phi[1], y)
    if limits is None:
        limits = tuple(np.full(len(y), v) for v in problem.bounds[1])
    det = g00 * g11 - g01**2
    c0, c1 = b0 * g11 - b1 * g01, b1 * g00 - b0 * g01
    a = divide(c0, det)
    s = divide(c1, c0 if problem.kind == "ratio" else det)
    outside = ~(
        (a >= low) & (a <= high) & (s >= limits[0]) & (s <= limits[1]) & (det > 1e-15 * g00 * g11)
    )
    i = np.flatnonzero(outside)
    if i.size:
        moments = [v[i] for v in (g00, g01, g11, b0, b1)]
        a[i], s[i] = _on_edges(
            moments, (low, high), (limits[0][i], limits[1][i]), problem.kind == "ratio"
        )
    return a, s


def _on_edges(
    moments: list[np.ndarray],
    a_bounds: tuple[float, float],
    s_bounds: tuple[np.ndarray, np.ndarray],
    ratio: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Least quadratic on the four edges of the region of (a, s)."""
    g00, g01, g11, b0, b1 = moments
    points = []
    for s in s_bounds:
        if ratio:
            a = divide(b0 + s * b1, g00 + 2 * s * g01 + s**2 * g11)
        else:
            a = divide(b0 - s * g01, g00)
        points.append((np.clip(a, *a_bounds), s))
    for bound in a_bounds:
        a = np.full_like(g00, bound)
        if ratio:
            s = divide(b1 - a * g01, a * g11)
        else:
            s = divide(b1 - a * g01, g11)
        points.append((a, np.clip(s, *s_bounds)))
    A, s = (np.stack(v) for v in zip(*points, strict=True))
    c = A * s if ratio else s
    q = A**2 * g00 + 2 * A * c * g01 + c**2 * g11 - 2 * (A * b0 + c * b1)
    best = np.argmin(q, axis=0)[None]
    return np.take_along_axis(A, best, 0)[0], np.take_along_axis(s, best, 0)[0]


def with_polarity(S: np.ndarray, k: np.ndarray) -> np.ndarray:
    """Samples (n, N) with the sign of the first k, shape (n,), changed."""
    return np.where(np.arange(S.shape[1]) < k[:, None], -S, S)


def profile(
    problem: Problem, x: np.ndarray, k: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cost and its derivative along log T, at the best linear parameters of polarity k.

    Parameters
    ----------
    x : array, shape (n,)
        log T.
    k : int array, shape (n,)
        Number of negative samples.
    y : array, shape (n, N)
        Samples in the problem's order, `with_polarity`.

    Returns
    -------
    cost, slope : arrays, shape (n,)
        Where the best r lies on a root, the slope follows the root as it moves with T.
    kappa : array, shape (n, Q)
    """
    T = np.exp(x)
    phi = columns(problem, T)
    limits = interval(problem, phi, k) if problem.splits else None
    linear = solve_linear(problem, phi, y, limits)
    kappa = np.stack([*linear, T], axis=-1)
    c = [linear[0], linear[0] * linear[1]] if problem.kind == "ratio" else linear
    residual = y.copy()
    for coefficient, column in zip(c, phi, strict=True):
        residual -= coefficient[:, None] * column
    J = problem.model.signed_jacobian(kappa, problem.tau, np)
    slope = -2.0 * T * dot(residual, J[..., -1])
    if limits is not None:
        slope += _moving_edge(problem, k, limits, kappa, residual, J)
    return dot(residual, residual), slope, kappa


def _moving_edge(
    problem: Problem,
    k: np.ndarray,
    limits: tuple[np.ndarray, np.ndarray],
    kappa: np.ndarray,
    residual: np.ndarray,
    J: np.ndarray,
) -> np.ndarray:
    """Part of the slope where r sits on a root: dV/dr times the root's movement."""
    r = kappa[:, 1]
    within = (r > problem.bounds[1, 0]) & (r < problem.bounds[1, 1])
    slope = np.zeros(len(r))
    for end, n in ((limits[0], k - 1), (limits[1], k)):
        i = np.flatnonzero(within & (r == end))
        if i.size:
            row = J[i, n[i]]
            moved = -divide(row[:, -1], row[:, 1])
            slope[i] = -2.0 * kappa[i, -1] * moved * dot(residual[i], J[i, :, 1])
    return slope


def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Sum over the last axis of the product of two arrays (n, N)."""
    return np.einsum("ij,ij->i", a, b)


def divide(a: np.ndarray | float, b: np.ndarray) -> np.ndarray:
    """Quotient a / b, and 0 where b is 0."""
    out = np.zeros(np.broadcast_shapes(np.shape(a), np.shape(b)))
    return np.divide(a, b, out=out, where=b != 0)
