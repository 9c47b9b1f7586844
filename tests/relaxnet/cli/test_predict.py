"""What `relaxnet predict` says, refuses and leaves on disk."""

import csv
import json
import os
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner
from small_series import TAU, series, write, write_times

from relaxnet.cli.group import main
from relaxnet.maps.status import OUTSIDE
from relaxnet.networks.model_card import card_text
from relaxnet.networks.registry import checksum, shipped_models
from relaxnet.networks.rim import RIM
from relaxnet.prediction.files import _output_names, predict_request
from relaxnet.prediction.request import Request
from relaxnet.report.page import write_report
from relaxsim.models.protocols import Protocol
from relaxsim.models.registry import model_of
from relaxsim.models.t2_decay import MODEL as T2_DECAY

MLE = ("--tis", "tis.txt", "--method", "mle")
NET = ("--tis", "tis.txt", "--model", "net.keras")


@pytest.fixture(scope="module")
def network_bytes(tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "net.keras"
    RIM("inversion_recovery", features=4, num_steps=2).save(path)
    return path.read_bytes()


@pytest.fixture
def folder(tmp_path, monkeypatch, network_bytes):
    """A working folder with a series, its times, a mask and a small network."""
    monkeypatch.chdir(tmp_path)
    S, _, disc = series()
    write(tmp_path / "series.nii.gz", S)
    write(tmp_path / "mask.nii.gz", disc.astype(np.uint8))
    write_times(tmp_path / "tis.txt")
    (tmp_path / "net.keras").write_bytes(network_bytes)
    return tmp_path


def call(*arguments):
    return CliRunner().invoke(main, ["predict", *map(str, arguments)])


def mapped(*arguments):
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def refused(folder, match, *arguments):
    """The command fails with one line, exit code 2, and leaves the folder as it was."""

    def content():
        return {p: p.is_file() and p.stat().st_mtime_ns for p in folder.rglob("*")}

    before = content()
    result = call(*arguments)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    last = [line for line in result.output.splitlines() if line][-1]
    assert last.startswith("Error: ")
    assert match in last
    assert content() == before


def volume(path):
    return nib.load(path).get_fdata()


def test_says_a_line_for_each_fact(folder):
    lines = mapped("series.nii.gz", *NET, "--mask", "mask.nii.gz").splitlines()
    assert lines[0].startswith("series: 7 images of 14 x 12 x 2; mask mask.nii.gz (")
    assert lines[1].startswith("noise: sigma ")
    assert lines[2].startswith("method: net (SHA-256 ")
    assert lines[2].endswith("data taken as magnitude with Rician noise")
    assert lines[3].startswith("status: ")
    assert lines[4].startswith("T1: median ")
    assert lines[4].endswith(" ms in the mask; maps in maps")
    assert len(lines) == 5
    more = mapped("series.nii.gz", *NET, "--out", "more", "--verbose")
    assert "inversion times (ms): 50 150 400" in more
    assert "slices along axis 3" in more


def test_sidecars_say_how(folder):
    mapped("series.nii.gz", *NET, "--sigma", "8")
    card = json.loads((folder / "maps/M0map.json").read_text())
    assert card["Network"] == "net"
    assert card["NetworkSHA256"] == checksum(folder / "net.keras")
    assert (card["Sigma"], card["SigmaSource"]) == (8, "given")
    assert card["Sources"] == [str(folder / "series.nii.gz")]
    assert {"SoftwareVersion", "CommandLine", "Date", "Mask"} <= set(card)
    levels = json.loads((folder / "maps/status.json").read_text())["Levels"]
    assert {levels[str(int(v))] for v in np.unique(volume("maps/status.nii.gz"))} <= {
        "ok",
        "outside the mask",
        "poor fit",
    }
    mapped("series.nii.gz", *MLE, "--out", "fit")
    card = json.loads((folder / "fit/Bstd.json").read_text())
    assert card["Method"] == "mle"
    assert "Network" not in card
    assert card["Units"] == "1"


def test_echo_times_give_t2(folder):
    TE = np.array([10.0, 20, 40, 80, 160])
    kappa = np.broadcast_to([900.0, 75.0], (8, 8, 1, 2))
    noise = np.random.default_rng(0).standard_normal((8, 8, 1, 5))
    write(folder / "t2.nii.gz", (T2_DECAY.forward(kappa, TE) + 5 * noise).astype(np.float32))
    write_times(folder / "tes.txt", TE)
    mapped("t2.nii.gz", "--tes", "tes.txt", "--method", "mle", "--mask", "none")
    assert np.median(volume("maps/T2map.nii.gz")) == pytest.approx(75, rel=0.02)
    assert not (folder / "maps/Bmap.nii.gz").exists()
    assert "EchoTimesMs" in json.loads((folder / "maps/T2map.json").read_text())


def test_repeated_times_are_taken(folder):
    S = series()[0]
    write(folder / "twice.nii.gz", np.concatenate([S, S], -1))
    write_times(folder / "twice.txt", np.concatenate([TAU, TAU]))
    mapped("twice.nii.gz", "--tis", "twice.txt", "--method", "mle", "--out", "a")
    mapped("series.nii.gz", *MLE, "--out", "b")
    a, b = volume("a/T1map.nii.gz"), volume("b/T1map.nii.gz")
    both = (a > 0) & (b > 0)
    np.testing.assert_allclose(a[both], b[both], rtol=1e-3)


@pytest.mark.parametrize("options", [MLE, NET])
@pytest.mark.parametrize("factor", [1e-4, 1e4])
def test_any_scale_gives_the_same_times(folder, options, factor):
    write(folder / "scaled.nii.gz", series()[0] * np.float32(factor))
    mapped("series.nii.gz", *options, "--out", "a")
    mapped("scaled.nii.gz", *options, "--out", "b")
    np.testing.assert_allclose(
        volume("b/T1map.nii.gz"), volume("a/T1map.nii.gz"), rtol=1e-4, atol=1e-3
    )
    np.testing.assert_allclose(
        volume("b/M0map.nii.gz") / factor, volume("a/M0map.nii.gz"), rtol=1e-3
    )


@pytest.mark.parametrize("options", [MLE, NET])
def test_bad_voxels_in_a_file(folder, options):
    S = series()[0]
    S[7, 6, 0, 2], S[6, 6, 0], S[5, 6, 0, 1] = np.nan, 0, np.inf
    write(folder / "holes.nii.gz", S)
    mapped("holes.nii.gz", *options, "--mask", "mask.nii.gz")
    for stem in ("T1map", "M0map", "Bmap", "residual"):
        values = volume(f"maps/{stem}.nii.gz")
        assert np.isfinite(values).all()
        assert (values[5:8, 6, 0] == 0).all()
    assert volume("maps/status.nii.gz")[5:8, 6, 0].tolist() == [3, 2, 3]
    assert (volume("maps/T1map.nii.gz")[4:9, 5, 0] > 0).all()


def test_other_maps_of_an_earlier_run_are_replaced(folder):
    mapped("series.nii.gz", *MLE)
    (folder / "maps/notes.txt").write_text("mine")
    nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), np.float32), np.eye(4)), "maps/mine.nii.gz")
    (folder / "maps/mine.json").write_text("{}")
    assert (folder / "maps/T1std.nii.gz").exists()
    mapped("series.nii.gz", *NET, "--overwrite")
    names = {p.name for p in (folder / "maps").iterdir()}
    stems = ("T1map", "M0map", "Bmap", "residual", "status", "mine")
    assert names == {f"{s}.{e}" for s in stems for e in ("nii.gz", "json")} | {"notes.txt"}
    assert {p.name for p in folder.iterdir()} == {
        *("series.nii.gz", "mask.nii.gz", "tis.txt", "net.keras", "maps")
    }


def test_folders_of_maps_are_made_and_open_to_others(folder):
    mapped("series.nii.gz", *MLE, "--out", "a/b/c")
    plain = folder / "plain"
    plain.mkdir()
    assert (folder / "a/b/c").stat().st_mode == plain.stat().st_mode


def test_numbers_of_images_and_times_with_skipped_ones(folder):
    write(folder / "six.nii.gz", series()[0][..., 1:])
    refused(
        folder,
        "six.nii.gz holds 6 images (shape 14 x 12 x 2 x 6), but tis lists 7 inversion times",
        *("six.nii.gz", *MLE, "--skip-first", "1"),
    )
    parts = [write(folder / f"{n}.nii", series()[0][..., n]) for n in range(3)]
    refused(folder, "3 files hold 3 images", *parts, *MLE)


def test_noise_that_cannot_be_estimated(folder):
    write(folder / "three.nii.gz", series()[0][..., :3])
    write_times(folder / "three.txt", TAU[:3])
    three = ("three.nii.gz", "--tis", "three.txt", "--method", "mle")
    refused(folder, "Give the noise with --sigma", *three)
    mapped(*three, "--sigma", "8")


def test_networks_that_do_not_ship(folder, monkeypatch):
    monkeypatch.setattr("relaxnet.prediction.files.shipped_models", dict)
    refused(folder, "no rim network is the default for", "series.nii.gz", "--tis", "tis.txt")
    refused(
        folder,
        "no resnet network is the default",
        "series.nii.gz",
        *NET[:2],
        "--method",
        "resnet",
    )
    refused(folder, "--method is resnet", "series.nii.gz", *NET, "--method", "resnet")
    refused(folder, "--method mle takes none", "series.nii.gz", *NET, "--method", "mle")


def test_cheap_checks_come_before_the_network(folder, monkeypatch):
    def late(*_):
        raise AssertionError("TensorFlow is imported before the input is checked")

    monkeypatch.setattr("relaxnet.cli.predict.import_tensorflow", late)
    monkeypatch.setattr("relaxnet.prediction.files.loaded", late)
    refused(folder, "but cine31 lists 31", "series.nii.gz", "--tis", "cine31", *NET[2:])
    refused(folder, "no such file", "series.nii.gz", *NET, "--mask", "none.nii.gz")


def test_zero_series_and_zero_image(folder):
    S = series()[0]
    S[..., 3] = 0
    write(folder / "gap.nii.gz", S)
    assert "warning: image 4 of 7 (" in mapped("gap.nii.gz", *MLE)
    write(folder / "zero.nii.gz", 0 * S)
    for mask in ("auto", "none", "mask.nii.gz"):
        refused(folder, "zero", "zero.nii.gz", *MLE, "--out", "other", "--mask", mask)


def test_mask_that_lies_elsewhere(folder):
    disc = series()[2].astype(np.uint8)
    write(folder / "moved.nii.gz", disc, np.diag([-0.9, 0.9, 3.0, 1.0]))
    refused(folder, "lies elsewhere in space", "series.nii.gz", *MLE, "--mask", "moved.nii.gz")


def test_failure_while_writing_keeps_the_earlier_maps(folder, monkeypatch):
    mapped("series.nii.gz", *MLE)
    from relaxnet.maps import map_folder

    save, written = map_folder.save_map, []

    def fail(path, *rest):
        if len(written) == 3:
            raise OSError("No space left on device")
        written.append(path)
        save(path, *rest)

    monkeypatch.setattr(map_folder, "save_map", fail)
    refused(folder, "No space left", "series.nii.gz", *MLE, "--overwrite")
    assert len(written) == 3


@pytest.mark.parametrize(
    ("stop", "code", "words"),
    [(KeyboardInterrupt, 130, "Interrupted."), (MemoryError, 2, "Error: the memory")],
)
def test_interruption_leaves_nothing(folder, monkeypatch, stop, code, words):
    before = {p.name for p in folder.iterdir()}

    def halt(*_):
        raise stop

    monkeypatch.setattr("relaxnet.maps.map_folder.save_map", halt)
    result = call("series.nii.gz", *MLE)
    assert result.exit_code == code
    assert words in result.output
    assert {p.name for p in folder.iterdir()} == before


def test_a_folder_on_another_disk_takes_the_maps(folder, tmp_path_factory):
    """New maps are moved in before old ones go, and never across disks."""
    disk = Path("/dev/shm")
    if not os.access(disk, os.W_OK) or disk.stat().st_dev == folder.stat().st_dev:
        pytest.skip("no second disk")
    with tempfile.TemporaryDirectory(dir=disk) as elsewhere:
        (folder / "maps").symlink_to(elsewhere)
        mapped("series.nii.gz", *NET)
        assert (folder / "maps/Bmap.nii.gz").is_file()
        mapped("series.nii.gz", *MLE, "--overwrite")
        assert (folder / "maps/T1std.nii.gz").is_file()
        assert not list(Path(elsewhere).glob(".*"))


def test_holes_are_filled_across_the_slices_of_the_acquisition(folder):
    """A ring of sagittal slices has a hole in each slice, and none along the third axis."""
    S = np.asarray(nib.load("series.nii.gz").dataobj)[:, :, :1]
    x, y = np.indices(S.shape[:2])
    ring = np.hypot(x - S.shape[0] // 2, y - S.shape[1] // 2)
    ring = (ring > 1.5) & (ring < 4.5)
    slab = np.repeat(
        np.where(ring[..., None, None], 500.0, 0.0) * np.linspace(0.5, 1, S.shape[-1]), 6, axis=2
    )
    for axis in (2, 0):
        zooms = np.ones(4)
        zooms[axis] = 5
        image = nib.Nifti1Image(np.moveaxis(slab, 2, axis).astype(np.float32), np.diag(zooms))
        nib.save(image, f"ring{axis}.nii.gz")
        mapped(f"ring{axis}.nii.gz", *MLE, "--out", f"m{axis}")
    inside = [(np.asarray(nib.load(f"m{a}/status.nii.gz").dataobj) != OUTSIDE) for a in (2, 0)]
    np.testing.assert_array_equal(inside[0], np.moveaxis(inside[1], 0, 2))
    assert inside[0].sum() > 6 * ring.sum()


def test_version():
    result = CliRunner().invoke(main, ["--version"])
    assert result.exit_code == 0
    assert "relaxnet, version" in result.output


def test_predicted_series_is_written(folder):
    mapped("series.nii.gz", *MLE, "--save-fit")
    image = nib.load("maps/fit.nii.gz")
    source = nib.load("series.nii.gz")
    assert image.shape == source.shape
    assert image.get_data_dtype() == np.float32
    np.testing.assert_array_equal(image.affine, source.affine)
    inside = volume("maps/status.nii.gz") == 0
    residual = np.sqrt(((image.get_fdata() - source.get_fdata()) ** 2).mean(-1))
    card = json.loads((folder / "maps/fit.json").read_text())
    expected = volume("maps/residual.nii.gz")[inside] * card["Sigma"]
    np.testing.assert_allclose(residual[inside], expected, rtol=1e-4)
    assert card["InversionTimesMs"] == TAU.tolist()
    mapped("series.nii.gz", *MLE, "--overwrite")
    assert not (folder / "maps/fit.nii.gz").exists()


def test_status_says_the_share_of_each(folder):
    S = series()[0]
    S[7, 6, 0] = [900, 0, 900, 0, 900, 0, 900]
    write(folder / "odd.nii.gz", S)
    said = mapped("odd.nii.gz", *MLE, "--mask", "mask.nii.gz", "--sigma", "8")
    line = next(line for line in said.splitlines() if line.startswith("status: "))
    assert "ok 9" in line
    assert "outside the mask" not in line
    card = json.loads((folder / "maps/status.json").read_text())
    assert card["Levels"]["7"] == "poor fit"
    assert sum(card["StatusShares"].values()) == pytest.approx(1, abs=1e-5)
    assert volume("maps/status.nii.gz")[7, 6, 0] in (4, 7)


def test_regions_give_a_table(folder):
    kappa, disc = series()[1:]
    labels = np.where(disc, np.where(kappa[..., 2] < 1000, 3, 11), 0).astype(np.int16)
    write(folder / "labels.nii.gz", labels)
    (folder / "names.csv").write_text("label,name\n3,white\n11,grey\n")
    options = ("--rois", "labels.nii.gz", "--roi-names", "names.csv")
    assert "2 regions in rois.csv" in mapped("series.nii.gz", *MLE, *options)
    rows = list(csv.DictReader((folder / "maps/rois.csv").read_text().splitlines()))
    assert [(r["label"], r["name"]) for r in rows] == [("3", "white"), ("11", "grey")]
    assert float(rows[0]["T1_median"]) == pytest.approx(700, rel=0.05)
    assert float(rows[1]["T1_median"]) == pytest.approx(1300, rel=0.05)
    assert float(rows[0]["T1_std"]) > 0
    columns = json.loads((folder / "maps/rois.json").read_text())["Columns"]
    assert list(columns) == list(rows[0])
    mapped("series.nii.gz", *MLE, "--overwrite")
    assert not list((folder / "maps").glob("rois.*"))


def test_files_of_the_user_are_not_replaced_unasked(folder):
    (folder / "report.html").write_text("mine")
    refused(folder, "report.html is there", "series.nii.gz", *MLE, "--report", "--out", ".")
    mapped("series.nii.gz", *MLE, "--report", "--out", ".", "--overwrite")


@pytest.mark.parametrize("times", ["tis", "tes"])
def test_every_file_is_one_that_was_looked_for_before(folder, times):
    """So that no file of the user's is replaced unasked."""
    disc = series()[2]
    write(folder / "labels.nii.gz", disc.astype(np.int16))
    request = Request(
        ("series.nii.gz",),
        Protocol("given", model_of(times), TAU[:, None]),
        Path("maps"),
        method="mle",
        mask="mask.nii.gz",
        save_fit=True,
        rois="labels.nii.gz",
        report=True,
    )
    predict_request(request, complete=write_report)
    written = {path.name for path in Path("maps").iterdir() if path.suffix != ".json"}
    assert written == set(_output_names(request))


def test_what_is_read_is_not_replaced(folder):
    """Regions drawn on maps and kept beside them, by the names that the table would have."""
    kappa, disc = series()[1:]
    mapped("series.nii.gz", *MLE, "--save-fit")
    labels = np.where(disc, np.where(kappa[..., 2] < 1000, 3, 11), 0).astype(np.int16)
    write(folder / "maps/rois.nii.gz", labels)
    (folder / "maps/rois.csv").write_text("label,name\n3,white\n11,grey\n")
    rois = ("--rois", "maps/rois.nii.gz")
    again = "--overwrite"
    names = ("--roi-names", "maps/rois.csv")
    refused(folder, "is read, and would be replaced", "series.nii.gz", *MLE, *rois, *names, again)
    refused(folder, "is read, and would be replaced", "maps/fit.nii.gz", *MLE, again)
    (folder / "maps/rois.csv").unlink()
    for _ in range(2):
        mapped("series.nii.gz", *MLE, *rois, again)
    mapped("series.nii.gz", *MLE, again)
    assert (volume("maps/rois.nii.gz") == labels).all()
    assert not (folder / "maps/rois.csv").exists()


def test_bounds_in_seconds_are_refused(folder):
    (folder / "bounds.json").write_text('{"T1": [0.05, 5]}')
    told = ("series.nii.gz", *MLE, "--bounds", "bounds.json")
    refused(folder, "T1 from 0.05 to 5 looks like s; expected ms", *told)


def test_label_maps_that_are_none(folder):
    disc = series()[2].astype(np.float32)
    write(folder / "zero.nii.gz", 0 * disc)
    write(folder / "half.nii.gz", 1.5 * disc)
    write(folder / "minus.nii.gz", -disc)
    write(folder / "small.nii.gz", disc[:-1])
    write(folder / "moved.nii.gz", disc, np.diag([-0.9, 0.9, 3.0, 1.0]))
    refused(folder, "no label above zero", "series.nii.gz", *MLE, "--rois", "zero.nii.gz")
    refused(folder, "holds 1.5; labels are whole", "series.nii.gz", *MLE, "--rois", "half.nii.gz")
    refused(folder, "labels are not negative", "series.nii.gz", *MLE, "--rois", "minus.nii.gz")
    refused(folder, "has shape 13 x 12 x 2", "series.nii.gz", *MLE, "--rois", "small.nii.gz")
    refused(folder, "lies elsewhere", "series.nii.gz", *MLE, "--rois", "moved.nii.gz")
    refused(folder, "no such file", "series.nii.gz", *MLE, "--rois", "none.nii.gz")
    refused(folder, "give both", "series.nii.gz", *MLE, "--roi-names", "tis.txt")


def test_network_is_compared_with_the_fit(folder):
    said = mapped("series.nii.gz", *NET, "--compare", "mle", "--sigma", "8")
    assert "against the voxel-wise fit, well determined in" in said
    card = json.loads((folder / "maps/T1map.json").read_text())
    assert card["Comparison"]["with"] == "mle, voxel-wise"
    refused(folder, "leave --method mle out", "series.nii.gz", *MLE, "--compare", "mle")


def test_look_locker_is_a_sequence(folder):
    mapped("series.nii.gz", *MLE, "--sigma", "8", "--out", "a")
    mapped("series.nii.gz", *MLE, "--sigma", "8", "--out", "b", "--look-locker")
    a, T1, T1star = (volume(f"{f}.nii.gz") for f in ("a/T1map", "b/T1map", "b/T1starmap"))
    ok = (volume("a/status.nii.gz") == 0) & (volume("b/status.nii.gz") == 0)
    np.testing.assert_allclose(T1star[ok], a[ok], rtol=1e-3)
    np.testing.assert_allclose(T1[ok], (a * (volume("b/Bmap.nii.gz") - 1))[ok], rtol=1e-3)
    card = json.loads((folder / "b/T1map.json").read_text())
    assert (card["Sequence"], card["SignalModel"]) == ("look-locker", "look_locker")
    (folder / "series.json").write_text('{"SequenceName": "MOLLI"}')
    assert "note: the sidecar says SequenceName" in mapped("series.nii.gz", *MLE, "--out", "c")
    refused(
        folder,
        "stands for --sequence look-locker",
        "series.nii.gz",
        *MLE,
        "--look-locker",
        "--sequence",
        "ir",
    )


def test_network_outside_of_its_envelope(folder):
    envelope = {"num_images": [4, 40], "tau_ms": [20, 3000], "sigma": [0.001, 0.25]}
    card = {"signal_model": "inversion_recovery", "envelope": envelope, "tissues": ["wide"]}
    (folder / "net.json").write_text(json.dumps(card))
    said = mapped("series.nii.gz", *NET)
    assert (
        "warning: outside of what the network was trained for: inversion times of 50 to 3500 ms"
        in said
    )
    assert json.loads((folder / "maps/T1map.json").read_text())["Warnings"]
    envelope["tau_ms"] = [20, 1000]
    (folder / "net.json").write_text(json.dumps(card))
    refused(folder, "insist with --force", "series.nii.gz", *NET, "--out", "b")
    assert "warning" in mapped("series.nii.gz", *NET, "--out", "c", "--force")
    (folder / "net.json").write_text('{"envelope": {"sigma": 3}}')
    refused(folder, "not made of ranges", "series.nii.gz", *NET, "--out", "d")


def test_report_goes_with_its_run(folder):
    mapped("series.nii.gz", *MLE, "--report")
    page = (folder / "maps/report.html").read_text(encoding="utf-8")
    assert "series.nii.gz" in page
    assert ".maps-" not in page
    mapped("series.nii.gz", *MLE, "--overwrite")
    assert not (folder / "maps/report.html").exists()
    (folder / "maps/report.html").write_text("mine")
    mapped("series.nii.gz", *MLE, "--overwrite")
    assert (folder / "maps/report.html").read_text() == "mine"


def test_sigma_that_is_no_number_and_no_file(folder):
    refused(
        folder, "expected a number, a NIfTI file or auto", "series.nii.gz", *MLE, "--sigma", "x"
    )


def test_cards_are_shown(folder):
    for name in shipped_models():
        said = CliRunner().invoke(main, ["models", name])
        assert said.exit_code == 0, said.output
        assert said.output.startswith(f"{name}: ")
        assert "trained for:" in said.output
        assert "signal model:" in said.output
    listed = CliRunner().invoke(main, ["models"]).output
    assert all(name in listed for name in shipped_models())
    assert "inversion_recovery (A, B, T1)" in card_text("net.keras")
    assert CliRunner().invoke(main, ["models", "none"]).exit_code == 2


@pytest.mark.data
def test_brain(tmp_path, data_dir):
    """White matter of Barral's slice at 1.5 T has a T1 near 600 ms, the voxel-wise fit says."""
    brain = data_dir / "brain_ir"
    options = ("--method", "mle", "--mask", brain / "mask.nii.gz", "--out", tmp_path / "maps")
    mapped(brain / "series.nii.gz", "--tis", brain / "tis.txt", *options)
    T1 = volume(tmp_path / "maps/T1map.nii.gz")
    inside = T1 > 0
    assert inside.sum() == (volume(brain / "mask.nii.gz") > 0).sum()
    counts, edges = np.histogram(T1[inside], bins=np.arange(300, 2000, 50))
    assert 500 <= edges[counts.argmax()] <= 700


@pytest.mark.data
def test_signed_brain_is_recognised(tmp_path, data_dir):
    brain = data_dir / "brain_t1t2"
    out = ("--method", "mle", "--out", tmp_path / "maps")
    said = mapped(brain / "t1_series.nii.gz", "--tis", brain / "tis.txt", *out)
    assert "data taken as signed" in said


@pytest.mark.data
def test_rim_t1_agrees_with_the_fit_on_a_signed_brain(tmp_path, data_dir):
    """One sample lies near the zero crossing of white matter; its sign says on which side."""
    brain = data_dir / "brain_t1t2"
    for method in ("rim", "mle"):
        out = ("--method", method, "--out", tmp_path / method)
        mapped(brain / "t1_series.nii.gz", "--tis", brain / "tis.txt", *out)
    rim, fit = (volume(tmp_path / method / "T1map.nii.gz") for method in ("rim", "mle"))
    white = (rim > 0) & (fit > 700) & (fit < 1000)
    assert np.median(np.abs(rim[white] / fit[white] - 1)) < 0.03
    assert abs(np.median(rim[white] / fit[white]) - 1) < 0.02
