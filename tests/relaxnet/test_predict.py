import numpy as np
import pytest
from small_series import TAU, series

from relaxnet.models import ModelError
from relaxnet.predict import INVALID, NO_SIGNAL, OK, OUTSIDE, predict
from relaxnet.resnet import ResNet
from relaxnet.rim import RIM
from relaxnet.scale import patch_scale, series_scale
from relaxsim.signals import INVERSION_RECOVERY, T2_DECAY


@pytest.fixture(scope="module")
def network():
    """A RIM with random weights: what it says is wrong, but a function of its input."""
    rim = RIM(features=6, num_steps=2)
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
    assert not maps(S, mask=disc, signed=False).signed


def test_low_snr_gaussian_magnitude_is_not_taken_as_signed():
    """Gaussian noise on a modulus dips below zero; that is not a sign."""
    S, _, disc = series(sigma=250.0)
    S = S + 250 * np.random.default_rng(1).standard_normal(S.shape)
    assert (S < 0).any()
    assert not maps(S, mask=disc).signed


def test_networks_that_do_not_suit_are_refused(network):
    S, _, disc = series()
    with pytest.raises(ModelError, match="is for inversion_recovery, the series is t2_decay"):
        predict(S, TAU, T2_DECAY, "rim", network)
    with pytest.raises(ModelError, match="takes 5 images, the series has 7"):
        maps(S, "resnet", disc, network=ResNet(num_images=5, widths=(4, 6)))
    with pytest.raises(ModelError, match="is a rim, but --method is resnet"):
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


def test_scale_is_one_function_of_the_series():
    S, _, disc = series()
    assert series_scale(3e5 * S.astype(float), disc) == pytest.approx(3e5 * series_scale(S, disc))
    patches = np.moveaxis(S, 2, 0)
    inside = np.moveaxis(disc, 2, 0)
    expected = [series_scale(p, m) for p, m in zip(patches, inside, strict=True)]
    np.testing.assert_allclose(patch_scale(patches, inside), expected, rtol=1e-6)
    with pytest.raises(ValueError, match="zero in the mask"):
        series_scale(np.zeros((3, 3, 2)))
