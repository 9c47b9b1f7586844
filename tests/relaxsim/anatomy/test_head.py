from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage

from relaxsim.anatomy.anatomy import brain_mask
from relaxsim.anatomy.head.cuts import calibrate
from relaxsim.anatomy.head.head import VIEW, build_head, head_labels
from relaxsim.anatomy.head.shapes import ellipsoid, intersection, tube, union
from relaxsim.anatomy.head.traits import HEAD_SHARES, draw_traits

#: CSF, grey and white matter and vessels in the brain masks of BrainWeb's models, on average.
BRAIN_SHARES = {1: 0.187, 2: 0.498, 3: 0.306, 8: 0.0093}


@pytest.fixture(scope="module")
def head():
    return head_labels(0)


@pytest.fixture(scope="module")
def coarse_heads():
    return [head_labels(seed, 2.0) for seed in range(4)]


def test_grid(head):
    assert head.shape == (181, 217, 181)
    assert head.dtype == np.uint8
    assert set(np.unique(head)) == set(range(12))
    assert head_labels(0, 4.0).shape == (45, 54, 45)


def test_a_seed_is_one_subject(coarse_heads):
    np.testing.assert_array_equal(head_labels(1, 2.0), coarse_heads[1])
    for a, b in pairwise(coarse_heads):
        brain = brain_mask(a) & brain_mask(b)
        assert np.mean(a[brain] != b[brain]) > 0.3


def test_the_same_head_at_any_voxel_size(head):
    """At 3 mm, the centre of every voxel is the centre of one at 1 mm."""
    coarse = head_labels(0, 3.0)
    fine = head[1::3, 1::3, 1::3][:60, :72, :60]
    assert np.mean(coarse[:60, :72, :60] == fine) > 0.9999


def test_tissue_shares_are_those_of_the_models(head, coarse_heads):
    """Within a quarter of the models' mean, each subject for itself."""
    for labels in (head, *coarse_heads):
        counts = np.bincount(labels.ravel(), minlength=12)[1:]
        np.testing.assert_allclose(counts / counts.sum(), HEAD_SHARES, rtol=0.25)
        brain = np.bincount(labels[brain_mask(labels)], minlength=12)
        for label, share in BRAIN_SHARES.items():
            assert brain[label] / brain.sum() == pytest.approx(share, rel=0.25)


def test_cuts_reach_the_shares_of_the_subject(head):
    _, traits = build_head(np.random.default_rng(0))
    counts = np.bincount(head.ravel(), minlength=12)[1:]
    np.testing.assert_allclose(counts / counts.sum(), traits.shares, rtol=0.1)


def test_the_brain_lies_in_the_skull(head):
    """One brain of human size, background nowhere at it but where the field of view ends."""
    brain = brain_mask(head)
    assert 1.5e6 < brain.sum() < 2.6e6
    near = ndimage.binary_dilation(brain, iterations=3) & ~brain
    assert np.mean(head[near] == 0) < 0.01
    assert np.isin(head[near], (7, 10, 11)).mean() > 0.75


def test_skin_is_outermost(head):
    air = head == 0
    air, _ = ndimage.label(np.pad(air, 1, constant_values=True))
    air = (air == air[0, 0, 0])[1:-1, 1:-1, 1:-1]
    surface = ndimage.binary_dilation(air) & ~air
    assert np.mean(head[surface] == 6) > 0.95


def test_cortex_is_a_folded_ribbon(head):
    """From white matter to fluid it is 2 to 4 mm, and it is far larger than a smooth hull's."""
    top = head[80:]
    to_fluid = ndimage.distance_transform_edt(~np.isin(top, (0, 1, 8)))
    edge = (top == 3) & ndimage.binary_dilation(top == 2)
    low, middle = np.quantile(to_fluid[edge] - 0.5, [0.25, 0.5])
    assert 2 < low < middle < 4
    brain = brain_mask(head)[80:]
    faces = sum(np.count_nonzero(np.diff((top == 2).astype(np.int8), axis=k)) for k in range(3))
    hull = sum(np.count_nonzero(np.diff(brain.astype(np.int8), axis=k)) for k in range(3))
    assert faces > 5 * hull


def test_white_matter_hangs_together(head):
    parts, _ = ndimage.label(head == 3)
    sizes = np.bincount(parts.ravel())[1:]
    assert sizes.max() > 0.9 * sizes.sum()


def test_deep_structures(head):
    """Between the hemispheres' cores lie fluid, grey nuclei and white matter, and no bone."""
    z, y, x = (
        slice(*np.round(np.subtract(b, v[0])).astype(int))
        for b, v in zip(((-5, 28), (-45, 35), (-32, 32)), VIEW, strict=True)
    )
    shares = np.bincount(head[z, y, x].ravel(), minlength=12) / head[z, y, x].size
    assert 0.03 < shares[1] < 0.3
    assert 0.1 < shares[2] < 0.6
    assert 0.25 < shares[3] < 0.8
    assert shares[4:8].sum() + shares[9:].sum() + shares[0] == 0


def test_left_and_right_are_alike_but_not_equal(head):
    mirrored = head[:, :, ::-1]
    either = (head > 0) | (mirrored > 0)
    same = np.mean(head[either] == mirrored[either])
    upside_down = head[::-1]
    assert 0.4 < same < 0.8
    assert same > 1.5 * np.mean(head[either] == upside_down[either])


def test_traits_differ_and_keep_their_bounds():
    traits = [draw_traits(np.random.default_rng(seed)) for seed in range(50)]
    assert len({t.wavelength for t in traits}) == 50
    for t in traits:
        assert sum(t.shares) == pytest.approx(1)
        assert abs(t.ventricle_asymmetry) <= 0.3
        np.testing.assert_allclose(t.scale, 1, atol=0.07)


def test_calibration_is_part_of_the_subject():
    head, traits = build_head(np.random.default_rng(7))
    assert calibrate(head, VIEW, traits.shares) == calibrate(head, VIEW, traits.shares)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((-1,), "seed is -1; expected 0 or more"), ((0, 0.1), "0.1 mm; expected 0.4 to 4")],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        head_labels(*arguments)


def test_shapes_are_depths_in_millimetres():
    x = np.linspace(-30, 30, 61, dtype=np.float32)
    line = (np.zeros(1, np.float32), np.zeros(1, np.float32), x)
    for power in (2.0, 4.0):
        depth = ellipsoid(line, (0, 0, 0), (10, 20, 5), power)
        off_centre = np.abs(x) > 2
        np.testing.assert_allclose(depth[off_centre], (10 - np.abs(x))[off_centre], atol=0.01)
        assert depth.max() <= 20
    rod = tube(line, [(-8, 0, 0, 2), (8, 0, 0, 4)])
    np.testing.assert_allclose(rod[[20, 22, 30, 38, 45]], [0, 2, 3, 4, -3], atol=1e-4)
    a, b = 5 - np.abs(x), 5 - np.abs(x - 6)
    np.testing.assert_array_equal(union(a, b), np.maximum(a, b))
    assert np.all(union(a, b, 3) >= np.maximum(a, b))
    assert np.all(intersection(a, b, 3) <= np.minimum(a, b))
    with pytest.raises(ValueError, match="two nodes"):
        tube(line, [(0, 0, 0, 1)])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 22))
def test_every_seed_is_within_a_quarter(seed):
    counts = np.bincount(head_labels(seed).ravel(), minlength=12)[1:]
    np.testing.assert_allclose(counts / counts.sum(), HEAD_SHARES, rtol=0.25)
