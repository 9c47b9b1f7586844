"""Coordinates: the scaled parameters u in which networks update and compare kappa.

``linear`` (paper recipe): A and B as they are, T in seconds. ``log`` (default): the logarithm of
A and of T in seconds, B as it is; A and T then stay positive by construction, and a difference in
u is a relative error.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from relaxsim.models.signal_model import SignalModel

COORDINATES = ("linear", "log")
#: Smallest amplitude told apart from none, as a share of the series' scale.
SMALLEST_A = 1e-3
#: T in ms beyond which the logarithm is cut, so that no exponential overflows.
T_LIMITS = (1.0, 20000.0)


def is_logarithmic(model: SignalModel, coordinates: str) -> list[bool]:
    """Which parameters are updated as logarithms: A and the relaxation time."""
    last = model.num_parameters - 1
    return [
        coordinates == "log" and (name == "A" or q == last)
        for q, name in enumerate(model.parameters)
    ]


def from_kappa(kappa: Any, model: SignalModel, coordinates: str) -> tf.Tensor:
    """U of kappa, shape (..., Q); A in units of the series' scale, T in ms."""
    columns = tf.unstack(kappa, axis=-1)
    columns[-1] = columns[-1] / 1000.0
    for q, log in enumerate(is_logarithmic(model, coordinates)):
        if log:
            floor = SMALLEST_A if q != model.num_parameters - 1 else T_LIMITS[0] / 1000.0
            columns[q] = tf.math.log(tf.maximum(columns[q], floor))
    return tf.stack(columns, axis=-1)


def to_kappa(u: Any, model: SignalModel, coordinates: str) -> tf.Tensor:
    """Kappa of u, shape (..., Q)."""
    columns = tf.unstack(u, axis=-1)
    low, high = (t / 1000.0 for t in T_LIMITS)
    logarithmic = is_logarithmic(model, coordinates)
    for q, log in enumerate(logarithmic):
        if log:
            columns[q] = tf.exp(tf.clip_by_value(columns[q], -10.0, 10.0))
    columns[-1] = 1000.0 * tf.clip_by_value(columns[-1], low, high)
    return tf.stack(columns, axis=-1)


def derivative(kappa: Any, model: SignalModel, coordinates: str) -> tf.Tensor:
    """Diagonal of d kappa / d u at kappa, shape (..., Q)."""
    columns = tf.unstack(kappa, axis=-1)
    logarithmic = is_logarithmic(model, coordinates)
    for q, log in enumerate(logarithmic):
        if not log:
            scale = 1000.0 if q == model.num_parameters - 1 else 1.0
            columns[q] = keras.ops.full_like(columns[q], scale)
    return tf.stack(columns, axis=-1)
