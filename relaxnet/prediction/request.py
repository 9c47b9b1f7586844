"""What a prediction from files is asked for, and what it reads for that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from relaxnet.fitting.options import VOXELWISE, FitOptions
from relaxnet.io.inputs import load_labels, load_mask, load_series, load_sigma
from relaxnet.io.nifti import Series, by
from relaxnet.maps.roi import read_names
from relaxnet.series.foreground import RULES, mask_and_rule
from relaxsim.models.protocols import Protocol


@dataclass(frozen=True)
class Request:
    """What `predict_request` is asked to do; the options of ``relaxnet predict``.

    Attributes
    ----------
    series : tuple of str
        One 4-D file, or one 3-D file for each time.
    protocol : Protocol
    out : path
        Folder.
    method : str
        ``rim``, ``resnet`` or ``mle``.
    network : str
        File or name; empty for the shipped default.
    mask : str
        File, ``auto`` or ``none``.
    sigma : float or str, optional
        Number, or file of a map; found in the data without it.
    signed : bool, optional
    known : mapping of str to str
        Files of known maps by the options of the model's border, such as ``b1``.
    fit : FitOptions
    skip_first : int
        Images to leave out.
    overwrite : bool
        Replace maps in `out`.
    command : str
        For the sidecars.
    compare : str, optional
        ``mle``: check the network against the voxel-wise fit.
    look_locker : bool
        Correct T1 for a Look-Locker readout.
    save_fit : bool
        Also write the predicted series.
    rois : str
        File of labels to make a table over.
    roi_names : str
        File of their names.
    force : bool
        Take a network far outside its envelope.
    report : bool
        The folder will also hold report.html, which `complete` of `predict_request` writes.
    notes : tuple of str
        What a user should know of the request, a line each.
    sidecar : mapping
        Fields of the first image's JSON file (`relaxnet.io.bids_times.Acquisition`).
    """

    series: tuple[str, ...]
    protocol: Protocol
    out: Path
    method: str = "rim"
    network: str = ""
    mask: str = "auto"
    sigma: float | str | None = None
    signed: bool | None = None
    known: Mapping[str, str] = field(default_factory=dict)
    fit: FitOptions = VOXELWISE
    skip_first: int = 0
    overwrite: bool = False
    command: str = ""
    compare: str | None = None
    look_locker: bool = False
    save_fit: bool = False
    rois: str = ""
    roi_names: str = ""
    force: bool = False
    report: bool = False
    notes: tuple[str, ...] = ()
    sidecar: Mapping[str, Any] = field(default_factory=dict)

    @property
    def files(self) -> list[Path]:
        """All files that are read."""
        mask = "" if self.mask in ("auto", "none") else self.mask
        sigma = self.sigma if isinstance(self.sigma, str) else ""
        named = (*self.series, mask, sigma, self.rois, self.roi_names)
        return [Path(name) for name in named if name]


@dataclass(frozen=True)
class RunInput:
    """What was read: the series without skipped images, and what goes with it.

    Attributes
    ----------
    series : Series
    tau : array, shape (N,)
        ms.
    mask : bool array, shape (X, Y, Z), or None
        None for every voxel.
    mask_words : str
    sigma : float, array of shape (X, Y, Z), or None
    labels : int array, shape (X, Y, Z), or None
    names : dict of int to str, or None
        Of the labels.
    sidecar : dict
        JSON file beside the series.
    """

    series: Series
    tau: np.ndarray
    mask: np.ndarray | None
    mask_words: str
    sigma: float | np.ndarray | None
    labels: np.ndarray | None
    names: dict[int, str] | None
    sidecar: dict[str, Any]


def read_input(request: Request) -> RunInput:
    """All files of a request, checked.

    Raises
    ------
    ValueError, OSError
        One line that names the file.
    """
    series, tau = _series(request)
    mask, mask_words = _mask(request.mask, series)
    sigma: float | np.ndarray | None
    if isinstance(request.sigma, str):
        sigma = load_sigma(request.sigma, series.shape, series)
    else:
        sigma = request.sigma
    return RunInput(
        series,
        tau,
        mask,
        mask_words,
        sigma,
        load_labels(request.rois, series) if request.rois else None,
        read_names(request.roi_names) if request.roi_names else None,
        dict(request.sidecar),
    )


def _series(request: Request) -> tuple[Series, np.ndarray]:
    """Series and times, their numbers checked, without the images to skip."""
    series, protocol, skip = load_series(request.series), request.protocol, request.skip_first
    images = series.data.shape[-1]
    if images != protocol.num_images:
        name = series.paths[0].name if len(series.paths) == 1 else f"{len(series.paths)} files"
        verb = "holds" if len(series.paths) == 1 else "hold"
        raise ValueError(
            f"{name} {verb} {images} images (shape {by(series.data.shape)}), but "
            f"{protocol.name} lists {protocol.num_images} {protocol.words} "
            f"({protocol.tau[0]:g} ... {protocol.tau[-1]:g} ms). Give one time per image, in "
            f"acquisition order (--{protocol.model.times})"
            f"{', also for images to skip' if skip else ''}."
        )
    if skip >= images:
        raise ValueError(f"--skip-first {skip} leaves none of {images} images.")
    return replace(series, data=series.data[..., skip:]), protocol.tau[skip:]


def _mask(wanted: str, series: Series) -> tuple[np.ndarray | None, str]:
    """Mask and what to say of it; None for every voxel."""
    if wanted == "none":
        return None, "no mask"
    if wanted == "auto":
        axis = series.slice_axis  # along which holes are filled and air is judged
        found, rule = mask_and_rule(np.moveaxis(series.data, axis, 2))
        mask, words = np.moveaxis(found, 2, axis), f"automatic mask, {RULES[rule]}"
    else:
        mask, kind = load_mask(wanted, series.shape, series)
        words = f"mask {Path(wanted).name}{kind}"
    return mask, f"{words} ({100 * mask.mean():.0f} % of voxels)"
