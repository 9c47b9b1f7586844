"""Voxels on the wrong side of the zero crossing are found and mapped with the right signs."""

import numpy as np
import pytest
from fake_network import FakeNetwork

from relaxnet.fitting.inputs import Measurement
from relaxnet.maps.status import OK
from relaxnet.prediction.estimators import by_network
from relaxnet.prediction.inspection import Inspected
from relaxnet.prediction.sign_ambiguity import restored
from relaxnet.series.images import Images
from relaxnet.series.noise import Noise, NoiseSource, SigmaSource
from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY

#: T1 of 460 and of 1010 ms put the zero crossing (B = 2) on either side of the sample at 500 ms.
TIS = np.array([50.0, 150.0, 300.0, 500.0, 700.0, 800.0])
RIGHT, WRONG = (1.0, 1.63, 678.0), (1.2, 1.21, 1008.0)


def slice_of(truth, sigma=0.01, shape=(6, 7)):
    kappa = np.broadcast_to(np.float64(truth), (*shape, 3))
    noise = np.random.default_rng(0).standard_normal((*shape, len(TIS)))
    return np.abs(INVERSION_RECOVERY.signed(kappa, TIS, np) + sigma * noise).astype(np.float32)


def slice_(S, sigma, inside):
    return Measurement(S, TIS, INVERSION_RECOVERY, sigma, inside)


def estimate_of(kappa):
    """An estimator that always says the same and remembers what it was shown."""
    shown = []

    def estimate(signed, mask):
        shown.append((signed, mask))
        return np.broadcast_to(np.float32(kappa), (*mask.shape, 3))

    return estimate, shown


def test_wrong_side_is_found_and_the_estimator_gets_the_true_signs():
    S = slice_of(RIGHT)
    kappa = np.broadcast_to(np.float32(RIGHT), (6, 7, 3)).copy()
    kappa[2, 3] = WRONG
    inside = np.ones((6, 7), bool)
    estimate, shown = estimate_of(RIGHT)
    where, values = restored(slice_(S, 0.01, inside), kappa, estimate)
    assert np.argwhere(where).tolist() == [[2, 3]]
    np.testing.assert_allclose(values, [RIGHT], rtol=1e-6)
    ((signed, mask),) = shown
    assert np.array_equal(mask, where)
    truth = INVERSION_RECOVERY.signed(np.float64(RIGHT), TIS, np)
    np.testing.assert_array_equal(np.sign(signed), np.broadcast_to(np.sign(truth), S.shape))
    np.testing.assert_array_equal(np.abs(signed), S)


def test_an_estimate_far_off_with_the_right_signs_is_made_anew():
    """A network may come to them in its last steps alone."""
    S, far = slice_of(RIGHT), (1.3, 1.7, 700.0)
    signs = [np.sign(INVERSION_RECOVERY.signed(np.float64(k), TIS, np)) for k in (RIGHT, far)]
    np.testing.assert_array_equal(*signs)
    kappa = np.broadcast_to(np.float32(far), (6, 7, 3))
    estimate, _ = estimate_of(RIGHT)
    where, _ = restored(slice_(S, 0.01, S[..., 0] > 0), kappa, estimate)
    assert where.all()


def test_estimates_that_fit_are_left_alone():
    S = slice_of(RIGHT)
    kappa = np.broadcast_to(np.float32(RIGHT), (6, 7, 3))
    estimate, shown = estimate_of(RIGHT)
    assert restored(slice_(S, 0.01, S[..., 0] > 0), kappa, estimate) is None
    assert not shown


def test_an_estimate_that_is_no_better_is_not_taken():
    S = slice_of(RIGHT)
    kappa = np.broadcast_to(np.float32(WRONG), (6, 7, 3))
    estimate, _ = estimate_of(WRONG)
    where, values = restored(slice_(S, 0.01, S[..., 0] > 0), kappa, estimate)
    assert not where.any()
    assert values.shape == (0, 3)


def test_air_is_not_looked_at():
    S = slice_of((0.0, *RIGHT[1:]), sigma=0.3)
    kappa = np.broadcast_to(np.float32((1.0, *WRONG[1:])), (6, 7, 3))
    estimate, shown = estimate_of(RIGHT)
    assert restored(slice_(S, 0.3, S[..., 0] > 0), kappa, estimate) is None
    assert not shown


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
def test_voxels_without_an_estimate_are_left_alone(bad):
    S = slice_of(RIGHT)
    kappa = np.full((6, 7, 3), bad, np.float32)
    estimate, _ = estimate_of(RIGHT)
    assert restored(slice_(S, 0.01, S[..., 0] > 0), kappa, estimate) is None


class WrongUnlessSigned(FakeNetwork):
    """A network that sees the right answer only in signed data."""

    model = INVERSION_RECOVERY

    def __call__(self, inputs, training=False):
        kappa = RIGHT if inputs[4] else WRONG
        return np.broadcast_to(np.float32(kappa), (1, *np.shape(inputs[0])[:3], 3))


@pytest.mark.parametrize("sigma", [0.01, np.full((6, 7, 1), 0.01)], ids=["number", "map"])
def test_magnitudes_are_mapped_again_with_signs_and_in_their_own_unit(sigma):
    scale = 250.0
    S = scale * slice_of(RIGHT)[:, :, None]
    status = np.full(S.shape[:3], OK, np.uint8)
    source = NoiseSource(SigmaSource.GIVEN)
    noise = Noise(sigma=sigma * scale, source=source, signed=False, rician=False)
    series = Measurement(S, TIS[:, None], INVERSION_RECOVERY, sigma * scale, status == OK)
    inspected = Inspected(series, Images(S), status, status == OK, scale, noise)
    found = by_network(inspected, WrongUnlessSigned())
    np.testing.assert_allclose(found.kappa[..., 2], RIGHT[2], rtol=1e-6)
    np.testing.assert_allclose(found.kappa[..., 0], scale, rtol=1e-6)
