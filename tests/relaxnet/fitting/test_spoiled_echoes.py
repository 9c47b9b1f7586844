"""Fits of variable flip angles with a known B1, against a dense search and a published result."""

import csv

import numpy as np
import pytest
from short_fits import voxelwise

from relaxnet.fitting.result import CONVERGED
from relaxsim.models.protocols import random_protocol
from relaxsim.models.spoiled_gradient_echo import MODEL


def dense_cost(S, protocol, B1, points=6000):
    """Least sum of squares of a voxel over a dense grid of T1, the best A of each within bounds."""
    T1 = np.geomspace(*MODEL.bounds[1], points)
    g = MODEL.forward(np.stack([np.ones(points), T1], axis=-1), protocol, np, B1)
    A = np.clip(g @ S / (g * g).sum(axis=1), *(np.array(MODEL.bounds[0]) * np.abs(S).max()))
    return ((S - A[:, None] * g) ** 2).sum(axis=1).min()


@pytest.mark.parametrize("seed", range(12))
def test_cost_is_never_above_a_dense_search(seed):
    """Also of faint voxels and of noise alone, for two angles as for twenty."""
    rng = np.random.default_rng(seed)
    protocol, n = random_protocol(rng, MODEL).table, 40
    B1 = rng.uniform(0.5, 1.5, (n, 1))
    kappa = np.stack([np.ones(n), np.exp(rng.uniform(*np.log([100.0, 5000.0]), n))], axis=-1)
    S = MODEL.forward(kappa, protocol, np, B1)
    S = S / S.max(axis=1, keepdims=True)
    S += np.exp(rng.uniform(*np.log([1e-4, 3.0]), (n, 1))) * rng.normal(size=S.shape)
    fit = voxelwise(S, protocol, MODEL, 1.0, known=B1)
    f = MODEL.forward(fit.kappa.astype(np.float64), protocol, np, B1)
    found = ((S - f) ** 2).sum(axis=1)
    dense = [dense_cost(s, protocol, b) for s, b in zip(S, B1, strict=True)]
    # kappa is rounded to float32; the grid is not that fine
    assert (found <= np.array(dense) * (1 + 1e-5) + 1e-9 * (S * S).sum(axis=1)).all()


def test_two_angles_give_t1_and_its_deviation():
    """Without degrees of freedom sigma is given, and the deviations are those of the draws."""
    protocol = np.array([[4.0, 12.0], [18.0, 12.0]])
    kappa, B1, sigma = np.array([1000.0, 1000.0]), np.array([0.9]), 0.3
    signal = MODEL.forward(kappa, protocol, np, B1)
    S = signal + sigma * np.random.default_rng(0).normal(size=(4000, 2))
    fit = voxelwise(S, protocol, MODEL, sigma, known=np.full((4000, 1), 0.9))
    assert (fit.status == CONVERGED).mean() > 0.999
    assert np.median(fit.kappa[:, 1]) == pytest.approx(1000.0, rel=5e-3)
    spread = 0.5 * np.ptp(np.percentile(fit.kappa[:, 1], [16, 84]))
    assert np.median(fit.std[:, 1]) == pytest.approx(spread, rel=0.05)


@pytest.mark.parametrize("off", [0.95, 1.05])
def test_a_b1_map_that_is_off_by_5_percent(off):
    """T1 goes with the inverse square of B1: a map 5 % low reads T1 11 % long."""
    angles = np.array([2.0, 4.0, 8.0, 14.0, 22.0])
    protocol = np.stack([angles, np.full(5, 12.0)], axis=-1)
    B1 = np.linspace(0.7, 1.2, 20)[:, None]
    S = MODEL.forward(np.broadcast_to([1.0, 1200.0], (20, 2)), protocol, np, B1)
    found = voxelwise(S, protocol, MODEL, known=off * B1).kappa[:, 1]
    np.testing.assert_allclose(found, 1200.0 / off**2, rtol=0.02)


def osipi(path):
    """Flip angles, TR in ms, signals and published R1 in 1/s of voxels of brains."""
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            angles, times, signals = (np.array(row[k].split(), float) for k in ("FA", "TR", "s"))
            yield row["label"], np.stack([angles, 1000 * times], axis=-1), signals, float(row["R1"])


@pytest.mark.data
def test_published_r1_of_brains(data_dir):
    rows = list(osipi(data_dir / "osipi_vfa" / "t1_brain_data.csv"))
    assert len(rows) > 60
    for label, protocol, signals, R1 in rows:
        found = 1000.0 / voxelwise(signals, protocol, MODEL).kappa[1]
        assert found == pytest.approx(R1, rel=1e-3), label
