import numpy as np
import phantom
import pytest
from click.testing import CliRunner
from methods import fit_method
from plates import compare_plates, draw_plates, mean_difference, summary_rows
from real_data import Plate, sphere_squares

from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY
from relaxsim.models.protocols import read_protocol


@pytest.fixture(scope="module")
def simulated():
    return phantom.plate(read_protocol("cine23", "tis"), seed=0, quick=True)


def test_truth_has_no_bias_and_range_is_that_of_the_times(simulated):
    truth = simulated.kappa[:, :, 0, -1]
    rows = phantom.sphere_rows(np.stack([truth, truth]), simulated)
    assert len(rows) == 14
    assert all(row["bias"] == pytest.approx(0.0, abs=1e-9) for row in rows)
    assert all(row["voxels"] > 0 for row in rows)
    inside = [row["sphere"] for row in rows if row["in_range"]]
    assert inside == [4, 5, 6, 7, 8]  # 706 to 175.3 ms, of 172 to 893


def test_averages_are_over_the_spheres_in_range():
    rows = [
        {"protocol": "p", "snr": 1.0, "method": "m", "bias": b, "cv": 1.0, "rmse": 2.0}
        | {"in_range": inside}
        for b, inside in ((-2.0, True), (4.0, True), (50.0, False))
    ]
    (row,) = phantom.averages(rows)
    assert row["absolute_bias"] == pytest.approx(3.0)
    assert row["spheres"] == 2


def made_plate(name="T1_plate5"):
    """Spheres of 100 to 1400 ms on an empty ground."""
    tau = np.array([50.0, 100, 200, 400, 600, 800])
    centres = [[10.0 + 12 * (i // 7), 8.0 + 12 * (i % 7)] for i in range(14)]
    spheres = sphere_squares(centres, (96, 36, 1))
    T1 = 100.0 * np.arange(1, 15)
    kappa = np.zeros((96, 36, 1, 3))
    kappa[...] = (0.0, 1.8, 1000.0)
    for i in range(1, 15):
        kappa[spheres == i] = (1000.0, 1.8, T1[i - 1])
    S = INVERSION_RECOVERY.forward(kappa, tau).astype(np.float32)
    S += np.random.default_rng(0).normal(0, 1.0, S.shape).astype(np.float32)
    return Plate(name, S, tau, INVERSION_RECOVERY, spheres, T1, T1)


def test_real_plate_rows_find_the_spheres(tmp_path):
    plate = made_plate()
    rows = compare_plates(plate, 0, [fit_method("mle")], tmp_path)
    for row, T1 in zip(rows, plate.nominal, strict=True):
        assert row["median_ms"] == pytest.approx(T1, rel=0.05)
        assert row["counted"] == (row["fit_of_mean_ms"] <= 800)
    mean, worst, count = mean_difference(rows)
    assert 0 < mean < worst < 2
    assert count in (7, 8)
    summary, both = summary_rows(rows)
    assert both["plate"] == "both T1"
    assert (summary["mean"], summary["worst"]) == (mean, worst)


def test_the_sphere_on_which_fits_disagree_is_left_out(tmp_path):
    rows = compare_plates(made_plate("T1_plate4"), 0, [fit_method("mle")], tmp_path)
    rows[13]["difference"] = 1000.0
    assert not rows[13]["counted"]
    assert mean_difference(rows)[0] < 2


def test_figure_of_plates(tmp_path):
    rows = compare_plates(made_plate(), 1, [fit_method("mle")], tmp_path / "cache")
    assert rows[0]["first_image"] == 2
    draw_plates(rows, {"mle": fit_method("mle")}, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_quick_run(tmp_path):
    options = [
        "--quick",
        "--methods",
        "mle",
        "--out",
        str(tmp_path),
        "--cache",
        str(tmp_path / "c"),
    ]
    result = CliRunner().invoke(phantom.main, options, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "cine23 SNR 30 mle: mean |bias|" in result.output
    names = {path.name for path in tmp_path.glob("quick_phantom*")}
    assert "quick_phantom_averages.csv" in names
    assert "mle" in (tmp_path / "quick_phantom.md").read_text()
    assert "quick_phantom_fse6_snr30.png" in names
