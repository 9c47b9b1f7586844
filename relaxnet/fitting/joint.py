"""Joint minimisation over a map of ratios: the voxels' least costs plus a smoothness penalty.

The objective and its notation are those of `relaxnet.fitting.regularised`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from relaxnet.fitting.known_ratio import Dictionary, RatioProblem, along_ratio, solve_at_ratio
from relaxnet.fitting.laplacian import Smoothness, constant_solver
from relaxnet.fitting.parallel import in_chunks, product
from relaxnet.fitting.rician import without_floor
from relaxnet.fitting.rician_ratio import rician_along_ratio, solve_rician_at_ratio
from relaxnet.fitting.separable import RATIO

#: Newton steps stop when they promise to lower J by less for each voxel.
LEAST_DECREASE = 3e-5
MAX_STEPS = 30
#: Searches over all of A and T that follow a descent under Rician noise.
MAX_SEARCHES = 3
#: Updates of the set of ratios that lie on a bound, in one Newton step.
MAX_UPDATES_OF_BOUNDS = 4
#: Lengths of a step, in the order in which they are tried.
LENGTHS = (1.0, 0.4, 0.1, 0.03, 0.01, 0.003)
#: A shared ratio is found to the larger of this precision and this part of its standard deviation.
PRECISION, PART_OF_STD = 1e-5, 0.03
#: Precision of a shared ratio that a descent starts from.
START_PRECISION = 1e-2
#: The search for a shared ratio tries every fifth ratio of the dictionary.
EVERY = 5
#: Up to this number of images one more start is tried. It comes from minima with weights that are
#: larger by these factors, one after the other.
FEW_IMAGES, FACTORS = 5, (1e4, 1e3, 1e2, 10.0, 1.0)
#: Longest Newton step of a shared ratio: two steps of its grid.
REACH = 0.1
#: Starts are found from at most so many voxels.
ENOUGH_VOXELS = 10_000
#: Range of an automatic weight, and the relative change at which its iteration stops.
WEIGHT_RANGE, WEIGHT_CHANGE = (1e-2, 1e10), 0.1
MAX_UPDATES = 20
#: If the data determine fewer ratios than this beside the constants, the map is constant: a larger
#: weight changes nothing.
LEAST_DETERMINED = 0.5
#: Random vectors for traces and variances.
PROBES, DRAWS = 6, 24


@dataclass(frozen=True)
class Voxels:
    """The data of a joint fit.

    Attributes
    ----------
    problem : RatioProblem
    dictionary : Dictionary
    S : array, shape (n, N), float32
        Samples in the problem's order, relative to the voxel's maximum.
    sigma : array, shape (n,)
        Noise standard deviation, relative likewise.
    rician : bool
        Whether the noise is Rician, else Gaussian.
    """

    problem: RatioProblem
    dictionary: Dictionary
    S: np.ndarray
    sigma: np.ndarray
    rician: bool = False

    def __len__(self) -> int:
        """Number of voxels."""
        return len(self.S)

    def some(self) -> Voxels:
        """At most `ENOUGH_VOXELS` of the voxels, evenly spaced."""
        step = -(-len(self) // ENOUGH_VOXELS)
        return self.take(np.s_[::step])

    def take(self, chunk: np.ndarray | slice) -> Voxels:
        """Voxels of an index array or a slice."""
        return replace(self, S=self.S[chunk], sigma=self.sigma[chunk])

    def least_cost(
        self, ratio: np.ndarray, start: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """W at ratios (n,), and kappa (n, 3); see `evaluate`."""
        S = self.S.astype(np.float64)
        if self.rician:
            args = self.problem, self.dictionary, S, self.sigma, ratio
            return solve_rician_at_ratio(*args, start)
        cost, kappa = solve_at_ratio(self.problem, self.dictionary, S, ratio)
        return cost * 0.5 / self.sigma**2, kappa

    def along_ratio(self, kappa: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First and second derivative of W along the ratio, at kappa of least cost; each (n,)."""
        S = self.S.astype(np.float64)
        if self.rician:
            return rician_along_ratio(self.problem, S, self.sigma, kappa)
        scale = 0.5 / self.sigma**2
        first, second = along_ratio(self.problem, S, kappa)
        return first * scale, second * scale


@dataclass(frozen=True)
class State:
    """Least cost W of each voxel at its ratio, and its derivatives along the ratio; shapes (n,)."""

    ratio: np.ndarray
    kappa: np.ndarray
    W: np.ndarray
    slope: np.ndarray
    curvature: np.ndarray

    def objective(self, smoothness: Smoothness, weight: float) -> float:
        """Value of J."""
        return float(self.W.sum()) + weight * smoothness.penalty(self.ratio)


def evaluate(voxels: Voxels, ratio: np.ndarray, near: State | None = None) -> State:
    """Least cost over A and T at the given ratios, shape (n,).

    Under Rician noise the least cost takes descents from several starts. If the state `near` of
    similar ratios is given, its kappa is the only start.
    """
    n = len(voxels)
    kappa = np.empty((n, voxels.problem.model.num_parameters))
    W, slope, curvature = np.empty(n), np.empty(n), np.empty(n)

    def work(chunk: np.ndarray) -> None:
        part = voxels.take(chunk)
        start = None if near is None else near.kappa[chunk]
        W[chunk], kappa[chunk] = part.least_cost(ratio[chunk], start)
        slope[chunk], curvature[chunk] = part.along_ratio(kappa[chunk])

    # Voxels of similar ratios share a chunk, and thereby a part of the dictionary.
    in_chunks(work, np.argsort(ratio, kind="stable"), voxels.S.shape[1])
    return State(ratio, kappa, W, slope, curvature)


def start_state(voxels: Voxels, smoothness: Smoothness, weight: float, free: np.ndarray) -> State:
    """The better of two starts: a shared ratio, and a smooth map of the voxel-wise ratios.

    `free`, shape (n, 3), is kappa of the voxel-wise fit. The smooth start is the minimum of J with
    each W replaced by its parabola about the voxel-wise ratio.

    With few images W has barriers between polarities. Voxels behind a barrier stay there and bend
    the map around them. There is then a third start: from the shared ratio through minima of ever
    smaller weights. The result is the lower of the minima that the third and the better of the
    other two descend to.
    """
    curvature = np.empty(len(voxels))

    def work(chunk: np.ndarray) -> None:
        curvature[chunk] = voxels.take(chunk).along_ratio(free[chunk])[1]

    in_chunks(work, np.arange(len(voxels)), voxels.S.shape[1])
    smooth = smoothness.solve(curvature, weight, curvature * free[:, RATIO], 1e-2)
    constant = np.full(len(voxels), shared_ratio(voxels.some(), START_PRECISION).ratio[0])
    ratios = (constant, np.clip(smooth, *voxels.problem.bounds[RATIO]))
    states = [evaluate(voxels, ratio) for ratio in ratios]

    def objective(state: State) -> float:
        return state.objective(smoothness, weight)

    best = min(states, key=objective)
    if voxels.problem.num_images > FEW_IMAGES:
        return best
    graduated = states[0]
    for factor in FACTORS:
        graduated = minimise(voxels, smoothness, factor * weight, graduated)
    return min((minimise(voxels, smoothness, weight, s) for s in (best, graduated)), key=objective)


def minimise(voxels: Voxels, smoothness: Smoothness, weight: float, state: State) -> State:
    """Minimum of J from a state.

    Under Rician noise the descent follows each voxel's minimum over A and T. Where a search over
    all A and T then finds a lower minimum, the descent continues from that one.
    """
    state = _descend(voxels, smoothness, weight, state)
    for _ in range(MAX_SEARCHES if voxels.rician else 0):
        anew = evaluate(voxels, state.ratio)
        lower = anew.W < state.W
        if (state.W - anew.W)[lower].sum() < LEAST_DECREASE * len(state.ratio):
            break
        state = _descend(voxels, smoothness, weight, _chosen(lower, anew, state))
    return state


def _descend(voxels: Voxels, smoothness: Smoothness, weight: float, state: State) -> State:
    value, least = state.objective(smoothness, weight), LEAST_DECREASE * len(state.ratio)
    for _ in range(MAX_STEPS):
        step, promised = _newton_step(voxels, smoothness, weight, state)
        if promised < least:
            break
        for length in (length for length in LENGTHS if length * promised >= least):
            ratio = np.clip(state.ratio + length * step, *voxels.problem.bounds[RATIO])
            new = evaluate(voxels, ratio, state)
            new_value = new.objective(smoothness, weight)
            if new_value < value:
                break
        else:
            break
        state, value = new, new_value
    return state


def _chosen(where: np.ndarray, first: State, second: State) -> State:
    """The first state in some voxels, the second in others; both of the same ratios."""
    return State(
        first.ratio,
        np.where(where[:, None], first.kappa, second.kappa),
        np.where(where, first.W, second.W),
        np.where(where, first.slope, second.slope),
        np.where(where, first.curvature, second.curvature),
    )


def _newton_step(
    voxels: Voxels, smoothness: Smoothness, weight: float, state: State
) -> tuple[np.ndarray, float]:
    """Step to the minimum of J's quadratic model within the bounds, and the decrease it promises.

    The set of ratios on a bound is found iteratively (primal-dual active set): a ratio that the
    step carries beyond a bound joins it, one that the model draws back from its bound leaves it.
    """
    low, high = (bound - state.ratio for bound in voxels.problem.bounds[RATIO])
    gradient = state.slope + weight * (smoothness.square @ state.ratio)

    def model_gradient(step: np.ndarray) -> np.ndarray:
        return gradient + state.curvature * step + weight * (smoothness.square @ step)

    at_low, at_high = (low >= 0) & (gradient > 0), (high <= 0) & (gradient < 0)
    for _ in range(MAX_UPDATES_OF_BOUNDS):
        free = ~(at_low | at_high)
        to_bound = np.where(at_low, low, 0.0) + np.where(at_high, high, 0.0)
        right = -model_gradient(to_bound)
        step = to_bound + smoothness.solve(state.curvature, weight, right, 1e-3, free)
        pull = model_gradient(step)
        new = free & (step < low) | at_low & (pull > 0), free & (step > high) | at_high & (pull < 0)
        if (new[0] == at_low).all() and (new[1] == at_high).all():
            break
        at_low, at_high = new
    step = np.clip(step, low, high)
    return step, -0.5 * float((gradient + model_gradient(step)) @ step)


def shared_ratio(voxels: Voxels, precision: float = PRECISION) -> State:
    """The one ratio of least total cost: a search over the dictionary, then Newton steps.

    As soon as two ratios have slopes of opposite signs, the steps stay between them. No step is
    longer than `REACH`.
    """
    n, limits = len(voxels), voxels.problem.bounds[RATIO]
    low, high = -np.inf, np.inf
    state = evaluate(voxels, np.full(n, _coarse_ratio(voxels)))
    for _ in range(MAX_STEPS):
        r, slope = state.ratio[0], state.slope.sum()
        low, high = (r, high) if slope < 0 else (low, r)
        curvature = max(state.curvature.sum(), 1e-300)
        step = -slope / curvature
        new = np.clip(r + np.clip(step, -REACH, REACH), *limits)
        if not low < new < high and np.isfinite(high - low):
            new = 0.5 * (low + high)
        if abs(new - r) < max(precision, PART_OF_STD / np.sqrt(curvature)):
            break
        state = evaluate(voxels, np.full(n, new), state)
    return state


def _coarse_ratio(voxels: Voxels) -> float:
    """Ratio of the dictionary whose total cost of least squares is least.

    Samples with Rician noise are freed of its floor first, which suffices for a start.
    """
    chosen = np.r_[0 : len(voxels.dictionary.ratios) : EVERY, len(voxels.dictionary.ratios) - 1]
    some = voxels.some()
    if some.rician:
        some = replace(some, S=without_floor(some.S, some.sigma).astype(np.float32))
    explained = np.zeros((len(chosen), len(some)))

    def work(chunk: np.ndarray) -> None:
        S, variance = some.S[chunk], some.sigma[chunk] ** 2
        for out, i in zip(explained, chosen, strict=True):
            match = product(S, some.dictionary.atoms[i]).max(axis=1)
            out[chunk] = np.maximum(match, 0.0) ** 2 / variance

    in_chunks(work, np.arange(len(some)), some.S.shape[1])
    return float(some.dictionary.ratios[chosen[explained.sum(axis=1).argmax()]])


def automatic_weight(
    voxels: Voxels, smoothness: Smoothness, weight: float, state: State
) -> tuple[float, State]:
    """Weight of greatest marginal likelihood, and the minimum of J with it.

    The fixed point is the root of ``log(right side) - log(weight)``, found by steps of a decade
    until it is bracketed, then by the rule of false position.
    """
    rng = np.random.default_rng(0)
    probes = rng.choice([-1.0, 1.0], size=(PROBES, len(state.ratio)))
    lowest, highest = np.log(WEIGHT_RANGE)
    x, ends = np.log(weight), {}
    for _ in range(MAX_UPDATES):
        state = minimise(voxels, smoothness, np.exp(x), state)
        gap = _fixed_point_gap(smoothness, x, state, probes)
        ends[gap > 0] = (x, gap)
        if len(ends) == 2:
            (x0, g0), (x1, g1) = ends[True], ends[False]
            new = x0 + (x1 - x0) * np.clip(g0 / (g0 - g1), 0.1, 0.9)
        else:
            new = np.clip(x + np.sign(gap) * np.log(10.0), lowest, highest)
        if abs(gap) < WEIGHT_CHANGE or abs(new - x) < WEIGHT_CHANGE:
            break
        x = float(new)
    return float(np.exp(x)), state


def _fixed_point_gap(smoothness: Smoothness, x: float, state: State, probes: np.ndarray) -> float:
    """Logarithm of the fixed point's right side at a state, less that of its weight, x."""
    determined = _determined_ratios(smoothness, np.exp(x), state, probes)
    roughness = 2.0 * smoothness.penalty(state.ratio)
    if determined < LEAST_DETERMINED or roughness == 0:
        return 0.0
    return float(np.log(determined / roughness) - x)


def _determined_ratios(
    smoothness: Smoothness, weight: float, state: State, probes: np.ndarray
) -> float:
    """``tr(H P^-1) - c``: number of ratios that the data determine, beside the constants.

    The trace is Hutchinson's estimate.

    The symmetric form ``H^1/2 P^-1 H^1/2`` has ``H^1/2`` times the constants as eigenvectors, of
    value 1; they are taken out of the probes.
    """
    H, root = state.curvature, np.sqrt(state.curvature)
    solve_constants = constant_solver(smoothness.constants, H)
    found = []
    for probe in probes:
        z = probe - root * solve_constants(root * probe)
        found.append(z @ (root * smoothness.solve(H, weight, root * z, 1e-3)))
    return float(np.mean(found))


def ratio_variance(smoothness: Smoothness, weight: float, state: State) -> np.ndarray:
    """Diagonal of ``P^-1``, from draws of that covariance, smoothed over neighbours; (n,)."""
    rng = np.random.default_rng(1)
    n = len(state.ratio)
    total = np.zeros(n)
    for _ in range(DRAWS):
        draw = np.sqrt(state.curvature) * rng.standard_normal(n)
        draw += np.sqrt(weight) * (smoothness.laplacian @ rng.standard_normal(n))
        total += smoothness.solve(state.curvature, weight, draw, 1e-2) ** 2
    variance = total / DRAWS
    degree = np.maximum(smoothness.laplacian.diagonal(), 1e-12)
    for _ in range(4):
        variance = variance - 0.5 * (smoothness.laplacian @ variance) / degree
    return variance
