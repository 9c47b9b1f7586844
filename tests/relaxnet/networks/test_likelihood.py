from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from scipy import special

from relaxnet.networks.likelihood import Likelihood, bessel_ratio, whitened
from relaxnet.networks.parametrization import COORDINATES, derivative, from_kappa, to_kappa
from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY
from relaxsim.models.t2_decay import MODEL as T2_DECAY

TAU = np.array([100.0, 300.0, 700.0, 1500.0, 2500.0], np.float32)


def problem(model, seed=0):
    rng = np.random.default_rng(seed)
    shape = (2, 3, 4)
    columns = {
        "A": rng.uniform(0.3, 1.5, shape),
        "B": rng.uniform(1.2, 2.0, shape),
        "T1": rng.uniform(200, 3000, shape),
        "T2": rng.uniform(30, 2000, shape),
    }
    kappa = np.stack([columns[p] for p in model.parameters], -1).astype(np.float32)
    sigma = np.array([0.02, 0.1], np.float32)
    S = model.forward(kappa, TAU) + sigma[:, None, None, None] * rng.standard_normal((*shape, 5))
    return kappa, S.astype(np.float32), sigma


@pytest.mark.parametrize("model", [INVERSION_RECOVERY, T2_DECAY], ids=lambda m: m.name)
@pytest.mark.parametrize("coordinates", COORDINATES)
def test_coordinates_round_trip(model, coordinates):
    kappa, _, _ = problem(model)
    u = from_kappa(kappa, model, coordinates)
    np.testing.assert_allclose(to_kappa(u, model, coordinates), kappa, rtol=1e-5)


@pytest.mark.parametrize("model", [INVERSION_RECOVERY, T2_DECAY], ids=lambda m: m.name)
@pytest.mark.parametrize("coordinates", COORDINATES)
def test_jacobian_path_equals_tape(model, coordinates):
    kappa, S, sigma = problem(model)
    u = from_kappa(kappa * 1.1, model, coordinates)
    likelihood = Likelihood(S, TAU, sigma, model, coordinates)
    tape = likelihood.gradient(u)
    fast, _ = likelihood.gradient_and_information(u)
    np.testing.assert_allclose(fast, tape, rtol=2e-4, atol=2e-3 * np.abs(tape).max())


@pytest.mark.parametrize("rician", [None, np.float32([1, 0])], ids=["gaussian", "rician"])
@pytest.mark.parametrize("sign_known", [True, False])
def test_one_graph_serves_images_with_and_without_sign(rician, sign_known):
    kappa, S, sigma = problem(INVERSION_RECOVERY)
    u = tf.constant(from_kappa(kappa * 1.1, INVERSION_RECOVERY, "log"))
    S = np.abs(S) * np.sign(INVERSION_RECOVERY.signed(kappa, TAU, np))

    @tf.function(autograph=False)
    def looked_at(signed):
        likelihood = Likelihood(S, TAU, sigma, INVERSION_RECOVERY, "log", rician, signed)
        return likelihood.gradient(u), likelihood.gradient_and_information(u)[0]

    tape, fast = looked_at(tf.constant(sign_known))
    without_modulus = replace(INVERSION_RECOVERY, magnitude=False)
    model, noise = (without_modulus, None) if sign_known else (INVERSION_RECOVERY, rician)
    reference = Likelihood(S, TAU, sigma, model, "log", noise)
    for found, expected in (
        (tape, reference.gradient(u)),
        (fast, reference.gradient_and_information(u)[0]),
    ):
        np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("model", [INVERSION_RECOVERY, T2_DECAY], ids=lambda m: m.name)
def test_sigma_of_each_voxel_counts_as_that_of_an_image_does(model):
    kappa, S, _ = problem(model)
    u = tf.constant(from_kappa(kappa * 1.1, model, "log"))
    rician = tf.constant([1.0, 0.0])

    def looked_at(sigma):
        likelihood = Likelihood(S, TAU, tf.constant(sigma), model, "log", rician)
        pair = likelihood.gradient_and_information(u)
        return [x.numpy() for x in (likelihood.negative_log(u), likelihood.presence, *pair)]

    low, high = np.float32([0.02, 0.05]), np.float32([0.1, 0.2])
    on_the_left = (np.arange(4) < 2) & np.ones((2, 3, 4), bool)
    sigma = np.where(on_the_left, low[:, None, None], high[:, None, None])
    for found, of_low, of_high in zip(*map(looked_at, (sigma, low, high)), strict=True):
        np.testing.assert_array_equal(found[on_the_left], of_low[on_the_left])
        np.testing.assert_array_equal(found[~on_the_left], of_high[~on_the_left])


def test_bessel_ratio():
    z = np.concatenate([[0.0], np.logspace(-3, 5, 400)])
    off = bessel_ratio(tf.constant(z)).numpy() - special.ive(1, z) / special.ive(0, z)
    assert -1e-6 < off.min()
    assert off.max() < 0.012


@pytest.mark.parametrize("model", [INVERSION_RECOVERY, T2_DECAY], ids=lambda m: m.name)
def test_gradient_under_rician_noise(model):
    """That of the exact likelihood but for the Bessel ratio; Gaussian patches are untouched."""
    kappa, S, sigma = problem(model)
    S = np.abs(S)
    u = tf.constant(from_kappa(kappa * 1.1, model, "log"))
    with tf.GradientTape() as tape:
        tape.watch(u)
        f = model.forward(to_kappa(u, model, "log"), TAU, tf)
        noise = sigma[:, None, None, None]
        z = S * f / noise**2
        log_likelihood = tf.math.log(tf.math.bessel_i0e(z)) + z - (S**2 + f**2) / (2 * noise**2)
        total = -tf.reduce_sum(log_likelihood)
    exact = tape.gradient(total, u).numpy()

    def looked_at(*rician):
        return Likelihood(S, TAU, sigma, model, "log", *rician).gradient_and_information(u)

    found, information = looked_at(np.float32([1, 1]))
    gaussian, same = looked_at()
    # Each sample's part is off by 0.012 S J / sigma^2 at most; Cauchy and Schwarz sum them.
    root = np.sqrt(np.asarray(tf.linalg.diag_part(information)))
    limit = 0.012 * root * np.linalg.norm(S / noise, axis=-1, keepdims=True)
    assert (np.abs(found - exact) < limit + 1e-3 * np.abs(exact)).all()
    assert (np.abs(gaussian - exact) > 2 * limit).any()
    np.testing.assert_array_equal(information, same)
    mixed, _ = looked_at(np.float32([0, 1]))
    np.testing.assert_allclose(mixed[0], gaussian[0], rtol=1e-5)
    np.testing.assert_allclose(mixed[1], found[1], rtol=1e-5)


@pytest.mark.parametrize("model", [INVERSION_RECOVERY, T2_DECAY], ids=lambda m: m.name)
@pytest.mark.parametrize("magnitude", [True, False])
def test_sums_of_an_exponential_are_those_of_the_jacobian(model, magnitude):
    kappa, S, sigma = problem(model)
    model = replace(model, magnitude=magnitude)
    u = from_kappa(kappa * 1.1, model, "log")
    general = replace(model, separable=None)
    fast, slow = (
        Likelihood(S, TAU, sigma, m, "log").gradient_and_information(u) for m in (model, general)
    )
    for a, b in zip(fast, slow, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max())


@pytest.mark.parametrize("model", [INVERSION_RECOVERY, T2_DECAY], ids=lambda m: m.name)
@pytest.mark.parametrize("coordinates", COORDINATES)
def test_features_are_those_of_the_matrices(model, coordinates):
    """Against the Jacobian as a matrix, in double precision, and numpy's solver."""
    kappa, S, sigma = problem(model)
    u = tf.constant(from_kappa(kappa * 1.05, model, coordinates))
    kappa = np.array(to_kappa(u, model, coordinates), np.float64)
    noise = sigma[:, None, None, None]
    scale = np.array(derivative(tf.constant(kappa), model, coordinates))
    J = model.jacobian(kappa, TAU) * scale[..., None, :] / noise[..., None]
    residual = (model.forward(kappa, TAU) - S) / noise
    g = np.einsum("...nq,...n->...q", J, residual)
    F = np.einsum("...nq,...nr->...qr", J, J)
    d = np.sqrt(np.einsum("...qq->...q", F)) + 1e-3
    C = F / (d[..., :, None] * d[..., None, :]) + 0.05 * np.eye(F.shape[-1])
    step = np.linalg.solve(C, (g / d)[..., None])[..., 0] / d
    expected = np.concatenate([np.arcsinh(g / d), 0.3 * np.log(d), np.arcsinh(2 * step)], -1)
    likelihood = Likelihood(S, TAU, sigma, model, coordinates)
    compiled = tf.function(lambda: likelihood.whitened(u))()
    np.testing.assert_allclose(compiled, expected, rtol=1e-3, atol=1e-3)
    pair = likelihood.gradient_and_information(u)
    np.testing.assert_allclose(pair[1], F, rtol=1e-3, atol=1e-4 * F.max())
    np.testing.assert_allclose(whitened(*pair), compiled, rtol=1e-4, atol=1e-4)


def test_gradient_is_the_slope_of_the_likelihood():
    model = T2_DECAY
    kappa, S, sigma = problem(model)
    u = from_kappa(kappa * 1.2, model, "log").numpy().astype(np.float32)
    likelihood = Likelihood(S, TAU, sigma, model, "log")
    gradient = likelihood.gradient(tf.constant(u)).numpy()
    step = 1e-3
    for q in range(2):
        shift = np.zeros(2, np.float32)
        shift[q] = step
        up, down = (likelihood.negative_log(u + s).numpy() for s in (shift, -shift))
        slope = (up.astype(float) - down) / (2 * step)
        np.testing.assert_allclose(slope, gradient[..., q], rtol=0.02, atol=0.5)


def test_information_is_the_gradients_covariance():
    """At the truth the gradient's covariance over noise is the Fisher information."""
    model = T2_DECAY
    kappa = np.tile(np.array([1.0, 400.0], np.float32), (1, 200, 200, 1))
    sigma = np.array([0.05], np.float32)
    noise = np.random.default_rng(1).standard_normal((1, 200, 200, 5))
    S = (model.forward(kappa, TAU) + 0.05 * noise).astype(np.float32)
    u = from_kappa(kappa, model, "log")
    gradient, information = Likelihood(S, TAU, sigma, model, "log").gradient_and_information(u)
    covariance = np.cov(gradient.numpy().reshape(-1, 2).T)
    np.testing.assert_allclose(covariance, information[0, 0, 0], rtol=0.05)


def test_whitened_features_do_not_depend_on_scale():
    model = INVERSION_RECOVERY
    kappa, S, sigma = problem(model)
    features = []
    for factor in (1.0, 8.0):
        scaled = kappa * np.array([factor, 1, 1], np.float32)
        u = from_kappa(scaled * 1.05, model, "log")
        pair = Likelihood(factor * S, TAU, factor * sigma, model, "log").gradient_and_information(u)
        features.append(whitened(*pair).numpy())
    np.testing.assert_allclose(features[0], features[1], atol=2e-3)


def test_newton_step_leads_to_the_truth():
    """Without noise and near the truth the damped step is most of the way."""
    model = T2_DECAY
    kappa, _, sigma = problem(model)
    truth = from_kappa(kappa, model, "log")
    u = truth + 0.02
    S = model.forward(kappa, TAU).astype(np.float32)
    likelihood = Likelihood(S, TAU, sigma, model, "log")
    features = whitened(*likelihood.gradient_and_information(u), damping=1e-4)
    step = np.sinh(features[..., 4:].numpy()) / 2.0
    np.testing.assert_allclose(step, 0.02, rtol=0.15)


@pytest.mark.parametrize("model", [INVERSION_RECOVERY, T2_DECAY], ids=lambda m: m.name)
def test_empty_voxels_give_finite_features(model):
    S = np.zeros((1, 3, 3, 5), np.float32)
    u = from_kappa(model.start_from(np.zeros((1, 3, 3), np.float32), np), model, "log")
    likelihood = Likelihood(S, TAU, np.float32([1e-4]), model, "log")
    pair = likelihood.gradient_and_information(u)
    assert np.isfinite(whitened(*pair).numpy()).all()
