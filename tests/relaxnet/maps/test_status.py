from dataclasses import replace

import numpy as np
import pytest
from fake_network import FakeNetwork

from relaxnet.fitting.options import FitOptions
from relaxnet.maps.status import (
    DISAGREE,
    FALSE_ALARM,
    INVALID,
    LEGEND,
    NO_SIGNAL,
    OK,
    OUTSIDE,
    POOR_FIT,
    UNTRAINED,
    disagreement,
    input_status,
    levels,
    poor_fit,
    shares,
    well_determined,
)
from relaxnet.prediction.arrays import predict
from relaxnet.series.images import Images
from relaxnet.series.scale import series_scale
from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY
from relaxsim.models.t2_decay import MODEL as T2_DECAY

TE = np.array([10.0, 25.0, 50.0, 90.0, 150.0, 250.0])


def t2_series(sigma, shape=(60, 60, 1), seed=0):
    kappa = np.broadcast_to([1000.0, 80.0], (*shape, 2))
    noise = np.random.default_rng(seed).standard_normal((*shape, len(TE)))
    return T2_DECAY.forward(kappa, TE) + sigma * noise


def flat(num, T=900.0):
    """A network that says the same everywhere."""

    class Flat(FakeNetwork):
        model = T2_DECAY

        def __call__(self, inputs, training):
            S = inputs[0]
            return np.stack([np.full((*S.shape[:3], 2), [num, T], np.float32)])

    return Flat()


def test_codes_keep_their_numbers():
    assert list(LEGEND) == list(range(10))
    assert LEGEND[4] == "at a bound"
    assert levels()["7"] == "poor fit"


def test_input_says_what_it_is():
    S = np.ones((2, 2, 1, 3))
    S[0, 0], S[0, 1, 0, 1], S[1, 0, 0, 2] = 0, np.nan, -np.inf
    mask = np.array([[1, 1], [1, 0]], bool)[..., None]
    status = input_status(Images(S), mask)
    assert status[..., 0].tolist() == [
        [NO_SIGNAL, INVALID],
        [INVALID, OUTSIDE],
    ]
    with pytest.raises(ValueError, match="the mask has shape"):
        input_status(Images(S), mask[:1])


@pytest.mark.parametrize("sigma", [5.0, 30.0])
def test_false_alarms_of_a_poor_fit_are_as_rare_as_stated(sigma):
    """3600 sound voxels: as many are flagged as the rule allows, within five binomial errors."""
    maps = predict(t2_series(sigma), TE, T2_DECAY, "mle", sigma=sigma)
    share = (maps.status == POOR_FIT).mean()
    assert share <= FALSE_ALARM + 5 * np.sqrt(FALSE_ALARM / maps.status.size)
    own = poor_fit(maps.residual, np.array(sigma), np.zeros(maps.status.shape), len(TE), 2)
    assert own.mean() == pytest.approx(FALSE_ALARM, abs=5 * np.sqrt(FALSE_ALARM / own.size))


@pytest.mark.parametrize("T2", [20.0, 50.0])
def test_echoes_in_the_noise_floor_are_no_poor_fit(T2):
    """There a magnitude lies above its signal, by more than sigma."""
    tau, rng = np.arange(10.0, 321.0, 10.0), np.random.default_rng(0)
    signal = T2_DECAY.forward(np.broadcast_to([1000.0, T2], (40, 40, 1, 2)), tau)
    S = np.hypot(*(x + 50.0 * rng.standard_normal(signal.shape) for x in (signal, 0.0)))
    maps = predict(S, tau, T2_DECAY, "mle", sigma=50.0)
    assert maps.rician
    assert (maps.status == POOR_FIT).mean() < 0.01
    S[:, :20] = np.hypot(*(x + 20.0 * rng.standard_normal(S[:, :20].shape) for x in (300.0, 0.0)))
    S[:, :20, :, :8] *= 3.0
    assert (predict(S, tau, T2_DECAY, "mle", sigma=20.0).status[:, :20] == POOR_FIT).mean() > 0.9


def test_a_parameter_that_bounds_hold_is_not_fitted():
    free, held = FitOptions(), FitOptions(bounds={"B": (2.0, 2.0)})
    known = FitOptions(bounds={"B": (2.0, 2.0)}, fix_b=2.0)
    finite = FitOptions(bounds={"e": (0.9, 0.9)}, tr=3000.0)
    counts = [fit.num_fitted(INVERSION_RECOVERY) for fit in (free, held, known, finite)]
    assert counts == [3, 2, 2, 2]


def test_voxels_that_the_model_does_not_describe_are_found():
    S = t2_series(10.0)
    S[:10, :, 0, 3] += 300.0
    status = predict(S, TE, T2_DECAY, "mle", sigma=10.0).status[..., 0]
    assert (status[:10] == POOR_FIT).mean() > 0.99
    assert (status[10:] == OK).mean() > 0.99


def test_misfits_that_nobody_sees_are_no_poor_fit():
    S = t2_series(0.01)
    S[..., 3] *= 1.01
    assert (predict(S, TE, T2_DECAY, "mle", sigma=0.01).status == OK).all()
    S[:4, ..., 3] *= 1.5
    status = predict(S, TE, T2_DECAY, "mle", sigma=0.01).status
    assert (status[:4] == POOR_FIT).all()
    assert (status[4:] == OK).all()


def test_no_degree_of_freedom_no_poor_fit():
    assert not poor_fit(np.array([50.0]), np.array(1.0), np.array([1.0]), 3, 3).any()


def test_agreement_counts_noise_and_size():
    T_fit, std = np.array([1000.0, 1000.0, 1000.0]), np.array([10.0, 10.0, 100.0])
    assert disagreement([1090.0, 1110.0, 1110.0], T_fit, std).tolist() == [False, True, False]
    status = np.array([OK, OK, POOR_FIT])
    assert well_determined(T_fit, np.array([199.0, 201.0, 10.0]), status).tolist() == [1, 0, 0]
    assert not well_determined(T_fit, np.array([0.0, np.inf, np.nan]), status).any()


@pytest.mark.parametrize("sigma", [5.0, 30.0])
def test_false_alarms_of_disagreement(sigma):
    """The truth itself disagrees with the fit as rarely as stated, if at all."""
    fit = predict(t2_series(sigma), TE, T2_DECAY, "mle", sigma=sigma)
    T, std = fit["T2"].astype(float), fit.std[..., 1].astype(float)
    known = well_determined(T, std, fit.status)
    assert known.mean() > 0.9
    differs = disagreement(np.full(T.shape, 80.0), T, std)[known]
    assert differs.mean() <= 3 * FALSE_ALARM + 5 * np.sqrt(FALSE_ALARM / known.sum())


def test_methods_that_disagree_are_told():
    S = t2_series(20.0, (20, 20, 1))
    S[:, :10] *= np.exp(-TE / 40.0 + TE / 80.0)  # the left half has a T2 of 40 ms
    network = flat(1000.0 / series_scale(S), 80.0)
    maps = predict(S, TE, "tes", network=network, sigma=20.0, compare=True, force=True)
    left, right = maps.status[:, :10], maps.status[:, 10:]
    assert np.isin(left, (DISAGREE, POOR_FIT)).mean() > 0.98
    assert (right == OK).mean() > 0.98
    assert maps.comparison.checked > 0.9
    assert maps.comparison.disagree == pytest.approx(0.5, abs=0.05)
    assert "disagree" in str(maps.comparison)


def test_nothing_well_determined_is_said():
    S = t2_series(400.0, (12, 12, 1))
    maps = predict(S, TE, "tes", network=flat(1.0, 80.0), sigma=400.0, compare=True)
    assert maps.comparison.checked < 0.3
    none = replace(maps.comparison, checked=0.0)
    assert "nothing to compare with" in str(none)


def test_shares_are_those_of_the_mask():
    status = np.array([OUTSIDE, OK, OK, UNTRAINED])
    assert shares(status) == {"ok": 2 / 3, "outside the training range": 1 / 3}


def test_fit_that_is_compared_with_itself_is_refused():
    with pytest.raises(ValueError, match="nothing to compare"):
        predict(t2_series(5.0, (4, 4, 1)), TE, "tes", "mle", compare=True)


def test_predicted_series_and_its_residual_belong_together():
    S = t2_series(10.0, (20, 20, 1))
    S[0, 0] = 0
    maps = predict(S, TE, T2_DECAY, "mle", sigma=10.0, save_fit=True)
    residual = np.sqrt(((S - maps.predicted) ** 2).mean(-1)) / 10.0
    np.testing.assert_allclose(maps.residual[1:], residual[1:], rtol=1e-4)
    assert (maps.predicted[0, 0] == 0).all()
    assert predict(S, TE, T2_DECAY, "mle", sigma=10.0).predicted is None
