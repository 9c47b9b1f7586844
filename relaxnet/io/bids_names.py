"""BIDS names and sidecars: what a file's name says, and the metadata that apply to it.

Times in sidecars are seconds; `relaxnet.io.bids_times` turns them into ms.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

from relaxsim.core.files import MOST_JSON, image_stem, read_text, why_not_regular

DESCRIPTION = "dataset_description.json"
_NAME = re.compile(r"((?:[A-Za-z0-9]+-[A-Za-z0-9+]+_)*)([A-Za-z0-9]+)(\.[A-Za-z0-9.]+)")


class BidsError(ValueError):
    """A name, sidecar or dataset cannot be used; one line that names it."""


@dataclass(frozen=True)
class BidsName:
    """A file name in parts.

    Attributes
    ----------
    entities : mapping of str to str
        Such as ``{"sub": "01", "inv": "1"}``, in the order of the name.
    suffix : str
        Such as ``IRT1``.
    extension : str
        Such as ``.nii.gz``.
    """

    entities: Mapping[str, str]
    suffix: str
    extension: str

    def without(self, *entities: str) -> dict[str, str]:
        """Entities other than those named."""
        return {key: value for key, value in self.entities.items() if key not in entities}


@dataclass(frozen=True)
class Sidecar:
    """Metadata of an image.

    Attributes
    ----------
    fields : mapping
        All fields, those of files nearer to the image first.
    files : tuple of pathlib.Path
        What they were read from, the nearest file last; empty if there is none.
    expected : pathlib.Path
        The file beside the image, there or not.
    """

    fields: Mapping[str, Any]
    files: tuple[Path, ...]
    expected: Path

    @property
    def name(self) -> str:
        """Name of the nearest file, for messages."""
        return (self.files[-1] if self.files else self.expected).name


def parse_name(path: str | Path) -> BidsName | None:
    """Parts of a file name, or None if it is not built like a BIDS name.

    Examples
    --------
    >>> parse_name("sub-01_inv-2_IRT1.nii.gz").entities["inv"]
    '2'
    >>> parse_name("series.nii.gz").entities
    {}
    """
    found = _NAME.fullmatch(Path(path).name)
    if found is None:
        return None
    pairs = [part.split("-", 1) for part in found[1].split("_") if part]
    entities = dict(pairs)
    return BidsName(entities, found[2], found[3]) if len(entities) == len(pairs) else None


def entity_name(entities: Mapping[str, str], suffix: str) -> str:
    """Name without extension, the inverse of `parse_name`."""
    return "_".join([*(f"{key}-{value}" for key, value in entities.items()), suffix])


def dataset_root(path: str | Path) -> Path | None:
    """Root of the dataset that a file lies in, or None.

    The nearest folder above it with a ``dataset_description.json``; without one, the folder that
    holds its ``sub-`` folder. Links are not followed.
    """
    parents = Path(path).absolute().parents
    for parent in parents:
        if (parent / DESCRIPTION).is_file():
            return parent
    return next((parent.parent for parent in parents if parent.name.startswith("sub-")), None)


def read_sidecar(image: str | Path) -> Sidecar:
    """Metadata that apply to an image, by the inheritance principle inside a dataset.

    A JSON file applies if it lies in the image's folder or above it in the dataset, has the
    image's suffix and no entity that the image lacks. A nearer file wins; of two in one folder,
    the one with more entities. Outside a dataset only the image's folder is searched; to a name
    without entities only the file of the same name applies.

    Parameters
    ----------
    image : path
        NIfTI file; need not exist.

    Returns
    -------
    Sidecar

    Raises
    ------
    BidsError
        If a file is no JSON object, or two in one folder apply with as many entities and
        contradict each other.

    References
    ----------
    BIDS specification, common principles, The Inheritance Principle.
    """
    image = Path(image)
    expected = image.with_name(f"{image_stem(image.name)}.json")
    upper = expected.with_suffix(".JSON")
    if not expected.exists() and upper.is_file():
        expected = upper
    name = parse_name(image)
    if name is None or not name.entities:
        files = [expected] if expected.is_file() else []
    else:
        files = _applicable(image, name, dataset_root(image) or image.absolute().parent)
    fields: dict[str, Any] = {}
    for file in files:
        fields.update(read_json(file))
    return Sidecar(fields, tuple(files), expected)


def read_json(path: Path) -> Mapping[str, Any]:
    """JSON object of a file.

    Raises
    ------
    BidsError
        If it cannot be read or is no JSON object.
    """
    if why := why_not_regular(path):
        raise BidsError(f"{path}: {why}.")
    stamp = path.stat()
    return _read_json(path, stamp.st_mtime_ns, stamp.st_size)


@lru_cache(maxsize=4096)
def _read_json(path: Path, _changed: int, _size: int) -> Mapping[str, Any]:
    try:
        values = json.loads(read_text(path, MOST_JSON))
        if any("\ud800" <= letter <= "\udfff" for letter in str(values)):  # no text can hold them
            text = json.dumps(values, ensure_ascii=False)
            values = json.loads(text.encode("utf-8", "replace"))
    except OSError as error:
        raise BidsError(f"{path}: {error.strerror or 'cannot be read'}.") from None
    except (ValueError, RecursionError) as error:
        reason = "" if isinstance(error, RecursionError) else f" ({' '.join(str(error).split())})"
        raise BidsError(f"{path.name} is not readable JSON{reason}; mend or remove it.") from None
    if not isinstance(values, dict):
        raise BidsError(f"{path.name} holds no JSON object; expected fields in braces.")
    return MappingProxyType(values)


def _applicable(image: Path, name: BidsName, root: Path) -> list[Path]:
    """Sidecars of an image in a dataset, in the order in which they overrule each other."""
    folder = image.absolute().parent
    levels = [folder, *folder.parents]
    found: list[Path] = []
    for level in reversed(levels[: levels.index(root) + 1]):
        here = [
            (len(other.entities), path)
            for path, other in _sidecars_in(level, name.suffix)
            if other.entities.items() <= name.entities.items()
        ]
        here.sort()
        for (count, path), (following, other) in pairwise(here):
            if count == following:
                _check_agree(image, path, other)
        found += [path for _, path in here]
    return found


def _sidecars_in(folder: Path, suffix: str) -> list[tuple[Path, BidsName]]:
    """JSON files of a folder that end in a suffix."""
    found = []
    for path in sorted(folder.glob(f"*{suffix}.json")):
        name = parse_name(path)
        if name is not None and name.suffix == suffix:
            found.append((path, name))
    return found


def _check_agree(image: Path, path: Path, other: Path) -> None:
    a, b = read_json(path), read_json(other)
    differ = sorted(key for key in a.keys() & b.keys() if a[key] != b[key])
    if differ:
        raise BidsError(
            f"{path.name} and {other.name} both apply to {image.name} and differ in {differ[0]}; "
            "leave one of them."
        )
