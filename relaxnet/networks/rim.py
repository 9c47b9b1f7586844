"""The recurrent inference machine (paper, sections 3 and 4.4.4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from relaxnet.networks import protocol_scale, shared_parameter
from relaxnet.networks.conv_gru import ConvGRUCell
from relaxnet.networks.error_head import ErrorHead, head_inputs, num_inputs, std_of
from relaxnet.networks.frameworks import keras, tf
from relaxnet.networks.keras_model import Model
from relaxnet.networks.likelihood import Likelihood
from relaxnet.networks.network import TrainableNetwork
from relaxnet.networks.parametrization import COORDINATES, from_kappa, to_kappa
from relaxsim.models.registry import signal_model

#: The paper's recipe: raw gradient by tape, differentiated through; linear coordinates.
PAPER = {"gradient": "raw", "coordinates": "linear"}
#: The default: whitened gradient, logarithmic coordinates.
DEFAULT = {"gradient": "whitened", "coordinates": "log", "fit_steps": True}


@keras.saving.register_keras_serializable(package="relaxnet")
class RNNCell(keras.layers.Layer):
    """Four convolutions and two gated recurrent units (paper, Fig. 1a, right).

    Parameters
    ----------
    num_outputs : int
        Q, channels of the update.
    features : int
        Channels inside.
    """

    def __init__(self, num_outputs: int, features: int = 36, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.num_outputs = num_outputs
        self.features = features
        policy = self.dtype_policy

        def convolution(name: str) -> keras.layers.Layer:
            return keras.layers.Conv2D(
                features,
                3,
                padding="same",
                data_format="channels_last",
                activation="tanh",
                name=name,
                dtype=policy,
                kernel_initializer="he_normal",
            )

        self.conv_1 = convolution("conv_1")
        self.gru_1 = ConvGRUCell(features, name="gru_1", dtype=policy)
        self.conv_2 = convolution("conv_2")
        self.conv_3 = convolution("conv_3")
        self.gru_2 = ConvGRUCell(features, name="gru_2", dtype=policy)
        self.conv_4 = keras.layers.Dense(
            num_outputs, name="conv_4", dtype="float32", kernel_initializer="zeros"
        )

    @property
    def halo(self) -> int:
        """Voxels on each side that one step depends on: three 3 x 3 convolutions."""
        return 3

    def build(self, inputs_shape: Any, states_shape: Any = None) -> None:
        """Create the weights."""
        inner = (*inputs_shape[:-1], self.features)
        self.conv_1.build(inputs_shape)
        for layer in (self.gru_1, self.conv_2, self.conv_3, self.gru_2, self.conv_4):
            layer.build(inner)
        self.built = True

    def call(self, inputs: Any, states: Any) -> tuple[Any, Any]:
        """Update (b, h, w, Q) and the two new memory states (b, h, w, features)."""
        x, h1 = self.gru_1(self.conv_1(inputs), states[0])
        x, h2 = self.gru_2(self.conv_3(self.conv_2(x)), states[1])
        return self.conv_4(x), (h1, h2)

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        config = {"num_outputs": self.num_outputs, "features": self.features}
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable(package="relaxnet")
class RIM(Model):
    """Recurrent inference machine for one signal model and any protocol.

    Parameters
    ----------
    model : str
        Name of the signal model.
    features : int
        Channels inside the cell.
    num_steps : int
        J, optimisation steps.
    gradient : str
        ``raw``: an input of the cell is the gradient of the negative log-likelihood (paper).
        ``whitened``: it is `relaxnet.networks.likelihood.whitened`, which is of order one.
    coordinates : str
        ``linear`` or ``log``; see `relaxnet.networks.parametrization`.
    fit_steps : bool
        Further inputs of the cell are features of the neighbourhood, if the model has a parameter
        that neighbours share (`relaxnet.networks.shared_parameter`), and of how well the signal
        fits. The update is then the sum of the cell's output and of the steps that fits would take
        (`relaxnet.networks.likelihood.Likelihood.whitened_and_steps`), each times a weight that
        the cell also outputs. Where the data determine the parameters well, the network need not
        learn to repeat the fit.
    times : str
        ``absolute``: the cell sees relaxation times as they are. ``relative``: it sees them
        relative to the longest time of the protocol, and they start at a part of it
        (`relaxnet.networks.protocol_scale`), so that lists that differ by a factor alone are the
        same to the network. It takes ``log`` coordinates.
    uncertainty : bool
        With an error head, which gives standard deviations (`with_std`).

    Notes
    -----
    Call ``rim([S, protocol, sigma])`` with S (b, h, w, N) divided by the series' scale, the
    protocol (N, D), (N,) of a model with one column, or (b, N, D), and sigma (b,), or (b, h, w) of
    each voxel, in the unit of S. The fourth input, None or (b,), is 1 where noise is Rician and 0
    where it is Gaussian; the paper's recipe takes all noise for Gaussian. The fifth, a boolean (),
    says whether the images carry the signal's sign, where the model has a modulus: the same weights
    serve both, since the features of the likelihood mean the same. The sixth, (b, h, w, K), holds
    the model's known maps. The result is kappa_hat (J, b, h, w, Q) after each step, A in the unit
    of S; the last step is the estimate.
    """

    architecture = "rim"
    #: As cards call the architecture.
    kind = architecture
    num_images: int | None = None
    takes_protocol = True
    takes_sign = True
    takes_sigma = True
    takes_sigma_map = True

    def __init__(
        self,
        model: str,
        features: int = 36,
        num_steps: int = 6,
        gradient: str = "whitened",
        coordinates: str = "log",
        fit_steps: bool = False,
        uncertainty: bool = False,
        times: str = "absolute",
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.model = signal_model(model)
        self.features = features
        self.num_steps = num_steps
        self.gradient = gradient
        self.coordinates = coordinates
        self.fit_steps = fit_steps
        self.times = times
        if times not in protocol_scale.TIMES or (times == "relative" and coordinates != "log"):
            raise ValueError(f"times are {times!r} with {coordinates} coordinates")
        if gradient not in ("raw", "whitened") or coordinates not in COORDINATES:
            raise ValueError(f"no such gradient or coordinates: {gradient!r}, {coordinates!r}.")
        if fit_steps and gradient == "raw":
            raise ValueError("fit_steps takes gradient='whitened'")
        Q, of_neighbours = self.model.num_parameters, shared_parameter.num_channels(self.model)
        num_fits = (1 if self.model.shared is None else 2) if fit_steps else 0
        self.cell = RNNCell(Q * (1 + num_fits), features, name="cell", dtype=self.dtype_policy)
        channels = 2 * Q if gradient == "raw" else 4 * Q + (of_neighbours + 1 if fit_steps else 0)
        self.cell.build((None, None, None, channels))
        self.error_head: Any = ErrorHead(Q, name="error_head") if uncertainty else None
        if self.error_head is not None:
            self.error_head.build((None, None, None, num_inputs(Q, features)))
        self.built = True

    @property
    def signal_model(self) -> str:
        """Name of the signal model."""
        return self.model.name

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of kappa's last axis."""
        return self.model.parameters

    @property
    def has_std(self) -> bool:
        """Whether there is an error head, which `with_std` needs."""
        return self.error_head is not None

    @property
    def takes_rician(self) -> bool:
        """Whether estimates depend on the noise being Rician or Gaussian."""
        return self.gradient != "raw"

    @property
    def halo(self) -> int:
        """Voxels on each side that the estimate depends on."""
        reach = shared_parameter.reach(self.model) if self.fit_steps else 0
        return (self.cell.halo + reach) * self.num_steps

    def build(self, input_shape: Any = None) -> None:
        """Weights exist from the start: their shapes do not depend on the input."""
        self.built = True

    def call(self, inputs: Sequence[Any], training: bool = False) -> tf.Tensor:
        """Kappa after each step, shape (J, b, h, w, Q)."""
        steps = self.steps(inputs)
        return tf.stack([to_kappa(u, self.model, self.coordinates) for u in steps])

    def estimate(self, inputs: Sequence[Any]) -> tf.Tensor:
        """The last step's kappa, shape (b, h, w, Q)."""
        return to_kappa(self.last(inputs)[0], self.model, self.coordinates)

    def with_std(self, inputs: Sequence[Any]) -> tuple[tf.Tensor, tf.Tensor]:
        """The last step's kappa and its standard deviations, each (b, h, w, Q).

        Raises
        ------
        ValueError
            If there is no error head.
        """
        if self.error_head is None:
            raise ValueError("the network has no error head, which gives standard deviations")
        u, states = self.last(inputs)
        log_std = self.error_head(*self.head_inputs(u, states, self.likelihood(inputs)))
        std = std_of(log_std, u, self.model, self.coordinates)
        return to_kappa(u, self.model, self.coordinates), std

    def head_inputs(self, u: Any, states: Any, likelihood: Likelihood) -> tuple[Any, Any]:
        """Inputs of the error head (`relaxnet.networks.error_head.head_inputs`)."""
        return head_inputs(u, states, likelihood, self._relative(u, likelihood))

    def last(self, inputs: Sequence[Any]) -> tuple[tf.Tensor, Any]:
        """The last u (b, h, w, Q), and the cell's last states.

        The steps are a loop in the graph, which takes a sixth of the time of `steps` to build.
        """
        likelihood = self.likelihood(inputs)

        def step(j: Any, u: Any, h1: Any, h2: Any) -> tuple[Any, Any, Any, Any]:
            u, (h1, h2) = self._step(u, (h1, h2), likelihood)
            return j + 1, u, h1, h2

        u, states = self._start(likelihood)
        loop = (tf.constant(0), u, *states)
        _, u, *states = tf.while_loop(
            lambda j, *_: j < self.num_steps, step, loop, parallel_iterations=1
        )
        return u, tuple(states)

    def with_error_head(self) -> RIM:
        """A copy of this network with a new error head."""
        return self._copy(uncertainty=True)

    def without_error_head(self) -> RIM:
        """The network itself, or a copy of it that has no error head."""
        return self if self.error_head is None else self._copy(uncertainty=False)

    def with_fit_steps(self) -> RIM:
        """A copy that may take the steps of fits; its new weights are 0: the same estimates."""
        return self._copy(fit_steps=True, uncertainty=False)

    def to_train_on(self, fit_steps: bool) -> RIM:
        """The network from which training goes on; see `TrainableNetwork`."""
        network = self.without_error_head()
        return network.with_fit_steps() if fit_steps and self.gradient == "whitened" else network

    def size(self) -> dict[str, int]:
        """Settings of training that the network itself decides."""
        return {"features": self.features, "num_steps": self.num_steps}

    def _copy(self, **changes: Any) -> RIM:
        """A copy with other constructor arguments; weights that this one lacks are 0."""
        copy = RIM.from_config({**self.get_config(), **changes})
        pairs = zip(self.cell.get_weights(), copy.cell.get_weights(), strict=True)
        copy.cell.set_weights([_padded(weights, new.shape) for weights, new in pairs])
        return copy

    def steps(self, inputs: Sequence[Any], training: bool = False) -> list[tf.Tensor]:
        """U after each step (Eqs. 4 and 5): J tensors (b, h, w, Q)."""
        likelihood = self.likelihood(inputs)
        u, states = self._start(likelihood)
        estimates = []
        for _ in range(self.num_steps):
            u, states = self._step(u, states, likelihood)
            estimates.append(u)
        return estimates

    def _start(self, likelihood: Likelihood) -> tuple[tf.Tensor, Any]:
        """The start values as u, and the cell's empty states."""
        S, protocol = likelihood.S, likelihood.protocol
        mip = tf.reduce_max(tf.abs(S) if self.model.magnitude else S, axis=-1)
        kappa = self.model.start_from(mip, tf, protocol)
        if self.times == "relative":
            kappa = protocol_scale.start_times(kappa, protocol, self.model)
        u = from_kappa(kappa, self.model, self.coordinates)
        zeros = tf.zeros((*tf.unstack(tf.shape(S))[:3], self.features), self.compute_dtype)
        return u, (zeros, zeros)

    def _step(self, u: Any, states: Any, likelihood: Likelihood) -> tuple[tf.Tensor, Any]:
        """U and the cell's states after one more step."""
        features, fits = self.likelihood_features(u, likelihood)
        relative = self._relative(u, likelihood)
        outputs, states = self.cell(tf.concat([relative, features], axis=-1), states)
        return u + self._update(outputs, fits), states

    def _relative(self, u: Any, likelihood: Likelihood) -> Any:
        """U as the cell sees it: without what the protocol alone makes large or small."""
        if self.coordinates != "log" or not (self.model.weak or self.times == "relative"):
            return u
        protocol = likelihood.protocol
        return u - protocol_scale.offsets(protocol, self.model, self.times == "relative")

    def likelihood(self, inputs: Sequence[Any]) -> Likelihood:
        """Likelihood of the network's inputs; those after sigma may be left out."""
        S, protocol, sigma = (tf.cast(x, tf.float32) for x in inputs[:3])
        rician, signed, known = (*inputs[3:], None, None, None)[:3]
        rician, known = (None if x is None else tf.cast(x, tf.float32) for x in (rician, known))
        return Likelihood(S, protocol, sigma, self.model, self.coordinates, rician, signed, known)

    def likelihood_features(self, u: Any, likelihood: Likelihood) -> tuple[Any, Any]:
        """The cell's inputs from the likelihood at u, and the steps that it may take, or None."""
        if self.gradient == "raw":
            return likelihood.gradient(u), None
        u = tf.stop_gradient(u)
        if not self.fit_steps:
            return tf.stop_gradient(likelihood.whitened(u)), None
        features, fits = likelihood.whitened_and_steps(u)
        return tf.stop_gradient(features), tf.stop_gradient(fits)

    def _update(self, outputs: Any, fits: Any) -> tf.Tensor:
        """The first Q outputs plus the steps of fits (..., K, Q), weighted by the other outputs."""
        if fits is None:
            return outputs
        Q = self.model.num_parameters
        update, *weights = tf.split(outputs, outputs.shape[-1] // Q, axis=-1)
        return tf.add_n([update, *(w * fits[..., k, :] for k, w in enumerate(weights))])

    def scaled(self, kappa: Any) -> tf.Tensor:
        """Kappa in the coordinates in which the loss compares it."""
        return from_kappa(kappa, self.model, self.coordinates)

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        config = {
            "model": self.model.name,
            "features": self.features,
            "num_steps": self.num_steps,
            "gradient": self.gradient,
            "coordinates": self.coordinates,
            "fit_steps": self.fit_steps,
            "uncertainty": self.has_std,
            "times": self.times,
        }
        return {**super().get_config(), **config}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> RIM:
        """A new network; older files hold an argument ``signed``, which has no meaning now."""
        return cls(**{key: value for key, value in config.items() if key != "signed"})


def _padded(weights: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Weights with zeros after them along each axis."""
    return np.pad(weights, [(0, n - m) for n, m in zip(shape, weights.shape, strict=True)])


#: Lets the type checker find what a network lacks.
_NETWORK: type[TrainableNetwork] = RIM
