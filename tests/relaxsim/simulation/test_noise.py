import numpy as np
import pytest
from scipy import stats
from scipy.special import ive

from relaxsim.simulation.noise import add_noise, draw_sigma, standard_normal


def test_normals_are_normal():
    x = standard_normal(np.random.default_rng(0), (1000, 1001)).ravel().astype(float)
    n = x.size
    assert abs(x.mean()) < 4 / np.sqrt(n)
    assert x.std() == pytest.approx(1, abs=4 / np.sqrt(2 * n))
    assert abs(stats.skew(x)) < 4 * np.sqrt(6 / n)
    assert abs(stats.kurtosis(x)) < 4 * np.sqrt(24 / n)
    assert stats.kstest(x[:200_000], "norm").pvalue > 1e-3
    assert (np.abs(x) > 4).mean() == pytest.approx(2 * stats.norm.sf(4), rel=0.5)
    assert abs(np.corrcoef(x[:-1], x[1:])[0, 1]) < 4 / np.sqrt(n)


def test_sigma_is_log_uniform_over_the_papers_range():
    sigma = draw_sigma(np.random.default_rng(0), 20000)
    assert sigma.min() >= 0.0065 * 0.999
    assert sigma.max() <= 0.255 * 1.001
    low, high = np.log([0.0065, 0.255])
    assert stats.kstest((np.log(sigma) - low) / (high - low), "uniform").pvalue > 1e-3


def test_gaussian_noise_is_each_patchs_sigma():
    sigma = np.array([0.01, 0.2], np.float32)
    S = np.full((2, 200, 200, 5), 0.7, np.float32)
    noise = add_noise(S, sigma[:, None, None, None], np.random.default_rng(0)) - S
    np.testing.assert_allclose(noise.std(axis=(1, 2, 3)), sigma, rtol=0.01)
    np.testing.assert_allclose(noise.mean(axis=(1, 2, 3)), 0, atol=4 * sigma.max() / 447)


@pytest.mark.parametrize("snr", [0.0, 1.0, 3.0, 30.0])
def test_rician_moments_are_the_closed_forms(snr):
    sigma = 0.2
    S = np.full((400, 500), snr * sigma, np.float32)
    noisy = add_noise(S, sigma, np.random.default_rng(0), "rician").astype(float)
    x = snr**2 / 4
    mean = sigma * np.sqrt(np.pi / 2) * ((1 + 2 * x) * ive(0, x) + 2 * x * ive(1, x))
    assert noisy.mean() == pytest.approx(mean, rel=0.005)
    assert (noisy**2).mean() == pytest.approx((snr * sigma) ** 2 + 2 * sigma**2, rel=0.01)
    assert noisy.min() >= 0


def test_unknown_noise_is_refused():
    with pytest.raises(ValueError, match="expected one of gaussian, rician"):
        add_noise(np.ones(3), 0.1, np.random.default_rng(0), "pink")


@pytest.mark.parametrize("size", [0, 1, 2, 7, 32767, 32768, 32769, 100_001])
def test_any_number_of_normals(size):
    x = standard_normal(np.random.default_rng(0), (size,))
    assert x.shape == (size,)
    assert x.dtype == np.float32
    assert np.isfinite(x).all()
    np.testing.assert_array_equal(x, standard_normal(np.random.default_rng(0), (size,)))
    if size > 30_000:
        assert len(np.unique(x)) > 0.98 * size


def test_normals_are_independent():
    """Also the two numbers that one pair of uniform numbers makes, and their squares."""
    x = standard_normal(np.random.default_rng(1), (2**19,)).astype(float)
    for lag in (1, 2, 16384, 32768):
        a, b = x[:-lag], x[lag:]
        for f in (lambda v: v, np.abs, np.square):
            assert abs(np.corrcoef(f(a), f(b))[0, 1]) < 4.5 / np.sqrt(len(a))
        signs = np.mean((a > 0) == (b > 0))
        assert signs == pytest.approx(0.5, abs=4.5 / np.sqrt(4 * len(a)))


def test_tails():
    x = np.abs(standard_normal(np.random.default_rng(2), (2**23,)))
    for bound in (2.0, 3.0, 4.0, 4.5):
        expected = 2 * stats.norm.sf(bound) * x.size
        assert np.count_nonzero(x > bound) == pytest.approx(expected, abs=4.5 * np.sqrt(expected))
    assert x.max() < 5.78


def test_noise_keeps_its_input():
    S = np.ones((4, 5), np.float32)
    for noise in ("gaussian", "rician"):
        add_noise(S, 0.1, np.random.default_rng(0), noise)
        assert (S == 1).all()
