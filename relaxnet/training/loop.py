"""Training: a compiled step and a plain loop around it.

`train` yields after every iteration and writes nothing; `run` writes the folder of a run:
``last.keras``, ``best.keras``, ``checkpoint.npz`` (all that a resumed run needs),
``history.csv``, TensorBoard's events of the same curves, and ``settings.json``.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from relaxnet.networks.registry import build_network, load_network, with_policy
from relaxnet.training.dataset import Batch, batches, check_batches, validation_batches
from relaxnet.training.history import History
from relaxnet.training.interruption import Interruption
from relaxnet.training.run_folder import (
    TrainingError,
    check_folder,
    clear_folder,
    load_checkpoint,
    save_checkpoint,
    save_network,
)
from relaxnet.training.split import split
from relaxsim.shards.layout import ShardInfo

SAVE_SECONDS = 60.0
VALIDATE_EVERY = 100
#: By how much the sigma that a RIM is told in training may be wrong, either way.
SIGMA_ERROR = 2.0
#: Of a patch, in the loss: shares of A and T, and the unit of B. Less is not told apart.
LEAST_ERROR = 0.02
#: Width of a tissue in the last coordinate: voxels of a patch whose true T falls in one such bin.
TISSUE_WIDTH = 0.35
#: Bins told apart: with T from 5 to 5000 ms none is used twice.
NUM_TISSUES = 24


@dataclass(frozen=True)
class Settings:
    """All settings of a run; each is a flag of ``relaxnet train`` or follows from its recipe.

    Attributes
    ----------
    data : tuple of str
        Folders of shards.
    validation : tuple of str
        Folders of validation shards; empty holds back some of `data` (`relaxnet.training.split`).
    model : str
        ``rim`` or ``resnet``.
    recipe : str
        ``default`` or ``paper``.
    iterations, batch_size : int
    learning_rate : float
        Of Adam: the highest (paper recipe: throughout; default: falling by a cosine to 1 %).
    features, num_steps : int
        Of the RIM.
    init : str
        Model to start from, or empty.
    seed : int
    deterministic : bool
        Bitwise repeatable operations.
    precision : str
        ``float32``, or ``mixed_bfloat16``: convolutions in bfloat16; weights, likelihood and the
        saved network in float32.
    bias_weight : float
        Of the squared mean error of a patch's tissues, beside the squared error of its voxels
        (`patch_loss`): above 0, less bias for more variance. Not in the paper's recipe.

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
    init: str = ""
    seed: int = 0
    deterministic: bool = False
    precision: str = "float32"
    bias_weight: float = 0.0

    def __post_init__(self) -> None:
        if self.bias_weight and self.recipe == "paper":
            raise ValueError(
                f"--bias-weight {self.bias_weight:g} is not for --recipe paper: its loss is Eq. 6."
            )


@dataclass(frozen=True)
class Progress:
    """State after an iteration: its number (from 1), losses, learning rate, seconds so far."""

    iteration: int
    loss: float
    validation_loss: float | None
    learning_rate: float
    seconds: float


def squared_loss(estimates: Sequence[Any], target: Any, weight: Any) -> tf.Tensor:
    """Eq. 6: squared error in scaled units, averaged over the steps and the voxels that count."""
    weight = weight[..., None]
    total = tf.add_n([tf.reduce_sum(weight * (u - target) ** 2) for u in estimates])
    return total / (len(estimates) * (tf.reduce_sum(weight) + 1e-6))


def patch_loss(
    estimates: Sequence[Any], target: Any, weight: Any, bias_weight: float = 0.0
) -> tf.Tensor:
    """Root mean square error of each patch and parameter: geometric mean of these, mean over steps.

    Within a patch it is Eq. 6's squared error. Between patches a share of the error counts the
    same wherever it is gained: with a plain mean the noisy patches, whose errors are ten times
    larger and mostly beyond help, outweigh the rest. Errors far below `LEAST_ERROR` count no more.

    With `bias_weight` the mean error of each tissue (`tissue_bias`) counts beside the voxels' own:
    the estimate of least squared error leans towards what is common, so that a tissue's mean, from
    which noise has gone, is still off.
    """
    weight = weight[..., None]
    count = tf.reduce_sum(weight, axis=(1, 2)) + 1e-6
    used = tf.cast(count[:, 0] > 1.0, tf.float32)[:, None]
    any_used = tf.reduce_max(used)
    number = target.shape[-1] * (tf.reduce_sum(used) + 1e-6)
    tissues = weight * tissues_of(target[..., -1]) if bias_weight else None
    total = 0.0
    for u in estimates:
        error = u - target
        square = tf.reduce_sum(weight * error**2, axis=(1, 2)) / count
        if tissues is not None:
            square += bias_weight * tissue_bias(error, tissues)
        logs = 0.5 * tf.math.log(square + LEAST_ERROR**2)
        total += any_used * tf.exp(tf.reduce_sum(used * logs) / number)
    return total / len(estimates)


def tissues_of(last: Any) -> tf.Tensor:
    """Which bin of the last coordinate, T, a voxel is of: shape (b, h, w, NUM_TISSUES), one-hot."""
    bins = tf.cast(tf.floor(last / TISSUE_WIDTH), tf.int32)
    return tf.one_hot(tf.math.floormod(bins, NUM_TISSUES), NUM_TISSUES)


def tissue_bias(error: Any, tissues: Any) -> tf.Tensor:
    """Squared mean error of a patch's tissues, shape (b, Q); each counts by its size's square root.

    Parameters
    ----------
    error : tensor, shape (b, h, w, Q)
    tissues : tensor, shape (b, h, w, K)
        1 for a voxel's tissue, 0 for the others and for voxels that do not count.
    """
    count = tf.reduce_sum(tissues, axis=(1, 2))[..., None]
    means = tf.einsum("bhwk,bhwq->bkq", tissues, error) / (count + 1e-6)
    share = tf.sqrt(count)
    return tf.reduce_sum(share * means**2, axis=1) / (tf.reduce_sum(share, axis=1) + 1e-6)


def loss_of(settings: Settings) -> Callable[..., tf.Tensor]:
    """Loss of a run."""
    if settings.recipe == "paper":
        return squared_loss
    return functools.partial(patch_loss, bias_weight=settings.bias_weight)


def learning_rate_of(settings: Settings) -> Any:
    """Learning rate or its schedule."""
    if settings.recipe == "paper":
        return settings.learning_rate
    warmup = min(100, settings.iterations // 10 + 1)
    return keras.optimizers.schedules.CosineDecay(
        0.1 * settings.learning_rate,
        max(1, settings.iterations - warmup),  # counted from the end of the warm-up
        alpha=0.01,
        warmup_target=settings.learning_rate,
        warmup_steps=warmup,
    )


def make_optimizer(network: keras.Model, settings: Settings) -> keras.optimizers.Optimizer:
    """Adam, with its state created."""
    clip = None if settings.recipe == "paper" else 1.0
    optimizer = keras.optimizers.Adam(learning_rate_of(settings), global_clipnorm=clip)
    optimizer.build(network.trainable_variables)
    return optimizer


def make_steps(
    network: keras.Model, optimizer: keras.optimizers.Optimizer, loss: Callable[..., tf.Tensor]
) -> tuple[Callable[..., tf.Tensor], Callable[..., tf.Tensor]]:
    """Compiled training and validation steps; both take any N.

    A training step whose loss or gradient is not finite changes nothing and returns NaN.
    """

    @tf.function(reduce_retracing=True, autograph=False)
    def train_step(S: Any, kappa: Any, sigma: Any, weight: Any, tau: Any, rician: Any) -> tf.Tensor:
        statistics = [tf.identity(v.value) for v in network.non_trainable_variables]
        with tf.GradientTape() as tape:
            estimates = network.steps([S, tau, sigma, rician], training=True)
            value = loss(estimates, network.scaled(kappa), weight)
        gradients = tape.gradient(value, network.trainable_variables)
        finite = tf.math.is_finite(value) & tf.math.is_finite(tf.linalg.global_norm(gradients))

        def update() -> None:
            optimizer.apply(gradients, network.trainable_variables)

        def undo() -> None:
            for variable, before in zip(network.non_trainable_variables, statistics, strict=True):
                variable.assign(before)

        tf.cond(finite, update, undo)
        return tf.where(finite, value, np.nan)

    @tf.function(reduce_retracing=True, autograph=False)
    def validation_step(
        S: Any, kappa: Any, sigma: Any, weight: Any, tau: Any, rician: Any
    ) -> tf.Tensor:
        last = network.scaled(network.estimate([S, tau, sigma, rician]))
        return loss([last], network.scaled(kappa), weight)

    return train_step, validation_step


def train(
    network: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    infos: Sequence[ShardInfo],
    validation: Sequence[ShardInfo],
    settings: Settings,
    start: int = 0,
) -> Iterator[Progress]:
    """Train from iteration `start`, yielding after each one.

    Raises
    ------
    TrainingError
        If a loss is not finite; names the shard. The network keeps the last good weights.
    """
    step, validate = make_steps(network, optimizer, loss_of(settings))
    held_out: list[Any] = []
    began = time.monotonic()
    told = SIGMA_ERROR if settings.model == "rim" and settings.recipe == "default" else 1.0
    size, seed = settings.batch_size, settings.seed
    data = batches(infos, size, seed, start, settings.iterations, sigma_error=told)
    for iteration, (*batch, shard) in enumerate(data, start + 1):
        loss = float(step(*batch))
        if not np.isfinite(loss):
            kept = f"The model of iteration {iteration - 1} is kept." if iteration > 1 else ""
            raise TrainingError(
                f"the loss is not finite at iteration {iteration}, on {infos[int(shard)].path}. "
                f"{kept} Look at the shard with relaxsim verify, or lower --learning-rate."
            )
        value = None
        if validation and (iteration % VALIDATE_EVERY == 0 or iteration == settings.iterations):
            held_out = held_out or validation_batches(validation, settings.batch_size)
            value = validation_loss(validate, held_out)
        rate = float(keras.ops.convert_to_numpy(optimizer.learning_rate))
        yield Progress(iteration, loss, value, rate, time.monotonic() - began)


def validation_loss(step: Callable[..., tf.Tensor], held_out: Sequence[Batch]) -> float:
    """Mean loss of the last estimate on some batches."""
    fields = ("S", "kappa", "sigma", "weight", "tau", "rician")
    losses = [step(*(tf.constant(getattr(batch, f)) for f in fields)) for batch in held_out]
    return float(np.mean([float(loss) for loss in losses]))


def run(
    settings: Settings, folder: str | Path, resume: bool = False, overwrite: bool = False
) -> Iterator[Progress]:
    """Train in a folder, yielding after each iteration.

    The folder's model, checkpoint and history are written once a minute, at the end and on
    interruption; each file by a temporary name and a rename.

    Raises
    ------
    TrainingError
        If the folder holds another run, there is nothing to resume, the shards do not suit the
        network, the one to start from would be deleted, or the loss is not finite.
    relaxsim.shards.layout.ShardError
        If shards are missing, damaged, or smaller than a batch.
    """
    folder = Path(folder)
    infos, validation = split(settings.data, settings.validation)
    check_batches(infos, settings.batch_size)
    _check_images(settings, [*infos, *validation])
    check_folder(folder, settings, resume, overwrite)
    keras.utils.set_random_seed(settings.seed)
    if settings.deterministic:
        tf.config.experimental.enable_op_determinism()
    network = initial_network(settings, infos[0])
    optimizer = make_optimizer(network, settings)
    start, best = 0, np.inf
    if resume:
        start, best = load_checkpoint(folder / "checkpoint.npz", network, optimizer)
        if start >= settings.iterations:
            more = "ask for more --iterations"
            if settings.recipe != "paper":  # its learning rate has come down
                more = f"to train on, give --init {folder / 'last.keras'} and another --out"
            raise TrainingError(f"{folder} has done its {start} iterations; {more}.")
    clear_folder(folder, settings, resume)
    history = History(folder, start)
    saved, last = time.monotonic(), start

    def save() -> None:
        history.write()  # first: rows after the checkpoint are dropped when it is resumed
        save_checkpoint(folder / "checkpoint.npz", network, optimizer, last, best)
        save_network(network, folder / "last.keras", settings, infos, last, best)

    try:
        with Interruption() as interruption:
            for progress in train(network, optimizer, infos, validation, settings, start):
                last = progress.iteration
                history.add(progress)
                value = progress.validation_loss
                if value is not None and value < best:
                    best = value
                    save_network(network, folder / "best.keras", settings, infos, last, value)
                if time.monotonic() - saved > SAVE_SECONDS:
                    save()
                    saved = time.monotonic()
                yield progress
                interruption.act()
    finally:
        if last > start and int(optimizer.iterations) == last:  # no step without its row
            save()


def initial_network(settings: Settings, info: ShardInfo) -> keras.Model:
    """A new network, or the one to start from.

    Raises
    ------
    TrainingError
        If that one is of another signal model, kind or number of images.
    """
    if not settings.init:
        return with_policy(build_network(settings, info), settings.precision)
    network = load_network(settings.init)
    if network.signal_model != info.signal_model.name or network.kind != settings.model:
        raise TrainingError(
            f"{settings.init} is a {network.kind} for {network.signal_model}; the run trains a "
            f"{settings.model} for {info.signal_model.name}."
        )
    if network.num_images not in (None, len(info.tau)):
        raise TrainingError(
            f"{settings.init} takes {network.num_images} images, the shards have {len(info.tau)}."
        )
    # The errors that a head was fitted to are no longer those of the network.
    if network.kind == "rim":
        network = network.without_error_head()
        if settings.recipe != "paper" and network.gradient == "whitened":
            network = network.with_fit_steps()
    return with_policy(network, settings.precision)


def _check_images(settings: Settings, infos: Sequence[ShardInfo]) -> None:
    """Refuse shards of several numbers of images for a ResNet, whose first layer has one."""
    numbers = sorted({len(info.tau) for info in infos})
    if settings.model == "resnet" and len(numbers) > 1:
        raise TrainingError(
            f"the shards have {', '.join(map(str, numbers))} images; a resnet takes one number of "
            "images, a rim any."
        )
