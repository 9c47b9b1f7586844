"""A signal model that is added by one file is mapped from BIDS as the others are."""

import fnmatch
import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner
from small_bids import save, write_json, write_series
from toy_models import add_toys, remove_toys

from relaxnet.bids.dataset import Collection, find_collections
from relaxnet.bids.derivative import ignored_patterns, map_name
from relaxnet.bids.run import Settings
from relaxnet.cli.group import main
from relaxnet.maps.reader import in_model_units, read_run
from relaxsim.models import registry
from relaxsim.models.registry import signal_model

TIMES = np.array([100.0, 300.0, 700.0, 1500.0, 4000.0])
SHAPE = (8, 7, 1)


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    known = add_toys(monkeypatch)
    yield
    remove_toys(known)


@pytest.fixture
def root(tmp_path):
    """A dataset of one series after saturation, 4-D."""
    kappa = np.zeros((*SHAPE, 2))
    kappa[..., 0], kappa[..., 1] = 500.0, np.linspace(500, 1500, 8)[:, None, None]
    S = signal_model("saturation_recovery").forward(kappa, TIMES)
    noise = np.random.default_rng(0).standard_normal(S.shape)
    save(tmp_path / "ds/sub-01/anat/sub-01_SRT1.nii.gz", S + noise)
    write_json(tmp_path / "ds/SRT1.json", SaturationTime=(TIMES / 1000).tolist(), EchoTime=0.01)
    return tmp_path / "ds"


def call(root, *arguments, code=0):
    out = root / "derivatives/relaxnet"
    result = CliRunner().invoke(main, ["bids", str(root), str(out), "participant", *arguments])
    assert result.exit_code == code, result.output
    return result.output, out / "sub-01/anat"


def test_maps_units_fields_and_report(root):
    _, out = call(root, "--method", "mle", "--mask", "none", "--report")
    names = {path.name for path in out.iterdir() if path.suffix != ".json"}
    others = {"M0map", "M0std", "T1sstd", "residual", "status"}
    expected = {"sub-01_T1smap.nii.gz", *(f"sub-01_desc-SRT1_{stem}.nii.gz" for stem in others)}
    assert names == {*expected, "sub-01_desc-SRT1_report.html"}
    T1 = nib.load(out / "sub-01_T1smap.nii.gz").get_fdata()
    np.testing.assert_allclose(T1[:, 0, 0], np.linspace(0.5, 1.5, 8), rtol=0.05)
    card = json.loads((out / "sub-01_T1smap.json").read_text())
    assert card["Units"] == "s"
    assert card["SaturationTimes"] == (TIMES / 1000).tolist()
    assert card["EchoTime"] == 0.01
    assert card["Description"] == "Longitudinal relaxation time after saturation"
    assert "Toy et al. 2026" in card["EstimationReference"]
    assert call(root, "--method", "mle", "--mask", "none")[0].splitlines()[-1] == "1 skipped"


def test_a_folder_of_maps_is_read_back_in_the_models_units(root):
    _, out = call(root, "--method", "mle", "--mask", "none")
    run = read_run(out)
    assert list(run.maps)[:2] == ["T1smap", "M0map"]
    assert run.maps["T1smap"].unit == "s"
    assert run.sidecar["SaturationTimesMs"] == TIMES.tolist()
    assert run.sidecar["Sources"] == [str((root / "sub-01/anat/sub-01_SRT1.nii.gz").resolve())]
    found = in_model_units(run)
    assert [found.maps[stem].unit for stem in ("T1smap", "T1sstd", "M0map")] == ["ms", "ms", "a.u."]
    assert found.maps["T1smap"].values.max() == pytest.approx(1500, rel=0.1)


def test_suffixes_are_offered_and_ignored_by_the_registry(root):
    assert "series of 1 subject" in call(root, "--method", "mle", "--suffix", "SRT1")[0]
    said = CliRunner().invoke(main, ["bids", "--help"]).output
    assert "[IRT1|MESE|VFA|MEGRE|SRT1|SET1]" in said.replace("\n", "")
    said, _ = call(root, "--method", "mle", "--suffix", "T1w", code=2)
    assert "'T1w' is not one of IRT1, MESE, VFA, MEGRE, SRT1, SET1" in said
    said, _ = call(root, "--suffix", "SRT1", "--overwrite", code=2)  # no network ships for it
    assert "no rim network is the default for saturation_recovery" in said


def test_files_without_a_suffix_of_the_specification_are_ignored():
    series = Collection((("sub", "01"),), "SET1", ())
    assert map_name(series, "T1vmap") == "sub-01_T1vmap"
    ignored = {"Bmap", "T1vstd", "Amap", "Astd", "residual", "status", "fit"}
    for stem in ignored | {"T1map", "T2map", "M0map", "T1vmap"}:
        name = f"{map_name(series, stem)}.nii.gz"
        found = any(fnmatch.fnmatch(name, pattern) for pattern in ignored_patterns())
        assert found == (stem in ignored), stem
    assert map_name(series, "Amap") == "sub-01_desc-SET1_Amap"


def test_two_models_do_not_write_the_same_map(root):
    write_series(root, "sub-01")
    model = signal_model("saturation_recovery")
    maps = (model.border.maps[0], replace(model.border.maps[1], bids_suffix="T1map"))
    twin = replace(model, border=replace(model.border, maps=maps))
    registry.MODELS[model.name] = twin
    options = ("--method", "mle", "--mask", "none")
    said, out = call(root, *options)
    assert json.loads((out / "sub-01_T1map.json").read_text())["InversionTimes"]
    assert json.loads((out / "sub-01_desc-SRT1_T1map.json").read_text())["SaturationTimes"]
    assert call(root, *options)[0].splitlines()[-1] == "2 skipped"
    # The raw series that the map in place was made of is gone: it stays, and that is said.
    for path in root.glob("sub-01/anat/*_IRT1.*"):
        path.unlink()
    why = "sub-01_T1map.nii.gz is the map of a series of inversion recovery; map SRT1 series into"
    for more in ((), ("--overwrite",)):
        said, out = call(root, *options, *more, code=1)
        assert f"sub-01_SRT1: {why}" in said
        assert json.loads((out / "sub-01_T1map.json").read_text())["InversionTimes"]


def test_known_maps_beside_a_series_are_taken(root, tmp_path):
    for n in (1, 2, 3):
        save(root / f"sub-02/anat/sub-02_flip-{n}_SET1.nii.gz", np.ones(SHAPE))
    (series,) = find_collections(root, "02")
    settings = Settings(root, tmp_path / "out", method="mle")
    assert settings.known(series) == {}
    assert settings.record(series)["KnownMaps"] is None
    path = save(root / "sub-02/fmap/sub-02_TB1map.nii.gz", np.ones(SHAPE))
    assert settings.known(series) == {"b1": str(path)}
    uri = "bids:raw:sub-02/fmap/sub-02_TB1map.nii.gz"
    assert settings.record(series)["KnownMaps"] == {"b1": uri}


def test_files_of_two_columns_are_one_series(root):
    for n in (1, 2, 3):
        save(root / f"sub-02/anat/sub-02_flip-{n}_SET1.nii.gz", np.ones(SHAPE))
    (found,) = find_collections(root, "02")
    assert (found.name, len(found.images)) == ("sub-02_SET1", 3)
