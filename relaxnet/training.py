"""Training: a compiled step and a plain loop around it.

`train` yields after every iteration and writes nothing; `run` writes the folder of a run:
``last.keras``, ``best.keras``, ``checkpoint.npz`` (all that a resumed run needs),
``history.csv`` and ``settings.json``.
"""

from __future__ import annotations

import csv
import json
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from relaxnet import __version__
from relaxnet.dataset import batches, read_infos
from relaxnet.models import build_network, card_path, load_network
from relaxsim.shards import ShardInfo

SAVE_SECONDS = 60.0
VALIDATE_EVERY = 100
VALIDATION_BATCHES = 8


@dataclass(frozen=True)
class Settings:
    """All settings of a run; each is a flag of ``relaxnet train`` or follows from its recipe.

    Attributes
    ----------
    data : tuple of str
        Folders of shards.
    validation : tuple of str
        Folders of validation shards; empty holds back one shard in thirty of `data`.
    model : str
        ``rim`` or ``resnet``.
    recipe : str
        ``default`` or ``paper``.
    iterations, batch_size : int
    learning_rate : float
        Of Adam: at the start (paper recipe: throughout; default: falling by a cosine to a tenth).
    features, num_steps : int
        Of the RIM.
    init : str
        Model to start from, or empty.
    seed : int
    deterministic : bool
        Bitwise repeatable operations.
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


@dataclass(frozen=True)
class Progress:
    """State after an iteration: its number (from 1), losses, learning rate, seconds so far."""

    iteration: int
    loss: float
    validation_loss: float | None
    learning_rate: float
    seconds: float


class TrainingError(ValueError):
    """Training cannot start or go on; one line."""


def squared_loss(estimates: Sequence[Any], target: Any, weight: Any) -> tf.Tensor:
    """Eq. 6: squared error in scaled units, averaged over the steps and the voxels that count."""
    weight = weight[..., None]
    total = tf.add_n([tf.reduce_sum(weight * (u - target) ** 2) for u in estimates])
    return total / (len(estimates) * (tf.reduce_sum(weight) + 1e-6))


def patch_loss(estimates: Sequence[Any], target: Any, weight: Any) -> tf.Tensor:
    """Root mean square error of each patch and parameter, averaged over these and the steps.

    Within a patch it is Eq. 6's squared error; between patches the root keeps the noisy ones,
    whose errors are a hundred times larger, from outweighing the rest.
    """
    weight = weight[..., None]
    count = tf.reduce_sum(weight, axis=(1, 2)) + 1e-6
    used = tf.cast(count[:, 0] > 1.0, tf.float32)[:, None]
    total = 0.0
    for u in estimates:
        mean_square = tf.reduce_sum(weight * (u - target) ** 2, axis=(1, 2)) / count
        total += tf.reduce_sum(used * tf.sqrt(mean_square + 1e-4))
    return total / (len(estimates) * target.shape[-1] * (tf.reduce_sum(used) + 1e-6))


def loss_of(recipe: str) -> Callable[..., tf.Tensor]:
    """Loss of a recipe."""
    return squared_loss if recipe == "paper" else patch_loss


def learning_rate_of(settings: Settings) -> Any:
    """Learning rate or its schedule."""
    if settings.recipe == "paper":
        return settings.learning_rate
    return keras.optimizers.schedules.CosineDecay(
        0.1 * settings.learning_rate,
        settings.iterations,
        alpha=0.1,
        warmup_target=settings.learning_rate,
        warmup_steps=min(100, settings.iterations // 10 + 1),
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
    """Compiled training and validation steps; both take any N."""

    @tf.function(reduce_retracing=True)
    def train_step(S: Any, kappa: Any, sigma: Any, weight: Any, tau: Any) -> tf.Tensor:
        with tf.GradientTape() as tape:
            value = loss(
                network.steps([S, tau, sigma], training=True), network.scaled(kappa), weight
            )
        gradients = tape.gradient(value, network.trainable_variables)
        if tf.math.is_finite(value):
            optimizer.apply(gradients, network.trainable_variables)
        return value

    @tf.function(reduce_retracing=True)
    def validation_step(S: Any, kappa: Any, sigma: Any, weight: Any, tau: Any) -> tf.Tensor:
        return loss(network.steps([S, tau, sigma])[-1:], network.scaled(kappa), weight)

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
    step, validate = make_steps(network, optimizer, loss_of(settings.recipe))
    began = time.monotonic()
    data = batches(infos, settings.batch_size, settings.seed, start, settings.iterations)
    for iteration, (*batch, shard) in enumerate(data, start + 1):
        loss = float(step(*batch))
        if not np.isfinite(loss):
            raise TrainingError(
                f"the loss is not finite at iteration {iteration} (shard "
                f"{infos[int(shard)].path}). The last good model is kept; lower --learning-rate."
            )
        check = iteration % VALIDATE_EVERY == 0 or iteration == settings.iterations
        value = validation_loss(validate, validation, settings) if check and validation else None
        rate = float(keras.ops.convert_to_numpy(optimizer.learning_rate))
        yield Progress(iteration, loss, value, rate, time.monotonic() - began)


def validation_loss(
    step: Callable[..., tf.Tensor], infos: Sequence[ShardInfo], settings: Settings
) -> float:
    """Loss of the last estimate on the first batches of the validation shards."""
    size = min(settings.batch_size, max(info.num_patches for info in infos))
    data = batches(infos, size, 0, 0, VALIDATION_BATCHES, jitter=False)
    return float(np.mean([float(step(*batch)) for *batch, _ in data]))


def run(
    settings: Settings, folder: str | Path, resume: bool = False, overwrite: bool = False
) -> Iterator[Progress]:
    """Train in a folder, yielding after each iteration.

    The folder's model, checkpoint and history are written once a minute, at the end and on
    interruption; each file by a temporary name and a rename.

    Raises
    ------
    TrainingError
        If the folder holds another run, there is nothing to resume, or the loss is not finite.
    relaxsim.shards.ShardError
        If shards are missing or damaged.
    """
    folder = Path(folder)
    infos, validation = _split(settings)
    _prepare_folder(folder, settings, resume, overwrite)
    keras.utils.set_random_seed(settings.seed)
    if settings.deterministic:
        tf.config.experimental.enable_op_determinism()
    network = initial_network(settings, infos[0])
    optimizer = make_optimizer(network, settings)
    start, best = 0, np.inf
    if resume:
        start, best = load_checkpoint(folder / "checkpoint.npz", network, optimizer)
        if start >= settings.iterations:
            raise TrainingError(f"{folder} has done its {start} iterations; ask for more.")
    history = _History(folder / "history.csv", start)
    saved, last = time.monotonic(), start
    try:
        with _terminate_as_interrupt():
            for progress in train(network, optimizer, infos, validation, settings, start):
                last = progress.iteration
                history.add(progress)
                value = progress.validation_loss
                if value is not None and value < best:
                    best = value
                    save_network(network, folder / "best.keras", settings, infos, last, value)
                if time.monotonic() - saved > SAVE_SECONDS:
                    _save(folder, network, optimizer, history, settings, infos, last, best)
                    saved = time.monotonic()
                yield progress
    finally:
        if last > start:
            _save(folder, network, optimizer, history, settings, infos, last, best)


def initial_network(settings: Settings, info: ShardInfo) -> keras.Model:
    """A new network, or the one to start from.

    Raises
    ------
    TrainingError
        If that one is of another signal model, kind or number of images.
    """
    if not settings.init:
        return build_network(settings, info)
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
    return network


def save_network(
    network: keras.Model,
    path: Path,
    settings: Settings,
    infos: Sequence[ShardInfo],
    iteration: int,
    validation_loss: float,
) -> None:
    """Write a network and its card, a JSON file beside it."""
    temporary = path.with_name(f".{path.stem}.part.keras")
    network.save(temporary)
    temporary.replace(path)
    _write_json(card_path(path), card(network, settings, infos, iteration, validation_loss))


def card(
    network: keras.Model,
    settings: Settings,
    infos: Sequence[ShardInfo],
    iteration: int,
    validation_loss: float,
) -> dict[str, Any]:
    """How a network was made."""
    left_out = ("protocols", "tissues", "anatomies")
    data = {
        info.path.parent.name: {k: v for k, v in info.settings.items() if k not in left_out}
        for info in infos
    }
    names = sorted({info.protocol for info in infos})
    tau = np.concatenate([info.tau for info in infos])
    images = [len(info.tau) for info in infos]
    anatomies = sorted({str(a[0]) for info in infos for a in info.settings.get("anatomies", [])})
    return {
        "kind": network.kind,
        "signal_model": network.signal_model,
        "parameters": list(network.parameters),
        "weights": network.count_params(),
        "protocols": names,
        "envelope": {
            "num_images": [min(images), max(images)],
            "tau_ms": [float(tau.min()), float(tau.max())],
            "sigma": [
                min(info.settings["sigma_range"][0] for info in infos),
                max(info.settings["sigma_range"][1] for info in infos),
            ],
        },
        "anatomies": anatomies,
        "tissues": sorted({info.settings["tissues"][0] for info in infos}),
        "data": data,
        "training": asdict(settings),
        "iterations_done": iteration,
        "best_validation_loss": None if np.isinf(validation_loss) else validation_loss,
        "versions": {
            "relaxnet": __version__,
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
        },
    }


def save_checkpoint(
    path: Path,
    network: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    iteration: int,
    best: float,
) -> None:
    """Write all that a resumed run needs in one file."""
    arrays = {f"weight_{i}": np.asarray(v) for i, v in enumerate(network.variables)}
    arrays |= {f"optimizer_{i}": np.asarray(v) for i, v in enumerate(optimizer.variables)}
    temporary = path.with_name(f".{path.name}.part.npz")
    arrays |= {"iteration": np.array(iteration), "best": np.array(best)}
    np.savez(temporary, allow_pickle=False, **arrays)
    temporary.replace(path)


def load_checkpoint(
    path: Path, network: keras.Model, optimizer: keras.optimizers.Optimizer
) -> tuple[int, float]:
    """Restore weights and optimizer; returns the iteration and the best validation loss.

    Raises
    ------
    TrainingError
        If the file is missing, damaged, or of another network.
    """
    if not path.is_file():
        raise TrainingError(
            f"{path}: no such file; there is nothing to resume. Leave --resume out."
        )
    try:
        with np.load(path) as stored:
            for prefix, owner in (("weight", network), ("optimizer", optimizer)):
                for i, variable in enumerate(owner.variables):
                    variable.assign(stored[f"{prefix}_{i}"])
            return int(stored["iteration"]), float(stored["best"])
    except (KeyError, ValueError, OSError) as error:
        raise TrainingError(f"{path} does not fit this run ({error}).") from None


class _History:
    """history.csv: rows up to the resumed iteration are kept, later ones replaced."""

    columns = ("iteration", "loss", "validation_loss", "learning_rate", "seconds")

    def __init__(self, path: Path, start: int) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self.seconds = 0.0
        if start and path.is_file():
            with path.open(newline="") as file:
                self.rows = [r for r in csv.DictReader(file) if int(r["iteration"]) <= start]
            self.seconds = float(self.rows[-1]["seconds"]) if self.rows else 0.0

    def add(self, progress: Progress) -> None:
        value = progress.validation_loss
        self.rows.append(
            {
                "iteration": progress.iteration,
                "loss": f"{progress.loss:.6g}",
                "validation_loss": "" if value is None else f"{value:.6g}",
                "learning_rate": f"{progress.learning_rate:.4g}",
                "seconds": f"{self.seconds + progress.seconds:.2f}",
            }
        )

    def write(self) -> None:
        temporary = self.path.with_name(f".{self.path.name}.part")
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(self.rows)
        temporary.replace(self.path)


class _terminate_as_interrupt:  # noqa: N801
    """Within this block SIGTERM acts as Ctrl-C does: batch systems send it before they kill."""

    def __enter__(self) -> None:
        try:
            self.previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
        except ValueError:  # not in the main thread
            self.previous = None

    def __exit__(self, *_: Any) -> None:
        if self.previous is not None:
            signal.signal(signal.SIGTERM, self.previous)


def _save(
    folder: Path,
    network: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    history: _History,
    settings: Settings,
    infos: Sequence[ShardInfo],
    iteration: int,
    best: float,
) -> None:
    save_checkpoint(folder / "checkpoint.npz", network, optimizer, iteration, best)
    save_network(network, folder / "last.keras", settings, infos, iteration, best)
    history.write()


def _split(settings: Settings) -> tuple[list[ShardInfo], list[ShardInfo]]:
    """Training and validation shards."""
    infos = read_infos(settings.data)
    if settings.validation:
        return infos, read_infos(settings.validation)
    if len(infos) < 2:
        return infos, []
    held = set(range(len(infos) - 1, 0, -30))
    return (
        [info for i, info in enumerate(infos) if i not in held],
        [info for i, info in enumerate(infos) if i in held],
    )


def _prepare_folder(folder: Path, settings: Settings, resume: bool, overwrite: bool) -> None:
    path = folder / "settings.json"
    if path.is_file() and resume:
        stored = json.loads(path.read_text(encoding="utf-8"))
        mine = json.loads(json.dumps(asdict(settings)))
        free = {"iterations"} if settings.recipe == "paper" else set()
        different = [k for k in mine if stored.get(k) != mine[k] and k not in free]
        if different:
            raise TrainingError(
                f"{folder} was trained with other settings ({', '.join(different)}): "
                "resume with the same ones, or give another --out."
            )
    elif path.is_file() and not overwrite:
        raise TrainingError(f"{folder} holds a run. Give --resume, --overwrite or another --out.")
    folder.mkdir(parents=True, exist_ok=True)
    if not resume:
        for name in ("checkpoint.npz", "best.keras", "last.keras", "history.csv"):
            (folder / name).unlink(missing_ok=True)
    _write_json(path, asdict(settings))


def _write_json(path: Path, content: dict[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    temporary.replace(path)
