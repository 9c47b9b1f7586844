"""Known maps beside a series."""

import pytest
from small_bids import write_json
from toy_models import import_toy

from relaxnet.io.bids_known import find_known_map, find_known_maps
from relaxnet.io.bids_names import BidsError

SERIES = "sub-01/ses-a/anat/sub-01_ses-a_run-2_flip-1_SET1.nii.gz"


def place(root, *names):
    for name in names:
        write_json(root / name)


@pytest.mark.parametrize("folder", ["anat", "fmap"])
def test_lies_in_anat_or_fmap(tmp_path, folder):
    name = f"sub-01/ses-a/{folder}/sub-01_ses-a_acq-fast_TB1map.nii.gz"
    place(tmp_path, name, SERIES)
    model = import_toy("spoiled_echo")
    assert find_known_maps(tmp_path / SERIES, model) == {"b1": tmp_path / name}


def test_of_several_the_one_of_the_same_run(tmp_path):
    start = "sub-01/ses-a/fmap/sub-01_ses-a"
    place(tmp_path, f"{start}_run-1_TB1map.nii", f"{start}_TB1map.nii", f"{start}_TB1map.json")
    assert find_known_map(tmp_path / SERIES, "TB1map").name == "sub-01_ses-a_TB1map.nii"
    place(tmp_path, f"{start}_run-2_TB1map.nii")
    assert find_known_map(tmp_path / SERIES, "TB1map").name == "sub-01_ses-a_run-2_TB1map.nii"


def test_none_of_another_session_or_outside_bids(tmp_path):
    place(tmp_path, "sub-01/ses-b/fmap/sub-01_ses-b_TB1map.nii", "sub-01/ses-a/anat/x_TB1map.nii")
    assert find_known_map(tmp_path / SERIES, "TB1map") is None
    assert find_known_map(tmp_path / "series.nii.gz", "TB1map") is None


def test_two_that_fit_alike_are_refused(tmp_path):
    start = "sub-01/ses-a/fmap/sub-01_ses-a"
    place(tmp_path, f"{start}_acq-x_TB1map.nii", f"{start}_acq-y_TB1map.nii")
    with pytest.raises(BidsError, match=r"acq-x_TB1map.nii and .*acq-y.* both fit .*flip-1_SET1"):
        find_known_map(tmp_path / SERIES, "TB1map")


def test_a_sidecar_says_which_series_a_map_is_for(tmp_path):
    """By a path below the subject or a BIDS URI, of any image of the series, or by identifiers."""
    start = "sub-01/ses-a/fmap/sub-01_ses-a"
    place(tmp_path, SERIES, f"{start}_acq-x_TB1map.nii", f"{start}_acq-y_TB1map.nii")
    other = "ses-a/anat/sub-01_ses-a_run-2_flip-3_SET1.nii.gz"
    write_json(tmp_path / f"{start}_acq-y_TB1map.json", IntendedFor=[f"bids::sub-01/{other}"])
    assert find_known_map(tmp_path / SERIES, "TB1map").name == "sub-01_ses-a_acq-y_TB1map.nii"
    write_json(tmp_path / f"{start}_acq-y_TB1map.json", IntendedFor=other.replace("run-2", "run-1"))
    assert find_known_map(tmp_path / SERIES, "TB1map").name == "sub-01_ses-a_acq-x_TB1map.nii"
    write_json(tmp_path / f"{start}_acq-x_TB1map.json", IntendedFor="ses-a/anat/x_SET1.nii.gz")
    assert find_known_map(tmp_path / SERIES, "TB1map") is None
    write_json(tmp_path / SERIES.replace(".nii.gz", ".json"), B0FieldSource=["b1", "b0"])
    for n, identifier in (("x", "b1"), ("y", "b2")):
        write_json(tmp_path / f"{start}_acq-{n}_TB1map.json", B0FieldIdentifier=identifier)
    assert find_known_map(tmp_path / SERIES, "TB1map").name == "sub-01_ses-a_acq-x_TB1map.nii"
