import csv

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from other_process import Other

from relaxnet.cli.group import main
from relaxnet.evaluation.evaluate import evaluate_files, evaluate_maps, table_text
from relaxnet.io.inputs import load_mask
from relaxsim.core.replacing import MARK

SHAPE = (6, 5, 2)
AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])


def truth_map():
    return np.random.default_rng(0).uniform(500, 1500, SHAPE).astype(np.float32)


def write(path, values, affine=AFFINE):
    nib.save(nib.Nifti1Image(np.asarray(values, np.float32), affine), path)
    return str(path)


@pytest.fixture
def folder(tmp_path):
    """Truth, three maps 1 to 3 % too high, a mask and two labels."""
    truth = truth_map()
    write(tmp_path / "truth.nii.gz", truth)
    for i in (1, 2, 3):
        write(tmp_path / f"rep{i}.nii.gz", truth * (1 + i / 100))
    mask = np.ones(SHAPE)
    mask[0] = 0
    write(tmp_path / "mask.nii.gz", mask)
    labels = np.ones(SHAPE)
    labels[:, 3:] = 7
    write(tmp_path / "labels.nii.gz", labels)
    return tmp_path


def run(folder, *more, maps=("rep1", "rep2", "rep3"), **files):
    """Run the command in a folder; names of files without ending."""
    named = {"truth": "truth", "mask": "mask", **files}
    arguments = ["evaluate", "--out", str(folder / "out"), "--maps"]
    arguments += [str(folder / f"{name}.nii.gz") for name in maps]
    for option, name in named.items():
        arguments += [f"--{option}", str(folder / f"{name}.nii.gz")]
    return CliRunner().invoke(main, [*arguments, *more])


def rows(folder):
    with (folder / "out" / "metrics.csv").open() as file:
        return {row["region"]: row for row in csv.DictReader(file)}


def test_known_bias_cv_and_rmse(folder):
    """1, 2 and 3 % too high: bias 2, CV 1 / 1.02, RMSE sqrt(14 / 3) %."""
    result = run(folder, labels="labels")
    assert result.exit_code == 0, result.output
    table = rows(folder)
    assert list(table) == ["mask", "1", "7"]
    for row in table.values():
        assert float(row["bias_median"]) == pytest.approx(2.0, abs=1e-3)
        assert float(row["cv_median"]) == pytest.approx(1 / 1.02, abs=1e-3)
        assert float(row["rmse_median"]) == pytest.approx(np.sqrt(14 / 3), abs=1e-3)
        assert float(row["pooled_rmse"]) == pytest.approx(np.sqrt(14 / 3), abs=1e-3)
    assert [int(row["voxels"]) for row in table.values()] == [50, 30, 20]
    assert (folder / "out" / "metrics.png").stat().st_size > 1000
    assert "Note" not in result.output


def test_one_4d_file_is_the_same_as_its_images(folder):
    truth = truth_map()
    write(folder / "all.nii.gz", np.stack([truth * f for f in (1.01, 1.02, 1.03)], -1))
    assert run(folder, maps=["all"]).exit_code == 0
    assert float(rows(folder)["mask"]["cv_median"]) == pytest.approx(1 / 1.02, abs=1e-3)


def test_one_map_has_no_cv(folder):
    result = run(folder, maps=["rep1"])
    assert result.exit_code == 0
    assert "a single map has no CV" in result.output
    row = rows(folder)["mask"]
    assert row["cv_median"] == row["cv_upper"] == ""
    assert float(row["bias_median"]) == pytest.approx(1.0, abs=1e-3)


def test_voxels_that_cannot_count_are_left_out_and_said(folder):
    truth = truth_map()
    truth[1, 0, 0] = 0
    truth[1, 1, 0] = np.nan
    write(folder / "truth.nii.gz", truth)
    bad = truth_map() * 1.02
    bad[2, 0, 0], bad[3, 0, 0] = np.inf, 0
    write(folder / "rep2.nii.gz", bad)
    result = run(folder)
    assert result.exit_code == 0
    assert "2 of the mask's 50 voxels are left out: the truth is zero" in result.output
    assert "1 of the mask's 50 voxels are left out: a map is not finite" in result.output
    assert "1 of the mask's 50 voxels are left out: a map is 0" in result.output
    row = rows(folder)["mask"]
    assert (int(row["voxels"]), int(row["left_out"])) == (46, 4)
    assert float(row["bias_median"]) == pytest.approx(2.0, abs=1e-3)


def test_maps_in_seconds_are_suspected(folder):
    write(folder / "rep1.nii.gz", truth_map() / 1000)
    assert "do their units differ" in run(folder, maps=["rep1"]).output


def test_results_are_not_overwritten_unasked(folder):
    assert run(folder).exit_code == 0
    again = run(folder)
    assert again.exit_code == 2
    assert "--overwrite" in again.output
    assert run(folder, "--overwrite").exit_code == 0


def test_results_come_together_and_from_one_run(folder, monkeypatch):
    assert run(folder).exit_code == 0
    before = {path.name: path.read_bytes() for path in (folder / "out").iterdir()}
    assert sorted(before) == ["metrics.csv", "metrics.png"]
    with Other(folder / "out"):
        refused = run(folder, "--overwrite")
    assert (refused.exit_code, "another run writes to" in refused.output) == (2, True)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("relaxnet.evaluation.evaluate.draw_figure", fail)
    assert run(folder, "--overwrite", maps=["rep1"]).exit_code == 2
    assert {path.name: path.read_bytes() for path in (folder / "out").iterdir()} == before


def test_maps_that_are_being_replaced_are_not_evaluated(folder):
    (folder / MARK).touch()
    result = run(folder)
    assert result.exit_code == 2
    assert "are being replaced" in result.output
    assert "run it again with --overwrite" in result.output


def _shape(folder):
    write(folder / "rep2.nii.gz", np.ones((6, 5, 3)))


def _place(folder):
    write(folder / "mask.nii.gz", np.ones(SHAPE), np.diag([2.0, 2.0, 4.0, 1.0]))


def _mask_shape(folder):
    write(folder / "mask.nii.gz", np.ones((6, 5, 1)))


def _empty(folder):
    write(folder / "mask.nii.gz", np.zeros(SHAPE))


def _zeros(folder):
    write(folder / "truth.nii.gz", np.zeros(SHAPE))


def _nan(folder):
    write(folder / "rep1.nii.gz", np.full(SHAPE, np.nan))


def _four(folder):
    write(folder / "truth.nii.gz", np.ones((*SHAPE, 2)))


def _halves(folder):
    write(folder / "labels.nii.gz", np.full(SHAPE, 0.5))


def _negative(folder):
    write(folder / "labels.nii.gz", np.full(SHAPE, -1.0))


def _cut(folder):
    path = folder / "rep3.nii.gz"
    path.write_bytes(path.read_bytes()[:100])


def _missing(folder):
    (folder / "rep3.nii.gz").unlink()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_shape, "rep2.nii.gz has shape 6 x 5 x 3"),
        (_place, "mask mask.nii.gz lies elsewhere in space than truth.nii.gz"),
        (_mask_shape, "mask mask.nii.gz has shape 6 x 5 x 1"),
        (_empty, "holds no voxel above zero"),
        (_zeros, "none of the mask's 50 voxels counts: the truth is zero"),
        (_nan, "none of the mask's 50 voxels counts"),
        (_four, "truth truth.nii.gz holds 2 images"),
        (_halves, "labels are whole numbers"),
        (_negative, "labels are not negative"),
        (_cut, "rep3.nii.gz"),
        (_missing, "no such file"),
    ],
)
def test_bad_input_is_one_line(folder, spoil, words):
    spoil(folder)
    result = run(folder, labels="labels")
    assert result.exit_code == 2
    assert result.output.startswith("Error: ")
    assert result.output.count("\n") == 1
    assert words in result.output
    assert not (folder / "out").exists()


def test_labels_outside_the_mask_are_no_regions():
    truth = np.full(4, 100.0)
    labels = np.array([1, 1, 2, 0])
    mask = np.array([True, True, False, True])
    evaluation = evaluate_maps(np.stack([truth, truth]), truth, mask, labels)
    assert [region.name for region in evaluation.regions] == ["mask", "1"]
    none = evaluate_maps(truth[None], truth, mask, np.zeros(4, int))
    assert any("no label" in note for note in none.notes)


def test_a_region_without_a_voxel_that_counts_stays_in_the_table():
    truth = np.array([100.0, 0.0])
    evaluation = evaluate_maps(np.ones((2, 2)) * 100, truth, truth >= 0, np.array([1, 2]))
    empty = evaluation.regions[2]
    assert (empty.name, empty.bias.size, empty.left_out) == ("2", 0, 1)
    assert "2 " in table_text(evaluation)


@settings(deadline=None, max_examples=25)
@given(st.floats(1e-3, 1e3), st.integers(0, 10**6))
def test_unit_of_both_does_not_matter(factor, seed):
    rng = np.random.default_rng(seed)
    truth = rng.uniform(500, 1500, 20)
    maps = truth * (1 + 0.1 * rng.standard_normal((3, 20)))
    mask = np.ones(20, bool)
    one, other = (evaluate_maps(f * maps, f * truth, mask).regions[0] for f in (1.0, factor))
    for metric in ("bias", "cv", "rmse"):
        np.testing.assert_allclose(
            getattr(one, metric), getattr(other, metric), rtol=1e-6, atol=1e-9
        )


def test_a_mask_of_probabilities_is_that_of_predict(folder):
    """140 voxels are above zero, 100 of them at 0.5 or more."""
    truth = np.full((10, 20, 1), 1000.0, np.float32)
    share = np.zeros(truth.shape, np.float32)
    share[:5], share[5:7] = 0.5, 0.2
    share[0] = 1.0
    paths = {"truth": truth, "rep": 1.02 * truth, "share": share}
    for name, values in paths.items():
        write(folder / f"{name}.nii.gz", values)
    found = evaluate_files(
        folder / "truth.nii.gz", [folder / "rep.nii.gz"], folder / "share.nii.gz"
    )
    assert found.regions[0].bias.size == 100
    mask, half = load_mask(folder / "share.nii.gz", truth.shape)
    assert (int(mask.sum()), half) == (100, 0.5)
    assert any("holds probabilities" in note for note in found.notes)
