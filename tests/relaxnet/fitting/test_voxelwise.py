import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares
from short_fits import voxelwise
from toy_models import import_toy

from relaxnet.fitting.crlb import crlb
from relaxnet.fitting.inputs import check_series, fit_bounds
from relaxnet.fitting.result import (
    AT_BOUND,
    CONVERGED,
    INVALID,
    NO_SIGNAL,
    NOT_IDENTIFIABLE,
    estimate_sigma,
)
from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY
from relaxsim.models.protocols import random_protocol, read_protocol
from relaxsim.models.registry import MODELS
from relaxsim.models.signal_model import Parameter, Separable
from relaxsim.models.t2_decay import MODEL as T2_DECAY

CINE31 = read_protocol("cine31", "tis").tau
FSE6 = read_protocol("fse6", "tes").tau
#: Protocols by the option of their first column, and a MOLLI list.
TAU = {
    "tis": CINE31,
    "tes": FSE6,
    "fas": np.stack([np.array([2.0, 4.0, 8.0, 14.0, 22.0]), np.full(5, 12.0)], axis=-1),
}
MOLLI = np.array([100.0, 1000.0, 1900.0, 2800.0, 3700.0, 180.0, 1080.0, 1980.0])
#: 24 echoes 10 ms apart: refocusing and excitation angle, T1, slice profile.
TRAIN = np.column_stack([10.0 * np.arange(1, 25), np.tile([160.0, 90.0, 1000.0, 0.0], (24, 1))])
#: Parameters between A and the relaxation time.
INNER = {"B": (1.0, 2.05), "B1": (0.6, 1.0)}
#: Relaxation times of tissues, ms.
TIMES = {"T1": (200, 4000), "T2": (15, 1500), "T2star": (15, 300)}


def protocol_of(model):
    """Protocol of a model that determines its parameters."""
    own = {"look_locker": MOLLI, "spin_echo_train": TRAIN, "spin_echo_train_known_b1": TRAIN}
    return own.get(model.name, TAU[model.border.columns[0].option])


def draw_kappa(rng, model, n):
    A = rng.uniform(0.4, 1.1, n)
    T = np.exp(rng.uniform(*np.log(TIMES[model.main]), n))
    inner = [rng.uniform(*(p.drawn or INNER[p.name]), n) for p in model.parameter_table[1:-1]]
    return np.stack([A, *inner, T], axis=-1)


def within_bounds_of_fit(kappa, model):
    """Whether the parameters in which a model is fitted are within their bounds."""
    form = model.fit_form
    inner = kappa if form is None else form.from_kappa(kappa)
    low, high = np.array(model.fitted.bounds).T
    return ((inner > low) & (inner < high))[:, 1:].all(axis=1)


def draw_known(rng, model, n):
    """Known maps of voxels; None of a model without any."""
    ends = [m.plausible for m in model.known_maps]
    return np.stack([rng.uniform(*e, n) for e in ends], axis=-1) if ends else None


def saturation_recovery():
    """A model that the package does not know: A (1 - exp(-tau / T1))."""
    return import_toy("saturation_recovery")


def decay_with_offset():
    """Two amplitudes: A exp(-tau / T2) + C."""

    def signal(kappa, protocol, known, xp):
        return kappa[..., 0:1] * xp.exp(-protocol[..., 0] / kappa[..., 2:3]) + kappa[..., 1:2]

    def jacobian(kappa, protocol, known, xp):
        T, tau = kappa[..., 2:3], protocol[..., 0]
        E = xp.exp(-tau / T)
        return xp.stack([E, xp.ones_like(E), kappa[..., 0:1] * E * tau / T**2], axis=-1)

    def basis(T, protocol, known, xp):
        E = xp.exp(-protocol[..., 0] / T[..., None])
        return xp.stack([E, xp.ones_like(E)], axis=-1)

    A, T2 = T2_DECAY.parameter_table
    return dataclasses.replace(
        T2_DECAY,
        name="decay_with_offset",
        parameter_table=(A, Parameter("C", "a.u.", 0.0, (-10.0, 10.0)), T2),
        physics=signal,
        physics_jacobian=jacobian,
        separable=Separable(basis, lambda c, T, xp: xp.stack([c[..., 0], c[..., 1], T], axis=-1)),
    )


def cost(kappa, S, tau, model):
    return ((S - model.forward(np.asarray(kappa, dtype=float), tau)) ** 2).sum(axis=-1)


def reference_cost(S, tau, model, bounds):
    """Dense grid, then bounded least squares from its best points and from spread ones."""
    mip = np.abs(S).max()
    axes = [np.linspace(*b, 121) for b in bounds[1:-1]] + [np.geomspace(*bounds[-1], 180)]
    shape = np.stack([v.ravel() for v in np.meshgrid(*axes, indexing="ij")], axis=-1)
    kappa = np.concatenate([np.ones((len(shape), 1)), shape], axis=-1)
    g = model.forward(kappa, tau)
    kappa[:, 0] = np.clip(g @ S / (g * g).sum(axis=-1), bounds[0][0] * mip, bounds[0][1] * mip)
    costs = cost(kappa, S, tau, model)
    low, high = np.array(bounds, dtype=float).T
    low[0], high[0] = low[0] * mip, high[0] * mip
    best = costs.min()
    bands = np.array_split(np.argsort(kappa[:, -1], kind="stable"), 6)
    starts = [*np.argsort(costs)[:4], *(band[np.argmin(costs[band])] for band in bands)]
    for start in starts:
        edge = 1e-9 * (high - low)
        fit = least_squares(
            lambda q: model.forward(q, tau) - S,
            np.clip(kappa[start], low + edge, high - edge),
            bounds=(low, high),
            x_scale=high,
            xtol=1e-12,
            ftol=1e-12,
            gtol=1e-12,
            max_nfev=50,
        )
        best = min(best, 2.0 * fit.cost)
    return best


def assert_global(rng, count):
    for _ in range(count):
        model = INVERSION_RECOVERY if rng.random() < 0.7 else T2_DECAY
        tau = random_protocol(rng, model).tau
        bounds = list(model.bounds)
        if rng.random() < 0.3:
            bounds[0] = (0.0, rng.uniform(0.8, 3.0))
        if model.magnitude and rng.random() < 0.3:
            bounds[1] = (rng.uniform(0.5, 1.7), rng.uniform(1.8, 2.5))
        sigma = np.exp(rng.uniform(np.log(1e-4), np.log(0.4)))
        kappa = draw_kappa(rng, model, 1)[0]
        S = model.forward(kappa, tau) + sigma * rng.normal(size=len(tau))
        if rng.random() < 0.3:
            S = np.abs(S)
        found = cost(voxelwise(S, tau, model, bounds=bounds).kappa, S, tau, model)
        reference = reference_cost(S, tau, model, bounds)
        # kappa is rounded to float32; on a bound the cost is of first order in it
        assert found <= reference * (1 + 2e-5) + 1e-11 * (S * S).sum(), (kappa, tau, sigma, bounds)


def test_cost_is_never_above_dense_search_with_local_refinement():
    assert_global(np.random.default_rng(1), 150)


@pytest.mark.slow
def test_cost_is_never_above_dense_search_many():
    assert_global(np.random.default_rng(2), 4000)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_recovers_noise_free_kappa(model):
    tau, rng = protocol_of(model), np.random.default_rng(0)
    kappa = draw_kappa(rng, model, 500)
    kappa = kappa[within_bounds_of_fit(kappa, model)]
    assert len(kappa) >= 400
    known = draw_known(rng, model, len(kappa))
    fit = voxelwise(model.forward(kappa, tau, np, known), tau, model, known=known)
    np.testing.assert_allclose(fit.kappa, kappa, rtol=1e-4)
    assert (fit.status == CONVERGED).all()
    assert (fit.residual < 1e-6).all()


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(1e-12, 1e12), seed=st.integers(0, 99))
def test_scale_and_order_of_images_do_not_matter(scale, seed):
    rng, model = np.random.default_rng(seed), INVERSION_RECOVERY
    S = model.forward(draw_kappa(rng, model, 20), CINE31) + 0.05 * rng.normal(size=(20, 31))
    shuffled = rng.permutation(31)
    one = voxelwise(S, CINE31, model)
    two = voxelwise(scale * S[:, shuffled], CINE31[shuffled], model)
    np.testing.assert_allclose(two.kappa[:, 1:], one.kappa[:, 1:], rtol=1e-4)
    np.testing.assert_allclose(two.kappa[:, 0], scale * one.kappa[:, 0], rtol=1e-4)
    np.testing.assert_allclose(two.residual, scale * one.residual, rtol=1e-4)
    np.testing.assert_array_equal(two.status, one.status)


@pytest.mark.parametrize("make", [saturation_recovery, decay_with_offset])
def test_a_model_it_does_not_know(make):
    model, tau = make(), np.array([10.0, 30.0, 60.0, 100.0, 200.0, 400.0, 900.0])
    rng = np.random.default_rng(3)
    kappa = np.stack([np.linspace(0.5, 1.0, 50)] * model.num_parameters, axis=-1)
    kappa[:, -1] = np.geomspace(60, 400, 50)
    if model.num_parameters == 3:
        kappa[:, 1] = np.linspace(-0.2, 0.3, 50)
    fit = voxelwise(model.forward(kappa, tau), tau, model)
    np.testing.assert_allclose(fit.kappa, kappa, rtol=1e-4, atol=1e-5)
    S = model.forward(kappa, tau) + 0.02 * rng.normal(size=(50, 7))
    fit = voxelwise(S, tau, model)
    assert (cost(fit.kappa, S, tau, model) <= cost(kappa, S, tau, model)).all()


def test_signed_data_keep_their_sign():
    model, rng = INVERSION_RECOVERY, np.random.default_rng(4)
    kappa = draw_kappa(rng, model, 300)
    S = model.signed(kappa, CINE31, np) + 0.01 * rng.normal(size=(300, 31))
    fit = voxelwise(S, CINE31, model, signed=True)
    least = ((S - model.signed(fit.kappa.astype(float), CINE31, np)) ** 2).sum(axis=-1)
    assert (least <= ((S - model.signed(kappa, CINE31, np)) ** 2).sum(axis=-1)).all()
    good = crlb(kappa, CINE31, 0.01, model)[:, 2] < 0.1 * kappa[:, 2]
    assert good.sum() > 50
    assert np.median(np.abs(fit.kappa[good, 2] / kappa[good, 2] - 1)) < 0.05
    magnitude = voxelwise(S, CINE31, model)
    assert magnitude.residual.mean() > 5 * fit.residual.mean()


def test_bounds_hold_and_are_reported():
    model, rng = INVERSION_RECOVERY, np.random.default_rng(5)
    kappa = np.tile([1.0, 1.9, 3000.0], (200, 1))
    S = model.forward(kappa, CINE31) + 0.002 * rng.normal(size=(200, 31))
    bounds = {"T1": (100.0, 2000.0), "B": (1.7, 2.0)}
    fit = voxelwise(S, CINE31, model, sigma=0.002, bounds=bounds)
    assert fit.kappa[:, 2].max() <= 2000.0
    assert fit.kappa[:, 1].min() >= 1.7
    assert fit.kappa[:, 1].max() <= 2.0
    assert (fit.status == AT_BOUND).mean() > 0.9


@pytest.mark.parametrize("signed", [True, False])
def test_voxels_of_noise_with_a_least_amplitude(signed):
    """No signal within the bounds explains them; the least costly one is found all the same."""
    model, rng = INVERSION_RECOVERY, np.random.default_rng(8)
    tau = np.array([50.0, 400.0, 1100.0, 2500.0, 4000.0])
    S = rng.normal(size=(60, 5))
    bounds = {"A": (0.3, 5.0), "B": (0.5, 2.5), "T1": (10.0, 6000.0)}
    fit = voxelwise(S, tau, model, 1.0, signed=signed, bounds=bounds)
    grid = np.meshgrid(np.linspace(0.5, 2.5, 81), np.geomspace(10.0, 6000.0, 300), indexing="ij")
    g = model.signed(np.stack([np.ones_like(grid[0]), *grid], axis=-1), tau, np).reshape(-1, 5)
    g = g if signed else np.abs(g)
    scale = np.abs(S).max(axis=1, keepdims=True)
    A = np.clip(S @ g.T / (g**2).sum(axis=1), 0.3 * scale, 5.0 * scale)
    cost = (S**2).sum(axis=1)[:, None] - 2 * A * (S @ g.T) + A**2 * (g**2).sum(axis=1)
    found = model.signed(fit.kappa.astype(float), tau, np)
    found = ((S - (found if signed else np.abs(found))) ** 2).sum(axis=1)
    assert (found < cost.min(axis=1) + 1e-3).all()


def test_equal_bounds_fix_a_parameter():
    model, rng = INVERSION_RECOVERY, np.random.default_rng(6)
    kappa = np.stack([np.ones(300), np.full(300, 1.8), rng.uniform(300, 2500, 300)], axis=-1)
    S = model.forward(kappa, CINE31)
    fit = voxelwise(S, CINE31, model, bounds={"B": (1.8, 1.8)})
    np.testing.assert_allclose(fit.kappa, kappa, rtol=1e-4)
    assert (fit.status == CONVERGED).all()


def test_bad_voxels_leave_their_neighbours_alone():
    model, rng = INVERSION_RECOVERY, np.random.default_rng(7)
    S = model.forward(draw_kappa(rng, model, 60), CINE31).reshape(6, 10, 31)
    S += 0.01 * rng.normal(size=S.shape)
    whole = voxelwise(S, CINE31, model, sigma=0.01)
    S[1, 2, 3], S[2, 2, 0], S[3, 3] = np.nan, np.inf, 0.0
    fit = voxelwise(S, CINE31, model, sigma=0.01)
    assert fit.status[1, 2] == fit.status[2, 2] == INVALID
    assert fit.status[3, 3] == NO_SIGNAL
    bad = (fit.status == INVALID) | (fit.status == NO_SIGNAL)
    assert bad.sum() == 3
    for name in ("kappa", "std", "residual"):
        values = getattr(fit, name)
        assert (values[bad] == 0).all()
        np.testing.assert_allclose(values[~bad], getattr(whole, name)[~bad], rtol=1e-5)


def test_mask_and_integers():
    model = T2_DECAY
    S = np.round(1000 * model.forward(np.full((4, 5, 2), [1.0, 80.0]), FSE6)).astype(np.int16)
    mask = np.zeros((4, 5), dtype=bool)
    mask[1, 2] = True
    counted = []
    fit = voxelwise(S, FSE6, model, mask=mask, progress=counted.append)
    np.testing.assert_allclose(fit.kappa[1, 2], [1000.0, 80.0], rtol=1e-2)
    assert (fit.kappa[~mask] == 0).all()
    assert (fit.status[~mask] == NO_SIGNAL).all()
    assert sum(counted) == 1


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_constant_and_negative_voxels_do_not_count_as_converged(model):
    tau = protocol_of(model)
    S = np.stack([np.full(len(tau), 4095.0), np.full(len(tau), -1.0)])
    if len(model.columns) > 1:  # over angles a constant is a poor fit, but determines T1
        S = S[1:]
    fit = voxelwise(S, tau, model)
    assert np.isin(fit.status, (AT_BOUND, NOT_IDENTIFIABLE)).all()
    assert np.isfinite(fit.kappa).all()
    assert (np.isinf(fit.std).all(axis=-1) == (fit.status == NOT_IDENTIFIABLE)).all()


def test_standard_deviations_match_monte_carlo():
    model, rng, sigma = INVERSION_RECOVERY, np.random.default_rng(8), 0.004
    kappa = np.array([1.0, 1.9, 700.0])
    S = model.forward(kappa, CINE31) + sigma * rng.normal(size=(4000, 31))
    fit = voxelwise(S, CINE31, model)
    bound = crlb(kappa, CINE31, sigma, model)
    assert bound[2] < 0.1 * kappa[2]
    np.testing.assert_allclose(fit.kappa.std(axis=0, ddof=1), bound, rtol=0.1)
    np.testing.assert_allclose(np.median(fit.std, axis=0), bound, rtol=0.05)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_sigma_is_estimated_despite_outlying_voxels(model):
    tau, rng = protocol_of(model), np.random.default_rng(9)
    S = model.forward(draw_kappa(rng, model, 4000), tau)
    S += 0.02 * rng.normal(size=S.shape)
    S[:200] += rng.uniform(0, 1, size=(200, len(tau)))
    mask = np.ones(len(S), dtype=bool)
    fit = voxelwise(S, tau, model)
    assert estimate_sigma(S, fit, mask, model.num_parameters) == pytest.approx(0.02, rel=0.06)


@pytest.mark.parametrize(
    ("S", "tau", "message"),
    [
        (np.ones((5, 2)), [100.0, 200.0], "cannot determine the 3 parameters"),
        (np.ones((5, 4)), [100.0] * 4, "must differ"),
        (np.ones((5, 4)), [100.0, 100.0, 200.0, 200.0], "only 2 of the 4"),
        (np.ones((5, 4)), [100.0, np.nan, 200.0, 300.0], "finite"),
        (np.ones((5, 4)), [100.0, -1.0, 200.0, 300.0], "not negative"),
        (np.ones((5, 4)), [100.0, 200.0, 300.0], "holds 4 images"),
        (np.ones((5, 4), dtype=complex), [1.0, 2.0, 3.0, 4.0], "real"),
    ],
)
def test_series_that_no_fit_can_use(S, tau, message):
    with pytest.raises(ValueError, match=message) as caught:
        check_series(S, np.array(tau), INVERSION_RECOVERY)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "bounds",
    [
        {"T2": (1.0, 2.0)},
        {"B": (2.0, 1.0)},
        {"T1": (0.0, 100.0)},
        {"A": (-1.0, 1.0)},
        [(0, 1)],
        {"B": (1.0, np.nan)},
        {"B": 3.0},
        {"T1": (1e-300, 100.0)},
        {"T1": (1.0, 1e300)},
        {"B": (-1e300, 2.0)},
    ],
)
def test_bounds_that_are_none(bounds):
    with pytest.raises(ValueError, match="bounds"):
        fit_bounds(INVERSION_RECOVERY, bounds)


def test_other_arguments_are_checked():
    S = np.ones((5, 31))
    for wrong, message in (
        ({"mask": np.ones(4, dtype=bool)}, "mask has shape"),
        ({"sigma": np.ones(3)}, "sigma has shape"),
        ({"sigma": 0.0}, "sigma must be positive"),
        ({"likelihood": "poisson"}, "likelihood"),
    ):
        with pytest.raises(ValueError, match=message):
            voxelwise(S, CINE31, INVERSION_RECOVERY, **wrong)
