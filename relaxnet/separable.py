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

**Search** (`search`). On a grid in log T, each (T, k) has an orthonormal pair (m, w) of signal
vectors, m along the bisector of its cone, of half-angle alpha. With y1 = m.S, y2 = w.S the cost is
``|S|^2 - R``, and

    R = y1^2 + y2^2                                 inside:  |y2| cos(alpha) <= y1 sin(alpha)
    R = max(0, y1 cos(alpha) + |y2| sin(alpha))^2   outside: the nearer edge

so all costs of all voxels are two matrix products and a few element-wise passes. All the local
maxima of R along T whose refined value could be the largest are handed on.

**Refinement** (`refine`). Per candidate, the root of dV/dlogT by a bracketed secant iteration in
float64, with the bounds of every linear parameter in the inner minimum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from relaxsim.signals import SignalModel

#: Grid points in log T: with polarity intervals, and where one ray a grid point is all there is.
GRID_POINTS, GRID_POINTS_RAY = 56, 400
#: Refinement stops when log T moves by less.
TOLERANCE = 1e-8
MAX_ITERATIONS = 80
#: Rounding of the float32 search, relative to |S|^2.
ROUNDING = 3e-6


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
    g00, b0 = _dot(phi[0], phi[0]), _dot(phi[0], y)
    if problem.kind == "ray":
        return (np.clip(_divide(b0, g00), low, high),)
    g01, g11, b1 = _dot(phi[0], phi[1]), _dot(phi[1], phi[1]), _dot(phi[1], y)
    if limits is None:
        limits = tuple(np.full(len(y), v) for v in problem.bounds[1])
    det = g00 * g11 - g01**2
    c0, c1 = b0 * g11 - b1 * g01, b1 * g00 - b0 * g01
    a = _divide(c0, det)
    s = _divide(c1, c0 if problem.kind == "ratio" else det)
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
            a = _divide(b0 + s * b1, g00 + 2 * s * g01 + s**2 * g11)
        else:
            a = _divide(b0 - s * g01, g00)
        points.append((np.clip(a, *a_bounds), s))
    for bound in a_bounds:
        a = np.full_like(g00, bound)
        if ratio:
            s = _divide(b1 - a * g01, a * g11)
        else:
            s = _divide(b1 - a * g01, g11)
        points.append((a, np.clip(s, *s_bounds)))
    A, s = (np.stack(v) for v in zip(*points, strict=True))
    c = A * s if ratio else s
    q = A**2 * g00 + 2 * A * c * g01 + c**2 * g11 - 2 * (A * b0 + c * b1)
    best = np.argmin(q, axis=0)[None]
    return np.take_along_axis(A, best, 0)[0], np.take_along_axis(s, best, 0)[0]


def profile(
    problem: Problem, x: np.ndarray, k: np.ndarray, S: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cost and its derivative along log T, at the best linear parameters.

    Parameters
    ----------
    x : array, shape (n,)
        log T.
    k : int array, shape (n,)
        Number of negative samples, where `problem.splits`.
    S : array, shape (n, N)
        In the problem's order.

    Returns
    -------
    cost, slope : arrays, shape (n,)
        Where the best r lies on a root, the slope follows the root as it moves with T.
    kappa : array, shape (n, Q)
    """
    T = np.exp(x)
    phi = columns(problem, T)
    limits = None
    if problem.splits:
        limits = interval(problem, phi, k)
        y = np.where(phi[0] + (0.5 * (limits[0] + limits[1]))[:, None] * phi[1] < 0, -S, S)
    elif problem.polarity:
        f = phi[0] if problem.kind == "ray" else phi[0] + problem.bounds[1, 0] * phi[1]
        y = np.where(f < 0, -S, S)
    else:
        y = S
    linear = solve_linear(problem, phi, y, limits)
    kappa = np.stack([*linear, T], axis=-1)
    c = [linear[0], linear[0] * linear[1]] if problem.kind == "ratio" else linear
    residual = y.copy()
    for coefficient, column in zip(c, phi, strict=True):
        residual -= coefficient[:, None] * column
    J = problem.model.signed_jacobian(kappa, problem.tau, np)
    slope = -2.0 * T * _dot(residual, J[..., -1])
    if limits is not None:
        slope += _moving_edge(problem, k, limits, kappa, residual, J)
    return _dot(residual, residual), slope, kappa


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
            moved = -_divide(row[:, -1], row[:, 1])
            slope[i] = -2.0 * kappa[i, -1] * moved * _dot(residual[i], J[i, :, 1])
    return slope


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("ij,ij->i", a, b)


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """A / b, and 0 where b is 0."""
    return np.divide(a, b, out=np.zeros_like(a), where=b != 0)


# --- search --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Grid:
    """Cones of all (T, k), as columns; a zero column separates one k from the next.

    Attributes
    ----------
    m, w : arrays, shape (N, M), float32
        Orthonormal pair of each cone, with its polarity. `w` is None where cones are rays.
    cos, sin : arrays, shape (M,), float32
        Of the half-angle.
    x : array, shape (M,)
        log T.
    k : int array, shape (M,)
    real : bool array, shape (M,)
        Whether a column is a cone, not a separator.
    step : float
        Grid step of log T.
    """

    m: np.ndarray
    w: np.ndarray | None
    cos: np.ndarray
    sin: np.ndarray
    x: np.ndarray
    k: np.ndarray
    real: np.ndarray
    step: float


def make_grid(problem: Problem) -> Grid:
    """Cones on a grid in log T over its bounds."""
    points = GRID_POINTS if problem.kind != "ray" and not _fixed_ratio(problem) else GRID_POINTS_RAY
    x = np.linspace(*problem.log_T_bounds, points)
    phi = columns(problem, np.exp(x))
    blocks = []
    for k in range(len(problem.tau) + 1) if problem.splits else (0,):
        blocks.append(_cones(problem, x, phi, np.full(points, k)))
    m, w, cos, sin, xs, ks = (np.concatenate(v) for v in zip(*blocks, strict=True))
    flat = problem.kind == "ray" or _fixed_ratio(problem)
    return Grid(
        np.ascontiguousarray(m.T, dtype=np.float32),
        None if flat else np.ascontiguousarray(w.T, dtype=np.float32),
        cos.astype(np.float32),
        sin.astype(np.float32),
        xs,
        ks,
        (m != 0).any(axis=1),
        x[1] - x[0],
    )


def _fixed_ratio(problem: Problem) -> bool:
    return problem.kind == "ratio" and problem.bounds[1, 0] == problem.bounds[1, 1]


def _cones(
    problem: Problem, x: np.ndarray, phi: list[np.ndarray], k: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Cones of one k along T, between two zero columns."""
    if problem.kind == "ray":
        edges = (phi[0], phi[0])
        keep = np.ones(len(x), dtype=bool)
        second = phi[0]
    elif problem.kind == "pair":
        edges, second, keep = (phi[0], phi[0]), phi[1], np.ones(len(x), dtype=bool)
    else:
        if problem.splits:
            ends = interval(problem, phi, k)
            keep = ends[1] > ends[0]
        else:
            ends = tuple(np.full(len(x), v) for v in problem.bounds[1])
            keep = np.ones(len(x), dtype=bool)
        edges = tuple(phi[0] + r[:, None] * phi[1] for r in ends)
        second = phi[1]
    if problem.polarity:
        sign = np.where(edges[0] + edges[1] < 0, -1.0, 1.0)
        edges, second = tuple(e * sign for e in edges), second * sign
    first, last = (_unit(e) for e in edges)
    m = _unit(first + last)
    w = _unit(second - _dot(second, m)[:, None] * m)
    cos = np.clip(_dot(first, m), -1.0, 1.0)
    sin = np.sqrt(1.0 - cos**2)
    if problem.kind == "pair":
        cos, sin = -np.ones_like(cos), np.zeros_like(sin)
    zero = np.zeros((1, m.shape[1]))
    parts = [np.concatenate([zero, v[keep], zero]) for v in (m, w)]
    parts += [np.concatenate([[0.0], v[keep], [0.0]]) for v in (cos, sin, x)]
    return (*parts, np.full(keep.sum() + 2, k[0]))


def _unit(v: np.ndarray) -> np.ndarray:
    norm = np.sqrt(_dot(v, v))[:, None]
    return np.divide(v, norm, out=np.zeros_like(v), where=norm > 0)


def reductions(grid: Grid, S: np.ndarray) -> np.ndarray:
    """Part of |S|^2 that each cone explains, shape (n, M), for S of shape (n, N) float32."""
    y1 = S @ grid.m
    if grid.w is None:
        np.maximum(y1, 0.0, out=y1)
        return np.square(y1, out=y1)
    y2 = S @ grid.w
    np.abs(y2, out=y2)
    edge = y1 * grid.cos + y2 * grid.sin
    out = y1 * grid.sin - y2 * grid.cos
    inside = y1**2 + y2**2
    np.maximum(edge, 0.0, out=edge)
    return np.where(out >= 0, inside, np.square(edge, out=edge))


def search(grid: Grid, S: np.ndarray) -> tuple[np.ndarray, ...]:
    """Candidates of the global minimum.

    Parameters
    ----------
    grid : Grid
    S : array, shape (n, N), float32
        In the problem's order, each row of unit norm.

    Returns
    -------
    voxel, k : int arrays, shape (c,)
        `voxel` ascends; every voxel has at least one candidate.
    x : array, shape (c,)
        log T.
    """
    R = reductions(grid, S)
    here = R[:, 1:-1]
    best = R.max(axis=1, keepdims=True)
    peak = (here >= R[:, :-2]) & (here >= R[:, 2:]) & (here >= 0.5 * best) & (here > 0)
    peak[best[:, 0] == 0, 0] = True  # nothing is explained: any candidate will do
    voxel, column = np.nonzero(peak)
    column += 1
    top = R[voxel, column]
    sides = np.stack([R[voxel, column - 1], R[voxel, column + 1]])
    real = np.stack([grid.real[column - 1], grid.real[column + 1]])
    drop = np.where(real, top - sides, 0.0)
    slack = 0.3 * drop.max(axis=0) + ROUNDING
    keep = top + slack >= best[voxel, 0]
    voxel, column, drop, top = voxel[keep], column[keep], drop[:, keep], top[keep]
    both = real[:, keep].all(axis=0) & (drop.sum(axis=0) > 0)
    shift = np.where(both, 0.5 * (drop[0] - drop[1]) / np.where(both, drop.sum(axis=0), 1.0), 0.0)
    return voxel, grid.k[column], grid.x[column] + shift * grid.step


# --- refinement ----------------------------------------------------------------------------------


def refine(
    problem: Problem, S: np.ndarray, k: np.ndarray, x: np.ndarray, step: float
) -> tuple[np.ndarray, np.ndarray]:
    """Local minimum of the cost along log T, from x.

    A secant iteration on the slope; once the slope has been seen with both signs, its root stays
    bracketed, so that the end is a minimum and not a maximum.

    Parameters
    ----------
    S : array, shape (n, N), float64
    k, x : arrays, shape (n,)
    step : float
        Longest step of log T.

    Returns
    -------
    cost : array, shape (n,)
    kappa : array, shape (n, Q)
    """
    lowest, highest = problem.log_T_bounds
    n = len(x)
    cost, kappa = np.empty(n), np.empty((n, problem.model.num_parameters))
    rows = np.arange(n)
    x = np.clip(x, lowest, highest)
    left, right = np.full(n, -np.inf), np.full(n, np.inf)
    x_old = slope_old = np.full(n, np.nan)
    for iteration in range(MAX_ITERATIONS):
        value, slope, parameters = profile(problem, x, k, S)
        cost[rows], kappa[rows] = value, parameters
        left, right = np.where(slope < 0, x, left), np.where(slope < 0, right, x)
        move = _secant(x, slope, x_old, slope_old, step)
        new = x + move
        bracketed = np.isfinite(left) & np.isfinite(right)
        bisect = (new <= left) | (new >= right) | (bracketed & (iteration % 4 == 3))
        middle = np.where(bracketed, 0.5 * (left + right), x)
        new = np.where(bisect & bracketed, middle, new)
        new = np.clip(new, lowest, highest)
        active = (np.abs(new - x) > TOLERANCE) & (slope != 0)
        if not active.any():
            break
        x_old, slope_old, x = x[active], slope[active], new[active]
        left, right, rows = left[active], right[active], rows[active]
        k, S = k[active], S[active]
    return cost, kappa


def _secant(
    x: np.ndarray, slope: np.ndarray, x_old: np.ndarray, slope_old: np.ndarray, step: float
) -> np.ndarray:
    """Secant step; a short downhill step first, a long one where the cost is not convex."""
    curvature = _divide(slope - slope_old, x - x_old)
    downhill = -np.sign(slope)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        move = np.where(curvature > 0, -slope / curvature, downhill * step)
    move = np.where(np.isnan(curvature), downhill * 0.05 * step, move)
    return np.clip(move, -1.5 * step, 1.5 * step)
