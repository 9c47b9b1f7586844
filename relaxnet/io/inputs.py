"""Series, masks, label maps and sigma maps from NIfTI files, checked for what they must be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from relaxnet.io.nifti import (
    NiftiError,
    Series,
    by,
    image_shape,
    image_values,
    lie_elsewhere,
    open_image,
    same_place,
)
from relaxnet.series.phase_check import phase_by_name, phase_by_values
from relaxsim.core.whole_numbers import is_whole


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
        phase image (`relaxnet.series.phase_check`); if several files differ in shape or affine.
    """
    files = tuple(Path(p) for p in paths)
    if not files:
        raise NiftiError("no series was given.")
    images = [open_image(path) for path in files]
    shapes = [image_shape(path, image) for path, image in zip(files, images, strict=True)]
    for path in files:
        _refuse_phase(path, phase_by_name(path))
    affine, header = images[0].affine, images[0].header
    if len(files) == 1:
        if len(shapes[0]) == 3 or shapes[0][3] == 1:
            raise NiftiError(
                f"{files[0].name} holds a single image (shape {by(shapes[0])}). Give a "
                "4-D series, or one 3-D file for each time."
            )
        data = image_values(files[0], images[0], shapes[0])
        for n in range(data.shape[-1]):
            _refuse_phase(files[0], phase_by_values(data[..., n]))
        return Series(data, affine, header, files)
    for path, image, shape in zip(files, images, shapes, strict=True):
        _check_same_grid(path, image, shape, files[0], images[0], shapes[0])
    data = np.empty((*shapes[0][:3], len(files)), np.float32)
    for n, (path, image, shape) in enumerate(zip(files, images, shapes, strict=True)):
        data[..., n] = image_values(path, image, shape).reshape(shape[:3])
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
    image = open_image(path)
    shape = image_shape(path, image)
    data = image_values(path, image, shape).reshape(*shape[:3], -1)
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
    if lie_elsewhere(maps, other):
        raise NiftiError(
            f"{words} lies elsewhere in space than {reference} (their affines differ); they "
            "must lie on one grid."
        )


#: Probabilities may leave 0 to 1 by this much where they were resampled by splines.
_OVERSHOOT = 0.2


def load_mask(
    path: str | Path, shape: tuple[int, int, int], series: Series | None = None
) -> tuple[np.ndarray, bool]:
    """Load a mask: voxels above zero, of probabilities those from 0.5 up; NaN is outside.

    Probabilities are several fractions from 0 to 1, beyond which resampling may have led a little.

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
    probabilities : bool
        The file holds probabilities.

    Raises
    ------
    NiftiError
        If it has another shape or place, or no voxel; as `load_series` for the file itself.
    """
    path = Path(path)
    return mask_of(_on_grid("mask", path, shape, series), path.name)


def mask_of(values: np.ndarray, name: str) -> tuple[np.ndarray, bool]:
    """Mask of the values of a file, and whether these are probabilities; see `load_mask`.

    Raises
    ------
    NiftiError
        If no voxel is in it.
    """
    values = np.nan_to_num(values, nan=0.0)
    within = values.min() >= -_OVERSHOOT and values.max() <= 1 + _OVERSHOOT
    probabilities = bool(within and len(np.unique(values[values != 0])) > 1)
    mask = values >= 0.5 if probabilities else values > 0
    if not mask.any():
        limit = "of 0.5 or more" if probabilities else "above zero"
        raise NiftiError(f"mask {name} holds no voxel {limit}.")
    return mask, probabilities


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
    labels = whole_labels(_on_grid("label map", path, series.shape, series), path.name)
    if not labels.any():
        raise NiftiError(f"label map {path.name} holds no label above zero.")
    return labels


def whole_labels(values: np.ndarray, name: str) -> np.ndarray:
    """Values of a label map as int32, NaN as 0, no label.

    Raises
    ------
    NiftiError
        If a value is not whole (`relaxsim.core.whole_numbers.is_whole`), negative, or above 2^24.
    """
    values = np.nan_to_num(values, nan=0.0, posinf=np.inf, neginf=-np.inf)
    whole = is_whole(values) & (np.abs(values) < 2**24)
    if not whole.all():
        raise NiftiError(
            f"label map {name} holds {values[~whole][0]!s}; labels are whole numbers below "
            "16777216."
        )
    if values.min(initial=0) < -0.5:
        raise NiftiError(f"label map {name} holds {values.min():g}; labels are not negative.")
    return np.rint(values).astype(np.int32)


def load_sigma(
    path: str | Path, shape: tuple[int, int, int], series: Series | None = None
) -> np.ndarray:
    """Load a map of the noise standard deviation, in the unit of the series.

    What it holds outside the mask does not matter: values in the mask are checked where the mask is
    known (`relaxnet.series.noise.checked_sigma`).

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


def load_known_map(path: str | Path, words: str, series: Series) -> np.ndarray:
    """Load a map that was measured beside a series, on its grid.

    Values are checked where the mask is known.

    Parameters
    ----------
    path : path
        3-D, or 4-D with one volume.
    words : str
        What it is, for messages: ``relative transmit field``.
    series : Series

    Returns
    -------
    values : array, shape (X, Y, Z), float32

    Raises
    ------
    NiftiError
        If it has another shape or place; as `load_series` for the file itself.
    """
    return _on_grid(f"map of the {words}", Path(path), series.shape, series)


def _on_grid(
    kind: str, path: Path, shape: tuple[int, int, int], series: Series | None
) -> np.ndarray:
    """Values of an image that lies on the grid of the series; float32, shape (X, Y, Z)."""
    image = open_image(path)
    found = image_shape(path, image)
    if found[3:] == (1,):
        found = found[:3]
    if found != tuple(shape):
        raise NiftiError(
            f"{kind} {path.name} has shape {by(found)}, the series {by(shape)}. "
            f"Give a {kind} on the grid of the series."
        )
    if series is not None and lie_elsewhere(image, series):
        raise NiftiError(
            f"{kind} {path.name} lies elsewhere in space than the series (their affines "
            f"differ). Give a {kind} on the grid of the series."
        )
    return image_values(path, image, found)


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
    if not same_place(image.affine, image_1.affine):
        raise NiftiError(
            f"{path.name} and {first.name} lie differently in space (their affines "
            "differ); the images of a series share one grid."
        )
