import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY
from relaxsim.models.look_locker import MODEL as LOOK_LOCKER
from relaxsim.models.protocols import random_protocol
from relaxsim.models.registry import MODELS, model_of, signal_model
from relaxsim.models.spoiled_gradient_echo import MODEL as VFA
from relaxsim.models.t2_decay import MODEL as T2_DECAY
from relaxsim.models.t2star_decay import MODEL as T2STAR_DECAY

TAU = np.array([10.0, 80.0, 300.0, 900.0, 2500.0])
MODEL_LIST = list(MODELS.values())
#: Values of parameters that the tests of all models draw from, where the models' bounds are wider.
RANGES = {
    "A": (0.1, 5.0),
    "B": (0.8, 2.0),
    "T1": (50.0, 5000.0),
    "T2": (5.0, 3000.0),
    "B1": (0.4, 1.4),
}


def range_of(parameter):
    """Where a physical value of a parameter lies."""
    return parameter.drawn or RANGES.get(parameter.name, parameter.bounds)


def kappas(model):
    """Physical kappa of a model, one voxel."""
    ranges = [range_of(p) for p in model.parameter_table]
    return st.tuples(*(st.floats(*ends) for ends in ranges)).map(np.array)


def protocols(model):
    """Protocols of a model: random ones, and of a model of times a list over all of them."""
    tables = [random_protocol(np.random.default_rng(n), model).table for n in range(4)]
    return st.sampled_from([TAU[:, None], *tables] if len(model.columns) == 1 else tables)


def known_values(model):
    """Known maps of one voxel, or None."""
    if not model.known_maps:
        return st.none()
    return st.tuples(*(st.floats(*m.plausible) for m in model.known_maps)).map(np.array)


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
        (T2STAR_DECAY, (2.0, 30.0), 0.0, 2.0),
        (T2STAR_DECAY, (2.0, 30.0), 30.0, 2.0 / np.e),
        # The null of a readout lies at T1* log(B), T1* = T1 / (B - 1); then comes A.
        (LOOK_LOCKER, (2.0, 2.5, 1200.0), 800 * np.log(2.5), 0.0),
        (LOOK_LOCKER, (2.0, 2.5, 1200.0), 0.0, 3.0),
        (LOOK_LOCKER, (2.0, 2.5, 1200.0), 1e6, 2.0),
        (VFA, (2.0, 1000.0), (90.0, 1000.0), 2.0 * (1.0 - 1.0 / np.e)),  # saturation recovery
        (VFA, (2.0, 1000.0), (30.0, 1e7), 1.0),  # full recovery: A sin(a)
        (VFA, (2.0, 1000.0), (0.0, 20.0), 0.0),
        (VFA, (2.0, 1000.0), (180.0, 20.0), 0.0),
    ],
)
def test_limits(model, kappa, tau, expected):
    S = model.forward(np.array(kappa), np.array([tau]))
    assert S[0] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("model", MODEL_LIST, ids=lambda m: m.name)
def test_signal_scales_with_a(model):
    @given(kappas(model), protocols(model), known_values(model), st.floats(1e-3, 1e3))
    def check(kappa, protocol, known, factor):
        scaled = kappa * np.where(np.arange(model.num_parameters) == 0, factor, 1.0)
        one, other = (model.forward(k, protocol, np, known) for k in (kappa, scaled))
        np.testing.assert_allclose(other, factor * one, rtol=1e-12, atol=1e-15)

    check()


@pytest.mark.parametrize("model", MODEL_LIST, ids=lambda m: m.name)
def test_jacobian_is_the_derivative(model):
    @given(kappas(model), protocols(model), known_values(model))
    def check(kappa, protocol, known):
        J = model.signed_jacobian(kappa, protocol, np, known)
        for q in range(model.num_parameters):
            step = 1e-6 * kappa[q] * (np.arange(model.num_parameters) == q)
            above, below = (
                model.signed(k, protocol, np, known) for k in (kappa + step, kappa - step)
            )
            slope = (above - below) / (2 * step[q])
            np.testing.assert_allclose(J[:, q], slope, rtol=1e-5, atol=1e-8 * kappa[0])

    check()


def test_jacobian_of_the_modulus_has_its_sign():
    kappa = np.array([1.0, 2.0, 1000.0])
    signed = INVERSION_RECOVERY.signed(kappa, TAU, np)
    expected = INVERSION_RECOVERY.signed_jacobian(kappa, TAU, np) * np.sign(signed)[:, None]
    np.testing.assert_array_equal(INVERSION_RECOVERY.jacobian(kappa, TAU), expected)
    assert (signed < 0).any()


@pytest.mark.parametrize(
    "model", [m for m in MODEL_LIST if m.separable is not None], ids=lambda m: m.name
)
def test_separable_form_gives_the_signal_back(model):
    rng = np.random.default_rng(0)
    kappa = np.stack([rng.uniform(0.5, 1.9, 20) for _ in model.parameters], -1)
    kappa[:, -1] *= 500
    known = np.stack([rng.uniform(*m.plausible, 20) for m in model.known_maps] or [[0.0] * 20], -1)
    columns = [TAU, *(np.linspace(10.0, 20.0, 5) for _ in model.columns[1:])]
    protocol = np.stack(columns, axis=-1)
    signed, T = model.signed(kappa, protocol, np, known), kappa[:, -1]
    basis = model.separable.basis(T, protocol, known, np)
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
    with pytest.raises(ValueError, match=f"there are: {', '.join(MODELS)}$"):
        signal_model("t3")


def test_models_by_name_and_by_option():
    assert signal_model("t2_decay") is T2_DECAY
    assert model_of("tis") is INVERSION_RECOVERY
    assert model_of("tes") is T2_DECAY


@pytest.mark.parametrize("TR", [2.0, 15.0, 60.0])
@pytest.mark.parametrize("T1", [100.0, 1000.0, 5000.0])
def test_the_spoiled_echo_is_largest_at_the_ernst_angle(TR, T1):
    """At cos(a) = exp(-TR / T1), whatever B1 the nominal angle is played out with."""
    angles = np.linspace(0.01, 90.0, 9000)
    protocol = np.stack([angles, np.full_like(angles, TR)], axis=-1)
    ernst = np.degrees(np.arccos(np.exp(-TR / T1)))
    for B1 in (0.7, 1.0, 1.2):
        S = VFA.forward(np.array([1.0, T1]), protocol, np, np.array([B1]))
        assert B1 * angles[S.argmax()] == pytest.approx(ernst, abs=0.02)


def test_the_linear_form_of_spoiled_echoes():
    """S / sin(a) against S / tan(a) is a line of slope E1 (Deoni et al. 2003)."""
    protocol = np.array([[3.0, 12.0], [6.0, 12.0], [10.0, 12.0], [15.0, 12.0]])
    S = VFA.forward(np.array([100.0, 850.0]), protocol)
    a = np.radians(protocol[:, 0])
    slope, intercept = np.polyfit(S / np.tan(a), S / np.sin(a), 1)
    assert -12.0 / np.log(slope) == pytest.approx(850.0, rel=1e-9)
    assert intercept / (1 - slope) == pytest.approx(100.0, rel=1e-9)


@pytest.mark.parametrize("sequence", ["t2star", "vfa"])
def test_random_protocols_cover_what_is_promised(sequence):
    """3 to 40 echoes of 0.8 to 80 ms; 2 to 20 angles of 1 to 60 degrees, TR of 2 to 60 ms."""
    model, rng = model_of(sequence), np.random.default_rng(0)
    tables = [random_protocol(rng, model).table for _ in range(2000)]
    counts = [len(table) for table in tables]
    values = np.concatenate(tables)
    fewest, most, ranges = {
        "t2star": (3, 40, [(0.8, 80.0)]),
        "vfa": (2, 20, [(1.0, 60.0), (2.0, 60.0)]),
    }[sequence]
    assert (min(counts), max(counts)) == (fewest, most)
    for column, (low, high) in zip(values.T, ranges, strict=True):
        assert low <= column.min() < 1.2 * low
        assert 0.9 * high < column.max() <= high
    for table in tables:
        assert len(np.unique(table, axis=0)) >= model.num_parameters
