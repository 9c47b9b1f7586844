"""The second stage of training: an error head is fitted to a network's own errors.

The recurrent inference machine stays as it is. It is run once over simulated patches; of each,
some voxels are kept, with what the head sees of them and how far off their estimate is. The head
is fitted to these.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from relaxnet.networks.error_head import ErrorHead, head_inputs
from relaxnet.networks.parametrization import derivative, to_kappa
from relaxnet.networks.registry import card_path, find_model, load_network, read_card
from relaxnet.networks.rim import RIM
from relaxnet.training.dataset import check_finite, load_batch, read_infos
from relaxnet.training.run_folder import TrainingError, make_folder
from relaxsim.core.snr import snr_of
from relaxsim.core.version import __version__
from relaxsim.shards.layout import ShardInfo

#: Errors are not told apart below this, in the network's coordinates.
_SMALLEST_ERROR = 1e-6
#: BrainWeb labels of the tissues whose intervals are balanced: grey and white matter, CSF.
TISSUES = (2, 3, 1)
#: Bounds of noise levels, which are balanced too.
SNR_EDGES = (7.0, 17.0, 42.0, 77.0)
NUM_GROUPS = (len(TISSUES) + 1) * (len(SNR_EDGES) + 1)
#: Groups of grey and white matter, which set the factor.
NUM_LEADING = 2 * (len(SNR_EDGES) + 1)
#: What the two intervals should hold.
SHARES = np.array([0.6827, 0.95], np.float32)
#: How much a group's lack in either share counts when both cannot be met.
_WEIGHT = np.array([[1.0], [1.5]], np.float32)
#: How fast the levels of a group move, and their limits; how fast the factor moves.
_PACE = np.array([[0.02], [0.006]], np.float32)
_LEVEL_LIMITS = np.array([[[0.3], [0.75]], [[0.95], [0.998]]], np.float32)
_FACTOR_PACE = 0.06
#: Voxels of a group in a batch, from which its share is worth something.
_ENOUGH = 20
#: Every so many batches one is not fitted to: the card tells how often its intervals hold.
_HELD_BACK = 8


@dataclass(frozen=True)
class Settings:
    """All settings of the stage.

    Attributes
    ----------
    network : str
        File or name of the network, a RIM.
    data : tuple of str
        Folders of shards, such as those that the network was trained on; never the ones that
        coverage is measured on.
    patches : int
        That the network is run on.
    voxels : int
        That are kept of each.
    iterations, batch_size : int
        Of the fit, the size in voxels.
    learning_rate : float
        Of Adam, at the start; it falls by a cosine to a hundredth.
    seed : int
    """

    network: str
    data: tuple[str, ...]
    patches: int = 3840
    voxels: int = 256
    iterations: int = 2000
    batch_size: int = 8192
    learning_rate: float = 3e-3
    seed: int = 0


#: Patches that the network sees at once.
PATCHES_AT_ONCE = 24


@dataclass(frozen=True)
class Progress:
    """How much of the stage is done, of how much, and what is being done."""

    done: int
    total: int
    doing: str


@dataclass(frozen=True)
class Errors:
    """What an error head sees of some voxels, and how far off their estimates are.

    Attributes
    ----------
    inputs : array, shape (V, C), float16
    log_bound : array, shape (V, Q)
    log_error : array, shape (V, Q)
        Logarithm of the estimate's error, in the network's coordinates.
    group : array, shape (V,), int32
        Tissue and noise level of each voxel, 0 to `NUM_GROUPS` - 1 (`groups`).
    """

    inputs: np.ndarray
    log_bound: np.ndarray
    log_error: np.ndarray
    group: np.ndarray


def groups(labels: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Group of each voxel: its tissue (one of `TISSUES` alone, or another) and its noise level.

    Parameters
    ----------
    labels : array, shape (b, h, w)
        0 where no tissue is alone.
    sigma : array, shape (b,)
        Relative to the scale.

    Returns
    -------
    group : array, shape (b, h, w), int32
    """
    tissue = np.full(labels.shape, len(TISSUES), np.int32)
    for i, label in enumerate(TISSUES):
        tissue[labels == label] = i
    level = np.digitize(snr_of(sigma), SNR_EDGES).astype(np.int32)
    return tissue * (len(SNR_EDGES) + 1) + level[:, None, None]


def interval_loss(excess: Any, levels: Any) -> tf.Tensor:
    """Pinball loss: least where the share `levels` of the `excess` lies below zero.

    Of the logarithm of errors over the half width of an interval it is least where this share of
    the errors lies in the interval, whatever their distribution. An outlier weighs no more than
    another error on its side.
    """
    return tf.reduce_mean(tf.maximum(levels * excess, (levels - 1.0) * excess))


def run(settings: Settings, folder: str | Path, overwrite: bool = False) -> Iterator[Progress]:
    """Give a network an error head, yielding as it goes on; write it to a folder.

    ``best.keras`` is the network with its head, ``best.json`` its card: the one it had, and how
    the head was made.

    Raises
    ------
    TrainingError
        If the folder holds a network, the given one is no RIM or of another signal model than the
        shards, or the loss is not finite.
    relaxnet.networks.registry.ModelError, relaxsim.shards.layout.ShardError
        If the network or the shards are missing or damaged.
    """
    folder = Path(folder)
    target = folder / "best.keras"
    if target.exists() and not overwrite:
        raise TrainingError(f"{folder} holds a network. Give --overwrite or another --out.")
    infos = read_infos(settings.data)
    bare = load_network(settings.network)
    if bare.kind != "rim" or bare.signal_model != infos[0].signal_model.name:
        raise TrainingError(
            f"{settings.network} is a {bare.kind} for {bare.signal_model}; expected a rim for "
            f"{infos[0].signal_model.name}, which the shards are of."
        )
    make_folder(folder)
    keras.utils.set_random_seed(settings.seed)
    network = bare.with_error_head()
    number = max(2, -(-settings.patches // PATCHES_AT_ONCE))
    total = number + settings.iterations
    parts = []
    for part in collect(network, infos, settings, number):
        parts.append(part)
        yield Progress(len(parts), total, "errors")
    held = _joined(parts[::_HELD_BACK])
    fitted = _joined([part for i, part in enumerate(parts) if i % _HELD_BACK])
    for i, _ in enumerate(fit(network.error_head, fitted, settings), 1):
        yield Progress(number + i, total, "fit")
    save(network, target, settings, coverage_of(network, held))


def collect(
    network: RIM, infos: Sequence[ShardInfo], settings: Settings, number: int
) -> Iterator[Errors]:
    """Errors of the network on `number` batches of patches."""
    rng = np.random.default_rng([settings.seed, 1])
    look = _looking(network)
    size = min(PATCHES_AT_ONCE, max(info.num_patches for info in infos))
    for iteration in range(number):
        batch = load_batch(infos, size, settings.seed, iteration)
        check_finite(batch, infos)
        told = batch.S, batch.tau, batch.sigma, batch.rician
        seen = [np.asarray(x) for x in look(*told, batch.kappa)]
        rows = _some(batch.weight > 0, settings.voxels, rng)
        inputs, log_bound, log_error = (x.reshape(-1, x.shape[-1])[rows] for x in seen)
        group = groups(np.asarray(batch.labels), batch.sigma).reshape(-1)[rows]
        yield Errors(inputs.astype(np.float16), log_bound, log_error, group)


def fit(head: ErrorHead, errors: Errors, settings: Settings) -> Iterator[float]:
    """Fit an error head in place, yielding the loss of each iteration.

    The levels that the loss asks of a group move until the group's intervals hold the shares that
    they should, both intervals together; `head.log_factor` moves until the wider one does on
    average over the groups of grey and white matter.

    Raises
    ------
    TrainingError
        If a loss is not finite.
    """
    schedule = keras.optimizers.schedules.CosineDecay(
        settings.learning_rate, settings.iterations, alpha=0.01
    )
    optimizer = keras.optimizers.Adam(schedule, global_clipnorm=1.0)
    optimizer.build(head.trainable_variables)
    shape = NUM_GROUPS, len(SHARES), head.num_parameters
    levels = tf.Variable(np.broadcast_to(SHARES[:, None], shape))

    @tf.function(reduce_retracing=True, autograph=False)
    def step(inputs: Any, log_bound: Any, log_error: Any, group: Any) -> tf.Tensor:
        with tf.GradientTape() as tape:
            excess = log_error - head(inputs, log_bound)
            excess = tf.stack([excess, excess - head.log_factor], axis=1)  # (V, 2, Q)
            value = interval_loss(excess, tf.gather(levels, group))
        gradients = tape.gradient(value, head.trainable_variables)
        optimizer.apply(gradients, head.trainable_variables)
        lacking = _lacking(excess, group)
        both = tf.reduce_sum(_WEIGHT * lacking, axis=1, keepdims=True)
        levels.assign(tf.clip_by_value(levels + both * _PACE, *_LEVEL_LIMITS))
        wide = tf.reduce_mean(lacking[:NUM_LEADING, 1], axis=0)
        head.log_factor.assign_add(_FACTOR_PACE * wide)
        return value

    rng = np.random.default_rng([settings.seed, 2])
    size = min(settings.batch_size, len(errors.group))
    for iteration in range(1, settings.iterations + 1):
        rows = rng.integers(0, len(errors.group), size)
        inputs = errors.inputs[rows].astype(np.float32)
        drawn = errors.log_bound[rows], errors.log_error[rows], errors.group[rows]
        loss = float(step(inputs, *drawn))
        if not np.isfinite(loss):
            raise TrainingError(
                f"the loss is not finite at iteration {iteration}; lower --learning-rate."
            )
        yield loss


def _lacking(excess: Any, group: Any) -> tf.Tensor:
    """Shares that the intervals should hold less those that they do: (groups, 2, Q)."""
    inside = tf.math.unsorted_segment_mean(tf.cast(excess < 0, tf.float32), group, NUM_GROUPS)
    number = tf.math.unsorted_segment_sum(tf.ones_like(group), group, NUM_GROUPS)
    enough = (number >= _ENOUGH)[:, None, None]
    return tf.where(enough, SHARES[:, None] - inside, 0.0)


def coverage_of(network: RIM, errors: Errors) -> dict[str, dict[str, float]]:
    """Per cent of errors within each interval, by parameter and level."""
    head = network.error_head
    log_std = np.asarray(head(errors.inputs.astype(np.float32), errors.log_bound))
    within = {"68": np.ones(head.num_parameters), "95": head.factors}
    excess = np.exp(errors.log_error - log_std)
    return {
        parameter: {
            level: round(100 * float((excess[:, q] <= width[q]).mean()), 2)
            for level, width in within.items()
        }
        for q, parameter in enumerate(network.parameters)
    }


def save(
    network: RIM, path: Path, settings: Settings, coverage: dict[str, dict[str, float]]
) -> None:
    """Write a network with its error head, and its card."""
    temporary = path.with_name(f".{path.stem}.part.keras")
    network.save(temporary)
    temporary.replace(path)
    described = asdict(settings)
    described["network"] = Path(settings.network).stem
    described["data"] = sorted(Path(folder).name for folder in settings.data)
    card = read_card(find_model(settings.network))
    card["weights"] = network.count_params()
    card["error_head"] = {
        **described,
        "interval95": {
            parameter: round(float(factor), 3)
            for parameter, factor in zip(
                network.parameters, network.error_head.factors, strict=True
            )
        },
        "coverage_of_held_back_patches": coverage,
        "versions": {"relaxnet": __version__, "tensorflow": tf.__version__},
    }
    text = json.dumps(card, indent=1) + "\n"
    card_path(path).write_text(text, encoding="utf-8")


def _looking(network: RIM) -> Callable[..., Any]:
    """Compiled: what the head sees of a batch's voxels, and the logarithm of their errors."""

    @tf.function(reduce_retracing=True, autograph=False)
    def look(S: Any, tau: Any, sigma: Any, rician: Any, kappa: Any) -> tuple[Any, Any, Any]:
        told = [S, tau, sigma, rician]
        u, states = network.last(told)
        seen = head_inputs(u, states, network.likelihood(told))
        # Linear in kappa, as intervals around kappa_hat are.
        kappa_hat = to_kappa(u, network.model, network.coordinates)
        slope = derivative(kappa_hat, network.model, network.coordinates)
        error = tf.abs((kappa - kappa_hat) / slope)
        return *seen, tf.math.log(tf.maximum(error, _SMALLEST_ERROR))

    return look


def _some(counted: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    """Flat indices of at most `number` voxels of each patch (b, h, w), of those that count."""
    rows = []
    size = int(np.prod(counted.shape[1:]))
    for i, patch in enumerate(counted.reshape(len(counted), -1)):
        inside = np.flatnonzero(patch)
        rows.append(i * size + rng.choice(inside, min(number, len(inside)), replace=False))
    return np.concatenate(rows)


def _joined(parts: Sequence[Errors]) -> Errors:
    return Errors(
        *(np.concatenate([getattr(p, name) for p in parts]) for name in Errors.__annotations__)
    )
