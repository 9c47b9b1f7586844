"""Training batches: shards -> tf.data.

The patches of batch k are a function of (seed, k), so that a resumed run has the batches that the
unbroken one would have had. Whole shards are read, each once an epoch, and a few of them are kept
in memory and mixed; every batch comes from one shard, since a shard has one protocol.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from relaxnet.networks.frameworks import tf
from relaxnet.series.scale import patch_scale
from relaxsim.shards.layout import (
    Shard,
    ShardError,
    ShardInfo,
    check_range,
    list_shards,
    read_info,
    read_shard,
)

#: Shards that are mixed, and kept in memory.
MIXED_SHARDS = 4
#: Validation: about this many batches, and at most twice as many shards.
VALIDATION_BATCHES = 16
#: Share of patches with a wrong sigma, where that is asked.
WRONG_SIGMA_SHARE = 0.25
#: Range of the random factor of a patch's scale, since a slice's scale is not that of its patches.
SCALE_JITTER = (0.7, 1.4)
#: A voxel has weight 1 in the loss if one tissue fills at least this share of it.
LEAST_PURITY = 0.3
#: Settings of shards that a network's card takes over.
STATED_SETTINGS = ("sigma_range", "tissues")
#: From this share on, a voxel holds one tissue alone (shares are stored in half precision).
PURE = 0.999


@dataclass(frozen=True)
class Batch:
    """One batch, in units of each patch's scale.

    Attributes
    ----------
    S : array, shape (b, P, P, N)
    kappa : array, shape (b, P, P, Q)
    sigma : array, shape (b,)
    weight : array, shape (b, P, P)
        1 where a voxel is part of the loss, else 0.
    protocol : array, shape (N, D)
    shard : int
        Position of the shard in the list, for messages.
    rician : array, shape (b,)
        1 if noise is Rician, 0 if it is Gaussian.
    labels : array, shape (b, P, P), uint8
        Tissue of a voxel that holds one alone, else 0.
    known : array, shape (b, P, P, K), optional
        Known maps of the signal model.
    """

    S: np.ndarray
    kappa: np.ndarray
    sigma: np.ndarray
    weight: np.ndarray
    protocol: np.ndarray
    shard: int
    rician: np.ndarray
    labels: np.ndarray | None = None
    known: np.ndarray | None = None

    @property
    def tau(self) -> np.ndarray:
        """First column of the protocol, (N,): the times of a model that has times alone."""
        return self.protocol[:, 0]

    def for_steps(self) -> tuple[np.ndarray, ...]:
        """S, kappa, sigma, weight, protocol, rician and known maps (K = 0 if there are none)."""
        known = self.known
        if known is None:
            known = np.zeros((*self.weight.shape, 0), np.float32)
        return self.S, self.kappa, self.sigma, self.weight, self.protocol, self.rician, known


def read_infos(folders: Sequence[str | Path]) -> list[ShardInfo]:
    """Descriptions of the shards of some folders.

    Raises
    ------
    ShardError
        If a folder holds none, a shard is damaged or does not state its tissues and noise, or they
        mix signal models.
    """
    infos = [read_info(path) for folder in folders for path in list_shards(folder)]
    for info in infos:
        if missing := [name for name in STATED_SETTINGS if name not in info.settings]:
            raise ShardError(f"{info.path}: its settings have no {missing[0]}.")
    for info in infos[1:]:
        if info.signal_model != infos[0].signal_model:
            raise ShardError(
                f"{info.path} holds {info.signal_model.name} patches, "
                f"{infos[0].path} {infos[0].signal_model.name} ones. Train on one kind."
            )
    return infos


@functools.lru_cache(maxsize=2)
def schedule(batches_per_shard: tuple[int, ...], seed: int, epoch: int) -> np.ndarray:
    """Order of an epoch's batches: shard and number of the batch within it, shape (K, 2)."""
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(batches_per_shard))
    parts = []
    for start in range(0, len(order), MIXED_SHARDS):
        group = order[start : start + MIXED_SHARDS]
        pairs = [(s, b) for s in group for b in range(batches_per_shard[s])]
        parts.append(rng.permutation(np.array(pairs, int).reshape(-1, 2)))
    return np.concatenate(parts)


def load_batch(
    infos: Sequence[ShardInfo],
    batch_size: int,
    seed: int,
    iteration: int,
    jitter: bool = True,
    sigma_error: float = 1.0,
) -> Batch:
    """Batch number `iteration`.

    It has `batch_size` of the smallest patches, or as many voxels of larger ones (`batch_sizes`).
    Each patch is divided by its scale (`relaxnet.series.scale`). With `jitter` this scale is
    changed by a random factor (`SCALE_JITTER`), and the batch is mirrored and transposed at random:
    a brain has no orientation in a series. The sigma of a quarter of the patches is wrong by a
    factor of up to `sigma_error` in either direction.

    Raises
    ------
    ShardError
        If a shard cannot be read.
    """
    sizes = batch_sizes(infos, batch_size)
    per_shard = batches_per_shard(infos, sizes)
    epoch, position = divmod(iteration, sum(per_shard))
    which, number = schedule(per_shard, seed, epoch)[position]
    shard, size = _read(str(infos[which].path)), sizes[which]
    order = np.random.default_rng([seed, epoch, which]).permutation(infos[which].num_patches)
    rows = np.sort(order[number * size : (number + 1) * size])
    rng = np.random.default_rng([seed, iteration, 7])
    batch = _normalised(shard, rows, int(which), rng if jitter else None)
    if sigma_error == 1.0:
        return batch
    wrong = sigma_error ** (rng.uniform(-1, 1, size) * (rng.random(size) < WRONG_SIGMA_SHARE))
    return replace(batch, sigma=(batch.sigma * wrong).astype(np.float32))


def batch_sizes(infos: Sequence[ShardInfo], batch_size: int) -> list[int]:
    """Patches of a batch of each shard: about as many voxels as `batch_size` smallest ones have."""
    smallest = min(info.patch_size for info in infos)
    return [max(1, batch_size * smallest**2 // info.patch_size**2) for info in infos]


def batches_per_shard(infos: Sequence[ShardInfo], sizes: Sequence[int]) -> tuple[int, ...]:
    """How many whole batches of these sizes each shard gives.

    Raises
    ------
    ShardError
        If no shard gives one.
    """
    number = tuple(info.num_patches // size for info, size in zip(infos, sizes, strict=True))
    if not any(number):
        raise ShardError(_no_batch("no shard", infos, sizes))
    return number


def _no_batch(where: str, infos: Sequence[ShardInfo], sizes: Sequence[int]) -> str:
    largest = max(info.num_patches for info in infos)
    return (
        f"{where} holds a batch of {min(sizes)} patches (the largest has {largest}). "
        "Lower `batch_size`."
    )


def check_batches(infos: Sequence[ShardInfo], batch_size: int) -> None:
    """Refuse a folder whose shards give no batch: nothing of it would be trained on.

    Raises
    ------
    ShardError
    """
    folders: dict[Path, list[tuple[ShardInfo, int]]] = {}
    for info, size in zip(infos, batch_sizes(infos, batch_size), strict=True):
        folders.setdefault(info.path.parent, []).append((info, size))
    for folder, shards in folders.items():
        if not any(info.num_patches >= size for info, size in shards):
            raise ShardError(_no_batch(f"no shard of {folder}", *zip(*shards, strict=True)))


def batches(
    infos: Sequence[ShardInfo],
    batch_size: int,
    seed: int,
    start: int,
    stop: int,
    jitter: bool = True,
    sigma_error: float = 1.0,
) -> Iterator[tuple[tf.Tensor, ...]]:
    """Batches `start` to `stop` - 1: the tuples of `Batch.for_steps` and the shard's position.

    Raises
    ------
    ShardError
        If a shard cannot be read.
    """
    model = infos[0].signal_model
    Q, K = model.num_parameters, len(model.known_maps)
    D = model.network_columns
    P = infos[0].patch_size if len({info.patch_size for info in infos}) == 1 else None
    b = None if P is None else batch_size
    failures: list[ShardError] = []

    def load(iteration: np.ndarray) -> tuple[np.ndarray, ...]:
        try:
            batch = load_batch(infos, batch_size, seed, int(iteration), jitter, sigma_error)
        except ShardError as error:
            failures.append(error)  # TensorFlow hands on its own error with a traceback in it
            raise
        return *batch.for_steps(), np.array(batch.shard, np.int64)

    def shaped(iteration: tf.Tensor) -> tuple[tf.Tensor, ...]:
        kinds = [tf.float32] * 7 + [tf.int64]
        out = tf.numpy_function(load, [iteration], kinds)
        shapes = [
            (b, P, P, None),
            (b, P, P, Q),
            (b,),
            (b, P, P),
            (None, D),
            (b,),
            (b, P, P, K),
            (),
        ]
        return tuple(tf.ensure_shape(x, s) for x, s in zip(out, shapes, strict=True))

    try:
        yield from tf.data.Dataset.range(start, stop).map(shaped).prefetch(3)
    except tf.errors.OpError:
        if failures:
            raise failures[0] from None
        raise


def validation_batches(infos: Sequence[ShardInfo], batch_size: int) -> list[Batch]:
    """Batches to validate on: the same number from every shard, always the same.

    They are `VALIDATION_BATCHES` in all, but at least one a shard; of more than twice that many
    shards evenly spaced ones serve. Nothing is jittered. A batch is as large as in training
    (`batch_sizes`); a shard of fewer patches gives one smaller batch.

    Raises
    ------
    ShardError
        If a shard cannot be read or holds NaN.
    """
    sizes = batch_sizes(infos, batch_size)
    used = np.unique(np.linspace(0, len(infos) - 1, 2 * VALIDATION_BATCHES).round().astype(int))
    found = []
    for which in used:
        shard = _read_checked(str(infos[which].path))
        order = np.random.default_rng([0, int(which)]).permutation(shard.info.num_patches)
        size = min(sizes[which], len(order))
        for k in range(min(max(1, VALIDATION_BATCHES // len(used)), len(order) // size)):
            rows = np.sort(order[k * size : (k + 1) * size])
            found.append(_normalised(shard, rows, int(which), None))
            check_finite(found[-1], infos)
    return found


def check_finite(batch: Batch, infos: Sequence[ShardInfo]) -> None:
    """Refuse a batch that holds NaN or infinity; raises `ShardError`, which names the shard."""
    if not all(np.isfinite(x).all() for x in (batch.S, batch.kappa, batch.sigma)):
        path = infos[batch.shard].path
        raise ShardError(f"{path} holds values that are not finite; see relaxsim verify.")


def _read(path: str | Path) -> Shard:
    """A shard's data; the last ones are kept, as long as their files do not change."""
    file = Path(path).absolute()
    try:
        status = file.stat()
    except OSError as error:
        raise ShardError(f"{path} cannot be read ({error.strerror}).") from None
    return _kept(file, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=MIXED_SHARDS + 1)
def _kept(file: Path, _changed: int, _size: int) -> Shard:
    return _read_checked(file)


def _read_checked(path: str | Path) -> Shard:
    """A shard whose values are in range; NaN is found by the loss, which names the shard."""
    shard = read_shard(path)
    check_range(shard)
    return shard


def _normalised(
    shard: Shard, rows: np.ndarray, which: int, rng: np.random.Generator | None
) -> Batch:
    S = shard.S[rows].astype(np.float32)
    kappa = shard.kappa[rows].copy()
    present = (shard.labels[rows] > 0) & (shard.purity[rows] >= LEAST_PURITY)
    scale = patch_scale(S, shard.labels[rows] > 0).astype(np.float32)
    if rng is not None:
        low, high = np.log(SCALE_JITTER)
        factors = np.exp(rng.uniform(low, high, len(scale)))
        scale *= factors.astype(np.float32)
    S /= scale[:, None, None, None]
    kappa[..., 0] /= scale[:, None, None]
    turn = _turning(rng)
    return Batch(
        turn(S),
        turn(kappa),
        shard.sigma[rows] / scale,
        turn(present.astype(np.float32)),
        shard.info.signal_model.network_protocol(shard.info.protocol_table),
        which,
        np.full(len(rows), shard.info.rician, np.float32),
        turn(np.where(shard.purity[rows] >= PURE, shard.labels[rows], 0)),
        None if shard.known is None else turn(shard.known[rows]),
    )


def _turning(rng: np.random.Generator | None) -> Callable[[np.ndarray], np.ndarray]:
    """One of the eight mirrorings and transpositions of rows and columns; without `rng` none."""
    if rng is None:
        return lambda x: x
    rows, columns, swap = rng.integers(0, 2, 3)

    def turn(x: np.ndarray) -> np.ndarray:
        x = x[:, :: 1 - 2 * rows, :: 1 - 2 * columns]
        return np.ascontiguousarray(x.swapaxes(1, 2) if swap else x)

    return turn
