"""Replacing files together: all or none, the old ones never beside the new ones.

First the old files are moved out, then the new ones in. What fails on the way is taken back. A
process that is killed on the way cannot do that: it leaves files of one run alone, and a mark in
their folders, by which readers know that some may be missing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

#: File in a folder whose files are being replaced.
MARK = ".being-replaced"
_WORDS = "Files of this folder are being replaced. If no run is at work, one was broken off.\n"


class BeingReplacedError(ValueError):
    """Files of a folder are being replaced, or a run that replaced them was broken off."""


def check_settled(path: str | Path) -> None:
    """Refuse a file whose folder has a mark: files of the same run may be missing.

    Raises
    ------
    BeingReplacedError
        One line.
    """
    folder = Path(path).parent
    if (folder / MARK).exists():
        raise BeingReplacedError(
            f"the files in {folder} are being replaced, or the run that replaced them was broken "
            "off and some are missing. Wait for it, or run it again with `overwrite`."
        )


def replace_files(
    moves: Mapping[Path, Path], gone: Iterable[Path], spare: Path, marked: bool = True
) -> None:
    """Move files, or whole folders, into place, and others out of it.

    Parameters
    ----------
    moves : mapping of path to path
        Final places of the new files, by where they lie now, on the same disk; moved in this order.
        What is in place is replaced; folders above it are made.
    gone : iterable of path
        Old files that have no successor.
    spare : pathlib.Path
        Folder on the same disk that is made for the old files meanwhile, and removed.
    marked : bool
        Mark the folders meanwhile (`check_settled`).

    Raises
    ------
    OSError
        If a file cannot be moved, or a folder is where a file should go; all is as it was then.
    """
    for source, target in moves.items():
        if target.is_dir() and not source.is_dir():
            raise IsADirectoryError(f"{target} is a folder; a file is to replace it.")
    old = [path for path in dict.fromkeys([*gone, *moves.values()]) if os.path.lexists(path)]
    folders = dict.fromkeys(target.parent for target in moves.values())
    mixed = [*old, *(target for source, target in moves.items() if not source.is_dir())]
    marks = [f / MARK for f in dict.fromkeys(path.parent for path in mixed)] if marked else []
    made = [folder for folder in folders if not folder.exists()]
    done: list[tuple[Path, Path]] = []
    try:
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        for mark in marks:
            mark.write_text(_WORDS, encoding="utf-8")
        spare.mkdir(parents=True, exist_ok=True)
        outward = [(path, spare / f"{i}") for i, path in enumerate(old)]
        for source, target in [*outward, *moves.items()]:
            done.append((source, target))
            source.replace(target)
        _remove(marks)
    except BaseException:
        for source, target in reversed(done):
            if os.path.lexists(target) and not os.path.lexists(source):  # it has been moved
                target.replace(source)
        _remove(marks)
        for folder in made:
            with suppress(OSError):
                folder.rmdir()
        raise
    shutil.rmtree(spare, ignore_errors=True)


def _remove(marks: Iterable[Path]) -> None:
    for mark in marks:
        with suppress(FileNotFoundError):
            mark.unlink()
