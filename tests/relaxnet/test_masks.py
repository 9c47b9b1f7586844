import numpy as np
import pytest
from scipy import ndimage
from small_series import series

from relaxnet.masks import automatic_mask, otsu_threshold


def test_disc_is_found_and_its_hole_filled():
    S, _, disc = series((40, 40, 2), sigma=40.0)
    ventricle = np.zeros_like(disc)
    ventricle[19:21, 19:21] = True
    S[ventricle] *= 0.02
    mask = automatic_mask(S)
    assert (mask & ndimage.binary_erosion(disc)).sum() == ndimage.binary_erosion(disc).sum()
    assert mask[ventricle].all()
    assert (mask & ~disc).mean() < 0.01


def test_without_background_everything_is_inside():
    S = np.random.default_rng(0).uniform(0.9, 1.1, (9, 9, 1, 4))
    assert otsu_threshold(S.max(-1).ravel()) == 0
    assert automatic_mask(S).all()


def test_bad_voxels_are_outside_and_do_no_harm():
    S, _, _ = series((40, 40, 2))
    clean = automatic_mask(S)
    S[20, 20, 0, 3] = np.nan
    S[20, 21, 0] = np.inf
    np.testing.assert_array_equal(automatic_mask(S)[..., 1], clean[..., 1])


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_empty_series_is_refused(value):
    with pytest.raises(ValueError, match="nothing to map"):
        automatic_mask(np.full((5, 5, 1, 3), value))
