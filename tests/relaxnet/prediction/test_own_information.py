"""Dim voxels are not ok where a network's estimate is not of their own data."""

import numpy as np

from relaxnet.maps.status import NOT_IDENTIFIABLE, OK
from relaxnet.prediction.arrays import predict
from relaxsim.models.registry import model_of

TIS = np.array([50.0, 150, 300, 500, 800, 1200, 1700, 2300, 3000])
BOX = np.s_[10:22, 10:22]


def estimate(dim, sigma, T1=2500.0, seed=0):
    """Maps by the network: tissue of T1 900 ms, a square of amplitude `dim` and another T1."""
    model = model_of("ir")
    A, T = np.full((32, 32), 0.8), np.full((32, 32), 900.0)
    A[BOX], T[BOX] = dim, T1
    S = model.forward(np.stack([A, np.full_like(A, 1.95), T], axis=-1)[:, :, None], TIS)
    noise = sigma * np.random.default_rng(seed).standard_normal((2, *S.shape))
    return predict(np.hypot(S + noise[0], noise[1]), TIS, model, "rim", sigma=sigma)


def test_dim_tissue_beside_bright_is_not_ok():
    maps = estimate(0.05, 1 / 30)
    inside = np.zeros((32, 32, 1), bool)
    inside[BOX] = True
    assert np.median(np.abs(maps.main[inside] / 2500 - 1)) > 0.2  # why it has to be said
    assert (maps.status[inside] == NOT_IDENTIFIABLE).mean() > 0.9
    assert (maps.status[~inside] == OK).mean() > 0.95


def test_dim_tissue_that_its_data_determine_is_ok():
    maps = estimate(0.1, 1 / 1000)
    assert (maps.status[BOX] == OK).mean() > 0.95


def test_a_series_of_low_snr_keeps_its_status():
    maps = estimate(0.8, 0.8 / 6)
    assert (maps.status == OK).mean() > 0.95
