"""Reading NIfTI files, and nothing else: first bytes, header, then voxels.

A file is known by its first bytes, never by what a library makes of its name. nibabel parses the
header and scales the voxels; its readers of other formats are not used, extensions are not read,
and its remarks and numpy's go no further than this module.
"""

from __future__ import annotations

import bz2
import gzip
import logging
import math
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.spatialimages import HeaderDataError, HeaderTypeError

from relaxsim.core.files import why_not_regular

#: What nibabel and the decompressors raise on damaged files.
_DAMAGE = (
    nib.filebasedimages.ImageFileError,
    HeaderDataError,
    HeaderTypeError,
    OSError,
    EOFError,
    ValueError,
    OverflowError,
    IndexError,
    KeyError,
    TypeError,
    zlib.error,
)
#: Bytes that deflate gives at most for one.
_DEFLATE = 1032
#: A compressed file whose header speaks of more than this many bytes for one is unpacked once to
#: count what is there, before memory is taken for it.
_LIKELY_RATIO = 40
#: Bytes of the header, by version, and the first byte of voxels in a single file.
_HEADER_BYTES = {1: 348, 2: 540}
_FIRST_VOXEL = {1: 352, 2: 544}
_ENDINGS = (".nii", ".nii.gz", ".nii.bz2", ".hdr", ".hdr.gz", ".img", ".img.gz")
#: Files of a pair: the header's ending and the voxels'.
_PAIRS = {".hdr": ".img", ".hdr.gz": ".img.gz", ".img": ".hdr", ".img.gz": ".hdr.gz"}
#: Other formats by their first bytes.
_FOREIGN = (
    (b"CDF", "MINC"),
    (b"\x89HDF", "HDF5 or MINC"),
    (b"NRRD", "NRRD"),
    (b"# ===", "PAR/REC"),
    (b"<?xml", "XML (GIFTI or CIFTI)"),
    (b"<", "XML"),
    (b"\x00\x00\x00\x01", "MGH"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd"),
    (b"\xfd7zXZ", "compressed by xz"),
    (b"{", "JSON"),
)
#: Quaternions that are longer than 1 by rounding are shortened, those beyond say nothing.
_QUATERNION_ROUNDING = 1e-2
#: What nibabel takes for 1, in the square of their length.
_SINGLE_PRECISION = 3e-7


class NiftiError(ValueError):
    """A file cannot be used; one line that names it."""


@dataclass(frozen=True)
class Image:
    """An opened file: its header is checked, its voxels are not read.

    Attributes
    ----------
    path : pathlib.Path
        As given.
    data_path : pathlib.Path
        File of the voxels, another one for a pair.
    header : nibabel header
        Of three dimensions at least; quaternions and rows of the affine that say nothing are gone.
    shape : tuple of int
        Three dimensions, or four; axes of one entry beyond the third are dropped.
    affine : array, shape (4, 4)
    offset : int
        First byte of the voxels.
    """

    path: Path
    data_path: Path
    header: Any
    shape: tuple[int, ...]
    affine: np.ndarray
    offset: int

    @property
    def name(self) -> str:
        """Name of the file, for messages."""
        return self.path.name

    def values(
        self, shape: Sequence[int] | None = None, dtype: type[np.generic] | None = np.float32
    ) -> np.ndarray:
        """Voxels, scaling applied, in another shape if one is given.

        As float32; in the file's own type, unless it is scaled, if `dtype` is None.

        Raises
        ------
        NiftiError
            If the file is cut short or damaged, or does not fit into memory.
        """
        shape = self.shape if shape is None else tuple(shape)
        with self._proxy(shape) as (voxels, file):
            found = np.array(voxels) if dtype is None else np.asarray(voxels, dtype=dtype)
            file.read(1)  # the end of a compressed file, and so its checksum
            return found

    def samples(self, places: Sequence[tuple[int, ...]], shape: Sequence[int]) -> list[np.ndarray]:
        """Values of a few voxels of an image of a given shape, an array each.

        Raises
        ------
        NiftiError
            As `values`.
        """
        with self._proxy(shape) as (voxels, _):
            return [np.ravel(voxels[place]) for place in places]

    @contextmanager
    def _proxy(self, shape: Sequence[int]) -> Iterator[tuple[Any, IO[bytes]]]:
        """Voxels of the file while it is open; errors of the libraries in one line."""
        header = self.header
        spec = (
            tuple(shape),
            header.get_data_dtype(),
            self.offset,
            *header.get_slope_inter(),
        )
        try:
            with quiet(), _opened(self.data_path) as file:
                yield ArrayProxy(file, spec), file
        except NiftiError:
            raise
        except _DAMAGE as error:
            words = short(error)
            raise NiftiError(f"{self.name} is damaged or cut short ({words}).") from None
        except MemoryError:
            raise NiftiError(
                f"{self.name} (shape {by(self.shape)}) does not fit into memory."
            ) from None


def open_image(path: str | Path) -> Image:
    """Open a file and check its header against the file; no voxel is read.

    Raises
    ------
    NiftiError
        If it is missing, no regular file, not NIfTI, damaged, holds no real numbers, has other
        dimensions than images have, or lies nowhere.
    """
    path = Path(path)
    ending = _ending(path)
    _check_regular(path)
    head_path, data_path = _files(path, ending)
    block = _first_bytes(path, head_path)
    version, big = _version(path, block)
    single = head_path == data_path
    header, stated = _header(path, block, (version, big, single))
    shape = _shape(path, header)
    offset = _offset(path, stated, _FIRST_VOXEL[version] if single else 0)
    _check_size(path, data_path, shape, header.get_data_dtype(), offset)
    with quiet():
        header.set_data_shape(shape)
        affine = _mend_place(path, header)
    return Image(path, data_path, header, shape, affine, offset)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the remarks of nibabel and numpy on odd files from the user."""
    logger = nib.imageglobals.logger
    before, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = before


def by(shape: Sequence[int]) -> str:
    """Shape in words, ``128 x 128 x 9``."""
    return " x ".join(map(str, shape))


def short(error: Exception) -> str:
    """An error of a library in a few words of one line."""
    return " ".join(str(error).split())[:120] or type(error).__name__


def _ending(path: Path) -> str:
    """Ending of an image's name in lower case; empty if it is none."""
    name = path.name.lower()
    found = [ending for ending in _ENDINGS if name.endswith(ending)]
    return max(found, key=len, default="")


def _check_regular(path: Path) -> None:
    why = why_not_regular(path)
    if why:
        raise NiftiError(f"{path}: {why}.")


def _files(path: Path, ending: str) -> tuple[Path, Path]:
    """Files of the header and of the voxels: one, or a pair."""
    if ending not in _PAIRS:
        return path, path
    stem, own = path.name[: -len(ending)], path.name[-len(ending) :]
    endings = _PAIRS[ending], _PAIRS[ending].upper(), own[:1] + own[1:].swapcase()
    other = next((p for e in endings if (p := path.with_name(stem + e)).exists()), None)
    if other is None:
        part = "voxels" if ending.startswith(".hdr") else "header"
        raise NiftiError(
            f"{path.name} is one of a pair, and the file of its {part} ({stem}{_PAIRS[ending]}) "
            "is not there."
        )
    _check_regular(other)
    return (path, other) if ending.startswith(".hdr") else (other, path)


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """The bytes of a file, unpacked as they are read where its first bytes tell of compression."""
    with path.open("rb") as raw:
        magic = raw.read(3)
        raw.seek(0)
        if magic[:2] == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=raw) as unpacked:
                yield unpacked  # type: ignore[misc]
        elif magic == b"BZh":
            with bz2.BZ2File(raw) as other:
                yield other
        else:
            yield raw


def _is_packed(path: Path) -> bool:
    with path.open("rb") as file:
        magic = file.read(3)
    return magic[:2] == b"\x1f\x8b" or magic == b"BZh"


def _first_bytes(path: Path, head_path: Path) -> bytes:
    try:
        with _opened(head_path) as file:
            return file.read(_HEADER_BYTES[2])
    except PermissionError:
        raise NiftiError(f"{path}: it may not be read (permission denied).") from None
    except _DAMAGE as error:
        raise NiftiError(f"{path.name} is not a NIfTI file ({short(error)}).") from None


def _version(path: Path, block: bytes) -> tuple[int, bool]:
    """Version of the format, and whether the header's bytes are big-endian."""
    size = {"<": int.from_bytes(block[:4], "little"), ">": int.from_bytes(block[:4], "big")}
    if block[4:8] in (b"n+2\0", b"ni2\0"):
        for order, number in size.items():
            if number == _HEADER_BYTES[2] and len(block) >= _HEADER_BYTES[2]:
                return 2, order == ">"
    if block[344:348] in (b"n+1\0", b"ni1\0"):
        if _HEADER_BYTES[1] in size.values():
            return 1, size[">"] == _HEADER_BYTES[1]
        axes = block[40:42]  # the number of axes tells where the header's size does not
        if 1 <= int.from_bytes(axes, "little") <= 7:
            return 1, False
        if 1 <= int.from_bytes(axes, "big") <= 7:
            return 1, True
        raise NiftiError(f"{path.name} is not a NIfTI file (its header has no number of axes).")
    raise NiftiError(f"{path.name} is not a NIfTI file ({_what_it_is(block)}).")


def _what_it_is(block: bytes) -> str:
    """What first bytes that are not NIfTI's are."""
    if not block:
        return "it is empty"
    if block[128:132] == b"DICM":
        return "it is DICOM; convert it, for instance by dcm2niix"
    size = _HEADER_BYTES[1].to_bytes(4, "little"), _HEADER_BYTES[1].to_bytes(4, "big")
    if block[:4] in size and len(block) >= 348:
        return "its header is that of Analyze 7.5, which does not say where left is; convert it"
    start = block.lstrip()[:16]
    for magic, name in _FOREIGN:
        if block.startswith(magic) or start.startswith(magic):
            return f"it is {name}; convert it"
    if len(block) < _HEADER_BYTES[1]:
        return f"its {len(block)} bytes hold no header"
    return "its first bytes are no header of NIfTI"


#: nibabel's headers by version and by whether header and voxels share a file.
_HEADERS = {
    (1, True): nib.Nifti1Header,
    (1, False): nib.nifti1.Nifti1PairHeader,
    (2, True): nib.Nifti2Header,
    (2, False): nib.nifti2.Nifti2PairHeader,
}


def _header(path: Path, block: bytes, form: tuple[int, bool, bool]) -> tuple[Any, float]:
    """Header, odd fields mended as nibabel does, and where it says that the voxels begin.

    Version, big-endian and single file by `form`.
    """
    version, big, single = form
    kind = _HEADERS[version, single]
    with quiet():
        try:
            header = kind(block[: _HEADER_BYTES[version]], ">" if big else "<", check=False)
            for key in ("qform_code", "sform_code"):
                if not 0 <= int(header[key]) <= 5:
                    header[key] = 0
            offset = float(header["vox_offset"])
            header.check_fix(logger=_SILENT, error_level=100)
            dtype = header.get_data_dtype()
            slope = header.get_slope_inter()
        except _DAMAGE as error:
            raise NiftiError(f"{path.name} has a damaged header ({short(error)}).") from None
    if dtype.kind not in "iufb":
        raise NiftiError(
            f"{path.name} holds {dtype} voxels; expected real numbers (magnitude images)."
        )
    if any(value is not None and not math.isfinite(value) for value in slope):
        raise NiftiError(f"{path.name} has a damaged header: its scaling is not finite.")
    return header, offset


def _shape(path: Path, header: Any) -> tuple[int, ...]:
    """Three dimensions, or four; axes of one entry beyond the third are dropped."""
    dim = [int(n) for n in header["dim"]]
    found = tuple(dim[1 : 1 + dim[0]]) if 1 <= dim[0] <= 7 else ()
    shape = found + (1,) * (3 - len(found))
    times = [n for n in shape[3:] if n != 1]
    if len(found) < 2 or len(times) > 1 or min(shape) < 1:
        raise NiftiError(
            f"{path.name} has shape {by(found) or 'of no axis'}; expected 3 or 4 dimensions (one "
            "slice may have 2)."
        )
    return (*shape[:3], *(times if len(times) or len(shape) < 4 else [1]))


def _offset(path: Path, offset: float, least: int) -> int:
    """First byte of the voxels, as the header states it; refused where it cannot be that."""
    if not math.isfinite(offset) or offset != int(offset) or offset < least:
        raise NiftiError(
            f"{path.name} has a damaged header: its voxels would begin at byte {offset:g} "
            f"(vox_offset); expected {least} or more."
        )
    return int(offset)


def _check_size(
    path: Path, data_path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], offset: int
) -> None:
    """Refuse a header that speaks of more voxels than the file holds."""
    need = math.prod(shape) * dtype.itemsize + offset
    size = data_path.stat().st_size
    holds = size
    if _is_packed(data_path):
        holds = need if need <= size * _LIKELY_RATIO else _unpacked_size(data_path, need)
        if data_path.name.lower().endswith(".gz"):
            holds = min(holds, size * _DEFLATE)
    if need > holds:
        raise NiftiError(
            f"{path.name} is damaged or cut short: its header speaks of shape {by(shape)}, "
            "which the file cannot hold."
        )


def _unpacked_size(path: Path, enough: int) -> int:
    """Bytes of a compressed file, counted up to `enough` in little memory."""
    count, chunk = 0, 1 << 20
    if enough > path.stat().st_size * 10**7:
        return 0
    try:
        with _opened(path) as file:
            while count < enough and (block := file.read(chunk)):
                count += len(block)
    except _DAMAGE:
        pass
    return count


def _mend_place(path: Path, header: Any) -> np.ndarray:
    """Affine of a header, in which codes are cleared whose numbers say nothing.

    The quaternions count where they are of length 1 but for rounding; the rows of the affine where
    they are finite and not singular. Where both are coded the rows count, as in nibabel.
    """
    b, c, d = (float(header[f"quatern_{axis}"]) for axis in "bcd")
    square = b * b + c * c + d * d
    if 1 + _SINGLE_PRECISION < square <= (1 + _QUATERNION_ROUNDING) ** 2:
        for axis, value in zip("bcd", (b, c, d), strict=True):
            header[f"quatern_{axis}"] = value / math.sqrt(square)
        square = 1.0
    zooms = np.asarray(header.get_zooms()[:3], float)
    if not np.isfinite(zooms).all():
        raise NiftiError(f"{path.name} has a damaged header: its voxel sizes are not finite.")
    qoffset = [float(header[f"qoffset_{axis}"]) for axis in "xyz"]
    placed = square <= 1 + _SINGLE_PRECISION and np.isfinite(qoffset).all()
    rows = np.stack([np.asarray(header[f"srow_{axis}"], float) for axis in "xyz"])
    stated = np.isfinite(rows).all() and _is_regular_matrix(rows[:, :3])
    q, s = int(header["qform_code"]), int(header["sform_code"])
    if (q or s) and not ((q and placed) or (s and stated)):
        raise NiftiError(
            f"{path.name} has a damaged header: its place in space is not finite or says nothing "
            f"(qform code {q}, sform code {s})."
        )
    if not placed:
        header["qform_code"] = 0
        for axis in "bcd":
            header[f"quatern_{axis}"] = 0
    if not stated:
        header["sform_code"] = 0
    return np.asarray(header.get_best_affine(), float)


def _is_regular_matrix(matrix: np.ndarray) -> bool:
    """Whether the columns of an affine span space."""
    lengths = np.linalg.norm(matrix, axis=0)
    return bool(lengths.min() > 0 and abs(np.linalg.det(matrix / lengths)) > 1e-6)


def _silent_logger() -> logging.Logger:
    logger = logging.Logger("nifti")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    return logger


_SILENT = _silent_logger()
