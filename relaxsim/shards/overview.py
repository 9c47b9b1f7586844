"""Overview of a folder of shards: what it holds, and whether all of it is sound."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from relaxsim.shards.layout import (
    ShardError,
    ShardInfo,
    list_shards,
    read_info,
    shard_path,
    verify_shard,
)

_MOST_PROTOCOLS = 4


def describe(folder: str | Path) -> dict[str, str]:
    """What the shards of a folder hold, line by line.

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
    told = {"patches", "patch_size", "protocols", "anatomies", "tissues", "times"}
    for name in sorted(set(settings) - told):
        lines[name] = _plain(settings[name])
    return lines


def problems(folder: str | Path) -> Iterator[str]:
    """What is wrong with the shards of a folder: one line each, none if all is sound.

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
    """Number of shards of the run that a folder's shards are of, as their settings say it.

    Raises
    ------
    ShardError
        If the folder is missing, holds no shard, or one cannot be read.
    """
    infos = [read_info(path) for path in list_shards(folder)]
    size = max(info.num_patches for info in infos)  # only the run's last shard may be smaller
    return max(len(infos), -(-int(infos[0].settings.get("patches", 0)) // size))


def _protocols(infos: list[ShardInfo]) -> str:
    kinds = Counter(
        f"{info.protocol} ({len(info.tau)} times, {info.tau.min():g} to {info.tau.max():g} ms)"
        for info in infos
    )
    listed = [f"{name} in {count}" for name, count in sorted(kinds.items())]
    if len(listed) <= _MOST_PROTOCOLS:
        return "; ".join(listed)
    numbers = sorted(len(info.tau) for info in infos)
    low, high = min(i.tau.min() for i in infos), max(i.tau.max() for i in infos)
    return (
        f"{len(listed)} different, {numbers[0]} to {numbers[-1]} times from {low:g} to {high:g} ms"
    )


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
