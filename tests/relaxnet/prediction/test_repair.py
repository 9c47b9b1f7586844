"""Images that are not what the protocol says, and what is done about them."""

import numpy as np
import pytest

from relaxnet.fitting.options import FitOptions
from relaxnet.maps.status import OK, POOR_FIT
from relaxnet.prediction.arrays import predict
from relaxnet.series.image_faults import Fault
from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY
from relaxsim.models.t2_decay import MODEL as T2_DECAY

TI = np.array([50.0, 150.0, 300.0, 600.0, 900.0, 1500.0, 2500.0, 4000.0])
TE = 10.0 * np.arange(1, 13)
T1, T2 = 900.0, 60.0
SIGMA = 20.0


def object_in_air():
    inside = np.zeros((40, 40, 1), bool)
    inside[10:30, 10:30] = True
    return inside


def series(model, tau, T, seed=0, signed=False, sigma=SIGMA):
    """Magnitudes of an object in air, SNR 50 unless said, and the object."""
    rng, inside = np.random.default_rng(seed), object_in_air()
    kappa = np.zeros((*inside.shape, model.num_parameters))
    kappa[..., 0] = 1000.0 * inside * (1 + 0.1 * rng.normal(size=inside.shape))
    kappa[..., 1] = 1.95
    kappa[..., -1] = T * np.where(np.arange(40)[:, None, None] < 20, 1.0, 1.4)
    S = model.signed(kappa, model.table(tau))
    noise = sigma * rng.normal(size=(2, *S.shape))
    return S + noise[0] if signed else np.hypot(S + noise[0], noise[1]), inside


def of_t1(seed=0, **options):
    return series(INVERSION_RECOVERY, TI, T1, seed, **options)


def of_t2(seed=0):
    return series(T2_DECAY, TE, T2, seed)


def mapped(S, tau, model, **options):
    return predict(S.astype(np.float32), tau, model, "mle", mask="auto", **options)


def check(maps, inside, T, rel=0.03):
    """The median of either half is right, and nearly all voxels are sound."""
    inside = inside.copy()
    for half, factor in ((np.s_[:20], 1.0), (np.s_[20:], 1.4)):
        values = maps.main[half][inside[half]]
        assert np.median(values) == pytest.approx(T * factor, rel=rel)
    assert (maps.status[inside] == OK).mean() > 0.97


@pytest.mark.parametrize("gone", [[0], [3], [7], [2, 5]])
def test_empty_images_are_left_out(gone):
    S, inside = of_t1()
    S[..., gone] = 0.0
    maps = mapped(S, TI, INVERSION_RECOVERY)
    assert [image.index for image in maps.left_out] == gone
    assert all(image.fault is Fault.EMPTY for image in maps.left_out)
    assert f"image {gone[0] + 1} of 8 ({TI[gone[0]]:g} ms) is empty" in maps.warnings[0]
    assert maps.sigma == pytest.approx(SIGMA, rel=0.05)
    check(maps, inside, T1)


@pytest.mark.parametrize("factor", [0.7, 1.3, 2.0])
@pytest.mark.parametrize("with_air", [True, False])
def test_an_image_of_another_gain_is_left_out(factor, with_air):
    for make, tau, model, T in (
        (of_t1, TI, INVERSION_RECOVERY, T1),
        (of_t2, TE, T2_DECAY, T2),
    ):
        S, inside = make()
        S[..., 4] *= factor
        maps = mapped(S if with_air else S * inside[..., None], tau, model)
        assert [image.index for image in maps.left_out] == [4]
        assert maps.left_out[0].factor == pytest.approx(factor, rel=0.05)
        check(maps, inside, T)


def test_two_images_of_another_gain_are_left_out():
    S, inside = of_t1()
    S[..., [2, 6]] *= 1.5
    maps = mapped(S, TI, INVERSION_RECOVERY)
    assert [image.index for image in maps.left_out] == [2, 6]
    check(maps, inside, T1)


def test_a_repeated_image_is_left_out():
    S, inside = of_t1()
    S[..., 5] = S[..., 1]
    maps = mapped(S, TI, INVERSION_RECOVERY)
    assert [(image.index, image.other) for image in maps.left_out] == [(5, 1)]
    check(maps, inside, T1)


def test_a_repeated_image_among_too_few_is_refused():
    S, _ = series(INVERSION_RECOVERY, TI[::2], T1)
    S[..., 2] = S[..., 1]
    with pytest.raises(ValueError, match="images 2 and 3 are the same"):
        mapped(S, TI[::2], INVERSION_RECOVERY)


def test_too_few_images_that_are_left_are_refused():
    S, _ = series(INVERSION_RECOVERY, TI[::2], T1)
    S[..., :2] = 0.0
    with pytest.raises(ValueError, match=r"image 1 of 4 \(50 ms\) is empty.*2 images cannot"):
        mapped(S, TI[::2], INVERSION_RECOVERY)


@pytest.mark.parametrize("seed", range(3))
def test_sound_series_lose_no_image(seed):
    for make, tau, model, T in (
        (of_t1, TI, INVERSION_RECOVERY, T1),
        (of_t2, TE, T2_DECAY, T2),
    ):
        S, inside = make(seed)
        maps = mapped(S, tau, model)
        assert maps.left_out == ()
        assert maps.warnings == ()
        check(maps, inside, T)


def test_clipped_samples_are_said_and_poor():
    S, inside = of_t2()
    S = np.minimum(np.round(S), 800.0)
    maps = mapped(S, TE, T2_DECAY)
    assert maps.warnings[0].startswith("samples are clipped: 800 is the largest value of image")
    assert len(maps.warnings) == 1
    clipped = (S == 800.0).any(axis=-1) & inside
    assert (maps.status[clipped] == POOR_FIT).all()
    assert (maps.status[inside & ~clipped] == OK).mean() > 0.97


@pytest.mark.parametrize("images", [[3], [1, 2]])
def test_samples_that_are_zero_in_some_images_are_said_and_poor(images):
    S, inside = of_t2()
    half = np.arange(S.shape[0]) < S.shape[0] // 2
    S[np.ix_(half, range(S.shape[1]), range(S.shape[2]), images)] = 0.0
    maps = mapped(S, TE, T2_DECAY)
    assert maps.warnings[0].startswith("samples are 0 in image")
    zeroed = half[:, None, None] & inside
    assert (maps.status[zeroed] == POOR_FIT).all()
    assert maps.sigma == pytest.approx(SIGMA, rel=0.05)


def test_thresholded_tissue_is_said():
    S, _ = of_t2()
    S[S < 100.0] = 0.0
    assert "thresholded" in mapped(S, TE, T2_DECAY).warnings[0]


def test_a_decay_of_integers_without_noise_ends_at_zero():
    S, inside = series(T2_DECAY, TE, 12.0, sigma=0.0)
    S = np.round(S)
    assert (S[inside] == 0).any()
    assert not any("samples are 0" in warning for warning in mapped(S, TE, T2_DECAY).warnings)


@pytest.mark.parametrize("gain", [0.8, 1.3])
def test_another_gain_is_said_at_low_snr(gain):
    S, _ = series(INVERSION_RECOVERY, TI, T1, sigma=100.0)
    assert mapped(S, TI, INVERSION_RECOVERY).warnings == ()
    S[..., 1] *= gain
    maps = mapped(S, TI, INVERSION_RECOVERY)
    assert "image 2" in maps.warnings[0]


def test_a_slight_misfit_is_a_note():
    S, inside = series(T2_DECAY, TE, 30.0)
    maps = mapped(S + 10.0 * inside[..., None], TE, T2_DECAY)
    assert maps.warnings == ()
    assert "the fit in all voxels alike" in maps.notes[0]


def test_a_sign_that_is_reversed_is_turned_round():
    S, inside = of_t1(signed=True)
    maps = mapped(-S, TI, INVERSION_RECOVERY)
    assert "sign of the images looks reversed" in maps.warnings[0]
    check(maps, inside, T1)
    assert (maps["A"][inside] > 0).all()
    assert mapped(S, TI, INVERSION_RECOVERY).warnings == ()


def test_magnitudes_below_zero_are_turned_round():
    S, inside = of_t1()
    maps = mapped(-S, TI, INVERSION_RECOVERY)
    assert "no sample is positive" in maps.warnings[0]
    check(maps, inside, T1)


def test_an_offset_is_no_noise():
    S, inside = of_t2()
    maps = mapped(S + 100.0 * inside[..., None], TE, T2_DECAY)
    assert maps.sigma == pytest.approx(SIGMA, rel=0.05)
    assert "go one way" in maps.warnings[0]
    assert "offset" in maps.warnings[0]


def test_a_floor_of_several_receivers_is_said():
    rng, inside = np.random.default_rng(0), object_in_air()
    T = np.full(inside.shape, 40.0)
    S = 1000.0 * inside[..., None] * np.exp(-TE / T[..., None]) / np.sqrt(8)
    noise = SIGMA * rng.normal(size=(2, 8, *S.shape))
    S = np.sqrt(((S + noise[0]) ** 2 + noise[1] ** 2).sum(axis=0))
    assert "several receivers" in mapped(S, TE, T2_DECAY).warnings[0]


def test_two_images_determine_two_unknowns():
    S, inside = series(INVERSION_RECOVERY, TI[[2, 6]], T1, signed=True)
    known = FitOptions(fix_b=1.95)
    maps = mapped(S, TI[[2, 6]], INVERSION_RECOVERY, fit=known, signed=True)
    assert np.median(maps.main[:20][inside[:20]]) == pytest.approx(T1, rel=0.05)
    fixed = FitOptions(bounds={"B": (1.95, 1.95)})
    alike = mapped(S, TI[[2, 6]], INVERSION_RECOVERY, fit=fixed, signed=True)
    assert np.median(alike.main[:20][inside[:20]]) == pytest.approx(T1, rel=0.05)


def test_look_locker_bounds_reach_beyond_a_short_apparent_time():
    rng, inside = np.random.default_rng(1), object_in_air()
    true, apparent = 1600.0, 700.0  # B = 1 + T1 / T1* = 3.29
    S = 900.0 * inside[..., None] * (1 - (1 + true / apparent) * np.exp(-TI / apparent))
    S = np.hypot(S + 8 * rng.normal(size=S.shape), 8 * rng.normal(size=S.shape))
    maps = mapped(S, TI, INVERSION_RECOVERY, look_locker=True)
    assert np.median(maps.main[inside]) == pytest.approx(true, rel=0.03)
    assert (maps.status[inside] == OK).mean() > 0.97
    narrow = mapped(S, TI, INVERSION_RECOVERY)
    assert any("B lies at its upper bound 2.5" in note for note in narrow.notes)
