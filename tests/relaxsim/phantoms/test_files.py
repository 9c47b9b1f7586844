import json
import os
from functools import partial

import nibabel as nib
import numpy as np
import pytest
from other_process import Other, killed_at_move

from relaxsim.anatomy.anatomy import load_anatomy
from relaxsim.core.only_run import InUseError
from relaxsim.core.replacing import MARK
from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY
from relaxsim.models.protocols import read_protocol
from relaxsim.models.t2_decay import MODEL as T2_DECAY
from relaxsim.phantoms.files import check_free, write_phantom
from relaxsim.phantoms.phantoms import brain_phantom, plate_phantom
from relaxsim.phantoms.structures import with_structures
from relaxsim.simulation.tissues import read_tissues

TIS = np.array([100.0, 400.0, 1900.0])
TES = np.array([10.0, 40.0, 160.0])


def brain(head, tau=TIS, model=INVERSION_RECOVERY, **options):
    given = {"voxel_size": 1.5, "matrix": 60, "thickness": 3.0, "num_slices": 2} | options
    rng = np.random.default_rng(0)
    return brain_phantom(load_anatomy(head), tau, model, read_tissues("paper"), rng, **given)


def write(phantom, folder, repeats=2, seed=0, **options):
    given = {"snr": 25.0, "noise": "gaussian", "provenance": {"CommandLine": "x"}} | options
    return write_phantom(phantom, folder, repeats=repeats, seed=seed, **given)


def volume(path):
    return nib.load(path).get_fdata()


def test_files_hold_the_phantom(head, tmp_path):
    phantom = brain(head, tr=4000.0)
    paths = write(phantom, tmp_path)
    assert [p.name for p in paths] == ["rep-1_series.nii.gz", "rep-2_series.nii.gz"]
    for q, name in enumerate(("M0map", "Bmap", "T1map")):
        np.testing.assert_array_equal(volume(tmp_path / f"{name}.nii.gz"), phantom.kappa[..., q])
        sidecar = json.loads((tmp_path / f"{name}.json").read_text())
        assert sidecar["Units"] == ("a.u.", "1", "ms")[q]
    for name in ("mask", "labels", "purity"):
        np.testing.assert_array_equal(
            volume(tmp_path / f"{name}.nii.gz"), getattr(phantom, name).astype(np.float32)
        )
    levels = json.loads((tmp_path / "labels.json").read_text())["Levels"]
    assert levels["3"] == "white matter"


def test_series_are_the_signal_with_noise(head, tmp_path):
    phantom = brain(head)
    noise = [volume(path) - phantom.signal for path in write(phantom, tmp_path)]
    for z in noise:
        assert z.std() == pytest.approx(0.75 / 25, rel=0.02)
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.02
    image = nib.load(tmp_path / "rep-1_series.nii.gz")
    assert image.get_data_dtype() == np.float32
    assert image.header.get_zooms()[:3] == (1.5, 1.5, 3.0)
    np.testing.assert_allclose(np.diag(image.affine), [1.5, 1.5, 3.0, 1.0])
    assert image.header.get_xyzt_units()[0] == "mm"


def test_sidecars_and_times(head, tmp_path):
    write(brain(head, tr=4000.0), tmp_path, seed=3, noise="rician")
    sidecar = json.loads((tmp_path / "rep-2_series.json").read_text())
    assert sidecar["InversionTime"] == [0.1, 0.4, 1.9]
    assert sidecar["RepetitionTime"] == 4.0
    assert sidecar["SignalModel"] == "inversion_recovery"
    assert (sidecar["NoiseModel"], sidecar["SNR"], sidecar["Sigma"]) == ("rician", 25.0, 0.03)
    assert (sidecar["Seed"], sidecar["Repeat"], sidecar["CommandLine"]) == (3, 2, "x")
    assert read_protocol(tmp_path / "times.txt", "tis").tau.tolist() == TIS.tolist()


def test_echo_times(head, tmp_path):
    write(brain(head, TES, T2_DECAY), tmp_path, repeats=1)
    assert json.loads((tmp_path / "rep-1_series.json").read_text())["EchoTime"] == [
        0.01,
        0.04,
        0.16,
    ]
    assert (tmp_path / "T2map.nii.gz").exists()
    assert not (tmp_path / "Bmap.nii.gz").exists()


def test_repeats_are_functions_of_the_seed(head, tmp_path):
    phantom = brain(head)
    write(phantom, tmp_path / "a", repeats=1)
    write(phantom, tmp_path / "b", repeats=3)
    write(phantom, tmp_path / "c", repeats=1, seed=1)
    a, b, c = (volume(tmp_path / n / "rep-1_series.nii.gz") for n in "abc")
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_the_twin_has_the_same_noise(head, tmp_path):
    e1 = brain(head, num_slices=1, voxel_size=0.9, matrix=120)
    e2 = with_structures(e1)
    write(e2, tmp_path, repeats=1, twin=e1)
    structure = volume(tmp_path / "structure.nii.gz") > 0
    assert structure.sum() == 16
    with_, without = (
        volume(tmp_path / n / "rep-1_series.nii.gz").astype(np.float64) for n in ("", "E1")
    )
    np.testing.assert_allclose(with_[~structure], without[~structure], atol=1e-7)
    assert (volume(tmp_path / "T1map.nii.gz") != volume(tmp_path / "E1/T1map.nii.gz")).sum() == 16
    assert (tmp_path / "neighborhood-4.nii.gz").exists()
    assert not (tmp_path / "E1/structure.nii.gz").exists()


def test_nothing_is_overwritten_unasked(head, tmp_path):
    phantom = brain(head)
    (tmp_path / "notes.txt").write_text("mine")
    check_free(tmp_path, phantom.model)
    write(phantom, tmp_path, repeats=3)
    with pytest.raises(ValueError, match=r"exists\. Give `overwrite`"):
        write(phantom, tmp_path)
    write(phantom, tmp_path, repeats=1, overwrite=True)
    assert [p.name for p in sorted(tmp_path.glob("rep-*"))] == [
        "rep-1_series.json",
        "rep-1_series.nii.gz",
    ]
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_files_of_others_stay(head, tmp_path):
    """Of like names, and of another program."""
    others = ["roadmap.md", "structure_notes.txt", "pure.csv", "E1/mindmap.txt", "T2map.nii.gz"]
    (tmp_path / "E1").mkdir()
    for name in others:
        (tmp_path / name).write_text("mine")
    (tmp_path / "T2map.json").write_text('{"SoftwareName": "relaxnet"}')
    phantom = brain(head)
    write(phantom, tmp_path)
    write(phantom, tmp_path, repeats=1, overwrite=True)
    assert all((tmp_path / name).read_text() == "mine" for name in others)


def test_a_file_in_the_way_is_refused_before_anything_is_moved(head, tmp_path):
    (tmp_path / "purity.nii.gz").write_text("mine")
    with pytest.raises(ValueError, match=r"purity.nii.gz exists. Give `overwrite`"):
        write(brain(head), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["purity.nii.gz"]


def test_overwriting_with_another_kind_leaves_none_of_the_old(head, tmp_path):
    e1 = brain(head, num_slices=1, voxel_size=0.9, matrix=120)
    write(with_structures(e1), tmp_path, repeats=1, twin=e1)
    plate = plate_phantom("T2", TES, T2_DECAY, np.random.default_rng(0), voxel_size=4.0, matrix=52)
    write(plate, tmp_path, repeats=1, overwrite=True)
    names = {p.name for p in tmp_path.rglob("*.nii.gz")}
    assert "T2map.nii.gz" in names
    assert not {"T1map.nii.gz", "Bmap.nii.gz", "structure.nii.gz", "structure-1.nii.gz"} & names
    assert not list(tmp_path.glob("E1/rep-*"))


def test_failure_leaves_nothing(head, tmp_path, monkeypatch):
    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nibabel.save", fail)
    with pytest.raises(OSError, match="No space left"):
        write(brain(head), tmp_path)
    assert not list(tmp_path.iterdir())


def test_two_runs_in_one_folder_and_what_a_killed_one_left(head, tmp_path):
    left = tmp_path / ".phantom.elsewhere.1.part.x"
    left.mkdir()
    with Other(tmp_path), pytest.raises(InUseError, match="another run writes to"):
        write(brain(head), tmp_path)
    assert list(tmp_path.iterdir()) == []  # the other run has removed what was left
    write(brain(head), tmp_path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a copy of the process")
def test_phantoms_are_never_mixed(head, tmp_path):
    """A run that replaces a phantom is killed at some of its moves."""
    phantom = brain(head, num_slices=1)
    write(phantom, tmp_path, repeats=2, noise="gaussian")
    number = 2 * (len(list(tmp_path.iterdir())))
    for move in range(0, number - 4, 9):
        killed_at_move(
            move, partial(write, phantom, tmp_path, repeats=1, noise="rician", overwrite=True)
        )
        cards = [json.loads(path.read_text()) for path in tmp_path.glob("rep-*.json")]
        assert len({card["NoiseModel"] for card in cards}) <= 1
        assert (tmp_path / MARK).is_file()
        write(phantom, tmp_path, repeats=2, noise="gaussian", overwrite=True)
        assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
        assert len(list(tmp_path.glob("rep-*.nii.gz"))) == 2
