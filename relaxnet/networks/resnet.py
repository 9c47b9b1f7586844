"""The residual network that the paper compares with (section 4.4.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from relaxnet.networks.frameworks import keras, tf
from relaxnet.networks.keras_model import Model
from relaxnet.networks.network import TrainableNetwork
from relaxnet.networks.parametrization import from_kappa, to_kappa
from relaxsim.models.registry import signal_model

#: The widths that the paper lists: eleven, though it speaks of G = 12 blocks.
WIDTHS = (40, 40, 80, 80, 160, 320, 160, 80, 80, 40, 6)


@keras.saving.register_keras_serializable(package="relaxnet")
class ResidualBlock(keras.layers.Layer):
    """Two 3 x 3 convolutions with BatchNorm and ReLU, and a skip connection.

    The skip is added to the second BatchNorm's output, before the second ReLU. Where the width
    changes it is a 1 x 1 projection.
    """

    def __init__(self, inputs: int, width: int, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.inputs, self.width = inputs, width
        policy = self.dtype_policy

        def convolution(name: str) -> keras.layers.Layer:
            return keras.layers.Conv2D(
                width,
                3,
                padding="same",
                data_format="channels_last",
                use_bias=False,
                kernel_initializer="he_normal",
                name=name,
                dtype=policy,
            )

        def norm(name: str) -> keras.layers.Layer:
            return keras.layers.BatchNormalization(name=name, dtype=policy)

        self.conv_1, self.norm_1 = convolution("conv_1"), norm("norm_1")
        self.conv_2, self.norm_2 = convolution("conv_2"), norm("norm_2")
        self.skip = None
        if inputs != width:
            self.skip = keras.layers.Dense(width, use_bias=False, name="skip", dtype=policy)

    def build(self, input_shape: Any = None) -> None:
        """Create the weights."""
        before, after = (None, None, None, self.inputs), (None, None, None, self.width)
        self.conv_1.build(before)
        self.conv_2.build(after)
        self.norm_1.build(after)
        self.norm_2.build(after)
        if self.skip is not None:
            self.skip.build(before)
        self.built = True

    def call(self, x: Any, training: bool = False) -> Any:
        """Features (b, h, w, width)."""
        skip = x if self.skip is None else self.skip(x)
        x = tf.nn.relu(self.norm_1(self.conv_1(x), training=training))
        x = self.norm_2(self.conv_2(x), training=training)
        return tf.nn.relu(x + skip)

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {**super().get_config(), "inputs": self.inputs, "width": self.width}


@keras.saving.register_keras_serializable(package="relaxnet")
class ResNet(Model):
    """Residual network from weighted images to kappa, for one protocol.

    Parameters
    ----------
    model : str
        Name of the signal model.
    num_images : int
        N, the weighted images that it takes.
    widths : sequence of int
        Channels of each block.

    Notes
    -----
    Called as the RIM is, ``resnet([S, protocol, sigma])``. It makes use of S alone, of its modulus
    if the model has one, and of the known maps of a model that has any, which are further channels
    of the input. It returns its single estimate with a leading axis of one, (1, b, h, w, Q).
    """

    architecture = "resnet"
    #: As cards call the architecture.
    kind = architecture
    coordinates = "log"
    takes_protocol = False
    takes_sign = False
    takes_sigma = False
    takes_sigma_map = False
    takes_rician = False
    has_std = False

    def __init__(
        self,
        model: str,
        num_images: int = 31,
        widths: tuple[int, ...] = WIDTHS,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.model = signal_model(model)
        self.num_images: int | None = num_images
        self.channels = num_images + len(self.model.known_maps)
        self.widths = tuple(widths)
        policy = self.dtype_policy
        self.first = keras.layers.Dense(self.widths[0], name="first", dtype=policy)
        self.first_norm = keras.layers.BatchNormalization(name="first_norm", dtype=policy)
        before = (self.widths[0], *self.widths[:-1])
        self.blocks = [
            ResidualBlock(i, w, name=f"block_{k}", dtype=policy)
            for k, (i, w) in enumerate(zip(before, self.widths, strict=True))
        ]
        # float16 is for storage; estimates are float32 otherwise
        exact = policy if policy.name == "float16" else "float32"
        self.last = keras.layers.Dense(self.model.num_parameters, name="last", dtype=exact)
        self.build()

    @property
    def signal_model(self) -> str:
        """Name of the signal model."""
        return self.model.name

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of kappa's last axis."""
        return self.model.parameters

    @property
    def halo(self) -> int:
        """Voxels on each side that the estimate depends on: two 3 x 3 convolutions a block."""
        return 2 * len(self.blocks)

    def build(self, input_shape: Any = None) -> None:
        """Create the weights."""
        self.first.build((None, None, None, self.channels))
        self.first_norm.build((None, None, None, self.widths[0]))
        for block in self.blocks:
            block.build()
        self.last.build((None, None, None, self.widths[-1]))
        self.built = True

    def call(self, inputs: Sequence[Any], training: bool = False) -> tf.Tensor:
        """Kappa, shape (1, b, h, w, Q)."""
        u = self.steps(inputs, training)[0]
        return to_kappa(u, self.model, self.coordinates)[None]

    def estimate(self, inputs: Sequence[Any]) -> tf.Tensor:
        """Kappa, shape (b, h, w, Q)."""
        return self(inputs)[-1]

    def steps(self, inputs: Sequence[Any], training: bool = False) -> list[tf.Tensor]:
        """The one estimate u (b, h, w, Q), in a list."""
        S = tf.abs(inputs[0]) if self.model.magnitude else inputs[0]
        x = self._with_known_maps(S, inputs[5] if len(inputs) > 5 else None)
        x = tf.nn.relu(self.first_norm(self.first(x), training=training))
        for block in self.blocks:
            x = block(x, training=training)
        return [self.last(x)]

    def _with_known_maps(self, S: Any, known: Any) -> Any:
        """Images and known maps as channels; maps that are not given have their default values."""
        if not self.model.known_maps:
            return S
        if known is None:
            known = tf.constant([m.default for m in self.model.known_maps], tf.float32)
        shape = (*tf.unstack(tf.shape(S)[:-1]), len(self.model.known_maps))
        known = tf.broadcast_to(tf.cast(known, tf.float32), shape)
        return tf.concat([tf.cast(S, tf.float32), known], axis=-1)

    def with_std(self, inputs: Sequence[Any]) -> tuple[tf.Tensor, tf.Tensor]:
        """A residual network has no standard deviations; raises ValueError."""
        raise ValueError("a residual network has no error head, which gives standard deviations")

    def to_train_on(self, fit_steps: bool) -> ResNet:
        """The network itself; see `TrainableNetwork`."""
        return self

    def size(self) -> dict[str, int]:
        """Settings of training that the network itself decides: none."""
        return {}

    def scaled(self, kappa: Any) -> tf.Tensor:
        """Kappa in the coordinates in which the loss compares it."""
        return from_kappa(kappa, self.model, self.coordinates)

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        config = {
            "model": self.model.name,
            "num_images": self.num_images,
            "widths": self.widths,
        }
        return {**super().get_config(), **config}


#: Lets the type checker find what a network lacks.
_NETWORK: type[TrainableNetwork] = ResNet
