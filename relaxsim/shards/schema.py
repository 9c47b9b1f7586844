"""Schema: what a shard's HDF5 file may hold, checked in full before any of it is read.

HDF5 files can hold far more than arrays: links to other files, data that lie elsewhere, types of
any shape, declared sizes of any length. A shard has none of these. Each attribute and dataset is
opened by its name, and its kind, type, shape, storage and size are compared with those that are
written; the size of what is read is at most that of the file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

#: What is to be done about a shard that cannot be read.
MEND = "Delete it and run relaxsim generate again."
#: Errors that h5py raises on a damaged file.
DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, MemoryError)
#: Shards of a run are numbered below this.
_MOST_SHARDS = 10**9
#: Seeds and counts are below this.
_LARGEST_COUNT = 10**18


class ShardError(ValueError):
    """A shard cannot be read; the message names the file and the reason, in one line."""


@dataclass(frozen=True)
class Attribute:
    """Type of an attribute: ``whole number``, ``text`` or ``numbers``, and its numbers of axes."""

    kind: str
    axes: tuple[int, ...] = (0,)


_WHOLE, _TEXT = Attribute("whole number"), Attribute("text")
#: Attributes of the file by name; the last two of version 2 alone.
ATTRIBUTES = {
    "layout": _WHOLE,
    "signal_model": _TEXT,
    "parameters": _TEXT,
    "units": _TEXT,
    "tau": Attribute("numbers", (1, 2)),
    "protocol": _TEXT,
    "index": _WHOLE,
    "settings": _TEXT,
    "version": _TEXT,
    "crc32": _WHOLE,
    "columns": _TEXT,
    "known_maps": _TEXT,
}
_OPTIONAL = ("columns", "known_maps")
_CLASSES = {
    "whole number": h5py.h5t.TypeIntegerID,
    "text": h5py.h5t.TypeStringID,
    "numbers": h5py.h5t.TypeFloatID,
}
#: Types of the datasets.
DATASET_TYPES = {
    "S": ("float32", "float16"),
    "kappa": ("float32",),
    "sigma": ("float32",),
    "labels": ("uint8",),
    "purity": ("float16", "float32"),
    "origin": ("int32", "int64"),
    "known": ("float32",),
}


def open_shard(path: Path) -> h5py.File:
    """Open the file of a shard; raises `ShardError` if it is none."""
    if not path.exists():
        raise ShardError(f"{path}: no such file.")
    if not path.is_file():
        raise ShardError(f"{path} is a folder, pipe or device; expected a file of relaxsim.")
    try:
        return h5py.File(path, "r")
    except PermissionError as error:
        raise ShardError(f"{path} cannot be opened ({error.strerror}).") from None
    except DAMAGE:
        raise ShardError(f"{path} is not an HDF5 file, or is cut short. {MEND}") from None


def attribute(path: Path, owner: h5py.HLObject, name: str, expected: Attribute) -> Any:
    """Value of an attribute of a file or dataset: int, str or array of float64.

    Raises
    ------
    ShardError
        If it is missing, or of another type or shape.
    """
    where = "" if isinstance(owner, h5py.File) else f"dataset {owner.name.strip('/')}: "
    problem = f"{path}: {where}attribute {name} "
    try:
        if not h5py.h5a.exists(owner.id, name.encode()):
            raise ShardError(f"{problem}is missing. {MEND}")
        found = h5py.h5a.open(owner.id, name.encode())
        _check_attribute(path, problem, found, expected)
        value = owner.attrs[name]
        if expected.kind == "text":
            return bytes(value).decode()
    except ShardError:
        raise
    except DAMAGE as error:
        raise ShardError(f"{problem}cannot be read ({one_line(error)}). {MEND}") from None
    return int(value) if expected.kind == "whole number" else np.asarray(value, np.float64)


def _check_attribute(path: Path, problem: str, found: h5py.h5a.AttrID, expected: Attribute) -> None:
    kind, space = found.get_type(), found.get_space()
    is_null = space.get_simple_extent_type() == h5py.h5s.NULL
    if type(kind) is not _CLASSES[expected.kind] or is_null:
        raise ShardError(f"{problem}is of another type, expected {expected.kind}. {MEND}")
    if expected.kind == "text" and kind.is_variable_str():
        raise ShardError(f"{problem}is a text of variable length, expected a fixed one. {MEND}")
    if expected.kind != "text" and kind.get_size() > 8:
        raise ShardError(f"{problem}has numbers of {kind.get_size()} bytes, expected 8. {MEND}")
    if len(found.shape) not in expected.axes:
        raise ShardError(
            f"{problem}has shape {_shape(found.shape)}, expected {expected.kind} with "
            f"{' or '.join(map(str, expected.axes))} axes. {MEND}"
        )
    if math.prod(found.shape) * kind.get_size() > path.stat().st_size:
        raise ShardError(f"{problem}is larger than the file. {MEND}")


def attribute_names(path: Path, file: h5py.File) -> list[str]:
    """Names of those attributes of a shard that a file has."""
    try:
        return [name for name in ATTRIBUTES if h5py.h5a.exists(file.id, name.encode())]
    except DAMAGE as error:
        raise ShardError(f"{path} is damaged ({one_line(error)}). {MEND}") from None


def check_attribute_names(path: Path, file: h5py.File, names: Sequence[str]) -> None:
    """Refuse a file whose attributes `names` lack one, or that has others."""
    if missing := [n for n in ATTRIBUTES if n not in names and n not in _OPTIONAL]:
        raise ShardError(
            f"{path}: its attributes do not match their checksum ({missing[0]} is missing). {MEND}"
        )
    try:
        number = h5py.h5a.get_num_attrs(file.id)
    except DAMAGE as error:
        raise ShardError(f"{path} is damaged ({one_line(error)}). {MEND}") from None
    if number != len(names):
        raise ShardError(f"{path} has {number} attributes, expected {len(names)}. {MEND}")


def check_dataset(path: Path, file: h5py.File, name: str) -> h5py.Dataset:
    """The dataset `name`, whose type and storage are those that are written.

    Raises
    ------
    ShardError
        If it is missing, a link, a folder, of another type, packed, virtual, without its data, or
        lies in another file or in chunks of another size.
    """
    problem = f"{path}: dataset {name} "
    try:
        if not file.id.links.exists(name.encode()):
            raise ShardError(f"{path} lacks the dataset {name}. {MEND}")
        if file.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
            raise ShardError(f"{problem}is a link to elsewhere. {MEND}")
        identity = h5py.h5o.open(file.id, name.encode())
        if not isinstance(identity, h5py.h5d.DatasetID):
            raise ShardError(f"{problem}is no array. {MEND}")
        if reason := _fault(path, name, identity):
            raise ShardError(f"{problem}{reason}. {MEND}")
        return h5py.Dataset(identity)
    except ShardError:
        raise
    except DAMAGE as error:
        raise ShardError(f"{problem}cannot be read ({one_line(error)}). {MEND}") from None


def _fault(path: Path, name: str, identity: h5py.h5d.DatasetID) -> str:
    """What is wrong with the type or storage of a dataset; empty if nothing is."""
    stored, kind = identity.get_create_plist(), identity.get_type()
    layout = stored.get_layout()
    if layout == h5py.h5d.VIRTUAL or stored.get_external_count():
        return "lies in other files"
    types = DATASET_TYPES[name]
    is_plain = type(kind) in (h5py.h5t.TypeFloatID, h5py.h5t.TypeIntegerID)
    if not is_plain or identity.dtype not in [np.dtype(t) for t in types]:
        found = str(identity.dtype)[:40] if is_plain else "another type"
        return f"holds {found}, expected {' or '.join(types)}"
    if identity.get_space().get_simple_extent_type() != h5py.h5s.SIMPLE or not identity.shape:
        return "is no array"
    if not all(identity.shape):
        return f"is empty (shape {_shape(identity.shape)})"
    if stored.get_nfilters():
        return "is packed by a filter, which shards are not"
    if layout == h5py.h5d.CHUNKED and stored.get_chunk() != (1, *identity.shape[1:]):
        return f"lies in chunks of {_shape(stored.get_chunk())}, expected a chunk a patch"
    size = math.prod(identity.shape) * kind.get_size()
    if size > path.stat().st_size or identity.get_storage_size() != size:
        return f"is not whole: its shape {_shape(identity.shape)} takes {size} bytes"
    return ""


def read_json(path: Path, name: str, text: str) -> Any:
    """Content of an attribute that is JSON; raises `ShardError` if it is none."""

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is no number")

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise ShardError(
            f"{path}: attribute {name} is no JSON text ({one_line(error)}). {MEND}"
        ) from None


def read_names(path: Path, name: str, text: str) -> tuple[str, ...]:
    """A list of names in JSON; raises `ShardError` if it is none."""
    names = read_json(path, name, text)
    if not (isinstance(names, list) and all(_is_text(n) for n in names)):
        raise ShardError(f"{path}: attribute {name} is no list of names. {MEND}")
    return tuple(names)


def check_index(path: Path, index: int) -> None:
    """Refuse a number that no shard has."""
    if not 0 <= index < _MOST_SHARDS:
        raise ShardError(f"{path}: its number is {index}, expected 0 or more. {MEND}")


def read_settings(path: Path, text: str) -> dict[str, Any]:
    """Settings of a run; raises `ShardError` if one has another type or range than is written."""
    settings = read_json(path, "settings", text)
    if not isinstance(settings, dict):
        raise ShardError(f"{path}: attribute settings is no JSON object. {MEND}")
    for name, (is_valid, expected) in _SETTINGS.items():
        if name in settings and not is_valid(settings[name]):
            found = json.dumps(settings[name])[:40]
            raise ShardError(f"{path}: its setting {name} is {found}, expected {expected}. {MEND}")
    return settings


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and abs(value) <= _LARGEST_COUNT


def _is_whole(least: int) -> Callable[[Any], bool]:
    def is_valid(value: Any) -> bool:
        return type(value) is int and least <= value <= _LARGEST_COUNT

    return is_valid


def _is_share(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


def _is_range(value: Any) -> bool:
    is_pair = isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))
    return is_pair and 0 < value[0] <= value[1]


def _is_range_or_none(value: Any) -> bool:
    return value is None or _is_range(value)


def _is_text_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_text, value))


def _is_pairs(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text_pair, value))


def _is_protocols(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(p, list) and len(p) == 2 and _is_text(p[0]) and isinstance(p[1], list)
        for p in value
    )


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_one_of(*names: str) -> Callable[[Any], bool]:
    return lambda value: value in names


_Test = tuple[Callable[[Any], bool], str]
#: Settings of a run (`relaxsim.shards.generate.Settings.to_json`): whether a value is valid, and
#: what is expected.
_SETTINGS: Mapping[str, _Test] = {
    "times": (_is_text, "a name"),
    "protocols": (_is_protocols, "a list of names with their numbers"),
    "anatomies": (_is_pairs, "a list of names with their checksums"),
    "tissues": (_is_text_pair, "a name and a table"),
    "patches": (_is_whole(1), "a whole number above 0"),
    "patch_size": (_is_whole(1), "a whole number above 0"),
    "seed": (_is_whole(0), "a whole number"),
    "spread": (_is_share, "a share"),
    "noise": (_is_one_of("gaussian", "rician"), "gaussian or rician"),
    "sigma_range": (_is_range, "two numbers above 0"),
    "b_field": (_is_text, "a name"),
    "tr_range": (_is_range_or_none, "two numbers above 0, or none"),
    "voxel_size": (_is_range_or_none, "two numbers above 0, or none"),
    "shapes": (_is_share, "a share"),
    "details": (_is_share, "a share"),
    "augment": (_is_flag, "true or false"),
    "dtype": (_is_one_of("float32", "float16"), "float32 or float16"),
}


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "of a single number"


def one_line(error: BaseException) -> str:
    """Text of an error, short and in one line."""
    text = " ".join(str(error).strip("\"'").split())[:120]
    return "".join(letter if letter.isprintable() else "?" for letter in text)
