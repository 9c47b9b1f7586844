import numpy as np
import pytest
from boundary import (
    NUM_LINES,
    Sigmoid,
    along,
    draw_lines,
    fit_sigmoid,
    paired_p,
    positions,
)
from scipy import ndimage

RANGES = {"WM": (550.0, 750.0), "GM": (900.0, 1300.0)}


def disc(blur=0.8):
    """White disc (650 ms) in grey matter (1100 ms), its edge blurred."""
    x, y = np.mgrid[:64, :64] - 31.5
    sharp = np.where(np.hypot(x, y) < 18, 650.0, 1100.0)
    mask = np.hypot(x, y) < 29
    return ndimage.gaussian_filter(sharp, blur), mask


@pytest.mark.parametrize("steepness", [0.6, 1.5, 4.0])
def test_sigmoid_is_recovered(steepness):
    truth = Sigmoid(450.0, steepness, 0.3, 640.0, 0.0)
    fit = fit_sigmoid(truth(positions()))
    assert fit.residual < 0.5
    assert fit.v == pytest.approx(steepness, rel=0.05)


def test_sigmoid_of_a_falling_line_has_a_positive_steepness():
    truth = Sigmoid(-300.0, 1.5, 0.0, 900.0, 0.0)
    fit = fit_sigmoid(truth(positions()))
    assert fit.v == pytest.approx(1.5, rel=0.05)
    assert pytest.approx(-300.0, rel=0.05) == fit.V


def test_lines_cross_the_edge_at_right_angles():
    reference, mask = disc()
    lines = draw_lines(reference, mask, RANGES)
    assert lines.shape == (NUM_LINES, len(positions()), 2)
    radius = np.hypot(*(lines - 31.5).transpose(2, 0, 1))
    np.testing.assert_allclose(radius[:, len(positions()) // 2], 18, atol=0.5)
    length = radius[:, -1] - radius[:, 0]
    np.testing.assert_allclose(length, np.ptp(positions()), rtol=0.01)


def test_lines_spread_round_the_edge():
    lines = draw_lines(*disc(), RANGES)
    centres = lines.mean(axis=1) - 31.5
    angles = np.sort(np.arctan2(centres[:, 1], centres[:, 0]))
    gaps = np.diff(np.append(angles, angles[0] + 2 * np.pi))
    assert gaps.max() < 3 * 2 * np.pi / NUM_LINES


def test_no_lines_where_grey_matter_meets_csf_at_once():
    reference, mask = disc()
    x, y = np.mgrid[:64, :64] - 31.5
    reference[np.hypot(x, y) > 20] = 3500.0
    assert len(draw_lines(reference, mask, RANGES)) == 0


def test_blur_lowers_the_slope():
    lines = draw_lines(*disc(), RANGES)
    slopes = [
        np.median([fit_sigmoid(along(disc(blur)[0], line)).v for line in lines])
        for blur in (0.5, 1.0, 1.5)
    ]
    assert slopes[0] > 1.2 * slopes[1] > 1.44 * slopes[2]


def test_paired_test_sees_a_shift_and_no_difference_of_twins():
    values = np.random.default_rng(0).normal(1.0, 0.3, 20)
    assert paired_p(values, values) == 1.0
    assert paired_p(values, values + 0.2 + 0.01 * np.arange(20)) < 0.01
