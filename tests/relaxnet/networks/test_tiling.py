import numpy as np
import pytest
from fake_network import FakeNetwork
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from relaxnet.networks.resnet import ResNet
from relaxnet.networks.rim import RIM
from relaxnet.networks.tiling import MAX_VALUES, filled, run_network, tiles
from relaxsim.models.t2_decay import MODEL as T2_DECAY


class Blur(FakeNetwork):
    """A network without TensorFlow whose estimate depends on voxels up to `halo` away."""

    halo = 3
    model = T2_DECAY

    def __init__(self):
        self.largest = 0

    def __call__(self, inputs, training=False):
        S, tau, sigma, *_ = inputs
        assert S.dtype == tau.dtype == sigma.dtype == np.float32
        self.largest = max(self.largest, S.shape[1] * S.shape[2])
        mean = ndimage.uniform_filter(S.mean(-1), (0, 7, 7), mode="constant")
        kappa = np.stack([mean, mean * tau.sum() + sigma[:, None, None]], -1)
        return np.stack([0 * kappa, kappa])


def test_tiles_of_any_size_give_what_the_whole_slice_gives():
    S = np.random.default_rng(0).uniform(size=(3, 53, 38, 5))
    tau, sigma = np.arange(1.0, 6), [0.1, 0.2, 0.3]
    whole = run_network(Blur(), S, tau, sigma)
    assert whole.shape == (3, 53, 38, 2)
    for most in (500, 700, 1500):
        network = Blur()
        tiled = run_network(network, (s for s in S), tau, sigma, max_voxels=most)
        np.testing.assert_allclose(tiled, whole, rtol=1e-6)
        assert network.largest <= most


def test_only_the_box_of_the_mask_is_computed():
    S = np.random.default_rng(0).uniform(size=(3, 50, 40, 5))
    masks = np.zeros(S.shape[:3], bool)
    masks[0, 20:25, 3] = masks[0, 21, 3:9] = masks[2, 49, 39] = True
    tau, sigma = np.arange(1.0, 6), [0.1, 0.2, 0.3]
    whole = run_network(Blur(), S, tau, sigma)
    network = Blur()
    part = run_network(network, S, tau, sigma, masks)
    np.testing.assert_allclose(part[masks], whole[masks], rtol=1e-6)
    assert not part[1].any()
    assert network.largest == (5 + 6) * (6 + 6)


def test_default_limit_bounds_pieces_of_large_slices_and_of_many_images():
    for shape in ((1, 700, 900, 3), (1, 200, 300, 400)):
        network = Blur()
        run_network(network, np.zeros(shape, np.float32), np.ones(shape[-1]), [1.0])
        assert network.largest * (64 + shape[-1]) <= MAX_VALUES


def test_bad_voxels_among_good_ones_are_filled_from_them():
    S = np.random.default_rng(0).uniform(1, 2, (9, 9, 3))
    S[4, 4], S[0, 0, 1], S[6:, 6:] = 0, np.nan, 0
    out = filled(S)
    neighbours = np.delete(S[3:6, 3:6].reshape(9, 3), 4, axis=0)
    np.testing.assert_allclose(out[4, 4], neighbours.mean(0))
    assert (out[0, 0] == 0).all()  # three good neighbours are too few
    np.testing.assert_allclose(out[6, 6], S[5:8, 5:8].reshape(9, 3)[[0, 1, 2, 3, 6]].mean(0))
    assert (out[7:, 7:] == 0).all()
    good = np.isfinite(S).all(-1) & S.any(-1)
    np.testing.assert_array_equal(out[good], S[good])


@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 9), st.integers(100, 3000))
def test_tiles_cover_every_voxel_once_with_their_halo(height, width, halo, most):
    covered = np.zeros((height, width), int)
    for inner, outer, cut in tiles((height, width), halo, most):
        covered[inner] += 1
        index = np.arange(height * width).reshape(height, width)
        np.testing.assert_array_equal(index[outer][cut], index[inner])
        for i, o, size in zip(inner, outer, (height, width), strict=True):
            assert o.start == max(0, i.start - halo)
            assert o.stop == min(size, i.stop + halo)
    assert (covered == 1).all()


@pytest.mark.parametrize(("side", "images"), [(512, 32), (640, 8), (1024, 8)])
def test_tiles_never_cost_many_times_the_slice(side, images):
    """With a halo of half a slice no cut into small tiles saves memory; each is most of it."""
    pieces = list(tiles((side, side), 306, MAX_VALUES // (64 + images)))
    work = sum((o[0].stop - o[0].start) * (o[1].stop - o[1].start) for _, o, _ in pieces)
    assert work <= 4 * side**2


def test_a_fill_value_is_no_sample():
    S = np.random.default_rng(0).uniform(0.5, 1, (9, 9, 3))
    S[4, 4, 1] = 1e30
    np.testing.assert_allclose(filled(S)[4, 4], np.delete(S[3:6, 3:6].reshape(9, 3), 4, 0).mean(0))


def disturbed(network):
    """The network with weights, and running statistics, that are not those of the start."""
    rng = np.random.default_rng(0)
    for variable in network.trainable_variables:
        variable.assign(variable + 0.1 * rng.standard_normal(variable.shape))
    for variable in network.non_trainable_variables:
        variable.assign(variable + 0.3 * rng.uniform(size=variable.shape))
    return network


@pytest.fixture(scope="module")
def network():
    return disturbed(RIM("inversion_recovery", features=6, num_steps=2))


@pytest.mark.parametrize("kind", ["rim", "rim with steps", "resnet"])
def test_tiles_give_what_the_whole_slice_gives(network, kind):
    size, most = (61, 47), 900
    if kind == "resnet":
        network = disturbed(ResNet("inversion_recovery", num_images=4, widths=(6, 8, 6)))
    if kind == "rim with steps":
        network = disturbed(RIM("inversion_recovery", features=6, num_steps=1, fit_steps=True))
        size, most = (331, 33), 5610
    S = np.random.default_rng(1).uniform(0.1, 1, (2, *size, 4)).astype(np.float32)
    tau, sigma = np.array([100.0, 400, 900, 2000]), np.array([0.05, 0.02])
    whole = run_network(network, S, tau, sigma, max_voxels=10**6)
    assert len(list(tiles(S.shape[1:3], network.halo, most))) > 4
    tiled = run_network(network, S, tau, sigma, max_voxels=most)
    np.testing.assert_allclose(tiled, whole, rtol=5e-4)


def test_tiles_get_their_part_of_a_map_of_sigma(network):
    rng = np.random.default_rng(1)
    S = rng.uniform(0.1, 1, (2, 61, 47, 4)).astype(np.float32)
    tau, sigma = np.array([100.0, 400, 900, 2000]), rng.uniform(0.02, 0.2, (2, 61, 47))
    whole = run_network(network, S, tau, sigma, max_voxels=10**6)
    tiled = run_network(network, S, tau, sigma, max_voxels=900)
    np.testing.assert_allclose(tiled, whole, rtol=5e-4)
    mirrored = run_network(network, S, tau, sigma[:, ::-1], max_voxels=10**6)
    assert np.abs(mirrored / whole - 1).max() > 0.01


def test_a_constant_map_of_sigma_gives_what_a_number_gives(network):
    S = np.random.default_rng(1).uniform(0.1, 1, (2, 9, 8, 4)).astype(np.float32)
    tau, sigma = np.array([100.0, 400, 900, 2000]), np.float32([0.05, 0.02])
    as_map = np.broadcast_to(sigma[:, None, None], S.shape[:3])
    found, of_number = (run_network(network, S, tau, s) for s in (as_map, sigma))
    np.testing.assert_allclose(found, of_number, rtol=1e-5)
    np.testing.assert_allclose(of_number, network([S, tau, sigma])[-1], rtol=1e-4)


def test_progress_counts_slices(network):
    done = []
    S = np.ones((3, 8, 8, 4), np.float32)
    run_network(network, S, np.arange(1, 5) * 300.0, np.full(3, 0.1), progress=done.append)
    assert sum(done) == 3
