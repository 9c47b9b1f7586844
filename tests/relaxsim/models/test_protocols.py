import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaxsim.models.protocols import (
    bundled_protocols,
    check_column,
    random_protocol,
    read_protocol,
)
from relaxsim.models.registry import model_of

CINE23 = (
    "172 204 237 270 303 335 368 401 434 467 499 532 565 598 630 663 696 729 761 794 827 860 893"
)
PAPER = {
    "cine23": CINE23,
    "cine25": CINE23 + " 925 958",
    "cine31": "139 166 193 219 246 272 299 325 352 379 405 432 458 485 511 538 565 591 618 644 671 "
    "697 724 751 777 804 838 857 883 915 937",
    "fse6": "10 20 40 80 160 320",
}


@pytest.mark.parametrize("name", PAPER)
def test_bundled_lists_are_the_papers(name):
    protocol = read_protocol(name, "tes" if name == "fse6" else "tis")
    assert protocol.tau.tolist() == [float(t) for t in PAPER[name].split()]
    assert protocol.num_images == len(PAPER[name].split())
    assert protocol.name == name


def test_bundled_lists_are_all_tested():
    assert set(bundled_protocols()) == set(PAPER)


def test_a_file_goes_before_a_bundled_list(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read_protocol("cine31.txt", "tis").num_images == 31
    (tmp_path / "cine31.txt").write_text("100 200")
    assert read_protocol("cine31.txt", "tis").num_images == 2


@pytest.mark.parametrize(
    "text", ["50, 100,400", "# ms\n50\n100 # second\n\n400\n", "\ufeff50\t100\r\n400"]
)
def test_ways_of_writing(tmp_path, text):
    path = tmp_path / "t.txt"
    path.write_text(text, encoding="utf-8")
    assert read_protocol(path, "tis").tau.tolist() == [50, 100, 400]


def test_order_and_repeats_are_kept(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("400 50 50 900")
    assert read_protocol(path, "tis").tau.tolist() == [400, 50, 50, 900]


@pytest.mark.parametrize(
    ("text", "times", "message"),
    [
        ("0.05 0.4 1.2", "tis", "looks like seconds"),
        ("0.01 0.08", "tes", "looks like seconds"),
        ("", "tis", "holds no inversion times"),
        ("# nothing", "tes", "holds no echo times"),
        ("50 abc", "tis", "'abc', which is no number"),
        ("50 -3", "tis", "negative number"),
        ("50 nan", "tis", "not finite"),
        ("50 inf", "tis", "not finite"),
        (" ".join(["50"] * 5000), "tis", "at most 4096"),
    ],
)
def test_bad_lists(tmp_path, text, times, message):
    path = tmp_path / "t.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as raised:
        read_protocol(path, times)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "content",
    [
        "50\r\n150\r\n300\r\n".encode("utf-16"),
        "50\n150\n300".encode("utf-16-le"),
        b"# M\xfcnchen\n50 150 300",
        b"50;150;300\n",
        b"50,150\n300",
        b"\xef\xbb\xbf50, 150, 300",
    ],
)
def test_lists_as_programs_write_them(tmp_path, content):
    (tmp_path / "t.txt").write_bytes(content)
    assert read_protocol(tmp_path / "t.txt", "tis").tau.tolist() == [50, 150, 300]


@pytest.mark.parametrize("text", ["50,150,300", "50 150 300", "50, 150, 3e2", "50;150;300"])
def test_lists_without_a_file(text):
    assert read_protocol(text, "tis").tau.tolist() == [50, 150, 300]


@pytest.mark.parametrize("text", ["50,0\n150,0\n300,0\n", "0,05;0,15;0,3", "10,5\n21,0\n31,5"])
def test_decimal_commas_are_named(tmp_path, text):
    (tmp_path / "t.txt").write_text(text)
    with pytest.raises(ValueError, match=r"^t.txt holds decimal commas"):
        read_protocol(tmp_path / "t.txt", "tis")


def test_pipes_and_folders_are_no_lists(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, words in (("pipe", "is a pipe"), ("", "is a folder")):
        with pytest.raises(ValueError, match=words):
            read_protocol(tmp_path / name, "tis")
    with pytest.raises(ValueError, match="is a device"):
        read_protocol("/dev/zero", "tis")


def test_files_that_are_no_text(tmp_path):
    (tmp_path / "t.txt").write_bytes(b"\xff\xfe\x00\x80" * 10)
    with pytest.raises(ValueError, match="not a text file"):
        read_protocol(tmp_path / "t.txt", "tis")
    (tmp_path / "big.txt").write_bytes(b"1 " * 600_000)
    with pytest.raises(ValueError, match="larger than 1 MB"):
        read_protocol(tmp_path / "big.txt", "tis")


def test_unknown_name_lists_the_bundled():
    with pytest.raises(ValueError, match="cine23, cine25, cine31, fse6"):
        read_protocol("cine99", "tis")
    with pytest.raises(ValueError, match="no such file"):
        read_protocol("somewhere/cine31.txt", "tis")


def test_lists_of_the_other_kind():
    with pytest.raises(ValueError, match="with `tes`, not `tis`"):
        read_protocol("fse6", "tis")
    with pytest.raises(ValueError, match="with `tis`, not `tes`"):
        read_protocol("cine31", "tes")


def test_seconds_when_said_so():
    np.testing.assert_allclose(
        check_column(np.array([0.05, 1.2]), model_of("tis").border.columns[0], "x", "s"), [50, 1200]
    )
    with pytest.raises(ValueError, match="looks like milliseconds: leave `units` s out"):
        check_column(np.array([50.0, 1200.0]), model_of("tis").border.columns[0], "x", "s")


@pytest.mark.parametrize(
    ("tau", "times", "units", "words"),
    [
        ([0.05, 3.5], "tis", "ms", "looks like seconds"),
        ([0.01, 0.32], "tes", "ms", "looks like seconds"),
        ([0.05, 2.4], "tes", "ms", "looks like seconds"),
        ([10, 320], "tes", "s", "looks like milliseconds"),
        ([50, 80], "tis", "s", "looks like milliseconds"),
        ([50_000, 3_500_000], "tis", "ms", "longer than inversion times are"),
        ([0.0001, 0.0003], "tes", "s", "shorter than echo times are"),
    ],
)
def test_lists_that_cannot_be_in_their_unit(tau, times, units, words):
    with pytest.raises(ValueError, match=words):
        check_column(np.array(tau), model_of(times).border.columns[0], "x", units)


@given(st.sampled_from([("tis", 20.0, 20.0), ("tes", 3.0, 5.0)]), st.floats(1e-3, 1e7))
def test_hardly_any_list_is_plausible_in_both_units(kind, longest):
    times, low, high = kind
    accepted = 0
    for units in ("ms", "s"):
        try:
            check_column(np.array([longest]), model_of(times).border.columns[0], "x", units)
        except ValueError:
            continue
        accepted += 1
    assert accepted <= 1 or low <= longest <= high


@pytest.mark.parametrize(
    ("times", "fewest", "first", "last"),
    [("tis", 4, (20, 500), (600, 5000)), ("tes", 3, (5, 30), (60, 500))],
)
def test_random_lists_keep_to_their_ranges(times, fewest, first, last):
    @given(st.integers(0, 2**32 - 1))
    def check(seed):
        tau = random_protocol(np.random.default_rng(seed), times).tau
        assert fewest <= len(tau) <= 40
        assert (np.diff(tau) > 0).all()
        assert first[0] - 0.05 <= tau[0] <= first[1] + 0.05
        assert last[0] - 0.05 <= tau[-1] <= last[1] + 0.05
        np.testing.assert_allclose(tau, np.round(tau, 1), rtol=1e-12)

    check()


def test_random_lists_have_three_spacings_and_all_lengths():
    rng = np.random.default_rng(0)
    lists = [random_protocol(rng, "tis").tau for _ in range(2000)]
    assert {len(t) for t in lists} == set(range(4, 41))
    long = [t for t in lists if len(t) >= 8]
    linear = np.mean([np.ptp(np.diff(t)) < 0.3 for t in long])
    geometric = np.mean([np.ptp(np.diff(np.log(t))) < 0.02 for t in long])
    assert linear == pytest.approx(1 / 3, abs=0.05)
    assert geometric == pytest.approx(1 / 3, abs=0.05)


def test_random_list_is_a_function_of_the_seed():
    a, b = (random_protocol(np.random.default_rng(3), "tes").tau for _ in range(2))
    np.testing.assert_array_equal(a, b)
    assert "echo times" in str(random_protocol(np.random.default_rng(3), "tes"))
