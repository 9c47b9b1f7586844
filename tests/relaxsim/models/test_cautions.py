import numpy as np
import pytest
from echo_train import cpmg, train

from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY
from relaxsim.models.protocols import bundled_protocols
from relaxsim.models.t2_decay import MODEL as T2_DECAY

SPACING = 10.0
NUM_VOXELS = 1500
ECHOES = T2_DECAY.border.caution.of_series
RECOVERY = INVERSION_RECOVERY.border.caution


def warned(S, sigma, tau=None):
    tau = SPACING * np.arange(1, S.shape[1] + 1) if tau is None else tau
    return ECHOES(S, tau[:, None], np.ones(len(S), bool), sigma)


def test_perfect_refocusing_gives_pure_decay():
    n = np.arange(1, 9)
    np.testing.assert_allclose(cpmg(180, 800, 70, 10, 8), np.exp(-10 * n / 70), rtol=1e-12)


@pytest.mark.parametrize("num", [4, 6, 12, 32])
@pytest.mark.parametrize("sigma", [2.0, 25.0])
@pytest.mark.parametrize("flip", [120, 140])
def test_imperfect_refocusing_is_found(flip, sigma, num):
    sentence = warned(train(flip, sigma, num), sigma)
    assert "the first echo is" in sentence
    assert "`skip_first` 1" in sentence


def test_alternating_echoes_are_found():
    assert "the echoes alternate" in warned(train(100, 2.0), 2.0)


@pytest.mark.parametrize("num", [4, 6, 12, 32])
@pytest.mark.parametrize("sigma", [2.0, 10.0, 50.0, 200.0])
def test_pure_decay_is_not_warned_of(sigma, num):
    assert all(warned(train(180, sigma, num, seed=s), sigma) is None for s in range(5))


def test_several_t2_in_a_voxel_are_not_warned_of():
    n = SPACING * np.arange(1, 13)
    S = 600 * np.exp(-n / 25) + 400 * np.exp(-n / 250) + 30.0
    noise = 5 * np.random.default_rng(0).standard_normal((NUM_VOXELS, 12))
    assert warned(S + noise, 5.0) is None


def test_other_series_have_no_such_check():
    S = train(120, 2.0)
    assert warned(S[:, :3], 2.0) is None
    assert (
        warned(S, 2.0, np.array([10, 25, 50, 90, 150, 250, 300, 350, 400, 450, 500, 550.0])) is None
    )
    assert warned(S[:, 1:], 2.0, SPACING * np.arange(2, 13)) is None
    assert warned(S[:10], 2.0) is None
    assert RECOVERY.of_series is None
    S[:, 3] = np.nan
    assert warned(S, 2.0) is None


def test_a_train_of_readouts_is_recognised_by_its_times():
    cine = np.loadtxt(bundled_protocols()["cine31"])
    assert "even steps of 27 ms" in RECOVERY.of_protocol(cine[:, None])
    assert T2_DECAY.border.caution.of_protocol(np.array([[10.0], [20.0], [40.0], [80.0]])) is None
    single = np.array([350.0, 500, 650, 800, 950, 1100, 1250, 1400, 1700])
    for tau in (single, np.geomspace(50, 3000, 12), np.arange(200.0, 3000, 200)):
        assert RECOVERY.of_protocol(tau[:, None]) is None


def test_b_above_two_is_a_look_locker_readout():
    B, std, sound = np.full(100, 2.2), np.full(100, 0.03), np.ones(100, bool)

    def look_locker_b(B, std, sound):
        kappa = np.stack([np.ones(100), B, np.full(100, 900.0)], axis=-1)
        return RECOVERY.of_estimate(kappa, None if std is None else std[:, None] + 0 * kappa, sound)

    assert "B has a median of 2.20" in look_locker_b(B, std, sound)
    assert look_locker_b(B - 0.25, std, sound) is None
    assert look_locker_b(B, std * 10, sound) is None
    assert look_locker_b(B, std, ~sound) is None
    assert look_locker_b(B, None, sound) is None


def test_sidecar_names_the_sequence():
    assert "SequenceName 'MOLLI_5'" in RECOVERY.of_sidecar({"SequenceName": "MOLLI_5"})
    assert "apparent T1" in RECOVERY.of_sidecar({"SeriesDescription": "Look-Locker 3D"})
    assert RECOVERY.of_sidecar({"SequenceName": "tir2d1_15", "EchoTime": 0.01}) is None
    assert RECOVERY.of_sidecar({}) is None
