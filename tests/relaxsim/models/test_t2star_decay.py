"""Gradient echoes of which fat and water oscillate along the echo time."""

import numpy as np
import pytest

from relaxsim.models.t2star_decay import MODEL

#: Precession of fat against water at 3 T, in 1/ms, and T2* of both, ms.
SHIFT, T2STAR = 0.434, 28.0
OPPOSED = np.array([1.15, 2.3, 3.45, 4.6, 5.75, 6.9])
IN_PHASE = 1.0 / SHIFT * np.arange(1, 7)


def caution(times, fat, sigma, order=slice(None)):
    """What is said of a series with fat in a tenth of its voxels."""
    rng = np.random.default_rng(0)
    water = rng.uniform(500.0, 1000.0, (20, 20, 1, 1))
    share = np.where(rng.random(water.shape) < 0.1, fat, 0.0)
    turning = (1 - share) + share * np.exp(2j * np.pi * SHIFT * times)
    S = np.abs(water * turning) * np.exp(-times / T2STAR)
    S = np.hypot(*(x + sigma * rng.normal(size=S.shape) for x in (S, 0.0)))
    mask = np.ones(S.shape[:3], bool)
    return MODEL.border.caution.of_series(S[..., order], times[order, None], mask, sigma)


@pytest.mark.parametrize("fat", [0.2, 0.5, 0.9])
def test_opposed_phases_are_said(fat):
    said = caution(OPPOSED, fat, 10.0)
    assert "rises along the echoes in 7 % of the voxels" in said
    assert "fat and water" in said
    assert "T2* is wrong there" in said
    assert caution(OPPOSED, fat, 10.0, np.array([3, 0, 5, 1, 4, 2])).startswith(said[:60])


@pytest.mark.parametrize(
    ("times", "fat", "sigma"),
    [
        (OPPOSED, 0.0, 10.0),
        (OPPOSED, 0.0, 300.0),  # faint: noise rises and falls
        (IN_PHASE, 0.5, 10.0),
        (np.linspace(2.0, 80.0, 40), 0.0, 30.0),
    ],
)
def test_decays_and_echoes_in_phase_are_not(times, fat, sigma):
    assert caution(times, fat, sigma) is None


def test_a_decay_that_the_field_bends_is_not():
    """A gradient through the voxel: a sinc, which stays below its first lobe's fall."""
    times = np.linspace(2.0, 40.0, 12)
    S = 800.0 * np.exp(-times / 40.0) * np.abs(np.sinc(times / 45.0)) * np.ones((10, 10, 1, 1))
    mask = np.ones((10, 10, 1), bool)
    assert MODEL.border.caution.of_series(S, times[:, None], mask, 5.0) is None
