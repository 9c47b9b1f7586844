"""Files of kept results, by which an interrupted experiment is continued.

The name of a file has a digest of the settings that its result depends on, a network's checksum
among them: other settings make another file.
"""

from __future__ import annotations

import hashlib
import json
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np

from relaxsim.core.files import write_json, write_whole

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
        Of the result, in words; printed if making it took more than a second.
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
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, rows)
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
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_whole(path) as temporary:
        np.savez_compressed(temporary, values=values)
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
