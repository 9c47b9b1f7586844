"""`relaxnet predict` for signal models that only tests have: options by their borders."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner
from toy_models import add_toys, remove_toys

from relaxnet.cli.group import main
from relaxnet.prediction.files import predict_files
from relaxsim.models.registry import signal_model

TIMES = np.array([100.0, 300.0, 700.0, 1500.0, 4000.0])
TABLE = np.array([[30.0, 200.0], [60.0, 200.0], [60.0, 600.0], [60.0, 1500.0], [40.0, 3000.0]])


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    added = add_toys(monkeypatch)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    remove_toys(added)


def save(name, values):
    nib.save(nib.Nifti1Image(values.astype(np.float32), np.diag([1.0, 1.0, 3.0, 1.0])), name)


def kappa_of(shape=(6, 5, 2)):
    kappa = np.zeros((*shape, 2))
    kappa[..., 0] = 300.0
    kappa[..., 1] = np.linspace(400, 1600, int(np.prod(shape))).reshape(shape)
    return kappa


def call(*arguments):
    return CliRunner().invoke(main, ["predict", *arguments])


def test_help_lists_the_options_of_all_models():
    text = call("--help").output
    for option in ("--tis", "--tes", "--tss", "--angles", "--waits", "--b1", "--look-locker"):
        assert f"  {option} " in text
    assert "sr (saturation" in " ".join(text.split())


def test_list_of_times(folder):
    model = signal_model("saturation_recovery")
    save("series.nii", model.forward(kappa_of(), TIMES))
    np.savetxt("times.txt", TIMES)
    fitted = ("--method", "mle", "--mask", "none", "--sigma", "1")
    result = call("series.nii", "--tss", "times.txt", *fitted)
    assert result.exit_code == 0, result.output
    found = nib.load("maps/T1smap.nii.gz").get_fdata()
    np.testing.assert_allclose(found, kappa_of()[..., 1], rtol=1e-3)
    card = json.loads((folder / "maps/T1smap.json").read_text())
    assert card["SaturationTimesMs"] == TIMES.tolist()
    assert (card["Sequence"], card["Units"]) == ("sr", "ms")
    result = call("series.nii", "--tss", "times.txt", "--look-locker", *fitted, "--out", "b")
    assert "Look-Locker readout, which takes --tis" in result.output


def test_two_columns_and_a_known_map(folder):
    model, kappa = signal_model("spoiled_echo"), kappa_of()
    B1 = 1.0 + 0.2 * np.linspace(-1, 1, 60).reshape(6, 5, 2)
    save("series.nii", model.forward(kappa, TABLE, np, B1[..., None]))
    save("b1.nii", B1)
    save("percent.nii", 100 * B1)
    np.savetxt("angles.txt", TABLE[:, 0])
    np.savetxt("waits.txt", TABLE[:, 1])
    given = ("series.nii", "--angles", "angles.txt", "--waits", "waits.txt")
    fitted = ("--method", "mle", "--mask", "none", "--sigma", "1")
    result = call(*given, *fitted, "--b1", "b1.nii")
    assert result.exit_code == 0, result.output
    found = nib.load("maps/T1vmap.nii.gz").get_fdata()
    np.testing.assert_allclose(found, kappa[..., 1], rtol=5e-3)
    card = json.loads((folder / "maps/T1vmap.json").read_text())
    assert card["ReadoutAnglesDegrees"] == TABLE[:, 0].tolist()
    assert card["RecoveryTimesMs"] == TABLE[:, 1].tolist()
    assert card["KnownMaps"] == {"b1": str(folder / "b1.nii")}
    result = call(*given, *fitted, "--out", "plain")
    assert "warning: no relative transmit field is given (--b1)" in result.output
    result = call(*given, *fitted, "--out", "c", "--b1", "percent.nii")
    assert result.exit_code == 2
    assert "--b1 has a median of" in result.output
    assert "divide per cent by 100" in result.output
    result = call("series.nii", "--tss", "waits.txt", *fitted, "--out", "c", "--b1", "b1.nii")
    assert "--b1 does not belong to saturation recovery" in result.output
    result = call("series.nii", "--sequence", "se", "--angles", "angles.txt", *fitted, "--out", "c")
    assert "spoiled echo needs repetition times: give --waits" in result.output


def test_arrays_and_lists_for_each_slice_by_keyword():
    model, kappa = signal_model("saturation_recovery"), kappa_of()
    lists = np.stack([TIMES, 1.3 * TIMES])
    S = np.stack([model.forward(kappa[:, :, z], lists[z]) for z in range(2)], axis=2)
    save("series.nii", S)
    options = {"method": "mle", "mask": "none", "sigma": 1.0}
    maps = predict_files("series.nii", "a", tss=lists, **options)
    np.testing.assert_allclose(maps.kappa, kappa, rtol=1e-3)
    card = json.loads(Path("a/T1smap.json").read_text())
    assert card["SaturationTimesMs"] == lists.tolist()
    np.testing.assert_array_equal(
        predict_files("series.nii", "b", tss=lists, sequence="sr", **options).kappa, maps.kappa
    )
