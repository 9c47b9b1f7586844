import csv
import io

import numpy as np
import pytest

from relaxnet.maps.maps import DataKind, Maps
from relaxnet.maps.roi import read_names, roi_columns, roi_csv, roi_rows
from relaxnet.maps.status import OK, OUTSIDE, POOR_FIT
from relaxnet.series.noise import NoiseSource, SigmaSource
from relaxsim.models.t2_decay import MODEL as T2_DECAY


def made(std=True):
    """Maps of 4 x 3 x 2 voxels, T2 = 0 ... 23 ms, the first of which has a poor fit."""
    kappa = np.stack([np.full(24, 2.0), np.arange(24.0)], -1).reshape(4, 3, 2, 2)
    status = np.zeros((4, 3, 2), np.uint8)
    status[0, 0, 0], status[3, 2, 1] = POOR_FIT, OUTSIDE
    return Maps(
        kappa=kappa.astype(np.float32),
        std=(0.1 * kappa).astype(np.float32) if std else None,
        residual=np.ones((4, 3, 2), np.float32),
        status=status,
        model=T2_DECAY,
        sigma=1.0,
        noise=NoiseSource(SigmaSource.GIVEN),
        data=DataKind(signed=False),
        scale=1.0,
        method="mle",
    )


def labels():
    """Label 7 in the first row of voxels, 2 in the last, 9 in the voxel outside the mask."""
    values = np.zeros((4, 3, 2), int)
    values[0], values[3], values[3, 2, 1] = 7, 2, 9
    return values


def test_rows_count_and_measure_ok_voxels():
    maps = made()
    two, seven, nine = roi_rows(maps, labels())
    assert [r["label"] for r in (two, seven, nine)] == [2, 7, 9]
    assert (seven["voxels"], seven["ok_voxels"]) == (6, 5)
    assert seven["ok_share"] == pytest.approx(5 / 6)
    T2 = np.arange(1.0, 6.0)
    assert seven["T2_median"] == np.median(T2)
    assert (seven["T2_q25"], seven["T2_q75"]) == tuple(np.percentile(T2, [25, 75]))
    assert seven["T2_std"] == pytest.approx(0.1 * T2.mean())
    assert two["M0_median"] == 2
    assert (nine["voxels"], nine["ok_voxels"], nine["ok_share"]) == (1, 0, 0)
    assert nine["T2_median"] == ""
    assert nine["T2_std"] == ""
    assert list(seven) == list(roi_columns(maps, False))
    assert (maps.status == OK).sum() == 22


def test_uncertainty_is_empty_where_there_is_none():
    assert all(row["T2_std"] == "" for row in roi_rows(made(std=False), labels()))
    maps = made()
    maps.std[...] = np.inf
    assert all(row["T2_std"] == "" for row in roi_rows(maps, labels()))


def test_table_is_read_back():
    rows = roi_rows(made(), labels(), {7: "grey, left"})
    back = list(csv.DictReader(io.StringIO(roi_csv(rows))))
    assert [r["name"] for r in back] == ["", "grey, left", ""]
    assert float(back[1]["T2_median"]) == 3
    assert list(back[0]) == list(roi_columns(made(), True))


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_names_that_a_spreadsheet_would_calculate_are_text(start):
    names = {2: f"{start}1+cmd|' /C calc'!A0", 7: "grey = matter"}
    rows = roi_rows(made(), labels(), names)
    two, seven = roi_csv(rows).split("\n")[1:3]
    assert two.startswith(f"2,'{names[2]},")
    assert seven.startswith(f"7,{names[7]},")
    negative = roi_csv([{"label": 1, "B_median": -1.5, "voxels": -3}])
    assert negative.splitlines()[1] == "1,-1.5,-3"


def test_labels_that_do_not_suit():
    with pytest.raises(ValueError, match="labels have shape"):
        roi_rows(made(), labels()[:2])
    with pytest.raises(ValueError, match="no label above zero"):
        roi_rows(made(), np.zeros((4, 3, 2), int))


def test_names_of_labels(tmp_path):
    path = tmp_path / "names.tsv"
    for text in ("label\tname\n1\tgrey\n2\twhite matter\n", "1,grey\n\n2, white matter\n"):
        path.write_text(text)
        assert read_names(path) == {1: "grey", 2: "white matter"}
    for text, words in {
        "": "names no label",
        "label,name\n": "names no label",
        "1,grey\nx,white": "is not label,name",
        "1,grey\n1,white": "label 1 comes twice",
        "1,": "label 1 has no name",
    }.items():
        path.write_text(text)
        with pytest.raises(ValueError, match=words):
            read_names(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="not a text file"):
        read_names(path)
    with pytest.raises(OSError, match="none"):
        read_names(tmp_path / "none.csv")
