"""Shards: the one place that knows the HDF5 layout of training data.

Layout, version 1. Datasets, first axis = patch, one chunk a patch: ``S`` (n, P, P, N), ``kappa``
(n, P, P, Q), ``sigma`` (n,), ``labels`` (n, P, P) uint8, ``purity`` (n, P, P) float16, ``origin``
(n, 4) int32 (subject, slice, row, column; subject -1 is a drawn shape). Each carries the CRC-32
of its bytes. Attributes of the file: ``layout``, ``signal_model``, ``parameters``, ``units``,
``tau`` (N,), ``protocol`` (its name), ``index``, ``settings`` (JSON: all that the data depend on),
``version`` (of the package that wrote it) and ``crc32`` (of all these).

Layout, version 2, of signal models whose protocol has several columns or that take known maps: the
attribute ``tau`` is the protocol (N, D) in the units of its columns, and there are the attributes
``columns`` and ``known_maps`` (JSON: names) and, with known maps, the dataset ``known``
(n, P, P, K) float32. The rest is as in version 1.

The checksum is CRC-32 and not the Fletcher-32 that HDF5 has: that one takes words of 16 bits that
are all zero and all one for equal, and background is all zero.
"""

from __future__ import annotations

import io
import json
import os
import platform
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from relaxsim.core.files import write_whole
from relaxsim.core.version import __version__
from relaxsim.models.registry import signal_model
from relaxsim.models.signal_model import SignalModel

#: Layout of models with one column and no known map, and that of all others.
PLAIN_LAYOUT, TABLE_LAYOUT = 1, 2
#: Datasets of every shard and their number of axes; `KNOWN` is there in shards with known maps.
DATASETS = {"S": 4, "kappa": 4, "sigma": 1, "labels": 3, "purity": 3, "origin": 2}
KNOWN = "known"
#: Sentence about a run that ends early.
GOES_ON = "Shards that are there are complete; the same command goes on, without `overwrite`."
#: Errors that h5py raises on a damaged file.
_DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, MemoryError)
_MEND = "Delete it and run relaxsim generate again."
#: Temporary files of shards (`relaxsim.core.files.temporary_path`).
_PART = re.compile(r"\.shard-\d+\.h5\.(?P<host>.+)\.(?P<process>\d+)\.part(\.h5)?")


class ShardError(ValueError):
    """A shard cannot be read; the message names the file and the reason, in one line."""


@dataclass(frozen=True)
class ShardInfo:
    """A shard's attributes, without its data.

    Attributes
    ----------
    path : pathlib.Path
    index : int
        Number of the shard in its run.
    signal_model : SignalModel
    protocol_table : array, shape (N, D), float64
        A row an image, in the units of the signal model's columns.
    protocol : str
        Name of the protocol.
    num_patches, patch_size : int
    settings : dict
        All that the data depend on.
    version : str
        Version of the package that wrote it.
    """

    path: Path
    index: int
    signal_model: SignalModel
    protocol_table: np.ndarray
    protocol: str
    num_patches: int
    patch_size: int
    settings: dict[str, Any]
    version: str

    @property
    def tau(self) -> np.ndarray:
        """The protocol's first column, shape (N,): the times of a model that has times alone."""
        return self.protocol_table[:, 0]

    @property
    def rician(self) -> bool:
        """Whether its noise is Rician, not Gaussian."""
        return self.settings.get("noise") == "rician"


@dataclass(frozen=True)
class Shard:
    """A shard's `info` and its data; shapes as in the layout above, `known` None without maps."""

    info: ShardInfo
    S: np.ndarray
    kappa: np.ndarray
    sigma: np.ndarray
    labels: np.ndarray
    purity: np.ndarray
    origin: np.ndarray
    known: np.ndarray | None = None


def shard_path(folder: str | Path, index: int) -> Path:
    """File of shard `index`."""
    return Path(folder) / f"shard-{index:05d}.h5"


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of processes of this machine that no longer live."""
    if os.name != "posix":  # elsewhere signal 0 is no question
        return
    for part in folder.glob(".shard-*"):
        match = _PART.fullmatch(part.name)
        if match is None or match["host"] != (platform.node() or "host"):
            continue
        try:
            os.kill(int(match["process"]), 0)
        except (ProcessLookupError, OverflowError):
            part.unlink(missing_ok=True)
        except PermissionError:
            continue


def list_shards(folder: str | Path) -> list[Path]:
    """All shards of a folder in order.

    Raises
    ------
    ShardError
        If the folder is missing or holds no shard.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ShardError(f"{folder}: no such folder. Make shards with relaxsim generate.")
    paths = sorted(folder.glob("shard-*.h5"))
    if not paths:
        raise ShardError(f"{folder} holds no shard-*.h5. Make shards with relaxsim generate.")
    return paths


def write_shard(
    path: str | Path,
    arrays: Mapping[str, np.ndarray],
    model: SignalModel,
    protocol_table: np.ndarray,
    protocol: str,
    index: int,
    settings: Mapping[str, Any],
) -> None:
    """Write a shard: to a temporary name, flushed to disk, then renamed.

    Parameters
    ----------
    path : path
        Final name; a file that has it is complete.
    arrays : mapping
        Every dataset of the layout; ``known`` if the model takes known maps.
    model : SignalModel
    protocol_table : array, shape (N, D), or (N,) if D = 1
    protocol : str
        Its name.
    index : int
    settings : mapping
        JSON-serialisable.

    Raises
    ------
    KeyError
        If a dataset is missing.
    OSError
        If the disk is full or the folder cannot be written; the temporary file is removed.
    """
    path = Path(path)
    image = io.BytesIO()
    with _timeless_file(image) as file:
        for name in _datasets(model):
            data = np.ascontiguousarray(arrays[name])
            chunks = (1, *data.shape[1:]) if data.ndim > 2 else None
            dataset = file.create_dataset(name, data=data, chunks=chunks)
            dataset.attrs["crc32"] = _checksum(data)
        attributes = _attributes(model, protocol_table, protocol, index, settings)
        for key, value in attributes.items():
            file.attrs[key] = np.bytes_(value.encode()) if isinstance(value, str) else value
        file.attrs["crc32"] = _attributes_checksum(attributes)
    try:
        with write_whole(path) as temporary:
            temporary.write_bytes(image.getbuffer())
    except OSError as error:
        raise OSError(f"{path} cannot be written ({error.strerror}). {GOES_ON}") from error


def _is_plain(model: SignalModel) -> bool:
    """Whether shards of a model have the layout of version 1."""
    return len(model.columns) == 1 and not model.known_maps


def _datasets(model: SignalModel) -> tuple[str, ...]:
    return (*DATASETS, KNOWN) if model.known_maps else tuple(DATASETS)


def _attributes(
    model: SignalModel,
    protocol_table: np.ndarray,
    protocol: str,
    index: int,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Attributes of the file but their checksum, in the order in which they are written."""
    table = np.asarray(model.table(np.asarray(protocol_table)), np.float64)
    plain = _is_plain(model)
    attributes = {
        "layout": PLAIN_LAYOUT if plain else TABLE_LAYOUT,
        "signal_model": model.name,
        "parameters": json.dumps(model.parameters),
        "units": json.dumps(model.units),
        "tau": np.ascontiguousarray(table[:, 0]) if plain else table,
        "protocol": protocol,
        "index": index,
        "settings": json.dumps(settings, sort_keys=True),
        "version": __version__,
    }
    if not plain:
        attributes["columns"] = json.dumps([column.name for column in model.columns])
        attributes["known_maps"] = json.dumps([known.name for known in model.known_maps])
    return attributes


def read_info(path: str | Path) -> ShardInfo:
    """Read and check a shard's attributes and shapes, not its data.

    Raises
    ------
    ShardError
        If the file is missing, truncated, no shard, of another layout version, or a dataset is
        missing or has another shape than the others imply.
    """
    with _open(path) as file:
        return _info(Path(path), file)


def read_shard(path: str | Path, checksums: bool = True) -> Shard:
    """Read a shard.

    Parameters
    ----------
    path : path
    checksums : bool
        Compare the data with their checksums.

    Raises
    ------
    ShardError
        As `read_info`; also if data are damaged.
    """
    path = Path(path)
    with _open(path) as file:
        info = _info(path, file)
        arrays = {}
        for name in _datasets(info.signal_model):
            try:
                arrays[name] = file[name][()]
                checksum = file[name].attrs["crc32"]
            except _DAMAGE as error:
                raise ShardError(
                    f"{path}: dataset {name} cannot be read ({_one_line(error)}). {_MEND}"
                ) from None
            if checksums and _checksum(arrays[name]) != checksum:
                raise ShardError(f"{path}: dataset {name} does not match its checksum. {_MEND}")
    return Shard(info, **arrays)


def verify_shard(path: str | Path) -> ShardInfo:
    """Read a shard and check checksums and values.

    Raises
    ------
    ShardError
        As `read_shard`; also if a value is not finite, sigma is not positive, or a relaxation
        time in the foreground is not positive.
    """
    shard = read_shard(path)
    for name in ("S", "kappa", "sigma", "purity", KNOWN):
        values = getattr(shard, name)
        if values is not None and not np.isfinite(values).all():
            raise ShardError(f"{path}: dataset {name} holds values that are not finite.")
    if (shard.sigma <= 0).any():
        raise ShardError(f"{path}: sigma is not positive everywhere.")
    if (shard.kappa[shard.labels > 0][:, -1] <= 0).any():
        raise ShardError(f"{path}: a relaxation time is not positive.")
    return shard.info


def _timeless_file(image: io.BytesIO) -> h5py.File:
    """A new file in memory that does not hold the time of its writing.

    HDF5 crashes the process when a disk fills while it writes to it, hence the memory. Its format
    of version 1.10 has checksums of all metadata but strings of variable length.
    """
    creation = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    creation.set_obj_track_times(False)  # else the root group keeps the second it was made in
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_fileobj_driver(h5py.h5fd.fileobj_driver, image)
    access.set_libver_bounds(h5py.h5f.LIBVER_V110, h5py.h5f.LIBVER_V110)
    access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
    return h5py.File(h5py.h5f.create(b"shard", h5py.h5f.ACC_TRUNC, creation, access))


def _open(path: str | Path) -> h5py.File:
    path = Path(path)
    if not path.is_file():
        raise ShardError(f"{path}: no such file.")
    try:
        return h5py.File(path, "r")
    except OSError:
        raise ShardError(f"{path} is not an HDF5 file, or is cut short. {_MEND}") from None


def _info(path: Path, file: h5py.File) -> ShardInfo:
    try:
        attributes = {
            key: value.decode() if isinstance(value, bytes) else value
            for key, value in file.attrs.items()
        }
        intact = attributes.pop("crc32", None) == _attributes_checksum(attributes)
        shapes = {name: file[name].shape for name in (*DATASETS, KNOWN) if name in file}
    except _DAMAGE as error:
        raise ShardError(f"{path} is damaged ({_one_line(error)}). {_MEND}") from None
    layout = attributes.get("layout")
    if layout is None:
        raise ShardError(f"{path} is an HDF5 file but no shard (it has no layout version).")
    if layout not in (PLAIN_LAYOUT, TABLE_LAYOUT):
        raise ShardError(
            f"{path} has layout version {layout}, this version reads {PLAIN_LAYOUT} and "
            f"{TABLE_LAYOUT}. Make the shards again with relaxsim generate."
        )
    if not intact:
        raise ShardError(f"{path}: its attributes do not match their checksum. {_MEND}")
    model = _model(path, attributes)
    if missing := [name for name in _datasets(model) if name not in shapes]:
        raise ShardError(f"{path} lacks the dataset {missing[0]}. {_MEND}")
    table = _protocol_table(path, attributes, model)
    _check_shapes(path, {name: shapes[name] for name in _datasets(model)}, len(table), model)
    return ShardInfo(
        path=path,
        index=int(attributes["index"]),
        signal_model=model,
        protocol_table=table,
        protocol=attributes["protocol"],
        num_patches=shapes["labels"][0],
        patch_size=shapes["labels"][1],
        settings=json.loads(attributes["settings"]),
        version=attributes["version"],
    )


def _model(path: Path, attributes: Mapping[str, Any]) -> SignalModel:
    """Signal model of a shard, whose parameters, columns and known maps are the stored ones."""
    try:
        model = signal_model(attributes["signal_model"])
    except ValueError as error:
        raise ShardError(f"{path}: {error}.") from None
    expected = {"parameters": model.parameters}
    if attributes["layout"] == TABLE_LAYOUT:
        expected["columns"] = tuple(column.name for column in model.columns)
        expected["known_maps"] = tuple(known.name for known in model.known_maps)
    elif not _is_plain(model):
        raise ShardError(
            f"{path} has layout version {PLAIN_LAYOUT}, which holds no protocol of {model.name}. "
            f"{_MEND}"
        )
    for name, names in expected.items():
        stored = tuple(json.loads(attributes.get(name, "[]")))
        if stored != names:
            raise ShardError(
                f"{path} has the {name.replace('_', ' ')} {', '.join(stored) or 'none'}, but "
                f"{model.name} has {', '.join(names) or 'none'}. {_MEND}"
            )
    return model


def _protocol_table(path: Path, attributes: Mapping[str, Any], model: SignalModel) -> np.ndarray:
    stored = np.asarray(attributes["tau"], np.float64)
    try:
        return model.table(stored)
    except ValueError as error:
        raise ShardError(f"{path}: {error}. {_MEND}") from None


def _check_shapes(
    path: Path, shapes: Mapping[str, tuple[int, ...]], N: int, model: SignalModel
) -> None:
    n, P = (shapes["S"] + (0, 0))[:2]
    Q, K = model.num_parameters, len(model.known_maps)
    expected = {
        "S": (n, P, P, N),
        "kappa": (n, P, P, Q),
        "sigma": (n,),
        "labels": (n, P, P),
        "purity": (n, P, P),
        "origin": (n, 4),
        KNOWN: (n, P, P, K),
    }
    for name, shape in shapes.items():
        if shape != expected[name]:
            raise ShardError(
                f"{path}: dataset {name} has shape {shape}, expected {expected[name]} "
                f"({n} patches of {P} x {P}, {N} images, {Q} parameters"
                f"{f', {K} known maps' if K else ''})."
            )


def _checksum(data: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(data).data)


def _attributes_checksum(attributes: Mapping[str, Any]) -> int:
    items = [(key, np.asarray(attributes[key]).tolist()) for key in sorted(attributes)]
    return zlib.crc32(json.dumps(items, default=str).encode())


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).strip("\"'").split())[:120]
