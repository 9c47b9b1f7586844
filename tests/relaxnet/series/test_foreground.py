import numpy as np
import pytest
from scipy import ndimage
from small_series import TAU, series

from relaxnet.series.foreground import MaskRule, automatic_mask, mask_and_rule, otsu_threshold
from relaxnet.series.images import Images
from relaxsim.anatomy.anatomy import builtin_head
from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY
from relaxsim.models.protocols import read_protocol
from relaxsim.models.t2_decay import MODEL as T2_DECAY
from relaxsim.phantoms.phantoms import brain_phantom
from relaxsim.simulation.noise import add_noise
from relaxsim.simulation.tissues import read_tissues


@pytest.fixture(scope="module")
def head():
    """A coarse head of three slices in air, its brain and its outline."""
    rng = np.random.default_rng(0)
    phantom = brain_phantom(
        builtin_head(1, 4.0),
        *(TAU, INVERSION_RECOVERY, read_tissues(), rng),
        voxel_size=4.0,
        matrix=64,
        num_slices=3,
    )
    outline = np.stack(
        [ndimage.binary_fill_holes(phantom.labels[:, :, z] > 0) for z in range(3)], axis=2
    )
    return phantom.signal, phantom.mask, outline


def overlap(a, b):
    """Coefficient of Dice."""
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def in_air(object_, amplitude, sigma=1.0, noise="rician", seed=0):
    """An inversion-recovery series of an object of one tissue."""
    signal = amplitude * INVERSION_RECOVERY.forward(np.array([1.0, 1.95, 900.0]), TAU)
    clean = object_[..., None] * signal
    return add_noise(clean, sigma, np.random.default_rng(seed), noise)


def test_disc_is_found_and_its_hole_filled():
    S, _, disc = series((40, 40, 2), sigma=40.0)
    ventricle = np.zeros_like(disc)
    ventricle[19:21, 19:21] = True
    S[ventricle] *= 0.02
    mask = automatic_mask(S)
    assert (mask & ndimage.binary_erosion(disc)).sum() == ndimage.binary_erosion(disc).sum()
    assert mask[ventricle].all()
    assert (mask & ~disc).mean() < 0.01


def test_without_background_everything_is_inside():
    S = np.random.default_rng(0).uniform(0.9, 1.1, (9, 9, 1, 4))
    assert otsu_threshold(S.max(-1).ravel()) == 0
    assert automatic_mask(S).all()


@pytest.mark.parametrize("outside", [0.0, np.nan])
def test_a_brain_cut_out_of_its_series_is_inside_altogether(head, outside):
    """CSF is as much brighter than white matter as an object is than a structured background."""
    S, brain, _ = head
    S = add_noise(S, 0.02, np.random.default_rng(0), "rician")
    csf = brain & (S.max(-1) > np.percentile(S.max(-1)[brain], 90))
    S[csf] *= 3.0
    S[~brain] = outside
    mask, rule = mask_and_rule(Images(S))
    assert rule is MaskRule.ALL
    assert overlap(mask, brain) > 0.95
    S[tuple(np.argwhere(brain)[100])] *= 100  # a vessel, say
    assert overlap(automatic_mask(S), brain) > 0.95


@pytest.mark.parametrize("outside", [0.0, 1.0])
def test_a_spike_is_no_object(outside):
    S = np.random.default_rng(0).uniform(0.9, 1.1, (30, 30, 2, 4))
    S[:5] *= outside
    S[20, 20, 0] = 1000.0
    assert automatic_mask(S)[5:].all()


@pytest.mark.parametrize("padding", [(16, 0), (0, 2)])
def test_padded_images_have_an_object_and_air(padding):
    """Air of coils combined by squares is no clean air to go by; zeros around it change nothing."""
    x, y, _ = np.meshgrid(*map(np.arange, (64, 64, 3)), indexing="ij")
    disc = (x - 31.5) ** 2 + (y - 31.5) ** 2 < 20**2
    coils = [in_air(disc, 6.0, seed=seed) for seed in range(8)]
    S = np.sqrt(np.sum(np.square(coils), axis=0))
    around = np.pad(S, ((padding[0],) * 2, (0, 0), (padding[1],) * 2, (0, 0)))
    inside = np.pad(disc, ((padding[0],) * 2, (0, 0), (padding[1],) * 2))
    assert overlap(automatic_mask(around), inside) > 0.95
    assert overlap(automatic_mask(S), disc) > 0.95


def test_bright_spots_of_an_object_that_fills_the_images_are_not_the_object():
    S = np.random.default_rng(0).uniform(0.9, 1.1, (40, 40, 1, 4))
    S[20:22, 20:24] *= 3
    assert automatic_mask(S).all()


@pytest.mark.parametrize("noise", ["gaussian", "rician"])
@pytest.mark.parametrize("snr", [3, 10, 100])
def test_head_with_skull(head, noise, snr):
    signal, _, outline = head
    S = add_noise(signal, 0.75 / snr, np.random.default_rng(snr), noise)
    assert overlap(automatic_mask(S), outline) > (0.9 if snr > 3 else 0.85)


@pytest.mark.parametrize("snr", [3, 10, 100])
def test_brain_without_skull(head, snr):
    signal, brain, _ = head
    S = add_noise(signal, 0.75 / snr, np.random.default_rng(snr), "rician")
    mask = automatic_mask(np.where(brain[..., None], S, np.float32(0)))
    assert overlap(mask, brain) > 0.95


@pytest.mark.parametrize("side", [4, 6, 12])
@pytest.mark.parametrize("amplitude", [5.0, 20.0, 500.0])
def test_tiny_objects_are_found(side, amplitude):
    """0.1 to 1 % of an image, down to an SNR of 5."""
    tube = np.zeros((120, 120, 1), bool)
    tube[60 : 60 + side, 40 : 40 + side] = True
    mask = automatic_mask(in_air(tube, amplitude))
    assert overlap(mask, tube) > 0.9


def test_tiny_object_in_zeros_and_among_ghosts():
    tube = np.zeros((120, 120, 1), bool)
    tube[60:66, 40:46] = True
    S = np.where(tube[..., None], in_air(tube, 50.0), np.float32(0))
    np.testing.assert_array_equal(automatic_mask(S), tube)
    S = in_air(tube, 500.0) + 0.004 * np.roll(in_air(tube, 500.0), 50, axis=0)
    S *= np.linspace(1, 2, 120)[:, None, None, None]  # no clean air
    np.testing.assert_array_equal(automatic_mask(S), tube)


def test_faint_objects_and_several():
    ball = np.zeros((50, 50, 12), bool)
    x, y, z = np.ogrid[:50, :50, :12]
    ball |= (x - 15) ** 2 + (y - 15) ** 2 + 4 * (z - 6) ** 2 < 80
    ball |= (x - 35) ** 2 + (y - 32) ** 2 + 4 * (z - 5) ** 2 < 60
    assert overlap(automatic_mask(in_air(ball, 5.0)), ball) > 0.9
    assert overlap(automatic_mask(in_air(ball, 40.0)), ball) > 0.98


ECHOES = read_protocol("fse6", "tes").tau


def circle(x, y, radius):
    """Voxels of a circle in an image of 96 x 96, one slice."""
    i, j = np.ogrid[:96, :96]
    return ((i - x) ** 2 + (j - y) ** 2 < radius**2)[..., None]


def echoes(objects, snr, ghost=0.0):
    """Rician echoes of (voxels, A, T2 in ms) in air; the SNR is 0.75 / sigma.

    The ghost's share of the signal appears half an image away.
    """
    clean = np.zeros((96, 96, 1, len(ECHOES)))
    for voxels, *kappa in objects:
        clean[voxels] = T2_DECAY.forward(np.array(kappa), ECHOES)
    clean += ghost * np.roll(clean, 48, axis=0)
    return add_noise(clean, 0.75 / snr, np.random.default_rng(0), "rician")


@pytest.mark.parametrize("snr", [30, 100])
@pytest.mark.parametrize(
    "kappas",
    [((1.0, 150.0), (1.0, 40.0), (1.0, 8.0)), ((1.0, 80.0), (0.5, 80.0), (0.3, 80.0))],
    ids=["T2", "A"],
)
def test_dim_tubes_beside_bright_ones_are_inside(kappas, snr):
    tubes = circle(28, 28, 12), circle(28, 68, 12), circle(66, 48, 12)
    S = echoes([(tube, *kappa) for tube, kappa in zip(tubes, kappas, strict=True)], snr)
    mask, rule = mask_and_rule(Images(S))
    assert rule is MaskRule.BOTH
    assert min(mask[tube].mean() for tube in tubes) > 0.99
    assert mask[~np.logical_or.reduce(tubes)].mean() < 0.002


@pytest.mark.parametrize("snr", [3, 4, 10, 100])
def test_disc_in_air_is_inside_at_any_snr_and_has_no_rim(snr):
    disc = circle(48, 48, 36)
    layers = (disc, 0.65, 80.0), (circle(48, 48, 26), 0.85, 110.0), (circle(48, 48, 8), 1.0, 2000.0)
    mask = automatic_mask(echoes(layers, snr))
    assert mask[disc].mean() > 0.95
    assert mask[~disc].mean() < 0.01


def test_ghosts_in_clean_air_are_outside():
    disc = circle(24, 48, 16)
    mask, rule = mask_and_rule(Images(echoes([(disc, 1.0, 100.0)], 100, ghost=0.05)))
    assert rule is MaskRule.BOTH
    assert overlap(mask, disc) > 0.99


@pytest.mark.parametrize("noise", ["gaussian", "rician"])
def test_noise_alone_is_refused(noise):
    nothing = np.zeros((60, 60, 2), bool)
    with pytest.raises(ValueError, match="stands out of its noise"):
        automatic_mask(in_air(nothing, 1.0, noise=noise))


def test_signed_images():
    S, _, disc = series((40, 40, 1), sigma=20.0)
    signs = np.where(TAU < 500, -1, 1)
    assert overlap(automatic_mask(S * signs), disc) > 0.98


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_unit_of_the_images_does_not_matter(factor):
    S = series((40, 40, 1), sigma=20.0)[0].astype(np.float64)
    np.testing.assert_array_equal(automatic_mask(S * factor), automatic_mask(S))


def test_bad_voxels_are_outside_and_do_no_harm():
    S, _, _ = series((40, 40, 2))
    clean = automatic_mask(S)
    S[20, 20, 0, 3] = np.nan
    S[20, 21, 0] = np.inf
    S[2, 2, 0] = np.nan
    mask = automatic_mask(S)
    np.testing.assert_array_equal(mask[..., 1], clean[..., 1])
    assert not mask[2, 2, 0]


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_empty_series_is_refused(value):
    with pytest.raises(ValueError, match="nothing to map"):
        automatic_mask(np.full((5, 5, 1, 3), value))
