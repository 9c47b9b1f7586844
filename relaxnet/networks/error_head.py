"""The error head: standard deviations of the estimates of a recurrent inference machine.

The head is a small network beside the machine's cell. Its inputs are the cell's last memory states,
the last estimate and the features of the likelihood there; its output is the standard deviation of
each parameter. It is trained after the machine, on the machine's errors in simulated patches
(`relaxnet.training.calibration`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from relaxnet.networks.frameworks import keras, tf
from relaxnet.networks.likelihood import Likelihood, whitened
from relaxnet.networks.parametrization import coordinates_of, derivative, to_kappa
from relaxnet.networks.small_matrices import eliminate
from relaxsim.models.signal_model import SignalModel

#: Standard deviations of the weak prior that is part of a bound, in the network's coordinates: of a
#: logarithm, and of another parameter.
PRIOR_STD = (1.0, 0.5)
#: Smallest variance of a bound, in the network's coordinates.
_SMALLEST_VARIANCE = 1e-12
#: Brings logarithms to order one.
_OF_LOGARITHM = 0.3
#: Half width of the 95 % interval of normal errors, in standard deviations.
NORMAL_FACTOR = 1.96
#: Limits of the logarithm of a standard deviation.
LOG_LIMITS = (-8.0, 2.0)


@keras.saving.register_keras_serializable(package="relaxnet")
class ErrorHead(keras.layers.Layer):
    """Logarithm of each parameter's standard deviation, in the network's coordinates.

    Parameters
    ----------
    num_parameters : int
        Q.
    features : int
        Channels inside.

    Notes
    -----
    Call ``head(inputs, log_bound)`` with inputs (..., C) of order one and the logarithm of a
    bound (..., Q), which the head corrects; it returns (..., Q). A new head returns the bound.
    Each voxel is treated by itself: the memory states hold what the cell found in its neighbours.
    """

    def __init__(self, num_parameters: int, features: int = 32, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.num_parameters = num_parameters
        self.features = features
        options = {"activation": "tanh", "dtype": "float32"}
        self.inner_1 = keras.layers.Dense(features, name="inner_1", **options)
        self.inner_2 = keras.layers.Dense(features, name="inner_2", **options)
        self.outer = keras.layers.Dense(
            num_parameters, name="outer", dtype="float32", kernel_initializer="zeros"
        )
        self.log_factor = self.add_weight(
            shape=(num_parameters,),
            initializer=keras.initializers.Constant(np.log(NORMAL_FACTOR)),
            trainable=False,
            name="log_factor",
        )

    @property
    def factors(self) -> np.ndarray:
        """Half width of the 95 % interval in standard deviations, (Q,); 1.96 for normal errors."""
        return np.exp(keras.ops.convert_to_numpy(self.log_factor))

    def build(self, inputs_shape: Any, log_bound_shape: Any = None) -> None:
        """Create the weights."""
        inner = (*inputs_shape[:-1], self.features)
        self.inner_1.build(inputs_shape)
        self.inner_2.build(inner)
        self.outer.build(inner)
        self.built = True

    def call(self, inputs: Any, log_bound: Any) -> Any:
        """Logarithm of the standard deviations (..., Q)."""
        correction = self.outer(self.inner_2(self.inner_1(inputs)))
        return keras.ops.clip(log_bound + correction, *LOG_LIMITS)

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        config = {"num_parameters": self.num_parameters, "features": self.features}
        return {**super().get_config(), **config}


def num_inputs(num_parameters: int, features: int) -> int:
    """Channels of the head's input beside a cell of so many features."""
    return 2 * features + 5 * num_parameters + 1


def head_inputs(
    u: Any, states: Any, likelihood: Likelihood, relative: Any = None
) -> tuple[tf.Tensor, tf.Tensor]:
    """The head's inputs for an estimate.

    Parameters
    ----------
    u : tensor, shape (b, h, w, Q)
        Last estimate, in the network's coordinates.
    states : pair of tensors, shape (b, h, w, features)
        Last memory states of the cell.
    likelihood : Likelihood
        Of the images.
    relative : tensor, shape (b, h, w, Q), optional
        The estimate as the cell sees it; by default `u`.

    Returns
    -------
    inputs : tensor, shape (b, h, w, 2 features + 5 Q + 1)
        The states, the estimate, the likelihood's features at u, the bound and the noise.
    log_bound : tensor, shape (b, h, w, Q)
        Logarithm of the bound of a voxel's standard deviations, in the network's coordinates.
    """
    pair = likelihood.gradient_and_information(u)
    log_bound = _log_bound(pair[1], likelihood.model, likelihood.coordinates)
    noise = _OF_LOGARITHM * tf.math.log(likelihood.sigma)[..., None] * tf.ones_like(u[..., :1])
    states = [tf.cast(state, tf.float32) for state in states]
    estimate = u if relative is None else relative
    inputs = [*states, estimate, whitened(*pair), _OF_LOGARITHM * log_bound, noise]
    return tf.concat(inputs, axis=-1), log_bound


def std_of(log_std: Any, u: Any, model: SignalModel, coordinates: str) -> tf.Tensor:
    """Standard deviations of kappa, (b, h, w, Q), from those of u: ``exp(log_std) dkappa/du``."""
    return tf.exp(log_std) * derivative(to_kappa(u, model, coordinates), model, coordinates)


def _log_bound(information: Any, model: SignalModel, coordinates: str) -> tf.Tensor:
    """Logarithm of ``sqrt(diag((F + P)^-1))``, P being a weak prior's information."""
    of_log, of_other = PRIOR_STD
    prior = np.array(
        [
            (of_log if coordinate.logarithmic else of_other) ** -2
            for coordinate in coordinates_of(model, coordinates)
        ],
        np.float32,
    )
    variance = _diagonal_of_inverse(information + tf.linalg.diag(tf.constant(prior)), prior)
    return 0.5 * tf.math.log(tf.maximum(variance, _SMALLEST_VARIANCE))


def _diagonal_of_inverse(M: tf.Tensor, least: np.ndarray) -> tf.Tensor:
    """Diagonal of the inverse of small symmetric positive matrices, by elimination.

    The Schur complement of an entry is at least `least`, which is part of M's diagonal; rounding
    may leave less.
    """
    size = M.shape[-1]
    variances = []
    for last in range(size):
        order = [q for q in range(size) if q != last] + [last]
        rows = [[M[..., i, j] for j in order] for i in order]
        rows, _ = eliminate(rows, [0.0] * size)
        variances.append(1.0 / tf.maximum(rows[-1][-1], least[last]))
    return tf.stack(variances, axis=-1)
