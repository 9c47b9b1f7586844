"""A dataset with series of every suffix: each is mapped by its own signal model."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner

from relaxnet.cli.group import main

TOOL = Path(__file__).parents[3] / "tools" / "make_bids_example.py"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """sub-01 of the example, one slice of 32 x 32 voxels, and its maps by the fit."""
    spec = importlib.util.spec_from_file_location("make_bids_example", TOOL)
    tool = importlib.util.module_from_spec(spec)
    sys.modules["make_bids_example"] = tool
    spec.loader.exec_module(tool)
    tool.VISITS = tool.VISITS[:1]
    root = tmp_path_factory.mktemp("every") / "ds"
    assert CliRunner().invoke(tool.main, [str(root), "--quick"]).exit_code == 0
    found = CliRunner().invoke(
        main, ["bids", str(root), str(root / "derivatives/r"), "participant", "--method", "mle"]
    )
    assert found.exit_code == 0, found.output
    return root, found.output, list(tool.errors(root, root / "derivatives/r"))


def test_each_has_its_map(dataset):
    root, said, errors = dataset
    anat = root / "derivatives/r/sub-01/anat"
    main_maps = {path.name for path in anat.glob("*_T*map.nii.gz")}
    names = {"T1map", "T2map", "T2starmap", "desc-VFA_T1map"}
    assert main_maps == {f"sub-01_{name}.nii.gz" for name in names}
    for suffix, label in (("IRT1", "T1"), ("MESE", "T2"), ("MEGRE", r"T2\*"), ("VFA", "T1")):
        assert re.search(rf"sub-01_{suffix}: {label} median", said)
    for line in errors:
        assert abs(float(re.search(r"error ([-+.\d]+) %", line)[1])) < 6, line
    assert len(errors) == 4
    card = json.loads((anat / "sub-01_T2starmap.json").read_text())
    assert card["Units"] == "s"
    assert card["Description"] == "Effective transverse relaxation time T2*"
    assert card["EchoTime"][0] == 0.0023


def test_flip_angles_are_mapped_with_the_b1_map_of_the_dataset(dataset):
    """Its JSON file names it, and what holds for all images is one number."""
    root, _, _ = dataset
    card = json.loads((root / "derivatives/r/sub-01/anat/sub-01_desc-VFA_T1map.json").read_text())
    assert card["FlipAngle"] == [2, 4, 8, 14, 22]
    assert card["RepetitionTimeExcitation"] == 0.015
    assert card["Relaxnet"]["KnownMaps"] == {"b1": "bids:raw:sub-01/fmap/sub-01_TB1map.nii.gz"}
    assert "no relative transmit field" not in str(card)


def test_predict_finds_the_b1_map_too(dataset, tmp_path):
    root, _, _ = dataset
    images = sorted(map(str, (root / "sub-01/anat").glob("*_VFA.nii.gz")))
    out = tmp_path / "maps"
    found = CliRunner().invoke(main, ["predict", *images, "--method", "mle", "--out", str(out)])
    assert found.exit_code == 0, found.output
    assert "note: --b1 sub-01_TB1map.nii.gz, found beside the series" in found.output
    assert "no relative transmit field" not in found.output
    one = nib.load(out / "T1map.nii.gz").get_fdata()
    anat = root / "derivatives/r/sub-01/anat"
    two = nib.load(anat / "sub-01_desc-VFA_T1map.nii.gz").get_fdata()
    np.testing.assert_allclose(one / 1000, two, rtol=1e-5)


def test_a_choice_keeps_the_names(dataset, tmp_path):
    """Names of maps do not depend on which suffixes are asked for."""
    root, _, _ = dataset
    options = ("participant", "--method", "mle", "--suffix", "VFA")
    found = CliRunner().invoke(main, ["bids", str(root), str(tmp_path / "out"), *options])
    assert found.exit_code == 0, found.output
    maps = {path.name for path in (tmp_path / "out/sub-01/anat").glob("*T1map.nii.gz")}
    assert maps == {"sub-01_desc-VFA_T1map.nii.gz"}
