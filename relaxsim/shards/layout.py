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
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from relaxsim.core.files import write_whole
from relaxsim.core.labels import NUM_LABELS
from relaxsim.core.version import __version__
from relaxsim.models.registry import signal_model
from relaxsim.models.signal_model import SignalModel
from relaxsim.shards.schema import (
    ATTRIBUTES,
    DAMAGE,
    MEND,
    ShardError,
    attribute,
    attribute_names,
    check_attribute_names,
    check_dataset,
    check_index,
    one_line,
    open_shard,
    read_names,
    read_settings,
)

#: Layout of models with one column and no known map, and that of all others.
PLAIN_LAYOUT, TABLE_LAYOUT = 1, 2
#: Datasets of every shard and their number of axes; `KNOWN` is there in shards with known maps.
DATASETS = {"S": 4, "kappa": 4, "sigma": 1, "labels": 3, "purity": 3, "origin": 2}
KNOWN = "known"
#: Largest value of images, parameters and times that is taken (CSF's A is 1, times are ms).
LARGEST_VALUE = 1e9
#: Sentence about a run that ends early.
GOES_ON = "Shards that are there are complete; the same command goes on, without `overwrite`."


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
    path = Path(path)
    with open_shard(path) as file:
        return _info(path, file)[0]


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
    with open_shard(path) as file:
        info, datasets = _info(path, file)
        arrays = {name: _data(path, dataset, checksums) for name, dataset in datasets.items()}
    return Shard(info, **arrays)


def _data(path: Path, dataset: h5py.Dataset, checksums: bool) -> np.ndarray:
    """Values of a dataset that has been checked."""
    name = dataset.name.strip("/")
    stated = attribute(path, dataset, "crc32", ATTRIBUTES["crc32"]) if checksums else None
    try:
        data = dataset[()]
    except DAMAGE as error:
        raise ShardError(
            f"{path}: dataset {name} cannot be read ({one_line(error)}). {MEND}"
        ) from None
    if checksums and _checksum(data) != stated:
        raise ShardError(f"{path}: dataset {name} does not match its checksum. {MEND}")
    return data


def verify_shard(path: str | Path) -> ShardInfo:
    """Read a shard and check checksums and values.

    Raises
    ------
    ShardError
        As `read_shard` and `check_values`.
    """
    shard = read_shard(path)
    check_values(shard)
    return shard.info


def check_values(shard: Shard) -> None:
    """Check that a shard's values are ones that a simulation gives.

    Raises
    ------
    ShardError
        If a value is not finite; also as `check_range`.
    """
    for name in ("S", "kappa", "sigma", "purity", KNOWN):
        values = getattr(shard, name)
        if values is not None and not np.isfinite(values).all():
            raise ShardError(f"{shard.info.path}: dataset {name} holds values that are not finite.")
    check_range(shard)


def check_range(shard: Shard) -> None:
    """Check the ranges of a shard's values; NaN is in any.

    Raises
    ------
    ShardError
        If a value is beyond `LARGEST_VALUE`, sigma is not positive, a relaxation time in the
        foreground is not positive, or a label or a share of a voxel is none.
    """
    path = shard.info.path
    for name in ("S", "kappa", "sigma", KNOWN):
        values = getattr(shard, name)
        if values is not None and max(-float(values.min()), float(values.max())) > LARGEST_VALUE:
            raise ShardError(f"{path}: dataset {name} holds values beyond {LARGEST_VALUE:g}.")
    if (shard.sigma <= 0).any():
        raise ShardError(f"{path}: sigma is not positive everywhere.")
    if (shard.kappa[shard.labels > 0][:, -1] <= 0).any():
        raise ShardError(f"{path}: a relaxation time is not positive.")
    if (shard.labels >= NUM_LABELS).any():
        raise ShardError(f"{path}: a label is above {NUM_LABELS - 1}.")
    if (shard.purity < 0).any() or (shard.purity > 1).any():
        raise ShardError(f"{path}: a purity is not between 0 and 1.")


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


def _info(path: Path, file: h5py.File) -> tuple[ShardInfo, dict[str, h5py.Dataset]]:
    """A shard's attributes and its datasets, all checked (`relaxsim.shards.schema`)."""
    attributes = _stored_attributes(path, file)
    model = _model(path, attributes)
    table = _protocol_table(path, attributes, model)
    datasets = {name: check_dataset(path, file, name) for name in _datasets(model)}
    shapes = {name: dataset.shape for name, dataset in datasets.items()}
    _check_shapes(path, shapes, len(table), model)
    info = ShardInfo(
        path=path,
        index=attributes["index"],
        signal_model=model,
        protocol_table=table,
        protocol=attributes["protocol"],
        num_patches=shapes["labels"][0],
        patch_size=shapes["labels"][1],
        settings=read_settings(path, attributes["settings"]),
        version=attributes["version"],
    )
    return info, datasets


def _stored_attributes(path: Path, file: h5py.File) -> dict[str, Any]:
    """Attributes of the file but their checksum, which they match."""
    names = attribute_names(path, file)
    if "layout" not in names:
        raise ShardError(f"{path} is an HDF5 file but no shard (it has no layout version).")
    layout = attribute(path, file, "layout", ATTRIBUTES["layout"])
    if layout not in (PLAIN_LAYOUT, TABLE_LAYOUT):
        raise ShardError(
            f"{path} has layout version {layout}, this version reads {PLAIN_LAYOUT} and "
            f"{TABLE_LAYOUT}. Make the shards again with relaxsim generate."
        )
    check_attribute_names(path, file, names)
    attributes = {name: attribute(path, file, name, ATTRIBUTES[name]) for name in names}
    if attributes.pop("crc32") != _attributes_checksum(attributes):
        raise ShardError(f"{path}: its attributes do not match their checksum. {MEND}")
    check_index(path, attributes["index"])
    return attributes


def _model(path: Path, attributes: Mapping[str, Any]) -> SignalModel:
    """Signal model of a shard, whose parameters, columns and known maps are the stored ones."""
    try:
        model = signal_model(attributes["signal_model"])
    except ValueError as error:
        raise ShardError(f"{path}: {error}.") from None
    expected = {"parameters": model.parameters, "units": model.units}
    if attributes["layout"] == TABLE_LAYOUT:
        expected["columns"] = tuple(column.name for column in model.columns)
        expected["known_maps"] = tuple(known.name for known in model.known_maps)
    elif not _is_plain(model):
        raise ShardError(
            f"{path} has layout version {PLAIN_LAYOUT}, which holds no protocol of {model.name}. "
            f"{MEND}"
        )
    for name, names in expected.items():
        stored = read_names(path, name, attributes.get(name, "[]"))
        if stored != tuple(names):
            raise ShardError(
                f"{path} has the {name.replace('_', ' ')} {', '.join(stored) or 'none'}, but "
                f"{model.name} has {', '.join(names) or 'none'}. {MEND}"
            )
    return model


def _protocol_table(path: Path, attributes: Mapping[str, Any], model: SignalModel) -> np.ndarray:
    """Protocol of a shard, (N, D): finite numbers, none below 0."""
    try:
        table = model.table(attributes["tau"])
    except ValueError as error:
        raise ShardError(f"{path}: {error}. {MEND}") from None
    if not len(table) or not np.isfinite(table).all() or table.min() < 0:
        raise ShardError(
            f"{path}: its protocol is no list of finite numbers from 0 upwards. {MEND}"
        )
    if table.max() > LARGEST_VALUE:
        raise ShardError(f"{path}: its protocol holds numbers beyond {LARGEST_VALUE:g}. {MEND}")
    return table


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
