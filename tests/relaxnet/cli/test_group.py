import json
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner
from small_series import TAU, series, truth, write, write_times

from relaxnet.cli.group import main
from relaxnet.networks.rim import RIM


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with a series, its times and a small network."""
    monkeypatch.chdir(tmp_path)
    S, _, disc = series()
    write(tmp_path / "series.nii.gz", S)
    write(tmp_path / "mask.nii.gz", disc.astype(np.uint8))
    write_times(tmp_path / "tis.txt")
    RIM("inversion_recovery", features=4, num_steps=2).save(tmp_path / "net.keras")
    return tmp_path


def call(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


def refused(folder, match, *arguments):
    """The command fails with one line and leaves nothing behind."""
    before = {p.name for p in folder.iterdir()}
    result = call(*arguments)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    lines = [line for line in result.output.splitlines() if line]
    assert lines[-1].startswith("Error: ")
    assert match in lines[-1]
    assert {p.name for p in folder.iterdir()} == before


@pytest.mark.parametrize("method", ["mle", "rim"])
def test_predict_writes_maps_and_says_how(folder, method):
    options = ["--model", "net.keras"] if method == "rim" else ["--method", "mle"]
    result = call("predict", "series.nii.gz", "--tis", "tis.txt", *options)
    assert result.exit_code == 0, result.output
    names = {p.name for p in (folder / "maps").iterdir()}
    for stem in ("T1map", "M0map", "Bmap", "residual", "status"):
        assert {f"{stem}.nii.gz", f"{stem}.json"} <= names
    assert ("T1std.nii.gz" in names) == (method == "mle")
    image = nib.load("maps/T1map.nii.gz")
    assert image.get_data_dtype() == np.float32
    np.testing.assert_allclose(image.header.get_zooms(), (0.9, 0.9, 3.0), rtol=1e-6)
    card = json.loads((folder / "maps/T1map.json").read_text())
    assert card["Units"] == "ms"
    assert card["InversionTimesMs"] == TAU.tolist()
    assert card["Sigma"] == pytest.approx(8, rel=0.3)
    assert card["SigmaSource"].startswith("fit residuals")
    if method == "mle":
        kappa, disc = truth()
        error = image.get_fdata()[disc] / kappa[disc][:, 2] - 1
        assert abs(np.median(error)) < 0.02


def test_one_file_a_time_gives_the_same(folder):
    S = nib.load("series.nii.gz").get_fdata()
    parts = [write(folder / f"{n}.nii", S[..., n].astype(np.float32)) for n in range(len(TAU))]
    assert (
        call(
            "predict", "series.nii.gz", "--tis", "tis.txt", "--method", "mle", "--out", "a"
        ).exit_code
        == 0
    )
    assert (
        call("predict", *parts, "--tis", "tis.txt", "--method", "mle", "--out", "b").exit_code == 0
    )
    a, b = (nib.load(f"{d}/T1map.nii.gz").get_fdata() for d in "ab")
    np.testing.assert_array_equal(a, b)


def test_order_of_times_is_kept(folder):
    S = nib.load("series.nii.gz").get_fdata().astype(np.float32)
    order = np.random.default_rng(0).permutation(len(TAU))
    write(folder / "mixed.nii.gz", S[..., order])
    write_times(folder / "mixed.txt", TAU[order])
    for name, times, out in (("series.nii.gz", "tis.txt", "a"), ("mixed.nii.gz", "mixed.txt", "b")):
        assert (
            call(
                "predict",
                name,
                "--tis",
                times,
                "--method",
                "mle",
                "--mask",
                "mask.nii.gz",
                "--out",
                out,
            ).exit_code
            == 0
        )
    a, b = (nib.load(f"{d}/T1map.nii.gz").get_fdata() for d in "ab")
    np.testing.assert_allclose(a, b, rtol=1e-3)


def test_volume_in_another_plane_is_mapped_along_it(folder):
    """A sagittal acquisition gives the turned axial one's maps."""
    S = nib.load("series.nii.gz").get_fdata().astype(np.float32)
    write(folder / "sagittal.nii.gz", np.moveaxis(S, 2, 0), np.diag([3.0, 0.9, 0.9, 1]))
    common = ["--tis", "tis.txt", "--model", "net.keras", "--mask", "none", "--sigma", "8"]
    assert call("predict", "series.nii.gz", *common, "--out", "a").exit_code == 0
    assert call("predict", "sagittal.nii.gz", *common, "--out", "b").exit_code == 0
    a, b = (nib.load(f"{d}/T1map.nii.gz").get_fdata() for d in "ab")
    np.testing.assert_allclose(np.moveaxis(a, 2, 0), b, rtol=1e-5)


def test_integer_series_with_slope(folder):
    S = nib.load("series.nii.gz").get_fdata()
    write(folder / "int.nii.gz", S, dtype=np.int16, slope=0.5)
    for name, out in (("series.nii.gz", "a"), ("int.nii.gz", "b")):
        assert (
            call(
                "predict",
                name,
                "--tis",
                "tis.txt",
                "--method",
                "mle",
                "--mask",
                "mask.nii.gz",
                "--out",
                out,
            ).exit_code
            == 0
        )
    a, b = (nib.load(f"{d}/T1map.nii.gz").get_fdata() for d in "ab")
    inside = a > 0
    np.testing.assert_allclose(a[inside], b[inside], rtol=0.05)


def test_wrong_number_of_times(folder):
    refused(
        folder,
        "series.nii.gz holds 7 images (shape 14 x 12 x 2 x 7), but cine31 lists 31 "
        "inversion times (139 ... 937 ms)",
        "predict",
        "series.nii.gz",
        "--tis",
        "cine31",
        "--model",
        "net.keras",
    )


def test_times_in_seconds(folder):
    (folder / "s.txt").write_text("0.05 0.15 0.4 0.8 1.4 2.2 3.5")
    refused(
        folder,
        "looks like seconds",
        "predict",
        "series.nii.gz",
        "--tis",
        "s.txt",
        "--method",
        "mle",
    )
    result = call("predict", "series.nii.gz", "--tis", "s.txt", "--units", "s", "--method", "mle")
    assert result.exit_code == 0, result.output


def test_bad_files(folder):
    mle = ["--tis", "tis.txt", "--method", "mle"]
    refused(folder, "no such file", "predict", "none.nii.gz", *mle)
    write(folder / "single.nii.gz", series()[0][..., 0])
    refused(folder, "holds a single image", "predict", "single.nii.gz", *mle)
    whole = (folder / "series.nii.gz").read_bytes()
    (folder / "cut.nii.gz").write_bytes(whole[: len(whole) // 2])
    refused(folder, "damaged or cut short", "predict", "cut.nii.gz", *mle)
    write(folder / "small.nii.gz", np.ones((3, 3, 3), np.uint8))
    refused(
        folder,
        "mask small.nii.gz has shape",
        "predict",
        "series.nii.gz",
        *mle,
        "--mask",
        "small.nii.gz",
    )
    write(folder / "empty.nii.gz", np.zeros((14, 12, 2), np.uint8))
    refused(
        folder, "no voxel above zero", "predict", "series.nii.gz", *mle, "--mask", "empty.nii.gz"
    )
    write(folder / "zero.nii.gz", np.zeros((14, 12, 2, 7), np.float32))
    refused(folder, "nothing to map", "predict", "zero.nii.gz", *mle)
    refused(
        folder,
        "no such file, and no bundled list",
        "predict",
        "series.nii.gz",
        "--tis",
        "none.txt",
        "--method",
        "mle",
    )


def test_bad_models(folder):
    RIM("t2_decay", features=4).save(folder / "t2.keras")
    common = ["predict", "series.nii.gz", "--tis", "tis.txt", "--model"]
    refused(
        folder, "the network is for t2_decay, the series is inversion_recovery", *common, "t2.keras"
    )
    (folder / "text.keras").write_text("no network")
    refused(folder, "not a .keras file", *common, "text.keras")
    refused(folder, "no shipped network of that name", *common, "rim-t9")


def test_bad_options(folder):
    refused(
        folder,
        "--tis or flip angles with --fas and repetition times with --trs or echo times with --tes",
        "predict",
        "series.nii.gz",
    )
    common = ["predict", "series.nii.gz", "--tis", "tis.txt", "--method", "mle"]
    refused(folder, "expected a positive number", *common, "--sigma", "-3")
    refused(folder, "a number, a NIfTI file or auto", *common, "--sigma", "much")
    refused(folder, "leaves none", *common, "--skip-first", "7")
    (folder / "bounds.json").write_text('{"T2": [1, 2]}')
    refused(folder, "expected low < high for some of A, B, T1", *common, "--bounds", "bounds.json")


def test_existing_maps_are_kept(folder):
    common = ["predict", "series.nii.gz", "--tis", "tis.txt", "--method", "mle"]
    assert call(*common).exit_code == 0
    refused(folder, "holds maps", *common)
    assert call(*common, "--overwrite").exit_code == 0
    (folder / "file").write_text("")
    refused(folder, "is a file", *common, "--out", "file")


def test_full_disk(folder, monkeypatch):
    usage = type("usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    refused(folder, "0 MB free", "predict", "series.nii.gz", "--tis", "tis.txt", "--method", "mle")


def test_failure_while_writing_leaves_nothing(folder, monkeypatch):
    def fail(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr("relaxnet.maps.map_folder.save_map", fail)
    refused(
        folder, "No space left", "predict", "series.nii.gz", "--tis", "tis.txt", "--method", "mle"
    )


def test_skip_first_and_bounds(folder):
    (folder / "bounds.json").write_text('{"T1": [100, 900]}')
    result = call(
        "predict",
        "series.nii.gz",
        "--tis",
        "tis.txt",
        "--method",
        "mle",
        "--skip-first",
        "1",
        "--bounds",
        "bounds.json",
    )
    assert result.exit_code == 0, result.output
    assert json.loads((folder / "maps/T1map.json").read_text())["InversionTimesMs"] == list(TAU[1:])
    T1 = nib.load("maps/T1map.nii.gz").get_fdata()
    assert 890 < T1.max() <= 900.001
    assert (nib.load("maps/status.nii.gz").get_fdata() == 4).any()


def test_train_then_predict(folder, shards):
    result = call(
        "train",
        "--data",
        shards,
        "--out",
        "run",
        "--iterations",
        "2",
        "--batch-size",
        "4",
        "--features",
        "4",
        "--num-steps",
        "2",
    )
    assert result.exit_code == 0, result.output
    assert "2 iterations" in result.output
    result = call("predict", "series.nii.gz", "--tis", "tis.txt", "--model", "run/last.keras")
    assert result.exit_code == 0, result.output


def test_train_refuses_bad_input(folder):
    refused(folder, "no such folder", "train", "--data", "none")
    (folder / "empty").mkdir()
    refused(folder, "holds no shard", "train", "--data", "empty")
    (folder / "bad").mkdir()
    (folder / "bad/shard-00000.h5").write_bytes(b"nothing")
    refused(folder, "not an HDF5 file, or is cut short", "train", "--data", "bad")


def test_help_loads_no_tensorflow():
    code = (
        "import sys; from click.testing import CliRunner; from relaxnet.cli.group import main; "
        "assert CliRunner().invoke(main, ['predict', '--help']).exit_code == 0; "
        "print([m for m in ('tensorflow', 'keras', 'scipy', 'nibabel') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
