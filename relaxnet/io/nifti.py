"""NIfTI series and maps: what they hold, where they lie, and how maps are written.

This module and `relaxsim.core.nifti_reader`, which opens files, are all that relaxnet has of
nibabel. `relaxnet.io.inputs` checks what files are used for: series, masks, labels, sigma.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from relaxsim.core.files import image_stem
from relaxsim.core.nifti_reader import NiftiError, by, open_image, quiet
from relaxsim.core.replacing import check_settled


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
        return slice_axis_of(self.header, self.shape)


def slice_axis_of(header: Any, shape: Sequence[int]) -> int:
    """Axis across the acquisition plane of an image of three dimensions, as `Series.slice_axis`."""
    zooms = np.nan_to_num(np.asarray(header.get_zooms()[:3], float))
    zooms = np.append(zooms, [0.0] * (3 - len(zooms)))
    single = np.array(shape) == 1
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
    relaxsim.core.replacing.BeingReplacedError
        If the files of its folder are being replaced.
    """
    path = Path(path)
    check_settled(path)
    image = open_image(path)
    return Series(image.values(), image.affine, image.header, (path,))


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
        found = image.shape
        if len(found) == 3 and len(paths) == 1 and (*found[:2], 1) == tuple(shape):
            found = (*found[:2], 1, found[2])  # one slice, its images along the third axis
        if found[:3] != tuple(shape):
            raise NiftiError(f"{path.name} has shape {by(found)}, expected {by(shape)}.")
        columns.append(np.array(image.samples(places, found), np.float32))
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
    with quiet():
        header = _map_header(values.shape, series)
        image = nib.Nifti1Image(np.asarray(values, np.float32), None, header)
        qform, qcode = series.header.get_qform(coded=True)
        sform, scode = series.header.get_sform(coded=True)
        if qform is not None:
            image.set_qform(qform, int(qcode))
        if sform is not None:
            image.set_sform(sform, int(scode))
        nib.save(image, path)
    text = json.dumps(dict(sidecar), indent=1) + "\n"
    path.with_name(f"{image_stem(path.name)}.json").write_text(text, encoding="utf-8")


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
