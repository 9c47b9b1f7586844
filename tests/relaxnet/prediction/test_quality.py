import nibabel as nib
import numpy as np
import pytest
from echo_train import train

from relaxnet.fitting.inputs import Measurement
from relaxnet.prediction.arrays import predict
from relaxnet.prediction.inspection import inspect
from relaxnet.prediction.quality import series_caution
from relaxnet.series.foreground import automatic_mask
from relaxnet.series.images import Images
from relaxsim.models.t2_decay import MODEL as T2_DECAY

SPACING = 10.0


def test_prediction_warns():
    S = train(120, 5.0, 8).reshape(50, 30, 1, 8)
    maps = predict(S, SPACING * np.arange(1, 9), "tes", "mle", sigma=5.0)
    assert "stimulated echoes" in maps.warnings[0]
    later = predict(S[..., 1:], SPACING * np.arange(2, 9), "tes", "mle", sigma=5.0)
    assert not any("suggest" in w or "first echo is" in w for w in later.warnings)
    assert "exceed the noise" in later.warnings[0]
    assert "without its first echo" in later.notes[0]


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
    found = inspect(Measurement(S, tau[:, None], T2_DECAY, mask=mask), Images(S))
    assert (series_caution(found) is not None) == expected
