import numpy as np
import pytest

from relaxnet.fitting.inputs import Measurement
from relaxnet.series.air_noise import air_noise
from relaxnet.series.noise import (
    checked_sigma,
    find_noise,
    settle_sigma,
)
from relaxnet.series.residual_noise import residual_sigma, rice_moments
from relaxnet.series.sample import Sample
from relaxnet.series.scale import series_scale
from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY
from relaxsim.models.protocols import read_protocol
from relaxsim.models.t2_decay import MODEL as T2_DECAY
from relaxsim.simulation.noise import add_noise

TIS = np.array([50.0, 150, 400, 800, 1400, 2200, 3500])
TES = read_protocol("fse6", "tes").tau
IR = INVERSION_RECOVERY


def head(tau=TIS, model=IR, shape=(72, 72, 1), seed=0):
    """Noise-free signed signal of a disc of tissues in air, and the disc."""
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(*(np.arange(n) - n / 2 + 0.5 for n in shape[:2]), indexing="ij")
    disc = np.broadcast_to((x**2 + y**2 < 27**2)[..., None], shape)
    T = rng.uniform(*((600, 1600) if model is IR else (60, 150)), shape)
    kappa = np.stack([np.full(shape, 0.85), np.full(shape, 1.95), T], -1)
    kappa = kappa if model is IR else kappa[..., [0, 2]]
    return np.where(disc[..., None], model.signed(kappa, tau, np), 0.0), disc


def noisy(kind, snr, tau=TIS, model=IR, bare=False, seed=0):
    signal, disc = head(tau, model)
    clean = signal if kind == "real" else np.abs(signal)
    rng = np.random.default_rng(seed)
    S = add_noise(clean, 0.75 / snr, rng, "rician" if kind == "rician" else "gaussian")
    return (np.where(disc[..., None], S, np.float32(0)) if bare else S), disc


def found(S, tau, model, disc, sigma=None, signed=None):
    series = Measurement(S, tau, model, sigma, disc)
    return find_noise(series, series_scale(S, disc), signed)


def settled(S, tau, model, disc, noise, **options):
    """`settle_sigma`, the contradiction in words."""
    noise, contradiction = settle_sigma(Measurement(S, tau, model, mask=disc), noise, **options)
    return noise, None if contradiction is None else str(contradiction)


@pytest.mark.parametrize("kind", ["gaussian", "rician", "real"])
@pytest.mark.parametrize("snr", [3, 20, 100])
@pytest.mark.parametrize("bare", [False, True])
def test_sigma_of_inversion_recovery(kind, snr, bare):
    S, disc = noisy(kind, snr, bare=bare)
    noise = found(S, TIS, IR, disc)
    assert float(noise.sigma) == pytest.approx(0.75 / snr, rel=0.1)
    assert str(noise.source).startswith("fit residuals" if bare else "background")
    assert noise.signed == (kind == "real" and snr > 3)


@pytest.mark.parametrize("kind", ["gaussian", "rician"])
@pytest.mark.parametrize("snr", [3, 20, 100])
@pytest.mark.parametrize("bare", [False, True])
def test_sigma_of_echoes(kind, snr, bare):
    S, disc = noisy(kind, snr, TES, T2_DECAY, bare)
    assert float(found(S, TES, T2_DECAY, disc).sigma) == pytest.approx(0.75 / snr, rel=0.1)


def test_source_says_both():
    S, disc = noisy("rician", 20)
    assert "Rayleigh" in str(found(S, TIS, IR, disc).source)
    assert "fit residuals say" in str(found(S, TIS, IR, disc).source)
    S, disc = noisy("rician", 20, bare=True)
    assert "zeros" in str(found(S, TIS, IR, disc).source)


def test_residuals_count_if_the_air_was_filtered_and_noise_explains_them():
    S, disc = noisy("rician", 20)
    S[~disc] *= 0.3
    noise = found(S, TIS, IR, disc)
    assert str(noise.source).startswith("fit residuals, since noise alone explains them")
    assert float(noise.sigma) == pytest.approx(0.75 / 20, rel=0.05)


def test_air_counts_if_the_model_does_not_describe_the_tissue():
    S, disc = noisy("rician", 50)
    gain = np.random.default_rng(1).uniform(0.8, 1.2, (*disc.shape, len(TIS)))
    swing = np.random.default_rng(2).uniform(size=disc.shape)[..., None]
    S = np.where(disc[..., None], S * (1 + (gain - 1) * swing), S).astype(np.float32)
    noise = found(S, TIS, IR, disc)
    assert str(noise.source).startswith("background, since the model does not describe all tissue")
    assert float(noise.sigma) == pytest.approx(0.75 / 50, rel=0.05)


def test_residuals_count_if_the_air_is_noisier():
    S, disc = noisy("rician", 20)
    S[~disc] *= 2
    noise = found(S, TIS, IR, disc)
    assert "background is noisier" in str(noise.source)
    assert float(noise.sigma) == pytest.approx(0.75 / 20, rel=0.1)


def test_clean_air_counts_against_few_residuals():
    rng, tau = np.random.default_rng(4), np.array([50.0, 400.0, 1100.0, 2500.0])
    x, y = np.mgrid[:64, :64] - 31.5
    inside = (x**2 + y**2 < 20**2)[:, :, None]
    kappa = np.stack([1.0 * inside, np.full(inside.shape, 1.9), np.full(inside.shape, 900.0)], -1)
    S = IR.signed(kappa, tau, np)
    S = np.hypot(S + 0.2 * rng.normal(size=S.shape), 0.2 * rng.normal(size=S.shape))
    noise = find_noise(Measurement(S, tau, IR, mask=inside), 1.0)
    assert noise.sigma == pytest.approx(0.2, rel=0.03)
    assert "residuals of so few samples say little" in str(noise.source)


def test_three_images_need_air():
    few = slice(1, 4)
    S, disc = noisy("rician", 20)
    noise = found(S[..., few], TIS[few], IR, disc)
    assert float(noise.sigma) == pytest.approx(0.75 / 20, rel=0.05)
    S, disc = noisy("rician", 20, bare=True)
    with pytest.raises(ValueError, match=r"3 images leave no residuals .* with `sigma`"):
        found(S[..., few], TIS[few], IR, disc)


def test_partial_volumes_do_not_pass_for_noise():
    """A third of the voxels mix two tissues; their residuals are far above the noise."""
    rng = np.random.default_rng(0)
    first, second = (T2_DECAY.signed(np.array([0.5, T]), TES, np) for T in (60.0, 1500.0))
    share = np.where(rng.uniform(size=4000) < 0.33, rng.uniform(0.2, 0.8, 4000), 0.0)[:, None]
    clean = 2 * ((1 - share) * first + share * second)
    S = clean + 0.005 * rng.normal(size=clean.shape)
    sigma, misfit = residual_sigma(Sample(S, TES, T2_DECAY), signed=False, rician=False)
    assert sigma == pytest.approx(0.005, rel=0.1)
    assert misfit > 0.1


def test_degrees_of_freedom_are_counted():
    rng = np.random.default_rng(0)
    for tau in (TIS[:5], TIS, np.linspace(50, 3500, 30)):
        kappa = np.stack([np.ones(6000), np.full(6000, 1.9), rng.uniform(600, 1500, 6000)], -1)
        S = IR.signed(kappa, tau, np) + 0.02 * rng.normal(size=(6000, len(tau)))
        sigma, misfit = residual_sigma(Sample(S, tau, IR), signed=True, rician=False)
        assert sigma == pytest.approx(0.02, rel=0.03)
        assert misfit < 0.03


def test_moments_of_rice():
    snr = np.array([0.0, 0.7, 2.0, 9.0, 30.0])
    rng = np.random.default_rng(0)
    draws = np.hypot(snr + rng.normal(size=(400_000, 5)), rng.normal(size=(400_000, 5)))
    mean, variance = rice_moments(snr)
    np.testing.assert_allclose(mean, draws.mean(0), atol=0.01)
    np.testing.assert_allclose(variance, draws.var(0), atol=0.01)


@pytest.mark.parametrize("kind", ["gaussian", "rician", "real"])
@pytest.mark.parametrize("factor", [0.5, 0.8, 1.0, 1.2, 2.0])
def test_a_given_sigma_gives_way_to_residuals_that_contradict_it(kind, factor):
    S, disc = noisy(kind, 20)
    given = found(S, TIS, IR, disc, sigma=np.asarray(factor * 0.75 / 20), signed=kind == "real")
    noise, words = settled(S, TIS, IR, disc, given)
    kept, doubt = settled(S, TIS, IR, disc, given, keep=True)
    assert kept == given
    if factor in (0.5, 2.0):
        assert float(noise.sigma) == pytest.approx(0.75 / 20, rel=0.05)
        given_words = f"{factor * 0.75 / 20:.4g}"
        for line in (str(noise.source), words, doubt):
            assert given_words in line
    else:
        assert (noise, words, doubt) == (given, None, None)


@pytest.mark.parametrize("num_voxels", [10, 300])
@pytest.mark.parametrize(
    "tis", [[50.0, 400.0, 1100.0, 2500.0], [50.0, 200.0, 400.0, 800.0, 1600.0, 3000.0]]
)
def test_few_residuals_do_not_lower_a_true_sigma(num_voxels, tis):
    """Of a magnitude with few degrees of freedom the best signs take noise for signal."""
    rng, tau = np.random.default_rng(3), np.array(tis)
    S = IR.signed(np.tile([1.0, 1.9, 900.0], (num_voxels, 1, 1, 1)), tau, np)
    S = np.hypot(S + 0.2 * rng.normal(size=S.shape), 0.2 * rng.normal(size=S.shape))
    inside = np.ones(S.shape[:3], bool)
    given = find_noise(Measurement(S, tau, IR, np.array(0.2), inside), 1.0)
    assert settled(S, tau, IR, inside, given) == (given, None)


def test_a_sigma_map_is_scaled_as_a_whole():
    S, disc = noisy("gaussian", 20)
    level = np.full(disc.shape, 0.75 / 20)
    level[:36] *= 3.0
    S[:36] += np.random.default_rng(1).normal(0, np.sqrt(8) * 0.75 / 20, S[:36].shape)
    right = found(S, TIS, IR, disc, sigma=level)
    assert settled(S, TIS, IR, disc, right) == (right, None)
    noise, words = settled(S, TIS, IR, disc, found(S, TIS, IR, disc, sigma=2 * level))
    np.testing.assert_allclose(noise.sigma, level, rtol=0.06)
    assert words


def test_misfit_of_the_model_and_clean_data_contradict_no_sigma():
    clean, disc = head()
    S = np.abs(clean).astype(np.float32)

    def contradiction(series, tau):
        given = found(series, tau, IR, disc, sigma=np.asarray(0.01))
        return settled(series, tau, IR, disc, given)[1]

    assert contradiction(S, TIS) is None
    mixed = S + np.where(disc[..., None], 0.15 * np.sin(TIS), 0).astype(np.float32)
    assert contradiction(mixed, TIS) is None
    few = [0, 2, 4]
    assert contradiction(S[..., few], TIS[few]) is None


def test_a_sigma_in_another_unit_is_said():
    S, disc = noisy("rician", 100)
    noise = found(S, TIS, IR, disc, sigma=np.asarray(0.75))
    kept, words = settled(S, TIS, IR, disc, noise)
    assert kept.sigma == 0.75
    assert "is it in the unit of the images?" in words


def test_given_sigma_is_kept():
    S, disc = noisy("rician", 20)
    noise = found(S, TIS, IR, disc, sigma=np.asarray(0.1))
    assert (float(noise.sigma), str(noise.source), noise.signed) == (0.1, "given", False)


def test_sigma_maps_are_checked_in_the_mask():
    mask = np.zeros((4, 4, 1), bool)
    mask[1:3] = True
    sigma = np.where(mask, 2.0, np.nan)
    np.testing.assert_array_equal(checked_sigma(sigma, mask), sigma)
    for bad in (np.nan, np.inf, 0.0, -1.0):
        sigma[1, 2] = bad
        with pytest.raises(ValueError, match=r"in 1 of 8 voxels of the mask, expected a positive"):
            checked_sigma(sigma, mask)
    with pytest.raises(ValueError, match="sigma has shape"):
        checked_sigma(np.ones((4, 4)), mask)


@pytest.mark.data
@pytest.mark.parametrize(
    "name",
    [
        *("brain_ir/series", "brain_t1t2/t1_series", "brain_t1t2/t2_series"),
        *("nist_3t/T1_plate4", "nist_3t/T2_plate5"),
    ],
)
def test_air_of_real_series_is_not_clean(name, data_dir):
    """Masked, thresholded or full of ghosts: all of them."""
    from relaxnet.io.inputs import load_series

    S = load_series([data_dir / f"{name}.nii.gz"]).data
    assert air_noise(S).sigma is None
