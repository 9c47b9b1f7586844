"""Convolutional gated recurrent unit."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="relaxnet")
class ConvGRUCell(keras.layers.Layer):
    """Gated recurrent unit whose matrix products are convolutions.

    The reset gate acts after the recurrent product, so that each of input and state takes one
    convolution for its three gates.

    Parameters
    ----------
    features : int
        Channels of the state.
    kernel_size : int
        1 (per voxel, as in the authors' code) or an odd width.

    Notes
    -----
    Call ``cell(inputs, states)`` with inputs (b, h, w, C) and states (b, h, w, features); it
    returns ``(output, new_states)``, which are the same tensor.

    Examples
    --------
    >>> import numpy as np
    >>> cell = ConvGRUCell(4)
    >>> output, state = cell(np.zeros((1, 5, 5, 3), "f"), np.zeros((1, 5, 5, 4), "f"))
    >>> tuple(output.shape)
    (1, 5, 5, 4)
    """

    def __init__(self, features: int, kernel_size: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.features = features
        self.kernel_size = kernel_size
        self.of_input = _linear(3 * features, kernel_size, "of_input", dtype=self.dtype_policy)
        self.of_state = _linear(3 * features, kernel_size, "of_state", dtype=self.dtype_policy)

    def build(self, inputs_shape: Any, states_shape: Any = None) -> None:
        """Create the weights."""
        self.of_input.build(inputs_shape)
        self.of_state.build((*inputs_shape[:-1], self.features))
        self.built = True

    def call(self, inputs: Any, states: Any) -> tuple[Any, Any]:
        """New output and state."""
        xr, xz, xn = ops.split(self.of_input(inputs), 3, axis=-1)
        hr, hz, hn = ops.split(self.of_state(states), 3, axis=-1)
        reset = ops.sigmoid(xr + hr)
        update = ops.sigmoid(xz + hz)
        candidate = ops.tanh(xn + reset * hn)
        states = candidate + update * (states - candidate)
        return states, states

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        config = {"features": self.features, "kernel_size": self.kernel_size}
        return {**super().get_config(), **config}


def _linear(channels: int, kernel_size: int, name: str, dtype: Any) -> keras.layers.Layer:
    """Convolution; of width 1 it is a matrix product over the last axis, which runs faster."""
    if kernel_size == 1:
        return keras.layers.Dense(channels, name=name, dtype=dtype)
    return keras.layers.Conv2D(channels, kernel_size, padding="same", name=name, dtype=dtype)
