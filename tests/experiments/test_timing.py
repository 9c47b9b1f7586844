import numpy as np
import pytest
import timing
from click.testing import CliRunner
from methods import fit_method


def test_row_extrapolates_to_the_series_and_the_samples():
    row = timing.row_of("scipy-loop", "mle", 500, [1.0, 2.0, 3.0], 5.0)
    assert row["median_s"] == 2.0
    assert row["series_s"] == pytest.approx(2.0 * 65536 / 500)
    assert row["samples_h"] == pytest.approx(row["series_s"] * 700 / 3600)
    assert (row["first_s"], row["paper_s"]) == (5.0, 575.0)


def test_ratios_name_what_networks_are_compared_to():
    rows = [
        timing.row_of("rim-t1", "rim", 65536, [2.0], 2.0),
        timing.row_of("mle", "mle", 65536, [1.0], 1.0),
        timing.row_of("scipy-loop", "mle", 65536, [300.0], 300.0),
    ]
    (line,) = timing.ratios(rows)
    assert "0.5 times the speed of mle," in line
    assert "1.5e+02 times the speed of scipy-loop" in line


def test_first_call_of_a_method_is_timed_separately():
    tau = np.array([100.0, 500, 1000, 2000])
    S = np.random.default_rng(0).random((6, 5, 4)).astype(np.float32)
    row = timing.timed(fit_method("mle"), S, tau, 0.1, runs=2)
    assert row["voxels"] == 30
    assert 0 < row["least_s"] <= row["median_s"] <= row["most_s"]


def test_machine_is_described():
    first, second, third = timing.machine()
    assert "cores" in first
    assert "load" in second
    assert "numpy" in third


def test_quick_run(tmp_path):
    options = ["--quick", "--methods", "mle", "--methods", "scipy-loop", "--out", str(tmp_path)]
    result = CliRunner().invoke(timing.main, options, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "scipy-loop" in (tmp_path / "quick_timing.csv").read_text()
    assert (tmp_path / "quick_timing.png").is_file()
    assert "cores" in (tmp_path / "quick_timing.md").read_text()
