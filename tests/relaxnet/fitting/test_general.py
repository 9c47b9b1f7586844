"""Fits of models without a separable form, and with known maps."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import least_squares
from short_fits import regularised, shared, voxelwise
from toy_models import import_toy

from relaxnet.fitting.crlb import crlb
from relaxnet.fitting.options import FitOptions
from relaxnet.fitting.result import (
    AT_BOUND,
    CONVERGED,
    INVALID,
    NO_SIGNAL,
    NOT_IDENTIFIABLE,
)
from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY
from relaxsim.models.t2_decay import MODEL as T2_DECAY

MODEL = import_toy("spoiled_echo")
TABLE = np.array([[30.0, 200.0], [60.0, 200.0], [60.0, 600.0], [60.0, 1500.0], [40.0, 3000.0]])
TES = np.array([10.0, 20.0, 40.0, 80.0, 160.0, 320.0])
TIS = np.array([50.0, 150.0, 300.0, 500.0, 800.0, 1200.0, 1700.0, 2400.0, 3300.0, 4500.0])


def draw(n, seed=0):
    """Kappa (n, 2) and the B1 of each voxel, (n, 1)."""
    rng = np.random.default_rng(seed)
    T = np.exp(rng.uniform(np.log(100), np.log(3000), n))
    return np.stack([rng.uniform(200, 900, n), T], axis=-1), rng.uniform(0.7, 1.3, (n, 1))


def test_recovers_noise_free_kappa_with_a_known_map():
    kappa, B1 = draw(500)
    fit = voxelwise(MODEL.forward(kappa, TABLE, np, B1), TABLE, MODEL, known=B1)
    np.testing.assert_allclose(fit.kappa, kappa, rtol=1e-4)
    assert (fit.status == CONVERGED).all()
    assert (fit.residual < 1e-3).all()


def test_known_map_matters_and_has_a_default():
    kappa, B1 = draw(50)
    S = MODEL.forward(kappa, TABLE, np, np.ones_like(B1))
    np.testing.assert_allclose(voxelwise(S, TABLE, MODEL).kappa, kappa, rtol=1e-4)
    S = MODEL.forward(kappa, TABLE, np, B1)
    assert np.abs(voxelwise(S, TABLE, MODEL).kappa[:, 0] / kappa[:, 0] - 1).max() > 0.05


def test_cost_is_not_above_that_of_scipy():
    kappa, B1 = draw(60, seed=1)
    S = MODEL.forward(kappa, TABLE, np, B1)
    S += 20.0 * np.random.default_rng(2).normal(size=S.shape)
    fit = voxelwise(S, TABLE, MODEL, known=B1)
    low, high = np.array(MODEL.bounds).T
    for samples, b1, found, truth in zip(S, B1, fit.kappa.astype(float), kappa, strict=True):
        unit = np.array([np.abs(samples).max(), 1.0])

        def residual(k, samples=samples, b1=b1):
            return MODEL.forward(k, TABLE, np, b1) - samples

        best = min(
            least_squares(residual, start, bounds=(low * unit, high * unit), x_scale=truth).cost
            for start in (truth, truth * [1.0, 0.5], truth * [1.0, 1.9])
        )
        assert 0.5 * (residual(found) ** 2).sum() <= best * (1 + 1e-5)


def test_standard_deviations_and_scatter_match_the_bound():
    kappa, B1, sigma = np.array([500.0, 600.0]), np.array([0.9]), 4.0
    rng = np.random.default_rng(3)
    signal = MODEL.forward(kappa, TABLE, np, B1)
    known = np.full((2000, 1), 0.9)
    bound = crlb(kappa, TABLE, sigma, MODEL, known=B1)
    for likelihood in ("gaussian", "rician"):
        noise = sigma * rng.normal(size=(2, 2000, len(TABLE)))
        S = signal + noise[0] if likelihood == "gaussian" else np.hypot(signal + noise[0], noise[1])
        fit = voxelwise(S, TABLE, MODEL, sigma, known=known, likelihood=likelihood)
        np.testing.assert_allclose(fit.kappa.std(axis=0, ddof=1), bound, rtol=0.1)
        np.testing.assert_allclose(np.median(fit.std, axis=0), bound, rtol=0.05)
        np.testing.assert_allclose(np.median(fit.kappa, axis=0), kappa, rtol=0.01)


def test_status_of_each_kind():
    kappa, B1 = draw(6)
    S = MODEL.forward(kappa, TABLE, np, B1)
    S[0], S[1, 2] = 0.0, np.nan
    B1[2] = np.nan
    S[3] = MODEL.forward(np.array([500.0, 9000.0]), TABLE, np, B1[3])
    S[4] = [1000.0, -1000.0, 1000.0, -1000.0, 900.0]
    fit = voxelwise(S, TABLE, MODEL, 1.0, known=B1)
    assert fit.status[:4].tolist() == [NO_SIGNAL, INVALID, INVALID, AT_BOUND]
    assert fit.status[4] in (AT_BOUND, NOT_IDENTIFIABLE)
    assert fit.status[5] == CONVERGED
    assert (fit.kappa[:3] == 0).all()
    fixed = voxelwise(S, TABLE, MODEL, 1.0, known=B1, bounds={"A": (2.0, 2.0)})
    assert (fixed.std[5, 0], fixed.kappa[5, 0]) == (0.0, pytest.approx(2 * S[5].max()))


@pytest.mark.parametrize("likelihood", ["gaussian", "rician"])
def test_is_the_separable_fit_where_there_is_one(likelihood):
    rng = np.random.default_rng(4)
    T = np.exp(rng.uniform(np.log(20), np.log(400), 800))
    S = T2_DECAY.forward(np.stack([rng.uniform(0.5, 1, 800), T], axis=-1), TES)
    S = np.hypot(*(x + 0.02 * rng.normal(size=S.shape) for x in (S, 0.0)))
    general = replace(T2_DECAY, separable=None)
    one, other = (voxelwise(S, TES, m, 0.02, likelihood=likelihood) for m in (T2_DECAY, general))
    np.testing.assert_allclose(other.kappa, one.kappa, rtol=1e-4)
    np.testing.assert_allclose(other.std, one.std, rtol=1e-3)
    np.testing.assert_array_equal(other.status, one.status)


def test_moduli_that_change_sign():
    rng = np.random.default_rng(5)
    T1 = np.exp(rng.uniform(np.log(200), np.log(3000), 500))
    kappa = np.stack([rng.uniform(0.5, 1, 500), rng.uniform(1.3, 2.05, 500), T1], axis=-1)
    S = INVERSION_RECOVERY.forward(kappa, TIS)
    general = replace(INVERSION_RECOVERY, separable=None)
    np.testing.assert_allclose(voxelwise(S, TIS, general).kappa, kappa, rtol=1e-4)
    S = S + 0.01 * rng.normal(size=S.shape)
    one, other = (voxelwise(S, TIS, model) for model in (INVERSION_RECOVERY, general))
    assert (other.residual <= one.residual * 1.005).all()
    assert (np.abs(other.kappa / one.kappa - 1).max(axis=1) < 1e-4).mean() > 0.98


def test_a_protocol_for_each_slice():
    kappa, B1 = draw(24)
    kappa, B1 = kappa.reshape(4, 3, 2, 2), B1.reshape(4, 3, 2, 1)
    tables = np.stack([TABLE, TABLE * [1.2, 0.8]])
    S = MODEL.forward(kappa, tables, np, B1)
    mask = np.ones((4, 3, 2), bool)
    mask[0, 0] = False
    fit = voxelwise(S, tables, MODEL, mask=mask, known=B1)
    np.testing.assert_allclose(fit.kappa[mask], kappa[mask], rtol=1e-4)
    assert (fit.kappa[~mask] == 0).all()
    for wrong in (S[:, :, 0], S[:, :, [0, 1, 1]]):
        with pytest.raises(ValueError, match="2 slices"):
            voxelwise(wrong, tables, MODEL)


def test_times_of_each_slice_with_one_sigma_for_all():
    rng = np.random.default_rng(6)
    kappa = np.broadcast_to([1.0, 1.9, 900.0], (8, 8, 2, 3))
    tables = np.stack([TIS, TIS[::-1] * 0.7])[..., None]
    S = INVERSION_RECOVERY.forward(kappa, tables) + 0.02 * rng.normal(size=(8, 8, 2, 10))
    fit = voxelwise(S, tables, INVERSION_RECOVERY)
    alone = [voxelwise(S[:, :, z], tables[z], INVERSION_RECOVERY, 1.0) for z in (0, 1)]
    for z in (0, 1):
        np.testing.assert_array_equal(fit.kappa[:, :, z], alone[z].kappa)
        ratio = fit.std[:, :, z] / alone[z].std
        np.testing.assert_allclose(ratio, 0.02, rtol=0.2)
    np.testing.assert_allclose(fit.std[:, :, 0] / alone[0].std, ratio[0, 0, 0], rtol=1e-4)
    with pytest.raises(ValueError, match="one protocol for all slices, received 2"):
        shared(S, tables, INVERSION_RECOVERY)


def test_what_does_not_go_together_is_refused():
    S = np.ones((4, 4, 5))
    general = replace(INVERSION_RECOVERY, separable=None)
    with pytest.raises(ValueError, match="no separable form"):
        regularised(S, TIS[:5], general, lambda_b=500.0)
    with pytest.raises(ValueError, match="no separable form"):
        FitOptions(share_b=True).check(general)
    with pytest.raises(ValueError, match="has no shared parameter"):
        FitOptions(fix_b=1.0).check(MODEL)
    with pytest.raises(ValueError, match="does not go with spoiled_echo"):
        FitOptions(tr=1000.0).check(MODEL)
    with pytest.raises(ValueError, match="protocol of 2 columns"):
        voxelwise(S, TABLE[:, 0], MODEL)
    with pytest.raises(ValueError, match="known maps have shape"):
        voxelwise(S, TABLE, MODEL, known=np.ones((4, 4)))
    with pytest.raises(ValueError, match="has no known map"):
        voxelwise(S, TIS[:5], INVERSION_RECOVERY, known=np.ones((4, 4, 1)))
    with pytest.raises(ValueError, match=r"all 5 rows of the protocol are 30 degrees, 200 ms"):
        voxelwise(S, np.repeat(TABLE[:1], 5, axis=0), MODEL)
