"""The experiments' commands, run on a small built-in head with the fits alone."""

import csv
import importlib

import blurriness
import numpy as np
import pytest
import slices
from click.testing import CliRunner

from relaxsim.anatomy.anatomy import builtin_head


@pytest.fixture(scope="module")
def brains():
    """One coarse built-in head, twice."""
    head = builtin_head(1000, 2.5)
    return head, head


@pytest.fixture
def small(monkeypatch, brains):
    """Scenes of wide voxels of the coarse heads."""
    monkeypatch.setattr(slices, "load_brains", lambda paths: brains)
    made = slices.make_scene

    def make(brains, protocol, seed, quick):
        scene = made(brains, protocol, seed, quick)
        return slices.replace(scene, voxel_size=6.0, matrix=32)

    return make


def run(name, small, monkeypatch, tmp_path, *arguments):
    module = importlib.import_module(name)
    monkeypatch.setattr(module, "make_scene", small)
    options = ["--quick", "--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(module.main, [*options, *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


FITS = ("--methods", "mle", "--methods", "mle-shared")


def test_noise_robustness(small, monkeypatch, tmp_path):
    arguments = (*FITS, "--snr", "10", "--snr", "30", "--b-field", "smooth")
    run("noise_robustness", small, monkeypatch, tmp_path, *arguments)
    found = rows(tmp_path / "out" / "quick_noise_cine31.csv")
    assert {row["method"] for row in found} == {
        "mle", "mle-shared", "bound, B free", "bound, B known"
    }  # fmt: skip
    cv = {
        (row["method"], row["snr"]): float(row["median"])
        for row in found
        if (row["parameter"], row["metric"]) == ("T1", "cv")
    }
    assert cv["mle-shared", "10"] < cv["mle", "10"]
    assert cv["mle-shared", "30"] < cv["mle-shared", "10"]
    assert cv["bound, B known", "30"] < cv["bound, B free", "30"]
    assert (tmp_path / "out" / "quick_noise_cine31_smooth.png").stat().st_size > 10_000
    # a second run makes no cell
    again = run("noise_robustness", small, monkeypatch, tmp_path, *arguments)
    assert "repeats," not in again


def test_noise_robustness_of_t2(small, monkeypatch, tmp_path):
    run("noise_robustness", small, monkeypatch, tmp_path, "--protocol", "fse6", "--methods", "mle")
    found = rows(tmp_path / "out" / "quick_noise_fse6.csv")
    assert {row["method"] for row in found} == {"mle", "bound"}
    assert {row["b_field"] for row in found} == {"patch"}


def test_accuracy(small, monkeypatch, tmp_path):
    arguments = (*FITS, "--snr", "2000", "--b-field", "patch")
    run("accuracy", small, monkeypatch, tmp_path, *arguments)
    found = rows(tmp_path / "out" / "quick_accuracy_cine31.csv")
    free = next(
        row
        for row in found
        if (row["method"], row["parameter"], row["tissue"]) == ("mle", "T1", "WM")
    )
    assert abs(float(free["bias"])) < 1
    assert float(free["cv"]) < 2
    assert float(free["slope"]) == pytest.approx(1, abs=0.3)
    assert "mle-shared" in (tmp_path / "out" / "quick_accuracy_cine31.md").read_text()


def test_lambda_sweep(small, monkeypatch, tmp_path):
    run("lambda_sweep", small, monkeypatch, tmp_path)
    found = rows(tmp_path / "out" / "quick_lambda_sweep.csv")
    rmse = {(row["b_field"], row["lambda_b"]): float(row["rmse"]) for row in found}
    assert rmse["patch", "shared"] < rmse["patch", "0"]
    assert (tmp_path / "out" / "quick_lambda_sweep.png").is_file()


def test_generalisability(small, monkeypatch, tmp_path):
    module = importlib.import_module("generalisability")
    monkeypatch.setattr(module, "networks_for", lambda names, files: [])
    run("generalisability", small, monkeypatch, tmp_path)
    found = rows(tmp_path / "out" / "quick_generalisability.csv")
    assert [row["protocol"] for row in found if row["method"] == "mle"] == [
        "cine23", "cine25", "cine31"
    ]  # fmt: skip


def test_bad_protocol_is_one_line(tmp_path):
    module = importlib.import_module("lambda_sweep")
    result = CliRunner().invoke(module.main, ["--protocol", "cine7"])
    assert result.exit_code == 2
    assert "no protocol is called cine7" in result.output


def test_relative_errors_go_on_from_a_file(tmp_path):
    class Cell:
        repeats: list = []  # noqa: RUF012

        def estimate(self, phantom, repeat):
            self.repeats.append(repeat)
            return np.full((4, 3), 110.0)

    class Phantom:
        mask = np.ones((2, 2, 1), bool)
        kappa = np.full((2, 2, 1, 3), 100.0)

    places = np.array([[True, False], [False, True]])
    arguments = Cell(), Phantom(), places
    blurriness.relative_errors(*arguments, 2, 50, tmp_path / "a.npy")
    errors = blurriness.relative_errors(*arguments, 3, 50, tmp_path / "a.npy")
    np.testing.assert_allclose(errors, np.full((3, 2), 0.1))
    assert Cell.repeats == [50, 51, 52]


def test_significance_of_blur_and_its_absence():
    rng = np.random.default_rng(0)
    same = [0.05 * rng.standard_normal((100, 5)) for _ in range(2)]
    assert min(blurriness._tests(*same)) > 0.001
    assert blurriness._tests(same[0], same[1] + 0.1)[0] < 1e-6
    p_bias, p_cv = blurriness._tests(same[0], 3 * same[1])
    assert p_cv < 1e-6
    assert p_bias > 0.001


def test_text_of_blur_marks_what_differs():
    def row(scenario, bias, p):
        head = {"method": "rim", "structure": "point", "scenario": scenario}
        return {**head, "bias": bias, "bias_error": 0.5, "cv": 4.0, "p_bias": p, "p_cv": 0.5}

    rows = [
        {**row(scenario, bias, 0.02), "region": region}
        for region in ("structure", "neighborhood")
        for scenario, bias in (("E1", 0.7), ("E2", 3.4))
    ]
    parts = dict(blurriness.text(rows))
    line = parts["relative bias (%), structure, E1 to E2"][-1]
    assert line == "| rim | +0.70 to +3.40 ± 0.50 \\* |"
    assert parts["CV (%), neighborhood, E1 to E2"][-1] == "| rim | 4.00 to 4.00 |"


@pytest.mark.slow
def test_blurriness(tmp_path):
    out = tmp_path / "out"
    options = ["--quick", "--cache", str(tmp_path / "cache"), "--out", str(out)]
    result = CliRunner().invoke(blurriness.main, [*options, "--methods", "mle-shared"])
    assert result.exit_code == 0, result.output
    found = rows(out / "quick_blurriness_cine31.csv")
    assert len(found) == 4 * 2 * 2
    assert all(abs(float(row["bias"])) < 15 for row in found if row["region"] == "neighborhood")
    assert (out / "quick_blurriness_cine31.png").stat().st_size > 10_000
