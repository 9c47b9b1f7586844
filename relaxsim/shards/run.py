"""Generation: the shards of a run, written by processes.

Any number of processes in any order, a resumed run or a job array write the same data, since a
shard is a function of the settings and its index (`relaxsim.shards.generate`).
"""

from __future__ import annotations

import itertools
import shutil
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np

from relaxsim.core.files import remove_leftovers
from relaxsim.core.folders import check_writable, nearest_existing
from relaxsim.core.processes import end_with_parent
from relaxsim.core.version import __version__
from relaxsim.models.registry import find_models, model_folders
from relaxsim.shards.generate import Settings, make_shard
from relaxsim.shards.layout import (
    GOES_ON,
    ShardError,
    ShardInfo,
    read_info,
    shard_path,
    write_shard,
)

#: Seconds after which the folder is searched again for shards that the processes have written.
_GLANCE = 0.2
#: Largest shard that is made, bytes. A process has it in memory twice.
MOST_BYTES = 2e9


def shard_bytes(settings: Settings, index: int) -> int:
    """Size of shard `index` on disk, an upper bound within about 1 %."""
    model, num = settings.model, settings.patches_of(index)
    per_voxel = settings.protocol_of(index).num_images * np.dtype(settings.dtype).itemsize
    # kappa and known maps; labels and purity
    per_voxel += 4 * (model.num_parameters + len(model.known_maps)) + 3
    settings_text = 3 * len(str(settings.to_json()))
    return num * (settings.patch_size**2 * per_voxel + 100) + 20_000 + settings_text


def check_space(settings: Settings, folder: str | Path, indices: Sequence[int]) -> tuple[int, int]:
    """Bytes that the shards `indices` take, and bytes that are free for them.

    Raises
    ------
    ValueError
        If one of them would not fit in memory, or `folder` cannot be written.
    OSError
        If they do not fit on the disk.
    """
    check_writable(folder)
    sizes = [shard_bytes(settings, i) for i in indices]
    if (largest := max(sizes, default=0)) > MOST_BYTES:
        raise ValueError(
            f"a shard of {settings.patches_per_shard} patches would take {largest / 1e9:.1f} GB; "
            f"at most {MOST_BYTES / 1e9:g} GB are made. Give a smaller `patch_size` or shorter "
            "protocols."
        )
    old = [shard_path(folder, i) for i in indices]
    free = shutil.disk_usage(nearest_existing(folder)).free + sum(
        p.stat().st_size for p in old if p.is_file()
    )
    need = sum(sizes)
    if need > free:
        patches = sum(settings.patches_of(i) for i in indices)
        raise OSError(
            f"{patches} patches take {need / 1e9:.2f} GB, {folder} has {free / 1e9:.2f} GB free. "
            "Ask for fewer `patches` or another `out`."
        )
    return need, free


def check_number(settings: Settings, folder: str | Path, shards: int) -> None:
    """Refuse more shards than the whole disk holds, before each is looked at.

    Raises
    ------
    OSError
    """
    voxels = (shards - 1) * settings.patches_per_shard * settings.patch_size**2
    least = voxels * 4 * settings.model.num_parameters
    if least > (total := shutil.disk_usage(nearest_existing(folder)).total):
        raise OSError(
            f"{settings.patches} patches take more than {least / 1e9:.0f} GB, more than the disk "
            f"of {total / 1e9:.0f} GB holds. Ask for fewer `patches`."
        )


def pending_shards(
    settings: Settings, folder: str | Path, indices: Sequence[int], overwrite: bool = False
) -> list[int]:
    """Indices whose shard is to be written: all if `overwrite`, else those that are not there.

    Raises
    ------
    ShardError
        If a shard of the folder was made with other settings (and not `overwrite`), or cannot be
        read.
    """
    if overwrite:
        return list(indices)
    for path in sorted(Path(folder).glob("shard-*.h5")):
        if different := differences(read_info(path), settings):
            raise ShardError(
                f"{path} was made with other settings ({', '.join(different)}). "
                "Give another `out`, or `overwrite`."
            )
    return [i for i in indices if not shard_path(folder, i).is_file()]


def differences(info: ShardInfo, settings: Settings) -> list[str]:
    """Names of the settings in which a shard differs from a run; empty if it belongs to it."""
    expected, found = settings.to_json(), info.settings
    names = sorted(set(found) | set(expected))
    different = [name for name in names if found.get(name) != expected.get(name)]
    if info.version != __version__:
        different.append(f"version {info.version}, this is {__version__}")
    return different


def remove_replaced(settings: Settings, folder: str | Path, indices: Sequence[int]) -> None:
    """Remove the shards that overwriting replaces, so that a folder never mixes settings.

    These are the shards `indices` and every shard of other settings; shards of the same settings
    (of other jobs of an array) stay.
    """
    replaced = {shard_path(folder, i) for i in indices}
    for path in sorted(Path(folder).glob("shard-*.h5")):
        try:
            stale = path in replaced or differences(read_info(path), settings)
        except ShardError:
            stale = True
        if stale:
            path.unlink(missing_ok=True)


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
        Shards that are not there yet.
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
    parts = _parts(settings, indices, jobs)
    if jobs == 1 or len(parts) == 1:
        for index in itertools.chain(*parts):
            _write(settings, folder, index)
            yield index
        return
    context = get_context("spawn")
    stop = context.Event()
    with ProcessPoolExecutor(jobs, context, _prepare_worker, (stop, model_folders())) as pool:
        futures = {pool.submit(_write_many, settings, folder, part) for part in parts}
        try:
            yield from _watch(futures, folder, set(indices))
        except BrokenProcessPool:
            raise OSError(
                "a process was killed, perhaps for want of memory (fewer `jobs` need less). "
                f"{GOES_ON}"
            ) from None
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
            remove_leftovers(folder)  # of a process that was killed


def _watch(futures: set[Future], folder: Path, missing: set[int]) -> Iterator[int]:
    """Yield shards as their files appear, until all futures are done."""
    while futures:
        done, futures = wait(futures, _GLANCE)
        for future in done:
            future.result()
        there = {i for i in missing if shard_path(folder, i).is_file()}
        missing -= there
        yield from sorted(there)


def _parts(settings: Settings, indices: Sequence[int], jobs: int) -> list[list[int]]:
    """Shards in groups of one anatomy each, so that few processes load the same.

    Large groups are cut, and come first, so that the processes end together.
    """
    groups: dict[Any, list[int]] = {}
    for index in indices:
        groups.setdefault(settings.anatomy_of(index), []).append(index)
    size = max(1, -(-len(indices) // (4 * jobs)))
    parts = [group[i : i + size] for group in groups.values() for i in range(0, len(group), size)]
    return sorted(parts, key=len, reverse=True)


#: Set in the workers when the run is given up.
_stop: Event | None = None


def _prepare_worker(stop: Event, folders: list[str]) -> None:
    """Know the parent's signal models, leave Ctrl-C to it, and end with it even if it is killed."""
    global _stop
    _stop = stop
    find_models(folders)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()


def _write_many(settings: Settings, folder: Path, indices: list[int]) -> None:
    for index in indices:
        if _stop is not None and _stop.is_set():
            return
        _write(settings, folder, index)


def _write(settings: Settings, folder: Path, index: int) -> None:
    arrays, protocol = make_shard(settings, index)
    write_shard(
        shard_path(folder, index),
        arrays,
        settings.model,
        protocol.table,
        protocol.name,
        index,
        settings.to_json(),
    )
