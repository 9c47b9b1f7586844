"""The start of the recurrent inference machine."""

import numpy as np
import pytest

from relaxnet.coordinates import to_kappa
from relaxnet.rim import RIM
from relaxnet.start import dictionary_start, grid
from relaxsim.signals import INVERSION_RECOVERY, MODELS, T2_DECAY

FEW = np.array([50, 100, 200, 500, 2000, 4000], np.float32)


def started(kappa, tau, model, sigma=0.01, seed=0):
    rng = np.random.default_rng(seed)
    S = np.abs(
        model.forward(kappa, tau) + sigma * rng.standard_normal((*kappa.shape[:-1], len(tau)))
    )
    u = dictionary_start(S.astype("f"), tau, np.full(len(S), sigma, "f"), model, "log")
    return to_kappa(u, model, "log").numpy()


@pytest.mark.parametrize("T1", [300, 650, 725, 893, 1400, 3500])
@pytest.mark.parametrize("B", [1.5, 2.0])
def test_the_start_is_on_the_right_side_of_a_zero_crossing(T1, B):
    kappa = np.broadcast_to(np.array([0.9, B, T1], np.float32), (1, 6, 6, 3))
    found = started(kappa, FEW, INVERSION_RECOVERY)
    np.testing.assert_allclose(found[..., 2], T1, rtol=0.2)
    np.testing.assert_allclose(found[..., 0], 0.9, rtol=0.1)


@pytest.mark.parametrize("T2", [20, 80, 300])
def test_the_start_of_a_decay_is_near_its_truth(T2):
    tau = np.array([10, 20, 40, 80, 160, 320], np.float32)
    kappa = np.broadcast_to(np.array([0.7, T2], np.float32), (1, 4, 4, 2))
    np.testing.assert_allclose(started(kappa, tau, T2_DECAY)[..., 1], T2, rtol=0.12)


def test_noise_alone_starts_inside_the_grid():
    kappa = np.zeros((2, 5, 5, 3), np.float32) + np.array([0, 2, 1000], np.float32)
    found = started(kappa, FEW, INVERSION_RECOVERY, sigma=0.1)
    low, high = grid(INVERSION_RECOVERY)[:, 2][[0, -1]]
    assert np.isfinite(found).all()
    assert (found[..., 2] >= 0.99 * low).all()
    assert (found[..., 2] <= 1.01 * high).all()


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_new_network_gives_its_start(name):
    model = MODELS[name]
    rim = RIM(name, features=4, num_steps=1, start="dictionary")
    S = np.random.default_rng(0).uniform(0.1, 1, (1, 4, 4, 6)).astype("f")
    inputs = [S, FEW, np.full(1, 0.05, "f")]
    start = dictionary_start(*inputs, model, "log")
    np.testing.assert_allclose(rim(inputs)[-1], to_kappa(start, model, "log"), rtol=1e-5)


def test_an_unknown_start_is_refused():
    with pytest.raises(ValueError, match="start='nearest'"):
        RIM(start="nearest")
