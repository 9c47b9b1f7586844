import numpy as np
import pytest
from small_networks import TAU, images, randomised, sigma

from relaxnet.fitting.crlb import crlb
from relaxnet.networks.error_head import LOG_LIMITS, ErrorHead, head_inputs, num_inputs
from relaxnet.networks.registry import load_network
from relaxnet.networks.rim import PAPER, RIM
from relaxnet.networks.tiling import run_network
from relaxnet.prediction.arrays import predict


def test_new_head_gives_the_bound_of_a_voxel():
    """Where the data say much more than the prior the bound is Cramer and Rao's."""
    rim = RIM("inversion_recovery", num_steps=1, uncertainty=True)
    kappa = np.tile(np.float32([1.0, 1.9, 900.0]), (1, 3, 3, 1))
    S = rim.model.forward(kappa, TAU, np).astype(np.float32)
    u = rim.scaled(kappa)
    noise = np.float32([0.002])
    _, log_bound = head_inputs(u, (), rim.likelihood([S, TAU, noise]))
    expected = crlb(kappa, TAU, 0.002, rim.model) / [1.0, 1.0, 900.0]
    np.testing.assert_allclose(np.exp(log_bound), expected, rtol=0.02)
    head = ErrorHead(3)
    out = head(np.zeros((1, 3, 3, 7), np.float32), log_bound)
    np.testing.assert_allclose(out, log_bound)


def test_bound_survives_rounding():
    """Short lists of times tell a long T1 and B hardly apart: F + P is all but singular."""
    tau, rng = np.float32([100.0, 200.0, 300.0]), np.random.default_rng(0)
    kappa = np.stack([np.ones(64), rng.uniform(1.5, 2, 64), rng.uniform(600, 3000, 64)], -1)
    kappa = kappa.reshape(1, 8, 8, 3).astype(np.float32)
    rim = RIM("inversion_recovery", num_steps=1, uncertainty=True)
    S = rim.model.forward(kappa, tau, np).astype(np.float32)
    _, log_bound = head_inputs(rim.scaled(kappa), (), rim.likelihood([S, tau, np.float32([1e-4])]))
    J = rim.model.signed_jacobian(kappa.astype(np.float64), tau.astype(np.float64), np)
    J[..., 0] *= kappa[..., :1]
    J[..., 2] *= kappa[..., 2:]
    F = np.swapaxes(J, -1, -2) @ J / 1e-8 + np.diag([1.0, 4.0, 1.0])
    exact = np.sqrt(np.diagonal(np.linalg.inv(F), axis1=-2, axis2=-1))
    assert (np.exp(log_bound) / exact).min() > 0.1


def test_bound_without_signal_is_the_prior():
    rim = RIM("inversion_recovery", uncertainty=True)
    S = np.zeros((1, 2, 2, 4), np.float32)
    u = rim.scaled(np.full((1, 2, 2, 3), 1e-3, np.float32))
    _, log_bound = head_inputs(u, (), rim.likelihood([S, TAU, sigma(1)]))
    assert np.isfinite(log_bound).all()
    assert np.exp(log_bound).max() < 1.01


@pytest.mark.parametrize("recipe", [PAPER, {}], ids=["paper", "default"])
@pytest.mark.parametrize("model", ["inversion_recovery", "t2_decay"])
def test_std_is_in_the_unit_of_kappa(model, recipe):
    """A series of twice the intensity has twice the kappa_A and its std, the same T and its std."""
    rim = randomised(RIM(model, features=8, num_steps=2, **recipe)).with_error_head()
    randomised(rim.error_head)
    kappa, std = (x.numpy() for x in rim.with_std([images(), TAU, sigma()]))
    assert kappa.shape == std.shape == (2, 9, 8, rim.model.num_parameters)
    assert (std > 0).all()
    np.testing.assert_allclose(kappa, rim([images(), TAU, sigma()])[-1], rtol=1e-5)
    log = std / np.abs(kappa) if recipe == {} else std / [1, 1, 1000][-kappa.shape[-1] :]
    assert np.log(log[..., -1]).min() >= LOG_LIMITS[0] - 1e-3
    assert np.log(log[..., -1]).max() <= LOG_LIMITS[1] + 1e-3


def test_head_leaves_the_estimate_as_it_was(tmp_path):
    bare = randomised(RIM("inversion_recovery", features=8, num_steps=2))
    network = bare.with_error_head()
    assert (bare.has_std, network.has_std) == (False, True)
    inputs = [images(), TAU, sigma()]
    np.testing.assert_array_equal(network(inputs), bare(inputs))
    stripped = network.without_error_head()
    assert stripped.count_params() == bare.count_params()
    np.testing.assert_array_equal(stripped(inputs), bare(inputs))
    assert bare.without_error_head() is bare


def test_saved_head_gives_the_same(tmp_path):
    network = randomised(RIM("inversion_recovery", features=8, num_steps=2, uncertainty=True))
    network.save(tmp_path / "net.keras")
    loaded = load_network(tmp_path / "net.keras")
    assert loaded.get_config() == network.get_config()
    for a, b in zip(
        *(n.with_std([images(), TAU, sigma()]) for n in (network, loaded)), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_networks_of_before_load(tmp_path):
    """A configuration that does not know of error heads makes a network without one."""
    config = RIM("inversion_recovery", features=8).get_config()
    del config["uncertainty"]
    assert not RIM.from_config(config).has_std


def test_slices_come_with_their_std_in_one_pass():
    network = randomised(RIM("inversion_recovery", features=8, num_steps=1, uncertainty=True))
    S = images(30, 25, b=2)
    values = run_network(network, S, TAU, [0.05, 0.05], max_voxels=400)
    kappa, std = network.with_std([S, TAU, sigma()])
    np.testing.assert_allclose(values[..., :3], kappa, rtol=2e-4)
    np.testing.assert_allclose(values[..., 3:], std, rtol=2e-3)


def test_inputs_are_as_many_as_said():
    rim = RIM("t2_decay", features=8, uncertainty=True)
    told = [images(), TAU, sigma()]
    u, states = rim.last(told)
    inputs, bound = head_inputs(u, states, rim.likelihood(told))
    assert inputs.shape[-1] == num_inputs(2, 8)
    assert bound.shape[-1] == 2


def test_prediction_has_maps_of_std():
    """They scale with the series as their maps do."""
    network = randomised(RIM("t2_decay", features=8, num_steps=1, uncertainty=True))
    S, tau = images(12, 10, b=1)[0][:, :, None], np.array([10.0, 30.0, 60.0, 120.0])
    maps = predict(S, tau, "tes", network=network, sigma=0.05)
    larger = predict(100 * S, tau, "tes", network=network, sigma=5.0)
    assert {"T2std", "M0std"} <= set(maps.named())
    assert (maps.std[maps.kappa[..., 1] > 0] > 0).all()
    np.testing.assert_allclose(larger.std[..., 0], 100 * maps.std[..., 0], rtol=1e-3)
    np.testing.assert_allclose(larger.std[..., 1], maps.std[..., 1], rtol=1e-3)
