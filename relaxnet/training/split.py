"""Which shards are trained on, and which the network is judged on meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from relaxnet.training.dataset import read_infos
from relaxnet.training.run_folder import TrainingError
from relaxsim.shards.layout import ShardInfo


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
        held_out = read_infos(validation)
        check_apart(infos, held_out)
        return infos, held_out
    held = held_back(infos)
    if len(held) == len(infos):
        raise TrainingError(
            "all shards have the same random draws, so that none is left to train on beside those "
            "to validate; make the folders with a --seed each, or give one."
        )
    return (
        [info for i, info in enumerate(infos) if i not in held],
        [info for i, info in enumerate(infos) if i in held],
    )


def check_apart(infos: Sequence[ShardInfo], validation: Sequence[ShardInfo]) -> None:
    """Refuse validation shards of another signal model, or with the draws of training shards."""
    own, theirs = infos[0].signal_model.name, validation[0].signal_model.name
    if own != theirs:
        raise TrainingError(
            f"the shards to train on are for {own}, those to validate for {theirs}."
        )
    seen = {_draws(info): info.path for info in infos}
    for info in validation:
        if _draws(info) in seen:
            raise TrainingError(
                f"{info.path} holds the random draws of {seen[_draws(info)]}, which would be "
                "trained on; make the shards for --validation with another --seed."
            )


def _draws(info: ShardInfo) -> tuple[Any, int]:
    """What a shard's random numbers, its noise among them, follow from."""
    return info.settings.get("seed"), info.index


def held_back(infos: Sequence[ShardInfo]) -> set[int]:
    """Positions of the shards to validate on: of each list of times in each folder the last.

    Of many shards of a list they are one in 29, a prime: anatomies follow each other in steps of
    their own. They are at most a tenth of all, or one; of more lists than that some have none.
    Shards with the same random draws, as of a folder given twice, go with them.
    """
    groups: dict[tuple[Path, str], list[int]] = {}
    for position, info in enumerate(infos):
        groups.setdefault((info.path.parent, info.protocol), []).append(position)
    held = sorted(position for group in groups.values() for position in group[:0:-29])
    if not held and len(infos) > 1:
        held = [len(infos) - 1]
    most = max(1, len(infos) // 10)
    if len(held) > most:
        held = [held[i] for i in np.linspace(0, len(held) - 1, most).round().astype(int)]
    draws = {_draws(infos[position]) for position in held}
    return {position for position, info in enumerate(infos) if _draws(info) in draws}
