"""The commands of ``relaxsim``: parse, call, print."""

from relaxsim.cli.group import main

__all__ = ["main"]
