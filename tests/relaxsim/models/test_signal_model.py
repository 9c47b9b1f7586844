import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY
from relaxsim.models.registry import MODELS, model_of, signal_model
from relaxsim.models.t2_decay import MODEL as T2_DECAY

TAU = np.array([10.0, 80.0, 300.0, 900.0, 2500.0])
MODEL_LIST = list(MODELS.values())


def kappas(model):
    """Physical kappa of a model, one voxel."""
    ranges = {"A": (0.1, 5.0), "B": (0.8, 2.0), "T1": (50.0, 5000.0), "T2": (5.0, 3000.0)}
    return st.tuples(*(st.floats(*ranges[p]) for p in model.parameters)).map(np.array)


@pytest.mark.parametrize("model", MODEL_LIST, ids=lambda m: m.name)
def test_record_is_consistent(model):
    assert len(model.units) == len(model.start) == len(model.bounds) == model.num_parameters
    assert model.parameters[0] == "A"
    assert model.units[-1] == "ms"
    assert all(low < high for low, high in model.bounds)


@pytest.mark.parametrize(
    ("model", "kappa", "tau", "expected"),
    [
        (INVERSION_RECOVERY, (2.0, 2.0, 800.0), 0.0, 2.0),  # |A (1 - B)|
        (INVERSION_RECOVERY, (2.0, 1.5, 800.0), 0.0, 1.0),
        (INVERSION_RECOVERY, (2.0, 2.0, 800.0), 1e6, 2.0),  # A
        (INVERSION_RECOVERY, (2.0, 2.0, 800.0), 800 * np.log(2), 0.0),  # the null
        (T2_DECAY, (2.0, 90.0), 0.0, 2.0),
        (T2_DECAY, (2.0, 90.0), 90.0, 2.0 / np.e),
        (T2_DECAY, (2.0, 90.0), 1e6, 0.0),
    ],
)
def test_limits(model, kappa, tau, expected):
    S = model.forward(np.array(kappa), np.array([tau]))
    assert S[0] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("model", MODEL_LIST, ids=lambda m: m.name)
def test_signal_scales_with_a(model):
    @given(kappas(model), st.floats(1e-3, 1e3))
    def check(kappa, factor):
        scaled = kappa * np.where(np.arange(model.num_parameters) == 0, factor, 1.0)
        np.testing.assert_allclose(
            model.forward(scaled, TAU), factor * model.forward(kappa, TAU), rtol=1e-12, atol=1e-15
        )

    check()


@pytest.mark.parametrize("model", MODEL_LIST, ids=lambda m: m.name)
def test_jacobian_is_the_derivative(model):
    @given(kappas(model))
    def check(kappa):
        J = model.signed_jacobian(kappa, TAU, np)
        for q in range(model.num_parameters):
            step = 1e-6 * kappa[q] * (np.arange(model.num_parameters) == q)
            slope = model.signed(kappa + step, TAU, np) - model.signed(kappa - step, TAU, np)
            slope /= 2 * step[q]
            np.testing.assert_allclose(J[:, q], slope, rtol=1e-5, atol=1e-8 * kappa[0])

    check()


def test_jacobian_of_the_modulus_has_its_sign():
    kappa = np.array([1.0, 2.0, 1000.0])
    signed = INVERSION_RECOVERY.signed(kappa, TAU, np)
    expected = INVERSION_RECOVERY.signed_jacobian(kappa, TAU, np) * np.sign(signed)[:, None]
    np.testing.assert_array_equal(INVERSION_RECOVERY.jacobian(kappa, TAU), expected)
    assert (signed < 0).any()


@pytest.mark.parametrize("model", MODEL_LIST, ids=lambda m: m.name)
def test_separable_form_gives_the_signal_back(model):
    rng = np.random.default_rng(0)
    kappa = np.stack([rng.uniform(0.5, 1.9, 20) for _ in model.parameters], -1)
    kappa[:, -1] *= 500
    signed, T = model.signed(kappa, TAU, np), kappa[:, -1]
    basis = model.separable.basis(T, TAU[:, None], None, np)
    c = np.stack([np.linalg.lstsq(b, s, rcond=None)[0] for b, s in zip(basis, signed, strict=True)])
    np.testing.assert_allclose(model.separable.from_linear(c, T, np), kappa, rtol=1e-9)


def test_shapes_and_dtype():
    kappa = np.ones((3, 4, 3), np.float32)
    S = INVERSION_RECOVERY.forward(kappa, TAU.astype(np.float32))
    assert S.shape == (3, 4, 5)
    assert S.dtype == np.float32
    assert INVERSION_RECOVERY.jacobian(kappa, TAU).shape == (3, 4, 5, 3)


def test_start_values_are_the_papers():
    mip = np.array([3.0, 5.0])
    np.testing.assert_array_equal(
        INVERSION_RECOVERY.start_from(mip), [[3.0, 2.0, 1000.0], [5.0, 2.0, 1000.0]]
    )
    np.testing.assert_array_equal(T2_DECAY.start_from(mip), [[3.0, 100.0], [5.0, 100.0]])


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"3 parameters .* shape \(5, 2\)"):
        INVERSION_RECOVERY.forward(np.ones((5, 2)), TAU)
    with pytest.raises(ValueError, match=r"protocol of 1 columns"):
        T2_DECAY.forward(np.ones((5, 2)), TAU[None])
    with pytest.raises(ValueError, match="inversion_recovery, t2_decay"):
        signal_model("t3")


def test_models_by_name_and_by_option():
    assert signal_model("t2_decay") is T2_DECAY
    assert model_of("tis") is INVERSION_RECOVERY
    assert model_of("tes") is T2_DECAY
