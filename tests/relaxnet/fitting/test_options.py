import json

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner
from short_fits import voxelwise
from small_series import TAU, series, truth, write, write_times

from relaxnet.cli.group import main
from relaxnet.fitting.inputs import Measurement
from relaxnet.fitting.options import VOXELWISE, FitOptions
from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY
from relaxsim.models.t2_decay import MODEL as T2_DECAY


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    S, _, disc = series(sigma=30.0)
    write(tmp_path / "series.nii.gz", S)
    write(tmp_path / "mask.nii.gz", disc.astype(np.uint8))
    write_times(tmp_path / "tis.txt")
    return tmp_path


def predict(*options):
    command = [
        "predict",
        "series.nii.gz",
        "--tis",
        "tis.txt",
        "--mask",
        "mask.nii.gz",
        "--method",
        "mle",
        *options,
    ]
    return CliRunner().invoke(main, command)


def test_default_is_the_voxelwise_fit():
    S, _, disc = series()
    sigma = np.full(disc.shape, 8.0)
    ours = VOXELWISE.fit(Measurement(S, TAU, INVERSION_RECOVERY, sigma, disc))
    plain = voxelwise(S, TAU, INVERSION_RECOVERY, sigma, disc)
    np.testing.assert_array_equal(ours.kappa, plain.kappa)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--fix-b", "1.95"], "B fixed at 1.95"),
        (["--share-b"], "one B for the mask"),
        (["--lambda-b", "500"], "B regularised, lambda 500"),
        (["--lambda-b", "auto"], "B regularised, lambda auto ("),
    ],
    ids=["fixed", "shared", "500", "auto"],
)
def test_knowing_more_of_b_lowers_the_error(folder, options, words):
    kappa, disc = truth()
    errors = []
    for given, out in (([], "free"), (options, "known")):
        result = predict(*given, "--out", out)
        assert result.exit_code == 0, result.output
        T1 = nib.load(f"{out}/T1map.nii.gz").get_fdata()[disc]
        errors.append(np.sqrt(np.mean((T1 / kappa[disc][:, 2] - 1) ** 2)))
    assert errors[1] < errors[0]
    assert words in result.output
    assert words in json.loads((folder / "known/T1map.json").read_text())["Fit"]
    B = nib.load("known/Bmap.nii.gz").get_fdata()[disc]
    if options[0] in ("--fix-b", "--share-b"):
        assert np.ptp(B) < 1e-5
        assert B.mean() == pytest.approx(1.95, abs=0.03)


def test_repetition_time_and_rician_likelihood(folder):
    for options in (["--tr", "8000"], ["--likelihood", "rician"]):
        result = predict(*options, "--out", options[1])
        assert result.exit_code == 0, result.output
        kappa, disc = truth()
        T1 = nib.load(f"{options[1]}/T1map.nii.gz").get_fdata()[disc]
        assert abs(np.median(T1 / kappa[disc][:, 2] - 1)) < 0.05


def test_chosen_weight_is_written(folder):
    assert predict("--lambda-b", "auto", "--out", "auto").exit_code == 0
    card = json.loads((folder / "auto/T1map.json").read_text())
    assert card["LambdaB"] > 0
    assert f"({card['LambdaB']:.3g})" in card["Fit"]


def test_fixed_efficiency_goes_with_a_repetition_time(folder):
    result = predict("--fix-b", "0.45", "--tr", "8000")
    assert result.exit_code == 0, result.output
    assert "efficiency fixed at 0.45, TR 8000 ms" in result.output


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (["--tr", "100"], "shorter than the longest inversion time"),
        (["--fix-b", "2", "--share-b"], "exclude each other"),
        (["--likelihood", "rician", "--share-b", "--signed"], "these data are signed"),
        (["--lambda-b", "much"], "expected a number or auto"),
        (["--lambda-b", "-1"], "--lambda-b must be a number >= 0"),
        (["--tr", "-5"], "expected a positive repetition time"),
    ],
)
def test_bad_options_are_refused(folder, options, match):
    result = predict(*options)
    assert result.exit_code == 2
    assert match in result.output
    assert "Traceback" not in result.output
    assert not (folder / "maps").exists()


def test_options_of_the_fit_are_not_for_networks(folder):
    result = CliRunner().invoke(main, ["predict", "series.nii.gz", "--tis", "tis.txt", "--share-b"])
    assert result.exit_code == 2
    assert "give --method mle" in result.output


def test_words_name_the_efficiency():
    words = FitOptions(fix_b=0.95, tr=2000.0).words(INVERSION_RECOVERY)
    assert words.endswith("efficiency fixed at 0.95, TR 2000 ms")


@pytest.mark.parametrize(
    ("fix_b", "tr"), [(9.0, None), (0.2, None), (2.0, 2000.0), (float("nan"), None)]
)
def test_a_known_b_beyond_what_is_possible_is_refused(fix_b, tr):
    with pytest.raises(ValueError, match="`fix_b`"):
        FitOptions(fix_b=fix_b, tr=tr).check(INVERSION_RECOVERY)


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({}, 3),
        ({"lambda_b": 0}, 3),
        ({"lambda_b": 0.0, "tr": 8000.0}, 3),
        ({"lambda_b": 500.0}, 2),
        ({"lambda_b": "auto"}, 2),
        ({"lambda_b": np.inf}, 2),
        ({"share_b": True}, 2),
        ({"fix_b": 1.9}, 2),
        ({"fix_b": 1.9, "bounds": {"B": (1.9, 1.9)}}, 2),
        ({"bounds": {"B": (1.9, 1.9)}}, 2),
        ({"lambda_b": 0, "bounds": {"B": (1.9, 1.9)}}, 2),
        ({"lambda_b": 500.0, "bounds": {"A": (1.0, 1.0)}}, 1),
        ({"tr": 8000.0}, 3),
        ({"tr": 8000.0, "bounds": {"e": (0.9, 0.9)}}, 2),
    ],
)
def test_parameters_that_are_fitted_to_the_data_of_a_voxel(options, count):
    assert FitOptions(**options).num_fitted(INVERSION_RECOVERY) == count


def test_parameters_of_models_without_a_shared_one():
    assert FitOptions().num_fitted(T2_DECAY) == 2
    assert FitOptions(lambda_b=500.0).num_fitted(T2_DECAY) == 2


@pytest.mark.parametrize(
    "options", [{"lambda_b": 0}, {"tr": 8000.0}, {"fix_b": 1.9}, {"share_b": True}]
)
def test_residual_counts_the_parameters_that_bounds_fix(options):
    """Its mean square is the variance of the noise; a fixed amplitude has no error."""
    rng = np.random.default_rng(0)
    kappa = np.stack(np.broadcast_arrays(1.0, 1.9, np.linspace(500.0, 1500.0, 4000)), axis=-1)
    times = np.array([50.0, 400.0, 1100.0, 2500.0])
    S = np.ones((4000, 5))
    S[:, :4] = INVERSION_RECOVERY.forward(kappa, times)
    S += 0.01 * rng.normal(size=S.shape)
    S[:, 4] = 1.0  # the largest sample is the unit of A's bounds
    times = np.append(times, 30000.0)
    name = "M0" if "tr" in options else "A"
    fit = FitOptions(bounds={name: (1.0, 1.0)}, **options).fit(
        Measurement(S, times, INVERSION_RECOVERY, 0.01)
    )
    largest = np.abs(S).max(axis=1) == 1.0
    free = 1 if "fix_b" in options or "share_b" in options else 2
    expected = 0.01**2 * (4 - free) / (5 - free)  # one sample has no noise
    found = np.mean(fit.residual[largest].astype(float) ** 2)
    assert found == pytest.approx(expected, rel=0.05)
    if "tr" not in options:
        assert (fit.std[..., 0] == 0).all()


def test_bounds_that_fix_the_ratio_leave_it_without_error():
    S, _, disc = series()
    measurement = Measurement(S, TAU, INVERSION_RECOVERY, 8.0, disc)
    fits = [
        FitOptions(bounds={"B": (1.9, 1.9)}, **options).fit(measurement)
        for options in ({}, {"lambda_b": 0}, {"lambda_b": 500.0}, {"share_b": True})
    ]
    for fit in fits:
        np.testing.assert_allclose(fit.std[disc], fits[0].std[disc], rtol=1e-3)
        np.testing.assert_allclose(fit.residual[disc], fits[0].residual[disc], rtol=1e-3)
