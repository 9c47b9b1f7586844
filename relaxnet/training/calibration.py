"""The second stage of training: an error head is fitted to a network's errors.

The recurrent inference machine stays as it is. It is run once over simulated patches; of each patch
some voxels are kept, with the head's inputs and the errors of their estimates. The head is fitted
to the voxels of some shards, and its intervals are judged on other shards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from relaxnet.networks.error_head import ErrorHead
from relaxnet.networks.frameworks import keras, tf
from relaxnet.networks.parametrization import derivative, to_kappa
from relaxnet.networks.precision import use_full_precision
from relaxnet.networks.registry import find_model, load_network, read_card
from relaxnet.networks.rim import RIM
from relaxnet.networks.saving import save_network
from relaxnet.training.dataset import Batch, check_finite, load_batch, read_infos
from relaxnet.training.run_folder import check_takes_files
from relaxnet.training.settings import TrainingError
from relaxnet.training.split import split
from relaxsim.core.folders import check_free_space
from relaxsim.core.labels import CSF, GREY, WHITE
from relaxsim.core.only_run import only_run
from relaxsim.core.snr import SIGNAL
from relaxsim.core.version import __version__
from relaxsim.shards.layout import ShardInfo

#: Errors are at least this, in the network's coordinates, so that they have a logarithm.
_SMALLEST_ERROR = 1e-6
#: Tissues whose intervals are balanced.
TISSUES = (GREY, WHITE, CSF)
#: SNR between the noise levels, which are balanced too.
SNR_EDGES = (7.0, 17.0, 42.0, 77.0)
NUM_GROUPS = (len(TISSUES) + 1) * (len(SNR_EDGES) + 1)
#: Groups of grey and white matter, which set the factor.
NUM_LEADING = 2 * (len(SNR_EDGES) + 1)
#: Shares of the errors that the two intervals should contain.
SHARES = np.array([0.6827, 0.95], np.float32)
#: Weights of a group's deviations from the two shares where the levels cannot meet both.
_WEIGHT = np.array([[1.0], [1.5]], np.float32)
#: Steps of a group's levels, and their limits; steps of the factor.
_LEVEL_STEP = np.array([[0.02], [0.006]], np.float32)
_LEVEL_LIMITS = np.array([[[0.3], [0.75]], [[0.95], [0.998]]], np.float32)
_FACTOR_STEP = 0.06
#: Voxels of a group in a batch; of fewer the share is too uncertain to move the levels.
_ENOUGH = 20
#: Of so many batches one is of the shards that the intervals are judged on.
_BATCHES_PER_JUDGED = 8
#: Bytes of a network while it is packed and written.
_SPACE = 2_000_000
#: Norm that gradients are clipped to, and the learning rate's last share of the first.
_CLIP_NORM, _LAST_SHARE = 1.0, 0.01


@dataclass(frozen=True)
class Settings:
    """All settings of the stage.

    Attributes
    ----------
    network : str
        File or name of the network, a RIM.
    data : tuple of str
        Folders of shards, such as those that the network was trained on. Some of them are held
        back as in training (`relaxnet.training.split`); coverage is measured on these.
    patches : int
        Number of patches that the network is run on.
    voxels : int
        Number of voxels that are kept of each.
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


#: File of the network with its head.
NETWORK = "best.keras"
#: Patches that the network sees at once.
PATCHES_AT_ONCE = 24


@dataclass(frozen=True)
class Progress:
    """State of the stage: steps done, of how many, and the name of the present part."""

    done: int
    total: int
    doing: str


@dataclass(frozen=True)
class Errors:
    """An error head's inputs for some voxels, and the errors of their estimates.

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
        0 where a voxel holds several tissues.
    sigma : array, shape (b,)
        Relative to the scale.

    Returns
    -------
    group : array, shape (b, h, w), int32
    """
    tissue = np.full(labels.shape, len(TISSUES), np.int32)
    for i, label in enumerate(TISSUES):
        tissue[labels == label] = i
    level = np.digitize(SIGNAL / sigma, SNR_EDGES).astype(np.int32)
    return tissue * (len(SNR_EDGES) + 1) + level[:, None, None]


def interval_loss(excess: Any, levels: Any) -> tf.Tensor:
    """Pinball loss: least where the share `levels` of the `excess` lies below zero.

    With `excess` the logarithm of errors over the half width of an interval, it is least where
    this share of the errors lies in the interval, for any distribution. Its gradient is the same
    for an outlier as for every other error on its side.
    """
    return tf.reduce_mean(tf.maximum(levels * excess, (levels - 1.0) * excess))


def run(settings: Settings, out: str | Path, overwrite: bool = False) -> Iterator[Progress]:
    """Give a network an error head, yielding after each step; write it to a folder.

    ``best.keras`` is the network with its head, ``best.json`` its card: the card that it had, and
    how the head was made.

    Parameters
    ----------
    settings : Settings
    out : path
        Folder.
    overwrite : bool
        Replace the network in the folder.

    Raises
    ------
    TrainingError
        If the folder holds a network, the given one is no RIM or of another signal model than the
        shards, there is a single shard, or the loss is not finite.
    relaxnet.networks.registry.ModelError, relaxsim.shards.layout.ShardError
        If the network or the shards are missing or damaged.
    relaxsim.core.only_run.InUseError
        If another run is at work in the folder.
    MemoryError
        If the memory does not suffice.
    """
    folder = Path(out)
    _check_free(folder, overwrite)
    infos = read_infos(settings.data)
    bare = load_network(settings.network)
    if not isinstance(bare, RIM) or bare.model.name != infos[0].signal_model.name:
        raise TrainingError(
            f"{settings.network} is a {bare.architecture} for {bare.model.name}; expected a rim "
            f"for {infos[0].signal_model.name}, which the shards are of."
        )
    fitted_infos, judged_infos = split(settings.data)
    if not judged_infos:
        raise TrainingError(
            f"{infos[0].path} is the only shard, but the head is fitted to some shards and judged "
            "on others; make another one with relaxsim generate, or give more folders with `data`."
        )
    check_takes_files(folder)
    check_free_space(folder, _SPACE, "the network and its card")
    try:
        with only_run(folder):
            _check_free(folder, overwrite)  # again: another run may have ended
            yield from _run_alone(bare, fitted_infos, judged_infos, settings, folder)
    except tf.errors.ResourceExhaustedError:
        raise MemoryError from None


def _check_free(folder: Path, overwrite: bool) -> None:
    if (folder / NETWORK).exists() and not overwrite:
        raise TrainingError(f"{folder} holds a network. Give `overwrite` or another `out`.")


def _run_alone(
    bare: RIM,
    fitted_infos: Sequence[ShardInfo],
    judged_infos: Sequence[ShardInfo],
    settings: Settings,
    folder: Path,
) -> Iterator[Progress]:
    """Fit and judge a head, and write the network to a folder that no other run writes to."""
    keras.utils.set_random_seed(settings.seed)
    network = bare.with_error_head()
    number = max(2, -(-settings.patches // PATCHES_AT_ONCE))
    number_judged = -(-number // _BATCHES_PER_JUDGED)
    total = number + settings.iterations
    fitted, judged = [], []
    for part in collect(network, judged_infos, settings, number_judged):
        judged.append(part)
        yield Progress(len(judged), total, "errors")
    for part in collect(network, fitted_infos, settings, number - number_judged):
        fitted.append(part)
        yield Progress(len(judged) + len(fitted), total, "errors")
    for i, _ in enumerate(fit(network.error_head, _joined(fitted), settings), 1):
        yield Progress(number + i, total, "fit")
    save(network, folder / NETWORK, settings, coverage_of(network, _joined(judged)), judged_infos)


def collect(
    network: RIM, infos: Sequence[ShardInfo], settings: Settings, number: int
) -> Iterator[Errors]:
    """Errors of the network on `number` batches of patches."""
    rng = np.random.default_rng([settings.seed, 1])
    errors_of = _compiled_errors(network)
    size = min(PATCHES_AT_ONCE, max(info.num_patches for info in infos))
    for iteration in range(number):
        batch = load_batch(infos, size, settings.seed, iteration)
        check_finite(batch, infos)
        found = [np.asarray(x) for x in errors_of(*_network_inputs(batch), batch.kappa)]
        rows = _some(batch.weight > 0, settings.voxels, rng)
        inputs, log_bound, log_error = (x.reshape(-1, x.shape[-1])[rows] for x in found)
        group = groups(np.asarray(batch.labels), batch.sigma).reshape(-1)[rows]
        yield Errors(inputs.astype(np.float16), log_bound, log_error, group)


def fit(head: ErrorHead, errors: Errors, settings: Settings) -> Iterator[float]:
    """Fit an error head in place, yielding the loss of each iteration.

    The levels that the loss asks for in a group move until the group's two intervals contain
    `SHARES` of its errors; `head.log_factor` moves until the wider interval does so on average over
    the groups of grey and white matter.

    Raises
    ------
    TrainingError
        If a loss is not finite.
    """
    schedule = keras.optimizers.schedules.CosineDecay(
        settings.learning_rate, settings.iterations, alpha=_LAST_SHARE
    )
    optimizer = keras.optimizers.Adam(schedule, global_clipnorm=_CLIP_NORM)
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
        deficit = _deficit(excess, group)
        both = tf.reduce_sum(_WEIGHT * deficit, axis=1, keepdims=True)
        levels.assign(tf.clip_by_value(levels + both * _LEVEL_STEP, *_LEVEL_LIMITS))
        of_wider = tf.reduce_mean(deficit[:NUM_LEADING, 1], axis=0)
        head.log_factor.assign_add(_FACTOR_STEP * of_wider)
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
                f"the loss is not finite at iteration {iteration}; lower `learning_rate`."
            )
        yield loss


def _deficit(excess: Any, group: Any) -> tf.Tensor:
    """Shares that the intervals should contain less those that they do contain, (groups, 2, Q)."""
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
        for q, parameter in enumerate(network.model.parameters)
    }


def save(
    network: RIM,
    path: Path,
    settings: Settings,
    coverage: dict[str, dict[str, float]],
    judged: Sequence[ShardInfo],
) -> None:
    """Write a network with its error head, and its card; `judged` are the shards of `coverage`."""
    described = asdict(settings)
    described["network"] = Path(settings.network).stem
    described["data"] = sorted(Path(folder).name for folder in settings.data)
    card = dict(read_card(find_model(settings.network)))
    card["weights"] = network.count_params()
    card["error_head"] = {
        **described,
        "interval95": {
            parameter: round(float(factor), 3)
            for parameter, factor in zip(
                network.model.parameters, network.error_head.factors, strict=True
            )
        },
        "held_back_shards": [f"{info.path.parent.name}/{info.path.name}" for info in judged],
        "coverage_of_held_back_patches": coverage,
        "versions": {"relaxnet": __version__, "tensorflow": tf.__version__},
    }
    save_network(network, path, card)


def _network_inputs(batch: Batch) -> tuple[Any, ...]:
    """S, protocol, sigma, rician and known maps of a batch."""
    S, _, sigma, _, protocol, rician, known = batch.for_steps()
    return S, protocol, sigma, rician, known


def _compiled_errors(network: RIM) -> Callable[..., Any]:
    """Compiled: the head's inputs for a batch's voxels, and the logarithm of their errors."""
    use_full_precision()

    @tf.function(reduce_retracing=True, autograph=False)
    def errors_of(
        S: Any, protocol: Any, sigma: Any, rician: Any, known: Any, kappa: Any
    ) -> tuple[Any, Any, Any]:
        inputs = [S, protocol, sigma, rician, None, known if known.shape[-1] else None]
        u, states = network.last(inputs)
        of_head = network.head_inputs(u, states, network.likelihood(inputs))
        # Linear in kappa, as intervals around kappa_hat are.
        kappa_hat = to_kappa(u, network.model, network.coordinates)
        slope = derivative(kappa_hat, network.model, network.coordinates)
        error = tf.abs((kappa - kappa_hat) / slope)
        return *of_head, tf.math.log(tf.maximum(error, _SMALLEST_ERROR))

    return errors_of


def _some(counted: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    """Flat indices of at most `number` voxels of each patch, of those that are `counted`."""
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
