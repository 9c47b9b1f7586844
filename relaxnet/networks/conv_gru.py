"""Convolutional gated recurrent unit."""

from __future__ import annotations

from typing import Any

from relaxnet.networks.frameworks import keras, tf

ops = keras.ops


@keras.saving.register_keras_serializable(package="relaxnet")
class ConvGRUCell(keras.layers.Layer):
    """Gated recurrent unit whose matrix products are convolutions.

    The reset gate acts after the recurrent product. `of_input` and `of_state` hold the weights of
    the reset gate, the update gate and the candidate, in this order.

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
        super().__init__(**{"dtype": "float32", **kwargs})
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
        """New output and state.

        The two gates are one product of inputs and state together: bias and sigmoid then run
        within it, and no gate is cut out of a larger tensor and copied.
        """
        F, shape = self.features, ops.shape(states)
        if self.kernel_size == 1:  # a product of matrices
            inputs = ops.reshape(inputs, (-1, inputs.shape[-1]))
            states = ops.reshape(states, (-1, F))
        kernels = [ops.convert_to_tensor(x.kernel) for x in (self.of_input, self.of_state)]
        biases = [ops.convert_to_tensor(x.bias) for x in (self.of_input, self.of_state)]
        both = ops.concatenate([inputs, states], axis=-1)
        kernel = ops.concatenate([k[..., : 2 * F] for k in kernels], axis=-2)
        gates = ops.sigmoid(_product(both, kernel, sum(b[: 2 * F] for b in biases)))
        reset, update = gates[..., :F], gates[..., F:]
        from_input, from_state = (
            _product(x, k[..., 2 * F :], b[2 * F :])
            for x, k, b in zip((inputs, states), kernels, biases, strict=True)
        )
        candidate = ops.tanh(from_input + reset * from_state)
        states = ops.reshape(candidate + update * (states - candidate), shape)
        return states, states

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        config = {"features": self.features, "kernel_size": self.kernel_size}
        return {**super().get_config(), **config}


def _product(x: Any, kernel: Any, bias: Any) -> Any:
    """Convolution, or the product with a matrix, plus bias."""
    if len(kernel.shape) == 2:
        return tf.nn.bias_add(tf.matmul(x, kernel), bias)
    return tf.nn.bias_add(tf.nn.conv2d(x, kernel, 1, "SAME"), bias)


def _linear(channels: int, kernel_size: int, name: str, dtype: Any) -> keras.layers.Layer:
    """Convolution; of width 1 it is a matrix product over the last axis, which runs faster."""
    if kernel_size == 1:
        return keras.layers.Dense(channels, name=name, dtype=dtype)
    return keras.layers.Conv2D(
        channels, kernel_size, padding="same", name=name, dtype=dtype, data_format="channels_last"
    )
