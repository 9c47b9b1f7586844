"""A quiet import of matplotlib: the one place that deals with where it keeps its caches."""

from __future__ import annotations

import logging


def import_matplotlib() -> None:
    """Import matplotlib without its warnings about a home folder that cannot be written to.

    It then keeps its caches in a temporary folder, which it removes at exit, and logs a warning of
    that and another of the fonts that it looks for anew. Pictures do not depend on either. Figures
    are made from `matplotlib.figure.Figure` and saved by its own `savefig`, so that no backend is
    chosen for the program that calls.
    """
    log = logging.getLogger("matplotlib")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        import matplotlib.figure
        import matplotlib.font_manager  # noqa: F401  (fonts are looked for here)
    finally:
        log.setLevel(level)


def drawable(text: str) -> str:
    r"""Text that matplotlib can draw: bytes of file names that are not UTF-8 become ``?``.

    Examples
    --------
    >>> drawable("caf\udce9.nii")
    'caf?.nii'
    """
    return text.encode("utf-8", "replace").decode()
