"""Real series that the experiments use, with masks and regions found by stated rules.

The folder holds ``brain_ir``, ``brain_t1t2`` and ``nist_3t``, data that are not of this project.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from relaxnet.fitting.inputs import Measurement
from relaxnet.fitting.regularised import fit_shared
from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY
from relaxsim.models.protocols import read_protocol
from relaxsim.models.signal_model import SignalModel
from relaxsim.models.t2_decay import MODEL as T2_DECAY

#: T1 in ms that makes white and grey matter in the reference map (1.5 T and 3 T).
RANGES = {
    "brain_ir": {"WM": (550.0, 720.0), "GM": (850.0, 1200.0)},
    "brain_t1": {"WM": (780.0, 1000.0), "GM": (1200.0, 1700.0)},
}
#: Half the side in voxels of the square that is taken of a sphere.
HALF = 2
SPHERES = 14


@dataclass(frozen=True)
class Brain:
    """A slice of a brain.

    Attributes
    ----------
    name : str
    S : array, shape (X, Y, 1, N), float32
    tau : array, shape (N,)
        ms.
    model : SignalModel
    signed : bool
        The images carry the signal's sign.
    mask : bool array, shape (X, Y, 1)
        Brain.
    reference : array, shape (X, Y), float32
        T1 in ms of the fit with a shared B, median-filtered over 3 x 3 voxels: what the regions
        and profiles are drawn on. A T2 series has that of its T1 series.
    regions : dict of str to bool array, shape (X, Y, 1)
        ``WM`` and ``GM``: the reference within `RANGES`, eroded by one voxel (four neighbours).
    """

    name: str
    S: np.ndarray
    tau: np.ndarray
    model: SignalModel
    signed: bool
    mask: np.ndarray
    reference: np.ndarray
    regions: dict[str, np.ndarray]


@dataclass(frozen=True)
class Plate:
    """A plate of the NIST/ISMRM system phantom.

    Attributes
    ----------
    name : str
    S : array, shape (X, Y, 1, N), float32
    tau : array, shape (N,)
        ms.
    model : SignalModel
    spheres : array, shape (X, Y, 1), int
        Number of the sphere, 1 to 14, in a square of 5 x 5 voxels at its centre; 0 elsewhere.
    nominal, published : array, shape (14,)
        ms; `published` is a fit that came with the data.
    """

    name: str
    S: np.ndarray
    tau: np.ndarray
    model: SignalModel
    spheres: np.ndarray
    nominal: np.ndarray
    published: np.ndarray


def load_brains(data: Path) -> list[Brain]:
    """``brain_ir``, ``brain_t1`` and ``brain_t2``.

    Raises
    ------
    OSError
        If a file is missing.
    """
    S, tau = _series(data / "brain_ir", "series.nii.gz", "tis.txt", "tis")
    mask = np.asarray(nib.load(data / "brain_ir" / "mask.nii.gz").dataobj) > 0.5
    reference = reference_map(S, tau, mask, signed=False)
    regions = tissue_regions(reference, mask, RANGES["brain_ir"])
    first = Brain("brain_ir", S, tau, INVERSION_RECOVERY, False, mask, reference, regions)

    S, tau = _series(data / "brain_t1t2", "t1_series.nii.gz", "tis.txt", "tis")
    head = head_mask(S)
    mask = brain_of(reference_map(S, tau, head, signed=True), head)
    reference = reference_map(S, tau, mask, signed=True)
    regions = tissue_regions(reference, mask, RANGES["brain_t1"])
    second = Brain("brain_t1", S, tau, INVERSION_RECOVERY, True, mask, reference, regions)

    S, tau = _series(data / "brain_t1t2", "t2_series.nii.gz", "tes.txt", "tes")
    third = Brain("brain_t2", S, tau, T2_DECAY, False, mask, reference, regions)
    return [first, second, third]


def load_plates(data: Path) -> list[Plate]:
    """The two T1 and the two T2 plates.

    Raises
    ------
    OSError
        If a file is missing.
    """
    folder, plates = data / "nist_3t", []
    for name in ("T1_plate4", "T1_plate5", "T2_plate4", "T2_plate5"):
        model, times = (INVERSION_RECOVERY, "tis") if name[1] == "1" else (T2_DECAY, "tes")
        S, tau = _series(folder, f"{name}.nii.gz", f"{name}.txt", times)
        card = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        spheres = sphere_squares(card["sphere_centres_row_col"], S.shape[:3])
        values = (np.array(card[key], float) for key in ("nominal_ms", "published_fit_ms"))
        plates.append(Plate(name, S, tau, model, spheres, *values))
    return plates


def reference_map(S: np.ndarray, tau: np.ndarray, mask: np.ndarray, signed: bool) -> np.ndarray:
    """T1 (X, Y) in ms of a slice's fit with one B, median-filtered over 3 x 3 voxels."""
    fit = fit_shared(Measurement(S, tau, INVERSION_RECOVERY, mask=mask, signed=signed))
    return ndimage.median_filter(fit.kappa[:, :, 0, -1], 3)


def head_mask(S: np.ndarray) -> np.ndarray:
    """Largest part above a tenth of the brightest images, filled and eroded; (X, Y, 1)."""
    mip = np.abs(S).max(axis=-1)[..., 0]
    head = _largest_part(mip > 0.1 * np.percentile(mip, 99))
    return ndimage.binary_erosion(ndimage.binary_fill_holes(head), iterations=3)[..., None]


def brain_of(reference: np.ndarray, head: np.ndarray) -> np.ndarray:
    """Brain in a head: T1 above that of fat (700 ms), freed of what thin bridges join to it."""
    candidates = head[..., 0] & (reference > 700)
    core = _largest_part(ndimage.binary_erosion(candidates, iterations=4))
    brain = ndimage.binary_dilation(core, iterations=4) & candidates
    return ndimage.binary_fill_holes(brain)[..., None]


def tissue_regions(
    reference: np.ndarray, mask: np.ndarray, ranges: dict[str, tuple[float, float]]
) -> dict[str, np.ndarray]:
    """Regions (X, Y, 1) of the tissues: the reference map within a range, eroded by one voxel."""
    regions = {}
    for tissue, (low, high) in ranges.items():
        inside = mask[..., 0] & (reference > low) & (reference < high)
        regions[tissue] = ndimage.binary_erosion(inside)[..., None]
    return regions


def sphere_squares(centres: list, shape: tuple[int, ...]) -> np.ndarray:
    """Number of the sphere of each voxel, from centres (row, column) = (y, x)."""
    out = np.zeros(shape, dtype=int)
    for i, (row, column) in enumerate(centres, start=1):
        x, y = round(column), round(row)
        out[x - HALF : x + HALF + 1, y - HALF : y + HALF + 1] = i
    return out


def _series(folder: Path, file: str, list_of_times: str, times: str):
    S = np.asarray(nib.load(folder / file).dataobj, np.float32)
    return S, read_protocol(folder / list_of_times, times).tau


def _largest_part(mask: np.ndarray) -> np.ndarray:
    parts, _ = ndimage.label(mask)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return parts == sizes.argmax()
