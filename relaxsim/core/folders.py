"""Folders that results go to: where they lie, and whose files are there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from relaxsim.core.files import read_json


def nearest_existing(path: str | Path) -> Path:
    """The path or its nearest parent that exists, absolute."""
    path = Path(path).absolute()
    while not path.exists():
        path = path.parent
    return path


def check_free_space(folder: str | Path, need: int, what: str) -> None:
    """Refuse a disk that has not so many bytes left, before the work whose result goes there.

    Parameters
    ----------
    folder : path
        Need not exist.
    need : int
        Bytes.
    what : str
        What takes them, in the plural: ``"the maps"``.

    Raises
    ------
    OSError
    """
    free = shutil.disk_usage(nearest_existing(folder)).free
    if need > free:
        raise OSError(
            f"{what} take up to {need / 1e6:.1f} MB, {folder} has {free / 1e6:.1f} MB free."
        )


def check_writable(folder: str | Path) -> None:
    """Refuse a folder for results that is a file or cannot be written to.

    Raises
    ------
    ValueError
    """
    if Path(folder).is_file():
        raise ValueError(f"{folder} is a file; `out` takes a folder.")
    parent = nearest_existing(folder)
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise ValueError(
            f"{folder} cannot be written: {parent} is not a folder that takes files. "
            "Give another `out`."
        )


def written_by(sidecar: Path) -> Any:
    """Program that a JSON sidecar names as its writer; None if it names none or is no sidecar."""
    try:
        return read_json(sidecar).get("SoftwareName")
    except (OSError, ValueError, AttributeError):
        return None
