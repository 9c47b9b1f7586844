"""Processes that a command starts."""

from __future__ import annotations

import os
import threading
from multiprocessing import parent_process


def end_with_parent() -> None:
    """Let this process, which a pool has started, end when its parent does, even if it is killed.

    Nothing is written any more after a command has ended.
    """
    parent = parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
