"""The derivative dataset against the BIDS specification.

The official validator (PyPI: bids-validator-deno) judges where it is installed; a list of rules is
checked here in any case.
"""

import fnmatch
import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import pytest
from click.testing import CliRunner
from small_bids import write_dataset

from relaxnet.cli.group import main
from relaxnet.io.bids_names import parse_name

#: Order of the entities of parametric maps, and their suffixes (specification, anat.parametric).
ORDER = ["sub", "ses", "task", "acq", "ce", "rec", "run", "space", "res", "den", "desc"]
PARAMETRIC = {"T1map", "T2map", "M0map"}
UNITS = {"T1map": "s", "T2map": "s", "M0map": "arbitrary"}
DESCRIBED = {"Name": str, "BIDSVersion": str, "GeneratedBy": list, "DatasetLinks": dict}


@pytest.fixture(scope="module")
def derivative(tmp_path_factory):
    root = write_dataset(tmp_path_factory.mktemp("rules") / "ds")
    out = root / "derivatives/relaxnet"
    command = ["bids", str(root), str(out), "participant", "--method", "mle"]
    assert CliRunner().invoke(main, command).exit_code == 0
    return out


def ignored(out, path):
    patterns = (out / ".bidsignore").read_text().split()
    return any(fnmatch.fnmatch(path.name, pattern) for pattern in patterns)


def judged(out):
    """Files that the validator would look at, but for those of the dataset itself."""
    found = [path for path in sorted(out.rglob("sub-*")) if path.is_file()]
    return [path for path in found if not ignored(out, path)]


def test_names(derivative):
    paths = judged(derivative)
    assert len(paths) == 2 * (2 + 2 + 2 + 2)  # images and sidecars of T1map, T2map, M0map
    for path in paths:
        name = parse_name(path)
        keys = list(name.entities)
        assert name.suffix in PARAMETRIC
        assert keys == [key for key in ORDER if key in keys]
        place = [f"{key}-{name.entities[key]}" for key in ("sub", "ses") if key in keys]
        assert list(path.relative_to(derivative).parts[:-1]) == [*place, "anat"]
        assert all(value.isalnum() for value in name.entities.values())


def test_only_what_has_no_suffix_is_ignored(derivative):
    for path in derivative.rglob("sub-*.*"):
        assert ignored(derivative, path) == (parse_name(path).suffix not in PARAMETRIC)


def test_every_image_has_a_sidecar_with_the_fields_of_the_qmri_appendix(derivative):
    for path in judged(derivative):
        if path.suffix == ".json":
            continue
        card = json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text())
        assert card["Units"] == UNITS[parse_name(path).suffix]
        assert isinstance(card["EstimationAlgorithm"], str)
        assert isinstance(card["EstimationReference"], str)
        assert isinstance(card["Description"], str)
        assert isinstance(card["SkullStripped"], bool)
        assert isinstance(card.get("InversionTime", 0.1), float)  # the schema takes no list
        assert all(source.startswith("bids:raw:sub-") for source in card["Sources"])
        assert nib.load(path).header.get_xyzt_units()[0] in ("mm", "unknown")


def test_the_description_has_what_a_derivative_needs(derivative):
    card = json.loads((derivative / "dataset_description.json").read_text())
    for key, kind in DESCRIBED.items():
        assert isinstance(card[key], kind)
    assert card["DatasetType"] == "derivative"
    assert all({"Name", "Version"} <= maker.keys() for maker in card["GeneratedBy"])
    assert "raw" in card["DatasetLinks"]


def test_nothing_temporary_is_left(derivative):
    hidden = {path.name for path in derivative.rglob(".*")}
    assert hidden == {".bidsignore"}


def find_validator():
    beside = Path(sys.executable).with_name("bids-validator-deno")
    return str(beside) if beside.is_file() else shutil.which("bids-validator-deno")


@pytest.mark.skipif(find_validator() is None, reason="no bids-validator-deno is installed")
def test_the_official_validator_finds_no_error(derivative):
    command = [find_validator(), "--format", "json", str(derivative)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    issues = json.loads(said.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue["severity"] == "error"] == []
