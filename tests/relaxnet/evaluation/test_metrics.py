import numpy as np
import pytest

from relaxnet.evaluation.metrics import (
    OUTLIER,
    Moments,
    by_tissue,
    coefficient_of_variation,
    pooled_rmse,
    relative_bias,
    relative_rmse,
    summarise,
)


def test_metrics_of_a_known_case():
    """Two repeats, 90 and 110 of 80: bias 25 %, CV sqrt(200)/100, RMSE by hand."""
    estimates, truth = np.array([[90.0], [110.0]]), np.array([80.0])
    assert relative_bias(estimates, truth)[0] == pytest.approx(25.0)
    assert coefficient_of_variation(estimates)[0] == pytest.approx(100 * np.sqrt(200) / 100)
    expected = 100 * np.sqrt((0.125**2 + 0.375**2) / 2)
    assert relative_rmse(estimates, truth)[0] == pytest.approx(expected)
    assert pooled_rmse(estimates, truth) == pytest.approx(expected)


def test_constant_map_has_no_variation_but_an_error():
    estimates, truth = np.full((5, 3), 100.0), np.array([50.0, 100.0, 200.0])
    assert (coefficient_of_variation(estimates) == 0).all()
    assert pooled_rmse(estimates, truth) > 50


def test_bias_cv_and_rmse_agree():
    """RMSE^2 = bias^2 + variance, up to the ddof."""
    rng = np.random.default_rng(0)
    truth = rng.uniform(500, 1500, 50)
    estimates = truth * (1.03 + 0.1 * rng.standard_normal((400, 50)))
    bias, cv = relative_bias(estimates, truth), coefficient_of_variation(estimates)
    spread = cv * (1 + bias / 100)
    np.testing.assert_allclose(
        relative_rmse(estimates, truth), np.hypot(bias, spread * np.sqrt(399 / 400)), rtol=1e-6
    )


def test_one_repeat_has_no_cv():
    with pytest.raises(ValueError, match="at least two repeats"):
        coefficient_of_variation(np.ones((1, 4)))


def test_error_of_the_median_counts_draws_not_voxels():
    rng = np.random.default_rng(0)
    draws = np.repeat(np.arange(16), 1000)
    values = rng.standard_normal(16)[draws]
    assert summarise(values, draws).error == pytest.approx(1 / 4, rel=0.5)


def test_tissues_are_told_apart_and_background_is_left_out():
    labels = np.array([0, 1, 2, 2, 3])
    truth = np.array([0.0, 100, 100, 100, 100])
    estimates = truth * np.array([[1, 1.5, 1.1, 1.1, 1.0], [1, 1.5, 1.1, 1.1, 1.0]])
    table = by_tissue(estimates, truth, labels)
    assert table["GM"]["bias"].median == pytest.approx(10)
    assert table["GM"]["bias"].num_voxels == 2
    assert table["brain"]["bias"].num_voxels == 4
    assert table["CSF"]["cv"].median == 0


@pytest.mark.parametrize("count", [2, 7])
def test_moments_agree_with_the_repeats_themselves(count):
    rng = np.random.default_rng(0)
    truth = rng.uniform(500, 1500, (20, 2))
    estimates = truth * (1 + 0.4 * rng.standard_normal((count, 20, 2)))
    moments = Moments.of_none(truth.shape)
    for estimate in estimates:
        moments = moments.with_repeat(estimate, truth)
    assert moments.count == count
    np.testing.assert_allclose(moments.bias, relative_bias(estimates, truth))
    np.testing.assert_allclose(moments.cv, coefficient_of_variation(estimates))
    np.testing.assert_allclose(moments.rmse, relative_rmse(estimates, truth))
    far = (np.abs(estimates / truth - 1) > OUTLIER).sum(axis=0)
    np.testing.assert_array_equal(moments.outliers, far)


def test_moments_of_one_repeat_have_no_cv():
    moments = Moments.of_none((3,)).with_repeat(np.full(3, 90.0), np.full(3, 100.0))
    assert np.isnan(moments.cv).all()
    np.testing.assert_allclose(moments.bias, -10.0)
