"""Mosaics of maps: what they show, how they are turned, and what is refused."""

import json

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib.image import imread
from small_run import MODELS, make_run, set_said

from relaxnet.cli.group import main
from relaxnet.maps.reader import in_one_unit, read_run
from relaxnet.maps.status import AT_BOUND, LEGEND, OUTSIDE
from relaxnet.report.mosaic import _names, draw_runs
from relaxnet.report.panels import (
    STATUS_COLOURS,
    chosen_slices,
    coloured_status,
    montage,
    plane_of,
    scale_of,
)


def call(*arguments):
    return CliRunner().invoke(main, ["view", *map(str, arguments)])


@pytest.mark.parametrize(
    ("shape", "model", "std"), [((14, 12, 9), "t1", True), ((14, 12, 1), "t2", False)]
)
def test_draws_every_run(tmp_path, shape, model, std):
    folder = make_run(tmp_path / "maps", MODELS[model], shape, std)
    result = call(folder, "--out", tmp_path / "x.png", "--dpi", 50)
    assert result.exit_code == 0, result.output
    picture = imread(tmp_path / "x.png")
    assert picture.ndim == 3
    assert picture[..., :3].std() > 0.05


def test_several_runs_share_ranges_and_rows_are_labelled(tmp_path, monkeypatch):
    a = make_run(tmp_path / "a")
    b = make_run(tmp_path / "b", std=False)
    seen = []
    import relaxnet.report.mosaic as view

    original = view._draw
    monkeypatch.setattr(
        view, "_draw", lambda *a: (seen.append((a[2].folder.name, *a[3:])), original(*a))
    )
    draw_runs([a, b], tmp_path / "x.png", labels=["one"], dpi=40)
    assert [(folder, stem) for folder, stem, *_ in seen] == [
        (f, s) for f in "ab" for s in ("T1map", "M0map", "Bmap")
    ]
    assert [label for *_, label in seen] == ["one", "", "", "b", "", ""]
    scales = {stem: {row[2] for row in seen if row[1] == stem} for _, stem, *_ in seen}
    assert all(len(found) == 1 for found in scales.values())


def test_one_map_of_several_runs_lies_in_one_row(tmp_path):
    a, b = make_run(tmp_path / "a"), make_run(tmp_path / "b")
    draw_runs([a, b], tmp_path / "x.png", stems=["T1map"], dpi=40)
    height, width = imread(tmp_path / "x.png").shape[:2]
    assert width > 1.5 * height


def turned(tmp_path, codes, values):
    """First slice of a map whose axes point as `codes` say."""
    rows = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}
    affine = np.zeros((4, 4))
    for axis, code in enumerate(codes):
        affine[rows[code], axis] = (3 if axis == 2 else 1) * (1 if code in "RAS" else -1)
    affine[3, 3] = 1
    folder = make_run(tmp_path / "".join(codes), shape=values.shape, affine=affine)
    run = read_run(folder)
    assert run.codes == tuple(codes)
    return plane_of(run).cut(values, 0), plane_of(run).letters


@pytest.mark.parametrize("codes", ["RAS", "LAS", "LPS", "RPS", "ARS", "PLI"])
def test_axial_slices_have_anterior_at_the_top_and_right_on_the_left(tmp_path, codes):
    anterior, right = (next(i for i, c in enumerate(codes) if c in s) for s in ("AP", "RL"))
    places = np.stack(np.meshgrid(*(np.arange(n) for n in (14, 12, 3)), indexing="ij"))
    forward = places[anterior] * (1 if codes[anterior] == "A" else -1)
    rightward = places[right] * (1 if codes[right] == "R" else -1)
    picture, letters = turned(tmp_path, codes, forward)
    assert (np.diff(picture, axis=0) == -1).all()
    picture, _ = turned(tmp_path, codes, rightward)
    assert (np.diff(picture, axis=1) == -1).all()
    assert letters == ("R", "L", "A", "P")


def test_coronal_slices_have_superior_at_the_top(tmp_path):
    places = np.stack(np.meshgrid(*(np.arange(n) for n in (14, 12, 3)), indexing="ij"))
    picture, letters = turned(tmp_path, "RSA", places[1])
    assert (np.diff(picture, axis=0) == -1).all()
    assert letters == ("R", "L", "S", "I")


def test_without_a_place_the_first_axis_runs_right_and_the_second_up(tmp_path):
    folder = make_run(tmp_path / "maps")
    for path in folder.glob("*.nii.gz"):
        image = nib.load(path)
        bare = nib.Nifti1Image(image.get_fdata().astype(np.float32), None)
        bare.header.set_zooms((0.9, 0.9, 3.0))
        nib.save(bare, path)
    run = read_run(folder)
    plane = plane_of(run)
    places = np.stack(np.meshgrid(*(np.arange(n) for n in run.shape), indexing="ij"))
    assert plane.letters is None
    assert (np.diff(plane.cut(places[0], 0), axis=1) == 1).all()
    assert (np.diff(plane.cut(places[1], 0), axis=0) == -1).all()


def test_voxels_keep_their_proportions(tmp_path):
    affine = np.diag([2.0, 0.5, 5.0, 1.0])
    run = read_run(make_run(tmp_path / "maps", affine=affine))
    assert plane_of(run).aspect == pytest.approx(0.25)


def test_slices_are_spread_over_the_mask(tmp_path):
    run = read_run(make_run(tmp_path / "maps", shape=(10, 10, 40), affine=np.diag([1, 1, 3, 1])))
    filled = np.flatnonzero(run.mask.any((0, 1)))
    chosen = chosen_slices(run, 4)
    assert len(chosen) == 4
    assert filled[0] < chosen[0] < chosen[-1] < filled[-1]
    steps = np.diff(chosen)
    assert steps.max() - steps.min() <= 1
    assert chosen_slices(run, 100) == filled.tolist()


def test_montage_fills_missing_places_with_nothing(tmp_path):
    run = read_run(make_run(tmp_path / "maps", shape=(14, 12, 9)))
    plane = plane_of(run)
    chosen = chosen_slices(run, 5)
    shown = montage(run, plane, run.mask, chosen)
    tall, wide = plane.cut(run.mask, 0).shape
    assert shown.shape == (2 * tall, 3 * wide)
    assert not shown[tall:, 2 * wide :].any()


def test_what_has_no_value_is_not_shown(tmp_path):
    folder = make_run(tmp_path / "maps")
    image = nib.load(folder / "T1std.nii.gz")
    values = image.get_fdata().astype(np.float32)
    inside = np.argwhere(read_run(folder).mask)
    values[tuple(inside[5])] = np.inf
    nib.save(nib.Nifti1Image(values, image.affine, image.header), folder / "T1std.nii.gz")
    run = read_run(folder)
    assert not run.shown("T1std")[tuple(inside[5])]
    assert run.shown("T1map")[tuple(inside[5])]
    assert not run.shown("T1map")[~run.mask].any()
    assert np.isfinite(scale_of(run, "M0std").high)


def test_ranges_are_fixed_and_can_be_given(tmp_path):
    run = read_run(make_run(tmp_path / "maps"))
    assert (scale_of(run, "T1map").low, scale_of(run, "T1map").high) == (0, 3000)
    assert scale_of(run, "T1map", {"T1map": (0, 4500)}).high == 4500
    assert scale_of(run, "T1map").label == "T1 (ms)"
    assert 1000 <= scale_of(run, "M0map").high <= 1100
    assert scale_of(run, "residual").label == "residual (in units of sigma)"


def test_ranges_of_maps_in_seconds(tmp_path):
    folder = make_run(tmp_path / "maps")
    set_said(folder, Units="s")
    assert scale_of(read_run(folder), "T1map").high == pytest.approx(3.0)


def test_runs_in_seconds_and_ms_are_drawn_in_one_unit(tmp_path, monkeypatch):
    import relaxnet.report.mosaic as view

    ms, s = make_run(tmp_path / "ms"), make_run(tmp_path / "s")
    for stem in ("T1map", "T1std"):
        image = nib.load(s / f"{stem}.nii.gz")
        nib.save(nib.Nifti1Image(image.get_fdata() / 1000, image.affine), s / f"{stem}.nii.gz")
        card = json.loads((s / f"{stem}.json").read_text())
        (s / f"{stem}.json").write_text(json.dumps({**card, "Units": "s"}))
    drawn = []
    monkeypatch.setattr(view, "_draw", lambda *a: drawn.append(a[2].maps[a[3]]))
    for folders, unit in (((ms, s), "ms"), ((s, ms), "s")):
        for stem in ("T1map", "T1std"):
            drawn.clear()
            draw_runs(folders, tmp_path / "x.png", stems=[stem], dpi=40)
            assert [found.unit for found in drawn] == [unit, unit]
            np.testing.assert_allclose(drawn[0].values, drawn[1].values, rtol=1e-5)


def test_a_map_that_the_first_run_lacks_has_one_unit_too(tmp_path):
    first, s, ms = (make_run(tmp_path / name, std=name != "first") for name in ("first", "s", "ms"))
    card = json.loads((s / "T1std.json").read_text())
    (s / "T1std.json").write_text(json.dumps({**card, "Units": "s"}))
    runs = in_one_unit([read_run(folder) for folder in (first, s, ms)])
    assert [run.maps["T1std"].unit for run in runs[1:]] == ["s", "s"]
    assert runs[2].maps["T1std"].values.max() == pytest.approx(0.065)
    assert {run.maps["T1map"].unit for run in runs} == {"ms"}


def test_series_of_one_folder_are_told_apart(tmp_path):
    for run in ("run-1", "run-2"):
        as_bids(make_run(tmp_path / run), tmp_path / "anat", "IRT1", "T1map", f"sub-01_{run}")
    files = [tmp_path / f"anat/sub-01_{run}_T1map.nii.gz" for run in ("run-1", "run-2")]
    assert _names([read_run(file) for file in files]) == ["sub-01_run-1", "sub-01_run-2"]


def test_folders_of_one_name_are_told_apart(tmp_path):
    runs = [read_run(make_run(tmp_path / subject / "anat")) for subject in ("sub-01", "sub-02")]
    assert _names(runs) == ["sub-01/anat", "sub-02/anat"]
    assert _names(runs[:1]) == ["anat"]


def test_a_deeply_nested_sidecar_is_none(tmp_path):
    folder = make_run(tmp_path / "maps")
    (folder / "T1map.json").write_text("[" * 100_000)
    assert read_run(folder).sidecar == {}


def as_bids(folder, out, suffix, main, entities="sub-01_run-2"):
    """Copies of a run's files under the names of a BIDS derivative."""
    out.mkdir(exist_ok=True)
    for path in folder.iterdir():
        stem, _, ending = path.name.partition(".")
        desc = "" if stem == main else f"desc-{suffix}_"
        (out / f"{entities}_{desc}{stem}.{ending}").write_bytes(path.read_bytes())


def test_maps_of_a_bids_dataset_are_told_apart(tmp_path):
    out = tmp_path / "anat"
    as_bids(make_run(tmp_path / "a"), out, "IRT1", "T1map")
    alone = read_run(out)
    assert list(alone.maps)[:3] == ["T1map", "M0map", "Bmap"]
    assert {"T1std", "residual", "status"} < set(alone.maps)
    assert alone.sidecar["SignalModel"] == "inversion_recovery"
    as_bids(make_run(tmp_path / "b", MODELS["t2"]), out, "MESE", "T2map")
    with pytest.raises(ValueError, match="maps of 2 series; name one by a map of it"):
        read_run(out)
    second = read_run(out / "sub-01_run-2_desc-MESE_M0map.nii.gz")
    assert list(second.maps)[:2] == ["T2map", "M0map"]
    assert second.folder == out


def lightness(colour):
    """CIE L* of ``#rrggbb``."""
    rgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    Y = linear @ [0.2126, 0.7152, 0.0722]
    return 116 * np.cbrt(Y) - 16 if Y > 0.008856 else 903.3 * Y


def dichromat(colour, cones):
    """Colour as seen without one kind of cones (Vienot 1999), linear RGB."""
    rgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]) ** 2.2
    to_lms = np.array(
        [[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714], [0.0299566, 0.184309, 1.46709]]
    )
    without = {
        "protan": [[0, 2.02344, -2.52581], [0, 1, 0], [0, 0, 1]],
        "deutan": [[1, 0, 0], [0.494207, 0, 1.24827], [0, 0, 1]],
    }[cones]
    return np.linalg.inv(to_lms) @ np.array(without) @ to_lms @ rgb


@pytest.mark.parametrize("cones", ["protan", "deutan"])
def test_status_colours_differ_without_red_or_green_cones(cones):
    assert set(STATUS_COLOURS) == set(LEGEND) - {OUTSIDE}
    colours = [dichromat(c, cones).clip(0, 1) ** (1 / 2.2) for c in STATUS_COLOURS.values()]
    gaps = [np.abs(a - b).max() for i, a in enumerate(colours) for b in colours[:i]]
    assert min(gaps) > 0.08


@pytest.mark.parametrize("name", ["viridis", "cividis", "magma", "gray"])
def test_colour_maps_grow_evenly_lighter(name):
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    levels = [lightness(to_hex(c)) for c in colormaps[name](np.linspace(0, 1, 33))]
    steps = np.diff(levels)
    assert (steps > 0).all()
    assert steps[2:-2].max() < 2.5 * steps[2:-2].min()


def test_status_pictures_hold_the_legends_colours(tmp_path):
    run = read_run(make_run(tmp_path / "maps"))
    picture = coloured_status(run.status[..., 0], run.mask[..., 0])
    assert (picture[~run.mask[..., 0], 3] == 0).all()
    place = np.argwhere(run.status == AT_BOUND)[0]
    whole = coloured_status(run.status, run.mask)
    assert "#{:02x}{:02x}{:02x}".format(*whole[tuple(place)][:3]) == STATUS_COLOURS[AT_BOUND]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["nowhere", "--out", "x.png"], "no such folder"),
        (["empty", "--out", "x.png"], "holds no maps"),
        (["maps", "--out", "x.doc"], "expected a picture's ending"),
        (["maps", "--out", "x.png", "--map", "T9map"], "no map is called T9map"),
        (["maps", "--out", "x.png", "--range", "T1map=3"], "such as T1map=0:4500"),
        (["maps", "--out", "x.png", "--range", "T1map=5:1"], "low < high"),
        (["maps", "--out", "x.png", "--label", "a", "--label", "b"], "2 labels for 1 folders"),
    ],
)
def test_refusals_are_one_line(tmp_path, monkeypatch, arguments, match):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "maps")
    (tmp_path / "empty").mkdir()
    result = call(*arguments)
    assert result.exit_code == 2
    assert match in result.output
    assert len(result.output.strip().splitlines()) == 1
    assert not (tmp_path / "x.png").exists()


def test_maps_of_different_shapes_are_refused(tmp_path):
    folder = make_run(tmp_path / "maps")
    other = make_run(tmp_path / "other", shape=(9, 9, 2))
    (folder / "M0map.nii.gz").write_bytes((other / "M0map.nii.gz").read_bytes())
    with pytest.raises(ValueError, match="share one grid"):
        read_run(folder)
