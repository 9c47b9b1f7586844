"""How often a progress bar is drawn."""

from __future__ import annotations

import sys


def refresh_seconds() -> float:
    """Least time between two drawings: short on a terminal, a minute in a log, in s."""
    return 0.1 if sys.stderr.isatty() else 60.0
