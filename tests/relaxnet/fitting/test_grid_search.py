import numpy as np
import pytest

from relaxnet.fitting.grid_search import exact_reductions, make_grid, reductions
from relaxnet.fitting.inner_problem import profile
from relaxnet.fitting.known_ratio import along_ratio, make_dictionary, solve_at_ratio
from relaxnet.fitting.parallel import in_chunks, product
from relaxnet.fitting.separable import binding, make_problem, neighbours, with_polarity
from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY
from relaxsim.models.protocols import read_protocol
from relaxsim.models.t2_decay import MODEL as T2_DECAY

CINE23 = read_protocol("cine23", "tis").tau
FSE6 = read_protocol("fse6", "tes").tau


def problem_and_samples(model=INVERSION_RECOVERY, tau=CINE23, bounds=None, polarity=True, n=40):
    rng = np.random.default_rng(0)
    bounds = np.array(bounds or model.bounds, dtype=float)
    problem, order = make_problem(tau, model, bounds, polarity and model.magnitude)
    T = np.geomspace(*bounds[-1] * [3, 0.5], n)
    kappa = [np.ones(n), *(rng.uniform(*b, n) for b in bounds[1:-1]), T]
    S = model.forward(np.stack(kappa, axis=-1), tau) + 0.2 * rng.normal(size=(n, len(tau)))
    return problem, (S / np.linalg.norm(S, axis=1)[:, None])[:, order]


@pytest.mark.parametrize("polarity", [True, False])
@pytest.mark.parametrize(("model", "tau"), [(INVERSION_RECOVERY, CINE23), (T2_DECAY, FSE6)])
@pytest.mark.parametrize("amplitudes", [(0.0, 1e6), (0.0, 0.15), (0.2, 0.25)])
def test_closed_form_of_the_cones_is_the_inner_minimum(model, tau, polarity, amplitudes):
    bounds = [amplitudes, *model.bounds[1:]]
    problem, S = problem_and_samples(model, tau, bounds, polarity)
    grid = make_grid(problem)
    exact = exact_reductions(problem, grid, S)
    limits = np.tile(amplitudes, (len(S), 1))
    bounded = reductions(grid, S.astype(np.float32), limits)
    np.testing.assert_allclose(bounded, exact, atol=3e-5)
    if amplitudes[1] == 1e6:
        np.testing.assert_allclose(reductions(grid, S.astype(np.float32)), exact, atol=1e-5)


@pytest.mark.parametrize("relaxed", [False, True])
def test_slope_is_the_derivative_of_the_cost(relaxed):
    problem, S = problem_and_samples(n=200)
    x = np.random.default_rng(1).uniform(6.0, 8.5, len(S))
    k = np.random.default_rng(2).integers(0, 12, len(S))
    edges = binding(S, k) if relaxed else neighbours(k)
    y, h = with_polarity(S, k), 1e-6
    p = profile(problem, x, edges, y)
    up, down = (profile(problem, x + d, edges, y) for d in (h, -h))
    smooth = (up.regime == p.regime) & (down.regime == p.regime)
    assert smooth.mean() > 0.9
    np.testing.assert_allclose(
        p.slope[smooth], ((up.cost - down.cost) / (2 * h))[smooth], atol=1e-6
    )


def test_ratio_derivative_is_that_of_the_least_cost():
    problem, S = problem_and_samples(n=200)
    S = S / np.abs(S).max(axis=1)[:, None]
    dictionary, h = make_dictionary(problem), 1e-4
    r = np.random.default_rng(3).uniform(1.0, 2.3, len(S))
    _, kappa = solve_at_ratio(problem, dictionary, S, r)
    slope, curvature = along_ratio(problem, S, kappa)
    up, down = (solve_at_ratio(problem, dictionary, S, r + d)[0] for d in (h, -h))
    error = np.abs(slope - (up - down) / (2 * h))
    assert np.median(error) < 1e-5
    assert (error < 1e-2 * (1 + np.abs(slope))).mean() > 0.95
    assert (curvature >= 0).all()


def test_least_cost_at_a_ratio_is_that_of_a_dense_search():
    problem, S = problem_and_samples(n=100)
    S = S / np.abs(S).max(axis=1)[:, None]
    r = np.random.default_rng(4).uniform(0.6, 2.4, len(S))
    cost, _ = solve_at_ratio(problem, make_dictionary(problem), S, r)
    T = np.geomspace(10, 6000, 4000)
    for i in range(len(S)):
        kappa = np.stack(np.broadcast_arrays(1.0, r[i], T), axis=-1)
        g = problem.model.forward(kappa, problem.protocol)
        A = np.clip(g @ S[i] / (g * g).sum(axis=1), 0, 10)
        assert cost[i] <= ((S[i] - A[:, None] * g) ** 2).sum(axis=1).min() + 1e-9


@pytest.mark.parametrize("shape", [(1, 5, 7), (64, 31, 900), (201, 31, 333), (3, 300, 2000)])
def test_product_is_the_matrix_product(shape):
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=shape[:2]), rng.normal(size=shape[1:])
    np.testing.assert_allclose(product(a, b), a @ b, atol=1e-10)


def test_chunks_cover_all_voxels_and_errors_come_through():
    seen = np.zeros(70_000, dtype=int)
    counted = []
    in_chunks(lambda i: np.add.at(seen, i, 1), np.arange(70_000), 6, counted.append)
    assert (seen == 1).all()
    assert sum(counted) == 70_000

    def fail(chunk):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        in_chunks(fail, np.arange(3), 6)
