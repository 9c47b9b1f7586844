import json

import numpy as np
import pytest
from small_series import series, write

from relaxnet.io.inputs import load_series
from relaxnet.series.phase_check import phase_by_name, phase_by_values
from relaxsim.core.nifti_reader import NiftiError


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize(
    "name",
    [
        "sub-01_inv-1_part-phase_IRT1.nii.gz",
        "part-phase_MESE.nii",
        "sub-1_part-imag_MESE.nii.gz",
        "8_ir_imaginary.nii.gz",
        "8_ir_imaginarya.nii",
    ],
)
def test_names_of_phase(name, tmp_path):
    assert phase_by_name(tmp_path / name)


@pytest.mark.parametrize(
    "name",
    [
        "sub-01_part-mag_IRT1.nii.gz",
        "phase.nii",
        "part-phaseless.nii",
        "imaging.nii",
        "8_ir_real.nii",
    ],
)
def test_names_of_others(name, tmp_path):
    assert not phase_by_name(tmp_path / name)


@pytest.mark.parametrize(
    ("kinds", "phase"),
    [
        (["ORIGINAL", "PRIMARY", "P", "ND"], True),
        (["ORIGINAL", "PRIMARY", "PHASE MAP", "FFE"], True),
        (["ORIGINAL", "PRIMARY", "I", "ND"], True),
        (["DERIVED", "PRIMARY", "IMAGINARY"], True),
        ("ORIGINAL\\PRIMARY\\I_SE", True),
        (["ORIGINAL", "PRIMARY", "M", "ND"], False),
        (["DERIVED", "PRIMARY", "R_IR", "IR"], False),
        ("P", False),
        ([1, None], False),
    ],
)
def test_sidecars(kinds, phase, tmp_path):
    (tmp_path / "s.json").write_text(json.dumps({"ImageType": kinds}))
    assert bool(phase_by_name(tmp_path / "s.nii.gz")) == phase


@pytest.mark.parametrize("text", ["{", "[]", "null", "[" * 50_000, "\x00"])
def test_damaged_sidecars_say_nothing(text, tmp_path):
    (tmp_path / "s.json").write_text(text)
    assert phase_by_name(tmp_path / "s.nii") == ""


def wrapped(rng, share=0.4):
    """Phase of an object, smooth, amid that of noise."""
    x, y = np.meshgrid(np.linspace(-3, 3, 64), np.linspace(-3, 3, 64))
    phase = np.angle(np.exp(1j * (2 * x + y**2)))
    noise = rng.uniform(-np.pi, np.pi, (64, 64))
    return np.where(x**2 + y**2 < 9 * share, phase, noise)


@pytest.mark.parametrize("masked", [False, True])
def test_values_of_phase(rng, masked):
    phase = wrapped(rng)
    if masked:
        phase[:20] = 0
    assert phase_by_values(phase.astype(np.float32))
    if not masked:
        assert phase_by_values(np.round((phase + np.pi) / (2 * np.pi) * 4095))
    assert phase_by_values(np.round(phase / np.pi * 2048) * 2)
    phase[3, 3] = np.nan
    assert phase_by_values(phase)


def test_values_of_others(rng):
    S = series((40, 40, 1), sigma=20.0)[0][..., 0]
    assert not phase_by_values(S)
    assert not phase_by_values(np.minimum(np.round(S / S.max() * 5000), 4095))  # clipped
    assert not phase_by_values(rng.normal(size=(64, 64)))
    assert not phase_by_values(np.clip(rng.normal(size=(64, 64)), -1, 1) * np.pi)
    assert not phase_by_values(rng.uniform(0, 3, (64, 64)))
    assert not phase_by_values(np.full((5, 5), np.nan))
    assert not phase_by_values(np.zeros((0,)))


def test_series_with_phase_are_refused(tmp_path, rng):
    S = series()[0]
    good = [write(tmp_path / f"{n}.nii", S[..., n]) for n in range(2)]
    named = write(tmp_path / "sub-1_part-phase_IRT1.nii", S[..., 2])
    with pytest.raises(NiftiError, match="part-phase in its name"):
        load_series([*good, named])
    (tmp_path / "1.json").write_text('{"ImageType": ["ORIGINAL", "P"]}')
    with pytest.raises(NiftiError, match=r"1.nii is a phase image \(ImageType P in 1.json\)"):
        load_series(good)
    both = np.stack([rng.uniform(0, 900, (64, 64)), wrapped(rng)], -1)[:, :, None]
    with pytest.raises(NiftiError, match=r"is a phase image .* equally frequent"):
        load_series([write(tmp_path / "both.nii", both)])


@pytest.mark.data
def test_real_series_are_no_phase(data_dir):
    for path in [*data_dir.glob("brain_*/*series.nii.gz"), *data_dir.glob("nist_3t/*.nii.gz")]:
        assert load_series([path]).data.shape[3] > 1
