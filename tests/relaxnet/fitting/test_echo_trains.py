"""Fits of echo trains: B1 free, smooth, shared and known."""

import numpy as np
import pytest
from scipy.optimize import least_squares

from relaxnet.fitting.inputs import Measurement
from relaxnet.fitting.options import FitOptions
from relaxsim.models.registry import model_of
from relaxsim.models.slice_profiles import NAMES

MODEL = model_of("mese")
WITH_B1 = model_of("mese-b1")


def train(num=24, profile="sinc", refocusing=180.0, spacing=10.0):
    others = [refocusing, 90.0, 1000.0, float(NAMES.index(profile))]
    return np.column_stack([spacing * np.arange(1, num + 1), np.tile(others, (num, 1))])


def voxels(n, protocol, snr, seed=0, b1=(0.6, 1.0), magnitude=False):
    """Kappa (n, 3) and noisy samples (n, N)."""
    rng = np.random.default_rng(seed)
    T2 = np.exp(rng.uniform(np.log(20), np.log(300), n))
    kappa = np.stack([rng.uniform(0.5, 2.0, n), rng.uniform(*b1, n), T2], axis=-1)
    S = MODEL.forward(kappa, protocol)
    noise = rng.standard_normal((2, *S.shape)) / snr
    return kappa, np.hypot(S + noise[0], noise[1]) if magnitude else S + noise[0]


def fit(S, protocol, model=MODEL, known=None, **options):
    measurement = Measurement(S, protocol, model, sigma=0.02, known=known)
    return FitOptions(**options).fit(measurement)


@pytest.mark.parametrize("profile", ["sinc", "gauss", "none"])
@pytest.mark.parametrize("refocusing", [180.0, 150.0])
def test_without_noise_the_fit_is_the_truth(profile, refocusing):
    protocol = train(profile=profile, refocusing=refocusing)
    kappa, S = voxels(200, protocol, 1e9)
    found = fit(S, protocol)
    # A field above 1 can give almost the signal of one below it.
    assert (np.abs(found.kappa[:, 2] / kappa[:, 2] - 1) < 1e-3).mean() > 0.98
    assert np.median(np.abs(found.kappa[:, 1] - kappa[:, 1])) < 1e-3


@pytest.mark.parametrize("num", [4, 24, 48])
def test_no_descent_finds_a_lower_cost(num):
    protocol = train(num)
    _, S = voxels(40, protocol, 30, b1=(0.4, 1.3))
    found = fit(S, protocol).kappa.astype(np.float64)
    cost = ((S - MODEL.forward(found, protocol)) ** 2).sum(axis=-1)
    low, high = np.array(MODEL.bounds).T
    for voxel, least in zip(S, cost, strict=True):
        for start in ([1.0, 0.5, 60.0], [1.0, 0.8, 100.0], [1.0, 1.2, 100.0]):
            other = least_squares(
                lambda k, S=voxel: MODEL.forward(k, protocol) - S,
                start,
                bounds=(low, high * [50.0, 1.0, 1.0]),
                x_scale=[1.0, 0.1, 50.0],
            )
            inside = other.x[0] <= 100.0 * np.abs(voxel).max()
            assert not inside or 2.0 * other.cost >= least * (1 - 0.02 / num)


def test_standard_deviations_are_those_of_repeated_fits():
    protocol = train(24, "none")
    kappa = np.tile([1.0, 0.75, 90.0], (3000, 1))
    rng = np.random.default_rng(1)
    S = MODEL.forward(kappa, protocol) + 0.01 * rng.standard_normal((3000, 24))
    found = FitOptions().fit(Measurement(S, protocol, MODEL, sigma=0.01))
    spread = found.kappa.std(axis=0)
    np.testing.assert_allclose(found.std.mean(axis=0)[2], spread[2], rtol=0.1)
    assert found.kappa[:, 2].mean() == pytest.approx(90.0, rel=0.01)


def test_of_a_symmetric_train_the_lesser_transmit_field_is_taken():
    protocol = train(profile="none")
    _, S = voxels(500, protocol, 50, b1=(1.0, 1.3))
    assert fit(S, protocol).kappa[:, 1].max() <= 1.0
    asymmetric = train(profile="none", refocusing=150.0)
    kappa, S = voxels(500, asymmetric, 200, b1=(1.0, 1.15))
    assert np.median(np.abs(fit(S, asymmetric).kappa[:, 1] - kappa[:, 1])) < 0.05


def slice_with_smooth_field(snr=40.0, protocol=None):
    """Kappa and Rician magnitudes of a slice whose B1 falls towards its edges, (24, 24, 1, .)."""
    protocol = train() if protocol is None else protocol
    rng = np.random.default_rng(2)
    x = np.linspace(-1, 1, 24)
    B1 = 0.9 - 0.15 * x[:, None] ** 2 - 0.1 * x**2
    T2 = rng.choice([60.0, 80.0, 120.0], B1.shape)
    kappa = np.stack([np.ones_like(B1), B1, T2], axis=-1)[:, :, None]
    S = MODEL.forward(kappa, protocol)
    noise = rng.standard_normal((2, *S.shape)) / snr
    return kappa, np.hypot(S + noise[0], noise[1])


def rmse(found, kappa, q):
    return float(np.sqrt(np.mean((found.kappa[..., q] - kappa[..., q]) ** 2)))


def test_a_smooth_transmit_field_is_better_known_than_a_free_one():
    kappa, S = slice_with_smooth_field()
    sigma = 1 / 40
    free, smooth, shared = (
        FitOptions(likelihood="rician", **options).fit(Measurement(S, train(), MODEL, sigma=sigma))
        for options in ({}, {"lambda_b": 500.0}, {"share_b": True})
    )
    assert rmse(smooth, kappa, 1) < 0.25 * rmse(free, kappa, 1)
    assert rmse(smooth, kappa, 2) < 0.85 * rmse(free, kappa, 2)
    assert np.ptp(shared.kappa[..., 1]) == 0
    inside = np.abs(smooth.kappa[..., 2] - kappa[..., 2]) < 1.96 * smooth.std[..., 2]
    assert 0.88 < inside.mean() < 0.99


@pytest.mark.parametrize("likelihood", ["gaussian", "rician"])
def test_a_known_transmit_field_gives_the_same_by_number_and_by_map(likelihood):
    protocol = train(16)
    kappa, S = voxels(60, protocol, 60, b1=(0.8, 0.8))
    S = np.abs(S)
    by_number = fit(S, protocol, fix_b=0.8, likelihood=likelihood)
    by_map = fit(S, protocol, WITH_B1, known=np.full((60, 1), 0.8), likelihood=likelihood)
    np.testing.assert_allclose(by_map.kappa[:, 1], by_number.kappa[:, 2], rtol=2e-3)
    np.testing.assert_allclose(by_map.std[:, 1], by_number.std[:, 2], rtol=2e-2)
    assert np.median(np.abs(by_map.kappa[:, 1] / kappa[:, 2] - 1)) < 0.05


def test_voxels_that_no_train_explains_are_fitted_too():
    rng = np.random.default_rng(3)
    noise = rng.standard_normal((300, 16))
    noise[:20] = -np.abs(noise[:20])
    noise[20:25] = np.geomspace(1e-3, 1.0, 16)
    noise[25:30] = 1.0
    for S in (noise, np.abs(noise)):
        found = fit(S, train(16))
        assert np.isfinite(found.kappa).all()
        assert (found.kappa[:, 2] > 0).all()


def test_bounds_fix_the_transmit_field():
    protocol = train(16)
    kappa, S = voxels(50, protocol, 1e9, b1=(0.8, 0.8))
    found = fit(S, protocol, bounds={"B1": (0.8, 0.8)})
    np.testing.assert_allclose(found.kappa[:, 2], kappa[:, 2], rtol=1e-3)
