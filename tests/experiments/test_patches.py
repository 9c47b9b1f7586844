import numpy as np
import pytest
from methods import fit_method
from patches import draw_places, repeated, scores, simulate

from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY
from relaxsim.models.t2_decay import MODEL as T2_DECAY

TAU = np.array([100.0, 400, 900, 2000, 4000])


@pytest.fixture(scope="module")
def places(brain):
    return draw_places([brain], 3, size=12)


def test_same_kappa_for_any_times(places):
    first = simulate(places, TAU, INVERSION_RECOVERY)
    second = simulate(places, TAU[1:], INVERSION_RECOVERY)
    pure = first.pure
    assert pure.any()
    np.testing.assert_array_equal(first.kappa[pure], second.kappa[pure])
    np.testing.assert_array_equal(first.clean[..., 1:][pure], second.clean[pure])


def test_given_b_and_repetition_time(places):
    exact = simulate(places, TAU, INVERSION_RECOVERY, b_field=1.4)
    np.testing.assert_allclose(exact.kappa[exact.pure][:, 1], 1.4, rtol=1e-6)
    short = simulate(places, TAU, INVERSION_RECOVERY, b_field=2.0, tr=1000.0)
    B, T1 = short.kappa[short.pure][:, 1:].T
    np.testing.assert_allclose(B, 2 / (1 + np.exp(-1000 / T1)), rtol=1e-3)


def test_noise_has_the_asked_for_deviation(places):
    patches = simulate(places, TAU, T2_DECAY)
    noise = patches.noisy(30.0, [1]) - patches.clean
    assert np.std(noise) == pytest.approx(0.025, rel=0.05)


def test_truth_scores_zero_and_a_factor_its_bias(places):
    patches = simulate(places, TAU, INVERSION_RECOVERY)
    T = np.stack([patches.kappa[..., -1]] * 2)
    for row in scores(1.1 * T, patches):
        assert row["bias"] == pytest.approx(10.0, abs=1e-3)
        assert row["rmse"] == pytest.approx(10.0, abs=1e-3)
        assert row["cv"] == pytest.approx(0.0, abs=1e-6)


def test_repeats_map_what_is_altered(places):
    patches = simulate(places, TAU, T2_DECAY)
    series = []

    def alter(S):
        series.append(S.copy())
        return patches.clean

    T = repeated(fit_method("mle"), patches, 30.0, 2, alter=alter)
    assert T.shape == (2, *patches.pure.shape)
    np.testing.assert_array_equal(T[0], T[1])
    assert np.abs(series[0] - series[1]).max() > 0.01
    inside = patches.pure & (patches.kappa[..., -1] < 1000)
    np.testing.assert_allclose(T[0][inside], patches.kappa[..., -1][inside], rtol=0.02)
