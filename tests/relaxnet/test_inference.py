import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaxnet.inference import run_network, tiles
from relaxnet.rim import RIM


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


@pytest.fixture(scope="module")
def network():
    rim = RIM(features=6, num_steps=2)
    rng = np.random.default_rng(0)
    for variable in rim.trainable_variables:
        variable.assign(variable + 0.1 * rng.standard_normal(variable.shape))
    return rim


def test_tiles_give_what_the_whole_slice_gives(network):
    S = np.random.default_rng(1).uniform(0.1, 1, (2, 61, 47, 4)).astype(np.float32)
    tau, sigma = np.array([100.0, 400, 900, 2000]), np.array([0.05, 0.02])
    whole = run_network(network, S, tau, sigma, max_voxels=10**6)
    tiled = run_network(network, S, tau, sigma, max_voxels=900)
    np.testing.assert_allclose(tiled, whole, rtol=2e-4)


def test_progress_counts_slices(network):
    done = []
    S = np.ones((3, 8, 8, 4), np.float32)
    run_network(network, S, np.arange(1, 5) * 300.0, np.full(3, 0.1), progress=done.append)
    assert sum(done) == 3
