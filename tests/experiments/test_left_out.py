"""Left-out images: right intervals hold 95 % of them, those of a fault hold less."""

import numpy as np
from left_out import shares

from relaxsim.models.t2_decay import MODEL

TES = np.array([10.0, 20, 35, 60, 90, 130, 180])


def series(snr=40.0, gain=1.0):
    """Magnitudes of two tissues; the fourth image has another gain."""
    rng = np.random.default_rng(0)
    T2 = np.where(np.arange(60)[:, None, None] < 30, 70.0, 110.0) * np.ones((60, 60, 1))
    S = MODEL.forward(np.stack([np.ones_like(T2), T2], axis=-1), TES)
    S[..., 3] *= gain
    noise = rng.standard_normal((2, *S.shape)) / snr
    return np.hypot(S + noise[0], noise[1])


def within(S):
    rows = shares(S, TES[:, None], MODEL, "mle")
    assert [row["image"] for row in rows] == [2, 3, 4, 5, 6]
    return np.array([row["within_95"] for row in rows])


def test_intervals_of_clean_data_hold():
    assert (np.abs(within(series()) - 95.0) < 2.5).all()


def test_an_image_of_another_gain_is_not_held():
    assert within(series(gain=1.08))[2] < 70
