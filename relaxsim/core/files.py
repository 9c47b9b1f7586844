"""Files of results: written whole or not at all; JSON files read in one place."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def temporary_path(path: Path) -> Path:
    """Name, beside `path` and with its ending, under which this process writes it."""
    host = platform.node() or "host"
    return path.with_name(f".{path.name}.{host}.{os.getpid()}.part{''.join(path.suffixes)}")


@contextmanager
def write_whole(path: str | Path) -> Iterator[Path]:
    r"""Give a temporary path to write to, and rename it once it is complete.

    A file that has its final name is complete, whatever happens while it is written.

    Parameters
    ----------
    path : path
        Final name; a file of that name is replaced.

    Yields
    ------
    temporary : pathlib.Path
        Beside `path`, with its ending. It is flushed to disk and renamed where the block ends,
        and removed where the block raises.

    Raises
    ------
    OSError
        If the file cannot be written or renamed.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with write_whole(Path(folder) / "times.txt") as temporary:
    ...         _ = temporary.write_text("100\n")
    ...     [path.name for path in Path(folder).iterdir()]
    ['times.txt']
    """
    path = Path(path)
    temporary = temporary_path(path)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_json(path: str | Path) -> Any:
    """Content of a JSON file.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it holds no JSON; the message names the file.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is no JSON file ({reason}).") from None


def write_json(path: str | Path, content: Any, sort_keys: bool = False) -> None:
    """Write a JSON file, whole (`write_whole`).

    Raises
    ------
    OSError
        If it cannot be written.
    """
    with write_whole(path) as temporary:
        text = json.dumps(content, indent=1, sort_keys=sort_keys) + "\n"
        temporary.write_text(text, encoding="utf-8")
