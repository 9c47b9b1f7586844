"""Echo trains by command: what is said, which model is taken, and the maps."""

import json
import re

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner

from relaxnet.cli.group import main
from relaxnet.prediction.arrays import predict
from relaxsim.models.registry import model_of
from relaxsim.models.slice_profiles import NAMES

MODEL = model_of("mese")
TES = 10.0 * np.arange(1, 17)


def protocol(profile="none", refocusing=180.0):
    others = [refocusing, 90.0, 1000.0, float(NAMES.index(profile))]
    return np.column_stack([TES, np.tile(others, (len(TES), 1))])


def truth(shape=(16, 16, 1)):
    """Kappa of four T2 in squares, B1 falling to one side."""
    T2 = np.full(shape, 60.0)
    T2[8:, :8], T2[8:, 8:], T2[:8, 8:] = 90.0, 120.0, 180.0
    B1 = np.broadcast_to(np.linspace(0.95, 0.7, shape[1])[None, :, None], shape)
    return np.stack([np.full(shape, 1000.0), B1, T2], axis=-1)


def series(profile="none", sigma=8.0, seed=0):
    kappa = truth()
    noise = np.random.default_rng(seed).standard_normal((2, *kappa.shape[:-1], len(TES)))
    return kappa, np.hypot(
        MODEL.forward(kappa, protocol(profile)) + sigma * noise[0], sigma * noise[1]
    )


def run(*arguments):
    found = CliRunner().invoke(main, [str(a) for a in arguments])
    assert found.exit_code == 0, found.output
    return " ".join(found.output.split())


@pytest.fixture
def files(tmp_path):
    """A series, its times and the true B1."""
    kappa, S = series()
    for name, values in (("s", S), ("b1", kappa[..., 1])):
        nib.save(nib.Nifti1Image(values.astype(np.float32), np.eye(4)), tmp_path / f"{name}.nii.gz")
    np.savetxt(tmp_path / "tes.txt", TES)
    return tmp_path


def test_t2_says_what_mese_would_give():
    kappa, S = series()
    maps = predict(S, TES, "t2", "mle", sigma=8.0)
    (warning,) = [w for w in maps.warnings if "`sequence` mese" in w]
    said = float(re.search(r"`sequence` mese models them: T2 is (\d+) % shorter there", warning)[1])
    by_train = predict(S, protocol(), MODEL, "mle", sigma=8.0)
    change = 100 * (1 - np.median(by_train["T2"] / maps["T2"]))
    assert said == pytest.approx(change, abs=1.5)
    assert abs(np.median(by_train["T2"] / kappa[..., 2]) - 1) < 0.02


def test_another_profile_that_fits_better_is_named():
    _, S = series("sinc", sigma=2.0)
    maps = predict(S, protocol("none"), MODEL, "mle", sigma=2.0)
    assert any("With `slice_profile` sinc they are 0." in w for w in maps.warnings)
    right = predict(S, protocol("sinc"), MODEL, "mle", sigma=2.0)
    assert not any("slice_profile" in w for w in right.warnings)


def test_what_is_assumed_is_said_once(files):
    command = ["predict", files / "s.nii.gz", "--tes", files / "tes.txt", "--sequence", "mese"]
    command += ["--method", "mle", "--mask", "none"]
    said = run(*command, "--out", files / "a")
    assert "--refocusing 180 and --slice-profile none are assumed" in said
    said = run(*command, "--out", files / "b", "--refocusing", 180, "--slice-profile", "none")
    assert "are assumed" not in said
    card = json.loads((files / "b/T2map.json").read_text())
    assert set(card["Refocusing"]) == {180}
    assert card["SliceProfile"] == "none"


def test_a_measured_transmit_field_is_taken(files):
    kappa = truth()
    command = ["predict", files / "s.nii.gz", "--tes", files / "tes.txt", "--sequence", "mese"]
    command += ["--method", "mle", "--mask", "none"]
    run(*command, "--out", files / "free")
    run(*command, "--out", files / "known", "--b1", files / "b1.nii.gz")
    assert not (files / "known/B1map.nii.gz").exists()
    free, known = (
        nib.load(files / name / "T2map.nii.gz").get_fdata() / kappa[..., 2] - 1
        for name in ("free", "known")
    )
    assert np.sqrt(np.mean(known**2)) < np.sqrt(np.mean(free**2))
    assert abs(np.median(known)) < 0.01


def dataset(folder, times):
    """One subject with a MESE series of these times."""
    _, S = series()
    anat = folder / "sub-01" / "anat"
    anat.mkdir(parents=True)
    (folder / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.9.0"}')
    for n, time in enumerate(times):
        name = anat / f"sub-01_echo-{n + 1}_MESE"
        nib.save(nib.Nifti1Image(S[..., n].astype(np.float32), np.eye(4)), f"{name}.nii.gz")
        name.with_suffix(".json").write_text(json.dumps({"EchoTime": time / 1000}))
    return folder


def test_a_train_of_a_dataset_gives_t2_and_b1(tmp_path):
    root = dataset(tmp_path / "ds", TES)
    (root / "MESE.json").write_text('{"Refocusing": 180, "SliceProfile": "none"}')
    run("bids", root, root / "derivatives/r", "participant", "--method", "mle")
    anat = root / "derivatives/r/sub-01/anat"
    assert (anat / "sub-01_desc-MESE_TB1map.nii.gz").exists()
    card = json.loads((anat / "sub-01_T2map.json").read_text())
    assert card["Relaxnet"]["SignalModel"] == "spin_echo_train"
    assert card["SliceProfile"] == "none"
    assert card["Refocusing"] == 180
    assert "assumed" not in json.dumps(card)


def test_separate_echoes_of_a_dataset_are_a_decay(tmp_path):
    times = [10.0, 20, 30, 50, 70, 90, 110, 150]
    root = dataset(tmp_path / "ds", times)
    run("bids", root, root / "derivatives/r", "participant", "--method", "mle")
    anat = root / "derivatives/r/sub-01/anat"
    assert not list(anat.glob("*TB1map*"))
    assert (anat / "sub-01_T2map.nii.gz").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--refocusing", "0"], "refocusing"),
        (["--refocusing", "200"], "between 3.2 and 180"),
        (["--slice-profile", "box"], "none, sinc, gauss"),
        (["--t1", "1"], "T1"),
    ],
)
def test_what_no_train_has_is_refused(files, options, words):
    command = ["predict", files / "s.nii.gz", "--tes", files / "tes.txt", "--sequence", "mese"]
    command += [*options, "--method", "mle", "--out", str(files / "x")]
    found = CliRunner().invoke(main, [str(a) for a in command])
    assert found.exit_code == 2
    assert words in " ".join(found.output.split())
    assert not (files / "x").exists()


def test_the_report_draws_the_echoes(files):
    command = ["predict", files / "s.nii.gz", "--tes", files / "tes.txt", "--sequence", "mese"]
    run(*command, "--method", "mle", "--out", files / "r", "--report", "--slice-profile", "none")
    assert "Fits in single voxels" in (files / "r/report.html").read_text()
