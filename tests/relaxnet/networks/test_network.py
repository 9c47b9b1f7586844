"""What networks take, beside images: protocols, known maps; and what their modules leave alone."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from small_networks import TAU, images, randomised, sigma
from toy_models import add_toys, remove_toys

from relaxnet.networks.likelihood import Likelihood
from relaxnet.networks.parametrization import COORDINATES, derivative, from_kappa, to_kappa
from relaxnet.networks.registry import load_network, loaded
from relaxnet.networks.resnet import ResNet
from relaxnet.networks.rim import DEFAULT, PAPER, RIM
from relaxnet.networks.tiling import run_network
from relaxsim.models.registry import signal_model

TABLE = np.array([[30.0, 200.0], [60.0, 200.0], [60.0, 600.0], [40.0, 3000.0]], np.float32)
OFFSETS = np.array([5.0, 100.0], np.float32)


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    known = add_toys(monkeypatch)
    yield
    remove_toys(known)


@pytest.mark.parametrize(
    ("network", "takes", "rician"),
    [
        (lambda: RIM("inversion_recovery", features=4, **DEFAULT), True, True),
        (lambda: RIM("inversion_recovery", features=4, **PAPER), True, False),
        (lambda: ResNet("inversion_recovery", num_images=4, widths=(4,)), False, False),
    ],
    ids=["rim", "paper", "resnet"],
)
def test_networks_say_what_they_take(network, takes, rician):
    network = network()
    assert {
        network.takes_protocol,
        network.takes_sign,
        network.takes_sigma,
        network.takes_sigma_map,
    } == {takes}
    assert network.takes_rician == rician
    assert not network.has_std
    with pytest.raises(ValueError, match="no error head"):
        network.with_std([images(), TAU, sigma()])


@pytest.mark.parametrize("name", ["inversion_recovery", "t2_decay"])
@pytest.mark.parametrize("recipe", [PAPER, DEFAULT], ids=["paper", "default"])
def test_each_image_may_have_its_own_protocol(name, recipe):
    network = randomised(RIM(name, features=6, num_steps=2, **recipe))
    S = images()
    tables = np.stack([TAU, TAU[::-1] + 50])[..., None]
    both = network([S, tables, sigma()])
    for i, table in enumerate(tables):
        alone = network([S[i : i + 1], table, sigma(1)])
        np.testing.assert_allclose(both[:, i], alone[:, 0], rtol=2e-3, atol=1e-4)


def test_slices_get_their_own_protocol_and_known_maps():
    network = randomised(RIM("spoiled_echo", features=6, num_steps=2, **DEFAULT))
    S, B1 = images(), np.random.default_rng(1).uniform(0.8, 1.2, (2, 9, 8, 1))
    tables = np.stack([TABLE, TABLE + OFFSETS])
    found = run_network(network, S, tables, sigma(), known=B1, max_voxels=60)
    for i in range(2):
        known = B1[i : i + 1].astype(np.float32)
        inputs = [S[i : i + 1], tables[i], sigma(1), None, None, known]
        np.testing.assert_allclose(found[i], network.estimate(inputs)[0], rtol=2e-3)
    for wrong in (tables[:1], np.concatenate([tables, tables])):
        with pytest.raises(ValueError, match="the protocol has"):
            run_network(network, S, wrong, sigma())


@pytest.mark.parametrize("architecture", ["rim", "resnet"])
def test_known_maps_are_inputs_with_default_values(architecture):
    network = randomised(
        RIM("spoiled_echo", features=6, num_steps=2, **DEFAULT)
        if architecture == "rim"
        else ResNet("spoiled_echo", num_images=4, widths=(4, 6))
    )
    S = images()
    without = run_network(network, S, TABLE, sigma())
    ones = np.ones((2, 9, 8, 1))
    np.testing.assert_array_equal(run_network(network, S, TABLE, sigma(), known=ones), without)
    other = run_network(network, S, TABLE, sigma(), known=0.8 * ones)
    assert np.abs(other / without - 1).max() > 1e-5


@pytest.mark.parametrize("coordinates", COORDINATES)
def test_gradient_of_a_model_with_two_columns_and_a_known_map(coordinates):
    model, rng = signal_model("spoiled_echo"), np.random.default_rng(0)
    kappa = np.stack([rng.uniform(0.5, 1.5, (2, 5, 4)), rng.uniform(300, 2500, (2, 5, 4))], -1)
    kappa, B1 = kappa.astype("f"), rng.uniform(0.8, 1.2, (2, 5, 4, 1)).astype("f")
    tables = np.stack([TABLE, TABLE + OFFSETS]).astype("f")
    S = model.forward(kappa, tables[:, None, None], np, B1).astype("f")
    u = tf.constant(from_kappa(1.1 * kappa, model, coordinates))
    likelihood = Likelihood(S, tables, sigma(), model, coordinates, known=B1)
    tape, (fast, _) = likelihood.gradient(u), likelihood.gradient_and_information(u)
    np.testing.assert_allclose(fast, tape, rtol=2e-4, atol=2e-3 * np.abs(tape).max())
    truth = tf.constant(from_kappa(kappa, model, coordinates))
    np.testing.assert_allclose(likelihood.negative_log(truth), 0.0, atol=1e-3)


@pytest.mark.parametrize("coordinates", COORDINATES)
def test_a_main_parameter_that_is_no_time_is_scaled_by_its_start(coordinates):
    model = signal_model("saturation_recovery")
    A, T = model.parameter_table
    rate = replace(T, name="D", unit="um2/ms", start=2.5)
    model = replace(model, parameter_table=(A, rate))
    kappa = np.array([[1.0, 2.5], [0.5, 5.0]], np.float32)
    u = from_kappa(kappa, model, coordinates)
    expected = kappa[:, 1] / 2.5
    expected = np.log(expected) if coordinates == "log" else expected
    np.testing.assert_allclose(u[:, 1], expected, atol=1e-6)
    np.testing.assert_allclose(to_kappa(u, model, coordinates), kappa, rtol=1e-6)
    slope = derivative(tf.constant(kappa), model, coordinates)[:, 1]
    np.testing.assert_allclose(slope, kappa[:, 1] if coordinates == "log" else 2.5, rtol=1e-6)


def test_a_network_is_loaded_once_and_again_when_its_file_changes(tmp_path):
    path = tmp_path / "network.keras"
    RIM("inversion_recovery", features=4, num_steps=1).save(path)
    first = loaded(path)
    assert loaded(str(path)) is first
    assert load_network(path) is not first
    RIM("inversion_recovery", features=5, num_steps=1).save(path)
    assert loaded(path).features == 5


def test_modules_leave_the_precision_of_tensorflow_alone():
    code = """
import importlib, pkgutil
import tensorflow as tf
import relaxnet.networks, relaxnet.training
enabled = tf.config.experimental.tensor_float_32_execution_enabled
for package in (relaxnet.networks, relaxnet.training):
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
assert enabled()
from relaxnet.networks.registry import load_network
load_network("rim-t2")
assert not enabled()
"""
    subprocess.run([sys.executable, "-c", code], check=True)
