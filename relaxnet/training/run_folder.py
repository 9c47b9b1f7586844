"""The folder of a run: networks with their cards, the checkpoint, the history.

Every file is written to a temporary name and renamed, so that a killed run leaves whole ones.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from relaxnet.networks.registry import card_path, with_policy
from relaxnet.training.history import EVENTS
from relaxsim.core.folders import check_writable
from relaxsim.core.version import __version__
from relaxsim.shards.layout import ShardInfo

if TYPE_CHECKING:
    from relaxnet.training.loop import Settings


#: Files of a run, as patterns; `clear_folder` deletes them, `check_folder` looks for them.
FILES = (
    "settings.json",
    "checkpoint.npz",
    "best.keras",
    "best.json",
    "last.keras",
    "last.json",
    "history.csv",
    EVENTS,
)


#: What reading half a checkpoint raises.
_DAMAGE = (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile)


class TrainingError(ValueError):
    """Training cannot start or go on; one line."""


def save_network(
    network: keras.Model,
    path: Path,
    settings: Settings,
    infos: Sequence[ShardInfo],
    iteration: int,
    validation_loss: float,
) -> None:
    """Write a network and its card, a JSON file beside it."""
    temporary = path.with_name(f".{path.stem}.part.keras")
    with_policy(network, "float32").save(temporary)
    temporary.replace(path)
    write_json(card_path(path), card(network, settings, infos, iteration, validation_loss))


def card(
    network: keras.Model,
    settings: Settings,
    infos: Sequence[ShardInfo],
    iteration: int,
    validation_loss: float,
) -> dict[str, Any]:
    """How a network was made."""
    left_out = ("protocols", "tissues", "anatomies")
    data = {
        _folder_name(info, infos): {k: v for k, v in info.settings.items() if k not in left_out}
        for info in infos
    }
    names = sorted({info.protocol for info in infos})
    tau = np.concatenate([info.tau for info in infos])
    images = [len(info.tau) for info in infos]
    anatomies = sorted({str(a[0]) for info in infos for a in info.settings.get("anatomies", [])})
    return {
        "kind": network.kind,
        "signal_model": network.signal_model,
        "parameters": list(network.parameters),
        "weights": network.count_params(),
        "protocols": names,
        "envelope": {
            "num_images": [min(images), max(images)],
            "tau_ms": [float(tau.min()), float(tau.max())],
            "sigma": [
                min(info.settings["sigma_range"][0] for info in infos),
                max(info.settings["sigma_range"][1] for info in infos),
            ],
        },
        "anatomies": anatomies,
        "tissues": sorted({info.settings["tissues"][0] for info in infos}),
        "data": data,
        "training": {**asdict(settings), **_size(network)},
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
    own = info.path.parent
    twins = {other.path.parent for other in infos if other.path.parent.name == own.name}
    return str(own) if len(twins) > 1 else own.name


def _size(network: keras.Model) -> dict[str, int]:
    """The network's own, which a network to start from brings with it."""
    names = ("features", "num_steps")
    return {name: getattr(network, name) for name in names if hasattr(network, name)}


def save_checkpoint(
    path: Path,
    network: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    iteration: int,
    best: float,
) -> None:
    """Write all that a resumed run needs in one file."""
    arrays = {f"weight_{i}": np.asarray(v) for i, v in enumerate(network.variables)}
    arrays |= {f"optimizer_{i}": np.asarray(v) for i, v in enumerate(optimizer.variables)}
    temporary = path.with_name(f".{path.name}.part.npz")
    arrays |= {"iteration": np.array(iteration), "best": np.array(best)}
    np.savez(temporary, allow_pickle=False, **arrays)
    temporary.replace(path)


def load_checkpoint(
    path: Path, network: keras.Model, optimizer: keras.optimizers.Optimizer
) -> tuple[int, float]:
    """Restore weights and optimizer; returns the iteration and the best validation loss.

    Raises
    ------
    TrainingError
        If the file is missing, damaged, or of another network.
    """
    if not path.is_file():
        raise TrainingError(
            f"{path}: no such file; there is nothing to resume. Leave --resume out."
        )
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
        with (folder / "checkpoint.npz").open("rb") as stream, np.load(stream) as stored:
            return int(stored["iteration"])
    except _DAMAGE:
        return 0


def check_folder(folder: Path, settings: Settings, resume: bool, overwrite: bool) -> None:
    """Check that a folder is free for a run, or that the run in it is the one to resume.

    Raises
    ------
    TrainingError
        If it holds files of a run, or of a network, that is neither to be resumed nor overwritten,
        a run of other settings, or the network to start from.
    """
    path = folder / "settings.json"
    if path.is_file() and resume:
        unnamed = asdict(type(settings)(()))  # of versions that lacked a setting
        stored = {**unnamed, **json.loads(path.read_text(encoding="utf-8"))}
        mine = json.loads(json.dumps(asdict(settings)))
        free = {"iterations"} if settings.recipe == "paper" else set()
        different = [k for k in mine if stored.get(k) != mine[k] and k not in free]
        if different:
            raise TrainingError(
                f"{folder} was trained with other settings ({', '.join(different)}): "
                "resume with the same ones, or give another --out."
            )
    elif not (resume or overwrite) and (found := _files(folder)):
        raise TrainingError(
            f"{folder} holds a run ({found[0].name}). Give --resume, --overwrite or another --out."
        )
    lost = {path.resolve() for path in _files(folder)}
    if not resume and settings.init and Path(settings.init).resolve() in lost:
        raise TrainingError(
            f"--init {settings.init} would be deleted with its run. Give another --out."
        )


def clear_folder(folder: Path, settings: Settings, resume: bool) -> None:
    """Make the folder of a run; without `resume` its old files go. Writes ``settings.json``."""
    make_folder(folder)
    for old in [] if resume else _files(folder):
        old.unlink()
    write_json(folder / "settings.json", asdict(settings))


def make_folder(folder: Path) -> None:
    """Make a folder that takes files, before the work whose result goes there.

    Raises
    ------
    TrainingError
        If there is a file of this name, or the folder cannot be written to.
    """
    try:
        check_writable(folder)
    except ValueError as error:
        raise TrainingError(str(error)) from None
    folder.mkdir(parents=True, exist_ok=True)


def _files(folder: Path) -> list[Path]:
    return [file for name in FILES for file in sorted(folder.glob(name))]


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file by way of a temporary name."""
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    temporary.replace(path)
