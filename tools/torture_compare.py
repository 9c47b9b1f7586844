"""What a folder of results holds, file by file, to be compared with that of an unbroken run."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import os
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from torture_run import is_lock, is_temporary

#: Leaves of a tree: file and place in it to a digest of the value.
Leaves = dict[tuple[str, str], str]


class UnreadableError(ValueError):
    """A file that ends early or cannot be read."""


def leaves(folder: Path, out: str) -> Leaves:
    """All values in the files below ``folder/out``; temporary files and folders are left out.

    Raises
    ------
    UnreadableError
        If a file cannot be read to its end.
    """
    found: Leaves = {}
    for path in files(folder / out):
        name = plain_name(path.relative_to(folder))
        try:
            for place, value in _values(path):
                found[name, place] = value
        except FileNotFoundError:
            continue
        except Exception as error:
            kind = type(error).__name__
            raise UnreadableError(f"{path.name} is half written ({kind})") from error
    return found


def files(place: Path) -> list[Path]:
    """Files of final names below a folder, or the file itself; not the locks of runs."""
    if place.is_file():
        return [place]
    found = []
    for base, folders, names in os.walk(place):
        folders[:] = sorted(f for f in folders if not is_temporary(f))
        found += [Path(base, n) for n in sorted(names) if not (is_temporary(n) or is_lock(n))]
    return found


def plain_name(path: Path) -> str:
    """Name of a file without times and numbers of processes."""
    return re.sub(r"events\.out\.tfevents.*", "events", str(path))


def _values(path: Path) -> Iterator[tuple[str, str]]:
    reader = READERS.get(path.suffix, _bytes)
    if "tfevents" in path.name:
        return
    for place, value in reader(path.read_bytes()):
        raw = value if isinstance(value, bytes) else str(value).encode("utf-8", "backslashreplace")
        yield place, hashlib.sha256(raw).hexdigest()


def _bytes(raw: bytes) -> Iterator[tuple[str, Any]]:
    yield "", raw


def _gzip(raw: bytes) -> Iterator[tuple[str, Any]]:
    yield from _nifti(gzip.decompress(raw))


def _nifti(raw: bytes) -> Iterator[tuple[str, Any]]:
    if len(raw) < 352:
        raise UnreadableError("short")
    yield "", raw


def _json(raw: bytes) -> Iterator[tuple[str, Any]]:
    yield from _flat("", json.loads(raw))


def _flat(place: str, value: Any) -> Iterator[tuple[str, Any]]:
    items: Mapping[Any, Any] | None = None
    if isinstance(value, dict):
        items = value
    elif isinstance(value, list):
        items = dict(enumerate(value))
    if items:
        for key, item in items.items():
            yield from _flat(f"{place}/{key}", item)
    else:
        yield place, repr(value)


def _hdf5(raw: bytes) -> Iterator[tuple[str, Any]]:
    with h5py.File(io.BytesIO(raw)) as file:
        found: dict[str, Any] = {f"@{k}": v for k, v in file.attrs.items()}

        def note(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                found[name] = np.asarray(item[()])

        file.visititems(note)
    for name, value in found.items():
        yield name, value.tobytes() if isinstance(value, np.ndarray) else repr(value)


def _keras(raw: bytes) -> Iterator[tuple[str, Any]]:
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        if archive.testzip() is not None:
            raise UnreadableError("damaged")
        yield from _json(archive.read("config.json"))
        yield from _hdf5(archive.read("model.weights.h5"))


def _npz(raw: bytes) -> Iterator[tuple[str, Any]]:
    with np.load(io.BytesIO(raw)) as stored:
        for name in stored.files:
            yield name, stored[name].tobytes()


def _csv(raw: bytes) -> Iterator[tuple[str, Any]]:
    if not raw.endswith(b"\n"):
        raise UnreadableError("cut")
    rows = list(csv.reader(io.StringIO(raw.decode())))
    if len({len(row) for row in rows}) > 1:
        raise UnreadableError("rows of several lengths")
    for i, row in enumerate(rows):
        for j, cell in enumerate(row):
            if rows[0][j] != "seconds":
                yield f"{i},{j}", cell


def _html(raw: bytes) -> Iterator[tuple[str, Any]]:
    if b"</html>" not in raw:
        raise UnreadableError("cut")
    yield "", raw


READERS: dict[str, Callable[[bytes], Iterator[tuple[str, Any]]]] = {
    ".gz": _gzip,
    ".nii": _nifti,
    ".json": _json,
    ".h5": _hdf5,
    ".keras": _keras,
    ".npz": _npz,
    ".csv": _csv,
    ".html": _html,
}


@dataclass(frozen=True)
class Reference:
    """Two unbroken runs of a command: what they agree on is what a run has to give.

    Attributes
    ----------
    first, second : dict
        Their leaves.
    wall : float
        Seconds of the first.
    changes : int
        Changes of its files that were seen while it ran.
    """

    first: Leaves
    second: Leaves
    wall: float
    changes: int

    def differences(self, found: Leaves) -> list[str]:
        """Files that a run lacks, has beside them, or whose values differ."""
        expected = {name for name, _ in self.first}
        there = {name for name, _ in found}
        lines = [f"lacks {name}" for name in sorted(expected - there)]
        lines += [f"has {name}" for name in sorted(there - expected)]
        sure = {key for key, value in self.first.items() if self.second.get(key) == value}
        sure |= {key for key in found if key not in self.first and key[0] in expected & there}
        odd = {
            name for name, place in sure if name in there and not self._equal(found, name, place)
        }
        return lines + [f"{name} differs" for name in sorted(odd)]

    def _equal(self, found: Leaves, name: str, place: str) -> bool:
        return found.get((name, place)) == self.first.get((name, place))

    def agrees(self, found: Leaves, name: str) -> bool:
        """Whether one file holds what this run gave it."""
        mine = {k: v for k, v in self.first.items() if k[0] == name and self.second.get(k) == v}
        return bool(mine) and all(found.get(k) == v for k, v in mine.items())
