"""The commands of ``relaxnet``: parse, call, print."""

from relaxnet.cli.group import main

__all__ = ["main"]
