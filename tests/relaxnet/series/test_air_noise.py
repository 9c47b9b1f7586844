import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relaxnet.series.air_noise import air_noise

SIGMA = 4.0


def object_(shape=(64, 64, 2), images=6):
    """A bright disc whose signal changes from image to image."""
    x, y = np.meshgrid(*(np.arange(n) - n / 2 + 0.5 for n in shape[:2]), indexing="ij")
    disc = (x**2 + y**2 < (0.3 * shape[0]) ** 2)[..., None, None]
    return np.where(disc, np.linspace(600, 100, images), 0.0) * np.ones((*shape, images))


def noisy(kind, S=None, sigma=SIGMA, seed=0):
    rng = np.random.default_rng(seed)
    S = object_() if S is None else S
    if kind == "Rayleigh":
        return np.hypot(S + sigma * rng.normal(size=S.shape), sigma * rng.normal(size=S.shape))
    real = S + sigma * rng.normal(size=S.shape)
    return np.abs(real) if kind == "half-normal" else real


@pytest.mark.parametrize("kind", ["Rayleigh", "Gaussian", "half-normal"])
@pytest.mark.parametrize("shape", [(64, 64, 2, 6), (48, 48, 1, 31), (40, 50, 12, 3)])
def test_kind_and_sigma(kind, shape):
    found = air_noise(noisy(kind, object_(shape[:3], shape[3])))
    assert found.kind == kind
    assert found.sigma == pytest.approx(SIGMA, rel=0.03)
    assert kind in found.words


@settings(max_examples=12, deadline=None)
@given(
    kind=st.sampled_from(["Rayleigh", "Gaussian"]),
    exponent=st.integers(-20, 20),
    seed=st.integers(0, 99),
)
def test_unit_of_the_images_does_not_matter(kind, exponent, seed):
    S = noisy(kind, seed=seed)
    found = air_noise(S * 10.0**exponent)
    assert found.sigma == pytest.approx(SIGMA * 10.0**exponent, rel=0.04)


@pytest.mark.parametrize("kind", ["Rayleigh", "Gaussian"])
def test_rounding_does_no_harm(kind):
    found = air_noise(np.round(noisy(kind)).astype(np.int16))
    assert found.kind == kind
    assert found.sigma == pytest.approx(SIGMA, rel=0.03)


def test_bad_voxels_and_a_zeroed_corner_do_no_harm():
    S = noisy("Rayleigh")
    S[5, 5, 0, 2], S[7, 9, 1] = np.nan, np.inf
    S[:12, :12] = 0
    assert air_noise(S).sigma == pytest.approx(SIGMA, rel=0.03)


def refused(S, match):
    found = air_noise(S)
    assert found.sigma is None
    assert match in found.words


def test_zeroed_and_thresholded_surroundings_are_not_used():
    S, inside = noisy("Rayleigh"), object_() > 0
    refused(np.where(inside, S, 0), "zeros")
    refused(np.where(inside | (S > 1.2 * SIGMA), S, 0), "zeros")


def test_ghosts_are_not_taken_for_noise():
    clean = object_()
    ghost = sum(0.03 * np.roll(clean, shift, 0) for shift in (-28, -14, 14, 28))
    found = air_noise(noisy("Rayleigh", clean + ghost))
    assert found.sigma is None or found.sigma == pytest.approx(SIGMA, rel=0.1)


def test_noise_of_several_channels_is_not_taken_for_one():
    S, rng = object_(), np.random.default_rng(0)
    parts = [S / np.sqrt(8)] * 8 + [0 * S] * 8
    power = sum((part + SIGMA * rng.normal(size=S.shape)) ** 2 for part in parts)
    refused(np.sqrt(power), "root of squares of several receivers")


def test_noise_that_varies_in_space_is_not_used():
    gain = np.linspace(1, 3, 64)[:, None, None, None]
    refused(noisy("Rayleigh") * gain, "varies in space")


def test_noise_that_varies_over_images_is_not_used():
    refused(noisy("Rayleigh") * np.linspace(1, 2, 6), "changes from image to image")


def test_tissue_alone_is_not_taken_for_air():
    rng = np.random.default_rng(0)
    S = 100 * np.exp(-np.array([1, 2, 4, 8.0]) / 3) + rng.normal(size=(50, 50, 2, 4))
    refused(S, "not usable")
    refused(np.full((50, 50, 2, 4), 7.0), "not usable")


@pytest.mark.parametrize("value", [0.0, np.nan, 1e300, 1e-300])
def test_nothing_to_see(value):
    refused(np.full((30, 30, 1, 4), value), "not usable")


def test_few_voxels_are_not_enough():
    refused(noisy("Rayleigh", object_((14, 12, 1))), "too few")
