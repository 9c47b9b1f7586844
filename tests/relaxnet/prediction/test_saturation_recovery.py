"""Saturation recovery is the model of inversion recovery with B near 1."""

import nibabel as nib
import numpy as np
import pytest

from relaxnet.fitting.options import FitOptions
from relaxnet.maps.status import OK
from relaxnet.prediction.arrays import predict
from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY

TIMES = np.array([100.0, 300, 700, 1200, 2000, 3500, 6000])


@pytest.mark.parametrize("B", [1.0, 0.9])
def test_t1_with_b_free(B):
    rng = np.random.default_rng(0)
    S = INVERSION_RECOVERY.signed(np.array([1000.0, B, 900.0]), TIMES, np)
    S = S + 5.0 * rng.standard_normal((30, 30, 1, len(TIMES)))
    maps = predict(np.abs(S), TIMES, "ir", "mle", sigma=5.0)
    assert np.median(maps["T1"]) == pytest.approx(900, rel=0.01)
    assert np.median(maps["B"]) == pytest.approx(B, abs=0.01)
    spread = np.diff(np.percentile(maps["T1"], [16, 84]))[0] / 2
    assert np.median(maps.std[..., 2]) == pytest.approx(spread, rel=0.15)


def test_a_known_saturation_makes_t1_more_precise():
    rng = np.random.default_rng(0)
    S = INVERSION_RECOVERY.signed(np.array([1000.0, 1.0, 900.0]), TIMES, np)
    S = S + 20.0 * rng.standard_normal((30, 30, 1, len(TIMES)))
    free = predict(S, TIMES, "ir", "mle", sigma=20.0)
    fixed = predict(S, TIMES, "ir", "mle", sigma=20.0, fit=FitOptions(fix_b=1.0))
    assert np.median(fixed["T1"]) == pytest.approx(900, rel=0.01)
    assert fixed["T1"].std() < 0.9 * free["T1"].std()


@pytest.mark.data
def test_repetition_times_of_a_lemon(data_dir):
    folder = data_dir / "lemon_vtr11"
    S = nib.load(folder / "series.nii.gz").get_fdata(dtype=np.float32)
    mask = nib.load(folder / "mask.nii.gz").get_fdata() > 0
    maps = predict(S, np.loadtxt(folder / "times.txt"), "ir", "mle", mask=mask)
    ok = maps.status == OK
    assert ok[mask].mean() > 0.97
    assert np.median(maps["B"][ok]) == pytest.approx(0.988, abs=0.01)
    assert np.median(maps["T1"][ok]) == pytest.approx(2498, rel=0.02)
