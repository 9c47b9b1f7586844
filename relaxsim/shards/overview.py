"""Overview of a folder of shards: its contents, and whether all of them are sound."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from relaxsim.shards.layout import (
    ShardError,
    ShardInfo,
    list_shards,
    read_info,
    shard_path,
    verify_shard,
)

#: So many protocols are listed one by one.
_MOST_PROTOCOLS = 4
#: Settings that `describe` lists by other names.
_LISTED_SETTINGS = {"patches", "patch_size", "protocols", "anatomies", "tissues", "times"}


def describe(folder: str | Path) -> dict[str, str]:
    """Contents of the shards of a folder, by the name of each line.

    Raises
    ------
    ShardError
        If the folder is missing, holds no shard, or one cannot be read.
    """
    paths = list_shards(folder)
    infos = [read_info(path) for path in paths]
    first, size = infos[0], sum(path.stat().st_size for path in paths)
    settings = first.settings
    patches = sum(info.num_patches for info in infos)
    models = sorted({info.signal_model.name for info in infos})
    model = first.signal_model
    units = ", ".join(f"{p} ({u})" for p, u in zip(model.parameters, model.units, strict=True))
    lines = {
        "shards": f"{len(infos)}, {size / 1e9:.2f} GB",
        "patches": f"{patches} of {first.patch_size} x {first.patch_size} voxels"
        + (f", of a run of {settings['patches']}" if "patches" in settings else ""),
        "signal model": f"{', '.join(models)}: {units}",
        "protocols": _protocols(infos),
        "version": ", ".join(sorted({info.version for info in infos})),
    }
    if "anatomies" in settings:
        lines["anatomies"] = _anatomies(settings["anatomies"])
    if "tissues" in settings:
        lines["tissues"] = settings["tissues"][0]
    for name in sorted(set(settings) - _LISTED_SETTINGS):
        lines[name] = _plain(settings[name])
    return lines


def problems(folder: str | Path) -> Iterator[str]:
    """Faults of the shards of a folder: one line each, none if all are sound.

    Raises
    ------
    ShardError
        If the folder is missing or holds no shard.
    """
    paths = list_shards(folder)
    good: list[ShardInfo] = []
    for path in paths:
        try:
            good.append(verify_shard(path))
        except ShardError as error:
            yield str(error)
    for info in good:
        if info.path != shard_path(folder, info.index):
            yield f"{info.path} is shard {info.index} by its contents. It was renamed."
        elif (info.settings, info.version) != (good[0].settings, good[0].version):
            yield f"{info.path} was made with other settings than {good[0].path}."
    names = {path.name for path in paths}
    missing = [i for i in range(len(paths)) if shard_path(folder, i).name not in names]
    if missing:
        yield f"{folder} lacks shard {missing[0]}. The command that made the others adds it."


def run_length(folder: str | Path) -> int:
    """Number of shards of the run that a folder's shards belong to, by their settings.

    Raises
    ------
    ShardError
        If the folder is missing, holds no shard, or one cannot be read.
    """
    infos = [read_info(path) for path in list_shards(folder)]
    size = max(info.num_patches for info in infos)  # only the run's last shard may be smaller
    return max(len(infos), -(-int(infos[0].settings.get("patches", 0)) // size))


def _protocols(infos: list[ShardInfo]) -> str:
    kinds = Counter(f"{info.protocol} ({_protocol_words([info])})" for info in infos)
    listed = [f"{name} in {count}" for name, count in sorted(kinds.items())]
    if len(listed) <= _MOST_PROTOCOLS:
        return "; ".join(listed)
    return f"{len(listed)} different, {_protocol_words(infos)}"


def _protocol_words(infos: list[ShardInfo]) -> str:
    """Number of images and range of each column: ``23 times, 172 to 893 ms``."""
    model = infos[0].signal_model
    low = np.min([info.protocol_table.min(0) for info in infos], axis=0)
    high = np.max([info.protocol_table.max(0) for info in infos], axis=0)
    numbers = sorted({len(info.protocol_table) for info in infos})
    number = str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
    if len(model.columns) == 1 and model.border.columns[0].is_time:
        between = ", " if len(infos) == 1 else " from "
        return f"{number} times{between}{low[0]:g} to {high[0]:g} ms"
    ranges = [
        f"{border.symbol} {first:g} to {last:g} {column.unit}"
        for column, border, first, last in zip(
            model.columns, model.border.columns, low, high, strict=True
        )
    ]
    return f"{number} images, {', '.join(ranges)}"


def _anatomies(anatomies: list[list[str]]) -> str:
    if all(name == "builtin" for name, _ in anatomies):
        return f"built-in head, subjects {', '.join(seed for _, seed in anatomies)}"
    return ", ".join(name for name, _ in anatomies)


def _plain(value: object) -> str:
    if isinstance(value, list):
        return " to ".join(_plain(v) for v in value)
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return str(value)
