"""NIfTI in and out: the only module of relaxnet that knows nibabel."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np


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
        """Axis across the acquisition plane: that of the largest zoom, the third in a tie."""
        zooms = np.asarray(self.header.get_zooms()[:3], float)
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
        If a file is missing, damaged, not NIfTI, not of real numbers, or of other dimensions; if
        several files differ in shape or affine.
    """
    paths = tuple(Path(p) for p in paths)
    if not paths:
        raise NiftiError("no series was given.")
    images = [_open(path) for path in paths]
    volumes = [_values(path, image) for path, image in zip(paths, images, strict=True)]
    if len(paths) == 1:
        if volumes[0].ndim != 4 or volumes[0].shape[-1] < 2:
            raise NiftiError(
                f"{paths[0].name} holds a single image (shape {_by(volumes[0].shape)}). Give a "
                "4-D series, or one 3-D file for each time."
            )
        return Series(volumes[0], images[0].affine, images[0].header, paths)
    first = volumes[0]
    for path, image, volume in zip(paths, images, volumes, strict=True):
        if volume.ndim == 4:
            raise NiftiError(
                f"{path.name} is 4-D (shape {_by(volume.shape)}); of several files each must be "
                "one 3-D image."
            )
        if volume.shape != first.shape:
            raise NiftiError(
                f"{path.name} has shape {_by(volume.shape)}, {paths[0].name} "
                f"{_by(first.shape)}; the images of a series share one grid."
            )
        if not np.allclose(image.affine, images[0].affine, atol=1e-3):
            raise NiftiError(
                f"{path.name} and {paths[0].name} lie differently in space (their affines "
                "differ); the images of a series share one grid."
            )
    return Series(np.stack(volumes, -1), images[0].affine, images[0].header, paths)


def load_mask(path: str | Path, shape: tuple[int, int, int]) -> np.ndarray:
    """Load a mask: voxels above zero; NaN is outside.

    Raises
    ------
    NiftiError
        If it has another shape or no voxel; as `load_series` for the file itself.
    """
    path = Path(path)
    values = _values(path, _open(path))
    if values.ndim == 4 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.shape != tuple(shape):
        raise NiftiError(
            f"mask {path.name} has shape {_by(values.shape)}, the series {_by(shape)}. "
            "Give a mask on the grid of the series."
        )
    mask = np.nan_to_num(values, nan=0.0) > 0
    if not mask.any():
        raise NiftiError(f"mask {path.name} holds no voxel above zero.")
    return mask


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
    header = nib.Nifti1Header.from_header(series.header, check=False)
    header.set_data_dtype(np.float32)
    header.set_data_shape(values.shape)
    header.set_zooms([float(z) for z in series.header.get_zooms()[:3]])
    header.set_slope_inter(1.0, 0.0)
    header["cal_min"] = header["cal_max"] = 0
    header["descrip"] = b"relaxnet"
    header.set_xyzt_units(_space_unit(series.header), None)
    image = nib.Nifti1Image(np.asarray(values, np.float32), None, header)
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


def _open(path: Path) -> Any:
    if not path.is_file():
        raise NiftiError(f"{path}: no such file.")
    try:
        image = nib.load(path)
    except (nib.filebasedimages.ImageFileError, OSError, EOFError, ValueError) as error:
        raise NiftiError(f"{path.name} is not a NIfTI file ({_short(error)}).") from None
    if not isinstance(image, (nib.Nifti1Image, nib.Nifti2Image)) or (
        isinstance(image, nib.Nifti1Pair)
        and not isinstance(image, (nib.Nifti1Image, nib.Nifti2Image))
    ):
        raise NiftiError(f"{path.name} is {type(image).__name__}, expected NIfTI (.nii, .nii.gz).")
    return image


def _values(path: Path, image: Any) -> np.ndarray:
    """Voxels as float32, of three or four dimensions, scaling applied."""
    dtype = image.get_data_dtype()
    if dtype.kind not in "iufb":
        raise NiftiError(
            f"{path.name} holds {dtype} values; expected real numbers (magnitude images)."
        )
    shape = image.shape
    while len(shape) > 4 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) not in (3, 4) or 0 in shape:
        raise NiftiError(f"{path.name} has shape {_by(image.shape)}; expected 3 or 4 dimensions.")
    try:
        values = np.asarray(image.dataobj, dtype=np.float32)
    except (OSError, EOFError, ValueError, zlib.error, gzip.BadGzipFile) as error:
        raise NiftiError(f"{path.name} is damaged or cut short ({_short(error)}).") from None
    return values.reshape(shape)


def _space_unit(header: Any) -> str | None:
    try:
        unit = header.get_xyzt_units()[0]
    except (KeyError, AttributeError):
        return None
    return None if unit == "unknown" else unit


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
