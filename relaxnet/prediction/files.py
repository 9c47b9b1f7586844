"""Prediction from files: a NIfTI series in, a folder of maps with their sidecars out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from relaxnet.fitting.inputs import Measurement
from relaxnet.fitting.options import VOXELWISE
from relaxnet.io.bids_known import find_known_maps
from relaxnet.io.bids_times import read_acquisition, sequence_of_files
from relaxnet.io.nifti import Series
from relaxnet.io.slice_times import with_slices_of
from relaxnet.maps.map_folder import MapLayout, check_out, check_space, write_maps
from relaxnet.maps.maps import Maps, map_stems
from relaxnet.maps.roi import roi_rows
from relaxnet.maps.sidecar import sidecar_of
from relaxnet.maps.status import OUTSIDE, shares
from relaxnet.networks.registry import (
    ModelError,
    NetworkFile,
    loaded,
    network_file,
    no_default,
    shipped_models,
)
from relaxnet.networks.training_domain import Envelope, envelope_of
from relaxnet.prediction.arrays import ArrayRequest, Estimator, estimate_maps
from relaxnet.prediction.estimators import check_network
from relaxnet.prediction.inspection import known_stack
from relaxnet.prediction.request import (
    Request,
    RunInput,
    read_input,
    request_protocol,
    take_columns,
    take_known,
)
from relaxsim.core.nifti_reader import by
from relaxsim.core.only_run import only_run
from relaxsim.models.registry import flagged_sequence, model_of, sequence_flags, with_known_maps
from relaxsim.models.signal_model import SignalModel


@dataclass(frozen=True)
class Listener:
    """Callables that follow a prediction; by default they do nothing.

    Attributes
    ----------
    say : callable
        Takes a line that every user wants to read.
    detail : callable
        Takes a line that few want to read.
    progress : callable
        Given a number and a unit of work, returns a callable that takes the work done since.
    before_network : callable
        Called before TensorFlow is imported.
    """

    say: Callable[[str], object] = lambda line: None
    detail: Callable[[str], object] = lambda line: None
    progress: Callable[[int, str], Callable[[int], object]] = lambda total, unit: lambda done: None
    before_network: Callable[[], object] = lambda: None


@dataclass(frozen=True)
class _Network:
    """A network's file, the protocols that it was trained for, and the network once loaded."""

    file: NetworkFile
    envelope: Envelope | None
    network: Any = None


def predict_files(
    series: str | Path | Sequence[str | Path],
    out: str | Path = "maps",
    *,
    sequence: str = "",
    units: str = "ms",
    slice_timing: bool = False,
    method: str | None = None,
    model: str | Path = "",
    listener: Listener | None = None,
    complete: Callable[[Path], object] | None = None,
    **options: Any,
) -> Maps:
    """Read a series from NIfTI, estimate its maps and write them to a folder.

    Parameters
    ----------
    series : path or sequence of paths
        One 4-D file, or one 3-D file for each image.
    out : path
        Folder for the maps.
    sequence : str
        Sequence of the series, such as ``"ir"`` (`relaxsim.models.border.Border.sequence`); it is
        needed where neither the protocol nor the names of files tell it.
    units : str
        ``"ms"`` or ``"s"``, of the times in files or given as numbers.
    slice_timing : bool
        Add SliceTiming of the sidecars to the inversion times of each slice.
    method : str, optional
        ``rim``, ``resnet`` or ``mle``; default: the kind of `model`, else ``rim``.
    model : path or name
        Network; default: the one shipped for the signal model.
    listener : Listener, optional
        Receives progress and messages.
    complete : callable, optional
        ``complete(folder)`` adds what is made from the files, such as a report, before the folder
        takes its place.
    **options
        The protocol, a keyword for each column of the signal model (``tis``: inversion times,
        ``tes``: echo times): a text file, a bundled list or the numbers; without any it is read
        from the sidecars (`relaxnet.io.bids_times`). Files of known maps, such as ``b1``; one that
        lies beside files with names of BIDS is found (`relaxnet.io.bids_known`).
        ``look_locker=True`` is the same as `sequence` look-locker. Others of `Request`, by name:
        `mask` (a file, ``"auto"``, the default, or ``"none"`` or None for every voxel),
        `sigma`, `signed`, `fit`, `skip_first`, `overwrite`, `compare`, `save_fit`, `rois`,
        `roi_names`, `force`, `report`; and `tr`, ``"sidecar"`` for a fit with the
        sidecars' repetition time.

    Returns
    -------
    Maps

    Raises
    ------
    ValueError, OSError
        One line; nothing is written then.

    Examples
    --------
    ::

        maps = predict_files("t2.nii.gz", tes=[10, 30, 80, 200], method="mle", out="maps-t2")
    """
    files = (series,) if isinstance(series, str | Path) else tuple(series)
    columns = take_columns(options)
    flags = {name: bool(options.pop(name)) for name in sequence_flags() if name in options}
    sequence = flagged_sequence(flags, sequence)
    given = request_protocol(columns, sequence or sequence_of_files(files, columns), units)
    given = None if given is None else with_slices_of(given, files)
    known = take_known(options)
    method = method or (network_file(model).architecture if model else "rim")
    fit = options.pop("fit", VOXELWISE)
    tr = options.pop("tr", fit.tr)
    named = model_of(sequence) if sequence else None
    taken = read_acquisition(
        tuple(map(str, files)),
        given,
        tr,
        fitted=method == "mle",
        model=named,
        slice_timing=slice_timing,
    )
    protocol = replace(taken.protocol, model=with_known_maps(taken.protocol.model, known))
    if options.get("signed") is None:
        options["signed"] = taken.signed
    for key in ("rois", "roi_names"):
        if key in options:
            options[key] = str(options[key] or "")
    mask = options.pop("mask", "auto")
    sigma = options.pop("sigma", None)
    if not (isinstance(sigma, str) and sigma == "auto"):
        options["sigma"] = str(sigma) if isinstance(sigma, Path) else sigma
    assumed = protocol.model.border.assumed([k for k, v in columns.items() if v is not None])
    beside = {k: str(p) for k, p in find_known_maps(files[0], protocol.model).items()}
    found = {option: path for option, path in beside.items() if option not in known}
    request = Request(
        series=taken.paths,
        protocol=protocol,
        out=Path(out),
        method=method,
        network=str(model),
        mask="none" if mask is None else str(mask),
        fit=replace(fit, tr=taken.tr),
        known=known | found,
        notes=(
            *taken.notes,
            *(f"`{k}` {Path(p).name}, found beside the series" for k, p in found.items()),
        ),
        sidecar=taken.fields,
        warnings=(*taken.warnings, *(assumed if given is not None else ())),
        scaling=taken.scaling,
        **options,
    )
    return predict_request(request, listener, complete=complete)


def predict_request(
    request: Request,
    listener: Listener | None = None,
    *,
    layout: MapLayout | None = None,
    complete: Callable[[Path], object] | None = None,
) -> Maps:
    """Read a series, estimate its maps and write them.

    Parameters
    ----------
    request : Request
    listener : Listener, optional
    layout : MapLayout, optional
        Names, units and sidecars of the files.
    complete : callable, optional
        ``complete(folder)`` adds what is made from the files, such as a report.

    Returns
    -------
    Maps

    Raises
    ------
    ValueError, OSError
        One line; nothing is written then.
    """
    listener = listener or Listener()
    begin = time.perf_counter()
    model = request.model
    _check_options(request)
    _check_place(request)
    network = _find_network(request, model)
    place = request.out.resolve() if request.out.is_symlink() else request.out
    with only_run(place):
        return _map_alone(request, network, listener, layout, complete, begin)


def _map_alone(
    request: Request,
    network: _Network | None,
    listener: Listener,
    layout: MapLayout | None,
    complete: Callable[[Path], object] | None,
    begin: float,
) -> Maps:
    """Map a series into a folder that no other run writes to."""
    model = request.model
    data = read_input(request)
    N = data.protocol.num_images
    kinds = 2 * model.num_parameters + 4 + (N if request.save_fit else 0)
    check_space(request.out, int(np.prod(data.series.shape)) * kinds)
    listener.say(f"series: {N} images of {by(data.series.shape)}; {data.mask_kind.words}")
    for d, column in enumerate(model.border.columns):
        values = " ".join(f"{v:g}" for v in data.protocol.of_slice(0)[:, d])
        listener.detail(f"{column.words} ({model.columns[d].unit}): {values}")
    if network is not None:
        listener.before_network()
        network = replace(network, network=loaded(network.file.path))
        check_network(network.network, model, N, request.method)
    maps = _estimate(request, data, network, listener)
    if maps.left_out:
        data = _without_faulty(data, maps)
    _say_how(listener, maps, network)
    extra: dict[str, Any]
    extra = {"Fit": _fit_words(maps)} if network is None else _network_words(network)
    if isinstance(request.sigma, str):
        extra["SigmaFile"] = request.sigma
    if request.scaling:
        extra["ImageScaling"] = [round(float(f), 9) for f in request.scaling]
    if request.known:
        extra["KnownMaps"] = {k: str(Path(p).absolute()) for k, p in request.known.items()}
    rows = [] if data.labels is None else roi_rows(maps, data.labels, data.names)
    card = sidecar_of(maps, data.protocol, data.series.paths, request.command, extra)
    write_maps(
        request.out,
        maps,
        data.series,
        card,
        rows,
        complete,
        layout,
        check=lambda: _check_place(request),
    )
    _say_what(listener, request, maps, data, len(rows))
    listener.detail(f"took {time.perf_counter() - begin:.1f} s")
    return maps


def _check_options(request: Request) -> None:
    """Refuse options that do not go together."""
    fitted = request.method == "mle"
    if fitted and request.network:
        raise ValueError("`network` names a network; `method` mle takes none.")
    if fitted and request.compare:
        raise ValueError("`compare` mle checks a network against the fit; leave `method` mle out.")
    if not fitted and request.fit != VOXELWISE:
        raise ValueError(
            "`bounds`, `likelihood`, `lambda_b`, `fix_b`, `share_b` and `tr` are options of the "
            "fit: give `method` mle."
        )
    if request.roi_names and not request.rois:
        raise ValueError("`roi_names` names the labels of `rois`; give both.")


def _check_place(request: Request) -> None:
    """Refuse a folder whose files would be lost, also those of a run that ended meanwhile."""
    check_out(request.out, request.overwrite, _output_names(request), request.files)


def _output_names(request: Request) -> list[str]:
    """Names of the files that a request writes, without the sidecars."""
    derived = [entry.border.stem for entry in request.model.border.derived]
    stems = [*map_stems(request.model, request.fit.tr is not None), *derived]
    files = [f"{stem}{kind}" for stem in stems for kind in ("map", "std")]
    files += ["residual", "status", *(["fit"] if request.save_fit else [])]
    others = {"rois.csv": bool(request.rois), "report.html": request.report}
    return [*(f"{name}.nii.gz" for name in files), *(n for n, made in others.items() if made)]


def _find_network(request: Request, model: SignalModel) -> _Network | None:
    """File of the network and its card, its kind checked; None for maximum likelihood."""
    if request.method == "mle":
        return None
    wanted = request.network or model.border.default_network
    missing = not request.network and wanted not in shipped_models()
    if missing or (not request.network and request.method != "rim"):
        raise ModelError(no_default(request.method, model.name))
    file = network_file(wanted)
    if file.architecture != request.method:
        raise ModelError(f"the network is a {file.architecture}, but `method` is {request.method}.")
    same = file.card.get("signal_model", model.name) == model.name
    return _Network(file, envelope_of(file.card, model) if same else None)


def _estimate(
    request: Request, data: RunInput, network: _Network | None, listener: Listener
) -> Maps:
    """Maps in the axes of the files."""
    axis, images, model = data.series.slice_axis, data.images, request.model
    S = images.S
    known, warnings = known_stack(data.known, model, S.shape[:3])
    if network is None:
        estimator = Estimator(request.method, fit=request.fit)
        work = int(np.prod(S.shape[:3]) if data.mask is None else data.mask.sum()), "voxel"
    else:
        estimator = Estimator(request.method, network.network, network.envelope, request.fit)
        work = S.shape[2], "slice"
    series = Measurement(
        S,
        data.protocol.table,
        model,
        data.sigma,
        data.mask,
        known=known,
        spacing=_spacing(data.series),
    )
    maps = estimate_maps(
        ArrayRequest(
            series,
            images,
            data.mask_kind,
            estimator,
            signed=request.signed,
            compare=bool(request.compare),
            save_fit=request.save_fit,
            force=request.force,
            warnings=(*request.warnings, *warnings),
            progress=listener.progress(*work),
        )
    )
    check = model.border.caution.of_sidecar
    caution = None if check is None else check(request.sidecar)
    notes = (*request.notes, *maps.notes, *(() if caution is None else (caution,)))
    return replace(maps.with_axis(2, axis), notes=notes)


def _without_faulty(data: RunInput, maps: Maps) -> RunInput:
    """What was read, without the images that were left out."""
    gone = {image.index for image in maps.left_out}
    keep = np.array([n for n in range(data.protocol.num_images) if n not in gone])
    series = replace(data.series, data=data.series.data[..., keep])
    return replace(data, series=series, protocol=data.protocol.in_order(keep))


def _spacing(series: Series) -> tuple[float, ...]:
    """Voxel size in mm along the axes of `predict`: the slices' last."""
    zooms = [float(z) or 1.0 for z in series.header.get_zooms()[:3]]
    zooms += [1.0] * (3 - len(zooms))
    zooms.append(zooms.pop(series.slice_axis))
    return tuple(zooms)


def _fit_words(maps: Maps) -> str:
    """The fit in words, for logs and sidecars."""
    assert maps.fit is not None
    options, chosen = maps.fit.options, maps.fit.chosen_lambda_b
    words = options.words(maps.model)
    if options.lambda_b == "auto" and chosen is not None:
        return words.replace("lambda auto", f"lambda auto ({chosen:.3g})")
    return words


def _network_words(network: _Network) -> dict[str, Any]:
    """A network's fields in sidecars."""
    words = {"Network": network.file.path.stem, "NetworkSHA256": network.file.sha256}
    if "envelope" in network.file.card:
        words["NetworkEnvelope"] = network.file.card["envelope"]
    if "error_head" in network.file.card:
        words["Interval95"] = network.file.card["error_head"]["interval95"]
    return words


def _say_how(listener: Listener, maps: Maps, network: _Network | None) -> None:
    """Noise, method, notes and warnings."""
    if network is None:
        name = _fit_words(maps)
    else:
        name = f"{network.file.path.stem} (SHA-256 {network.file.sha256[:12]})"
    listener.say(f"noise: sigma {maps.sigma:.4g} ({maps.sigma_source})")
    listener.say(f"method: {name}; data taken as {maps.taken_as}")
    for note in maps.notes:
        listener.say(f"note: {note}")
    for warning in maps.warnings:
        listener.say(f"warning: {warning}")
    if maps.comparison is not None:
        listener.say(str(maps.comparison))


def _say_what(
    listener: Listener, request: Request, maps: Maps, data: RunInput, num_rois: int
) -> None:
    """Status, median and where the files are."""
    model = maps.model
    found = shares(maps.status)
    listener.say(f"status: {', '.join(f'{words} {100 * s:.1f} %' for words, s in found.items())}")
    listener.detail(
        f"scale of the series: {maps.scale:.4g}; slices along axis {data.series.slice_axis + 1}"
    )
    values = maps.main[(maps.status != OUTSIDE) & (maps.main > 0)]
    words = "no voxel has an estimate (see status.nii.gz)"
    if values.size:
        words = f"{model.main_label}: median {np.median(values):.0f} {model.units[-1]} in the mask"
    table = f"; {num_rois} regions in rois.csv" if num_rois else ""
    listener.say(f"{words}; maps in {request.out}{table}")
