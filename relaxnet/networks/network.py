"""What a network is to everything that uses one; `RIM` and `ResNet` are networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from relaxsim.models.signal_model import SignalModel


class Network(Protocol):
    """A trained network that estimates the parameters of a signal model.

    Attributes
    ----------
    architecture : str
        ``rim`` or ``resnet``.
    model : SignalModel
    num_images : int or None
        Number of images that it takes; None for any.
    takes_protocol : bool
        Whether the protocol is an input; otherwise the network serves one list of times alone.
    takes_sign : bool
        Whether it makes use of images that carry the signal's sign; otherwise it has learned from
        moduli.
    takes_sigma, takes_sigma_map : bool
        Whether the noise's standard deviation is an input, and whether each voxel may have its own.
    """

    architecture: str
    model: SignalModel
    num_images: int | None
    takes_protocol: bool
    takes_sign: bool
    takes_sigma: bool
    takes_sigma_map: bool

    @property
    def halo(self) -> int:
        """Voxels on each side that an estimate depends on."""
        ...

    @property
    def takes_rician(self) -> bool:
        """Whether estimates depend on the noise being Rician or Gaussian."""
        ...

    @property
    def has_std(self) -> bool:
        """Whether `with_std` gives standard deviations."""
        ...

    def estimate(self, inputs: Sequence[Any]) -> Any:
        """Kappa, (b, h, w, Q).

        `inputs` are S (b, h, w, N) in units of the series' scale, the protocol (N, D) or
        (b, N, D), sigma (b,) or (b, h, w), and optionally whether noise is Rician (b,), whether
        images carry the sign (), and the known maps (b, h, w, K); None stands for what is not
        given.
        """
        ...

    def with_std(self, inputs: Sequence[Any]) -> tuple[Any, Any]:
        """Kappa and its standard deviations, each (b, h, w, Q).

        Raises
        ------
        ValueError
            If the network has none (`has_std`).
        """
        ...


class TrainableNetwork(Network, Protocol):
    """A network as training sees it: a Keras model that gives all its steps."""

    dtype_policy: Any

    @property
    def variables(self) -> list[Any]:
        """All variables."""
        ...

    @property
    def trainable_variables(self) -> list[Any]:
        """Those that training changes."""
        ...

    @property
    def non_trainable_variables(self) -> list[Any]:
        """Running statistics."""
        ...

    def steps(self, inputs: Sequence[Any], training: bool = False) -> list[Any]:
        """Scaled parameters after each step, J tensors (b, h, w, Q)."""
        ...

    def scaled(self, kappa: Any) -> Any:
        """Kappa in the coordinates in which the loss compares it."""
        ...

    def to_train_on(self, fit_steps: bool) -> TrainableNetwork:
        """The network from which training goes on, with its weights.

        It has no error head, since the errors that a head was fitted to are no longer the
        network's. `fit_steps` asks for `relaxnet.networks.rim.RIM`'s steps of fits where it can
        take them.
        """
        ...

    def size(self) -> dict[str, int]:
        """Settings of training that the network itself decides."""
        ...

    def get_weights(self) -> list[Any]:
        """Arrays of all variables."""
        ...

    def set_weights(self, weights: list[Any]) -> None:
        """Set all variables."""
        ...

    def count_params(self) -> int:
        """Number of weights."""
        ...

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        ...

    def save(self, filepath: Any) -> None:
        """Write a ``.keras`` file."""
        ...
