"""The value of B that a neighbourhood shares, and the network that may take steps of fits."""

import numpy as np
import pytest
import tensorflow as tf
from small_networks import TAU, images, randomised, sigma

from relaxnet.networks.likelihood import LONGEST, Likelihood
from relaxnet.networks.parametrization import from_kappa, to_kappa
from relaxnet.networks.registry import load_network
from relaxnet.networks.rim import RIM
from relaxnet.networks.shared_parameter import REACH, num_channels, reach, window_sums
from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY
from relaxsim.models.protocols import read_protocol
from relaxsim.models.t2_decay import MODEL as T2_DECAY

TIS = np.linspace(50, 2500, 12).astype(np.float32)


def series(B, noise, shape=(30, 34), seed=0, tis=TIS):
    """Kappa and noisy images of random voxels that share B; one without signal."""
    rng = np.random.default_rng(seed)
    kappa = np.empty((1, *shape, 3), np.float32)
    kappa[..., 0], kappa[..., 1] = rng.uniform(0.5, 1.2, (1, *shape)), B
    kappa[..., 2] = rng.uniform(500, 1800, (1, *shape))
    kappa[0, 4, 5, 0] = 0.0
    signal = INVERSION_RECOVERY.forward(kappa, tis)
    S = np.abs(signal + noise * rng.standard_normal(signal.shape)).astype(np.float32)
    return kappa, S


def features(kappa, S, noise, tis=TIS):
    u = tf.constant(from_kappa(np.maximum(kappa, 1e-3), INVERSION_RECOVERY, "log"))
    level = np.array([noise], np.float32)
    likelihood = Likelihood(S, tis, level, INVERSION_RECOVERY, "log")
    seen, steps = likelihood.whitened_and_steps(u)
    np.testing.assert_array_equal(seen[..., :9], likelihood.whitened(u))
    assert np.abs(steps).max() <= LONGEST
    return np.asarray(seen)[0, ..., 9:], np.asarray(steps)[0]


def test_window_sums_are_those_of_a_pyramid():
    rng = np.random.default_rng(0)
    image = rng.standard_normal((1, 17, 40)).astype(np.float32)
    (found,) = window_sums([image])
    weight = 1 - np.abs(np.arange(-REACH, REACH + 1)) / (REACH + 1)
    for row, column in ((0, 0), (8, 20), (16, 3)):
        expected = sum(
            weight[i + REACH] * weight[j + REACH] * image[0, row + i, column + j]
            for i in range(-REACH, REACH + 1)
            for j in range(-REACH, REACH + 1)
            if 0 <= row + i < 17 and 0 <= column + j < 40
        )
        np.testing.assert_allclose(found[0, row, column], expected, rtol=1e-4)


def test_common_b_is_found_from_a_wrong_one():
    """One Newton step from a B that is 0.03 off leads to the neighbourhood's, on clean data."""
    kappa, S = series(B=1.8, noise=0.0)
    start = kappa.copy()
    start[..., 1] = 1.77
    seen, steps = features(start, S, 0.01)
    np.testing.assert_allclose(np.sinh(seen[..., 0]) / 10, 0.03, atol=0.006)
    # All voxels step there; A and T, which are true, stay.
    np.testing.assert_allclose(steps[..., 1, 1], 0.03, atol=0.006)
    inside = kappa[0, ..., 0] > 0
    assert np.abs(steps[inside][:, 1, [0, 2]]).max() < 0.03


def test_steps_lead_to_the_fit_that_shares_b():
    """From 5 % off, eight steps with the neighbourhood's B; clean data, the truth is the fit."""
    kappa, S = series(B=1.8, noise=0.0)
    u = from_kappa(np.maximum(kappa, 1e-3), INVERSION_RECOVERY, "log")
    u = u + tf.constant([0.03, -0.03, 0.05])
    likelihood = Likelihood(S, TIS, np.float32([0.01]), INVERSION_RECOVERY, "log")
    for _ in range(8):
        u = u + likelihood.whitened_and_steps(u)[1][..., 1, :]
    found = np.asarray(to_kappa(u, INVERSION_RECOVERY, "log"))
    inside = kappa[..., 0] > 0
    np.testing.assert_allclose(found[inside][:, 1:], kappa[inside][:, 1:], rtol=5e-3)


def test_common_b_is_found_where_the_times_end_below_t1():
    """Times of cine31, at SNR 100: damping relative to the information would hold B back."""
    tis = read_protocol("cine31", "tis").tau.astype(np.float32)
    kappa, S = series(B=1.8, noise=0.0, tis=tis)
    start = kappa.copy()
    start[..., 1] = 1.77
    seen, steps = features(start, S, 0.0075, tis)
    np.testing.assert_allclose(np.sinh(seen[..., 0]) / 10, 0.03, atol=0.006)
    inside = kappa[0, ..., 0] > 0
    # A and T, which are true, stay.
    assert np.abs(steps[inside][:, 1, [0, 2]]).max() < 0.03


def test_the_misfit_tells_how_wrong_sigma_is():
    kappa, S = series(B=1.8, noise=0.05)
    true, half = (features(kappa, S, noise)[0][..., -1] for noise in (0.05, 0.025))
    assert np.median(true) == pytest.approx(0.0, abs=0.2)
    np.testing.assert_allclose(half - true, np.log(2), atol=0.03)


def test_own_steps_lead_to_the_fit_of_each_voxel():
    rng = np.random.default_rng(0)
    kappa = np.stack([rng.uniform(0.5, 1.2, (1, 9, 9)), rng.uniform(50, 150, (1, 9, 9))], -1)
    tau = np.array([10.0, 30, 60, 110, 180], np.float32)
    S = T2_DECAY.forward(kappa, tau).astype(np.float32)
    u = tf.constant(from_kappa((kappa * 1.2).astype(np.float32), T2_DECAY, "log"))
    likelihood = Likelihood(S, tau, np.float32([0.01]), T2_DECAY, "log")
    for _ in range(10):
        seen, steps = likelihood.whitened_and_steps(u)
        assert steps.shape[-2:] == (1, 2)
        assert seen.shape[-1] == 7
        u = u + steps[..., 0, :]
    np.testing.assert_allclose(to_kappa(u, T2_DECAY, "log"), kappa, rtol=0.01)


def test_neighbours_know_b_better_than_a_voxel():
    kappa, S = series(B=1.8, noise=0.05)
    seen, _ = features(kappa, S, 0.05)
    to_common = np.sinh(seen[..., 0]) / 10
    off = np.sinh(seen[..., 2])
    assert np.abs(to_common).max() < 0.05
    inside = kappa[0, ..., 0] > 0
    # The own step's distance from B_common, in its standard deviations.
    assert 0.7 < np.std(off[inside]) < 1.3


def test_what_is_known_grows_with_the_number_of_voxels_and_a_blank_slice_is_finite():
    kappa, S = series(B=1.8, noise=0.05)
    known = features(kappa, S, 0.05)[0][..., 1]
    assert known[15, 17] > known[0, 0]
    empty = np.broadcast_to(np.float32([0.0, 2.0, 1000.0]), kappa.shape)
    seen, steps = features(empty, np.zeros_like(S), 0.05)
    assert np.isfinite(seen).all()
    assert np.isfinite(steps).all()


def test_a_voxel_that_is_not_finite_harms_its_neighbourhood_alone():
    kappa, S = series(B=1.8, noise=0.05, shape=(64, 68))
    clean, clean_steps = features(kappa, S, 0.05)
    S[0, 3, 5] = np.inf
    u = tf.constant(from_kappa(np.maximum(kappa, 1e-3), INVERSION_RECOVERY, "log"))
    likelihood = Likelihood(S, TIS, np.float32([0.05]), INVERSION_RECOVERY, "log")
    seen, steps = likelihood.whitened_and_steps(u)
    far = np.zeros((64, 68), bool)
    far[3 + 2 * REACH + 1 :, 5 + 2 * REACH + 1 :] = True
    np.testing.assert_allclose(np.asarray(seen)[0, ..., 9:][far], clean[far], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(np.asarray(steps)[0][far], clean_steps[far], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("rician", [0.0, 1.0])
def test_air_tells_nothing_of_b(rician):
    """At SNR 4 the common B beside air is that beside nothing."""
    noise = 0.2
    kappa, S = series(B=1.8, noise=noise, shape=(40, 40))
    rng = np.random.default_rng(2)
    air = noise * rng.standard_normal((2, 40, 20, len(TIS)))
    S[0, :, 20:] = np.hypot(*air) if rician else air[0]
    guess = kappa.copy()
    guess[0, :, 20:] = 0.15, 1.5, 400.0  # what a network makes of noise
    u = tf.constant(from_kappa(np.maximum(guess, 1e-3), INVERSION_RECOVERY, "log"))

    def to_common(images):
        level, kind = np.float32([noise]), np.float32([rician])
        likelihood = Likelihood(images, TIS, level, INVERSION_RECOVERY, "log", kind)
        seen, _ = likelihood.whitened_and_steps(u)
        return np.sinh(np.asarray(seen)[0, :, :20, 9]) / 10

    nothing = S.copy()
    nothing[0, :, 20:] = 0.0
    np.testing.assert_allclose(to_common(S), to_common(nothing), atol=0.004)


def test_a_voxel_of_two_tissues_tells_little_of_b(monkeypatch):
    """A third of the voxels are half fluid: the common B of the others is closer to the truth."""
    kappa, S = series(B=1.8, noise=0.01, shape=(40, 40))
    mixed = np.random.default_rng(3).random((1, 40, 40)) < 0.33
    fluid = np.full_like(kappa[mixed], (1.5, 1.8, 4000.0))
    pair = (INVERSION_RECOVERY.signed(k, TIS, np) for k in (kappa[mixed], fluid))
    S[mixed] = np.abs(sum(pair)) / 2

    def error_of_b():
        seen, _ = features(kappa, S, 0.01)
        return np.median(np.abs(np.sinh(seen[..., 0]) / 10))

    weighted = error_of_b()
    monkeypatch.setattr(
        "relaxnet.networks.likelihood._explained", lambda chi_square, _: chi_square * 0 + 1
    )
    assert weighted < 0.5 * error_of_b()


def test_neighbours_that_differ_in_b_keep_their_own():
    """Two tissues at TR 1000 ms: the steps lead to the B of each, not to one between them."""
    B, T1 = (np.where(np.arange(40) < 20, *pair) for pair in ((1.4, 1.75), (1500.0, 550.0)))
    kappa = np.empty((1, 40, 40, 3), np.float32)
    kappa[..., 0], kappa[..., 1], kappa[..., 2] = 0.8, B, T1
    signal = INVERSION_RECOVERY.forward(kappa, TIS)
    noise = 0.005 * np.random.default_rng(4).standard_normal(signal.shape)
    likelihood = Likelihood(
        np.abs(signal + noise).astype(np.float32),
        TIS,
        np.float32([0.005]),
        INVERSION_RECOVERY,
        "log",
    )
    u = tf.constant(from_kappa(kappa, INVERSION_RECOVERY, "log"))
    u = u + tf.constant([0.0, 1.0, 0.0]) * (1.6 - u[..., 1:2])
    for _ in range(12):
        u = u + likelihood.whitened_and_steps(u)[1][..., 1, :]
    found = np.asarray(to_kappa(u, INVERSION_RECOVERY, "log"))
    for columns in (slice(0, 20), slice(20, 40)):
        truth, medians = kappa[0, 0, columns][0], np.median(found[0, :, columns], axis=(0, 1))
        np.testing.assert_allclose(medians[1:], truth[1:], rtol=0.01)


def test_a_step_depends_on_two_windows_and_no_more():
    """A voxel draws the common B of its window, and with it what their windows disagree."""
    kappa = np.empty((1, 6, 110, 3), np.float32)
    kappa[..., 0], kappa[..., 1], kappa[..., 2] = 0.8, np.where(np.arange(110) % 2, 1.7, 1.8), 900.0
    S = INVERSION_RECOVERY.forward(kappa, TIS).astype(np.float32)
    without = S.copy()
    without[0, :, 2] = 0.0
    change = np.abs(features(kappa, without, 0.02)[1] - features(kappa, S, 0.02)[1])[:, :, 1, 1]
    columns = np.flatnonzero(change.max(axis=0) > 0)
    assert 2 + REACH + 4 < columns.max() <= 2 + reach(INVERSION_RECOVERY)


def test_a_voxel_that_is_still_far_from_its_fit_counts(monkeypatch):
    """No voxel is explained yet, but a step leads each to where it is."""
    kappa, S = series(B=1.8, noise=0.005)
    start = kappa.copy()
    start[..., 1] = 1.9
    far, near = (features(k, S, 0.005)[0][..., 1] for k in (start, kappa))
    monkeypatch.setattr(
        "relaxnet.networks.likelihood._decrease", lambda gradient, _: 0.0 * gradient[0]
    )
    blind = features(start, S, 0.005)[0][..., 1]
    assert np.median(near - far) < 0.5 * np.median(near - blind)


def test_models_without_b_share_none():
    assert num_channels(T2_DECAY) == 0
    plain = RIM("t2_decay", features=6, num_steps=2)
    network = plain.with_fit_steps()
    assert network.halo == plain.halo
    S = images()
    np.testing.assert_allclose(network([S, TAU, sigma()]), plain([S, TAU, sigma()]), rtol=1e-5)


def test_added_steps_start_without_effect():
    network = randomised(RIM("inversion_recovery", features=6, num_steps=2))
    more = network.with_fit_steps()
    S = images()
    np.testing.assert_allclose(more([S, TAU, sigma()]), network([S, TAU, sigma()]), rtol=1e-5)
    assert more.halo == network.halo + 2 * 2 * REACH
    assert more.with_fit_steps().count_params() == more.count_params()


def test_raw_gradients_have_no_steps():
    with pytest.raises(ValueError, match="whitened"):
        RIM("inversion_recovery", gradient="raw", fit_steps=True)


@pytest.mark.parametrize("fit_steps", [False, True])
def test_saved_networks_know_whether_they_take_steps(fit_steps, tmp_path):
    network = randomised(RIM("inversion_recovery", features=6, num_steps=2, fit_steps=fit_steps))
    network.save(tmp_path / "network.keras")
    loaded = load_network(tmp_path / "network.keras")
    assert loaded.fit_steps == fit_steps
    S = images()
    np.testing.assert_array_equal(loaded([S, TAU, sigma()]), network([S, TAU, sigma()]))
