"""A prediction from files: what is asked for, and the files that are read for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from relaxnet.fitting.options import VOXELWISE, FitOptions
from relaxnet.io.inputs import load_known_map, load_labels, load_mask, load_series, load_sigma
from relaxnet.io.nifti import Series
from relaxnet.maps.roi import read_names
from relaxnet.prediction.inspection import chosen_mask
from relaxnet.series.foreground import MaskKind, MaskSource
from relaxnet.series.images import Images
from relaxsim.core.nifti_reader import by
from relaxsim.models.protocols import Protocol, given_protocol, read_protocol
from relaxsim.models.registry import MODELS, chosen_model, column_options
from relaxsim.models.signal_model import SignalModel


@dataclass(frozen=True)
class Request:
    """What `relaxnet.prediction.files.predict_request` is asked to do.

    Attributes
    ----------
    series : tuple of str
        One 4-D file, or one 3-D file for each image.
    protocol : Protocol
        With the signal model.
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
    fit : FitOptions
    known : mapping of str to str
        Files of known maps by the options of the model's border, such as ``b1``.
    skip_first : int
        Images to leave out.
    overwrite : bool
        Replace maps in `out`.
    command : str
        For the sidecars.
    compare : str, optional
        ``mle``: check the network against the voxel-wise fit.
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
        Fields of the first image's JSON file.
    warnings : tuple of str
        What is likely wrong with the series, by its names and sidecars.
    scaling : sequence of float
        What each image is multiplied by; empty for no scaling.
    """

    series: tuple[str, ...]
    protocol: Protocol
    out: Path
    method: str = "rim"
    network: str = ""
    mask: str = "auto"
    sigma: float | str | None = None
    signed: bool | None = None
    fit: FitOptions = VOXELWISE
    known: Mapping[str, str] = field(default_factory=dict)
    skip_first: int = 0
    overwrite: bool = False
    command: str = ""
    compare: str | None = None
    save_fit: bool = False
    rois: str = ""
    roi_names: str = ""
    force: bool = False
    report: bool = False
    notes: tuple[str, ...] = ()
    sidecar: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    scaling: Sequence[float] = ()

    @property
    def model(self) -> SignalModel:
        """Signal model of the protocol."""
        return self.protocol.model

    @property
    def files(self) -> list[Path]:
        """All files that are read."""
        mask = "" if self.mask in ("auto", "none") else self.mask
        sigma = self.sigma if isinstance(self.sigma, str) else ""
        named = (*self.series, mask, sigma, self.rois, self.roi_names, *self.known.values())
        return [Path(name) for name in named if name]


@dataclass(frozen=True)
class RunInput:
    """What was read: the series without skipped images, and what goes with it.

    Arrays have the slices of the acquisition along the third axis, wherever they lie in the files.

    Attributes
    ----------
    series : Series
        As in its files.
    images : Images
    protocol : Protocol
    mask : bool array, shape (X, Y, Z), or None
        None for every voxel.
    mask_kind : MaskKind
    sigma : float, array of shape (X, Y, Z), or None
    known : dict of str to array, shape (X, Y, Z)
        Known maps by their names.
    labels : int array, or None
        In the files' axes.
    names : dict of int to str, or None
        Of the labels.
    """

    series: Series
    images: Images
    protocol: Protocol
    mask: np.ndarray | None
    mask_kind: MaskKind
    sigma: float | np.ndarray | None
    known: dict[str, np.ndarray]
    labels: np.ndarray | None
    names: dict[int, str] | None


def request_protocol(
    given: Mapping[str, Any], sequence: str = "", units: str = "ms"
) -> Protocol | None:
    """Protocol of the arguments of columns, such as ``tis``; None if there is none.

    Parameters
    ----------
    given : mapping of str to file, name, number or array, shape (N,)
        By the options of columns; None where not given. The only column of a model may also be an
        array (Z, N), a list for each slice.
    sequence : str
        Of the signal model; without it the arguments must tell.
    units : str
        ``"ms"`` or ``"s"``, of times.

    Raises
    ------
    ValueError
        As `relaxsim.models.registry.chosen_model` and `relaxsim.models.protocols.read_protocol`.
    """
    given = {option: value for option, value in given.items() if value is not None}
    if not given:
        return None
    model = chosen_model(given, sequence)
    if all(isinstance(value, str | Path | int | float) for value in given.values()):
        return read_protocol(given, model, units)
    columns = []
    for border in model.border.columns:
        value = given.get(border.option, border.default)
        if isinstance(value, str | Path):
            raise ValueError(
                f"`{border.option}` is a file, other columns are numbers; give all in one way."
            )
        columns.append(np.asarray(value, np.float64))
    return given_protocol(np.stack(np.broadcast_arrays(*columns), axis=-1), model, units)


def take_columns(options: dict[str, Any]) -> dict[str, Any]:
    """Take the columns of protocols, such as ``tis``, out of keyword arguments."""
    return {name: options.pop(name) for name in column_options() if name in options}


def take_known(options: dict[str, Any]) -> dict[str, str]:
    """Take the files of known maps, such as ``b1``, out of keyword arguments."""
    names = dict.fromkeys(known.option for m in MODELS.values() for known in m.border.known)
    found = {name: options.pop(name) for name in names if name in options}
    return {name: str(value) for name, value in found.items() if value}


def check_known_options(known: Sequence[str], model: SignalModel) -> None:
    """Refuse known maps that a signal model does not take.

    Raises
    ------
    ValueError
    """
    taken = [border.option for border in model.border.known]
    for name in known:
        if name not in taken:
            takes = ", ".join(f"`{option}`" for option in taken) or "no known map"
            raise ValueError(f"`{name}` does not belong to {model.border.title}: it takes {takes}.")


def read_input(request: Request) -> RunInput:
    """All files of a request, checked.

    Raises
    ------
    ValueError, OSError
        One line that names the file.
    """
    check_known_options(list(request.known), request.model)
    series, protocol = _series(request)
    images = Images(np.moveaxis(series.data, series.slice_axis, 2))
    mask, kind = _mask(request.mask, series, images)
    return RunInput(
        series,
        images,
        protocol,
        mask,
        kind,
        _sigma(request.sigma, series),
        _known(request, series),
        load_labels(request.rois, series) if request.rois else None,
        read_names(request.roi_names) if request.roi_names else None,
    )


def _series(request: Request) -> tuple[Series, Protocol]:
    """Series and protocol, their numbers checked, without the images to skip."""
    protocol, skip = request.protocol, request.skip_first
    series = load_series(request.series, protocol.num_images)
    images = series.data.shape[-1]
    if images != protocol.num_images:
        name = series.paths[0].name if len(series.paths) == 1 else f"{len(series.paths)} files"
        verb = "holds" if len(series.paths) == 1 else "hold"
        first, last = protocol.tau.reshape(-1)[[0, -1]]
        raise ValueError(
            f"{name} {verb} {images} images (shape {by(series.data.shape)}), but "
            f"{protocol.name} lists {protocol.num_images} {protocol.words} "
            f"({first:g} ... {last:g} {protocol.model.columns[0].unit}). Give one for each image, "
            f"in acquisition order (`{protocol.model.border.columns[0].option}`)"
            f"{', also for images to skip' if skip else ''}."
        )
    if request.scaling:
        series = replace(series, data=series.data * np.asarray(request.scaling, np.float32))
    slices = series.shape[series.slice_axis]
    if protocol.by_slice and len(protocol.table) != slices:
        raise ValueError(
            f"{protocol.name} has {len(protocol.table)} slices, {series.paths[0].name} {slices}."
        )
    if skip >= images:
        raise ValueError(f"`skip_first` {skip} leaves none of {images} images.")
    return replace(series, data=series.data[..., skip:]), protocol.without_first(skip)


def _mask(wanted: str, series: Series, images: Images) -> tuple[np.ndarray | None, MaskKind]:
    """Mask, slices along the third axis, and how it was chosen."""
    if wanted in ("auto", "none"):
        return chosen_mask(wanted, images)
    mask, half = load_mask(wanted, series.shape, series)
    kind = MaskKind(
        MaskSource.FILE,
        file=Path(wanted).name,
        half=half,
        share=float(mask.mean()),
    )
    return np.moveaxis(mask, series.slice_axis, 2), kind


def _sigma(wanted: float | str | np.ndarray | None, series: Series) -> float | np.ndarray | None:
    """Sigma as given; a map with its slices along the third axis."""
    if isinstance(wanted, str):
        wanted = load_sigma(wanted, series.shape, series)
    if isinstance(wanted, np.ndarray):
        return np.moveaxis(wanted, series.slice_axis, 2)
    return wanted


def _known(request: Request, series: Series) -> dict[str, np.ndarray]:
    """Known maps by their names, slices along the third axis."""
    found = {}
    pairs = zip(request.model.known_maps, request.model.border.known, strict=True)
    for entry, border in pairs:
        if path := request.known.get(border.option):
            values = load_known_map(path, border.words, series)
            found[entry.name] = np.moveaxis(values, series.slice_axis, 2)
    return found
