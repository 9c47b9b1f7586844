"""tools/ablation.py: its default is the package's RIM, and every variant trains."""

import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from relaxnet.networks.rim import DEFAULT, RIM
from relaxnet.training.dataset import Batch

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
import ablation

TAU = np.linspace(100, 3000, 6).astype(np.float32)
SHORT = {"features": 4, "num_steps": 2}


def batch():
    rng = np.random.default_rng(0)
    kappa = np.broadcast_to(np.float32([1, 2, 900]), (2, 6, 6, 3))
    S = np.abs(1 - 2 * np.exp(-TAU / 900)) + 0.02 * rng.standard_normal((2, 6, 6, 6))
    sigma, rician = np.float32([0.02, 0.02]), np.float32([0, 1])
    return Batch(
        S.astype(np.float32), kappa, sigma, np.ones((2, 6, 6), np.float32), TAU[:, None], 0, rician
    )


def inputs():
    b = batch()
    return [b.S, b.tau, b.sigma, b.rician]


def with_weights(network):
    """Every weight drawn anew: the last layer starts at zero, where all variants agree."""
    rng = np.random.default_rng(1)
    weights = network.cell.get_weights()
    network.cell.set_weights([0.2 * rng.standard_normal(w.shape) for w in weights])
    return network


def trial(**changes):
    variant = ablation.Variant("one", **{**SHORT, **changes})
    return ablation.Trial(variant, "inversion_recovery")


def test_default_is_the_packages_network():
    network = with_weights(RIM("inversion_recovery", 4, 2, **DEFAULT))
    found = with_weights(trial()).last(inputs())[0]
    np.testing.assert_allclose(found, network.last(inputs())[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("gradient", "channels"), [("whitened", 3), ("information", 6)])
def test_hidden_channels_are_zero(gradient, channels):
    b, network = batch(), trial(steps="none", gradient=gradient)
    u = network.scaled(tf.constant(b.kappa * np.float32([1.1, 0.9, 1.2])))
    features, fits = network.likelihood_features(u, network.likelihood(inputs()))
    assert fits is None
    assert np.all(np.asarray(features)[..., channels:] == 0)
    assert np.all(np.asarray(features)[..., :channels].std(axis=(0, 1, 2)) > 0)


def test_steps_of_the_voxel_alone_hide_the_neighbourhood():
    b, network = batch(), trial(steps="voxel")
    u = network.scaled(tf.constant(b.kappa * np.float32([1.1, 0.9, 1.2])))
    likelihood = network.likelihood(inputs())
    features, fits = (np.asarray(x) for x in network.likelihood_features(u, likelihood))
    assert np.all(features[..., 9:-1] == 0)
    assert np.all(features[..., -1] != 0)
    assert np.all(fits[..., 1, :] == 0)
    assert np.any(fits[..., 0, :] != 0)


@pytest.mark.parametrize(
    "name",
    [
        "paper recipe",
        "default",
        "loss: bias weight 4",
        "loss: relative",
        "loss: over the CRLB",
    ],
)
def test_variants_train(name):
    (variant,) = (v for v in ablation.VARIANTS if v.name == name)
    keras.utils.set_random_seed(0)
    network = trial(**{k: v for k, v in vars(variant).items() if k not in ("name", *SHORT)})
    before = [w.copy() for w in network.get_weights()]
    finite, _ = ablation.train(network, iter([batch(), batch()]), 2, 1e-3)
    assert finite
    assert any(np.any(a != b) for a, b in zip(before, network.get_weights(), strict=True))
