import accuracy
import numpy as np
import pytest
from accuracy_text import markdown
from bounds import bayes_slopes, relative_bounds

from relaxnet.evaluation.metrics import Moments
from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY
from relaxsim.models.t2_decay import MODEL as T2_DECAY

TAU = np.linspace(150.0, 950.0, 31)
SPREAD = 0.03


def voxels(num=400, seed=0):
    rng = np.random.default_rng(seed)
    factor = 1 + SPREAD * rng.standard_normal((num, 3))
    factor[:, 1] = 1.0
    labels = np.repeat([1, 2, 3, 8], num // 4)
    T1 = np.choose(labels % 8, [2000.0, 3500.0, 1400.0, 780.0])
    kappa = np.stack([np.full(num, 0.8), np.full(num, 1.9), T1], -1) * factor
    return accuracy.Voxels(labels, np.ones(num, bool), kappa)


def moments(truth, bias, sd, slope=1.0, count=40, seed=1):
    """Moments of estimates that follow the truth's deviation from its tissue with a slope."""
    rng = np.random.default_rng(seed)
    centre = np.concatenate([np.full_like(t, t.mean(0)) for t in np.split(truth, 4)])
    aim = (centre + slope * (truth - centre)) * (1 + bias)
    out = Moments.of_none(truth.shape)
    for _ in range(count):
        out = out.with_repeat(aim * (1 + sd * rng.standard_normal(truth.shape)), truth)
    return out


class Known:
    """A scene as far as rows need it."""

    model = INVERSION_RECOVERY
    spread = SPREAD
    noise_kind = "gaussian"

    class protocol:  # noqa: N801
        tau = TAU


def rows(bias=0.02, sd=0.05, slope=1.0, draws=3):
    some = [voxels(seed=i) for i in range(draws)]
    estimates = [moments(v.kappa, bias, sd, slope, seed=i) for i, v in enumerate(some)]
    head = {"protocol": "cine31", "b_field": "patch", "snr": 10.0, "method": "rim"}
    head |= {"draws": draws, "repeats": 40}
    optimal = accuracy.optimal_slopes(Known, some, 0.075)
    found = list(accuracy.method_rows(head, Known, some, estimates, optimal))
    found += accuracy.bound_rows({**head, "repeats": 0}, Known, some, 0.075)
    return found


def one(found, parameter, tissue, method="rim"):
    return next(
        row
        for row in found
        if (row["parameter"], row["tissue"], row["method"]) == (parameter, tissue, method)
    )


def test_known_bias_spread_and_slope_come_back():
    found = rows(bias=0.02, sd=0.05, slope=0.5)
    for tissue in ("CSF", "GM", "WM", "brain"):
        row = one(found, "T1", tissue)
        assert row["bias"] == pytest.approx(2.0, abs=0.4)
        assert row["cv"] == pytest.approx(5.0, rel=0.1)
        assert row["rmse"] == pytest.approx(np.hypot(5, 2.5), rel=0.1)
        assert 0 < row["bias_error"] < 0.5
    assert one(found, "T1", "GM")["slope"] == pytest.approx(0.5, abs=0.1)
    assert np.isnan(one(found, "T1", "brain")["slope"])
    assert np.isnan(one(found, "B", "GM")["slope"])
    assert one(found, "T1", "GM")["voxels"] == 300
    assert one(found, "T1", "brain")["voxels"] == 1200


def test_markdown_holds_every_method_and_names_what_misses_the_aims():
    text = markdown(rows(bias=0.02), INVERSION_RECOVERY)
    assert "### T1, GM, B constant" in text
    assert "| rim | +2." in text
    assert "Bayes-optimal" in text
    aims = text[text.index("Against the aims") :]
    assert "| rim | 2." in aims


def test_bounds_of_rician_noise_are_wider_where_it_is_strong():
    kappa = voxels().kappa
    bounds = [
        relative_bounds(kappa, TAU, sigma, INVERSION_RECOVERY, kind)["bound, B known"][:, 2]
        for sigma in (0.2, 0.001)
        for kind in ("gaussian", "rician")
    ]
    assert np.median(bounds[1] / bounds[0]) > 1.2
    assert (bounds[1] > bounds[0]).all()
    np.testing.assert_allclose(bounds[3], bounds[2], rtol=0.05)


def test_bounds_follow_the_known_b():
    kappa = voxels().kappa
    bounds = relative_bounds(kappa, TAU, 0.05, INVERSION_RECOVERY)
    assert (bounds["bound, B known"][:, 2] < bounds["bound, B free"][:, 2]).all()
    assert not bounds["bound, B known"][:, 1].any()
    assert list(relative_bounds(kappa[:, [0, 2]], TAU, 0.05, T2_DECAY)) == ["bound"]


def test_bayes_slope_goes_from_none_to_one_with_the_noise():
    kappa = voxels().kappa
    slopes = [
        bayes_slopes(kappa, TAU, sigma, INVERSION_RECOVERY, SPREAD)[:, 2].mean()
        for sigma in (1e-5, 0.05, 10.0)
    ]
    assert slopes[0] == pytest.approx(1.0, abs=1e-3)
    assert 0.05 < slopes[1] < 0.95
    assert slopes[2] == pytest.approx(0.0, abs=1e-3)


def test_bayes_slope_is_that_of_the_posterior_mean():
    """Linear signal with Gaussian noise: regress posterior means on the truth."""
    rng = np.random.default_rng(0)
    mean, tau, sigma = np.array([1.0, 100.0]), np.array([10.0, 50, 100, 200]), 0.02
    J = T2_DECAY.jacobian(mean, tau)
    P = np.diag((SPREAD * mean) ** 2)
    deviation = rng.standard_normal((40_000, 2)) @ np.sqrt(P)
    data = deviation @ J.T + sigma * rng.standard_normal((40_000, 4))
    gain = P @ J.T @ np.linalg.inv(J @ P @ J.T + sigma**2 * np.eye(4))
    estimate = data @ gain.T
    expected = [np.polyfit(deviation[:, q], estimate[:, q], 1)[0] for q in (0, 1)]
    found = bayes_slopes(mean[None], tau, sigma, T2_DECAY, SPREAD)[0]
    np.testing.assert_allclose(found, expected, atol=0.02)
