"""Results that are kept, so that an interrupted experiment goes on where it was.

What a result depends on is in its file's name, as a digest of its settings (a network stands there
by its checksum): other settings are another file.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np

Rows = list[dict[str, Any]]


def kept_rows(
    cache: Path, name: str, settings: Mapping[str, Any], make: Callable[[], Rows]
) -> Rows:
    """Rows of a table: those of the file, or made now and written to it.

    Parameters
    ----------
    cache : Path
        Folder.
    name : str
        Of the result, in words; shown if making it took more than a second.
    settings : mapping
        All that the rows depend on, JSON-serialisable.
    make : callable
        Makes rows of numbers, strings and booleans.
    """
    path = _path(cache, name, settings, "json")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        rows = _timed(name, make)
    _replace(path, lambda part: part.write_text(json.dumps(rows), encoding="utf-8"))
    return rows


def kept_array(
    cache: Path, name: str, settings: Mapping[str, Any], make: Callable[[], np.ndarray]
) -> np.ndarray:
    """An array: that of the file, or made now and written to it; arguments as `kept_rows`."""
    path = _path(cache, name, settings, "npz")
    try:
        with path.open("rb") as stream, np.load(stream) as file:
            return file["values"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        values = _timed(name, make)
    _replace(path, lambda part: np.savez_compressed(part, values=values))
    return values


def _path(cache: Path, name: str, settings: Mapping[str, Any], suffix: str) -> Path:
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
    return cache / f"{name.replace(' ', '-').replace('/', '-')}-{digest}.{suffix}"


def _timed(name: str, make: Callable[[], Any]) -> Any:
    begin = time.monotonic()
    out = make()
    if (seconds := time.monotonic() - begin) > 1.0:
        click.echo(f"{name}: {seconds:.0f} s")
    return out


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write under another name first: a file with the final name is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.stem}.{os.getpid()}.part{path.suffix}")
    write(part)
    part.replace(path)


#: Options that all experiments with kept results have.
cache_option = click.option(
    "--cache",
    default=Path("runs/experiments"),
    type=click.Path(path_type=Path),
    show_default=True,
    help="Folder of kept results.",
)
out_option = click.option(
    "--out",
    default=Path("docs/results"),
    type=click.Path(path_type=Path),
    show_default=True,
    help="Folder of tables and figures.",
)
