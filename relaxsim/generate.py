"""Generation: settings and an index become a shard; many shards by processes.

Shard i is a function of the settings and (seed, i) alone, so that any number of processes in any
order, a resumed run or a job array write the same data.
"""

from __future__ import annotations

import functools
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from relaxsim.anatomy import Anatomy, brain_mask, builtin_head, load_anatomy
from relaxsim.maps import draw_tissue_values
from relaxsim.noise import SIGMA_RANGE, draw_sigma
from relaxsim.patches import (
    coarse_fractions,
    crop,
    draw_centres,
    fine_size,
    random_orientation,
)
from relaxsim.protocols import Protocol, random_protocol
from relaxsim.shards import (
    ShardError,
    list_shards,
    read_info,
    remove_leftovers,
    shard_path,
    write_shard,
)
from relaxsim.shapes import draw_shapes
from relaxsim.signals import SignalModel, model_for_times
from relaxsim.simulate import Mixture, mixture_of_fractions, mixture_of_labels, simulate
from relaxsim.tissues import parse_tissues

PATCHES_PER_SHARD = 240
PATCHES_PER_RANDOM_SHARD = 24
#: Subjects that the built-in head is drawn for when no anatomy is given.
BUILTIN_SUBJECTS = 10


@dataclass(frozen=True)
class Settings:
    """All that a run's data depend on, besides the shard's index.

    Attributes
    ----------
    times : str
        ``tis`` or ``tes``; names the signal model.
    protocols : tuple of (str, tuple of float)
        Names and times in ms; shard i takes number ``i % len(protocols)``. Empty: a random
        protocol for every shard.
    anatomies : tuple of (str, str)
        Path and SHA-256 of each label volume, or ``builtin`` and its seed; shard i takes number
        ``i % len(anatomies)``.
    tissues : (str, str)
        Name and text of the tissue table.
    patches, patch_size, seed : int
        Total number of patches, their width in voxels, the seed.
    spread : float
        Voxel-wise variation inside a tissue, share of its value.
    noise : str
        ``gaussian`` or ``rician``.
    sigma_range : (float, float)
        Noise standard deviation, in units of CSF's A.
    b_field : str
        ``patch``, ``wide`` or ``smooth``.
    tr_range : (float, float) or None
        Repetition time in ms, log-uniform; None is infinite.
    voxel_size : (float, float) or None
        Voxel size in mm, log-uniform, one a patch; None takes the anatomy's own, with crisp
        labels.
    shapes : float
        Share of patches with drawn shapes instead of anatomy.
    augment : bool
        Random flips and quarter turns.
    dtype : str
        Of S, ``float32`` or ``float16``.
    """

    times: str
    protocols: tuple[tuple[str, tuple[float, ...]], ...]
    anatomies: tuple[tuple[str, str], ...]
    tissues: tuple[str, str]
    patches: int = 7200
    patch_size: int = 40
    seed: int = 0
    spread: float = 0.03
    noise: str = "gaussian"
    sigma_range: tuple[float, float] = SIGMA_RANGE
    b_field: str = "patch"
    tr_range: tuple[float, float] | None = None
    voxel_size: tuple[float, float] | None = None
    shapes: float = 0.0
    augment: bool = True
    dtype: str = "float32"

    @property
    def model(self) -> SignalModel:
        """Signal model."""
        return model_for_times(self.times)

    @property
    def patches_per_shard(self) -> int:
        """240, or 24 where every shard has a protocol of its own."""
        return PATCHES_PER_SHARD if self.protocols else PATCHES_PER_RANDOM_SHARD

    @property
    def num_shards(self) -> int:
        """Number of shards of the whole run."""
        return -(-self.patches // self.patches_per_shard)

    def to_json(self) -> dict[str, Any]:
        """Settings as stored in shards: anatomies by file name, not by path."""
        fields = dict(vars(self))
        fields["anatomies"] = [[Path(path).name, checksum] for path, checksum in self.anatomies]
        return _listed(fields)


def protocol_of(settings: Settings, index: int) -> Protocol:
    """Protocol of shard `index`."""
    if settings.protocols:
        name, tau = settings.protocols[index % len(settings.protocols)]
        return Protocol(name, settings.times, np.array(tau))
    return random_protocol(shard_rng(settings.seed, index, stream=1), settings.times)


def shard_rng(seed: int, index: int, stream: int = 0) -> np.random.Generator:
    """Random generator of shard `index`; `stream` separates independent uses."""
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence([seed, index, stream])))


def estimated_bytes(settings: Settings) -> int:
    """Size on disk of the whole run, an upper bound for random protocols' mean."""
    sizes = [len(tau) for _, tau in settings.protocols] or [16]
    per_image = np.dtype(settings.dtype).itemsize
    per_voxel = np.mean(sizes) * per_image + 4 * settings.model.num_parameters + 3
    return int(settings.patches * settings.patch_size**2 * per_voxel) + 20_000 * settings.num_shards


def make_shard(settings: Settings, index: int) -> tuple[dict[str, np.ndarray], Protocol]:
    """Arrays of shard `index` (layout of `relaxsim.shards`) and its protocol."""
    rng = shard_rng(settings.seed, index)
    protocol = protocol_of(settings, index)
    first = index * settings.patches_per_shard
    num = min(settings.patches_per_shard, settings.patches - first)
    mixture, origin = draw_mixture(settings, index, num, rng)
    table = parse_tissues(settings.tissues[1], settings.tissues[0])
    values = draw_tissue_values(
        settings.model, table, num, settings.patch_size, rng, settings.b_field, settings.tr_range
    )
    sigma = draw_sigma(rng, num, settings.sigma_range)
    patches = simulate(
        mixture, protocol.tau, settings.model, values, sigma, rng, settings.spread, settings.noise
    )
    arrays = {
        "S": patches.S.astype(settings.dtype, copy=False),
        "kappa": patches.kappa,
        "sigma": patches.sigma,
        "labels": patches.labels,
        "purity": patches.purity.astype(np.float16),
        "origin": origin,
    }
    return arrays, protocol


def draw_mixture(
    settings: Settings, index: int, num: int, rng: np.random.Generator
) -> tuple[Mixture, np.ndarray]:
    """Mixture and origin (num, 4) of the patches of a shard."""
    anatomy, flat_mask = _anatomy(*settings.anatomies[index % len(settings.anatomies)])
    P = settings.patch_size
    centres = draw_centres(flat_mask, anatomy.labels.shape, num, rng)
    origin = np.column_stack([np.full(num, anatomy.subject), centres]).astype(np.int32)
    is_shape = rng.random(num) < settings.shapes
    origin[is_shape] = (-1, 0, 0, 0)
    partial = settings.voxel_size is not None
    out = np.zeros((num, P, P, 12), np.float32) if partial else np.zeros((num, P, P), np.uint8)
    for i, centre in enumerate(centres):
        factor = 1.0
        if partial:
            factor = np.exp(rng.uniform(*np.log(settings.voxel_size))) / anatomy.voxel_size
        fine = fine_size(P, factor) if partial else P
        depth = fine_size(1, factor) if partial else 1
        if is_shape[i]:
            block = np.broadcast_to(draw_shapes(rng, fine, factor), (depth, fine, fine))
        else:
            block = crop(anatomy.labels, centre, (depth, fine, fine))
        if settings.augment:
            block = random_orientation(block, rng)
        out[i] = coarse_fractions(block, (P, P), factor) if partial else block[0]
    return (mixture_of_fractions(out) if partial else mixture_of_labels(out)), origin


@functools.lru_cache(maxsize=1)
def _anatomy(path: str, checksum: str) -> tuple[Anatomy, np.ndarray]:
    """Label volume and the flat indices of its brain; the last one is kept."""
    anatomy = builtin_head(int(checksum)) if path == "builtin" else load_anatomy(path)
    if path != "builtin" and anatomy.checksum != checksum:
        raise ValueError(f"{path} has changed since the run began.")
    return anatomy, np.flatnonzero(brain_mask(anatomy.labels)).astype(np.int32)


def pending_shards(
    settings: Settings, folder: str | Path, indices: Sequence[int], overwrite: bool = False
) -> list[int]:
    """Indices whose shard is not there yet.

    Raises
    ------
    ShardError
        If a shard of the folder was made with other settings (and not `overwrite`), or cannot be
        read.
    """
    folder = Path(folder)
    if overwrite:
        return list(indices)
    if folder.is_dir() and any(folder.glob("shard-*.h5")):
        expected = settings.to_json()
        for path in list_shards(folder):
            if different := _differences(read_info(path).settings, expected):
                raise ShardError(
                    f"{path} was made with other settings ({', '.join(different)}). "
                    "Give another --out, or --overwrite."
                )
    return [i for i in indices if not shard_path(folder, i).is_file()]


def generate(
    settings: Settings, folder: str | Path, indices: Sequence[int], jobs: int = 1
) -> Iterator[int]:
    """Write the shards `indices`, yielding each as it is complete.

    Parameters
    ----------
    settings : Settings
    folder : path
        Made if missing.
    indices : sequence of int
    jobs : int
        Processes.

    Raises
    ------
    OSError
        If the disk is full or the folder cannot be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    # Shards of one anatomy follow each other, so that each process loads few of them.
    order = sorted(indices, key=lambda i: (i % len(settings.anatomies), i))
    if jobs == 1 or len(order) == 1:
        for index in order:
            _write(settings, folder, index)
            yield index
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(_write_many, settings, folder, part) for part in _parts(order, jobs)]
        try:
            for future in as_completed(futures):
                yield from future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def check_space(settings: Settings, folder: str | Path, share: float = 1.0) -> tuple[int, int]:
    """Bytes that the run (or a share of it) takes, and bytes that are free.

    Raises
    ------
    OSError
        If it does not fit.
    """
    parent = Path(folder).absolute()
    while not parent.exists():
        parent = parent.parent
    need, free = int(estimated_bytes(settings) * share), shutil.disk_usage(parent).free
    if need > free:
        raise OSError(
            f"{settings.patches} patches take {need / 1e9:.2f} GB, {folder} has "
            f"{free / 1e9:.2f} GB free. Ask for fewer --patches or another --out."
        )
    return need, free


def _parts(order: list[int], jobs: int) -> list[list[int]]:
    """Runs of consecutive shards: short enough to share the work, long enough to reuse anatomy."""
    size = max(1, min(8, -(-len(order) // (4 * jobs))))
    return [order[i : i + size] for i in range(0, len(order), size)]


def _write_many(settings: Settings, folder: Path, indices: list[int]) -> list[int]:
    for index in indices:
        _write(settings, folder, index)
    return indices


def _write(settings: Settings, folder: Path, index: int) -> None:
    arrays, protocol = make_shard(settings, index)
    write_shard(
        shard_path(folder, index),
        arrays,
        settings.model,
        protocol.tau,
        protocol.name,
        index,
        settings.to_json(),
    )


def _differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    keys = sorted(set(found) | set(expected))
    return [key for key in keys if found.get(key) != expected.get(key)]


def _listed(value: Any) -> Any:
    """Tuples as lists, so that settings compare equal after JSON."""
    if isinstance(value, (tuple, list)):
        return [_listed(v) for v in value]
    if isinstance(value, dict):
        return {key: _listed(v) for key, v in value.items()}
    return value


def with_protocols(settings: Settings, protocols: Sequence[Protocol]) -> Settings:
    """Settings with these protocols."""
    listed = tuple((p.name, tuple(float(t) for t in p.tau)) for p in protocols)
    return replace(settings, protocols=listed)
