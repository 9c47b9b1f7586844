"""T2* and variable flip angles from files to maps, and input that cannot be such a series."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner

from relaxnet.cli.group import main
from relaxsim.models.spoiled_gradient_echo import MODEL as VFA
from relaxsim.models.t2star_decay import MODEL as T2STAR

ANGLES = np.array([2.0, 5.0, 10.0, 18.0, 28.0])
TES = np.array([2.5, 5.0, 10.0, 17.0, 25.0, 36.0])
SHAPE = (40, 32, 2)
INSIDE = (slice(8, 32), slice(8, 24))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*words):
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def save(name, values):
    nib.save(nib.Nifti1Image(np.asarray(values, np.float32), np.diag([2, 2, 3, 1])), name)


def load(name):
    return nib.load(name).get_fdata()


def object_of(model, table, known=None, sigma=2.0):
    """Magnitudes of an object in air with Rician noise, and its main parameter."""
    T = np.broadcast_to(np.linspace(0.6, 1.6, SHAPE[0])[:, None, None], SHAPE)
    T = T * (900.0 if model is VFA else 30.0)
    A = np.zeros(SHAPE)
    A[INSIDE] = 800.0 * (15.0 if model is VFA else 1.0)
    S = model.forward(np.stack([A, T], axis=-1), table, np, known)
    rng = np.random.default_rng(0)
    return np.hypot(*(x + sigma * rng.normal(size=S.shape) for x in (S, 0.0))), T


@pytest.fixture
def flips(folder):
    """A series of five angles, its B1 map, and T1."""
    B1 = np.broadcast_to(np.linspace(0.8, 1.2, SHAPE[1])[:, None], SHAPE)
    table = np.stack([ANGLES, np.full(5, 15.0)], axis=-1)
    S, T1 = object_of(VFA, table, B1[..., None])
    save("s.nii.gz", S)
    save("b1.nii.gz", B1)
    np.savetxt("fas.txt", ANGLES)
    return S, B1, T1


GIVEN = ("predict", "s.nii.gz", "--fas", "fas.txt", "--trs", "15", "--method", "mle")


def refused(words, *arguments):
    result = call(*arguments, "--out", "refused")
    assert result.exit_code == 2, result.output
    assert words in result.output
    assert result.output.strip().count("\n") <= 1  # what was read, and the error
    assert not Path("refused").exists()


def test_t1_of_flip_angles_with_b1(flips):
    _, _, T1 = flips
    result = call(*GIVEN, "--b1", "b1.nii.gz", "--report")
    assert result.exit_code == 0, result.output
    assert "warning" not in result.output
    found = load("maps/T1map.nii.gz")[INSIDE] / T1[INSIDE]
    assert np.median(np.abs(found - 1)) < 0.01
    card = json.loads(Path("maps/T1map.json").read_text())
    assert (card["Sequence"], card["FlipAnglesDegrees"]) == ("vfa", ANGLES.tolist())
    assert card["RepetitionTimesMs"] == [15.0] * 5
    assert "Fram, E. K." in Path("maps/report.html").read_text()


def test_without_a_b1_map_it_is_1_and_said(flips):
    result = call(*GIVEN)
    assert "warning: no relative transmit field is given (--b1): B1 is taken as 1" in result.output
    B1, T1 = flips[1:]
    off = load("maps/T1map.nii.gz")[INSIDE] / T1[INSIDE]
    np.testing.assert_allclose(np.median(off / B1[INSIDE] ** 2), 1.0, atol=0.03)


def test_repetition_times_by_file_and_in_seconds(flips):
    np.savetxt("trs.txt", np.full(5, 0.015))
    given = ("predict", "s.nii.gz", "--fas", "2,5,10,18,28", "--method", "mle", "--b1", "b1.nii.gz")
    assert call(*given, "--trs", "trs.txt", "--units", "s", "--out", "a").exit_code == 0
    assert call(*given, "--trs", "15", "--out", "b").exit_code == 0
    np.testing.assert_array_equal(load("a/T1map.nii.gz"), load("b/T1map.nii.gz"))


def test_zeros_of_a_b1_map_are_not_mapped(flips):
    _, B1, T1 = flips
    holes = B1.copy()
    holes[10:12] = 0.0
    save("holes.nii.gz", holes)
    result = call(*GIVEN, "--b1", "holes.nii.gz", "--sigma", "2")
    assert result.exit_code == 0, result.output
    assert "(64 of them are 0): they are not mapped (status invalid input)" in result.output
    status, found = load("maps/status.nii.gz"), load("maps/T1map.nii.gz")
    assert (status[10:12, 8:24] == 3).all()
    assert (found[10:12] == 0).all()
    ratio = (found / T1)[12:32, 8:24]
    assert np.median(np.abs(ratio - 1)) < 0.01


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (lambda b: 100 * b, "a map in per cent is divided by 100"),
        (lambda b: 60 * b, "one in degrees by its nominal angle"),
        (lambda b: b[::2], "has shape 20 x 32 x 2, the series 40 x 32 x 2"),
        (lambda b: 0 * b, "--b1 is 0 everywhere in the mask"),
    ],
)
def test_b1_maps_that_are_none(flips, values, words):
    save("bad.nii.gz", values(flips[1]))
    refused(words, *GIVEN, "--b1", "bad.nii.gz")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--fas", "0.03,0.09,0.17,0.3,0.5", "--trs", "15"), "which looks like radians"),
        (("--fas", "2,5,10,18,28", "--trs", "0.015"), "which looks like seconds"),
        (("--fas", "0,5,10,18,28", "--trs", "15"), "holds flip angles of 0; expected each to be"),
        (("--fas", "2,5,10,18,28", "--trs", "15,15,15"), "lists 3 repetition times, but there"),
        (("--fas", "2,5,10,18", "--trs", "15"), "but given lists 4 flip angles"),
        (("--fas", "2,5,10,18,28"), "variable flip angle needs repetition times, too: give --trs"),
        (("--fas", "5,5,5,5,5", "--trs", "15"), "all 5 rows of the protocol are 5 degrees, 15 ms"),
        (("--fas", "2,5,10,18,28", "--trs", "15", "--tis", "1,2,3,4,5"), "to no one signal model"),
    ],
)
def test_protocols_that_are_none(flips, options, words):
    refused(words, "predict", "s.nii.gz", *options, "--method", "mle")


def test_two_angles_are_a_protocol(flips):
    """The noise is that of the air; without air it has to be given."""
    S, B1, T1 = flips
    save("two.nii.gz", S[..., [0, 3]])
    given = ("predict", "two.nii.gz", "--fas", "2,18", "--trs", "15", "--b1", "b1.nii.gz")
    result = call(*given, "--method", "mle")
    assert result.exit_code == 0, result.output
    assert "warning" not in result.output
    found = load("maps/T1map.nii.gz")[INSIDE] / T1[INSIDE]
    assert np.median(np.abs(found - 1)) < 0.02
    std = load("maps/T1std.nii.gz")[INSIDE] / T1[INSIDE]
    assert 0.5 < np.median(np.abs(found - 1)) / np.median(std) / 0.6745 < 2.0
    save("cut.nii.gz", S[INSIDE][..., [0, 3]])
    save("b1cut.nii.gz", B1[INSIDE])
    cut = ("predict", "cut.nii.gz", *given[2:-1], "b1cut.nii.gz", "--method", "mle")
    refused("Give the noise with --sigma", *cut)
    assert call(*cut, "--sigma", "2", "--out", "given").exit_code == 0


def test_t2star(folder):
    S, T2 = object_of(T2STAR, TES[:, None])
    save("s.nii.gz", S)
    np.savetxt("tes.txt", TES)
    given = ("predict", "s.nii.gz", "--tes", "tes.txt", "--method", "mle")
    result = call(*given, "--sequence", "t2star")
    assert result.exit_code == 0, result.output
    assert "T2*: median" in result.output
    found = load("maps/T2starmap.nii.gz")[INSIDE] / T2[INSIDE]
    assert np.median(np.abs(found - 1)) < 0.01
    assert json.loads(Path("maps/T2starmap.json").read_text())["Sequence"] == "t2star"
    assert "T2: median" in call(*given, "--out", "t2").output
    for n, image in enumerate(np.moveaxis(S, -1, 0), start=1):
        save(f"sub-01_echo-{n}_MEGRE.nii.gz", image)
    files = [f"sub-01_echo-{n}_MEGRE.nii.gz" for n in range(1, 7)]
    result = call("predict", *files, *given[2:], "--out", "named")
    assert "T2*: median" in result.output
    assert "warning" not in result.output
    np.testing.assert_array_equal(load("named/T2starmap.nii.gz"), load("maps/T2starmap.nii.gz"))
    refused("which looks like seconds", *given[:2], "--tes", "0.002,0.005,0.01,0.02,0.03,0.04")


def test_opposed_phases_reach_the_user(folder):
    times = 1.15 * np.arange(1, 7)
    S, _ = object_of(T2STAR, times[:, None])
    S[14:18] *= np.abs(0.7 + 0.3 * np.exp(2j * np.pi * 0.434 * times))
    save("s.nii.gz", S)
    listed = ",".join(map(str, times))
    result = call(
        *("predict", "s.nii.gz", "--tes", listed, "--sequence", "t2star", "--method", "mle")
    )
    assert result.exit_code == 0, result.output
    assert "warning: the signal rises along the echoes in" in result.output
