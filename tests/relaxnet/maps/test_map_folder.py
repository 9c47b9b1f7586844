"""Names, units and JSON files of a folder of maps, and what completes it."""

import json
import os
from functools import partial

import nibabel as nib
import numpy as np
import pytest
from other_process import killed_at_move
from small_run import make_run

from relaxnet.io.nifti import load_map
from relaxnet.maps.map_folder import MapLayout, check_out, write_maps
from relaxnet.maps.reader import read_run
from relaxsim.core.replacing import MARK, BeingReplacedError
from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY

SHAPE = (3, 2, 1)


class _Maps:
    """As much of maps as files are made of."""

    predicted, model = None, INVERSION_RECOVERY

    def descriptions(self):
        return {}

    def named(self):
        return {
            "T1map": (np.full(SHAPE, 900.0), "ms"),
            "T1std": (np.full(SHAPE, 45.0), "ms"),
            "status": (np.zeros(SHAPE, np.uint8), "1"),
        }


@pytest.fixture
def series(tmp_path):
    return load_map(make_run(tmp_path / "other", shape=SHAPE) / "T1map.nii.gz")


def seconds(stem, unit):
    return ("s", 1e-3) if unit == "ms" else (unit, 1.0)


def test_a_layout_gives_names_units_and_json_files(tmp_path, series):
    layout = MapLayout(
        name=lambda stem: f"sub-01_{stem}",
        unit=seconds,
        sidecar=lambda stem, card: {"Description": stem, **card},
    )
    write_maps(tmp_path / "maps", _Maps(), series, {"Method": "mle"}, layout=layout)
    files = {p.name for p in (tmp_path / "maps").iterdir()}
    assert files == {f"sub-01_{s}.{e}" for s in _Maps().named() for e in ("json", "nii.gz")}
    values = nib.load(tmp_path / "maps/sub-01_T1map.nii.gz").get_fdata()
    np.testing.assert_allclose(values, 0.9, rtol=1e-6)
    card = json.loads((tmp_path / "maps/sub-01_T1std.json").read_text())
    assert card["Description"] == "T1std"
    assert (card["Units"], card["Method"], card["NotIdentifiable"]) == ("s", "mle", "inf")
    assert "Levels" in json.loads((tmp_path / "maps/sub-01_status.json").read_text())


def test_without_a_layout_files_are_named_by_their_stems(tmp_path, series):
    write_maps(tmp_path / "maps", _Maps(), series, {})
    assert json.loads((tmp_path / "maps/T1map.json").read_text()) == {"Units": "ms"}
    assert nib.load(tmp_path / "maps/T1map.nii.gz").get_fdata().max() == 900


def test_what_completes_the_folder_appears_with_the_maps(tmp_path, series):
    out = tmp_path / "maps"
    found = []

    def complete(folder):
        found.append(sorted(path.name for path in folder.glob("*.nii.gz")))
        assert not out.exists()
        (folder / "report.html").write_text("x")

    write_maps(out, _Maps(), series, {}, complete=complete)
    assert found == [["T1map.nii.gz", "T1std.nii.gz", "status.nii.gz"]]
    assert (out / "report.html").is_file()


def test_nothing_appears_if_it_cannot_be_completed(tmp_path, series):
    def fail(folder):
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_maps(tmp_path / "maps", _Maps(), series, {}, complete=fail)
    assert {path.name for path in tmp_path.iterdir()} == {"other", "series.nii.gz"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a copy of the process")
def test_maps_of_two_runs_are_never_mixed(tmp_path, series):
    """A run is killed at each of its moves: six files out, six in."""
    out = tmp_path / "maps"
    card = {"SoftwareName": "relaxnet"}
    write_maps(out, _Maps(), series, {**card, "Run": "old"})
    (out / "notes.txt").write_text("mine")
    for number in range(12):
        shared = {**card, "Run": f"{number}"}
        killed_at_move(number, partial(write_maps, out, _Maps(), series, shared))
        cards = [json.loads(path.read_text())["Run"] for path in out.glob("*.json")]
        assert len(set(cards)) <= 1
        assert set(cards) <= {"old", "new", f"{number}"}
        if any(out.glob("*map.nii.gz")):
            with pytest.raises(BeingReplacedError, match=r"run it again with `overwrite`"):
                read_run(out)
            with pytest.raises(ValueError, match=r"part of the maps of a run that was broken off"):
                check_out(out, overwrite=False)
        check_out(out, overwrite=True)
        write_maps(out, _Maps(), series, {**card, "Run": "new"})
        assert not (out / MARK).exists()
        assert set(read_run(out).maps) == set(_Maps().named())
    assert (out / "notes.txt").read_text() == "mine"
