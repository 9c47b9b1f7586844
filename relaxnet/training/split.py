"""The shards that a network is trained on, and those that it is validated on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from relaxnet.training.dataset import read_infos
from relaxnet.training.settings import TrainingError
from relaxsim.shards.layout import ShardInfo

#: Of a protocol's shards in a folder one in so many is held back.
_INTERVAL = 29
#: There are at least so many shards for each that is held back, if there are as many.
_SMALLEST_RATIO = 10


def split(
    data: Sequence[str], validation: Sequence[str] = ()
) -> tuple[list[ShardInfo], list[ShardInfo]]:
    """Training and validation shards of some folders.

    Parameters
    ----------
    data : sequence of str
        Folders to train on.
    validation : sequence of str
        Folders to validate on; empty holds back some shards of `data` (`held_back`).

    Raises
    ------
    TrainingError
        If `validation` is no independent sample of the same signal model.
    relaxsim.shards.layout.ShardError
        If shards are missing, damaged, or of several signal models.
    """
    infos = read_infos(data)
    if validation:
        validation_infos = read_infos(validation)
        check_independent(infos, validation_infos)
        return infos, validation_infos
    positions = held_back(infos)
    if len(positions) == len(infos):
        raise TrainingError(
            "all shards have the same random draws, so that none is left to train on beside those "
            "to validate; make the folders with a `seed` each, or give one."
        )
    return (
        [info for i, info in enumerate(infos) if i not in positions],
        [info for i, info in enumerate(infos) if i in positions],
    )


def check_independent(infos: Sequence[ShardInfo], validation: Sequence[ShardInfo]) -> None:
    """Refuse validation shards of another signal model, or with the draws of training shards."""
    trained, validated = infos[0].signal_model.name, validation[0].signal_model.name
    if trained != validated:
        raise TrainingError(
            f"the shards to train on are for {trained}, those to validate for {validated}."
        )
    training_paths = {_draws(info): info.path for info in infos}
    for info in validation:
        if _draws(info) in training_paths:
            raise TrainingError(
                f"{info.path} holds the random draws of {training_paths[_draws(info)]}, which "
                "would be trained on; make the shards for `validation` with another `seed`."
            )


def _draws(info: ShardInfo) -> tuple[Any, int]:
    """Seed and index, which determine a shard's random numbers, noise included."""
    return info.settings.get("seed"), info.index


def held_back(infos: Sequence[ShardInfo]) -> set[int]:
    """Positions of the shards to validate on: of each protocol in each folder the last.

    Of many shards of a protocol they are every 29th. 29 is prime, so that all anatomies take turns,
    which repeat at intervals of shards too. They are at most a tenth of all shards, or one; with
    more protocols than that, some have none. Shards with the same random draws, as of a folder
    given twice, are held back together.
    """
    groups: dict[tuple[Path, str], list[int]] = {}
    for position, info in enumerate(infos):
        groups.setdefault((info.path.parent, info.protocol), []).append(position)
    chosen = sorted(position for group in groups.values() for position in group[:0:-_INTERVAL])
    if not chosen and len(infos) > 1:
        chosen = [len(infos) - 1]
    most = max(1, len(infos) // _SMALLEST_RATIO)
    if len(chosen) > most:
        chosen = [chosen[i] for i in np.linspace(0, len(chosen) - 1, most).round().astype(int)]
    draws = {_draws(infos[position]) for position in chosen}
    return {position for position, info in enumerate(infos) if _draws(info) in draws}
