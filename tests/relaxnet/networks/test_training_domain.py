import numpy as np
import pytest
from fake_network import FakeNetwork

from relaxnet.maps.status import OK, UNTRAINED
from relaxnet.networks.registry import read_card, shipped_models
from relaxnet.networks.training_domain import Envelope, check_series, envelope_of, outside_training
from relaxnet.prediction.arrays import predict
from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY
from relaxsim.models.protocols import bundled_protocols
from relaxsim.models.registry import MODELS
from relaxsim.models.t2_decay import MODEL as T2_DECAY

TRAINED = Envelope(
    INVERSION_RECOVERY,
    (4, 40),
    ((20.0, 5000.0),),
    (0.00375, 0.25),
    {"T1": (50.0, 5000.0)},
    ("random",),
)
CINE31 = np.loadtxt(bundled_protocols()["cine31"])
CARD = {
    "envelope": {"num_images": [3, 40], "tau_ms": [5, 500], "sigma": [0.004, 0.25]},
    "tissues": ["wide"],
    "protocols": ["random"],
}


def times(num, first, last):
    return np.linspace(first, last, num)


@pytest.mark.parametrize(
    ("tau", "sigma", "warnings", "refusals"),
    [
        (times(9, 350, 1700), 0.02, 0, 0),
        (times(9, 0, 4900), 0.02, 0, 0),
        (times(9, 350, 6000), 0.02, 1, 0),
        (times(9, 350, 11_000), 0.02, 0, 1),
        (times(3, 350, 1700), 0.02, 1, 0),
        (times(60, 350, 1700), 0.02, 1, 0),
        (times(9, 350, 1700), 0.4, 1, 0),
        (times(9, 350, 1700), 0.6, 0, 1),
        (times(9, 350, 1700), 1e-4, 1, 0),
        (times(60, 350, 7000), 0.4, 3, 0),
    ],
)
def test_outside_is_warned_of_and_far_outside_refused(tau, sigma, warnings, refusals):
    verdict = check_series(TRAINED, tau, sigma)
    assert (len(verdict.warnings), len(verdict.refusals)) == (warnings, refusals)


def test_network_of_one_protocol_sees_that_others_are_none():
    own = Envelope(
        INVERSION_RECOVERY,
        (31, 31),
        ((139.0, 937.0),),
        (0.0065, 0.255),
        {"T1": (100.0, 4500.0)},
        ("cine31",),
    )
    assert check_series(own, CINE31, 0.05) == check_series(TRAINED, CINE31, 0.05)
    other = check_series(own, times(31, 139, 937) + 3.0 * (np.arange(31) % 2), 0.05)
    assert "other inversion times than those of cine31" in other.warnings[0]
    assert "9 images, trained for 31" in check_series(own, times(9, 350, 900), 0.05).refusals[0]
    early = check_series(own, times(31, 50, 900), 0.05)
    assert "trained for 139 to 937 ms" in early.refusals[0]


@pytest.mark.parametrize("name", sorted(shipped_models()))
def test_shipped_networks_take_their_own_protocols(name):
    card = read_card(shipped_models()[name])
    model = MODELS[card["signal_model"]]
    envelope = envelope_of(card, model)
    assert envelope is not None
    low, high = envelope.parameters[model.parameters[-1]]
    assert 0 < low < high
    for protocol in set(card["protocols"]) & set(bundled_protocols()):
        verdict = check_series(envelope, np.loadtxt(bundled_protocols()[protocol]), 0.03)
        assert not verdict.warnings
        assert not verdict.refusals


def test_range_of_times_is_the_cards_or_the_tissues():
    assert envelope_of(CARD, T2_DECAY).parameters == {"T2": (5.0, 3000.0)}
    assert envelope_of({**CARD, "tissues": ["paper"]}, T2_DECAY).parameters == {
        "T2": (15.0, 3000.0)
    }
    both = envelope_of({**CARD, "tissues": ["paper", "wide"]}, T2_DECAY)
    assert both.parameters == {"T2": (5.0, 3000.0)}
    assert envelope_of({**CARD, "tissues": ["mine"]}, T2_DECAY).parameters == {
        "T2": T2_DECAY.bounds[-1]
    }
    stated = {**CARD, "envelope": {**CARD["envelope"], "T_ms": [20, 900], "B": [1.2, 2]}}
    assert envelope_of(stated, T2_DECAY).parameters == {"T2": (20.0, 900.0)}
    assert envelope_of(stated, INVERSION_RECOVERY).parameters == {
        "B": (1.2, 2.0),
        "T1": (20.0, 900.0),
    }
    assert envelope_of({}, T2_DECAY) is None


@pytest.mark.parametrize(
    "envelope", [{"num_images": [3]}, {**CARD["envelope"], "tau_ms": [9, 5]}, {"sigma": 1}, [1]]
)
def test_cards_that_state_no_ranges_are_refused(envelope):
    with pytest.raises(ValueError, match="not made of ranges"):
        envelope_of({"envelope": envelope}, T2_DECAY)


def test_estimates_outside_the_range_are_found():
    kappa = np.array([[1.0, 2.0, 40.0], [1.0, 2.0, 50.0], [1.0, 2.0, 5001.0]])
    assert outside_training(TRAINED, kappa, INVERSION_RECOVERY).tolist() == [True, False, True]


class Ramp(FakeNetwork):
    """A network that says T2 = 1 ... 100 ms from left to right, whatever it sees."""

    model = T2_DECAY

    def __call__(self, inputs, training):
        kappa = np.ones((*inputs[0].shape[:3], 2), np.float32)
        kappa[..., 1] = np.linspace(1, 100, kappa.shape[2])
        return kappa[None]


def test_prediction_flags_warns_and_refuses():
    TE = np.array([10.0, 40.0, 90.0, 200.0])
    S = np.broadcast_to(T2_DECAY.forward(np.array([9.0, 60.0]), TE), (3, 30, 1, 4))
    options = {"network": Ramp(), "sigma": 5.0, "force": True}
    trained = envelope_of({**CARD, "envelope": {**CARD["envelope"], "T_ms": [30, 90]}}, T2_DECAY)
    maps = predict(S, TE, "tes", envelope=trained, **options)
    outside = (maps["T2"] < 30) | (maps["T2"] > 90)
    np.testing.assert_array_equal(maps.status == UNTRAINED, outside)
    assert (maps.status == OK).any()
    assert "an SNR of about" in maps.warnings[0]
    assert predict(S, TE, "tes", **options).warnings == ()
    with pytest.raises(ValueError, match=r"far outside of what .* was trained for.*`force`"):
        predict(S, TE, "tes", envelope=trained, **{**options, "force": False})
