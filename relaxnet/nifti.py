"""NIfTI in and out: the only module of relaxnet that knows nibabel."""

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

from relaxnet.phase import phase_by_name, phase_by_values

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
    """A file cannot be used as a series or mask; one line that names it."""


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


def load_series(paths: Sequence[str | Path]) -> Series:
    """Load a series: one 4-D file, or one 3-D file for each time.

    Parameters
    ----------
    paths : sequence of path
        In acquisition order.

    Returns
    -------
    Series

    Raises
    ------
    NiftiError
        If a file is missing, damaged, not NIfTI, not of real numbers, of other dimensions, or a
        phase image (`relaxnet.phase`); if several files differ in shape or affine.
    """
    files = tuple(Path(p) for p in paths)
    if not files:
        raise NiftiError("no series was given.")
    images = [_open(path) for path in files]
    shapes = [_shape(path, image) for path, image in zip(files, images, strict=True)]
    for path in files:
        _refuse_phase(path, phase_by_name(path))
    affine, header = images[0].affine, images[0].header
    if len(files) == 1:
        if len(shapes[0]) == 3 or shapes[0][3] == 1:
            raise NiftiError(
                f"{files[0].name} holds a single image (shape {by(shapes[0])}). Give a "
                "4-D series, or one 3-D file for each time."
            )
        data = _values(files[0], images[0], shapes[0])
        for n in range(data.shape[-1]):
            _refuse_phase(files[0], phase_by_values(data[..., n]))
        return Series(data, affine, header, files)
    for path, image, shape in zip(files, images, shapes, strict=True):
        _check_same_grid(path, image, shape, files[0], images[0], shapes[0])
    data = np.empty((*shapes[0][:3], len(files)), np.float32)
    for n, (path, image, shape) in enumerate(zip(files, images, shapes, strict=True)):
        data[..., n] = _values(path, image, shape).reshape(shape[:3])
        _refuse_phase(path, phase_by_values(data[..., n]))
    return Series(data, affine, header, files)


def load_maps(paths: Sequence[str | Path]) -> Series:
    """Load maps: one or several 3-D files, or one 4-D file, all on one grid.

    Raises
    ------
    NiftiError
        As `load_series`, but for a single image, which is taken.
    """
    if len(paths) != 1:
        return load_series(paths)
    path = Path(paths[0])
    image = _open(path)
    shape = _shape(path, image)
    data = _values(path, image, shape).reshape(*shape[:3], -1)
    return Series(data, image.affine, image.header, (path,))


def check_grid(name: str, maps: Series, other: Series) -> None:
    """Refuse maps, `name` in words, that do not lie on the grid of others.

    Affines are compared if both files say where they lie in space.

    Raises
    ------
    NiftiError
    """
    words = f"{name} {maps.paths[0].name}"
    reference = other.paths[0].name
    if maps.shape != other.shape:
        raise NiftiError(
            f"{words} has shape {by(maps.shape)}, {reference} has {by(other.shape)}; they must "
            "lie on one grid."
        )
    if _is_placed(maps.header) and _is_placed(other.header):
        if not _same_place(maps.affine, other.affine):
            raise NiftiError(
                f"{words} lies elsewhere in space than {reference} (their affines differ); they "
                "must lie on one grid."
            )


def load_mask(
    path: str | Path, shape: tuple[int, int, int], series: Series | None = None
) -> np.ndarray:
    """Load a mask: voxels above zero; NaN is outside.

    Parameters
    ----------
    path : path
        3-D, or 4-D with one volume.
    shape : tuple of int
        Of one image of the series.
    series : Series, optional
        If mask and series both say where they lie in space, they must agree.

    Returns
    -------
    mask : bool array, shape (X, Y, Z)

    Raises
    ------
    NiftiError
        If it has another shape or place, or no voxel; as `load_series` for the file itself.
    """
    path = Path(path)
    values = _on_grid("mask", path, shape, series)
    mask = np.nan_to_num(values, nan=0.0) > 0
    if not mask.any():
        raise NiftiError(f"mask {path.name} holds no voxel above zero.")
    return mask


def load_labels(path: str | Path, series: Series) -> np.ndarray:
    """Load a label map on the grid of a series: whole numbers, 0 for no label.

    Parameters
    ----------
    path : path
        3-D, or 4-D with one volume.
    series : Series

    Returns
    -------
    labels : int array, shape (X, Y, Z)

    Raises
    ------
    NiftiError
        If it has another shape or place, values that are no whole numbers or negative, or no label;
        as `load_series` for the file itself.
    """
    path = Path(path)
    values = _on_grid("label map", path, series.shape, series)
    whole = np.isfinite(values) & (values == np.round(values)) & (np.abs(values) < 2**24)
    if not whole.all():
        raise NiftiError(
            f"label map {path.name} holds {values[~whole][0]:g}; labels are whole numbers below "
            "16777216."
        )
    if values.min() < 0:
        raise NiftiError(f"label map {path.name} holds {values.min():g}; labels are not negative.")
    if not values.any():
        raise NiftiError(f"label map {path.name} holds no label above zero.")
    return values.astype(np.int32)


def load_sigma(
    path: str | Path, shape: tuple[int, int, int], series: Series | None = None
) -> np.ndarray:
    """Load a map of the noise standard deviation, in the unit of the series.

    What it holds outside the mask does not matter: values in the mask are checked where the mask is
    known (`relaxnet.noise.checked_sigma`).

    Parameters
    ----------
    path : path
        3-D, or 4-D with one volume.
    shape : tuple of int
        Of one image of the series.
    series : Series, optional
        If both say where they lie in space, they must agree.

    Returns
    -------
    sigma : array, shape (X, Y, Z), float32

    Raises
    ------
    NiftiError
        If it has another shape or place, or no positive value; as `load_series` for the file
        itself.
    """
    path = Path(path)
    values = _on_grid("sigma map", path, shape, series)
    if not (np.isfinite(values) & (values > 0)).any():
        raise NiftiError(
            f"sigma map {path.name} holds no positive number; expected the noise standard "
            "deviation in the unit of the series."
        )
    return values


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
    image = _open(path)
    values = _values(path, image, _shape(path, image))
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
        image = _open(path)
        found = _shape(path, image)
        if found[:3] != tuple(shape):
            raise NiftiError(f"{path.name} has shape {by(found)}, expected {by(shape)}.")
        try:
            values = [np.ravel(image.dataobj[place]) for place in places]
        except _DAMAGE as error:
            raise NiftiError(f"{path.name} is damaged or cut short ({_short(error)}).") from None
        columns.append(np.array(values, np.float32))
    return np.concatenate(columns, axis=1)


def axis_codes(series: Series) -> tuple[str, str, str] | None:
    """Where each axis points, such as ``("R", "A", "S")``; None if the header does not say."""
    if not _is_placed(series.header):
        return None
    codes = nib.aff2axcodes(series.affine)
    return None if None in codes else codes


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


def rescale_map(
    source: str | Path, target: str | Path, factor: float, sidecar: Mapping[str, Any]
) -> None:
    """Write a map again under another name, its values times a factor, with another sidecar.

    Parameters
    ----------
    source : path
        3-D.
    target : path
        Ends in ``.nii.gz``.
    factor : float
    sidecar : mapping
        JSON-serialisable.

    Raises
    ------
    NiftiError
        If `source` cannot be read.
    """
    source = Path(source)
    image = _open(source)
    values = _values(source, image, _shape(source, image)) * np.float32(factor)
    save_map(target, values, Series(values, image.affine, image.header, (source,)), sidecar)


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


def _open(path: Path) -> Any:
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


def _shape(path: Path, image: Any) -> tuple[int, ...]:
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


def _values(path: Path, image: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Voxels as float32 of the given shape, scaling applied."""
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(image.dataobj, dtype=np.float32).reshape(shape)
    except _DAMAGE as error:
        raise NiftiError(f"{path.name} is damaged or cut short ({_short(error)}).") from None
    except MemoryError:
        raise NiftiError(f"{path.name} (shape {by(shape)}) does not fit into memory.") from None


def _on_grid(
    kind: str, path: Path, shape: tuple[int, int, int], series: Series | None
) -> np.ndarray:
    """Values of an image that lies on the grid of the series; float32, shape (X, Y, Z)."""
    image = _open(path)
    found = _shape(path, image)
    if found[3:] == (1,):
        found = found[:3]
    if found != tuple(shape):
        raise NiftiError(
            f"{kind} {path.name} has shape {by(found)}, the series {by(shape)}. "
            f"Give a {kind} on the grid of the series."
        )
    if series is not None and _is_placed(series.header) and _is_placed(image.header):
        if not _same_place(image.affine, series.affine):
            raise NiftiError(
                f"{kind} {path.name} lies elsewhere in space than the series (their affines "
                f"differ). Give a {kind} on the grid of the series."
            )
    return _values(path, image, found)


def _refuse_phase(path: Path, why: str) -> None:
    if why:
        raise NiftiError(
            f"{path.name} is a phase image ({why}). Give magnitude images, or real ones."
        )


def _check_same_grid(
    path: Path, image: Any, shape: tuple[int, ...], first: Path, image_1: Any, shape_1: Any
) -> None:
    """Refuse an image of several files that is none, or lies on another grid than the first."""
    if len(shape) == 4 and shape[3] > 1:
        raise NiftiError(
            f"{path.name} is 4-D (shape {by(shape)}); of several files each must be one 3-D image."
        )
    if shape[:3] != shape_1[:3]:
        raise NiftiError(
            f"{path.name} has shape {by(shape)}, {first.name} {by(shape_1)}; the images of a "
            "series share one grid."
        )
    if not _same_place(image.affine, image_1.affine):
        raise NiftiError(
            f"{path.name} and {first.name} lie differently in space (their affines "
            "differ); the images of a series share one grid."
        )


def _is_placed(header: Any) -> bool:
    """Whether a header says where its voxels lie."""
    return bool(header["qform_code"] or header["sform_code"])


def _same_place(affine: np.ndarray, other: np.ndarray) -> bool:
    return np.allclose(affine, other, rtol=1e-3, atol=1e-3)


def _space_unit(header: Any) -> str | None:
    try:
        unit = header.get_xyzt_units()[0]
    except (KeyError, AttributeError):
        return None
    return None if unit == "unknown" else unit


def by(shape: Sequence[int]) -> str:
    """Shape in words, ``128 x 128 x 9``."""
    return " x ".join(map(str, shape))


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
