"""What the modules of training share: the settings of a run, its progress, and its errors."""

from __future__ import annotations

from dataclasses import dataclass

#: TensorBoard's event files of a run, as a pattern; a resumed run writes a new one.
EVENTS = "events.out.tfevents.*"


class TrainingError(ValueError):
    """Training cannot start or go on; one line."""


@dataclass(frozen=True)
class Settings:
    """All settings of a run; each is an option of ``relaxnet train`` or follows from its recipe.

    Attributes
    ----------
    data : tuple of str
        Folders of shards.
    validation : tuple of str
        Folders of validation shards; empty holds back some of `data` (`relaxnet.training.split`).
    model : str
        Architecture: ``rim`` or ``resnet``.
    recipe : str
        ``default`` or ``paper``.
    iterations, batch_size : int
    learning_rate : float
        Of Adam: the highest (paper recipe: throughout; default: falling by a cosine to 1 %).
    features, num_steps : int
        Of the RIM.
    times : str
        How the RIM sees relaxation times: ``absolute``, or ``relative`` to the protocol's longest
        (`relaxnet.networks.protocol_scale`).
    init : str
        Network to start from, or empty; it brings its own features, steps and times.
    seed : int
    deterministic : bool
        Bitwise repeatable operations.
    precision : str
        ``float32``, or ``mixed_bfloat16``: convolutions in bfloat16; weights, likelihood and the
        saved network in float32.
    bias_weight : float
        Of the squared mean error of a patch's tissues, beside the squared error of its voxels
        (`relaxnet.training.loss.patch_loss`): above 0, less bias for more variance. Not in the
        paper's recipe.

    Raises
    ------
    ValueError
        If the paper's recipe is given a bias weight.
    """

    data: tuple[str, ...]
    validation: tuple[str, ...] = ()
    model: str = "rim"
    recipe: str = "default"
    iterations: int = 3000
    batch_size: int = 24
    learning_rate: float = 1e-3
    features: int = 36
    num_steps: int = 6
    times: str = "absolute"
    init: str = ""
    seed: int = 0
    deterministic: bool = False
    precision: str = "float32"
    bias_weight: float = 0.0

    def __post_init__(self) -> None:
        if self.bias_weight and self.recipe == "paper":
            raise ValueError(
                f"`bias_weight` {self.bias_weight:g} is not for `recipe` paper: its loss is Eq. 6."
            )


@dataclass(frozen=True)
class Progress:
    """State after an iteration.

    Attributes
    ----------
    iteration : int
        From 1.
    loss : float
    validation_loss : float or None
        None where the network was not validated.
    learning_rate : float
    seconds : float
        Since the start of this run.
    """

    iteration: int
    loss: float
    validation_loss: float | None
    learning_rate: float
    seconds: float
