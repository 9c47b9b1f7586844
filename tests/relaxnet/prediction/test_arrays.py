import numpy as np
import pytest
from short_fits import voxelwise
from small_series import TAU, series, truth

from relaxnet.fitting.options import FitOptions
from relaxnet.maps.status import INVALID, NO_SIGNAL, OK, OUTSIDE
from relaxnet.networks.registry import ModelError
from relaxnet.networks.resnet import ResNet
from relaxnet.networks.rim import RIM
from relaxnet.prediction.arrays import predict
from relaxnet.series.scale import patch_scale, series_scale
from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY
from relaxsim.models.protocols import read_protocol
from relaxsim.models.t2_decay import MODEL as T2_DECAY


@pytest.fixture(scope="module")
def network():
    """A RIM with random weights: what it says is wrong, but a function of its input."""
    rim = RIM("inversion_recovery", features=6, num_steps=2)
    rng = np.random.default_rng(0)
    for variable in rim.trainable_variables:
        variable.assign(variable + 0.03 * rng.standard_normal(variable.shape))
    return rim


def maps(S, method="mle", mask=None, **options):
    return predict(S, TAU, INVERSION_RECOVERY, method, mask=mask, **options)


def test_mle_finds_the_truth():
    S, kappa, disc = series(sigma=2.0)
    out = maps(S, mask=disc)
    np.testing.assert_allclose(out.kappa[disc], kappa[disc], rtol=0.1)
    assert out.sigma == pytest.approx(2.0, rel=0.15)
    assert (out.kappa[~disc] == 0).all()
    assert (out.status[disc] == OK).all()
    assert (out.status[~disc] == OUTSIDE).all()
    assert out.residual[disc].mean() == pytest.approx(np.sqrt(4 / 7), rel=0.1)


@pytest.mark.parametrize("method", ["mle", "rim"])
@pytest.mark.parametrize("factor", [1e-4, 1e4])
def test_scale_of_the_images_does_not_matter(network, method, factor):
    S, _, disc = series()
    net = network if method == "rim" else None
    a = maps(S, method, disc, network=net)
    b = maps(S.astype(np.float64) * factor, method, disc, network=net)
    np.testing.assert_allclose(b.kappa[disc][:, 2], a.kappa[disc][:, 2], rtol=1e-4)
    np.testing.assert_allclose(b.kappa[disc][:, 0], a.kappa[disc][:, 0] * factor, rtol=1e-3)


@pytest.mark.parametrize("method", ["mle", "rim"])
def test_bad_voxels_are_zero_and_neighbours_unharmed(network, method):
    S, _, disc = series()
    net = network if method == "rim" else None
    options = {"mask": disc, "network": net, "sigma": 8.0}
    clean = maps(S, method, **options)
    S[7, 6, 0, 2] = np.nan
    S[8, 6, 0] = 0
    out = maps(S, method, **options)
    assert (out.kappa[7:9, 6, 0] == 0).all()
    assert out.status[7, 6, 0] == INVALID
    assert out.status[8, 6, 0] == NO_SIGNAL
    assert np.isfinite(out.kappa).all()
    other = disc.copy()
    other[7:9, 6, 0] = False
    assert (out.status[other] == OK).all() == (clean.status[other] == OK).all()
    if method == "mle":
        np.testing.assert_array_equal(out.kappa[other], clean.kappa[other])
    np.testing.assert_allclose(out.kappa[..., 1, 2], clean.kappa[..., 1, 2], rtol=1e-3)


def test_signed_data_are_recognised_and_fitted_as_such():
    _, kappa, disc = series()
    rng = np.random.default_rng(0)
    safe = np.where(disc[..., None], kappa, [0.0, 2.0, 1000.0])
    S = INVERSION_RECOVERY.signed(safe, TAU, np) + 8 * rng.standard_normal((*disc.shape, 7))
    out = maps(S, mask=disc)
    assert out.signed
    np.testing.assert_allclose(np.median(out.kappa[disc] / kappa[disc], axis=0), 1, rtol=0.03)
    assert not maps(np.abs(S), mask=disc).signed


def test_low_snr_gaussian_magnitude_is_not_taken_as_signed():
    """Gaussian noise on a modulus dips below zero; that is not a sign."""
    S, _, disc = series(sigma=250.0)
    S = S + 250 * np.random.default_rng(1).standard_normal(S.shape)
    assert (S < 0).any()
    assert not maps(S, mask=disc).signed


def test_networks_take_magnitudes_as_they_are(network):
    """Where Gaussian noise on a modulus dips below zero, folding it back would bias it."""
    S, _, disc = series(sigma=250.0)
    S = S + 250 * np.random.default_rng(1).standard_normal(S.shape)
    options = {"mask": disc, "network": network, "sigma": 250.0}
    out, folded = (maps(x, "rim", **options) for x in (S, np.abs(S)))
    assert not out.signed
    assert (out.kappa != folded.kappa).any()


def test_a_rim_is_told_that_magnitudes_are_rician(network):
    """Not of data with negatives, as Gaussian noise makes them."""
    S, _, disc = series(sigma=60.0)
    options = {"mask": disc, "network": network, "sigma": 250.0}
    out = maps(np.abs(S), "rim", **options)
    assert out.taken_as == "magnitude with Rician noise"
    S = S + 250 * np.random.default_rng(1).standard_normal(S.shape)
    assert maps(S, "rim", **options).taken_as == "magnitude"


@pytest.mark.parametrize(
    ("sigma", "likelihood", "rician"),
    [(30.0, None, True), (5.0, None, False), (30.0, "gaussian", False), (5.0, "rician", True)],
)
def test_a_fit_takes_the_rician_likelihood_where_it_matters(sigma, likelihood, rician):
    S, _, disc = series(sigma=sigma)
    out = maps(np.abs(S), mask=disc, sigma=sigma, fit=FitOptions(likelihood=likelihood))
    words = "magnitude with Rician noise" if rician else "magnitude"
    assert out.taken_as == words
    fit = voxelwise(
        np.abs(S),
        TAU,
        INVERSION_RECOVERY,
        sigma,
        disc,
        likelihood="rician" if rician else "gaussian",
    )
    np.testing.assert_array_equal(out.kappa[disc], fit.kappa[disc])


def test_bad_voxels_reach_no_further_than_the_halo(network):
    S = series((40, 40, 1))[0] + 500.0
    clean = maps(S, "rim", network=network, sigma=8.0)
    S[20, 20, 0, 3] = np.nan
    out = maps(S, "rim", network=network, sigma=8.0)
    far = np.ones(S.shape[:3], bool)
    reach = network.halo + 1  # one more, since the voxel is filled from its neighbours
    far[20 - reach : 21 + reach, 20 - reach : 21 + reach] = False
    np.testing.assert_allclose(out.kappa[far], clean.kappa[far], rtol=1e-3)
    near = ~far
    near[20, 20] = False
    assert np.median(np.abs(out.kappa[near][:, 2] / clean.kappa[near][:, 2] - 1)) < 0.02


@pytest.mark.parametrize("sigma", [None, 8.0])
def test_signs_that_contradict_the_data_are_said(sigma):
    kappa, disc = truth()
    clean = INVERSION_RECOVERY.signed(np.where(disc[..., None], kappa, [1.0, 2.0, 1e3]), TAU, np)
    S = clean + 8 * np.random.default_rng(0).standard_normal(clean.shape)
    fitted = {"method": "mle", "mask": disc, "sigma": sigma}
    with pytest.raises(ValueError, match="negative by more than noise: they carry a sign"):
        predict(S, TAU, "tis", signed=False, **fitted)
    assert not predict(np.abs(S), TAU, "tis", signed=False, **fitted).warnings
    warned = predict(np.abs(S), TAU, "tis", signed=True, **fitted).warnings
    assert any("given as signed, and no sample is negative" in words for words in warned)
    assert not predict(S, TAU, "tis", signed=True, **fitted).warnings


@pytest.mark.parametrize("signed", [None, False])
def test_noise_on_a_modulus_is_no_sign_whatever_sigma_is_given(signed):
    kappa, disc = truth((24, 24, 2))
    clean = INVERSION_RECOVERY.forward(np.where(disc[..., None], kappa, [1.0, 2.0, 1e3]), TAU)
    S = clean + 150 * np.random.default_rng(0).standard_normal(clean.shape)
    out = predict(S, TAU, "tis", method="mle", mask=disc, sigma=15.0, signed=signed)
    assert not out.signed
    assert out.sigma == pytest.approx(150, rel=0.1)


def test_times_that_do_not_rise_are_said():
    S, _, disc = series()
    notes = predict(S[..., ::-1], TAU[::-1], "tis", method="mle", mask=disc).notes
    assert any("times do not rise" in words for words in notes)
    assert not predict(S, TAU, "tis", method="mle", mask=disc).notes


def test_shallow_negatives_are_recognised_as_signed():
    """Negatives of a tenth of the maximum, which a fit to the modulus would take for noise."""
    tau = np.array([350.0, 500, 650, 800, 950, 1100, 1250, 1400, 1700])
    kappa = np.broadcast_to([1000.0, 1.95, 620.0], (20, 20, 1, 3))
    noise = np.random.default_rng(0).standard_normal((20, 20, 1, 9))
    S = INVERSION_RECOVERY.signed(kappa, tau, np) + 7 * noise
    out = predict(S, tau, INVERSION_RECOVERY, "mle")
    assert out.signed
    assert out.sigma == pytest.approx(7, rel=0.05)
    assert np.median(out.kappa[..., 2]) == pytest.approx(620, rel=0.01)
    out = predict(np.abs(S), tau, INVERSION_RECOVERY, "mle")
    assert not out.signed
    assert out.sigma == pytest.approx(7, rel=0.1)


def signed_series():
    """Noise-free signed series, and its disc."""
    kappa, disc = series()[1:]
    safe = np.where(disc[..., None], kappa, [0.0, 2.0, 1000.0])
    return INVERSION_RECOVERY.signed(safe, TAU, np), disc


def test_a_resnet_takes_the_modulus_of_signed_data():
    S, disc = signed_series()
    network = ResNet("inversion_recovery", num_images=len(TAU), widths=(4, 4))
    options = {"mask": disc, "network": network, "sigma": 8.0}
    out, of_modulus = (maps(x, "resnet", **options) for x in (S, np.abs(S)))
    assert (out.signed, of_modulus.signed) == (True, False)
    assert out.taken_as == "the modulus of signed data"
    np.testing.assert_array_equal(out.kappa, of_modulus.kappa)
    np.testing.assert_allclose(out.residual, of_modulus.residual)


def test_a_rim_uses_the_sign(network):
    """Where the modulus leaves the polarity open the sign decides; else both mean the same."""
    S, disc = signed_series()
    options = {"mask": disc, "network": network, "sigma": 8.0}
    out, of_modulus = (maps(x, "rim", **options) for x in (S, np.abs(S)))
    assert out.taken_as == "signed"
    start = network.model.start_from(np.abs(S).max(-1), np)
    same = (np.sign(INVERSION_RECOVERY.signed(start, TAU, np)) == np.sign(S)).all(-1) & disc
    assert not np.allclose(out.kappa[disc & ~same], of_modulus.kappa[disc & ~same], rtol=1e-3)
    again = maps(S, "rim", **options)
    np.testing.assert_array_equal(again.kappa, out.kappa)
    # A sign that is reversed throughout is turned round, and a warning says so.
    reverse = maps(-S, "rim", **options, signed=True)
    np.testing.assert_allclose(reverse.kappa, out.kappa, rtol=1e-5)
    assert any("reversed" in warning for warning in reverse.warnings)


def test_a_rim_gives_signed_data_standard_deviations(network):
    headed = RIM.from_config(network.get_config())
    headed.set_weights(network.get_weights())
    headed = headed.with_error_head()
    S, disc = signed_series()
    options = {"mask": disc, "network": headed, "sigma": 8.0}
    out, of_modulus = (maps(x, "rim", **options) for x in (S, np.abs(S)))
    assert out.signed
    assert np.isfinite(out.std[disc]).all()
    assert not np.allclose(out.std[disc], of_modulus.std[disc], rtol=1e-3)


def test_the_sign_is_an_input_once_it_was_a_network_s_argument(network):
    assert RIM.from_config({**network.get_config(), "signed": True}).kind == "rim"


def test_sigma_of_signed_data_that_is_given_decides_too():
    kappa, disc = series()[1:]
    signed = INVERSION_RECOVERY.signed(np.where(disc[..., None], kappa, [0, 2.0, 1e3]), TAU, np)
    assert maps(signed, mask=disc, sigma=8.0).signed
    assert not maps(signed, mask=disc, sigma=800.0).signed


def test_sigma_map_is_used_voxel_by_voxel(network):
    S, _, disc = series()
    sigma = np.full(disc.shape, np.nan)
    sigma[disc] = 8.0
    sigma[:7][disc[:7]] = 16.0
    gaussian = FitOptions(likelihood="gaussian")
    out, flat = (maps(S, mask=disc, sigma=s, fit=gaussian, force=True) for s in (sigma, 8.0))
    np.testing.assert_array_equal(out.kappa, flat.kappa)
    np.testing.assert_allclose(out.std[:7], 2 * flat.std[:7], rtol=1e-5)
    np.testing.assert_allclose(out.residual[7:], flat.residual[7:], rtol=1e-5)
    median = maps(S, "rim", disc, network=network, sigma=sigma, force=True).sigma
    assert median in (8.0, 12.0, 16.0)
    with pytest.raises(ValueError, match="sigma has shape"):
        maps(S, mask=disc, sigma=sigma[:-1])
    with pytest.raises(ValueError, match="expected a positive number"):
        maps(S, sigma=sigma)


def test_a_constant_map_of_sigma_is_a_number_whatever_it_holds_outside_the_mask(network):
    S, _, disc = series()
    options = {"mask": disc, "network": network.with_error_head(), "force": True}
    of_number = maps(S, "rim", sigma=8.0, **options)
    for outside in (8.0, 0.0, np.nan, -1.0, 1e30):
        out = maps(S, "rim", sigma=np.where(disc, 8.0, outside), **options)
        np.testing.assert_allclose(out.kappa, of_number.kappa, rtol=1e-5)
        np.testing.assert_allclose(out.std, of_number.std, rtol=1e-5)


@pytest.mark.parametrize("wrong", [1e-45, 1e-30, 1e30])
def test_a_voxel_of_a_wrong_sigma_leaves_the_others_finite(network, wrong):
    S, _, disc = series()
    sigma = np.full(disc.shape, 8.0)
    sigma[7, 6, 0] = wrong
    out = maps(S, "rim", disc, network=network.with_error_head(), sigma=sigma, force=True)
    assert (out.kappa[disc][:, 2] > 0).all()
    assert (out.std[disc] > 0).all()
    assert np.isfinite(out.residual).all()


@pytest.mark.filterwarnings("error")
def test_a_residual_beyond_float32_is_the_largest_number():
    S, _, disc = series()
    sigma = np.full(disc.shape, 8.0)
    sigma[7, 6, 0] = 1e-45
    out = maps(S, "mle", disc, sigma=sigma, force=True)
    assert out.residual[7, 6, 0] == np.finfo(np.float32).max


def test_a_resnet_makes_no_use_of_sigma():
    S, _, disc = series()
    network = ResNet("inversion_recovery", num_images=len(TAU), widths=(4, 4))
    sigma = np.random.default_rng(0).uniform(6, 10, disc.shape)
    options = {"mask": disc, "network": network, "force": True}
    out, of_number = (maps(S, "resnet", sigma=s, **options) for s in (sigma, 8.0))
    np.testing.assert_array_equal(out.kappa, of_number.kappa)


def test_intervals_of_a_network_cover_the_truth_where_noise_varies_in_space():
    """With one sigma for all, 65 % are covered in the noisiest quarter and 98 % in the quietest."""
    rng = np.random.default_rng(0)
    tau = read_protocol("fse6", "tes").tau
    x, y, _ = np.meshgrid(*map(np.arange, (48, 48, 1)), indexing="ij")
    kappa = np.array([[0.85, 110.0], [0.65, 80], [1.0, 1000]])[(x // 8 + y // 8) % 3]
    kappa *= 1 + 0.03 * rng.standard_normal(kappa.shape)
    sigma = 0.02 * 3.0 ** (2 * x / 47 - 1)
    noise = sigma[..., None] * rng.standard_normal((2, *x.shape, len(tau)))
    S = np.hypot(T2_DECAY.signed(kappa, tau, np) + noise[0], noise[1])
    out = predict(S, tau, T2_DECAY, "rim", sigma=sigma)
    assert out.sigma_source == "given"
    covered = (np.abs(out.kappa - kappa) <= 1.96 * out.std)[..., 1]
    assert 0.85 < covered[x >= 36].mean() < 0.99
    assert 0.85 < covered[x < 12].mean() < 0.99


def test_sigma_that_the_residuals_contradict_is_replaced_unless_forced(network):
    S, _, disc = series()
    right = maps(S, "rim", disc, network=network, sigma=8.0)
    settled = maps(S, "rim", disc, network=network, sigma=24.0)
    assert settled.sigma == pytest.approx(right.sigma, rel=0.1)
    assert "contradict the 24 given" in settled.sigma_source
    assert any("`force` keeps the given one" in line for line in settled.warnings)
    forced = maps(S, "rim", disc, network=network, sigma=24.0, force=True)
    assert (forced.sigma, forced.sigma_source) == (24.0, "given")


def test_noise_needs_more_images_than_parameters():
    S, _, disc = series()
    with pytest.raises(ValueError, match="3 images leave no residuals"):
        predict(S[..., :3], TAU[:3], INVERSION_RECOVERY, "mle", mask=disc)
    out = predict(S[..., :3], TAU[:3], INVERSION_RECOVERY, "mle", mask=disc, sigma=8.0)
    assert out.sigma_source == "given"


def test_noise_free_series_says_so():
    kappa, disc = series()[1:]
    S = INVERSION_RECOVERY.forward(np.where(disc[..., None], kappa, [0, 2.0, 1e3]), TAU)
    out = maps(S, mask=disc)
    np.testing.assert_allclose(out.kappa[disc], kappa[disc], rtol=1e-3)
    assert out.sigma_source.startswith("none found")


def test_without_a_mask_scale_and_noise_are_those_of_the_foreground():
    S, _, disc = series((60, 60, 1), sigma=8.0)
    every, given = maps(S), maps(S, mask=disc)
    assert every.scale == pytest.approx(given.scale, rel=0.02)
    assert every.sigma == pytest.approx(given.sigma, rel=0.1)
    assert (every.status != OUTSIDE).all()


def test_integers_are_taken():
    S, _, disc = series()
    out = maps(np.round(S).astype(np.int16), mask=disc)
    np.testing.assert_allclose(out.kappa, maps(np.round(S), mask=disc).kappa, rtol=1e-6)


def test_overflow_and_empty_images_are_said():
    S, _, disc = series()
    out = maps(S.astype(np.float64) * 3e35, mask=disc, sigma=1e36)
    assert np.isfinite(out.kappa).all()
    S[..., 2] = 0
    out = maps(S, mask=disc)
    assert [image.index for image in out.left_out] == [2]
    assert out.warnings[0].startswith("image 3 of 7 (")


def test_networks_that_do_not_suit_are_refused(network):
    S, _, disc = series()
    with pytest.raises(ModelError, match="is for inversion_recovery, the series is t2_decay"):
        predict(S, TAU, T2_DECAY, "rim", network)
    with pytest.raises(ModelError, match="takes 5 images, the series has 7"):
        maps(S, "resnet", disc, network=ResNet("inversion_recovery", num_images=5, widths=(4, 6)))
    with pytest.raises(ModelError, match="is a rim, but `method` is resnet"):
        maps(S, "resnet", disc, network=network)


def test_bad_arguments_are_refused():
    S, _, disc = series()
    for sigma in (0.0, -1.0, np.nan):
        with pytest.raises(ValueError, match="expected a positive number"):
            maps(S, sigma=sigma)
    with pytest.raises(ValueError, match="the mask has shape"):
        maps(S, mask=disc[:-1])
    with pytest.raises(ValueError, match="no voxel of the mask holds"):
        maps(np.zeros_like(S))
    with pytest.raises(ValueError, match="expected one of"):
        maps(S, method="magic")
    with pytest.raises(ValueError, match=r"expected \(X, Y, Z, images\)"):
        maps(S[:, :, 0])


def test_scale_is_one_function_of_the_series():
    S, _, disc = series()
    assert series_scale(3e5 * S.astype(float), disc) == pytest.approx(3e5 * series_scale(S, disc))
    patches = np.moveaxis(S, 2, 0)
    inside = np.moveaxis(disc, 2, 0)
    expected = [series_scale(p, m) for p, m in zip(patches, inside, strict=True)]
    np.testing.assert_allclose(patch_scale(patches, inside), expected, rtol=1e-6)
    with pytest.raises(ValueError, match="zero in the mask"):
        series_scale(np.zeros((3, 3, 2)))
