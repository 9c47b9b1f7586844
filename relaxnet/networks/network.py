"""What a network is to everything that uses one; `RIM` and `ResNet` are networks."""

from __future__ import annotations

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
    halo : int
        Voxels on each side that an estimate depends on.
    takes_protocol : bool
        Whether the protocol is an input; otherwise it knows one list of times alone.
    takes_sign, takes_rician, takes_sigma, takes_sigma_map : bool
        What else it makes use of: images with the signal's sign, that noise is Rician, the noise's
        standard deviation, and one for each voxel.
    has_std : bool
        Whether `with_std` can be asked.
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
        """Whether it makes a difference that noise is Rician."""
        ...

    @property
    def has_std(self) -> bool:
        """Whether `with_std` can be asked."""
        ...

    def steps(self, inputs: Any, training: bool = False) -> list[Any]:
        """Scaled parameters after each step, J tensors (b, h, w, Q).

        `inputs` are S (b, h, w, N) in units of the series' scale, the protocol (N, D) or
        (b, N, D), sigma (b,) or (b, h, w), and optionally whether noise is Rician (b,), whether
        images carry the sign (), and the known maps (b, h, w, K); None stands for what is not
        given.
        """
        ...

    def estimate(self, inputs: Any) -> Any:
        """The last step's kappa, (b, h, w, Q)."""
        ...

    def with_std(self, inputs: Any) -> tuple[Any, Any]:
        """The last step's kappa and its standard deviations, each (b, h, w, Q)."""
        ...

    def scaled(self, kappa: Any) -> Any:
        """Kappa in the coordinates in which the loss compares it."""
        ...
