"""Anatomy: label volumes with BrainWeb's meanings, from a file or made here.

All later code knows one family of labels, that of BrainWeb's 20 models: 0 background, 1 CSF,
2 grey matter, 3 white matter, 4 fat, 5 muscle, 6 muscle/skin, 7 skull, 8 vessels, 9 around fat,
10 dura, 11 marrow.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from relaxsim.anatomy.head.head import head_labels
from relaxsim.anatomy.label_files import (
    BRAINWEB1_SHAPE,
    BRAINWEB1_VOXEL,
    is_label_file,
    read_labels,
)
from relaxsim.core.labels import BRAIN

#: Subjects that the built-in head is drawn for where no anatomy is given.
BUILTIN_SUBJECTS = 10
#: Name of the built-in head where a label volume's path is expected.
BUILTIN = "builtin"
#: Voxel sizes of the built-in head, mm, and how much finer it is than voxels that are mixed.
_HEAD_VOXELS, _FINER = (0.5, 1.0), 1.5
#: Labels 0 to 10 of the older 1 mm phantom in the 20 models' meanings. Its 5 (muscle/skin) and 6
#: (skin) are muscle/skin, 8 (glial matter) is grey matter, 9 (connective tissue) is around fat,
#: 10 (multiple sclerosis lesion) is the white matter that it lies in.
FROM_BRAINWEB1 = np.array([0, 1, 2, 3, 4, 6, 6, 7, 2, 9, 3], np.uint8)


@dataclass(frozen=True)
class Anatomy:
    """One subject's label volume.

    Attributes
    ----------
    labels : uint8 array, shape (Z, Y, X)
        Axial slice, row, column; BrainWeb-20 meanings, 0 to 11.
    voxel_size : float
        Edge of the cubic voxel in mm.
    name : str
        The file's name, or ``builtin-SEED``.
    subject : int
        Number in the file's name (``subject04`` gives 4, none gives 0), or the built-in seed.
    checksum : str
        SHA-256 of the file, or of the built-in head's labels.
    family : str
        Meaning of the labels before they were mapped: ``brainweb20``, ``brainweb1``, ``builtin``.
    """

    labels: np.ndarray
    voxel_size: float
    name: str
    subject: int
    checksum: str
    family: str


def load_anatomy(path: str | Path) -> Anatomy:
    """Label volume from a file.

    A volume is of the older family (``brainweb1``) if it has that phantom's grid, 181 x 217 x 181
    at 1 mm, and no label 11 (marrow, which each of the 20 models has and the phantom has not);
    its labels are mapped by `FROM_BRAINWEB1`. Everything else has the 20 models' meanings.

    Parameters
    ----------
    path : path
        ``.mnc``, ``.rawb``, ``.bin`` or ``.nii``, each also with ``.gz``.

    Returns
    -------
    anatomy : Anatomy

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is no label volume; the message names the fault.
    """
    path = Path(path)
    labels, voxel_size = read_labels(path)
    family = label_family(labels, voxel_size)
    if family == "brainweb1":
        labels = FROM_BRAINWEB1[labels]
    return Anatomy(
        labels=labels,
        voxel_size=voxel_size,
        name=path.name,
        subject=subject_number(path.name),
        checksum=file_checksum(path),
        family=family,
    )


def builtin_head(seed: int, voxel_size: float = 1.0) -> Anatomy:
    """Procedural head: a new subject for every seed, no file needed.

    Parameters
    ----------
    seed : int
        Not negative; the same seed gives the same head.
    voxel_size : float
        In mm, 0.4 to 4.

    Returns
    -------
    anatomy : Anatomy

    Raises
    ------
    ValueError
        If `seed` is negative or `voxel_size` out of range.
    """
    labels = head_labels(seed, voxel_size)
    return Anatomy(
        labels=labels,
        voxel_size=float(voxel_size),
        name=f"builtin-{seed}",
        subject=int(seed),
        checksum=hashlib.sha256(labels.tobytes()).hexdigest(),
        family="builtin",
    )


def head_voxel(voxel_size: tuple[float, float] | None) -> float:
    """Voxel size of the built-in head for simulated voxels of a range of sizes, mm.

    It is finer than voxels that are mixed; None is for crisp labels.
    """
    low, high = _HEAD_VOXELS
    return high if voxel_size is None else float(np.clip(voxel_size[0] / _FINER, low, high))


def label_family(labels: np.ndarray, voxel_size: float) -> str:
    """``brainweb1`` or ``brainweb20``, by the rule of `load_anatomy`."""
    old_grid = labels.shape == BRAINWEB1_SHAPE and np.isclose(voxel_size, BRAINWEB1_VOXEL)
    return "brainweb1" if old_grid and labels.max() < 11 else "brainweb20"


def subject_number(name: str) -> int:
    """Subject in a BrainWeb file name: ``subject04_crisp_v.mnc.gz`` and ``brainweb_s04`` give 4.

    Examples
    --------
    >>> subject_number("subject04_crisp_v.mnc.gz"), subject_number("phantom_1.0mm_normal.rawb")
    (4, 0)
    """
    match = re.search(r"(?:subject|sub-?|_s)_?(\d{1,9})", name.lower())
    return int(match.group(1)) if match else 0


def file_checksum(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def brain_mask(labels: np.ndarray) -> np.ndarray:
    """Brain: the largest connected part of the labels `BRAIN`, holes filled.

    Parameters
    ----------
    labels : uint8 array, shape (Z, Y, X)
        BrainWeb-20 meanings.

    Returns
    -------
    mask : bool array, same shape
        Empty if none of these labels occurs.
    """
    lookup = np.isin(np.arange(256), BRAIN)
    mask = lookup[labels]
    boxes = ndimage.find_objects(mask.view(np.uint8))
    if not boxes:
        return mask
    box = boxes[0]
    inside = np.pad(_largest_part(mask[box]), 1)
    outside, _ = ndimage.label(~inside)
    filled = outside != outside[0, 0, 0]
    brain = np.zeros_like(mask)
    brain[box] = filled[1:-1, 1:-1, 1:-1]
    return brain


def _largest_part(mask: np.ndarray) -> np.ndarray:
    parts, num = ndimage.label(mask)
    if num < 2:
        return mask
    sizes = np.zeros(num + 1, np.int64)
    for part in parts:  # slice by slice: the whole volume would be copied to 64 bits
        sizes += np.bincount(part.ravel(), minlength=num + 1)
    sizes[0] = 0
    return parts == sizes.argmax()


def fetched_brains_dir() -> Path:
    """Folder of the fetched BrainWeb files: ``$RELAXSIM_DATA``, or one in the user's cache."""
    folder = os.environ.get("RELAXSIM_DATA")
    return Path(folder).expanduser() if folder else Path.home() / ".cache/relaxsim/brainweb"


def find_fetched_brains() -> list[Path]:
    """Crisp label volumes in `fetched_brains_dir`, by name; empty if there are none."""
    folder = fetched_brains_dir()
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and is_label_file(path) and "crisp" in path.name.lower()
    )
