import numpy as np
import pytest
from short_fits import voxelwise

from relaxnet.fitting.crlb import (
    clustered_share,
    covariance_with_known,
    coverage,
    crlb,
    fisher_information,
)
from relaxnet.fitting.result import CONVERGED
from relaxnet.fitting.rician import information_factor
from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY
from relaxsim.models.protocols import read_protocol
from relaxsim.models.t2_decay import MODEL as T2_DECAY

CINE31 = read_protocol("cine31", "tis").tau
FSE6 = read_protocol("fse6", "tes").tau


def test_floor_of_the_cine_protocol_with_B_free_and_known():
    """CV of T1 in per cent at sigma = A / 30, B = 1.9, from an independent calculation."""
    T1 = np.array([600.0, 1000.0, 1400.0, 2000.0])
    kappa = np.stack(np.broadcast_arrays(1.0, 1.9, T1), axis=-1)
    sigma = 1 / 30
    free = crlb(kappa, CINE31, sigma, INVERSION_RECOVERY)[:, 2] / T1
    np.testing.assert_allclose(100 * free, [10.8, 21, 36, 65], rtol=0.03)
    F = fisher_information(kappa, CINE31, sigma, INVERSION_RECOVERY)
    known = np.sqrt(covariance_with_known(F, 1, np.zeros(4))[:, 2, 2]) / T1
    np.testing.assert_allclose(100 * known, [1.1, 1.1, 1.5, 2.4], rtol=0.06)


def test_what_a_voxel_says_itself_gives_back_its_own_covariance():
    kappa = np.array([1.0, 1.9, 900.0])
    F = fisher_information(kappa, CINE31, 0.01, INVERSION_RECOVERY)
    C = np.linalg.inv(F)
    np.testing.assert_allclose(covariance_with_known(F, 1, C[1, 1]), C, rtol=1e-6)


def test_information_is_that_of_finite_differences():
    kappa, h = np.array([0.9, 70.0]), 1e-4
    J = np.stack(
        [
            (T2_DECAY.forward(kappa + e, FSE6) - T2_DECAY.forward(kappa - e, FSE6)) / (2 * h)
            for e in h * np.eye(2)
        ],
        axis=-1,
    )
    F = fisher_information(kappa, FSE6, 0.02, T2_DECAY)
    np.testing.assert_allclose(F, J.T @ J / 0.02**2, rtol=1e-5)


def test_bound_scales_with_sigma_and_is_infinite_where_nothing_is_known():
    kappa = np.array([[1.0, 80.0], [0.0, 80.0]])
    std = crlb(kappa, FSE6, np.array([0.01, 0.01]), T2_DECAY)
    np.testing.assert_allclose(crlb(kappa, FSE6, 0.03, T2_DECAY)[0], 3 * std[0])
    assert np.isinf(std[1]).all()


def test_rician_information_by_monte_carlo():
    rng = np.random.default_rng(0)
    from scipy.special import i0e, i1e

    for snr in (0.5, 1.0, 2.0, 5.0):
        s = np.abs(snr + rng.normal(size=200_000) + 1j * rng.normal(size=200_000))
        score = s * i1e(s * snr) / i0e(s * snr) - snr
        assert (score**2).mean() == pytest.approx(float(information_factor(snr)), rel=0.02)
    assert information_factor(np.array([0.0, 1e5])) == pytest.approx([0.0, 1.0], abs=1e-6)


def test_intervals_of_a_fit_hold_the_truth_as_often_as_they_say():
    rng, kappa = np.random.default_rng(2), np.array([1.0, 80.0])
    S = T2_DECAY.forward(kappa, FSE6) + 0.02 * rng.normal(size=(3000, 6))
    fit = voxelwise(S, FSE6, T2_DECAY, sigma=0.02)
    for level in (0.5, 0.95):
        share = coverage(fit.kappa[:, 1], fit.std[:, 1], np.full(3000, 80.0), level)
        assert share == pytest.approx(level, abs=0.03)
    assert np.isnan(coverage(np.ones(2), np.full(2, np.inf), np.ones(2)))


@pytest.mark.parametrize(
    ("model", "tau", "kappa", "sigma"),
    [
        (T2_DECAY, FSE6, [1.0, 80.0], 0.01),
        (T2_DECAY, FSE6, [0.7, 200.0], 0.02),
        (INVERSION_RECOVERY, CINE31, [1.0, 1.9, 600.0], 0.015),
        (INVERSION_RECOVERY, np.linspace(50, 3000, 12), [0.8, 1.8, 1200.0], 0.02),
    ],
)
@pytest.mark.parametrize("likelihood", ["gaussian", "rician"])
def test_empirical_deviation_matches_the_bound(model, tau, kappa, sigma, likelihood):
    """Where the bound is under 10 %, the estimates scatter by it within 10 %."""
    rng, kappa, n = np.random.default_rng(1), np.array(kappa), 2000
    signal = model.signed(kappa, tau, np)
    noise = sigma * rng.normal(size=(2, n, len(tau)))
    if likelihood == "gaussian":
        S = np.abs(signal) + noise[0]
    else:
        S = np.hypot(signal + noise[0], noise[1])
    bound = crlb(kappa, tau, sigma, model, likelihood)
    fit = voxelwise(S, tau, model, sigma, likelihood=likelihood)
    assert bound[-1] < 0.1 * kappa[-1]
    assert (fit.status == CONVERGED).all()
    np.testing.assert_allclose(fit.kappa.std(axis=0, ddof=1), bound, rtol=0.1)
    np.testing.assert_allclose(np.median(fit.std, axis=0), bound, rtol=0.05)


def test_interval_of_a_share_holds_the_truth_when_clusters_go_together():
    """Forty clusters that hit or miss as one: the interval is that of 40 draws, not of 4000."""
    rng = np.random.default_rng(0)
    cluster = np.repeat(np.arange(40), 100)
    held = []
    for _ in range(400):
        share, low, high = clustered_share((rng.random(40) < 0.68)[cluster], cluster)
        held.append(low <= 0.68 <= high)
    assert np.mean(held) == pytest.approx(0.94, abs=0.03)
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(share * (1 - share) / 39), rel=1e-3)


def test_share_of_independent_voxels_and_of_none():
    hit = np.random.default_rng(0).random(2000) < 0.95
    share, low, high = clustered_share(hit, np.arange(2000))
    assert share == pytest.approx(hit.mean())
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.05 * 0.95 / 2000), rel=0.15)
    assert np.isnan(clustered_share(hit[:0], np.zeros(0, int))).all()
    assert np.isnan(clustered_share(hit, np.zeros(2000, int))[1:]).all()
