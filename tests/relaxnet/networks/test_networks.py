import keras
import numpy as np
import pytest
from small_networks import TAU, images, randomised, sigma

from relaxnet.networks.conv_gru import ConvGRUCell
from relaxnet.networks.registry import ModelError, load_network, with_policy
from relaxnet.networks.resnet import WIDTHS, ResNet
from relaxnet.networks.rim import DEFAULT, PAPER, RIM
from relaxnet.networks.shared_parameter import REACH


def test_gru_keeps_its_state_when_the_update_gate_is_open():
    cell = ConvGRUCell(3)
    state = np.random.default_rng(0).standard_normal((1, 4, 4, 3)).astype("f")
    inputs = np.zeros((1, 4, 4, 2), np.float32)
    cell(inputs, state)
    for layer in (cell.of_input, cell.of_state):
        layer.kernel.assign(np.zeros(layer.kernel.shape))
    bias = np.zeros(9, np.float32)
    bias[3:6] = 30.0
    cell.of_input.bias.assign(bias)
    np.testing.assert_allclose(cell(inputs, state)[1], state, atol=1e-6)
    bias[3:6] = -30.0
    cell.of_input.bias.assign(bias)
    np.testing.assert_allclose(cell(inputs, state)[1], 0.0, atol=1e-6)


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_gru_shapes(kernel_size):
    cell = ConvGRUCell(4, kernel_size)
    out, state = cell(np.zeros((2, 5, 6, 3), "f"), np.zeros((2, 5, 6, 4), "f"))
    assert tuple(out.shape) == tuple(state.shape) == (2, 5, 6, 4)


@pytest.mark.parametrize("recipe", [PAPER, {}, DEFAULT], ids=["paper", "plain", "default"])
def test_rim_has_the_papers_size(recipe):
    """Section 4.4.4: 3x3 convolutions of 36 channels, two GRUs, a 1x1 convolution to Q.

    With the steps of fits it sees six channels more and weights two steps of Q parameters.
    """
    rim = RIM("inversion_recovery", **recipe)
    channels, outputs = {"raw": (6, 3), "whitened": (12, 3)}[rim.gradient]
    if rim.fit_steps:
        channels, outputs = channels + 6, outputs + 6
    first = 9 * channels * 36 + 36
    gru = 2 * (36 * 108 + 108)
    assert rim.count_params() == first + 2 * gru + 2 * (9 * 36 * 36 + 36) + 37 * outputs
    assert rim([images(), TAU, sigma()]).shape == (6, 2, 9, 8, 3)


def test_rim_starts_at_the_papers_values():
    """A new default network updates by zero: kappa stays at A = MIP, B = 2, T1 = 1000 ms."""
    S = images()
    kappa = RIM("inversion_recovery", **DEFAULT)([S, TAU, sigma()]).numpy()
    np.testing.assert_allclose(kappa[..., 1], 2.0, rtol=1e-5)
    np.testing.assert_allclose(kappa[..., 2], 1000.0, rtol=1e-5)
    np.testing.assert_allclose(kappa[-1, ..., 0], S.max(-1), rtol=1e-5)


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_gru_follows_its_equations(kernel_size):
    """Gate by gate, from the layers that hold the weights."""
    rng = np.random.default_rng(0)
    cell = ConvGRUCell(5, kernel_size)
    x, h = (rng.standard_normal((2, 6, 4, c)).astype("f") for c in (3, 5))
    cell(x, h)
    randomised(cell)
    xr, xz, xn = np.split(np.array(cell.of_input(x)), 3, axis=-1)
    hr, hz, hn = np.split(np.array(cell.of_state(h)), 3, axis=-1)
    reset, update = 1 / (1 + np.exp(-(xr + hr))), 1 / (1 + np.exp(-(xz + hz)))
    candidate = np.tanh(xn + reset * hn)
    expected = (1 - update) * candidate + update * h
    output, state = cell(x, h)
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(output, state)


@pytest.mark.parametrize("num", [1, 4, 40])
def test_one_rim_takes_any_number_of_images(num):
    rim = randomised(RIM("t2_decay", **DEFAULT))
    out = rim([images(num=num), np.linspace(10, 300, num, dtype=np.float32), sigma()])
    assert np.isfinite(out).all()


def test_order_of_images_does_not_matter():
    rim, S = randomised(RIM("inversion_recovery", **DEFAULT)), images()
    order = [2, 0, 3, 1]
    a, b = rim([S, TAU, sigma()]), rim([S[..., order], TAU[order], sigma()])
    np.testing.assert_allclose(a, b, rtol=1e-3)


@pytest.mark.parametrize(
    ("network", "rounded"),
    [
        (RIM("inversion_recovery", num_steps=2), 2),
        # the second of its two windows is tested with `relaxnet.networks.shared_parameter`
        (RIM("inversion_recovery", num_steps=1, fit_steps=True), REACH + 2),
        (ResNet("inversion_recovery", num_images=4, widths=(4, 4, 6)), 2),
    ],
    ids=["rim", "rim-fit-steps", "resnet"],
)
def test_halo_is_how_far_a_voxel_reaches(network, rounded):
    """A change at one voxel shows at the halo's edge, but for what rounds to none, not beyond."""
    network = randomised(network)
    size, centre = 2 * network.halo + 5, network.halo + 2
    S = images(size, size, b=1)
    changed = S.copy()
    changed[0, centre, centre] *= 2.0
    a, b = (network([x, TAU, sigma(1)]).numpy()[-1, 0] for x in (S, changed))
    rows = np.flatnonzero(np.abs(a - b).max(axis=(1, 2)) > 0)
    assert rows.min() >= centre - network.halo
    assert rows.max() <= centre + network.halo
    assert network.halo - (centre - rows.min()) <= rounded


def test_resnet_is_as_listed():
    net = ResNet("inversion_recovery", num_images=31)
    assert [block.width for block in net.blocks] == list(WIDTHS)
    assert len(WIDTHS) == 11
    assert net.halo == 22
    assert net([images(num=31), np.arange(31.0), sigma()]).shape == (1, 2, 9, 8, 3)


def test_resnet_uses_running_statistics_in_inference():
    net = randomised(ResNet("inversion_recovery", num_images=4, widths=(4, 6)))
    S = images(b=4)
    before = net([S, TAU, sigma(4)])
    net.steps([S, TAU, sigma(4)], training=True)
    after = net([S, TAU, sigma(4)])
    assert np.abs(before - after).max() > 0
    alone = net([S[:1], TAU, sigma(1)])
    np.testing.assert_allclose(alone[0, 0], after[0, 0], rtol=1e-4)


@pytest.mark.parametrize(
    "network",
    [
        RIM("inversion_recovery", **PAPER),
        RIM("inversion_recovery", **DEFAULT),
        RIM("t2_decay", features=8, num_steps=3),
        ResNet("inversion_recovery", num_images=4, widths=(4, 6)),
    ],
    ids=["paper", "default", "t2", "resnet"],
)
def test_saved_network_gives_the_same(network, tmp_path):
    network = randomised(network)
    network.save(tmp_path / "net.keras")
    loaded = load_network(tmp_path / "net.keras")
    inputs = [images(), TAU, sigma()]
    np.testing.assert_allclose(loaded(inputs), network(inputs), rtol=1e-5)
    assert loaded.get_config() == network.get_config()
    assert (loaded.kind, loaded.halo) == (network.kind, network.halo)


def test_unknown_truncated_and_foreign_models_are_refused(tmp_path):
    with pytest.raises(ModelError, match="no such file, and no shipped"):
        load_network(tmp_path / "none.keras")
    cut = tmp_path / "cut.keras"
    RIM("inversion_recovery", features=4).save(cut)
    cut.write_bytes(cut.read_bytes()[:-2000])
    with pytest.raises(ModelError, match=r"not a \.keras file"):
        load_network(cut)
    foreign = tmp_path / "foreign.keras"
    keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)]).save(foreign)
    with pytest.raises(ModelError, match="none that relaxnet"):
        load_network(foreign)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "float16"])
def test_a_network_in_another_precision_is_nearly_the_same(policy, tmp_path):
    network = ResNet("t2_decay", num_images=4, widths=(8, 8, 6))
    S = np.random.default_rng(0).uniform(0.1, 1, (1, 12, 12, 4)).astype("f")
    inputs = [S, np.array([10, 30, 80, 200], "f"), np.full(1, 0.05, "f")]
    twin = with_policy(network, policy)
    twin.save(tmp_path / "twin.keras")
    loaded = load_network(tmp_path / "twin.keras")
    assert loaded.dtype_policy.name == "float32"
    assert loaded.blocks[0].conv_1.compute_dtype == "float32"
    exact = np.asarray(network(inputs))
    np.testing.assert_allclose(np.asarray(loaded(inputs)), exact, rtol=1e-2)
    if policy == "mixed_bfloat16":
        np.testing.assert_allclose(np.asarray(twin(inputs)), exact, rtol=0.1)
