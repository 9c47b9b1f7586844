"""Times of each slice: from a table of text, and from SliceTiming."""

import json

import nibabel as nib
import numpy as np
import pytest

from relaxnet.io.bids_names import BidsError
from relaxnet.io.bids_times import read_acquisition
from relaxnet.io.slice_times import with_slices_of
from relaxnet.prediction.files import predict_files
from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY
from relaxsim.models.protocols import read_protocol

TI = np.array([50.0, 150, 400, 800, 1400, 2200, 3500])
LATER = np.array([0.0, 60.0, 120.0])
TRUTH = np.array([1000.0, 1.95, 900.0])
TABLES = TI + LATER[:, None]  # (Z, N)


@pytest.fixture
def series(tmp_path):
    """Three slices of 6 x 5 voxels, each with inversion times of its own."""
    S = np.stack([INVERSION_RECOVERY.forward(TRUTH, times) for times in TABLES])
    data = np.broadcast_to(S, (6, 5, *S.shape)).astype(np.float32)
    path = tmp_path / "series.nii.gz"
    nib.save(nib.Nifti1Image(data, np.diag([1.0, 1.0, 4.0, 1.0])), path)
    return path


def images(tmp_path, **fields):
    """A file of each time, with a sidecar that holds `fields` too."""
    paths = []
    for n, time in enumerate(TI):
        path = tmp_path / f"s{n + 1}.nii.gz"
        S = np.stack([INVERSION_RECOVERY.forward(TRUTH, times)[n] for times in TABLES])
        data = np.broadcast_to(S, (6, 5, 3)).astype(np.float32)
        nib.save(nib.Nifti1Image(data, np.diag([1.0, 1.0, 4.0, 1.0])), path)
        said = {"InversionTime": time / 1000, **fields}
        path.with_name(f"s{n + 1}.json").write_text(json.dumps(said))
        paths.append(str(path))
    return paths


@pytest.mark.parametrize("separator", [" ", ",", "\t", "; "])
def test_a_table_with_a_column_a_slice(series, tmp_path, separator):
    lines = [separator.join(f"{t:g}" for t in row) for row in TABLES.T]
    (tmp_path / "tis.txt").write_text("# a line an image\n" + "\n".join(lines))
    maps = predict_files(
        series, tmp_path / "m", tis=tmp_path / "tis.txt", method="mle", mask="none", sigma=1.0
    )
    np.testing.assert_allclose(maps["T1"], TRUTH[2], rtol=1e-3)
    card = json.loads((tmp_path / "m" / "T1map.json").read_text())
    np.testing.assert_allclose(card["InversionTimesMs"], TABLES)


def test_a_list_in_rows_stays_a_list(series, tmp_path):
    (tmp_path / "tis.txt").write_text("50 150 400\n800 1400 2200\n")
    protocol = with_slices_of(read_protocol(tmp_path / "tis.txt", "tis"), [series])
    assert not protocol.by_slice
    assert protocol.tau.tolist() == [50, 150, 400, 800, 1400, 2200]


def test_a_table_of_another_number_of_slices_is_refused(series, tmp_path):
    np.savetxt(tmp_path / "tis.txt", TABLES.T[:, :2])
    with pytest.raises(ValueError, match=r"7 images .* lists 14 inversion times"):
        predict_files(series, tmp_path / "m", tis=tmp_path / "tis.txt", method="mle")


def test_slice_timing_is_added_where_asked_for(tmp_path):
    files = images(tmp_path, SliceTiming=(LATER / 1000).tolist())
    plain = read_acquisition(files)
    assert not plain.protocol.by_slice
    assert "`slice_timing`" in plain.warnings[0]
    found = read_acquisition(files, slice_timing=True)
    np.testing.assert_allclose(found.protocol.tau, TABLES)
    assert found.warnings == ()
    maps = predict_files(
        files, tmp_path / "m", slice_timing=True, method="mle", mask="none", sigma=1.0
    )
    np.testing.assert_allclose(maps["T1"], TRUTH[2], rtol=1e-3)


def test_slices_in_reversed_order(tmp_path):
    fields = {"SliceTiming": (LATER[::-1] / 1000).tolist(), "SliceEncodingDirection": "k-"}
    found = read_acquisition(images(tmp_path, **fields), slice_timing=True)
    np.testing.assert_allclose(found.protocol.tau, TABLES)


def test_slices_that_change_places_from_image_to_image(tmp_path):
    files = images(tmp_path, SliceTiming=(LATER / 1000).tolist())
    card = json.loads((tmp_path / "s2.json").read_text())
    (tmp_path / "s2.json").write_text(json.dumps({**card, "SliceTiming": [0.12, 0.0, 0.06]}))
    found = read_acquisition(files, slice_timing=True)
    np.testing.assert_allclose(found.protocol.tau[:, 1], 150 + np.array([120.0, 0, 60]))
    np.testing.assert_allclose(found.protocol.tau[:, 2], 400 + LATER)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({}, "s1.json has no SliceTiming"),
        ({"SliceTiming": [0.0, 60.0, 120.0]}, "no list of seconds"),
        ({"SliceTiming": []}, "no list of seconds"),
        ({"SliceTiming": [0.0, "x", 0.1]}, "no list of seconds"),
        ({"SliceTiming": 0.5}, "no list of seconds"),
    ],
)
def test_slice_timing_that_is_none_is_refused(tmp_path, fields, match):
    with pytest.raises(BidsError, match=match):
        read_acquisition(images(tmp_path, **fields), slice_timing=True)


def test_slice_timing_of_another_number_of_slices_is_refused(tmp_path):
    files = images(tmp_path, SliceTiming=[0.0, 0.1])
    with pytest.raises(ValueError, match=r"2 slices, s1.nii.gz 3"):
        predict_files(files, tmp_path / "m", slice_timing=True, method="mle")
    assert not (tmp_path / "m").exists()


def test_slice_timing_of_echo_times_is_refused(tmp_path):
    files = images(tmp_path, SliceTiming=[0.0, 0.1, 0.2])
    for n, path in enumerate(files):
        card = {"EchoTime": 0.01 * (n + 1), "SliceTiming": [0.0, 0.1, 0.2]}
        (tmp_path / path).with_name(f"s{n + 1}.json").write_text(json.dumps(card))
    with pytest.raises(BidsError, match="does not go with echo times"):
        read_acquisition(files, slice_timing=True)
