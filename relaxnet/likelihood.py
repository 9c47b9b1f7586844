"""The likelihood of weighted images, and what a network is told of it.

The reference is `nll_gradient`, the gradient of the negative log-likelihood by `tf.GradientTape`.
`gradient_and_information` gives the same gradient from the model's Jacobian, and with it the
Fisher information, in one pass; tests hold the two equal.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from relaxnet.coordinates import derivative, to_kappa
from relaxsim.signals import SignalModel


def negative_log_likelihood(
    kappa: Any, S: Any, tau: Any, sigma: Any, model: SignalModel
) -> tf.Tensor:
    """Gaussian negative log-likelihood of each voxel, less its constant.

    ``L = sum_n (S_n - f_n(kappa))^2 / (2 sigma^2)`` (paper, section 2.2.1).

    Parameters
    ----------
    kappa : tensor, shape (b, h, w, Q)
        T in ms, A in the unit of S.
    S : tensor, shape (b, h, w, N)
        Weighted images.
    tau : tensor, shape (N,)
        ms.
    sigma : tensor, shape (b,)
        Noise standard deviation in the unit of S.
    model : SignalModel

    Returns
    -------
    L : tensor, shape (b, h, w)
    """
    residual = (S - model.forward(kappa, tau, tf)) / sigma[:, None, None, None]
    return 0.5 * tf.reduce_sum(residual**2, axis=-1)


def nll_gradient(
    u: Any, S: Any, tau: Any, sigma: Any, model: SignalModel, coordinates: str
) -> tf.Tensor:
    """Gradient of the negative log-likelihood with respect to u, by automatic differentiation.

    Parameters are those of `negative_log_likelihood`, with kappa in the scaled `coordinates`.

    Returns
    -------
    gradient : tensor, shape (b, h, w, Q)
    """
    with tf.GradientTape() as tape:
        tape.watch(u)
        kappa = to_kappa(u, model, coordinates)
        total = tf.reduce_sum(negative_log_likelihood(kappa, S, tau, sigma, model))
    return tape.gradient(total, u)


def gradient_and_information(
    u: Any, S: Any, tau: Any, sigma: Any, model: SignalModel, coordinates: str
) -> tuple[tf.Tensor, tf.Tensor]:
    """Gradient of the negative log-likelihood and Fisher information, from the Jacobian.

    Returns
    -------
    gradient : tensor, shape (b, h, w, Q)
        Equal to `nll_gradient`.
    information : tensor, shape (b, h, w, Q, Q)
        ``sum_n J_nq J_nr / sigma^2`` with respect to u.
    """
    kappa = to_kappa(u, model, coordinates)
    signal = model.signed(kappa, tau, tf)
    measured = S * tf.sign(signal) if model.magnitude else S
    residual = (signal - measured) / sigma[:, None, None, None]
    J = model.signed_jacobian(kappa, tau, tf) / sigma[:, None, None, None, None]
    J = J * derivative(kappa, model, coordinates)[..., None, :]
    gradient = tf.linalg.matvec(J, residual, transpose_a=True)
    return gradient, tf.matmul(J, J, transpose_a=True)


def whitened(gradient: Any, information: Any, damping: float = 0.05) -> tf.Tensor:
    """What the likelihood says at u, in numbers of order one whatever N, tau, sigma and scale.

    With ``d = sqrt(diag F)``: the gradient over d, compressed by asinh; the logarithm of d; and
    the damped Newton step ``D^-1 (C + damping I)^-1 D^-1 g``, C being F scaled to unit diagonal,
    compressed likewise.

    Returns
    -------
    features : tensor, shape (b, h, w, 3 Q)
    """
    d = tf.sqrt(tf.linalg.diag_part(information)) + 1e-3
    g = gradient / d
    correlation = information / (d[..., :, None] * d[..., None, :])
    step = _solve(correlation, g, damping) / d
    return tf.concat([tf.asinh(g), 0.3 * tf.math.log(d), tf.asinh(2.0 * step)], axis=-1)


def _solve(C: tf.Tensor, g: tf.Tensor, damping: float) -> tf.Tensor:
    """Solve (C + damping I) x = g for small symmetric matrices, unrolled over their size."""
    Q = g.shape[-1]
    rows = [[C[..., i, j] + (damping if i == j else 0.0) for j in range(Q)] for i in range(Q)]
    right = tf.unstack(g, axis=-1)
    for k in range(Q):
        for i in range(k + 1, Q):
            factor = rows[i][k] / rows[k][k]
            for j in range(k + 1, Q):
                rows[i][j] = rows[i][j] - factor * rows[k][j]
            right[i] = right[i] - factor * right[k]
    x: list[Any] = [None] * Q
    for i in reversed(range(Q)):
        total = right[i]
        for j in range(i + 1, Q):
            total = total - rows[i][j] * x[j]
        x[i] = total / rows[i][i]
    return tf.stack(x, axis=-1)
