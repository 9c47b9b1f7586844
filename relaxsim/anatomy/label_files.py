"""Label volumes on disk: BrainWeb's MINC and raw files, and NIfTI.

Every reader returns whole numbers with the axes slice (inferior to superior), row (posterior to
anterior), column (left to right), as in BrainWeb's files.
"""

from __future__ import annotations

import gzip
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from relaxsim.core.files import why_not_regular
from relaxsim.core.labels import NUM_LABELS
from relaxsim.core.nifti_reader import Image, open_image
from relaxsim.core.whole_numbers import is_whole

#: File name endings that `read_labels` knows.
SUFFIXES = (".mnc", ".mnc.gz", ".rawb", ".rawb.gz", ".bin", ".bin.gz", ".nii", ".nii.gz")
#: Grids (slices, rows, columns) of BrainWeb's two families and their voxel size in mm.
BRAINWEB20_SHAPE, BRAINWEB20_VOXEL = (362, 434, 362), 0.5
BRAINWEB1_SHAPE, BRAINWEB1_VOXEL = (181, 217, 181), 1.0
MAX_LABEL = NUM_LABELS - 1
#: Largest disagreement of zooms, relative, that still counts as an isotropic voxel.
ISOTROPY_TOLERANCE = 1e-3
#: Voxel sizes of label volumes, mm; another one is in another unit.
VOXELS = (0.1, 10.0)
#: Slices of a MINC file that are read at a time.
SLAB = 16
#: Most voxels of a label volume; BrainWeb's finest have 57 million.
MOST_VOXELS = 10**9
#: First bytes of MINC files, versions 1 and 2, and what reads them.
_MINC = {b"CDF": nib.minc1.Minc1Image, b"\x89HD": nib.minc2.Minc2Image}
#: Errors that nibabel and numpy raise on a header that makes no sense.
_LOOKUP_ERRORS = (ValueError, TypeError, LookupError, AssertionError, np.linalg.LinAlgError)


def is_label_file(path: str | Path) -> bool:
    """Whether the file's name ends in one of `SUFFIXES`."""
    return Path(path).name.lower().endswith(SUFFIXES)


def read_labels(path: str | Path) -> tuple[np.ndarray, float]:
    """Labels of a file, as written, and its voxel size.

    Parameters
    ----------
    path : path
        MINC (``.mnc``), NIfTI (``.nii``) or BrainWeb's headerless raw (``.rawb``, ``.bin``; 8 or
        16 bit; the number of bytes gives the grid), each possibly with ``.gz``.

    Returns
    -------
    labels : uint8 array, shape (slices, rows, columns)
        Values 0 to 11; their meaning depends on the family of the file.
    voxel_size : float
        In mm.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no label volume: another format, cut short, labels out of range or not whole,
        voxels not cubes.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; give a label volume ({_endings()}).")
    if why_not_regular(path):
        raise ValueError(f"{path} is not a file; give a label volume ({_endings()}).")
    if not is_label_file(path):
        raise ValueError(f"{path} is no label volume by its name; the endings are {_endings()}.")
    raw = path.name.lower().removesuffix(".gz").endswith((".rawb", ".bin"))
    labels, voxel_size = _read_raw(path) if raw else _read_image(path)
    if not labels.any():
        raise ValueError(f"{path} holds background only; expected labels 1 to {MAX_LABEL}.")
    return labels, voxel_size


def _endings() -> str:
    return " ".join(SUFFIXES)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn errors of the libraries into one line, for files of another format than their name's."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # netCDF: an array outlives its memory map
            yield
    except (FileNotFoundError, PermissionError):
        raise
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is cut short or damaged ({error}); fetch it again.") from error
    except (nib.filebasedimages.ImageFileError, OSError, *_LOOKUP_ERRORS) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} cannot be read as a label volume ({reason}).") from error


def _read_raw(path: Path) -> tuple[np.ndarray, float]:
    """BrainWeb's raw formats: bytes, or 16-bit words that carry the label times 16."""
    most = 2 * int(np.prod(BRAINWEB20_SHAPE))
    opened = gzip.open if path.name.lower().endswith(".gz") else open
    with _readable(path), opened(path, "rb") as file:
        data = file.read(most + 1)
    grids = ((BRAINWEB20_SHAPE, BRAINWEB20_VOXEL), (BRAINWEB1_SHAPE, BRAINWEB1_VOXEL))
    for shape, voxel_size in grids:
        count = int(np.prod(shape))
        if len(data) == count:
            return _whole(path, np.frombuffer(data, np.uint8).reshape(shape)), voxel_size
        if len(data) == 2 * count:
            words = np.frombuffer(data, "<u2").reshape(shape)
            return _whole(path, words >> 4 if words.max() > MAX_LABEL else words), voxel_size
    expected = " or ".join(f"{np.prod(s)} ({' x '.join(map(str, s))})" for s, _ in grids)
    number = f"more than {most}" if len(data) > most else str(len(data))
    raise ValueError(f"{path} holds {number} bytes; a raw label volume has {expected}.")


def _read_image(path: Path) -> tuple[np.ndarray, float]:
    """MINC or NIfTI, turned so that the axes are slice, row, column."""
    with _readable(path):
        image = _opened(path)
        zooms = np.asarray(image.header.get_zooms()[:3], float)
        orientation = nib.orientations.io_orientation(image.affine)
    shape = tuple(image.shape[:3])
    if len(shape) < 3 or np.prod(image.shape) != np.prod(shape):
        raise ValueError(
            f"{path} has shape {' x '.join(map(str, image.shape))}; "
            "expected one three-dimensional label volume."
        )
    if np.prod(shape, dtype=float) > MOST_VOXELS:
        raise ValueError(
            f"{path} has shape {' x '.join(map(str, shape))}; expected at most {MOST_VOXELS:.0e} "
            "voxels."
        )
    if not min(shape):
        raise ValueError(f"{path} has shape {' x '.join(map(str, shape))}: it holds no voxel.")
    if not zooms.min() > 0 or np.ptp(zooms) > ISOTROPY_TOLERANCE * zooms.max():
        raise ValueError(
            f"{path} has voxels of {' x '.join(f'{z:g}' for z in zooms)} mm; "
            "expected cubes: resample the labels by nearest neighbour."
        )
    if not VOXELS[0] <= zooms.mean() <= VOXELS[1]:
        raise ValueError(
            f"{path} has voxels of {zooms.mean():g} mm; expected {VOXELS[0]:g} to {VOXELS[1]:g} mm "
            "(is its header in another unit?)."
        )
    if np.isnan(orientation).any():
        raise ValueError(f"{path} has no usable orientation (its affine is singular).")
    labels = _voxels(path, image, shape)
    labels = nib.orientations.apply_orientation(labels, orientation).transpose(2, 1, 0)
    return np.ascontiguousarray(_undo_mislabelled_axes(labels)), float(zooms.mean())


def _opened(path: Path) -> Any:
    """A file by its first bytes: NIfTI, or MINC by nibabel, of whose readers no other is used."""
    if not path.name.lower().removesuffix(".gz").endswith(".mnc"):
        return open_image(path)
    opened = gzip.open if path.name.lower().endswith(".gz") else open
    with opened(path, "rb") as file:
        start = file.read(3)
    if start not in _MINC:
        raise ValueError("its first bytes are no header of MINC")
    return _MINC[start].from_filename(path)


def _voxels(path: Path, image: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Voxels of an image as labels; MINC in slabs, since it comes scaled to float64."""
    if isinstance(image, Image):
        with _readable(path):
            values = image.values(dtype=None)
        return _whole(path, values.reshape(shape))
    if image.get_data_dtype().kind not in "iuf":
        raise ValueError(f"{path} holds {image.get_data_dtype()} voxels; expected whole numbers.")
    thickness = SLAB if isinstance(image, nib.minc1.Minc1Image) else max(shape[0], 1)
    labels = np.empty(shape, np.uint8)
    for start in range(0, shape[0], thickness):
        with _readable(path):
            values = np.asanyarray(image.dataobj[start : start + thickness])
        slab = labels[start : start + thickness]
        slab[:] = _whole(path, values.reshape(slab.shape))
    return labels


def _whole(path: Path, values: np.ndarray) -> np.ndarray:
    """Values as uint8 labels; 16-bit words times 16 (BrainWeb's ``raw_short``) are scaled back."""
    if values.dtype.kind == "f":
        whole = is_whole(values)
        if not whole.all():
            odd = str(values[~whole][0])  # all its digits: fewer may look whole
            raise ValueError(f"{path} holds the value {odd}; labels are whole numbers.")
        values = np.rint(values)
    low, high = values.min(), values.max()
    if low >= 0 and MAX_LABEL < high <= 16 * MAX_LABEL and not (values.astype(np.uint8) % 16).any():
        values, high = values // 16, high // 16
    if low < 0 or high > MAX_LABEL:
        odd = low if low < 0 else high
        raise ValueError(f"{path} holds the label {odd:g}; expected BrainWeb's 0 to {MAX_LABEL}.")
    return values.astype(np.uint8)


def _undo_mislabelled_axes(labels: np.ndarray) -> np.ndarray:
    """Swap slices and columns where a BrainWeb grid was saved under the wrong axis names.

    brainweb-dl 0.4.6 stores the array (slice, row, column) in NIfTI files whose affine calls its
    axes (column, row, slice). Both grids are as wide as they are high, so that the shape does not
    tell; but a head is the same left and right, not up and down.
    """
    if labels.shape not in (BRAINWEB20_SHAPE, BRAINWEB1_SHAPE):
        return labels
    coarse = labels[::4, ::4, ::4]
    asymmetry = [np.count_nonzero(coarse != np.flip(coarse, axis)) for axis in (0, 2)]
    return labels.transpose(2, 1, 0) if asymmetry[0] < asymmetry[1] else labels
