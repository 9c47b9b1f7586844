import numpy as np
import pytest
from scipy.optimize import minimize
from short_fits import fixed, regularised, shared, voxelwise

from relaxnet.fitting.inputs import fit_bounds
from relaxnet.fitting.joint import Voxels, evaluate, minimise
from relaxnet.fitting.known_ratio import make_dictionary
from relaxnet.fitting.laplacian import make_smoothness
from relaxnet.fitting.result import AT_BOUND, CONVERGED, INVALID, NO_SIGNAL
from relaxnet.fitting.rician_ratio import rician_along_ratio, solve_rician_at_ratio
from relaxnet.fitting.separable import make_problem
from relaxsim.models.finite_tr import apparent, apparent_jacobian
from relaxsim.models.inversion_recovery import MODEL
from relaxsim.models.protocols import read_protocol
from relaxsim.models.t2_decay import MODEL as T2_DECAY

CINE31 = read_protocol("cine31", "tis").tau
SIGMA = 0.025
SHORT = np.array([50.0, 100.0, 200.0, 350.0, 550.0, 800.0])


def phantom(shape, seed=0, sigma=SIGMA):
    """Kappa with a smooth B and blocks of T1, its series, and a mask with a hole."""
    rng = np.random.default_rng(seed)
    x, y, *z = np.meshgrid(*[np.linspace(-1, 1, s) for s in shape], indexing="ij")
    tissue = (np.floor(3 * x) + np.floor(4 * y)).astype(int) % 3
    B = 1.85 - 0.15 * (x**2 + 0.5 * y) + (0.05 * z[0] if z else 0.0)
    T1 = np.choose(tissue, [700.0, 1200.0, 1800.0]) * (1 + 0.03 * rng.normal(size=shape))
    kappa = np.stack([np.choose(tissue, [0.65, 0.85, 1.0]), B, T1], axis=-1)
    mask = (x**2 + y**2 < 1) & ~((np.abs(x) < 0.15) & (np.abs(y) < 0.15))
    S = MODEL.forward(kappa, CINE31)
    return kappa, S + sigma * rng.normal(size=S.shape), mask


def error(fit, kappa, mask):
    """Median relative error of T1."""
    return np.median(np.abs(fit.kappa[mask][:, 2] / kappa[mask][:, 2] - 1))


@pytest.fixture(scope="module")
def slice_2d():
    return phantom((48, 40))


def test_weight_zero_is_the_voxelwise_fit(slice_2d):
    _, S, mask = slice_2d
    fit = regularised(S, CINE31, MODEL, SIGMA, mask, lambda_b=0)
    free = voxelwise(S, CINE31, MODEL, SIGMA, mask)
    np.testing.assert_allclose(fit.kappa, free.kappa, rtol=1e-5)
    np.testing.assert_allclose(fit.residual, free.residual)
    np.testing.assert_array_equal(fit.status, free.status)
    known = np.isfinite(free.std)
    np.testing.assert_allclose(fit.std[known], free.std[known], rtol=1e-2)


def test_small_weight_comes_near_the_voxelwise_fit(slice_2d):
    kappa, _, mask = slice_2d
    S = MODEL.forward(kappa, CINE31) + 1e-4 * np.random.default_rng(1).normal(size=(48, 40, 31))
    fit = regularised(S, CINE31, MODEL, 1e-4, mask, lambda_b=1e-3)
    free = voxelwise(S, CINE31, MODEL, 1e-4, mask)
    np.testing.assert_allclose(fit.kappa[mask], free.kappa[mask], rtol=1e-3)


@pytest.mark.parametrize("weight", [1e11, np.inf])
def test_infinite_weight_gives_a_constant(slice_2d, weight):
    _, S, mask = slice_2d
    fit = regularised(S, CINE31, MODEL, SIGMA, mask, lambda_b=weight)
    one_ratio = shared(S, CINE31, MODEL, SIGMA, mask)
    B = fit.kappa[mask][:, 1]
    assert np.ptp(B) < 2e-3
    assert B.mean() == pytest.approx(one_ratio.kappa[mask][0, 1], abs=2e-3)


def test_shared_ratio_has_the_least_cost(slice_2d):
    _, S, mask = slice_2d

    def total(fit):
        return float((fit.residual[mask].astype(float) ** 2).sum())

    one_ratio = shared(S, CINE31, MODEL, SIGMA, mask)
    best = one_ratio.kappa[mask][0, 1]
    others = [fixed(S, CINE31, MODEL, best + d, SIGMA, mask) for d in (-0.03, 0.03)]
    assert all(total(one_ratio) < total(fit) for fit in others)


@pytest.mark.parametrize("shape", [(48, 40), (24, 20, 6)])
def test_smooth_ratio_is_worth_more_than_a_free_or_a_shared_one(shape):
    kappa, S, mask = phantom(shape)
    smooth = regularised(S, CINE31, MODEL, SIGMA, mask, lambda_b="auto")
    free = voxelwise(S, CINE31, MODEL, SIGMA, mask)
    one_ratio = shared(S, CINE31, MODEL, SIGMA, mask)
    known = fixed(S, CINE31, MODEL, kappa[..., 1], SIGMA, mask)
    assert error(smooth, kappa, mask) < 0.2 * error(free, kappa, mask)
    assert error(smooth, kappa, mask) < error(one_ratio, kappa, mask)
    assert error(smooth, kappa, mask) < 2.5 * error(known, kappa, mask)
    assert 50 < smooth.lambda_b < 1e7
    z = (smooth.kappa[mask][:, 2] - kappa[mask][:, 2]) / smooth.std[mask][:, 2]
    assert 0.7 < np.sqrt(np.median(z**2) / 0.455) < 1.3


def test_a_known_map_of_b_lies_on_no_bound():
    kappa, S, mask = phantom((24, 20))
    B = np.clip(kappa[..., 1], 1.7, 1.8)
    fit = fixed(S, CINE31, MODEL, B, SIGMA, mask)
    assert (fit.status[mask] == CONVERGED).mean() > 0.98
    np.testing.assert_allclose(fit.kappa[mask][:, 1], B[mask])


def test_without_sigma_and_mask_it_finds_both(slice_2d):
    kappa, S, _ = slice_2d
    fit = regularised(S, CINE31, MODEL, lambda_b=1e4)
    assert (fit.status <= CONVERGED).mean() > 0.98
    assert np.median(np.abs(fit.kappa[..., 2] / kappa[..., 2] - 1)) < 0.05


def test_bad_voxels_are_left_out_and_do_no_harm(slice_2d):
    kappa, S, mask = slice_2d
    S = S.copy()
    S[10, 10, 3], S[30, 20] = np.nan, 0.0
    fit = regularised(S, CINE31, MODEL, SIGMA, mask, lambda_b=1e4)
    assert fit.status[10, 10] == INVALID
    assert fit.status[30, 20] == NO_SIGNAL
    assert (fit.kappa[10, 10] == 0).all()
    assert (fit.kappa[~mask] == 0).all()
    assert error(fit, kappa, mask) < 0.05


def test_series_without_signal_gives_no_fit():
    S = np.zeros((4, 4, 31))
    for fit in (
        regularised(S, CINE31, MODEL, SIGMA, lambda_b=500.0),
        shared(S, CINE31, MODEL, SIGMA),
        fixed(S, CINE31, MODEL, 1.9, SIGMA),
    ):
        assert (fit.status == NO_SIGNAL).all()
        assert (fit.kappa == 0).all()


def test_signed_data(slice_2d):
    kappa, _, mask = slice_2d
    S = MODEL.signed(kappa, CINE31, np)
    S = S + SIGMA * np.random.default_rng(2).normal(size=S.shape)
    fit = regularised(S, CINE31, MODEL, SIGMA, mask, lambda_b=1e4, signed=True)
    assert error(fit, kappa, mask) < 0.04


def test_finite_tr_model_is_inversion_recovery_with_apparent_parameters():
    kappa = np.array([[1.2, 0.95, 300.0], [0.8, 0.7, 2000.0]])
    model = MODEL.finite_tr.model(1000.0)
    np.testing.assert_allclose(
        model.signed(kappa, SHORT, np), MODEL.signed(apparent(kappa, 1000.0), SHORT, np)
    )
    for q in range(3):
        step = np.zeros(3)
        step[q] = 1e-5
        h = 2e-5
        difference = model.signed(kappa + step, SHORT, np) - model.signed(kappa - step, SHORT, np)
        np.testing.assert_allclose(
            model.signed_jacobian(kappa, SHORT, np)[..., q], difference / h, atol=1e-8
        )
        difference = apparent(kappa + step, 1000.0) - apparent(kappa - step, 1000.0)
        np.testing.assert_allclose(
            apparent_jacobian(kappa, 1000.0)[..., q], difference / h, atol=1e-8
        )


def test_finite_tr_shares_the_efficiency_where_B_varies():
    """At TR 1000 ms B runs from 1.2 to 1.9 with T1; the efficiency is one number."""
    rng = np.random.default_rng(3)
    T1 = np.geomspace(200, 1900, 400).reshape(20, 20)
    kappa = np.stack([np.ones_like(T1), np.full_like(T1, 0.9), T1], axis=-1)
    S = MODEL.finite_tr.model(1000.0).forward(kappa, SHORT)
    S = S + 0.005 * rng.normal(size=S.shape)
    truth = apparent(kappa, 1000.0)
    fit = shared(S, SHORT, MODEL, 0.005, tr=1000.0)
    assert fit.ratio.mean() == pytest.approx(0.9, abs=0.02)
    assert np.ptp(fit.ratio) == 0
    everywhere = np.ones(T1.shape, dtype=bool)
    free = regularised(S, SHORT, MODEL, 0.005, lambda_b=0, tr=1000.0)
    assert error(fit, truth, everywhere) < 0.5 * error(free, truth, everywhere)
    assert np.median(np.abs(fit.kappa[..., 1] - truth[..., 1])) < 0.03
    wrong = shared(S, SHORT, MODEL, 0.005)
    assert error(wrong, truth, everywhere) > 3 * error(fit, truth, everywhere)
    z = (fit.kappa - truth) / fit.std
    assert np.sqrt(np.median(z**2, axis=(0, 1)) / 0.455) == pytest.approx(1.0, abs=0.35)


def test_free_finite_tr_fit_is_the_voxelwise_fit():
    kappa = np.stack(np.broadcast_arrays(1.0, 0.9, np.geomspace(200, 900, 50)), axis=-1)
    S = MODEL.finite_tr.model(1000.0).forward(kappa, SHORT)
    fit = regularised(S, SHORT, MODEL, 0.01, lambda_b=0, tr=1000.0)
    free = voxelwise(S, SHORT, MODEL, 0.01)
    np.testing.assert_allclose(fit.kappa, free.kappa, rtol=1e-3)
    np.testing.assert_allclose(fit.std, free.std, rtol=1e-2)


@pytest.mark.parametrize("rician", [False, True])
def test_few_images_are_fitted_as_well_as_from_the_truth(rician):
    """Barriers between polarities do not keep voxels from the minimum that the truth leads to."""
    tau, sigma = np.array([50.0, 400.0, 1500.0]), 0.01
    kappa, _, mask = phantom((24, 20), seed=3)
    rng = np.random.default_rng(3)
    signal = MODEL.signed(kappa, tau, np)
    noise = sigma * rng.normal(size=(2, *signal.shape))
    S = np.hypot(signal + noise[0], noise[1]) if rician else np.abs(signal) + noise[0]
    likelihood = "rician" if rician else "gaussian"
    fit = regularised(S, tau, MODEL, sigma, mask, lambda_b=500.0, likelihood=likelihood)
    limits, smoothness = fit_bounds(MODEL, None), make_smoothness(mask)
    voxels = voxels_of(S[mask], tau, sigma, limits, rician)
    found = evaluate(voxels, fit.ratio[mask].astype(np.float64))
    best = minimise(voxels, smoothness, 500.0, evaluate(voxels, kappa[mask][:, 1]))
    excess = found.objective(smoothness, 500.0) - best.objective(smoothness, 500.0)
    assert excess < 2e-3 * mask.sum()


def test_known_ratio_with_bounds_of_the_amplitude_has_the_least_cost():
    rng = np.random.default_rng(11)
    B, T1 = rng.uniform(1.6, 2.0, 80), np.exp(rng.uniform(np.log(300), np.log(3000), 80))
    kappa = np.stack([np.ones(80), B, T1], axis=-1)
    S = MODEL.forward(kappa, CINE31) + 0.03 * rng.normal(size=(80, 31))
    fit = fixed(S, CINE31, MODEL, B, 0.03, bounds={"A": (0.5, 1.5)})
    scale = np.abs(S).max(axis=1)
    assert (kappa[:, 0] > 1.5 * scale).mean() > 0.1
    T = np.geomspace(10.0, 6000.0, 3000)[:, None]
    for i in range(80):
        g = np.abs(1.0 - B[i] * np.exp(-CINE31 / T))
        A = np.clip(g @ S[i] / (g**2).sum(axis=1), 0.5 * scale[i], 1.5 * scale[i])
        least = ((S[i] - A[:, None] * g) ** 2).sum(axis=1).min()
        found = ((S[i] - MODEL.forward(fit.kappa[i].astype(float), CINE31)) ** 2).sum()
        assert found < least + 0.02 * 0.03**2


def test_voxels_apart_do_not_spoil_the_automatic_weight():
    kappa, S, mask = phantom((40, 36), sigma=0.05)
    rng = np.random.default_rng(2)
    apart = np.argwhere(~mask)
    apart = apart[rng.permutation(len(apart))[:40]]
    wider = mask.copy()
    wider[tuple(apart.T)] = True
    alone = regularised(S, CINE31, MODEL, 0.05, mask, lambda_b="auto")
    fit = regularised(S, CINE31, MODEL, 0.05, wider, lambda_b="auto")
    assert 0.1 < fit.lambda_b / alone.lambda_b < 10
    own = tuple(apart.T)
    off = np.abs(fit.ratio[own] - kappa[own][:, 1]) / fit.std[own][:, 1]
    assert (off > 2).mean() < 0.3
    assert error(fit, kappa, mask) < 1.2 * error(alone, kappa, mask)


def test_standard_deviation_of_a_voxel_apart_is_its_own():
    """No neighbour tells its B: whatever the weight, its own data do."""
    kappa = np.tile([1.0, 1.9, 900.0], (30, 30, 1))
    mask = np.zeros((30, 30), dtype=bool)
    mask[4:20, 4:20], mask[25, 5:25:3] = True, True
    S = MODEL.forward(kappa, CINE31) + 0.01 * np.random.default_rng(1).normal(size=(30, 30, 31))
    free = voxelwise(S, CINE31, MODEL, 0.01, mask)
    fit = regularised(S, CINE31, MODEL, 0.01, mask, lambda_b=1e7)
    ratio = fit.std[25, 5:25:3, 1] / free.std[25, 5:25:3, 1]
    assert 0.6 < np.median(ratio) < 1.5


@pytest.mark.parametrize(
    ("bounds", "truth"),
    [((1.95, 1.98), 1.975), ((1.95, 1.98), 1.968), ((1.0, 2.03), 2.025), ((1.8, 2.04), 2.1)],
)
def test_shared_ratio_reaches_all_of_its_bounds(bounds, truth):
    rng = np.random.default_rng(7)
    T1 = rng.uniform(400, 1500, size=300)
    kappa = np.stack([np.ones(300), np.full(300, truth), T1], axis=-1)
    S = MODEL.forward(kappa, CINE31) + 0.002 * rng.normal(size=(300, 31))
    fit = shared(S, CINE31, MODEL, 0.002, bounds={"B": bounds})
    assert fit.kappa[0, 1] == pytest.approx(min(truth, bounds[1]), abs=1e-3)
    if truth > bounds[1]:
        assert (fit.status == AT_BOUND).all()


def test_smoothness_costs_nothing_for_constants_of_each_part():
    mask = np.zeros((9, 7, 3), dtype=bool)
    mask[1:4, 1:6], mask[6:8, 2:5] = True, True
    smoothness = make_smoothness(mask, spacing=(1.0, 1.0, 3.0))
    assert smoothness.parts == 2
    parts = np.where(np.nonzero(mask)[0] < 5, 3.0, -2.0)
    assert smoothness.penalty(parts) == pytest.approx(0.0, abs=1e-12)
    assert smoothness.penalty(np.random.default_rng(0).normal(size=mask.sum())) > 1


def test_smoothness_solves_its_system():
    rng = np.random.default_rng(4)
    mask = rng.random((20, 17)) < 0.9
    smoothness = make_smoothness(mask)
    diagonal, right = rng.uniform(0.1, 30, mask.sum()), rng.normal(size=mask.sum())
    for weight in (0.1, 1e3, 1e8):
        x = smoothness.solve(diagonal, weight, right, 1e-10)
        left = diagonal * x + weight * (smoothness.square @ x)
        np.testing.assert_allclose(left, right, atol=1e-6)


def test_smoothness_solves_for_free_voxels_alone():
    rng = np.random.default_rng(4)
    mask = np.pad(rng.random((20, 17)) < 0.9, ((3, 40), (9, 2)))
    smoothness, n = make_smoothness(mask), mask.sum()
    diagonal, right, free = rng.uniform(0.1, 30, n), rng.normal(size=n), rng.random(n) < 0.7
    x = smoothness.solve(diagonal, 1e3, right, 1e-10, free)
    left = diagonal * x + 1e3 * (smoothness.square @ x)
    np.testing.assert_allclose(left[free], right[free], atol=1e-6)
    assert (x[~free] == 0).all()
    assert not smoothness.solve(diagonal, 1e3, right, free=np.zeros(n, dtype=bool)).any()


def voxels_of(S, tau, sigma, limits, rician=False):
    """What `relaxnet.fitting.joint` works on, from samples (n, N)."""
    problem, order = make_problem(tau, MODEL, limits, True)
    scale = np.abs(S).max(axis=1)
    relative = (S[:, order] / scale[:, None]).astype(np.float32)
    return Voxels(problem, make_dictionary(problem), relative, sigma / scale, rician)


@pytest.mark.parametrize("weight", [50.0, 5000.0])
def test_regularised_ratio_at_its_bound_has_the_least_cost(weight):
    """A descent by another method, from the fit on, finds nothing lower."""
    _, S, mask = phantom((32, 28), sigma=0.01)
    limits = fit_bounds(MODEL, {"B": (1.0, 1.8)})
    fit = regularised(S, CINE31, MODEL, 0.01, mask, lambda_b=weight, bounds=list(limits))
    voxels, smoothness = voxels_of(S[mask], CINE31, 0.01, limits), make_smoothness(mask)

    def objective(ratio):
        state = evaluate(voxels, ratio)
        gradient = state.slope + weight * (smoothness.square @ ratio)
        return state.objective(smoothness, weight), gradient

    start = fit.ratio[mask].astype(np.float64)
    assert 20 < (start >= 1.8 - 1e-6).sum() < len(start) - 20
    found = minimize(
        objective, start, jac=True, bounds=[(1.0, 1.8)] * len(start), options={"maxiter": 200}
    )
    assert objective(start)[0] - found.fun < 1e-4 * len(start)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda S: regularised(S, CINE31, MODEL, lambda_b=-1.0), "lambda_b"),
        (lambda S: regularised(S, CINE31, MODEL, lambda_b="much"), "lambda_b"),
        (lambda S: regularised(S, CINE31, T2_DECAY), "no ratio"),
        (lambda S: regularised(S, CINE31, MODEL, tr=-5.0), "repetition time"),
        (lambda S: fixed(S, CINE31, MODEL, np.nan), "finite"),
        (lambda S: fixed(S, CINE31, MODEL, np.ones(3)), "shape"),
        (lambda S: shared(S, CINE31, MODEL, mask=np.ones(3, dtype=bool)), "mask has shape"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call(np.ones((4, 4, 31)))
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def rician_slice():
    """Magnitudes with Rician noise at an SNR of 8."""
    kappa, _, mask = phantom((32, 28))
    kappa[..., 2] *= 0.8
    sigma, rng = 0.1, np.random.default_rng(5)
    signal = MODEL.signed(kappa, CINE31, np)
    parts = [x + sigma * rng.normal(size=signal.shape) for x in (signal, 0.0)]
    return kappa, np.hypot(*parts), mask, sigma


@pytest.mark.parametrize("weight", [500.0, "auto", np.inf])
def test_rician_noise_is_told_from_gaussian(rician_slice, weight):
    kappa, S, mask, sigma = rician_slice

    def median_bias(likelihood):
        fit = regularised(S, CINE31, MODEL, sigma, mask, lambda_b=weight, likelihood=likelihood)
        return abs(np.median(fit.kappa[mask][:, 2] / kappa[mask][:, 2] - 1))

    assert median_bias("rician") < 0.08
    assert median_bias("rician") < 0.5 * median_bias("gaussian")


def test_rician_fit_with_known_ratio_is_the_voxelwise_one(rician_slice):
    _, S, mask, sigma = rician_slice
    known = fixed(S, CINE31, MODEL, 1.8, sigma, mask, likelihood="rician")
    bounds = {"B": (1.8, 1.8)}
    free = voxelwise(S, CINE31, MODEL, sigma, mask, bounds=bounds, likelihood="rician")
    agree = np.abs(known.kappa[mask][:, 2] / free.kappa[mask][:, 2] - 1) < 1e-3
    assert agree.mean() > 0.99
    np.testing.assert_allclose(known.residual[mask][agree], free.residual[mask][agree], rtol=2e-2)


def test_slope_along_the_ratio_is_that_of_the_least_rician_cost(rician_slice):
    kappa, S, mask, sigma = rician_slice
    samples, truth = S[mask][:40], kappa[mask][:40]
    limits = fit_bounds(MODEL, None)
    problem, order = make_problem(CINE31, MODEL, limits, True)
    scale = samples.max(axis=1)
    relative = samples[:, order] / scale[:, None]
    noise, dictionary = sigma / scale, make_dictionary(problem)

    def least(r, near=None):
        return solve_rician_at_ratio(problem, dictionary, relative, noise, r, near)

    r = truth[:, 1]
    _, best = least(r)
    slope, curvature = rician_along_ratio(problem, relative, noise, best)
    step = 1e-4
    costs = [least(r + d, best)[0] for d in (-step, step)]
    np.testing.assert_allclose(slope, (costs[1] - costs[0]) / (2 * step), rtol=0.02, atol=0.05)
    assert (curvature > 0).all()
    exact = (costs[0] + costs[1] - 2 * least(r, best)[0]) / step**2
    assert 0.3 < np.median(exact / curvature) < 1.5


def test_rician_likelihood_is_not_for_signed_data(slice_2d):
    _, S, mask = slice_2d
    with pytest.raises(ValueError, match="these data are signed"):
        shared(S, CINE31, MODEL, SIGMA, mask, signed=True, likelihood="rician")
