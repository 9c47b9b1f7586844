"""Training: a compiled step and a plain loop around it.

`train` yields after every iteration and writes nothing; `run` writes the folder of a run:
``last.keras``, ``best.keras``, ``checkpoint.npz`` (all that a resumed run needs),
``history.csv``, TensorBoard's events of the same curves, and ``settings.json``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from relaxnet.networks.frameworks import keras, tf
from relaxnet.networks.network import TrainableNetwork
from relaxnet.networks.precision import use_full_precision
from relaxnet.networks.registry import build_network, load_network, with_policy
from relaxnet.training.dataset import (
    Batch,
    batches,
    check_batches,
    validation_batches,
)
from relaxnet.training.history import History
from relaxnet.training.interruption import Interruption
from relaxnet.training.loss import loss_of
from relaxnet.training.run_folder import (
    CHECKPOINT,
    check_folder,
    check_takes_files,
    clear_folder,
    has_checkpoint,
    load_checkpoint,
    save_checkpoint,
    save_trained,
)
from relaxnet.training.settings import Progress, Settings, TrainingError
from relaxnet.training.split import split
from relaxsim.core.only_run import only_run
from relaxsim.shards.layout import ShardInfo

#: Seconds between two savings of a run.
SAVE_SECONDS = 60.0
#: Iterations between two validations.
VALIDATE_EVERY = 100
#: Factor by which the sigma of some patches is wrong in training, in either direction, for networks
#: that take it (default recipe).
SIGMA_ERROR = 2.0
#: Iterations of the warm-up at most, and the learning rate's first and last share of the highest.
_WARMUP, _FIRST_SHARE, _LAST_SHARE = 100, 0.1, 0.01
#: Norm that gradients are clipped to (default recipe).
_CLIP_NORM = 1.0


def learning_rate_of(settings: Settings) -> Any:
    """Learning rate or its schedule."""
    if settings.recipe == "paper":
        return settings.learning_rate
    warmup = min(_WARMUP, settings.iterations // 10 + 1)
    return keras.optimizers.schedules.CosineDecay(
        _FIRST_SHARE * settings.learning_rate,
        max(1, settings.iterations - warmup),  # counted from the end of the warm-up
        alpha=_LAST_SHARE,
        warmup_target=settings.learning_rate,
        warmup_steps=warmup,
    )


def make_optimizer(network: TrainableNetwork, settings: Settings) -> keras.optimizers.Optimizer:
    """Adam, with its state created."""
    clip = None if settings.recipe == "paper" else _CLIP_NORM
    optimizer = keras.optimizers.Adam(learning_rate_of(settings), global_clipnorm=clip)
    optimizer.build(network.trainable_variables)
    return optimizer


def make_steps(
    network: TrainableNetwork,
    optimizer: keras.optimizers.Optimizer,
    loss: Callable[..., tf.Tensor],
) -> tuple[Callable[..., tf.Tensor], Callable[..., tf.Tensor]]:
    """Compiled training and validation steps; both take any N.

    Their arguments are S, kappa, sigma, weight, protocol, rician and known maps (None, or without
    a channel, of a model that has none), as in `relaxnet.training.dataset.Batch`. A training step
    whose loss or gradient is not finite changes nothing and returns NaN.
    """
    use_full_precision()

    @tf.function(reduce_retracing=True, autograph=False)
    def train_step(
        S: Any, kappa: Any, sigma: Any, weight: Any, protocol: Any, rician: Any, known: Any = None
    ) -> tf.Tensor:
        statistics = [tf.identity(v.value) for v in network.non_trainable_variables]
        with tf.GradientTape() as tape:
            inputs = _inputs(S, protocol, sigma, rician, known)
            estimates = network.steps(inputs, training=True)
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
        S: Any, kappa: Any, sigma: Any, weight: Any, protocol: Any, rician: Any, known: Any = None
    ) -> tf.Tensor:
        estimate = network.estimate(_inputs(S, protocol, sigma, rician, known))
        return loss([network.scaled(estimate)], network.scaled(kappa), weight)

    return train_step, validation_step


def _inputs(S: Any, protocol: Any, sigma: Any, rician: Any, known: Any) -> list[Any]:
    """Inputs of a network; the images are moduli where the model has one."""
    has_maps = known is not None and known.shape[-1] > 0
    return [S, protocol, sigma, rician, None, known if has_maps else None]


def train(
    network: TrainableNetwork,
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
    judged: list[Batch] = []
    began = time.monotonic()
    sigma_error = SIGMA_ERROR if network.takes_sigma and settings.recipe == "default" else 1.0
    size, seed = settings.batch_size, settings.seed
    data = batches(infos, size, seed, start, settings.iterations, sigma_error=sigma_error)
    for iteration, (*batch, shard) in enumerate(data, start + 1):
        loss = float(step(*batch))
        if not np.isfinite(loss):
            last = f"The model of iteration {iteration - 1} is kept." if iteration > 1 else ""
            raise TrainingError(
                f"the loss is not finite at iteration {iteration}, on {infos[int(shard)].path}. "
                f"{last} Look at the shard with relaxsim verify, or lower `learning_rate`."
            )
        value = None
        if validation and (iteration % VALIDATE_EVERY == 0 or iteration == settings.iterations):
            judged = judged or validation_batches(validation, settings.batch_size)
            value = validation_loss(validate, judged)
        rate = float(keras.ops.convert_to_numpy(optimizer.learning_rate))
        yield Progress(iteration, loss, value, rate, time.monotonic() - began)


def validation_loss(step: Callable[..., tf.Tensor], judged: Sequence[Batch]) -> float:
    """Mean loss of the last estimate on some batches."""
    losses = [step(*map(tf.constant, batch.for_steps())) for batch in judged]
    return float(np.mean([float(loss) for loss in losses]))


def run(
    settings: Settings, out: str | Path, resume: bool = False, overwrite: bool = False
) -> Iterator[Progress]:
    """Train in a folder, yielding after each iteration.

    The folder's network, checkpoint and history are written once a minute, at the end and on
    interruption; each file by a temporary name and a rename.

    Parameters
    ----------
    settings : Settings
    out : path
        Folder.
    resume : bool
        Go on with the run in the folder; begin anew if it was broken off before its first
        checkpoint.
    overwrite : bool
        Replace the run in the folder.

    Raises
    ------
    TrainingError
        If the folder holds another run, the shards do not suit the network, the network to start
        from would be deleted, or the loss is not finite.
    relaxsim.shards.layout.ShardError
        If shards are missing, damaged, or smaller than a batch.
    relaxsim.core.only_run.InUseError
        If another run is at work in the folder.
    MemoryError
        If the memory does not suffice.
    """
    folder = Path(out)
    infos, validation = split(settings.data, settings.validation)
    check_batches(infos, settings.batch_size)
    check_folder(folder, settings, resume, overwrite)
    check_takes_files(folder)
    try:
        with only_run(folder):
            yield from _run_alone(settings, folder, infos, validation, resume, overwrite)
    except tf.errors.ResourceExhaustedError:
        raise MemoryError from None


def _run_alone(
    settings: Settings,
    folder: Path,
    infos: Sequence[ShardInfo],
    validation: Sequence[ShardInfo],
    resume: bool,
    overwrite: bool,
) -> Iterator[Progress]:
    """Train in a folder that no other run writes to; nothing is written before the first step."""
    check_folder(folder, settings, resume, overwrite)  # again: another run may have ended
    resume = resume and has_checkpoint(folder)
    keras.utils.set_random_seed(settings.seed)
    if settings.deterministic:
        tf.config.experimental.enable_op_determinism()
    use_full_precision()
    network = initial_network(settings, infos[0])
    _check_images(network, [*infos, *validation])
    optimizer = make_optimizer(network, settings)
    start, best = 0, np.inf
    if resume:
        start, best = load_checkpoint(folder / CHECKPOINT, network, optimizer)
        if start >= settings.iterations:
            more = "ask for more `iterations`"
            if settings.recipe != "paper":  # its learning rate has come down
                more = f"to train on, give `init` {folder / 'last.keras'} and another `out`"
            raise TrainingError(f"{folder} has done its {start} iterations; {more}.")
    history = History(folder, start)
    saved, last = time.monotonic(), start

    def save() -> None:
        history.write()  # first: rows after the checkpoint are dropped when it is resumed
        save_trained(network, folder / "last.keras", settings, infos, last, best)
        # last: a run that has its last checkpoint is whole
        save_checkpoint(folder / CHECKPOINT, network, optimizer, last, best)

    try:
        with Interruption() as interruption:
            for progress in train(network, optimizer, infos, validation, settings, start):
                if last == start:
                    clear_folder(folder, settings, resume)
                last = progress.iteration
                history.add(progress)
                value = progress.validation_loss
                if value is not None and value < best:
                    best = value
                    save_trained(network, folder / "best.keras", settings, infos, last, value)
                if time.monotonic() - saved > SAVE_SECONDS:
                    save()
                    saved = time.monotonic()
                yield progress
                interruption.act()
    finally:
        if last > start and int(optimizer.iterations) == last:  # no step without its row
            save()


def initial_network(settings: Settings, info: ShardInfo) -> TrainableNetwork:
    """A new network, or the one to start from.

    Raises
    ------
    TrainingError
        If that one is of another signal model, architecture or number of images.
    """
    model, num_images = info.signal_model, len(info.protocol_table)
    if not settings.init:
        network = build_network(
            settings.model,
            model,
            num_images,
            settings.recipe,
            settings.features,
            settings.num_steps,
            settings.times,
        )
        return with_policy(network, settings.precision)
    network = load_network(settings.init)
    if network.model.name != model.name or network.architecture != settings.model:
        raise TrainingError(
            f"{settings.init} is a {network.architecture} for {network.model.name}; the run "
            f"trains a {settings.model} for {model.name}."
        )
    if network.num_images not in (None, num_images):
        raise TrainingError(
            f"{settings.init} takes {network.num_images} images, the shards have {num_images}."
        )
    return with_policy(network.to_train_on(settings.recipe != "paper"), settings.precision)


def _check_images(network: TrainableNetwork, infos: Sequence[ShardInfo]) -> None:
    """Refuse shards of several numbers of images for a network whose first layer has one."""
    numbers = sorted({len(info.protocol_table) for info in infos})
    if network.num_images is not None and len(numbers) > 1:
        raise TrainingError(
            f"the shards have {', '.join(map(str, numbers))} images; a {network.architecture} "
            "takes one number of images, a rim any."
        )
