"""Shards: the one place that knows the HDF5 layout of training data.

Layout, version 1. Datasets, first axis = patch, one chunk a patch: ``S`` (n, P, P, N), ``kappa``
(n, P, P, Q), ``sigma`` (n,), ``labels`` (n, P, P) uint8, ``purity`` (n, P, P) float16, ``origin``
(n, 4) int32 (subject, slice, row, column; subject -1 is a drawn shape). Each carries the CRC-32
of its bytes. Attributes of the file: ``layout``, ``signal_model``, ``parameters``, ``units``,
``tau`` (ms), ``protocol``, ``index``, ``settings`` (JSON: all that the data depend on), ``version``
(of the package that wrote it) and ``crc32`` (of all these).
"""

from __future__ import annotations

import io
import json
import os
import platform
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from relaxsim import __version__
from relaxsim.models.registry import signal_model
from relaxsim.models.signal_model import SignalModel

LAYOUT = 1
DATASETS = {"S": 4, "kappa": 4, "sigma": 1, "labels": 3, "purity": 3, "origin": 2}
#: What h5py raises on a damaged file.
_DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, MemoryError)
_MEND = "Delete it and run relaxsim generate again."


#: What is left of a run that ends early.
GOES_ON = "Shards that are there are complete; the same command goes on, without --overwrite."


class ShardError(ValueError):
    """A shard cannot be read; the message names the file and says why, in one line."""


@dataclass(frozen=True)
class ShardInfo:
    """What a shard says of itself, without its data.

    Attributes
    ----------
    path : pathlib.Path
    index : int
        Number of the shard in its run.
    signal_model : SignalModel
    tau : array, shape (N,), float64
        Times in ms.
    protocol : str
        Name of the list of times.
    num_patches, patch_size : int
    settings : dict
        All that the data depend on.
    version : str
        Version of the package that wrote it.
    """

    path: Path
    index: int
    signal_model: SignalModel
    tau: np.ndarray
    protocol: str
    num_patches: int
    patch_size: int
    settings: dict[str, Any]
    version: str

    @property
    def rician(self) -> bool:
        """Whether its noise is Rician, not Gaussian."""
        return self.settings.get("noise") == "rician"


@dataclass(frozen=True)
class Shard:
    """A shard's `info` and its data; shapes as in the layout above."""

    info: ShardInfo
    S: np.ndarray
    kappa: np.ndarray
    sigma: np.ndarray
    labels: np.ndarray
    purity: np.ndarray
    origin: np.ndarray


def shard_path(folder: str | Path, index: int) -> Path:
    """File of shard `index`."""
    return Path(folder) / f"shard-{index:05d}.h5"


def temporary_path(path: Path) -> Path:
    """Name under which this process writes a shard until it is complete."""
    return path.with_name(f".{path.name}.{platform.node() or 'host'}.{os.getpid()}.part")


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of processes of this machine that no longer live."""
    if os.name != "posix":  # elsewhere signal 0 is no question
        return
    for part in folder.glob(".shard-*.part"):
        rest, pid, _ = part.name.rsplit(".", 2)
        if not rest.endswith(f".h5.{platform.node() or 'host'}") or not pid.isdecimal():
            continue
        try:
            os.kill(int(pid), 0)
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
    tau: np.ndarray,
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
        Every dataset of the layout.
    model : SignalModel
    tau : array, shape (N,)
        ms.
    protocol : str
    index : int
    settings : mapping
        JSON-serialisable.

    Raises
    ------
    OSError
        If the disk is full or the folder cannot be written; the temporary file is removed.
    """
    path = Path(path)
    temporary = temporary_path(path)
    image = io.BytesIO()
    with _timeless_file(image) as file:
        for name in DATASETS:
            data = np.ascontiguousarray(arrays[name])
            chunks = (1, *data.shape[1:]) if data.ndim > 2 else None
            dataset = file.create_dataset(name, data=data, chunks=chunks)
            dataset.attrs["crc32"] = _checksum(data)
        attributes = {
            "layout": LAYOUT,
            "signal_model": model.name,
            "parameters": json.dumps(model.parameters),
            "units": json.dumps(model.units),
            "tau": np.asarray(tau, np.float64),
            "protocol": protocol,
            "index": index,
            "settings": json.dumps(settings, sort_keys=True),
            "version": __version__,
        }
        for key, value in attributes.items():
            file.attrs[key] = np.bytes_(value.encode()) if isinstance(value, str) else value
        file.attrs["crc32"] = _attributes_checksum(attributes)
    try:
        with temporary.open("wb") as handle:
            handle.write(image.getbuffer())
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(f"{path} cannot be written ({error.strerror}). {GOES_ON}") from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


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
        for name in DATASETS:
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
    for name in ("S", "kappa", "sigma", "purity"):
        if not np.isfinite(getattr(shard, name)).all():
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
        shapes = {name: file[name].shape for name in DATASETS if name in file}
    except _DAMAGE as error:
        raise ShardError(f"{path} is damaged ({_one_line(error)}). {_MEND}") from None
    layout = attributes.get("layout")
    if layout is None:
        raise ShardError(f"{path} is an HDF5 file but no shard (it has no layout version).")
    if layout != LAYOUT:
        raise ShardError(
            f"{path} has layout version {layout}, this version reads {LAYOUT}. "
            "Make the shards again with relaxsim generate."
        )
    if not intact:
        raise ShardError(f"{path}: its attributes do not match their checksum. {_MEND}")
    if missing := [name for name in DATASETS if name not in shapes]:
        raise ShardError(f"{path} lacks the dataset {missing[0]}. {_MEND}")
    model = signal_model(attributes["signal_model"])
    tau = np.asarray(attributes["tau"], np.float64)
    _check_shapes(path, shapes, len(tau), model.num_parameters)
    return ShardInfo(
        path=path,
        index=int(attributes["index"]),
        signal_model=model,
        tau=tau,
        protocol=attributes["protocol"],
        num_patches=shapes["labels"][0],
        patch_size=shapes["labels"][1],
        settings=json.loads(attributes["settings"]),
        version=attributes["version"],
    )


def _check_shapes(path: Path, shapes: dict[str, tuple[int, ...]], N: int, Q: int) -> None:
    n, P = (shapes["S"] + (0, 0))[:2]
    expected = {
        "S": (n, P, P, N),
        "kappa": (n, P, P, Q),
        "sigma": (n,),
        "labels": (n, P, P),
        "purity": (n, P, P),
        "origin": (n, 4),
    }
    for name, shape in shapes.items():
        if shape != expected[name]:
            raise ShardError(
                f"{path}: dataset {name} has shape {shape}, expected {expected[name]} "
                f"({n} patches of {P} x {P}, {N} times, {Q} parameters)."
            )


def _checksum(data: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(data).data)


def _attributes_checksum(attributes: Mapping[str, Any]) -> int:
    items = [(key, np.asarray(attributes[key]).tolist()) for key in sorted(attributes)]
    return zlib.crc32(json.dumps(items, default=str).encode())


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).strip("\"'").split())[:120]
