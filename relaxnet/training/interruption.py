"""Signals that wait for the end of a step."""

from __future__ import annotations

import signal
from typing import Any


class Interruption:
    """Within this block Ctrl-C and SIGTERM wait for the end of a step, but not the second one.

    Batch systems send SIGTERM before they kill. A signal that the process ignores stays ignored.

    Examples
    --------
    >>> with Interruption() as interruption:
    ...     for step in range(3):
    ...         interruption.act()
    """

    def __init__(self) -> None:
        self.requested = False
        self.previous: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self.previous[number] = signal.signal(number, self._note)
        except ValueError:  # not in the main thread
            pass
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def _note(self, *_: Any) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    def act(self) -> None:
        """Raise the interrupt that was asked for."""
        if self.requested:
            raise KeyboardInterrupt
