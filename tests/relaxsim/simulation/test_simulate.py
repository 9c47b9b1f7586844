import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relaxsim.models.finite_tr import apparent as apparent_at_tr
from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY
from relaxsim.models.t2_decay import MODEL as T2_DECAY
from relaxsim.simulation.fields import polynomial_field
from relaxsim.simulation.simulate import (
    mixture_of_fractions,
    mixture_of_labels,
    noise_free,
    simulate,
)
from relaxsim.simulation.tissue_maps import (
    TissueValues,
    draw_shared,
    draw_tissue_values,
    draw_variation,
)
from relaxsim.simulation.tissues import read_tissues

TAU = np.array([139.0, 400.0, 900.0, 2500.0])
B = INVERSION_RECOVERY.shared


def finite_tr(M0, e, T1, tr):
    """A and B of an inversion recovery with a 90-degree readout every TR."""
    kappa = np.stack(np.broadcast_arrays(M0, e, T1), axis=-1)
    A, B, _ = np.moveaxis(apparent_at_tr(kappa, tr), -1, 0)
    return A, B


def values_of(model, num=2, size=8, **options):
    rng = np.random.default_rng(0)
    return draw_tissue_values(model, read_tissues("paper"), num, size, rng, **options)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6))
def test_any_labels_give_finite_patches(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 12, (2, 8, 8)).astype(np.uint8)
    for model in (INVERSION_RECOVERY, T2_DECAY):
        out = simulate(
            mixture_of_labels(labels), TAU, model, values_of(model), np.array([0.01, 0.2]), rng
        )
        assert np.isfinite(out.S).all()
        assert np.isfinite(out.kappa).all()
        np.testing.assert_array_equal(out.labels, labels)
        assert (out.kappa[labels == 0] == 0).all()
        assert (out.kappa[labels > 0] > 0).all()


def test_signal_is_the_models_of_kappa():
    labels = np.random.default_rng(0).integers(0, 12, (2, 8, 8)).astype(np.uint8)
    clean = noise_free(
        mixture_of_labels(labels),
        TAU,
        INVERSION_RECOVERY,
        values_of(INVERSION_RECOVERY),
        np.random.default_rng(1),
    )
    inside = labels > 0
    expected = INVERSION_RECOVERY.signed(clean.kappa[inside], TAU, np)
    np.testing.assert_allclose(clean.signed[inside], expected, rtol=1e-4, atol=1e-5)
    assert (clean.signed[~inside] == 0).all()


def test_tissue_is_uniform_but_for_its_spread():
    labels = np.full((2, 60, 60), 2, np.uint8)
    clean = noise_free(
        mixture_of_labels(labels),
        TAU,
        INVERSION_RECOVERY,
        values_of(INVERSION_RECOVERY, size=60),
        np.random.default_rng(1),
        0.03,
    )
    for patch in clean.kappa:
        assert patch[..., 2].std() / patch[..., 2].mean() == pytest.approx(0.03, rel=0.05)
        assert patch[..., 0].std() / patch[..., 0].mean() == pytest.approx(0.03, rel=0.05)
        assert np.ptp(patch[..., 1]) == 0
    assert abs(clean.kappa[0, ..., 2].mean() - clean.kappa[1, ..., 2].mean()) > 1


def test_mixed_voxel_is_the_sum_of_signed_signals():
    """Half CSF, half white matter between their null points: the modulus of the sum."""
    fractions = np.zeros((1, 1, 1, 12), np.float32)
    fractions[..., 1] = fractions[..., 3] = 0.5
    by_label = np.ones((1, 12, 3), np.float32)
    by_label[0, 1], by_label[0, 3] = (1.0, 1, 3500.0), (0.7, 1, 800.0)
    values = TissueValues(by_label, np.full((1, 1, 1), 1.9, np.float32), None)
    rng = np.random.default_rng(0)
    clean = noise_free(mixture_of_fractions(fractions), TAU, INVERSION_RECOVERY, values, rng, 0.0)
    pure = [
        INVERSION_RECOVERY.signed(np.array([a, 1.9, t]), TAU, np)
        for a, t in ((1.0, 3500.0), (0.7, 800.0))
    ]
    assert pure[0][2] < 0 < pure[1][2]
    np.testing.assert_allclose(clean.signed[0, 0, 0], 0.5 * sum(pure), atol=1e-5)
    assert 800 < clean.kappa[0, 0, 0, 2] < 3500
    assert clean.purity[0, 0, 0] == pytest.approx(0.5)
    reference = (
        (INVERSION_RECOVERY.signed(clean.kappa[0, 0, 0], TAU, np) - clean.signed[0, 0, 0]) ** 2
    ).sum()
    for a, t in ((1.0, 3500.0), (0.7, 800.0)):
        other = INVERSION_RECOVERY.signed(np.array([a, 1.9, t]), TAU, np)
        assert reference < ((other - clean.signed[0, 0, 0]) ** 2).sum()


def test_pure_fractions_are_as_labels():
    labels = np.random.default_rng(0).integers(0, 12, (2, 8, 8)).astype(np.uint8)
    fractions = np.eye(12, dtype=np.float32)[labels]
    outs = [
        noise_free(m, TAU, T2_DECAY, values_of(T2_DECAY), np.random.default_rng(1))
        for m in (mixture_of_labels(labels), mixture_of_fractions(fractions))
    ]
    np.testing.assert_allclose(outs[0].signed, outs[1].signed, rtol=1e-5)
    np.testing.assert_array_equal(outs[0].kappa, outs[1].kappa)


def test_b_of_a_patch_is_half_normal_below_two():
    b = draw_shared(B, np.random.default_rng(0), 4000, 3, "patch")
    assert np.ptp(b, axis=(1, 2)).max() == 0
    assert b.max() <= 2
    assert (2 - b[:, 0, 0]).mean() == pytest.approx(0.2 * np.sqrt(2 / np.pi), rel=0.05)


def test_wide_and_smooth_b():
    rng = np.random.default_rng(0)
    wide = draw_shared(B, rng, 2000, 2, "wide")[:, 0, 0]
    assert wide.min() == pytest.approx(1.0, abs=0.01)
    assert wide.max() == pytest.approx(2.05, abs=0.01)
    smooth = B.of_field(polynomial_field(rng, 500, (40, 40)))
    assert 1 <= smooth.min()
    assert smooth.max() <= 2
    assert np.median(np.ptp(smooth, axis=(1, 2))) > 0.02
    assert np.abs(np.diff(smooth, axis=1)).max() < 0.08
    slow = draw_shared(B, rng, 500, 40, "slow")
    assert 0.003 < np.ptp(slow, axis=(1, 2)).mean() < np.ptp(smooth, axis=(1, 2)).mean() / 2
    # As wide a choice of values as over the whole field of view, and that itself where it is small.
    assert slow.mean() == pytest.approx(
        B.of_field(polynomial_field(rng, 500, (256, 256))).mean(), abs=0.02
    )
    assert draw_shared(B, rng, 2, 300, "slow").shape == (2, 300, 300)
    with pytest.raises(ValueError, match="expected one of patch, wide, smooth, slow"):
        draw_shared(B, rng, 1, 2, "rough")


def test_finite_repetition_time_is_a_steady_state():
    """Bloch: inversion, recovery for tau, a readout that leaves nothing, recovery for TR - tau."""
    M0, e, T1, TR = 1.3, 0.9, 1100.0, 2500.0
    A, B = finite_tr(M0, e, T1, TR)
    for tau in (100.0, 700.0, 2000.0):
        at_inversion = M0 * (1 - np.exp(-(TR - tau) / T1))  # the readout left nothing
        at_readout = M0 + (-e * at_inversion - M0) * np.exp(-tau / T1)
        signal = INVERSION_RECOVERY.signed(np.array([A, B, T1]), np.array([tau]), np)[0]
        assert signal == pytest.approx(at_readout, rel=1e-12)
    assert finite_tr(1.0, 1.0, 300.0, 1000.0)[1] == pytest.approx(1.93, abs=0.005)
    assert finite_tr(1.0, 1.0, 2000.0, 1000.0)[1] == pytest.approx(1.24, abs=0.005)
    assert finite_tr(1.0, 0.9, 1000.0, 1e9) == (pytest.approx(1.0), pytest.approx(1.9))


@pytest.mark.parametrize("b_field", ["patch", "wide", "smooth"])
def test_finite_tr_ties_a_and_b_to_t1(b_field):
    """A and B of every voxel follow from one magnetisation, efficiency and TR."""
    labels = np.random.default_rng(0).integers(1, 12, (2, 8, 8)).astype(np.uint8)
    values = values_of(INVERSION_RECOVERY, b_field=b_field, tr_range=(800.0, 3000.0))
    assert ((values.tr >= 800) & (values.tr <= 3000)).all()
    clean = noise_free(
        mixture_of_labels(labels), TAU, INVERSION_RECOVERY, values, np.random.default_rng(1), 0.0
    )
    A, B, T1 = np.moveaxis(clean.kappa.astype(float), -1, 0)
    M0 = np.take_along_axis(values.by_label[:, None, :, 0], labels.astype(int), 2)
    expected = finite_tr(M0, values.shared - 1.0, T1, values.tr[:, None, None])
    np.testing.assert_allclose(A, expected[0], rtol=1e-5)
    np.testing.assert_allclose(B, expected[1], rtol=1e-5)
    assert B.min() < 1.5 < B.max() or b_field == "wide"


def test_rows_of_a_mixture_may_come_without_any_tissue():
    empty = np.zeros((2, 5, 5), np.uint8)
    out = simulate(
        mixture_of_labels(empty),
        TAU,
        T2_DECAY,
        values_of(T2_DECAY),
        np.array([0.1, 0.1]),
        np.random.default_rng(0),
    )
    assert out.S.std() == pytest.approx(0.1, rel=0.2)
    assert not out.kappa.any()
    assert not out.purity.any()


def test_spread_out_of_range_is_refused():
    for spread in (-0.1, 0.5):
        with pytest.raises(ValueError, match=r"expected 0 to 0\.2"):
            draw_variation(np.random.default_rng(0), 3, T2_DECAY, spread)
