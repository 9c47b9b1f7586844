"""One run at a time in a folder, which is made for it and goes again if nothing came of it."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from relaxsim.core.files import remove_leftovers
from relaxsim.core.folders import check_writable
from relaxsim.core.locks import HAS_LOCKS, is_at, lock_bytes

#: File that a run locks in its folder.
LOCK = ".run-lock"
#: Seconds in which a run that has just begun states its settings, and between two looks.
_PATIENCE, _GLANCE = 3.0, 0.05
#: Errors of file systems that have no locks.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)


class InUseError(ValueError):
    """Another run writes to the folder; one line."""


@contextmanager
def only_run(folder: str | Path, parts: range | None = None, settings: str = "") -> Iterator[None]:
    """Make a folder and be the only run that writes to it, or to some parts of it.

    Within the block no other process can enter one for the same folder, on this machine and on
    others that share it, if its file system has locks. A process that is killed frees its lock.
    What killed runs left half written is removed. At the end the lock's file goes, and the folder
    too if it was made here and holds nothing.

    Parameters
    ----------
    folder : path
    parts : range, optional
        Runs of the same `settings` and other parts may work at the same time. None: no other run.
    settings : str
        What such runs have in common.

    Raises
    ------
    InUseError
        If another run is in the folder.
    ValueError
        If the folder cannot be written to.
    OSError
        If the disk is full.
    """
    folder = Path(folder)
    check_writable(folder)
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _locked(folder, parts, settings) as is_locked:
            remove_leftovers(folder, is_locked and parts is None)
            yield
    finally:
        with suppress(OSError):  # they hold something, or are gone
            for place in made:
                place.rmdir()


@contextmanager
def _locked(folder: Path, parts: range | None, settings: str) -> Iterator[bool]:
    """Hold the lock of a folder; gives False where there are no locks."""
    if not HAS_LOCKS:
        yield False
        return
    path = folder / LOCK
    descriptor = _opened(path)
    try:
        while is_locked := _take(descriptor, folder, parts, settings):
            if is_at(path, descriptor):
                break
            os.close(descriptor)  # the run before removed the file between the two steps
            descriptor = _opened(path)
        if not is_locked:
            path.unlink(missing_ok=True)
        yield is_locked
    finally:
        with suppress(OSError):
            if lock_bytes(descriptor) and is_at(path, descriptor):  # the last one out
                path.unlink()
        os.close(descriptor)


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise OSError(f"{path} cannot be written to ({error.strerror}).") from None


def _take(descriptor: int, folder: Path, parts: range | None, settings: str) -> bool:
    """Lock the file's first byte, which stands for the settings, and a byte a part."""
    try:
        if lock_bytes(descriptor):
            if parts is None:
                return True
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, settings.encode(), 0)
            lock_bytes(descriptor, shared=True)
        elif parts is None or not _joined(descriptor):
            raise InUseError(f"another run writes to {folder}. Wait for it, or give another `out`.")
        elif os.pread(descriptor, len(settings.encode()) + 1, 0) != settings.encode():
            raise InUseError(
                f"another run with other settings writes to {folder}. Wait for it, or give another "
                "`out`."
            )
        if not lock_bytes(descriptor, 1 + parts.start, max(1, len(parts))):
            raise InUseError(
                f"another run writes the same files to {folder}. Wait for it, or give another "
                "`out` or other `shards`."
            )
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        raise OSError(f"{folder} cannot be written to ({error.strerror}).") from None
    return True


def _joined(descriptor: int) -> bool:
    """Share the first byte with the runs of the same settings; a run that begins has it alone."""
    until = time.monotonic() + _PATIENCE
    while not lock_bytes(descriptor, shared=True):
        if time.monotonic() > until:
            return False
        time.sleep(_GLANCE)
    return True
