"""The likelihood of weighted images, and the features of it that are inputs of a network.

The reference is `Likelihood.gradient`, by `tf.GradientTape`. `Likelihood.gradient_and_information`
computes the same gradient from the model's Jacobian, and the Fisher information with it, in one
pass; tests check that the two gradients are equal.

Noise is Gaussian, as in the paper, or Rician, as in magnitude images. The gradient under Rician
noise is the gradient under Gaussian noise with each sample S replaced by ``S I1(z) / I0(z)``,
``z = S |f| / sigma^2``: the expected part of the sample in phase with the signal f. The information
is that of the complex image, which is at least that of its modulus. Newton steps with it are the
steps of expectation maximisation, and samples near a zero crossing of the signal do not lead them
astray.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from relaxnet.networks import shared_parameter
from relaxnet.networks.frameworks import tf
from relaxnet.networks.parametrization import derivative, to_kappa
from relaxnet.networks.small_matrices import asinh, solve
from relaxsim.models.signal_model import SignalModel

#: Longest step of a fit that a network may take, in the coordinates of u.
LONGEST = 0.5
#: Added to the unit diagonal of the scaled information, so that it can be inverted.
DAMPING = 0.05
#: Added to what a square root of the information divides, in the coordinates of u.
_SMALLEST_ROOT = 1e-3
#: Added to a reduced chi-square before its logarithm: smaller ones give the same feature.
_SMALLEST_CHI_SQUARE = 0.01
#: Factors that bring the logarithm of the information and Newton steps to order one.
_OF_LOGARITHM, _OF_STEP = 0.3, 2.0


@dataclass(frozen=True)
class Likelihood:
    """The likelihood of weighted images, as a function of kappa in scaled coordinates, u.

    Attributes
    ----------
    S : tensor, shape (b, h, w, N)
        Weighted images.
    protocol : tensor, shape (N, D), or (b, N, D) where each image has its own
        In the units of the model's columns; it may be given as (N,) of a model with one column.
    sigma : tensor, shape (b, 1, 1) or (b, h, w)
        Noise standard deviation in the unit of S, of each image or each voxel; it may be given as
        (b,).
    model : SignalModel
    coordinates : str
        Of u; see `relaxnet.networks.parametrization`.
    rician : tensor, shape (b,), optional
        1 where noise is Rician and 0 where it is Gaussian; None: it is Gaussian everywhere.
    signed : bool tensor, shape (), optional
        Whether the images carry the signal's sign, where the model has a modulus; None: they do
        not.
    known : tensor, shape (b, h, w, K), optional
        Known maps of the model; None stands for their default values.
    presence : tensor, shape (b, h, w)
        Squared share of the signal in a voxel's mean square: 0 in the air. Noise alone has a mean
        square of sigma^2 if it is Gaussian, and of 2 sigma^2 if it is Rician.
    """

    S: Any
    protocol: Any
    sigma: Any
    model: SignalModel
    coordinates: str
    rician: Any = None
    signed: Any = None
    known: Any = None
    presence: Any = field(init=False)

    def __post_init__(self) -> None:
        table = self.model.table(self.protocol)
        if len(table.shape) == 3:  # an axis of rows and one of columns
            table = table[:, None, None]
        object.__setattr__(self, "protocol", table)
        if len(self.sigma.shape) == 1:
            object.__setattr__(self, "sigma", self.sigma[:, None, None])
        power = tf.reduce_mean(self.S**2, axis=-1) / tf.square(self.sigma)
        of_noise = 1.0 if self.rician is None else 1.0 + self.rician[:, None, None]
        presence = tf.square(tf.nn.relu(1.0 - of_noise / tf.maximum(power, 1e-6)))
        object.__setattr__(self, "presence", presence)

    def negative_log(self, u: Any) -> tf.Tensor:
        """Gaussian negative log-likelihood of each voxel less its constant, shape (b, h, w).

        ``L = sum_n (S_n - f_n(kappa))^2 / (2 sigma^2)`` (paper, section 2.2.1); u is
        (b, h, w, Q).
        """
        kappa = to_kappa(u, self.model, self.coordinates)
        signal = self._if_signed(
            lambda: self.model.signed(kappa, self.protocol, tf, self.known),
            lambda: self.model.forward(kappa, self.protocol, tf, self.known),
        )
        residual = (self.S - signal) / self.sigma[..., None]
        return 0.5 * tf.reduce_sum(residual**2, axis=-1)

    def gradient(self, u: Any) -> tf.Tensor:
        """Gradient of `negative_log` with respect to u, (b, h, w, Q), by `tf.GradientTape`."""
        with tf.GradientTape() as tape:
            tape.watch(u)
            total = tf.reduce_sum(self.negative_log(u))
        return tape.gradient(total, u)

    def gradient_and_information(self, u: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """Gradient of the negative log-likelihood and Fisher information, from the Jacobian.

        Returns
        -------
        gradient : tensor, shape (b, h, w, Q)
            Under Gaussian noise equal to `gradient`.
        information : tensor, shape (b, h, w, Q, Q)
            ``sum_n J_nq J_nr / sigma^2`` with respect to u.
        """
        g, F, _ = self._sums(u)
        return tf.stack(g, axis=-1), tf.stack([tf.stack(row, axis=-1) for row in F], axis=-2)

    def whitened(self, u: Any) -> tf.Tensor:
        """`whitened` of `gradient_and_information`, without the matrices between them."""
        g, F, _ = self._sums(u)
        return tf.stack(_whitened(g, F)[0], axis=-1)

    def whitened_and_steps(self, u: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """`Likelihood.whitened`, features of the neighbourhood, and the steps that fits would take.

        Returns
        -------
        features : tensor, shape (b, h, w, 3 Q + C + 1)
            The features of `whitened`, the C channels of `relaxnet.networks.shared_parameter` (0 of
            a model without a shared parameter), and the logarithm of the residuals' standard
            deviation over sigma: 0 at a good fit if sigma is true.
        steps : tensor, shape (b, h, w, K, Q)
            Of u, at most `LONGEST` in either direction: the step of a voxel-wise fit and, if the
            model has a shared parameter, the step of a fit in which neighbours share it.
        """
        g, F, square = self._sums(u)
        features, voxelwise_step = _whitened(g, F)
        steps = [tf.stack(voxelwise_step, axis=-1)]
        freedom = self._freedom()
        if self.model.shared is not None:
            least = tf.nn.relu(square - _decrease(g, voxelwise_step))
            weight = self.presence * _explained(least / freedom, freedom)
            of_neighbours, shared_step = shared_parameter.features_and_step(
                u, g, F, weight, self.model
            )
            features = [*features, *of_neighbours]
            steps.append(tf.stack(shared_step, axis=-1))
        features.append(_misfit(square / freedom))
        bounded = tf.clip_by_value(tf.stack(steps, axis=-2), -LONGEST, LONGEST)
        return tf.stack(features, axis=-1), bounded

    def _freedom(self) -> Any:
        """Degrees of freedom of a voxel's residuals, at least 1."""
        N = tf.cast(tf.shape(self.S)[-1], tf.float32)
        return tf.maximum(N - self.model.num_parameters, 1.0)

    def _sums(self, u: Any) -> tuple[list[Any], list[list[Any]], Any]:
        """Entries of gradient and information, and the sum of squared residuals over sigma.

        Each is a sum over images, shape (b, h, w). Factors that are the same in all images are
        multiplied after the sum.
        """
        model, noise = self.model, self.sigma
        kappa = to_kappa(u, model, self.coordinates)
        if self._has_exponential_sums():
            g, F, square = _sums_of_exponential(kappa, self._residual, self.protocol[:, 0], model)
        else:
            g, F, square = _sums_of_jacobian(
                kappa, self._residual, self.protocol, model, self.known
            )
        slopes = tf.unstack(derivative(kappa, model, self.coordinates), axis=-1)
        d = [slope / noise for slope in slopes]
        Q = range(model.num_parameters)
        gradient = [d[q] / noise * g[q] for q in Q]
        return gradient, [[d[q] * d[r] * F[q][r] for r in Q] for q in Q], square / noise**2

    def _has_exponential_sums(self) -> bool:
        """Whether the signal is ``a + b exp(-t / T)`` with the same times t in all voxels."""
        separable = self.model.separable
        one_list = len(self.protocol.shape) == 2 and self.protocol.shape[-1] == 1
        return one_list and separable is not None and separable.exponential is not None

    def _residual(self, signal: Any) -> Any:
        """Signal less samples, which get the signal's sign if they are moduli; (b, h, w, N)."""

        def of_magnitudes() -> Any:
            samples = self.S if self.rician is None else self._in_phase(signal)
            return signal - (samples * tf.sign(signal) if self.model.magnitude else samples)

        return self._if_signed(lambda: signal - self.S, of_magnitudes)

    def _if_signed(self, signed: Callable[[], Any], otherwise: Callable[[], Any]) -> Any:
        """The result of one of two functions; a graph runs that one alone."""
        if self.signed is None or not self.model.magnitude:
            return otherwise()
        known = tf.get_static_value(self.signed)
        if known is None:
            return tf.cond(self.signed, signed, otherwise)
        return signed() if known else otherwise()

    def _in_phase(self, signal: Any) -> Any:
        """Expected in-phase part of Rician samples; Gaussian samples as they are."""
        z = tf.maximum(self.S, 0.0) * tf.abs(signal) / tf.square(self.sigma)[..., None]
        return self.S * (1.0 - self.rician[:, None, None, None] * (1.0 - bessel_ratio(z)))


def whitened(gradient: Any, information: Any, damping: float = DAMPING) -> tf.Tensor:
    """Features of the likelihood at u, of order one for any N, protocol, sigma and scale.

    With ``d = sqrt(diag F)`` they are the gradient over d, compressed by asinh; the logarithm of d;
    and the damped Newton step ``D^-1 (C + damping I)^-1 D^-1 g``, also compressed by asinh, where
    C is F scaled to unit diagonal.

    Returns
    -------
    features : tensor, shape (b, h, w, 3 Q)
    """
    rows = [tf.unstack(row, axis=-1) for row in tf.unstack(information, axis=-2)]
    return tf.stack(_whitened(tf.unstack(gradient, axis=-1), rows, damping)[0], axis=-1)


def bessel_ratio(z: Any) -> Any:
    """``I1(z) / I0(z)`` for z >= 0, at most 0.012 too large.

    One step of the downward recurrence from Amos's lower bound of ``I2 / I1`` (Amos 1974,
    Mathematics of Computation 28:239). TensorFlow's Bessel functions take one value at a time.
    """
    return z / (2.0 + z * z / (1.5 + tf.sqrt(z * z + 6.25)))


def _sums_of_jacobian(
    kappa: Any,
    residual_of: Callable[[Any], Any],
    protocol: Any,
    model: SignalModel,
    known: Any,
) -> tuple[list[Any], list[list[Any]], Any]:
    """Of any model: ``sum_n J_nq residual_n``, ``sum_n J_nq J_nr`` and ``sum_n residual_n^2``.

    The columns of the Jacobian are taken out of the array that the model stacks; a compiled graph
    makes no copy of them.
    """
    stacked = model.signed_jacobian(kappa, protocol, tf, known)
    Q = model.num_parameters
    J = [stacked[..., q] for q in range(Q)]
    residual = residual_of(kappa[..., :1] * J[0])  # every model is linear in A
    g = [tf.reduce_sum(J[q] * residual, axis=-1) for q in range(Q)]
    F: list[list[Any]] = [[None] * Q for _ in range(Q)]
    for q in range(Q):
        for r in range(q, Q):
            F[q][r] = F[r][q] = tf.reduce_sum(J[q] * J[r], axis=-1)
    return g, F, tf.reduce_sum(residual * residual, axis=-1)


def _sums_of_exponential(
    kappa: Any, residual_of: Callable[[Any], Any], tau: Any, model: SignalModel
) -> tuple[list[Any], list[list[Any]], Any]:
    """`_sums_of_jacobian` of a model ``a + b E`` with ``E = exp(-tau / T)``, in half the time.

    All entries are combinations of sums over images of E, E^2, the residual and the residual times
    E, each weighted with powers of tau (N,). Products with a matrix give these sums in one pass.
    """
    assert model.separable is not None
    assert model.separable.exponential is not None
    T = kappa[..., -1]
    a, b, da, db = model.separable.exponential(kappa)
    E = tf.exp(tau * (-1.0 / T)[..., None])
    a_n = a[..., None] if tf.is_tensor(a) else a
    residual = residual_of(a_n + b[..., None] * E)
    rows = tf.stack([tf.ones_like(tau), tau, tau * tau], axis=-1)
    of_1, of_tau = _times(E, rows[:, :2])
    of_square = _times(E * E, rows)
    (r_0,) = _times(residual, rows[:, :1])
    r_1, r_tau = _times(residual * E, rows[:, :2])
    (square,) = _times(residual * residual, rows[:, :1])
    slope = b / (T * T)  # of E times tau
    N = tf.cast(tf.size(tau), tf.float32)
    linear = range(len(da))
    g = [da[q] * r_0 + db[q] * r_1 for q in linear] + [slope * r_tau]

    def product(q: int, r: int) -> Any:
        mixed = da[q] * db[r] + da[r] * db[q]
        return da[q] * da[r] * N + mixed * of_1 + db[q] * db[r] * of_square[0]

    last = [slope * (da[q] * of_tau + db[q] * of_square[1]) for q in linear]
    F = [[*(product(q, r) for r in linear), last[q]] for q in linear]
    return g, [*F, [*last, slope * slope * of_square[2]]], square


def _times(values: Any, rows: Any) -> list[Any]:
    """Sums over images of values (b, h, w, N) times each column of rows (N, K)."""
    shape = tf.shape(values)
    flat = tf.matmul(tf.reshape(values, (-1, shape[-1])), rows)
    return [tf.reshape(column, shape[:-1]) for column in tf.unstack(flat, axis=-1)]


def _misfit(chi_square: Any) -> Any:
    """Half the logarithm of the reduced chi-square."""
    return 0.5 * tf.math.log(chi_square + _SMALLEST_CHI_SQUARE)


def _decrease(gradient: list[Any], step: list[Any]) -> Any:
    """Decrease of the sum of squared residuals over sigma by a Newton step."""
    return -tf.add_n([g * x for g, x in zip(gradient, step, strict=True)])


def _explained(chi_square: Any, freedom: Any) -> Any:
    """Weight of a voxel among its neighbours, from 0 to 1: small where no kappa explains it.

    No single T fits a voxel of several tissues, and the shared parameter that fits it best is that
    of none of them. The excess of the reduced `chi_square` over 1 and its standard deviation is
    added to the variance of the noise.
    """
    standard_deviation = tf.sqrt(2.0 / freedom)
    return 1.0 / (1.0 + tf.nn.relu(chi_square - 1.0 - standard_deviation))


def _whitened(
    gradient: list[Any], F: list[list[Any]], damping: float = DAMPING
) -> tuple[list[Any], list[Any]]:
    """Channels of `whitened`, and the damped Newton step of each parameter."""
    Q = len(gradient)
    d = [tf.sqrt(tf.maximum(F[q][q], 0.0)) + _SMALLEST_ROOT for q in range(Q)]
    g = [gradient[q] / d[q] for q in range(Q)]
    C = [
        [F[q][r] / (d[q] * d[r]) + (damping if q == r else 0.0) for r in range(Q)] for q in range(Q)
    ]
    step = [x / y for x, y in zip(solve(C, g), d, strict=True)]
    size = [_OF_LOGARITHM * tf.math.log(x) for x in d]
    return [*map(asinh, g), *size, *(asinh(_OF_STEP * x) for x in step)], [-x for x in step]
