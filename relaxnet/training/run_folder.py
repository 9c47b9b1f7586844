"""The folder of a run: networks with their cards, the checkpoint, the history.

Every file is written to a temporary name and renamed, so that a killed run leaves whole ones.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from relaxnet.networks.frameworks import keras, tf
from relaxnet.networks.network import TrainableNetwork
from relaxnet.networks.registry import card_path, next_card_path
from relaxnet.networks.saving import save_network
from relaxnet.networks.training_domain import columns_on_card
from relaxnet.training.settings import EVENTS, Settings, TrainingError
from relaxsim.core.files import read_json, write_json, write_whole
from relaxsim.core.folders import check_writable
from relaxsim.core.version import __version__
from relaxsim.shards.layout import ShardInfo

#: All that a resumed run needs.
CHECKPOINT = "checkpoint.npz"
#: Networks of a run.
NETWORKS = ("best.keras", "last.keras")
#: Files of a run, as patterns; `clear_folder` deletes them, `check_folder` looks for them.
FILES = (
    "settings.json",
    CHECKPOINT,
    *NETWORKS,
    *(card_path(Path(name)).name for name in NETWORKS),
    *(next_card_path(Path(name)).name for name in NETWORKS),
    "history.csv",
    EVENTS,
)
#: What reading a damaged checkpoint raises.
_DAMAGE = (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile)


def save_trained(
    network: TrainableNetwork,
    path: Path,
    settings: Settings,
    infos: Sequence[ShardInfo],
    iteration: int,
    validation_loss: float,
) -> None:
    """Write a network with its card."""
    save_network(network, path, card(network, settings, infos, iteration, validation_loss))


def card(
    network: TrainableNetwork,
    settings: Settings,
    infos: Sequence[ShardInfo],
    iteration: int,
    validation_loss: float,
) -> dict[str, Any]:
    """How a network was made, for the JSON file beside it."""
    left_out = ("protocols", "tissues", "anatomies")
    data = {
        _folder_name(info, infos): {k: v for k, v in info.settings.items() if k not in left_out}
        for info in infos
    }
    names = sorted({info.protocol for info in infos})
    tables = [info.protocol_table for info in infos]
    images = [len(table) for table in tables]
    anatomies = sorted({str(a[0]) for info in infos for a in info.settings.get("anatomies", [])})
    return {
        "kind": network.architecture,
        "signal_model": network.model.name,
        "parameters": list(network.model.parameters),
        "weights": network.count_params(),
        "protocols": names,
        "envelope": {
            "num_images": [min(images), max(images)],
            **columns_on_card(tables, network.model),
            "sigma": [
                min(info.settings["sigma_range"][0] for info in infos),
                max(info.settings["sigma_range"][1] for info in infos),
            ],
        },
        "anatomies": anatomies,
        "tissues": sorted({info.settings["tissues"][0] for info in infos}),
        "data": data,
        "training": {**asdict(settings), **network.size()},
        "iterations_done": iteration,
        "best_validation_loss": None if np.isinf(validation_loss) else validation_loss,
        "versions": {
            "relaxnet": __version__,
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
        },
    }


def _folder_name(info: ShardInfo, infos: Sequence[ShardInfo]) -> str:
    """Name of a shard's folder; its path where another folder has that name."""
    folder = info.path.parent
    namesakes = {other.path.parent for other in infos if other.path.parent.name == folder.name}
    return str(folder) if len(namesakes) > 1 else folder.name


def save_checkpoint(
    path: Path,
    network: TrainableNetwork,
    optimizer: keras.optimizers.Optimizer,
    iteration: int,
    best: float,
) -> None:
    """Write all that a resumed run needs in one file."""
    arrays = {f"weight_{i}": np.asarray(v) for i, v in enumerate(network.variables)}
    arrays |= {f"optimizer_{i}": np.asarray(v) for i, v in enumerate(optimizer.variables)}
    arrays |= {"iteration": np.array(iteration), "best": np.array(best)}
    with write_whole(path) as temporary:
        np.savez(temporary, allow_pickle=False, **arrays)


def load_checkpoint(
    path: Path, network: TrainableNetwork, optimizer: keras.optimizers.Optimizer
) -> tuple[int, float]:
    """Restore weights and optimizer; returns the iteration and the best validation loss.

    Raises
    ------
    TrainingError
        If the file is damaged or of another network.
    """
    try:
        with path.open("rb") as stream, np.load(stream) as stored:
            for prefix, owner in (("weight", network), ("optimizer", optimizer)):
                for i, variable in enumerate(owner.variables):
                    variable.assign(stored[f"{prefix}_{i}"])
            return int(stored["iteration"]), float(stored["best"])
    except _DAMAGE as error:
        raise TrainingError(f"{path} is damaged or does not fit this run ({error}).") from None


def saved_iteration(folder: Path) -> int:
    """Iteration of a folder's checkpoint; 0 where there is none that can be read."""
    try:
        with (folder / CHECKPOINT).open("rb") as stream, np.load(stream) as stored:
            return int(stored["iteration"])
    except _DAMAGE:
        return 0


def has_checkpoint(folder: Path) -> bool:
    """Whether there is something that a run can go on from."""
    return (folder / CHECKPOINT).is_file()


def check_folder(folder: Path, settings: Settings, resume: bool, overwrite: bool) -> None:
    """Check that a folder is free for a run, or that the run in it is the one to resume.

    Raises
    ------
    TrainingError
        If it holds files of a run, or of a network, that is neither to be resumed nor overwritten,
        a run of other settings, or the network to start from.
    """
    path, goes_on = folder / "settings.json", resume and has_checkpoint(folder)
    if path.is_file() and resume:
        defaults = asdict(Settings(()))  # of settings that older versions did not have
        stored = read_json(path)
        if not isinstance(stored, dict):
            raise TrainingError(f"{path} holds no settings; expected a JSON object.")
        stored = {**defaults, **stored}
        mine = json.loads(json.dumps(asdict(settings)))
        free = {"iterations"} if settings.recipe == "paper" else set()
        different = [k for k in mine if stored.get(k) != mine[k] and k not in free]
        if different:
            raise TrainingError(
                f"{folder} was trained with other settings ({', '.join(different)}): "
                "resume with the same ones, or give another `out`."
            )
    elif not (overwrite or goes_on) and (found := _files(folder)):
        raise TrainingError(
            f"{folder} holds a run ({found[0].name}). Give `resume`, `overwrite` or another `out`."
        )
    lost = {path.resolve() for path in _files(folder)}
    if not goes_on and settings.init and Path(settings.init).resolve() in lost:
        raise TrainingError(
            f"`init` {settings.init} would be deleted with its run. Give another `out`."
        )


def clear_folder(folder: Path, settings: Settings, resume: bool) -> None:
    """Write ``settings.json`` to the folder of a run; without `resume` its old files go."""
    for old in [] if resume else _files(folder):
        old.unlink()
    write_json(folder / "settings.json", asdict(settings), sort_keys=True)


def check_takes_files(folder: Path) -> None:
    """Refuse a folder that takes no files, before the work whose result goes there.

    Raises
    ------
    TrainingError
        If there is a file of this name, the folder cannot be written to, or its name is not
        UTF-8: TensorFlow, which writes the curves, takes no other.
    """
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        shown = str(folder).encode("utf-8", "replace").decode()
        raise TrainingError(
            f"the name {shown} is not UTF-8, which TensorBoard's events need. Give another `out`."
        ) from None
    try:
        check_writable(folder)
    except ValueError as error:
        raise TrainingError(str(error)) from None


def _files(folder: Path) -> list[Path]:
    return [file for name in FILES for file in sorted(folder.glob(name))]
