"""NIfTI files in and out: the only module of relaxnet that knows nibabel.

`relaxnet.io.inputs` checks what they are used for: series, masks, labels, sigma.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError, HeaderTypeError

#: What nibabel and the decompressors raise on damaged files.
_DAMAGE = (
    nib.filebasedimages.ImageFileError,
    HeaderDataError,
    HeaderTypeError,
    OSError,
    EOFError,
    ValueError,
    OverflowError,
    zlib.error,
)
#: Bytes that deflate gives at most for one.
_DEFLATE = 1100


class NiftiError(ValueError):
    """A file cannot be used; one line that names it."""


@dataclass(frozen=True)
class Series:
    """A weighted series.

    Attributes
    ----------
    data : array, shape (X, Y, Z, N), float32
        Scaling applied.
    affine : array, shape (4, 4)
    header : nibabel header
        Of the first file.
    paths : tuple of pathlib.Path
    """

    data: np.ndarray
    affine: np.ndarray
    header: Any
    paths: tuple[Path, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one image."""
        return self.data.shape[:3]

    @property
    def slice_axis(self) -> int:
        """Axis across the acquisition plane.

        An axis of one voxel; otherwise that of the largest zoom; the third one in a tie.
        """
        zooms = np.nan_to_num(np.asarray(self.header.get_zooms()[:3], float))
        single = np.array(self.shape) == 1
        if single.any():
            zooms = single.astype(float)
        return 2 if zooms[2] >= zooms.max() * 0.999 else int(np.argmax(zooms))


def load_map(path: str | Path) -> Series:
    """Load a map, or any image, without a look at what it holds.

    Parameters
    ----------
    path : path
        3-D or 4-D.

    Returns
    -------
    Series
        Whose data are (X, Y, Z) or (X, Y, Z, N), float32.

    Raises
    ------
    NiftiError
        As `load_series` for the file itself.
    """
    path = Path(path)
    image = open_image(path)
    values = image_values(path, image, image_shape(path, image))
    return Series(values, image.affine, image.header, (path,))


def load_voxels(
    paths: Sequence[str | Path], shape: Sequence[int], places: Sequence[tuple[int, int, int]]
) -> np.ndarray:
    """Samples of a few voxels of a series, without the rest of it in memory.

    Parameters
    ----------
    paths : sequence of path
        As for `load_series`.
    shape : (int, int, int)
        That each image must have.
    places : sequence of (int, int, int)
        Voxels, from 0.

    Returns
    -------
    samples : array, shape (voxels, N), float32

    Raises
    ------
    NiftiError
        If a file is not there, is damaged or has another shape.
    """
    columns = []
    for path in map(Path, paths):
        image = open_image(path)
        found = image_shape(path, image)
        if found[:3] != tuple(shape):
            raise NiftiError(f"{path.name} has shape {by(found)}, expected {by(shape)}.")
        try:
            values = [np.ravel(image.dataobj[place]) for place in places]
        except _DAMAGE as error:
            raise NiftiError(f"{path.name} is damaged or cut short ({_short(error)}).") from None
        columns.append(np.array(values, np.float32))
    return np.concatenate(columns, axis=1)


def save_map(
    path: str | Path, values: np.ndarray, series: Series, sidecar: Mapping[str, Any]
) -> None:
    """Write a map as float32 NIfTI on the grid of the series, and a JSON file beside it.

    Affine, qform, sform and their codes, zooms and the unit of length are those of the series.

    Parameters
    ----------
    path : path
        Ends in ``.nii.gz``.
    values : array, shape (X, Y, Z)
    series : Series
    sidecar : mapping
        JSON-serialisable.
    """
    path = Path(path)
    image = nib.Nifti1Image(np.asarray(values, np.float32), None, _map_header(values.shape, series))
    qform, qcode = series.header.get_qform(coded=True)
    sform, scode = series.header.get_sform(coded=True)
    if qform is not None:
        image.set_qform(qform, int(qcode))
    if sform is not None:
        image.set_sform(sform, int(scode))
    nib.save(image, path)
    name = path.name.removesuffix(".gz").removesuffix(".nii")
    text = json.dumps(dict(sidecar), indent=1) + "\n"
    path.with_name(f"{name}.json").write_text(text, encoding="utf-8")


def axis_codes(series: Series) -> tuple[str, str, str] | None:
    """Where each axis points, such as ``("R", "A", "S")``; None if the header does not say."""
    if not is_placed(series.header):
        return None
    codes = nib.aff2axcodes(series.affine)
    return None if None in codes else codes


def is_placed(header: Any) -> bool:
    """Whether a header says where its voxels lie."""
    return bool(header["qform_code"] or header["sform_code"])


def lie_elsewhere(one: Any, other: Any) -> bool:
    """Whether two images or series say where they lie in space, and not in the same place."""
    placed = is_placed(one.header) and is_placed(other.header)
    return placed and not same_place(one.affine, other.affine)


def same_place(affine: np.ndarray, other: np.ndarray) -> bool:
    """Whether two affines agree, within 0.1 %."""
    return np.allclose(affine, other, rtol=1e-3, atol=1e-3)


def open_image(path: Path) -> Any:
    """Open a file and check its header; no voxel is read.

    Raises
    ------
    NiftiError
        If it is missing, not NIfTI, damaged, or lies nowhere.
    """
    if not path.is_file():
        raise NiftiError(f"{path}: no such file.")
    try:
        with nib.imageglobals.LoggingOutputSuppressor():  # its remarks on odd headers
            image = nib.load(path)
        if not isinstance(image, nib.Nifti1Image):
            kind = type(image).__name__
            raise NiftiError(f"{path.name} is {kind}, expected NIfTI (.nii, .nii.gz).")
        place = image.affine, image.header.get_qform(), image.header.get_zooms()[:3]
    except NiftiError:
        raise
    except _DAMAGE as error:
        raise NiftiError(f"{path.name} is not a NIfTI file ({_short(error)}).") from None
    if not all(np.isfinite(values).all() for values in place):
        raise NiftiError(f"{path.name} has a damaged header: its place in space is not finite.")
    return image


def image_shape(path: Path, image: Any) -> tuple[int, ...]:
    """Shape of three or four dimensions, checked together with the type and the file's size."""
    dtype, shape = image.get_data_dtype(), image.shape
    if dtype.kind not in "iufb":
        raise NiftiError(
            f"{path.name} holds {dtype} values; expected real numbers (magnitude images)."
        )
    while len(shape) > 4 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) not in (3, 4) or min(shape) < 1:
        raise NiftiError(f"{path.name} has shape {by(image.shape)}; expected 3 or 4 dimensions.")
    need = math.prod(shape) * dtype.itemsize
    room = path.stat().st_size * (_DEFLATE if path.name.endswith((".gz", ".bz2", ".zst")) else 1)
    if need > room:
        raise NiftiError(
            f"{path.name} is damaged or cut short: its header speaks of shape {by(shape)}, "
            "which the file cannot hold."
        )
    return tuple(int(n) for n in shape)


def image_values(path: Path, image: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Voxels as float32 of the given shape, scaling applied."""
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(image.dataobj, dtype=np.float32).reshape(shape)
    except _DAMAGE as error:
        raise NiftiError(f"{path.name} is damaged or cut short ({_short(error)}).") from None
    except MemoryError:
        raise NiftiError(f"{path.name} (shape {by(shape)}) does not fit into memory.") from None


def by(shape: Sequence[int]) -> str:
    """Shape in words, ``128 x 128 x 9``."""
    return " x ".join(map(str, shape))


def _map_header(shape: tuple[int, ...], series: Series) -> nib.Nifti1Header:
    """Header of the series, less what speaks of its values, its times and its four dimensions."""
    source = series.header.copy()
    source.set_zooms([abs(float(z)) for z in source.get_zooms()])
    header = nib.Nifti1Header.from_header(source, check=False).as_byteswapped("<")
    header.extensions = type(header.extensions)()
    header.set_data_dtype(np.float32)
    header.set_data_shape(shape)
    header.set_zooms((*source.get_zooms()[:3], *[1.0] * (len(shape) - 3)))
    header.set_slope_inter(1.0, 0.0)
    header.set_intent("none")
    for key in ("cal_min", "cal_max", "toffset", "slice_duration", "slice_code"):
        header[key] = 0
    header["descrip"] = b"relaxnet"
    header["aux_file"] = b""
    header.set_xyzt_units(_space_unit(series.header), None)
    return header


def _space_unit(header: Any) -> str | None:
    try:
        unit = header.get_xyzt_units()[0]
    except (KeyError, AttributeError):
        return None
    return None if unit == "unknown" else unit


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
