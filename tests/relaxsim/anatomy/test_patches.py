import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relaxsim.anatomy.patches import (
    coarse_fractions,
    crop,
    draw_centres,
    fine_size,
    random_orientation,
    slab_fractions,
)
from relaxsim.anatomy.shapes import draw_shapes, with_details


def test_centres_are_uniform_over_the_mask():
    mask = np.zeros((4, 5, 6), bool)
    mask[1, 2, 3:5] = mask[3, 4, 0] = True
    centres = draw_centres(np.flatnonzero(mask), mask.shape, 6000, np.random.default_rng(0))
    places, counts = np.unique(centres, axis=0, return_counts=True)
    assert places.tolist() == [[1, 2, 3], [1, 2, 4], [3, 4, 0]]
    np.testing.assert_allclose(counts, 2000, rtol=0.1)


@given(st.integers(-3, 12), st.integers(-3, 12), st.integers(1, 9))
def test_crop_is_zero_outside(row, column, size):
    volume = np.arange(1, 101).reshape(1, 10, 10)
    block = crop(volume, np.array([0, row, column]), (1, size, size))[0]
    for i in range(size):
        for j in range(size):
            r, c = row - size // 2 + i, column - size // 2 + j
            inside = 0 <= r < 10 and 0 <= c < 10
            assert block[i, j] == (volume[0, r, c] if inside else 0)


def test_one_slice_stands_for_every_depth():
    plane = np.arange(1, 101).reshape(1, 10, 10)
    block = crop(plane, (0, 4, 5), (3, 6, 6))
    np.testing.assert_array_equal(block, np.repeat(plane[:, 1:7, 2:8], 3, axis=0))


def test_orientations_are_the_eight_of_a_square():
    block = np.arange(9).reshape(1, 3, 3)
    rng = np.random.default_rng(0)
    seen = {random_orientation(block, rng).tobytes() for _ in range(200)}
    assert len(seen) == 8


@settings(deadline=None)
@given(st.floats(0.6, 4.0), st.integers(0, 1000))
def test_fractions_sum_to_one(factor, seed):
    rng = np.random.default_rng(seed)
    fine = fine_size(6, factor)
    block = rng.integers(0, 12, (fine_size(1, factor), fine, fine)).astype(np.uint8)
    fractions = coarse_fractions(block, (6, 6), factor)
    np.testing.assert_allclose(fractions.sum(-1), 1, atol=1e-5)
    assert fractions.min() >= 0


def test_fractions_of_whole_factors_are_block_means():
    rng = np.random.default_rng(0)
    block = np.zeros((3, 9, 9), np.uint8)
    block[:2, :8, :8] = rng.integers(0, 3, (2, 8, 8))
    fractions = coarse_fractions(block[:2, :8, :8], (4, 4), 2.0)
    for label in range(3):
        mean = (block[:2, :8, :8] == label).reshape(2, 4, 2, 4, 2).mean(axis=(0, 2, 4))
        np.testing.assert_allclose(fractions[..., label], mean, atol=1e-6)


@settings(deadline=None)
@given(st.floats(0.5, 4.0), st.integers(1, 7))
def test_slices_of_a_slab_touch(deep, num):
    """Together they hold every fine slice once; only the ends are cut."""
    depth = fine_size(num, deep)
    shares = np.zeros((num, depth))
    for z in range(depth):
        block = np.zeros((depth, 2, 2), np.uint8)
        block[z] = 1
        shares[:, z] = slab_fractions(block, num, (1, 1), 1.0, deep)[:, 0, 0, 1]
    np.testing.assert_allclose(shares.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(deep * shares.sum(0)[1:-1], 1, atol=1e-4)
    centres = shares @ np.arange(depth)
    expected = (depth - 1) / 2 + deep * (np.arange(num) - (num - 1) / 2)
    # The shares do not say where in a fine slice an end lies: up to 1/8 of it, over the thickness.
    np.testing.assert_allclose(centres, expected, atol=0.125 / deep + 1e-4)


def test_shapes_are_varied_labels():
    rng = np.random.default_rng(0)
    drawn = [draw_shapes(rng, 40) for _ in range(40)]
    assert all(d.shape == (40, 40) and d.dtype == np.uint8 and d.max() < 12 for d in drawn)
    assert np.mean([len(np.unique(d)) for d in drawn]) > 3
    np.testing.assert_array_equal(
        draw_shapes(np.random.default_rng(5), 30), draw_shapes(np.random.default_rng(5), 30)
    )


def test_details_are_small_and_leave_background():
    labels = np.full((2, 40, 40), 3, np.uint8)
    labels[:, :10] = 0
    rng = np.random.default_rng(0)
    drawn = [with_details(labels, rng) for _ in range(60)]
    changed = np.array([(d != labels).any(0) for d in drawn])
    assert all((d[:, :10] == 0).all() for d in drawn)
    assert 0.9 < changed.any((1, 2)).mean() <= 1
    assert changed.mean() < 0.05
    assert (labels[:, 10:] == 3).all()
    # Single voxels occur, and so do lines.
    sizes = changed.sum((1, 2))
    assert sizes.min() <= 4 < 20 <= sizes.max()


@pytest.mark.parametrize("factor", [1.0, 1.7, 2.0])
def test_fine_size_holds_the_coarse_voxels(factor):
    assert fine_size(40, factor) >= 40 * factor


@pytest.mark.parametrize("factor", [1.0, 2.0, np.exp(np.log(1.5)) / 0.5])
def test_whole_ratios_cut_no_voxel(factor):
    """Labels at their own grid stay what they are; coarser ones are means of whole voxels."""
    fine = fine_size(6, factor)
    block = np.random.default_rng(0).integers(0, 3, (fine_size(1, factor), fine, fine))
    fractions = coarse_fractions(block.astype(np.uint8), (6, 6), factor)
    whole = round(factor)
    for label in range(3):
        mean = (block == label).reshape(whole, 6, whole, 6, whole).mean(axis=(0, 2, 4))
        np.testing.assert_allclose(fractions[..., label], mean, atol=1e-6)
