import nibabel as nib
import numpy as np
import pytest
from echo_train import cpmg

from relaxnet.maps.warnings import (
    look_locker_b,
    look_locker_sidecar,
    look_locker_times,
    stimulated_echoes,
)
from relaxnet.prediction.arrays import predict
from relaxnet.series.foreground import automatic_mask
from relaxnet.series.noise import find_noise
from relaxnet.series.scale import series_scale
from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY
from relaxsim.models.protocols import bundled_protocols
from relaxsim.models.t2_decay import MODEL as T2_DECAY

SPACING = 10.0
NUM_VOXELS = 1500


def train(flip, sigma, num=12, T2=(50.0, 120.0), seed=0):
    """Voxels of several T2 with the given refocusing flip and Gaussian noise, (voxels, num)."""
    rng = np.random.default_rng(seed)
    signals = np.stack([cpmg(flip, 1000.0, t, SPACING, num) for t in np.linspace(*T2, 8)])
    S = 1000.0 * signals[rng.integers(0, 8, NUM_VOXELS)]
    return np.abs(S + sigma * rng.standard_normal(S.shape))


def warned(S, sigma, tau=None):
    tau = SPACING * np.arange(1, S.shape[1] + 1) if tau is None else tau
    return stimulated_echoes(S, tau, np.ones(len(S), bool), sigma, T2_DECAY)


def test_perfect_refocusing_gives_pure_decay():
    n = np.arange(1, 9)
    np.testing.assert_allclose(cpmg(180, 800, 70, 10, 8), np.exp(-10 * n / 70), rtol=1e-12)


@pytest.mark.parametrize("num", [4, 6, 12, 32])
@pytest.mark.parametrize("sigma", [2.0, 25.0])
@pytest.mark.parametrize("flip", [120, 140])
def test_imperfect_refocusing_is_told(flip, sigma, num):
    sentence = warned(train(flip, sigma, num), sigma)
    assert "the first echo is" in sentence
    assert "--skip-first 1" in sentence


def test_alternating_echoes_are_told():
    assert "the echoes alternate" in warned(train(100, 2.0), 2.0)


@pytest.mark.parametrize("num", [4, 6, 12, 32])
@pytest.mark.parametrize("sigma", [2.0, 10.0, 50.0, 200.0])
def test_pure_decay_is_not_told(sigma, num):
    assert all(warned(train(180, sigma, num, seed=s), sigma) is None for s in range(5))


def test_several_t2_in_a_voxel_are_not_told():
    n = SPACING * np.arange(1, 13)
    S = 600 * np.exp(-n / 25) + 400 * np.exp(-n / 250) + 30.0
    noise = 5 * np.random.default_rng(0).standard_normal((NUM_VOXELS, 12))
    assert warned(S + noise, 5.0) is None


def test_other_series_are_not_looked_at():
    S = train(120, 2.0)
    assert warned(S[:, :3], 2.0) is None
    assert (
        warned(S, 2.0, np.array([10, 25, 50, 90, 150, 250, 300, 350, 400, 450, 500, 550.0])) is None
    )
    assert warned(S[:, 1:], 2.0, SPACING * np.arange(2, 13)) is None
    assert warned(S[:10], 2.0) is None
    tau, every = SPACING * np.arange(1, 13), np.ones(len(S), bool)
    assert stimulated_echoes(S, tau, every, 2.0, INVERSION_RECOVERY) is None
    S[:, 3] = np.nan
    assert warned(S, 2.0) is None


def test_prediction_warns():
    S = train(120, 5.0, 8).reshape(50, 30, 1, 8)
    maps = predict(S, SPACING * np.arange(1, 9), "tes", "mle", sigma=5.0)
    assert "stimulated echoes" in maps.warnings[0]
    later = predict(S[..., 1:], SPACING * np.arange(2, 9), "tes", "mle", sigma=5.0)
    assert later.warnings == ()


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "times", "expected"),
    [
        ("nist_3t/T2_plate4", "nist_3t/T2_plate4", True),
        ("nist_3t/T2_plate5", "nist_3t/T2_plate5", True),
        ("brain_t1t2/t2_series", "brain_t1t2/tes", False),
    ],
)
def test_real_series(data_dir, name, times, expected):
    S = nib.load(data_dir / f"{name}.nii.gz").get_fdata(dtype=np.float32)
    tau = np.loadtxt(data_dir / f"{times}.txt")
    mask = automatic_mask(S) & S.any(axis=-1)
    sigma = find_noise(S, tau, T2_DECAY, mask, series_scale(S, mask)).sigma
    assert (stimulated_echoes(S, tau, mask, float(sigma), T2_DECAY) is not None) == expected


def test_a_train_of_readouts_is_told_by_its_times():
    cine = np.loadtxt(bundled_protocols()["cine31"])
    assert "even steps of 27 ms" in look_locker_times(cine, INVERSION_RECOVERY)
    assert look_locker_times(np.arange(10.0, 200, 10), T2_DECAY) is None
    apart = np.array([350.0, 500, 650, 800, 950, 1100, 1250, 1400, 1700])
    for tau in (apart, np.geomspace(50, 3000, 12), np.arange(200.0, 3000, 200)):
        assert look_locker_times(tau, INVERSION_RECOVERY) is None


def test_b_above_two_tells_of_look_locker():
    B, std, sound = np.full(100, 2.2), np.full(100, 0.03), np.ones(100, bool)
    assert "B has a median of 2.20" in look_locker_b(B, std, sound)
    assert look_locker_b(B - 0.25, std, sound) is None
    assert look_locker_b(B, std * 10, sound) is None
    assert look_locker_b(B, std, ~sound) is None
    assert look_locker_b(B, None, sound) is None


def test_sidecar_names_the_sequence():
    assert "SequenceName 'MOLLI_5'" in look_locker_sidecar({"SequenceName": "MOLLI_5"})
    assert "apparent T1" in look_locker_sidecar({"SeriesDescription": "Look-Locker 3D"})
    assert look_locker_sidecar({"SequenceName": "tir2d1_15", "EchoTime": 0.01}) is None
    assert look_locker_sidecar({}) is None
