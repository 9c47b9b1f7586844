"""Inputs that people of the field reported: what they give, and what is said of them.

They lie in shared/cases beside the checkout; elsewhere these tests are skipped.
"""

import shlex

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner

from relaxnet.cli.group import main

IR = (1000, 600, 4000, 1300)
T2 = (95, 75, 400, 130)
SHORT_T2 = (38, 28, 55, 45)
LABELS = {(64, 64, 2): "labels64x2", (64, 64, 1): "labels64x1", (32, 32, 16): "labels32x16"}
#: Folder, command, truth by label, what is said.
RIGHT = [
    ("zero_images", "ir.nii.gz --tis ti.txt", IR, "image 5 of 8 (800 ms) is empty"),
    ("zero_images", "ir.nii.gz --tis ti.txt --method mle", IR, "is empty"),
    ("reversed_sign", "real.nii.gz --tis ti.txt", IR, "looks reversed"),
    ("reversed_sign", "real.nii.gz --tis ti.txt --method mle --signed", IR, "looks reversed"),
    ("reversed_sign", "negslope.nii.gz --tis ti.txt", IR, "no sample is positive"),
    ("philips_scaling", "p_e{1,2,3,4,5,6,7,8}.nii.gz", T2, "display values of Philips"),
    ("clipped", "t2.nii.gz --tes te.txt", (None, 75, None, 130), "clipped"),
    ("quaternion", "ir.nii.gz --tis ti.txt --method mle", IR, ""),
    ("shapes", "xyn.nii.gz --tis ti.txt --method mle", IR, ""),
    ("shapes", "xyz1n.nii.gz --tis ti.txt --method mle", IR, ""),
    ("shapes", "pair.img --tis ti.txt --method mle", IR, ""),
    ("shapes", "s{1,2,3,4,5,6,7,8}.nii.gz --tis ti.txt --method mle", IR, ""),
    ("upper_case_name", "IR.NII.GZ --tis ti.txt --method mle", IR, ""),
    ("latin1_sidecar", "x_e{1,2,3,4,5,6}.nii.gz --tes te.txt", T2, ""),
    ("fix_b_two_images", "ir2.nii.gz --tis ti.txt --method mle --fix-b 1.9", None, ""),
    ("times_files", "ir.nii.gz --tis 50,150,300,500,800,1200,1800,3000 --method mle", IR, ""),
    ("times_files", "ir.nii.gz --tis utf16.txt --method mle", IR, ""),
    ("megre", "8_gre_me_e{1,2,3,4,5,6,7,8,9,10,11,12}.nii.gz --method mle", None, "T2*"),
    (
        "same_echo_time",
        "ge_e{01,02,03,04,05,06,07,08,09,10,11,12}.nii.gz --tes te.txt --method mle",
        None,
        "EchoTime",
    ),
]
#: Folder, command, truth by label, what is said of a map that is off.
SAID = [
    ("offset", "t2.nii.gz --tes te.txt --method mle", SHORT_T2, "go one way"),
    ("offset", "t2.nii.gz --tes te.txt", SHORT_T2, "go one way"),
    ("sum_of_squares", "t2.nii.gz --tes te.txt", SHORT_T2, "several receivers"),
    ("skip_first", "t2.nii.gz --tes te.txt --method mle", T2, "stimulated"),
    ("skip_first", "t2.nii.gz --tes te.txt --method mle --skip-first 1", T2, "stimulated"),
    ("molli", "molli.nii.gz --tis ti.txt", (1000, 1600, 300, 1250), "look-locker"),
    ("molli", "molli.nii.gz --tis ti.txt --method mle", (1000, 1600, 300, 1250), "look-locker"),
]
REFUSED = [
    ("times_files", "ir.nii.gz --tis comma.txt --method mle", "decimal comma"),
    ("same_echo_time", "ge_e{01,02}.nii.gz", "EchoTime"),
]


@pytest.fixture(scope="session")
def cases(data_dir):
    folder = data_dir.parent / "cases"
    if not folder.is_dir():
        pytest.skip("no cases beside the data")
    return folder


def braces(word):
    """Words of a pattern such as a{1,2}.nii."""
    if "{" not in word:
        return [word]
    before, rest = word.split("{")
    inner, after = rest.split("}")
    return [f"{before}{entry}{after}" for entry in inner.split(",")]


def run(cases, folder, command, out, monkeypatch):
    monkeypatch.chdir(cases / folder)
    words = [entry for word in shlex.split(command) for entry in braces(word)]
    return CliRunner().invoke(main, ["predict", *words, "--out", str(out)])


def medians(cases, out):
    """Median of the map and share of ok of each label."""
    (path,) = [p for p in out.glob("T*map.nii.gz")]
    values = nib.load(path).get_fdata()
    ok = nib.load(out / "status.nii.gz").get_fdata() == 0
    if values.shape not in LABELS:
        return None
    labels = np.load(cases / f"{LABELS[values.shape]}.npy")
    return [(np.median(values[labels == k]), ok[labels == k].mean()) for k in range(1, 5)]


@pytest.mark.parametrize(("folder", "command", "truth", "says"), RIGHT)
def test_a_case_is_mapped_rightly(cases, tmp_path, monkeypatch, folder, command, truth, says):
    result = run(cases, folder, command, tmp_path / "m", monkeypatch)
    assert result.exit_code == 0, result.output
    assert says in result.output
    found = medians(cases, tmp_path / "m")
    for expected, (median, _) in zip(truth or (), found or (), strict=False):
        if expected is not None:
            assert abs(median / expected - 1) < 0.05, found


@pytest.mark.parametrize(("folder", "command", "truth", "says"), SAID)
def test_a_map_that_is_off_says_so(cases, tmp_path, monkeypatch, folder, command, truth, says):
    result = run(cases, folder, command, tmp_path / "m", monkeypatch)
    assert result.exit_code == 0, result.output
    assert says in result.output


@pytest.mark.parametrize(("folder", "command", "says"), REFUSED)
def test_a_case_is_refused_in_one_line(cases, tmp_path, monkeypatch, folder, command, says):
    result = run(cases, folder, command, tmp_path / "m", monkeypatch)
    assert result.exit_code == 2, result.output
    assert says in result.output
    assert not (tmp_path / "m").exists()
