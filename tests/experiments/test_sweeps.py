"""Sweeps over patches: their set-ups, their tables, and a small run of each."""

import importlib

import any_protocol
import images
import inversion
import long_t2
import motion
import numpy as np
import pytest
import wrong_sigma
from click.testing import CliRunner
from methods import fit_method
from patches import Patches, draw_places
from sweep import Panel, Setup, draw_panels, measured

from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY
from relaxsim.models.protocols import read_protocol
from relaxsim.models.t2_decay import MODEL as T2_DECAY
from relaxsim.simulation.tissue_maps import TissueValues


@pytest.fixture(scope="module")
def places(brain):
    return draw_places([brain], 2, size=12)


def test_measured_rows_carry_the_setup_and_are_kept(places, tmp_path):
    setup = Setup({"protocol": "fse6"}, (10.0, 40.0, 160.0), T2_DECAY, 30.0)
    calls = []

    def measure(T, patches):
        calls.append(T.shape)
        return [{"tissue": "GM", "bias": 1.0}]

    for _ in range(2):
        (row,) = measured("test", setup, fit_method("mle"), places, 2, 0, tmp_path, measure=measure)
    assert len(calls) == 1
    assert row == {"protocol": "fse6", "snr": 30.0, "method": "mle", "tissue": "GM", "bias": 1.0}


def test_panels_take_numbers_and_words(tmp_path):
    rows = [
        {"method": "mle", "tissue": t, "x": x, "word": w, "bias": b}
        for t in ("GM", "WM")
        for x, w, b in ((1.0, "infinite", 2.0), (2.0, "1000", -1.0))
    ]
    panels = [Panel(x, rows, x, x, "bias", band=(-3, 3)) for x in ("x", "word")]
    draw_panels(panels, {"mle": fit_method("mle")}, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_random_protocols_are_fixed_and_distinct():
    first, second = (any_protocol.protocols_of("tis", 20) for _ in range(2))
    assert [p.name for p in first][:5] == ["cine23", "cine25", "cine31", "barral2010", "nist3t"]
    drawn = [tuple(p.tau) for p in first[-20:]]
    assert drawn == [tuple(p.tau) for p in second[-20:]]
    assert len(set(drawn)) == 20


def score(method, rmse, bias=0.0, tissue="GM and WM"):
    head = {"times": "tis", "protocol": "cine31", "images": 31, "first_ms": 139.0}
    return {**head, "last_ms": 937.0, "snr": 10.0, "method": method, "tissue": tissue} | {
        "rmse": rmse,
        "bias": bias,
    }


def test_ratios_and_what_they_say():
    rows = [score("rim-t1", 12.0), score("rim-cine31", 10.0), score("mle", 40.0)]
    rows += [score("rim-t1", 12.0, 1.5, "GM"), score("mle", 40.0, -2.0, "GM")]
    (row,) = any_protocol.compared(rows)
    assert row["any_over_single"] == pytest.approx(1.2)
    assert row["any_over_mle"] == pytest.approx(0.3)
    assert (row["bias_GM_any"], row["bias_GM_mle"]) == (1.5, -2.0)
    assert np.isnan(row["bias_WM_any"])
    row = {**row, "bias_GM_single": -1.2, "bias_WM_single": 0.0}
    first, second, third = any_protocol.verdicts([row])
    assert "1 of 1" in first
    assert "0 of 1" in second
    assert "1.20" in second
    assert "worst +0.3" in third


def flat_patches(truth):
    shape = truth.shape
    kappa = np.stack([np.ones(shape), truth], -1)
    pure = np.ones(shape, bool)
    return Patches(np.ones((*shape, 1)), kappa, pure.astype(np.uint8), pure, np.ones(1), T2_DECAY)


def test_long_t2_slope_and_bias():
    truth = np.random.default_rng(0).uniform(500, 2500, (2, 20, 20))
    rows = long_t2.line_rows(np.stack([0.9 * truth] * 2), flat_patches(truth))
    assert rows[0]["slope"] == pytest.approx(0.9)
    assert rows[0]["bias"] == pytest.approx(-10.0)
    collapsed = long_t2.line_rows(np.full((1, *truth.shape), 2000.0), flat_patches(truth))
    assert collapsed[0]["slope"] == pytest.approx(0.0, abs=1e-9)
    assert sum(row["voxels"] for row in rows[1:]) == truth.size


def test_long_t2_is_drawn_in_its_range():
    values = TissueValues(np.ones((5, 12, 2), np.float32), None, None)
    changed = long_t2.log_uniform(values, np.random.default_rng(0))
    T2 = changed.by_label[..., -1]
    assert T2.min() >= long_t2.RANGE[0]
    assert T2.max() <= long_t2.RANGE[1]
    assert (changed.by_label[..., 0] == 1).all()


def test_inversion_varies_b_then_repetition_time():
    setups = inversion.setups(read_protocol("cine31", "tis"), 30.0, quick=False)
    assert [s.b_field for s in setups if s.columns["varied"] == "B"] == [1.2, 1.4, 1.6, 1.8, 2.0]
    times = [s.tr for s in setups if s.columns["varied"] == "TR"]
    assert times[0] == 1000.0
    assert times[-1] is None


def test_growth_of_rmse_with_a_wrong_sigma():
    of = {"protocol": "cine31", "snr": 10.0, "method": "rim", "tissue": "GM"}
    rows = [
        {**of, "handling": handling, "factor": factor, "rmse": rmse}
        for handling, errors in (("checked", (10, 10, 10, 11)), ("forced", (90, 11, 10, 13)))
        for factor, rmse in zip((0.25, 0.5, 1.0, 2.0), errors, strict=True)
    ]
    checked, forced = wrong_sigma.growth(rows)
    assert "rim, checked: RMSE grows by at most 10 %" in checked
    assert "rim, forced: RMSE grows by at most 30 %" in forced
    assert "factor 2" in forced


def test_bound_falls_with_images_and_with_the_longest_time(places):
    setups = images.setups("tis", 30.0, quick=False)
    for varied in ("images", "longest time"):
        own = [s for s in setups if s.columns["varied"] == varied]
        values = [images.bound_rows(s, s.patches(places, 0))[0]["rmse"] for s in own]
        assert values == sorted(values, reverse=True)


def test_motion_moves_as_many_images_as_asked():
    S = np.random.default_rng(0).random((2, 8, 8, 6))
    moved = motion.moved(S, 2, seed=0)
    changed = (moved != S).any(axis=(1, 2))
    assert changed.sum(axis=1).tolist() == [2, 2]
    np.testing.assert_array_equal(motion.moved(S, 2, seed=0), moved)
    np.testing.assert_array_equal(motion.moved(S, 0, seed=0), S)


def test_scores_at_an_edge_are_of_voxels_beside_another_tissue():
    patches = flat_patches(np.full((1, 20, 20), 100.0))
    patches.labels[:] = 2
    patches.labels[:, :10] = 3
    T = np.full((2, 1, 20, 20), 100.0)
    T[:, :, 9:11] = 110.0
    rows = motion.scores_by_place(T, patches)
    by_place = {(row["where"], row["tissue"]): row for row in rows}
    assert by_place["anywhere", "GM"]["bias"] == 0.0
    assert by_place["at an edge", "GM"]["bias"] == pytest.approx(10.0)
    assert by_place["at an edge", "WM"]["voxels"] == 20


def test_rician_fit_is_another_method():
    fit = fit_method("mle-rician")
    assert fit.fit.likelihood == "rician"
    assert fit.identity != fit_method("mle").identity


def test_settings_differ_between_setups():
    one, other = (
        Setup({}, (1.0,), INVERSION_RECOVERY, 10.0, noise=noise) for noise in ("gaussian", "rician")
    )
    assert one.settings != other.settings


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["any_protocol", "long_t2", "inversion", "wrong_sigma", "likelihood", "images", "motion"],
)
def test_quick_run_writes_table_and_figure(name, brain, tmp_path):
    module = importlib.import_module(name)
    out = tmp_path / "out"
    options = ["--quick", "--brains", str(brain), "--out", str(out), "--cache", str(tmp_path / "c")]
    result = CliRunner().invoke(module.main, options, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert list(out.glob("*.csv"))
    assert list(out.glob("*.png"))
