"""The version of the package that is installed: its metadata are the one place that holds it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def _installed() -> str:
    try:
        return version("relaxnet")
    except PackageNotFoundError:  # a checkout on the path
        return "0+unknown"


__version__ = _installed()
