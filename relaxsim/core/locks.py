"""Locks of files, by which processes keep out of each other's way; a killed one frees its own."""

from __future__ import annotations

import errno
import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # no such locks on this system: runs are then not kept apart
    fcntl = None  # type: ignore[assignment]

#: Whether the system has such locks.
HAS_LOCKS = fcntl is not None
#: Errors that say that another process has the bytes.
_TAKEN = (errno.EACCES, errno.EAGAIN)


def lock_bytes(descriptor: int, start: int = 0, number: int = 1, shared: bool = False) -> bool:
    """Lock bytes of an open file, unless another process has some; `number` 0 is all that follow.

    True where the system has no such locks.

    Raises
    ------
    OSError
        If the file system has none, or cannot lock.
    """
    if fcntl is None:
        return True
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.lockf(descriptor, kind | fcntl.LOCK_NB, number, start)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        raise
    return True


def is_at(path: Path, descriptor: int) -> bool:
    """Whether the open file is the one that has this name."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
