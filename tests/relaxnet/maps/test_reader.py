"""Maps read back from their folder; pictures and reports of them are tested there."""

import json

import pytest
from small_run import MODELS, TAUS, make_run

from relaxnet.maps.reader import in_model_units, read_run


def test_maps_without_sidecars_have_the_units_of_their_signal_model(tmp_path):
    for name, units in (("t1", {"T1": "ms", "M0": "a.u.", "B": "1"}), ("t2", {"T2": "ms"})):
        folder = make_run(tmp_path / name, MODELS[name])
        for path in folder.glob("*.json"):
            path.unlink()
        run = read_run(folder)
        assert next(iter(run.maps)) == ("T1map" if name == "t1" else "T2map")
        for stem, unit in units.items():
            assert run.maps[f"{stem}map"].unit == run.maps[f"{stem}std"].unit == unit
        assert run.maps["residual"].unit == "sigma"


def test_stems_that_no_model_knows_come_last(tmp_path):
    folder = make_run(tmp_path / "maps")
    for old, new in (("Bmap", "Xmap"), ("Bstd", "Xstd")):
        for ending in ("nii.gz", "json"):
            (folder / f"{old}.{ending}").rename(folder / f"{new}.{ending}")
    assert list(read_run(folder).maps)[:3] == ["T1map", "M0map", "Xmap"]


@pytest.mark.parametrize(("name", "field"), [("t1", "InversionTimes"), ("t2", "EchoTime")])
def test_a_derivative_has_the_fields_of_predict(tmp_path, name, field):
    """The protocol in ms, and sources as paths below the raw dataset that is linked to."""
    model = MODELS[name]
    suffix = model.border.bids_suffix
    made = make_run(tmp_path / "made", model)
    out = tmp_path / "out"
    folder = out / "sub-01/anat"
    folder.mkdir(parents=True)
    for path in made.iterdir():
        stem, _, ending = path.name.partition(".")
        desc = "" if stem == f"{model.main}map" else f"desc-{suffix}_"
        target = folder / f"sub-01_{desc}{stem}.{ending}"
        target.write_bytes(path.read_bytes())
        if ending == "json":
            card = json.loads(path.read_text())
            times = [t / 1000 for t in card.pop(model.border.columns[0].sidecar_field)]
            inner = {"SignalModel": card.pop("SignalModel"), "Method": "mle"}
            source = {"Sources": [f"bids:raw:sub-01/anat/sub-01_{suffix}.nii.gz"]}
            target.write_text(json.dumps({**card, **source, field: times, "Relaxnet": inner}))
    (out / "dataset_description.json").write_text('{"DatasetLinks": {"raw": "../raw"}}')
    run = read_run(folder)
    assert run.model is model
    assert run.sidecar[model.border.columns[0].sidecar_field] == TAUS[model.name].tolist()
    place = (tmp_path / "raw").resolve()
    assert run.sidecar["Sources"] == [str(place / f"sub-01/anat/sub-01_{suffix}.nii.gz")]
    assert in_model_units(run).maps[f"{model.main}map"].unit == "ms"
    (out / "dataset_description.json").unlink()
    assert read_run(folder).sidecar["Sources"][0].startswith("bids:raw:")
