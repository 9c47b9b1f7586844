"""Series, masks, label maps and sigma maps from NIfTI files, checked for what they must be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from relaxnet.io.nifti import Series, is_placed, lie_elsewhere, same_place
from relaxnet.series.phase_check import phase_by_name, phase_by_values
from relaxsim.core.nifti_reader import Image, NiftiError, by, open_image, quiet
from relaxsim.core.replacing import check_settled
from relaxsim.core.whole_numbers import is_whole


def load_series(paths: Sequence[str | Path], num_images: int | None = None) -> Series:
    """Load a series: one 4-D file, or one 3-D file for each time; of one slice also 3-D or 2-D.

    Parameters
    ----------
    paths : sequence of path
        In acquisition order.
    num_images : int, optional
        Images that the protocol lists. A single 3-D file with so many entries along its third axis
        is taken as so many images of one slice.

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
    for path in files:
        _refuse_phase(path, phase_by_name(path))
    if len(images) == 1:
        return _of_one_file(images[0], num_images)
    first = next((image for image in images if is_placed(image.header)), images[0])
    for image in images:
        _check_same_grid(image, first)
    data = np.empty((*first.shape[:3], len(files)), np.float32)
    for n, image in enumerate(images):
        data[..., n] = image.values(first.shape[:3])
        _refuse_phase(image.path, phase_by_values(data[..., n]))
    return Series(data, first.affine, first.header, files)


def _of_one_file(image: Image, num_images: int | None) -> Series:
    """Series of one 4-D file, or of one slice whose images lie along the third axis."""
    shape = image.shape
    if len(shape) == 3 and shape[2] == num_images and num_images > 1:
        shape = (*shape[:2], 1, num_images)
        with quiet():
            image.header.set_data_shape(shape)
    if len(shape) == 3 or shape[3] == 1:
        third = "" if num_images is None else f"; of one slice {num_images} along the third axis"
        raise NiftiError(
            f"{image.name} holds a single image (shape {by(shape)}). Give a 4-D series, or one "
            f"3-D file for each time{third}."
        )
    data = image.values(shape)
    for n in range(data.shape[-1]):
        _refuse_phase(image.path, phase_by_values(data[..., n]))
    return Series(data, image.affine, image.header, (image.path,))


def load_maps(paths: Sequence[str | Path]) -> Series:
    """Load maps: one or several 3-D files, or one 4-D file, all on one grid.

    Raises
    ------
    NiftiError
        As `load_series`, but for a single image, which is taken.
    relaxsim.core.replacing.BeingReplacedError
        If the files of a folder are being replaced.
    """
    for path in paths:
        check_settled(path)
    if len(paths) != 1:
        return load_series(paths)
    path = Path(paths[0])
    image = open_image(path)
    data = image.values().reshape(*image.shape[:3], -1)
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
#: Highest values of masks that are soft at their edge: fractions, per cent, bytes.
_RANGES = (1.0, 100.0, 255.0)
#: A soft mask reaches this much of its range, in this share of the voxels that are not zero; a
#: picture of the head, whose brightest voxels are few, does not.
_FULL, _FULL_SHARE = 0.9, 0.2
#: Whole numbers of at most so many kinds, 0 aside, are labels; at the second number unless the
#: largest is that of the range.
_TWO_LABELS, _FEW_LABELS = 2, 60


def load_mask(
    path: str | Path, shape: tuple[int, int, int], series: Series | None = None
) -> tuple[np.ndarray, float]:
    """Load a mask: voxels above zero, of a soft mask those from half its range up; NaN is outside.

    A soft mask holds several fractions from 0 to 1, beyond which resampling may have led a little,
    or the same from 0 to 100 or 0 to 255.

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
    half : float
        Half of the range of a soft mask; 0 for voxels above zero.

    Raises
    ------
    NiftiError
        If it has another shape or place, or no voxel; as `load_series` for the file itself.
    """
    path = Path(path)
    return mask_of(_on_grid("mask", path, shape, series), path.name)


def mask_of(values: np.ndarray, name: str) -> tuple[np.ndarray, float]:
    """Mask of the values of a file, and half of its range if it is soft; see `load_mask`.

    Raises
    ------
    NiftiError
        If no voxel is in it.
    """
    values = np.nan_to_num(values, nan=0.0)
    half = _soft_range(values) / 2
    mask = values >= half if half else values > 0
    if not mask.any():
        limit = f"of {half:g} or more" if half else "above zero"
        raise NiftiError(f"mask {name} holds no voxel {limit}.")
    return mask, half


def _soft_range(values: np.ndarray) -> float:
    """Largest value that a soft mask is meant to have; 0 for a mask that is not soft."""
    low, high = float(values.min()), float(values.max())
    inside = values[values != 0]
    kinds = np.unique(inside)
    full = next((r for r in _RANGES if high <= r * (1 + _OVERSHOOT)), 0.0)
    if not full or low < -_OVERSHOOT * full or len(kinds) < 2:
        return 0.0
    if full == 1.0:
        return full
    whole = bool((kinds == np.rint(kinds)).all())
    reaches = float((inside >= _FULL * full).mean()) >= _FULL_SHARE
    most = _TWO_LABELS if high == full else _FEW_LABELS
    return full if reaches and not (whole and len(kinds) <= most) else 0.0


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
    found = image.shape
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
    return image.values(found)


def _refuse_phase(path: Path, why: str) -> None:
    if why:
        raise NiftiError(
            f"{path.name} is a phase image ({why}). Give magnitude images, or real ones."
        )


def _check_same_grid(image: Image, first: Image) -> None:
    """Refuse an image of several files that is none, or lies on another grid than the first.

    An image that does not say where it lies must have voxels of the same size.
    """
    if len(image.shape) == 4 and image.shape[3] > 1:
        raise NiftiError(
            f"{image.name} is 4-D (shape {by(image.shape)}); of several files each must be one 3-D "
            "image."
        )
    if image.shape[:3] != first.shape[:3]:
        raise NiftiError(
            f"{image.name} has shape {by(image.shape)}, {first.name} {by(first.shape)}; the images "
            "of a series share one grid."
        )
    if is_placed(image.header) == is_placed(first.header):
        alike, what = same_place(image.affine, first.affine), "affines"
    else:
        zooms = [np.asarray(i.header.get_zooms()[:3], float) for i in (image, first)]
        alike, what = np.allclose(zooms[0], zooms[1], rtol=1e-2), "voxel sizes"
    if not alike:
        raise NiftiError(
            f"{image.name} and {first.name} lie differently in space (their {what} "
            "differ); the images of a series share one grid."
        )
