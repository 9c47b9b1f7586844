"""Look-Locker readouts: mapped as their own sequence, and said where they are not."""

import numpy as np
import pytest

from relaxnet.fitting.options import FitOptions
from relaxnet.maps.status import AT_BOUND, OK
from relaxnet.prediction.arrays import predict
from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY
from relaxsim.models.look_locker import MODEL as LOOK_LOCKER
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
    maps = predict(S, tau, "look-locker", "mle", sigma=1.0)
    assert np.median(apparent["T1"]) < 1000
    assert np.median(maps["T1"]) == pytest.approx(1200, rel=0.02)
    named = maps.named()
    np.testing.assert_allclose(named["T1starmap"][0], apparent["T1"], rtol=1e-3)
    assert "T1starstd" not in named
    assert (maps.status == OK).all()
    assert any("`sequence` look-locker" in note for note in apparent.notes)
    assert not any("look-locker" in note for note in maps.notes)


def test_the_flag_stands_for_the_sequence():
    S = np.abs(INVERSION_RECOVERY.signed(np.array([1000.0, 2.3, 800.0]), TAU, np))
    S = np.broadcast_to(S, (3, 3, 1, len(TAU)))
    by_flag = predict(S, TAU, "tis", "mle", sigma=5.0, look_locker=True)
    by_name = predict(S, TAU, "look-locker", "mle", sigma=5.0)
    assert by_flag.model is by_name.model is LOOK_LOCKER
    np.testing.assert_array_equal(by_flag.kappa, by_name.kappa)
    assert np.median(by_flag["T1"]) == pytest.approx(800 * 1.3, rel=1e-3)


def test_standard_deviation_is_that_of_repeats():
    kappa = np.array([1000.0, 2.3, 800.0])
    noise = 15 * np.random.default_rng(0).standard_normal((40, 50, 1, len(TAU)))
    S = INVERSION_RECOVERY.signed(kappa, TAU, np) + noise
    maps = predict(S, TAU, "look-locker", "mle", sigma=15.0, signed=True)
    T1 = maps["T1"]
    assert T1.mean() == pytest.approx(800 * 1.3, rel=0.01)
    assert np.median(maps.std[..., 2]) == pytest.approx(T1.std(), rel=0.08)


def test_standard_deviation_of_magnitudes_is_that_of_repeats():
    """Rician noise at a low SNR, the case in which its likelihood is the fit's default."""
    tau = np.array([100.0, 180, 260, 1000, 1900, 2800, 3700, 4600])
    rng = np.random.default_rng(1)
    clean = INVERSION_RECOVERY.signed(np.array([1000.0, 1.9, 1400.0]), tau, np)
    noise = 100 * rng.standard_normal((2, 30, 40, 1, len(tau)))
    S = np.hypot(clean + noise[0], noise[1])
    maps = predict(S, tau, "look-locker", "mle", sigma=100.0, force=True)
    assert maps.rician
    quartiles = np.percentile(maps["T1"], [25, 75])
    spread = float(np.diff(quartiles)[0]) / 1.349
    assert np.median(maps.std[..., 2]) == pytest.approx(spread, rel=0.2)


def test_b_of_one_or_less_is_no_such_readout():
    kappa = np.zeros((6, 6, 1, 3))
    kappa[...] = [1000.0, 2.0, 800.0]
    kappa[:3, ..., 1] = 0.9
    S = INVERSION_RECOVERY.signed(kappa, TAU, np)
    maps = predict(S, TAU, "look-locker", "mle", sigma=5.0, signed=True)
    assert (maps.status[:3] == AT_BOUND).all()
    assert (maps.status[3:] == OK).all()


def test_options_that_do_not_go_together():
    S = T2_DECAY.forward(np.full((2, 2, 1, 2), 80.0), np.array([10.0, 50.0, 90.0]))
    with pytest.raises(ValueError, match="`look_locker` needs inversion times"):
        predict(S, np.array([10.0, 50.0, 90.0]), "tes", "mle", look_locker=True)
    with pytest.raises(TypeError, match="no argument 'cine'"):
        predict(S, np.array([10.0, 50.0, 90.0]), "tes", "mle", cine=True)
    S = np.ones((2, 2, 1, len(TAU)))
    with pytest.raises(ValueError, match="does not go with look_locker"):
        predict(S, TAU, "look-locker", "mle", fit=FitOptions(tr=2000.0))
