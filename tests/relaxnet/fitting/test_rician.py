import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import rice
from short_fits import voxelwise

from relaxnet.fitting.rician import rician_nll
from relaxnet.fitting.rician_fit import RicianVoxels, cost_and_derivatives
from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY
from relaxsim.models.protocols import read_protocol
from relaxsim.models.t2_decay import MODEL as T2_DECAY

FSE6 = read_protocol("fse6", "tes").tau
TIS = np.array([50.0, 200.0, 400.0, 800.0, 1200.0, 1800.0, 2600.0, 4000.0])


def magnitude(rng, signal, sigma, n):
    noise = sigma * rng.normal(size=(2, n, len(signal)))
    return np.hypot(signal + noise[0], noise[1])


def test_nll_is_that_of_the_rice_distribution():
    S, f, sigma = np.array([0.2, 0.7, 1.5]), np.array([0.1, -0.9, 1.2]), 0.3
    expected = -rice.logpdf(S, np.abs(f) / sigma, scale=sigma) + np.log(S / sigma**2)
    assert rician_nll(S, f, sigma) == pytest.approx(expected.sum())


def test_cost_of_the_descent_is_that_of_the_likelihood():
    rng = np.random.default_rng(0)
    kappa = np.stack([rng.uniform(0.5, 1, 20), rng.uniform(30, 500, 20)], axis=-1)
    sigma = rng.uniform(0.02, 0.5, 20)
    signal = T2_DECAY.signed(kappa, FSE6, np)
    S = np.hypot(*(x + sigma[:, None] * rng.normal(size=signal.shape) for x in (signal, 0.0)))
    voxels = RicianVoxels(S, sigma, T2_DECAY, FSE6)
    found, gradient, _ = cost_and_derivatives(voxels, kappa)
    np.testing.assert_allclose(found, rician_nll(S, signal, sigma[:, None]), rtol=1e-9)
    moved = kappa * [1.0, np.exp(1e-5)]
    slope = (cost_and_derivatives(voxels, moved)[0] - found) / 1e-5
    np.testing.assert_allclose(gradient[:, 1], slope, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("snr", [1e-3, 1.0, 1e4, 1e8])
def test_nothing_overflows(snr):
    S = np.array([0.0, 1e-6, 1.0, 2.0])
    assert np.isfinite(rician_nll(S, np.ones(4), 1.0 / snr))


@pytest.mark.parametrize("snr", [2, 3, 5])
def test_bias_is_smaller_than_that_of_the_gaussian_likelihood(snr):
    """Median of T2 at low SNR: the noise floor lengthens the Gaussian one."""
    rng, T2 = np.random.default_rng(snr), 80.0
    S = magnitude(rng, T2_DECAY.signed(np.array([1.0, T2]), FSE6, np), 1 / snr, 600)
    biases = {
        likelihood: np.median(
            voxelwise(S, FSE6, T2_DECAY, 1 / snr, likelihood=likelihood).kappa[:, 1]
        )
        / T2
        - 1
        for likelihood in ("gaussian", "rician")
    }
    assert abs(biases["rician"]) < 0.25 * abs(biases["gaussian"])


def test_is_the_gaussian_fit_at_high_snr():
    rng = np.random.default_rng(0)
    signal = INVERSION_RECOVERY.signed(np.array([1.0, 1.9, 900.0]), TIS, np)
    S = magnitude(rng, signal, 1e-4, 50)
    gaussian = voxelwise(S, TIS, INVERSION_RECOVERY, 1e-4)
    rician = voxelwise(S, TIS, INVERSION_RECOVERY, 1e-4, likelihood="rician")
    np.testing.assert_allclose(rician.kappa, gaussian.kappa, rtol=1e-3)


@pytest.mark.parametrize(("model", "tau"), [(T2_DECAY, FSE6), (INVERSION_RECOVERY, TIS)])
def test_likelihood_is_not_below_that_of_many_starts(model, tau):
    rng, sigma = np.random.default_rng(1), 0.15
    for _ in range(12):
        kappa = np.array([1.0, 1.8, 900.0] if model.num_parameters == 3 else [1.0, 60.0])
        S = magnitude(rng, model.signed(kappa, tau, np), sigma, 1)[0]
        fit = voxelwise(S, tau, model, sigma, likelihood="rician")
        low, high = np.array(model.bounds).T
        low, high = low * np.append(S.max(), np.ones(len(low) - 1)), high.copy()
        high[0] *= S.max()

        def nll(u, S=S, low=low, high=high):
            return rician_nll(S, model.signed(low + (high - low) * u**2, tau, np), sigma)

        starts = rng.uniform(size=(12, len(low)))
        best = min(minimize(nll, u, bounds=[(0, 1)] * len(low)).fun for u in starts)
        found = rician_nll(S, model.signed(fit.kappa.astype(float), tau, np), sigma)
        assert found <= best + 1e-3


def test_sigma_is_taken_from_the_residuals_if_there_are_any():
    rng = np.random.default_rng(2)
    S = magnitude(rng, T2_DECAY.signed(np.array([1.0, 80.0]), FSE6, np), 0.05, 200)
    fit = voxelwise(S, FSE6, T2_DECAY, likelihood="rician")
    assert np.median(fit.kappa[:, 1]) == pytest.approx(80, rel=0.05)
    with pytest.raises(ValueError, match="sigma"):
        voxelwise(np.ones((3, 2)), np.array([10.0, 20.0]), T2_DECAY, likelihood="rician")


def test_signed_data_are_refused():
    with pytest.raises(ValueError, match="signed"):
        voxelwise(np.ones(8), TIS, INVERSION_RECOVERY, 0.1, signed=True, likelihood="rician")
