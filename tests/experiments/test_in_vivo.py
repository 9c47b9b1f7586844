import in_vivo
import numpy as np
import pytest
from click.testing import CliRunner
from in_vivo_figures import draw_boundaries, draw_maps, draw_repeats
from methods import fit_method
from real_data import Brain, brain_of, head_mask, load_brains, load_plates, tissue_regions
from scans import Scan, make_scan
from scipy import ndimage

from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY

TAU = np.array([50.0, 200, 500, 900, 1600, 3000])
RANGES = {"WM": (550.0, 720.0), "GM": (850.0, 1200.0)}
SIGMA = 5.0


def made_brain():
    """White disc in a ring of grey matter, scanned at SNR 200."""
    x, y = np.mgrid[:56, :56] - 27.5
    radius = np.hypot(x, y)
    T1 = np.where(radius < 15, 640.0, 1000.0)
    mask = (radius < 25)[..., None]
    kappa = np.stack([np.full(T1.shape, 1000.0), np.full(T1.shape, 1.9), T1], -1)[:, :, None]
    kappa[~mask, 0] = 0
    S = INVERSION_RECOVERY.forward(kappa, TAU).astype(np.float32)
    S += np.random.default_rng(0).normal(0, SIGMA, S.shape).astype(np.float32)
    reference = ndimage.median_filter(T1, 3)
    regions = tissue_regions(reference, mask, RANGES)
    return Brain("brain_ir", S, TAU, INVERSION_RECOVERY, False, mask, reference, regions)


@pytest.fixture
def scan(tmp_path):
    return make_scan(made_brain(), tmp_path / "cache")


@pytest.fixture
def fits():
    return [fit_method("mle"), fit_method("mle-shared")]


def test_noise_is_that_of_the_scan_and_kept(scan):
    assert scan.sigma == pytest.approx(SIGMA, rel=0.1)
    again = make_scan(scan.brain, scan.cache)
    assert again == Scan(scan.brain, scan.sigma, scan.cache)


def test_regions_and_differences(scan, fits):
    rows = in_vivo.region_rows(scan, fits)
    by_key = {(row["region"], row["method"]): row for row in rows}
    assert by_key["WM", "mle"]["median_ms"] == pytest.approx(640, rel=0.01)
    assert by_key["GM", "mle-shared"]["median_ms"] == pytest.approx(1000, rel=0.01)
    assert by_key["GM", "mle"]["of_medians"] == 0.0
    assert abs(by_key["GM", "mle-shared"]["of_medians"]) < 1.0
    assert by_key["WM", "mle-shared"]["spread"] < by_key["WM", "mle"]["spread"]


def test_added_noise_raises_the_cv(scan, fits):
    rows = in_vivo.repeat_rows(scan, fits, repeats=3, seed=0)
    medians = {
        row["added_sigma"]: row["median"]
        for row in rows
        if (row["region"], row["method"]) == ("GM", "mle")
    }
    assert 2 < medians[3.0] / medians[1.0] < 4


def test_boundary_and_figures(scan, fits, tmp_path):
    rows, lines = in_vivo.boundary_rows(scan, fits)
    assert len(rows) == 2 * len(lines) == 40
    table = in_vivo.sharpness(rows)
    assert next(row["p_against_mle"] for row in table) == 1.0
    methods = {method.name: method for method in fits}
    maps = {method.name: scan.T(method)[..., 0] for method in fits}
    draw_boundaries([(scan.brain, lines, maps)], rows, methods, tmp_path / "b.png")
    draw_maps(scan.brain, fits, maps, maps, tmp_path / "m.png")
    draw_repeats(in_vivo.repeat_rows(scan, fits, 2, 0), methods, tmp_path / "r.png")
    assert len(list(tmp_path.glob("*.png"))) == 3


def test_brain_is_found_in_the_head():
    x, y = np.mgrid[:120, :120] - 59.5
    radius = np.hypot(x, y)
    S = np.where(radius < 50, 100.0, 0.0)[..., None, None] * np.ones(3)
    head = head_mask(S)
    assert head.sum() == pytest.approx(np.pi * 47**2, rel=0.05)
    T1 = np.where(radius < 36, 1000.0, np.where(radius < 42, 450.0, 1200.0))
    brain = brain_of(T1, head)
    assert brain.sum() == pytest.approx(np.pi * 36**2, rel=0.05)


@pytest.mark.data
def test_real_regions(data_dir):
    first, second, third = load_brains(data_dir)
    for brain in (first, second):
        assert all(region.sum() > 300 for region in brain.regions.values())
        assert all((region <= brain.mask).all() for region in brain.regions.values())
    assert third.regions is second.regions
    assert second.signed
    assert 15_000 < second.mask.sum() < 19_000
    assert next(plate.name for plate in load_plates(data_dir)) == "T1_plate4"


@pytest.mark.data
@pytest.mark.slow
def test_quick_run(data_dir, tmp_path):
    options = ["--quick", "--data", str(data_dir), "--methods", "mle", "--out", str(tmp_path)]
    result = CliRunner().invoke(
        in_vivo.main, [*options, "--cache", str(tmp_path / "c")], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    assert (tmp_path / "quick_in_vivo_boundary.png").is_file()
