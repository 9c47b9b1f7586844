import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares
from toy_models import import_toy

from relaxsim.models.finite_tr import apparent as apparent_at_tr
from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY
from relaxsim.models.protocols import random_protocol, read_protocol
from relaxsim.models.registry import MODELS
from relaxsim.models.t2_decay import MODEL as T2_DECAY
from relaxsim.simulation.reference import nearest_single_compartment
from relaxsim.simulation.simulate import reference_kappa
from relaxsim.simulation.tissue_maps import apparent

CINE31 = read_protocol("cine31", "tis").tau
#: Relaxation times of tissues, ms.
TIMES = {"T1": (300, 4000), "T2": (20, 1000), "T2star": (3, 300)}
#: Protocols of models that measure them.
PROTOCOLS = {
    "tis": CINE31,
    "tes": read_protocol("fse6", "tes").tau,
    "fas": np.array([[2.0, 10.0], [4.0, 10.0], [8.0, 10.0], [15.0, 10.0], [25.0, 10.0]]),
}
#: Rows of flip angle (degrees) and repetition time (ms).
TABLE = np.array([[30.0, 200.0], [60.0, 200.0], [60.0, 600.0], [60.0, 1500.0], [40.0, 3000.0]])


def finite_tr(M0, e, T1, tr):
    """A and B of an inversion recovery with a 90-degree readout every TR."""
    kappa = np.stack(np.broadcast_arrays(M0, e, T1), axis=-1)
    A, B, _ = np.moveaxis(apparent_at_tr(kappa, tr), -1, 0)
    return A, B


#: Draws of parameters that belong to the place and not to its tissues.
OF_PLACE = {"B": (1.6, 2.0), "B1": (0.7, 0.95)}


def protocol_of(model):
    """Protocol of a model that measures its tissues."""
    if model.name.startswith("spin_echo_train"):
        others = np.tile([160.0, 90.0, 1000.0, 0.0], (24, 1))
        return np.column_stack([10.0 * np.arange(1, 25), others])
    return PROTOCOLS[model.border.columns[0].option]


def mixtures(model, num, seed, compartments=2):
    """Kappa (num, compartments, Q), fractions and the order of their voxels."""
    rng = np.random.default_rng(seed)
    kappa = np.empty((num, compartments, model.num_parameters), np.float32)
    kappa[..., 0] = rng.uniform(0.3, 1.2, kappa.shape[:2])
    for q in range(1, model.num_parameters - 1):  # of the place, not of its tissues
        kappa[..., q] = rng.uniform(*OF_PLACE[model.parameters[q]], (num, 1))
    T = TIMES[model.main]
    kappa[..., -1] = np.exp(rng.uniform(*np.log(T), kappa.shape[:2]))
    fraction = rng.dirichlet(np.ones(compartments), num).astype(np.float32)
    return kappa, fraction


def reference(kappa, fraction, tau, model, tr=None):
    num, compartments = fraction.shape
    first = np.arange(0, num * compartments, compartments)
    flat = kappa.reshape(num * compartments, -1)
    pairs = None if tr is None else np.repeat(tr, compartments)
    signal = model.signed(apparent(flat, model, pairs), tau.astype(np.float32), np)
    signal = (fraction[..., None] * signal.reshape(num, compartments, -1)).sum(1)
    found = reference_kappa(signal, flat, fraction.reshape(-1), first, tau, model, tr)
    return signal, apparent(found, model, tr)


def cost(kappa, signal, tau, model):
    return ((model.signed(kappa.astype(float), tau, np) - signal) ** 2).sum(-1)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10**6), parts=st.integers(2, 4))
def test_never_worse_than_a_tissue(model, seed, parts):
    tau = random_protocol(np.random.default_rng(seed), model).table
    kappa, fraction = mixtures(model, 50, seed, parts)
    signal, found = reference(kappa, fraction, tau, model)
    assert np.isfinite(found).all()
    assert (found > 0).all()
    best = np.min([cost(kappa[:, i], signal, tau, model) for i in range(parts)], axis=0)
    inside = np.abs(found[:, 0] / (fraction * kappa[..., 0]).sum(1) - 1) > 1e-6
    assert (cost(found, signal, tau, model)[inside] <= best[inside] + 1e-9).all()


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_it_is_the_least_squares_solution_with_b_known(model):
    tau = protocol_of(model)
    kappa, fraction = mixtures(model, 40, 0)
    signal, found = reference(kappa, fraction, tau, model)
    for k, s in zip(found, signal, strict=True):

        def residual(u, k=k, s=s):
            return model.signed(np.array([[u[0] * k[0], *k[1:-1], u[1] * k[-1]]]), tau, np)[0] - s

        fit = least_squares(residual, np.ones(2), xtol=1e-14, ftol=1e-14, gtol=1e-14)
        np.testing.assert_allclose(fit.x, 1.0, rtol=2e-3)
    np.testing.assert_allclose(found[:, 1:-1], kappa[:, 0, 1:-1], rtol=1e-6)


def test_at_a_finite_tr_b_follows_from_the_inversion_and_t1():
    """A fit with the TR and the efficiency of the place known gives the same."""
    tau = read_protocol("cine23", "tis").tau
    kappa, fraction = mixtures(INVERSION_RECOVERY, 40, 5)
    tr = np.random.default_rng(6).uniform(1000, 4000, 40)
    signal, found = reference(kappa, fraction, tau, INVERSION_RECOVERY, tr)
    for i, (k, s) in enumerate(zip(found, signal, strict=True)):
        e = kappa[i, 0, 1] - 1.0

        def residual(u, e=e, s=s, tr=tr[i]):
            recovery = 1 + e * np.exp(-tr / u[1]) - (1 + e) * np.exp(-tau / u[1])
            return u[0] * recovery - s

        fit = least_squares(residual, [1.0, k[2]], x_scale=[1.0, 1000.0], xtol=1e-12, ftol=1e-12)
        assert k[2] == pytest.approx(fit.x[1], rel=3e-3)
        assert k[:2] == pytest.approx(finite_tr(fit.x[0], e, fit.x[1], tr[i]), rel=3e-3)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_a_pure_voxel_gives_its_tissue_back(model):
    tau = protocol_of(model)
    kappa, fraction = mixtures(model, 30, 1)
    kappa[:, 1] = kappa[:, 0]
    _, found = reference(kappa, fraction, tau, model)
    np.testing.assert_allclose(found, kappa[:, 0], rtol=1e-4)
    # also from an A and a T that are wrong, within the bracket
    T = kappa[:, 0, -1]
    start = kappa[:, 0].copy()
    start[:, 0] *= 0.7
    start[:, -1] *= 1.4
    signal = model.signed(kappa[:, 0], tau.astype(np.float32), np)
    found = nearest_single_compartment(signal, start, (0.5 * T, 2 * T), tau, model, steps=8)
    np.testing.assert_allclose(found, kappa[:, 0], rtol=1e-3)


def test_relaxation_time_lies_between_the_tissues():
    kappa, fraction = mixtures(T2_DECAY, 200, 2, 3)
    _, found = reference(kappa, fraction, read_protocol("fse6", "tes").tau, T2_DECAY)
    assert (found[:, -1] >= kappa[..., -1].min(1) * (1 - 1e-5)).all()
    assert (found[:, -1] <= kappa[..., -1].max(1) * (1 + 1e-5)).all()


@pytest.mark.parametrize("tau", [[500.0], [500.0, 500.0, 500.0]])
def test_times_that_cannot_tell_keep_the_mean_relaxation_time(tau):
    tau = np.array(tau)
    kappa, fraction = mixtures(INVERSION_RECOVERY, 20, 3)
    signal, found = reference(kappa, fraction, tau, INVERSION_RECOVERY)
    weight = fraction * kappa[..., 0]
    mean = np.exp((weight * np.log(kappa[..., 2])).sum(1) / weight.sum(1))
    np.testing.assert_allclose(found[:, 2], mean, rtol=1e-4)
    assert (np.abs(found[:, 1] - kappa[:, 0, 1]) < 0.3).all()
    assert cost(found, signal, tau, INVERSION_RECOVERY).max() < 0.1


def test_b_is_that_of_the_place():
    """Fluid and white matter at TIs that end early: a free B would run away from 1.9."""
    kappa = np.float32([[[1.0, 1.9, 3500.0], [0.65, 1.9, 780.0]]])
    _, found = reference(kappa, np.float32([[0.5, 0.5]]), CINE31, INVERSION_RECOVERY)
    np.testing.assert_allclose(found[0, 1], 1.9, rtol=1e-6)
    assert 780.0 < found[0, 2] < 3500.0


def test_several_columns_and_known_maps_without_a_separable_form():
    """A fit with the known map of the voxel gives the same."""
    model, num = import_toy("spoiled_echo"), 40
    rng = np.random.default_rng(7)
    kappa = np.empty((num, 2, 2), np.float32)
    kappa[..., 0] = rng.uniform(0.3, 1.2, (num, 2))
    kappa[..., 1] = np.exp(rng.uniform(*np.log((300, 3000)), (num, 2)))
    fraction = rng.dirichlet(np.ones(2), num).astype(np.float32)
    known = rng.uniform(0.7, 1.3, (num, 1)).astype(np.float32)
    flat, first = kappa.reshape(-1, 2), np.arange(0, 2 * num, 2)
    pairs = model.signed(flat, TABLE.astype(np.float32), np, np.repeat(known, 2, axis=0))
    signal = (fraction[..., None] * pairs.reshape(num, 2, -1)).sum(1)
    found = reference_kappa(signal, flat, fraction.reshape(-1), first, TABLE, model, None, known)
    for k, s, b1 in zip(found, signal, known, strict=True):

        def residual(u, k=k, s=s, b1=b1):
            return model.signed((u * k)[None], TABLE, np, b1[None])[0] - s

        fit = least_squares(residual, np.ones(2), xtol=1e-14, ftol=1e-14, gtol=1e-14)
        np.testing.assert_allclose(fit.x, 1.0, rtol=2e-3)
    other = reference_kappa(signal, flat, fraction.reshape(-1), first, TABLE, model)
    assert np.abs(other[:, 0] / found[:, 0] - 1).max() > 0.1
