"""`relaxnet bids`, and `relaxnet predict` on BIDS files."""

import gzip
import json
import os
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner
from small_bids import SHAPE, save, write_dataset, write_json, write_series
from small_series import TAU, series, truth, write_times

from relaxnet.bids.dataset import find_collections
from relaxnet.bids.derivative import made_with
from relaxnet.bids.output import publish
from relaxnet.bids.run import Settings, map_subject, run
from relaxnet.cli.group import main
from relaxnet.networks.rim import RIM
from relaxnet.report.page import write_report
from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY
from relaxsim.models.protocols import read_protocol

EVERYTHING = ["sub-01_IRT1", "sub-01_MESE", "sub-02_ses-a_IRT1", "sub-02_ses-b_IRT1"]


@pytest.fixture(scope="module")
def mapped_once(tmp_path_factory):
    """A dataset and its derivative by a fit, not to be changed, and what was said."""
    root = write_dataset(tmp_path_factory.mktemp("once") / "ds")
    out = root / "derivatives/relaxnet"
    result = CliRunner().invoke(main, ["bids", str(root), str(out), "participant", *MLE])
    assert result.exit_code == 0, result.output
    return root, out, result.output


@pytest.fixture
def place(mapped_once, tmp_path, monkeypatch):
    """A working folder with a copy of the dataset, `ds`, and of its derivative in it."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(mapped_once[0], tmp_path / "ds")
    return tmp_path


@pytest.fixture
def raw(place):
    """The same without the derivative."""
    shutil.rmtree(place / "ds/derivatives")
    return place


MLE = ("--method", "mle")


def call(*arguments, out="ds/derivatives/relaxnet", code=0):
    result = CliRunner().invoke(main, ["bids", "ds", out, "participant", *arguments])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result.output


def refused(match, *arguments, out="new"):
    lines = call(*arguments, out=out, code=2).splitlines()
    assert lines[-1].startswith("Error: ")
    assert match in lines[-1]


def volume(path):
    return nib.load(path).get_fdata()


def files(out):
    return sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file())


def card(path):
    return json.loads(path.read_text())


def test_maps_have_bids_names(mapped_once):
    _, out, said = mapped_once
    names = [name for name in files(out) if name.endswith(".nii.gz") and "std" not in name]
    own = ("Bmap", "M0map", "residual", "status")
    expected = ["sub-01/anat/sub-01_T1map", "sub-01/anat/sub-01_T2map"]
    expected += [f"sub-01/anat/sub-01_desc-IRT1_{stem}" for stem in own]
    expected += [f"sub-01/anat/sub-01_desc-MESE_{stem}" for stem in own[1:]]
    for ses in ("ses-a", "ses-b"):
        start = f"sub-02/{ses}/anat/sub-02_{ses}"
        expected += [f"{start}_T1map", *(f"{start}_desc-IRT1_{stem}" for stem in own)]
    assert names == sorted(f"{name}.nii.gz" for name in expected)
    assert said.splitlines()[0].endswith("ds: 4 series of 2 subjects")
    assert [line.split(":")[0] for line in said.splitlines()[1:5]] == EVERYTHING
    assert said.splitlines()[-1] == "4 done"


def test_relaxation_times_are_in_seconds(mapped_once):
    _, out, _ = mapped_once
    kappa, disc = truth(SHAPE)
    T1 = volume(out / "sub-01/anat/sub-01_T1map.nii.gz")
    np.testing.assert_allclose(T1[disc], kappa[disc][:, 2] / 1000, rtol=0.15)
    T2 = volume(out / "sub-01/anat/sub-01_T2map.nii.gz")
    assert np.median(T2[disc]) == pytest.approx(0.080, rel=0.03)
    std = volume(out / "sub-01/anat/sub-01_desc-IRT1_T1std.nii.gz")
    assert 0.0005 < np.median(std[disc]) < 0.1
    M0 = volume(out / "sub-01/anat/sub-01_desc-IRT1_M0map.nii.gz")
    np.testing.assert_allclose(M0[disc], kappa[disc][:, 0], rtol=0.1)


def test_sidecars_say_where_from_and_how(mapped_once):
    root, out, _ = mapped_once
    said = card(out / "sub-02/ses-b/anat/sub-02_ses-b_T1map.json")
    assert said["Units"] == "s"
    assert said["MagneticFieldStrength"] == 3  # inherited, and the same for all images
    np.testing.assert_allclose(said["InversionTimes"], TAU / 1000)
    assert "InversionTime" not in said
    assert "maximum likelihood" in said["EstimationAlgorithm"]
    assert "doi:" in said["EstimationReference"]
    assert said["SkullStripped"] is False
    assert said["SoftwareVersion"]
    assert said["Relaxnet"]["Sigma"] > 0
    assert len(said["Sources"]) == len(TAU)
    for source, time in zip(said["Sources"], TAU, strict=True):
        image = root / source.removeprefix("bids:raw:")
        assert image.is_file()
        one = card(image.with_name(image.name.replace(".nii.gz", ".json")))
        assert one["InversionTime"] == time / 1000
    assert card(out / "sub-01/anat/sub-01_desc-IRT1_M0map.json")["Units"] == "arbitrary"
    assert card(out / "sub-01/anat/sub-01_T2map.json")["EchoTime"][0] == 0.01
    levels = card(out / "sub-01/anat/sub-01_desc-IRT1_status.json")["Levels"]
    assert levels["0"] == "ok"


def test_the_dataset_says_what_it_is(mapped_once):
    root, out, _ = mapped_once
    said = card(out / "dataset_description.json")
    assert said["DatasetType"] == "derivative"
    assert said["GeneratedBy"][0]["Name"] == "relaxnet"
    assert (out / said["DatasetLinks"]["raw"]).resolve() == root.resolve()
    assert said["SourceDatasets"]
    assert (out / "README.md").is_file()


def test_what_is_done_is_skipped(place):
    out = place / "ds/derivatives/relaxnet"
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*.nii.gz")}
    assert call(*MLE).splitlines()[-1] == "4 skipped"
    main_map = out / "sub-02/ses-a/anat/sub-02_ses-a_T1map.nii.gz"
    main_map.unlink()  # as after an interruption: it is the last to be in place
    assert call(*MLE).splitlines()[-1] == "1 done, 3 skipped"
    changed = {p for p, t in before.items() if p.stat().st_mtime_ns != t}
    assert {p.parent.parent.name for p in changed} == {"ses-a"}


def test_goes_on_after_what_fails_and_lists_it(raw):
    broken = raw / "ds/sub-02/ses-a/anat/sub-02_ses-a_inv-3_IRT1.nii.gz"
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) * 3 // 4])
    (raw / "ds/sub-01/anat/sub-01_echo-2_MESE.json").unlink()
    lines = call(*MLE, code=1).splitlines()
    assert lines[-4] == "2 done, 2 failed"
    assert lines[-3] == "2 failed:"
    assert lines[-2].startswith("  sub-01_MESE: sub-01_echo-2_MESE.nii.gz has no sidecar")
    assert lines[-1].startswith("  sub-02_ses-a_IRT1: sub-02_ses-a_inv-3_IRT1.nii.gz is ")
    out = raw / "ds/derivatives/relaxnet"
    assert (out / "sub-02/ses-b/anat/sub-02_ses-b_T1map.nii.gz").is_file()
    assert not (out / "sub-02/ses-a").exists()
    assert not any(out.glob(".relaxnet-*/"))
    broken.write_bytes(whole)
    assert call(*MLE, code=1).splitlines()[-3] == "1 done, 1 failed, 2 skipped"


def test_nothing_of_a_series_whose_maps_were_half_written_is_published(place, monkeypatch):
    """A full disk, say: neither half of the new maps nor new ones among those of another method."""
    from relaxnet.maps import map_folder

    out = place / "ds/derivatives/relaxnet"
    before = {p: p.read_bytes() for p in out.rglob("sub-*") if p.is_file()}
    whole = map_folder.save_map

    def full(target, *more):
        if "sub-02_ses-a_desc-IRT1_T1std" in str(target):
            target.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        whole(target, *more)

    monkeypatch.setattr(map_folder, "save_map", full)
    one = ("--participant-label", "02", "--session-label", "a")
    said = call(*MLE, *one, "--overwrite", "--lambda-b", "50", code=1)
    assert "No space left on device" in said
    assert {p: p.read_bytes() for p in out.rglob("sub-*") if p.is_file()} == before
    shutil.rmtree(out)
    call(*MLE, *one, code=1)
    assert not any(out.glob("sub-*"))


def test_first_echoes_are_left_out(raw):
    only = ("--participant-label", "01")
    call(*MLE, *only, "--skip-first", "1")
    out = raw / "ds/derivatives/relaxnet/sub-01/anat"
    said = card(out / "sub-01_T2map.json")
    assert said["EchoTime"] == [0.02, 0.04, 0.08, 0.16]
    assert len(said["Sources"]) == 4
    assert len(card(out / "sub-01_T1map.json")["Sources"]) == 7  # inversion times are no train
    assert "SkipFirst 1, now None" in call(*MLE, *only, code=1)


def test_sidecars_are_strict_json(raw):
    sidecar = raw / "ds/IRT1.json"
    text = '{"RepetitionTime": 9.0, "Gain": Infinity, "Levels": {"0": "theirs"}}'
    sidecar.write_text(text)
    call(*MLE, "--participant-label", "01", "--suffix", "IRT1")
    out = raw / "ds/derivatives/relaxnet/sub-01/anat/sub-01_T1map.json"
    said = json.loads(out.read_text(), parse_constant=lambda name: pytest.fail(name))
    assert said["RepetitionTime"] == 9.0
    assert "Levels" not in said


def test_other_settings_are_not_mixed(place):
    lines = call(*MLE, "--mask", "none", code=1).splitlines()
    assert "maps of other settings are in place (Mask auto, now none)" in lines[-1]
    RIM("inversion_recovery", features=4, num_steps=2).save(place / "net.keras")
    said = call("--model", "net.keras", "--suffix", "IRT1", "--overwrite")
    assert said.splitlines()[-1] == "3 done"
    out = place / "ds/derivatives/relaxnet/sub-01/anat"
    assert not (out / "sub-01_desc-IRT1_T1std.nii.gz").exists()  # an earlier fit's
    assert (out / "sub-01_desc-MESE_T2std.nii.gz").exists()
    said = card(out / "sub-01_T1map.json")
    assert said["EstimationAlgorithm"] == "recurrent inference machine net"
    assert call("--model", "net.keras", "--suffix", "IRT1").splitlines()[-1] == "3 skipped"


def test_masks_by_pattern(raw):
    _, disc = truth(SHAPE)
    brain = raw / "ds/derivatives/brain"
    save(brain / "sub-01/sub-01_desc-brain_mask.nii.gz", disc & (np.arange(14) < 7)[:, None, None])
    pattern = ("--mask", "derivatives/brain/*/*_mask.nii.gz")
    lines = call(*MLE, *pattern, "--suffix", "IRT1", code=1).splitlines()
    assert "no match for sub-02_ses-a_IRT1" in lines[-2]
    out = raw / "ds/derivatives/relaxnet/sub-01/anat/sub-01_T1map"
    assert not volume(f"{out}.nii.gz")[7:].any()
    assert card(out.with_suffix(".json"))["SkullStripped"] is True


def test_repetition_time_of_the_sidecars(raw):
    said = call(*MLE, "--tr", "sidecar", "--participant-label", "01")
    assert "note: repetition time 9000 ms (RepetitionTime of the sidecars)" in said
    out = raw / "ds/derivatives/relaxnet/sub-01/anat"
    assert "TR 9000 ms" in card(out / "sub-01_T1map.json")["EstimationAlgorithm"]
    assert "TR" not in card(out / "sub-01_T2map.json")["EstimationAlgorithm"]


def test_a_4d_file_leaves_no_list_of_inversion_times_under_the_raw_name(raw):
    folder = raw / "ds/sub-01/anat"
    images = sorted(folder.glob("sub-01_inv-*_IRT1.nii.gz"))
    cards = [card(path.with_name(path.name.replace(".nii.gz", ".json"))) for path in images]
    S = np.stack([np.asarray(nib.load(path).dataobj) for path in images], -1)
    for path in folder.glob("sub-01_inv-*"):
        path.unlink()
    save(folder / "sub-01_IRT1.nii.gz", S)
    taken = [c["InversionTime"] for c in cards]
    write_json(folder / "sub-01_IRT1.json", InversionTime=taken)
    call(*MLE, "--participant-label", "01", out="new")
    said = card(Path("new/sub-01/anat/sub-01_T1map.json"))
    assert said["InversionTimes"] == pytest.approx(taken)
    assert "InversionTime" not in said


def test_penalty_on_b(raw):
    call(*MLE, "--lambda-b", "500", "--participant-label", "01", out="new")
    said = {s: card(Path(f"new/sub-01/anat/sub-01_{s}map.json")) for s in ("T1", "T2")}
    assert said["T1"]["Relaxnet"]["Fit"].endswith("B regularised, lambda 500.0")
    assert said["T2"]["Relaxnet"]["Fit"].endswith("voxel-wise")
    call(*MLE, "--lambda-b", "50", "--participant-label", "01", out="new", code=1)
    refused("--lambda-b must be a number >= 0", *MLE, "--lambda-b", "-1")


class TestOptionsOfTheFit:
    """Those that `relaxnet predict` has; each series takes those that its model has a use for."""

    out = Path("new/sub-01/anat")

    def maps(self, *options):
        """T1 and T2 in s and B in the disc, and the sidecars of T1 and T2."""
        call(*MLE, *options, "--participant-label", "01", "--overwrite", out="new")
        _, disc = truth(SHAPE)
        names = ("sub-01_T1map", "sub-01_T2map", "sub-01_desc-IRT1_Bmap")
        values = [volume(self.out / f"{name}.nii.gz")[disc] for name in names]
        return values, [card(self.out / f"{name}.json")["Relaxnet"] for name in names[:2]]

    def test_known_and_shared_b(self, raw):
        (*_, B), (t1, t2) = self.maps("--fix-b", "1.9")
        np.testing.assert_allclose(B, 1.9, rtol=1e-6)
        assert t1["Settings"]["FixB"] == 1.9
        assert t2["Settings"]["FixB"] is None
        (*_, B), (t1, t2) = self.maps("--share-b")
        assert np.ptp(B) == 0
        assert np.median(B) == pytest.approx(
            np.median(truth(SHAPE)[0][truth(SHAPE)[1]][:, 1]), 0.03
        )
        assert t1["Settings"]["ShareB"] is True
        assert t2["Settings"]["ShareB"] is None
        again = ("--participant-label", "01")
        assert call(*MLE, "--share-b", *again, out="new").splitlines()[-1] == "2 skipped"
        assert "other settings" in call(*MLE, *again, out="new", code=1)

    def test_bounds_of_both_models_in_one_file(self, raw):
        write_json(raw / "bounds.json", T1=[100, 600], T2=[20, 70])
        (T1, T2, _), (t1, t2) = self.maps("--bounds", "bounds.json")
        assert T1.max() == pytest.approx(0.6, rel=1e-5)
        assert T2.max() == pytest.approx(0.07, rel=1e-5)
        assert t1["Settings"]["Bounds"] == {"T1": [100, 600]}
        assert t2["Settings"]["Bounds"] == {"T2": [20, 70]}
        again = ("--bounds", "bounds.json", "--participant-label", "01")
        assert call(*MLE, *again, out="new").splitlines()[-1] == "2 skipped"
        write_json(raw / "bounds.json", R1=[1, 2])
        refused("R1 from 1 to 2; expected low < high for some of A, B, T1, T2", *MLE, *again[:2])
        write_json(raw / "bounds.json", T2=[0.02, 0.07])
        refused("T2 from 0.02 to 0.07 looks like s; expected ms", *MLE, *again[:2])
        write_json(raw / "bounds.json", e=[0.9, 1.05])
        self.maps("--bounds", "bounds.json", "--tr", "sidecar")

    def test_sigma_by_number_and_by_maps(self, raw):
        _, cards = self.maps("--sigma", "5")
        assert [c["Sigma"] for c in cards] == [5, 5]
        save(raw / "ds/derivatives/noise/sub-01/sub-01_desc-noise_sigma.nii", np.full(SHAPE, 6.0))
        pattern = "derivatives/noise/*/*_sigma.nii"
        _, cards = self.maps("--sigma", pattern)
        assert [c["Sigma"] for c in cards] == [6, 6]
        assert {Path(c["SigmaFile"]).name for c in cards} == {"sub-01_desc-noise_sigma.nii"}
        lines = call(*MLE, "--sigma", pattern, "--participant-label", "02", out="new", code=1)
        assert f"--sigma {pattern}: no match for sub-02_ses-a_IRT1" in lines

    def test_exclude_each_other_and_networks(self, raw):
        refused("exclude each other", *MLE, "--share-b", "--fix-b", "1.9")
        for options in (("--share-b",), ("--fix-b", "1.9"), ("--likelihood", "rician")):
            refused("are options of the fit: give --method mle", *options)


def test_reports_have_bids_names_and_show_the_series(raw):
    call(*MLE, "--report", "--participant-label", "01", "--suffix", "IRT1", out="new")
    page = Path("new/sub-01/anat/sub-01_desc-IRT1_report.html").read_text()
    assert "Samples and fitted curve" in page  # read from the raw dataset
    assert "T1 (ms)" in page
    assert page.count("sub-01_IRT1") >= 1  # the protocol
    assert not list(Path("new").rglob("report.html"))
    again = Path("again.html")
    write_report("new/sub-01/anat", again)
    assert again.read_text().split("<main")[1] == page.split("<main")[1]


def test_labels(raw):
    assert "2 series of 1 subject" in call(*MLE, "--participant-label", "sub-01")
    said = call(*MLE, "--participant-label", "01,02", "--session-label", "b", code=1)
    assert "1 series of 1 subject" in said
    assert said.splitlines()[-1] == "  sub-01: no IRT1, MESE, VFA or MEGRE series"
    assert "2 series of 1 subject" in call(*MLE, "--session-label", "a", "b")
    assert "4 series of 2 subjects" in call(*MLE, "--participant-label", "01", "02")
    refused("x: not expected", "x")
    refused("--participant-label 7: ds has no sub-7 (01, 02)", "--participant-label", "7")
    refused("--session-label z: no chosen subject of ds has ses-z (a, b)", "--session-label", "z")
    known = ("--session-label", "a", "--session-label", "9")
    refused("--session-label 9: no chosen subject of ds has ses-9", *known)
    refused("there are no sessions", "--participant-label", "01", "--session-label", "a")


def test_a_series_that_lacks_its_last_images_is_told_of(raw):
    for n in (6, 7):
        for path in list((raw / "ds/sub-02/ses-b/anat").glob(f"*inv-{n}*")):
            path.unlink()
    said = call(*MLE, "--participant-label", "02").splitlines()
    note = "5 images, while most such series here have 7: is it complete?"
    assert said[said.index(f"  note: {note}") - 1].startswith("sub-02_ses-b_IRT1: T1 median")
    out = raw / "ds/derivatives/relaxnet/sub-02/ses-b/anat/sub-02_ses-b_T1map.json"
    assert card(out)["Relaxnet"]["Notes"] == [note]


def test_subjects_without_series_are_told_of(raw):
    save(raw / "ds/sub-03/anat/sub-03_T1w.nii.gz", np.zeros((2, 2, 2)))
    assert "without IRT1, MESE, VFA or MEGRE: sub-03" in call(*MLE)


def test_names_with_accents_are_the_reason(raw):
    write_series(raw / "ds", "sub-Zoë")
    lines = call(*MLE, "--suffix", "IRT1", code=1).splitlines()
    odd = [line for line in lines if "sub-Zoë_inv-1_IRT1.nii.gz and 6 more" in line]
    assert len(odd) == 2  # at the start and among what failed
    assert "letters and digits without accents" in odd[0]
    assert not any("without IRT1" in line for line in lines)


def test_real_parts_and_upper_case_endings_are_mapped(raw):
    _, kappa, disc = series(SHAPE)
    shutil.rmtree(raw / "ds/sub-01")
    S = (
        INVERSION_RECOVERY.signed(np.where(disc[..., None], kappa, 1), TAU[:, None])
        * disc[..., None]
    )
    S = S + 4 * np.random.default_rng(0).standard_normal(S.shape)
    for path in (raw / "ds").glob("sub-02/ses-a/anat/*_IRT1.*"):
        path.unlink()
    for n, t in enumerate(TAU):
        stem = raw / f"ds/sub-02/ses-a/anat/sub-02_ses-a_inv-{n + 1}_part-real_IRT1"
        save(stem.with_suffix(".nii.gz"), S[..., n]).rename(stem.with_suffix(".NII.GZ"))
        write_json(stem.with_suffix(".json"), InversionTime=t / 1000)
    assert "sub-02_ses-a_IRT1: T1 median" in call(*MLE, "--suffix", "IRT1", out="real")
    T1 = volume(raw / "real/sub-02/ses-a/anat/sub-02_ses-a_T1map.nii.gz")
    np.testing.assert_allclose(1000 * T1[disc], kappa[..., -1][disc], rtol=0.1)


class TestRefusals:
    """One line, exit code 2, and nothing written."""

    def test_no_dataset(self, raw):
        shutil.rmtree(raw / "ds")
        refused("ds: no such folder")
        (raw / "ds").mkdir()
        refused("ds holds no folder sub-*")

    def test_no_series(self, raw):
        for path in list((raw / "ds").rglob("*_*.nii.gz")):
            path.unlink()
        for path in list((raw / "ds").rglob("sub-*_*.json")):
            path.unlink()
        save(raw / "ds/sub-01/anat/sub-01_T1w.nii.gz", np.zeros((2, 2, 2)))
        refused(
            "holds no IRT1, MESE, VFA or MEGRE series of the 2 subjects; in the dataset there are: "
            "T1w."
        )
        assert not (raw / "new").exists()

    @pytest.mark.parametrize(
        ("out", "match"),
        [
            ("ds", "lies in the raw data"),
            ("ds/sub-01/maps", "lies in the raw data"),
            ("ds/IRT1.json", "is a file"),
            ("/proc/none", "cannot be written"),
            ("full", "holds other files"),
            ("theirs", "relaxnet did not make"),
            ("other", "maps of another dataset"),
        ],
    )
    def test_output(self, raw, out, match):
        (raw / "full").mkdir()
        (raw / "full/x.txt").write_text("")
        write_json(raw / "theirs/dataset_description.json", GeneratedBy=[{"Name": "x"}])
        shutil.copytree(raw / "ds", raw / "ds2")
        ours = {"GeneratedBy": [{"Name": "relaxnet"}], "DatasetLinks": {"raw": "../ds2"}}
        write_json(raw / "other/dataset_description.json", **ours)
        before = files(raw)
        refused(match, *MLE, out=out)
        assert files(raw) == before

    def test_options(self, raw):
        RIM("inversion_recovery", features=4, num_steps=2).save(raw / "net.keras")
        refused("--method mle takes none", *MLE, "--model", "net.keras")
        refused("are options of the fit: give --method mle", "--tr", "sidecar")
        refused("are options of the fit: give --method mle", "--lambda-b", "500")
        refused("--tr x: expected a number of ms, or sidecar", *MLE, "--tr", "x")
        refused("both for inversion_recovery", "--model", "net.keras", "--model", "net.keras")
        refused("is a rim, but --method is resnet", "--model", "net.keras", "--method", "resnet")
        refused("no such file, and no shipped network", "--model", "gone")
        assert not (raw / "new").exists()


def test_two_runs_at_once_leave_one_of_the_two(place, tmp_path):
    out = place / "ds/derivatives/relaxnet"
    collections = find_collections(place / "ds", "01")
    trees = [tmp_path / "tree-1", tmp_path / "tree-2"]
    for tree in trees:
        shutil.copytree(out / "sub-01", tree / "sub-01")
        (tree / "sub-01/anat/sub-01_desc-IRT1_Bstd.json").write_text(tree.name)
    shutil.rmtree(out / "sub-01")
    names = files(trees[0])
    assert publish(trees[0], out, collections, overwrite=False) == []
    assert publish(trees[1], out, collections, overwrite=False) == collections
    assert files(out / "sub-01") == [name.removeprefix("sub-01/") for name in names]
    assert (out / "sub-01/anat/sub-01_desc-IRT1_Bstd.json").read_text() == "tree-1"


@pytest.mark.parametrize("number", [0, 5, 14, 19])
def test_maps_that_cannot_all_be_moved_leave_those_in_place(place, tmp_path, monkeypatch, number):
    out = place / "ds/derivatives/relaxnet"
    collections = find_collections(place / "ds", "01")
    shutil.copytree(out / "sub-01", tmp_path / "tree/sub-01")
    for path in (tmp_path / "tree").rglob("*.json"):
        path.write_text("new")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    replace, count = Path.replace, iter(range(1000))

    def failing(self, target):
        if next(count) == number:
            raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(OSError, match="No space left"):
        publish(tmp_path / "tree", out, collections, overwrite=True)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    monkeypatch.undo()
    assert publish(tmp_path / "tree", out, collections, overwrite=True) == []
    found = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert found.keys() == before.keys()
    assert all(found[p] == b"new" for p in found if p.suffix == ".json" and "sub-01" in p.parts)


@pytest.mark.parametrize(("mask", "state"), [("auto", "skipped"), ("none", "failed")])
def test_a_run_that_was_overtaken_says_so(place, monkeypatch, mask, state):
    out = place / "ds/derivatives/relaxnet"
    series = find_collections(place / "ds", "01", suffixes=["IRT1"])
    seen = iter([None])  # its maps are not in place yet when the work begins
    monkeypatch.setattr("relaxnet.bids.run.made_with", lambda *a: next(seen, made_with(*a)))
    (outcome,) = map_subject(Settings(place / "ds", out, method="mle", mask=mask), series)
    assert outcome.state == state
    assert ("another run" if state == "skipped" else "other settings") in outcome.words


def test_processes_give_the_same_maps(mapped_once, raw):
    lines = call(*MLE, "--jobs", "2", "--suffix", "IRT1", out="out").splitlines()
    assert lines[-1] == "3 done"
    for path in sorted(mapped_once[1].rglob("*_T1map.nii.gz")):
        again = raw / "out" / path.relative_to(mapped_once[1])
        np.testing.assert_array_equal(volume(path), volume(again))


def test_a_process_that_dies_takes_nobody_with_it(raw):
    (raw / "out").mkdir()
    settings = Settings(raw / "ds", raw / "out", before_network=os.abort)
    subjects = {s: find_collections(raw / "ds", s, suffixes=["IRT1"]) for s in ("01", "02")}
    outcomes = list(run(settings, subjects, jobs=2))
    assert sorted(o.name for o in outcomes) == [n for n in EVERYTHING if "IRT1" in n]
    assert {o.words for o in outcomes} == {"its process died (out of memory?)"}


class TestPredict:
    """`relaxnet predict` on BIDS files."""

    def call(self, *arguments, code=0):
        result = CliRunner().invoke(main, ["predict", *map(str, arguments)])
        assert result.exit_code == code, result.output
        return result.output

    @pytest.fixture
    def images(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        write_json(tmp_path / "IRT1.json", RepetitionTime=9)
        paths = write_series(tmp_path, "sub-01")
        for path in tmp_path.glob("sub-01/anat/*"):
            path.rename(tmp_path / path.name)
        return [path.name for path in paths]

    def test_needs_no_times_and_takes_files_in_any_order(self, images, tmp_path):
        said = self.call(*images, *MLE)
        assert "note: RepetitionTime 9000 ms of the sidecars is not used" in said
        said = card(tmp_path / "maps/T1map.json")
        assert said["InversionTimesMs"] == TAU.tolist()
        assert said["Units"] == "ms"
        assert said["Sources"] == [str(Path(path).absolute()) for path in images[::-1]]
        write_times(tmp_path / "tis.txt", TAU[::-1])
        self.call(*images, "--tis", "tis.txt", *MLE, "--out", "given")
        a, b = volume("maps/T1map.nii.gz"), volume("given/T1map.nii.gz")
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=0.01)

    def test_a_look_locker_readout_that_the_dataset_tells_of(self, images, tmp_path):
        write_json(tmp_path / "IRT1.json", LookLocker=True)
        self.call(*images, *MLE)
        assert "LookLocker" in card(tmp_path / "maps/T1map.json")["Notes"][-1]

    def test_a_repetition_time_when_asked_for(self, images, tmp_path):
        (tmp_path / "bounds.json").write_text('{"e": [0.5, 1.05]}')
        self.call(*images, *MLE, "--tr", "sidecar", "--bounds", "bounds.json")
        said = card(tmp_path / "maps/T1map.json")
        assert "TR 9000 ms" in said["Fit"]
        assert said["Notes"][0] == "repetition time 9000 ms (RepetitionTime of the sidecars)"

    def test_one_file_with_a_list(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        save(tmp_path / "x.nii.gz", series(SHAPE)[0])
        write_json(tmp_path / "x.json", InversionTime=(TAU / 1000).tolist())
        self.call("x.nii.gz", *MLE)
        write_json(tmp_path / "x.json", InversionTime=(TAU[:-1] / 1000).tolist())
        said = self.call("x.nii.gz", *MLE, "--out", "b", code=2)
        assert "x.nii.gz holds 7 images" in said

    def test_contradictions_are_refused(self, images, tmp_path):
        write_times(tmp_path / "tis.txt")
        said = self.call(*images, "--tis", "tis.txt", code=2)
        assert "Error: sub-01_inv-1_IRT1.json: InversionTime is 3.5 s" in said
        assert "--tr 4000 contradicts" in self.call(*images, *MLE, "--tr", "4000", code=2)
        assert "options of the fit" in self.call(*images, "--tr", "sidecar", code=2)
        assert not (tmp_path / "maps").exists()


def test_images_without_gzip_times(mapped_once):
    """The specification: gzip headers lack file names and time stamps."""
    for path in mapped_once[1].rglob("*.nii.gz"):
        head = path.read_bytes()[:10]
        assert head[:2] == b"\x1f\x8b"
        assert head[3] & 8 == 0
        assert head[4:8] == bytes(4)
        assert gzip.open(path).read(4)


@pytest.mark.data
def test_a_real_series_gives_what_predict_gives(data_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = data_dir / "brain_ir"
    anat = tmp_path / "ds/sub-01/anat"
    anat.mkdir(parents=True)
    (anat / "sub-01_IRT1.nii.gz").symlink_to(source / "series.nii.gz")
    seconds = read_protocol(source / "tis.txt", "tis").tau / 1000
    write_json(tmp_path / "ds/IRT1.json", InversionTime=seconds.tolist())
    said = call(*MLE, out="out")
    assert "1 done" in said
    arguments = [str(source / "series.nii.gz"), "--tis", str(source / "tis.txt"), *MLE]
    result = CliRunner().invoke(main, ["predict", *arguments])
    assert result.exit_code == 0, result.output
    ours = volume("out/sub-01/anat/sub-01_T1map.nii.gz")
    np.testing.assert_allclose(ours * 1000, volume("maps/T1map.nii.gz"), rtol=1e-6)
    assert 0.5 < np.median(ours[ours > 0]) < 3
