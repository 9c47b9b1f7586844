import numpy as np
import pytest
from fake_network import FakeNetwork

from relaxnet.fitting.crlb import covariance_with_known, fisher_information, inverse
from relaxnet.fitting.options import FitOptions
from relaxnet.maps.correction import corrected
from relaxnet.maps.status import NO_CORRECTION, OK
from relaxnet.prediction.arrays import predict
from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY
from relaxsim.models.t2_decay import MODEL as T2_DECAY

TAU = np.arange(40.0, 3500.0, 150.0)


def look_locker_signal(T1, flip, step, num, M0=1000.0):
    """Longitudinal magnetisation, read by flips of `flip` degrees after a full inversion."""
    tau, M, out = step, -M0, []
    keep = np.cos(np.deg2rad(flip))
    E = np.exp(-step / T1)
    for _ in range(num):
        M = M0 + (M - M0) * E
        out.append(M)
        M = M * keep
    return np.arange(1, num + 1) * tau, np.array(out)


def test_readout_that_is_simulated_flip_by_flip_gives_back_its_t1():
    tau, M = look_locker_signal(T1=1200.0, flip=8.0, step=30.0, num=120)
    S = np.broadcast_to(np.abs(M), (4, 4, 1, len(tau)))
    apparent = predict(S, tau, "tis", "mle", sigma=1.0)
    maps = predict(S, tau, "tis", "mle", sigma=1.0, look_locker=True)
    assert np.median(apparent["T1"]) < 1000
    assert np.median(maps["T1"]) == pytest.approx(1200, rel=0.02)
    assert maps.corrected
    assert (maps.status == OK).all()
    assert any("`look_locker`" in note for note in apparent.notes)
    assert not any("`look_locker`" in note for note in maps.notes)


def test_standard_deviation_is_that_of_repeats():
    kappa = np.array([1000.0, 2.3, 800.0])
    noise = 15 * np.random.default_rng(0).standard_normal((40, 50, 1, len(TAU)))
    S = INVERSION_RECOVERY.signed(kappa, TAU, np) + noise
    maps = predict(S, TAU, "tis", "mle", sigma=15.0, signed=True, look_locker=True)
    T1 = maps["T1"]
    assert T1.mean() == pytest.approx(800 * 1.3, rel=0.01)
    assert np.median(maps.std[..., 2]) == pytest.approx(T1.std(), rel=0.08)


@pytest.mark.parametrize("share", [1.0, 0.25, 0.05])
@pytest.mark.parametrize(("likelihood", "sigma"), [("gaussian", 0.01), ("rician", 0.2)])
def test_standard_deviation_where_more_is_known_of_b(share, likelihood, sigma):
    """As a penalty or a shared B gives it: the delta method on the whole covariance."""
    kappa = np.array([1.0, 2.3, 800.0])
    F = fisher_information(kappa, TAU, sigma, INVERSION_RECOVERY, likelihood)
    C = covariance_with_known(F, 1, share * inverse(F)[1, 1])
    slope = np.array([0.0, 800.0, 1.3])
    std = np.sqrt(np.diag(C))[None]
    found = corrected(kappa[None], std, TAU, INVERSION_RECOVERY, sigma, likelihood)
    assert found.std[0, 2] == pytest.approx(np.sqrt(slope @ C @ slope), rel=1e-6)


def test_standard_deviation_of_magnitudes_is_that_of_repeats():
    """Rician noise at a low SNR, the case in which its likelihood is the fit's default."""
    tau = np.array([100.0, 180, 260, 1000, 1900, 2800, 3700, 4600])
    rng = np.random.default_rng(1)
    clean = INVERSION_RECOVERY.signed(np.array([1000.0, 1.9, 1400.0]), tau, np)
    noise = 100 * rng.standard_normal((2, 30, 40, 1, len(tau)))
    S = np.hypot(clean + noise[0], noise[1])
    maps = predict(S, tau, "tis", "mle", sigma=100.0, look_locker=True, force=True)
    assert maps.rician
    T1 = maps["T1"]
    quartiles = np.percentile(T1, [25, 75])
    spread = float(np.diff(quartiles)[0]) / 1.349
    assert np.median(maps.std[..., 2]) == pytest.approx(spread, rel=0.2)


def test_b_of_one_or_less_has_no_correction():
    kappa = np.array([[1.0, 1.0, 900.0], [1.0, 0.8, 900.0], [1.0, 1.5, 900.0], [0, 0, 0]])
    std = np.array([[0.1, 0.1, 9.0]] * 2 + [[0.1, np.inf, np.inf]] + [[0, 0, 0]])
    found = corrected(kappa, std, TAU, INVERSION_RECOVERY)
    assert found.refused.tolist() == [True, True, False, False]
    assert found.kappa[:, 2].tolist() == [0, 0, 450, 0]
    assert found.std[:, 2].tolist() == [0, 0, np.inf, 0]
    assert kappa[0, 2] == 900


def test_prediction_flags_voxels_without_correction():
    kappa = np.zeros((6, 6, 1, 3))
    kappa[...] = [1000.0, 2.0, 800.0]
    kappa[:3, ..., 1] = 0.9
    S = INVERSION_RECOVERY.signed(kappa, TAU, np)
    maps = predict(S, TAU, "tis", "mle", sigma=5.0, signed=True, look_locker=True)
    assert (maps.status[:3] == NO_CORRECTION).all()
    assert (maps["T1"][:3] == 0).all()
    assert (maps.status[3:] == OK).all()


class OfB2(FakeNetwork):
    """A network that says B = 2 whatever it sees."""

    model = INVERSION_RECOVERY

    def __call__(self, inputs, training):
        return np.broadcast_to(np.float32([1, 2, 800]), (1, *inputs[0].shape[:3], 3))


def test_networks_are_taken_under_protest():
    S = np.broadcast_to(INVERSION_RECOVERY.forward(np.array([9.0, 2.3, 800]), TAU), (4, 4, 1, 24))
    with pytest.raises(ValueError, match="networks have never seen"):
        predict(S, TAU, "tis", network=OfB2(), sigma=0.1, look_locker=True)
    maps = predict(S, TAU, "tis", network=OfB2(), sigma=0.1, look_locker=True, force=True)
    assert (maps["T1"] == 800).all()
    assert "T1 would come out too short" in maps.warnings[-1]


def test_options_that_do_not_go_together():
    S = T2_DECAY.forward(np.full((2, 2, 1, 2), 80.0), np.array([10.0, 50.0, 90.0]))
    with pytest.raises(ValueError, match="`look_locker` needs inversion times"):
        predict(S, np.array([10.0, 50.0, 90.0]), "tes", "mle", look_locker=True)
    S = np.ones((2, 2, 1, len(TAU)))
    with pytest.raises(ValueError, match="`look_locker` and `tr` exclude each other"):
        predict(S, TAU, "tis", "mle", fit=FitOptions(tr=2000.0), look_locker=True)
