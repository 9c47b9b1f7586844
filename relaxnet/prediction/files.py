"""Prediction from files: a NIfTI series in, a folder of maps with their sidecars out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from relaxnet.fitting.options import VOXELWISE
from relaxnet.io.bids_times import read_acquisition
from relaxnet.io.nifti import Series, by
from relaxnet.maps.look_locker import check_method
from relaxnet.maps.map_folder import MapLayout, check_out, check_space, write_maps
from relaxnet.maps.maps import Maps, map_name
from relaxnet.maps.roi import roi_rows
from relaxnet.maps.sidecar import sidecar_of
from relaxnet.maps.status import OUTSIDE, shares
from relaxnet.maps.warnings import look_locker_sidecar
from relaxnet.networks.registry import (
    DEFAULT_NETWORK,
    ModelError,
    checksum,
    find_model,
    load_network,
    network_kind,
    no_default,
    read_card,
    shipped_models,
)
from relaxnet.networks.training_domain import Envelope, envelope_of
from relaxnet.prediction.arrays import predict
from relaxnet.prediction.estimators import check_network
from relaxnet.prediction.request import Request, RunInput, read_input
from relaxsim.models.protocols import Protocol, given_protocol, read_protocol
from relaxsim.models.registry import model_of
from relaxsim.models.signal_model import SignalModel


@dataclass(frozen=True)
class Listener:
    """Whom a prediction tells how it goes; by default nobody.

    Attributes
    ----------
    say : callable
        Takes a line that every user wants to read.
    detail : callable
        Takes a line that few want to read.
    progress : callable
        Given a number and a unit of work, returns a callable that is told of work done.
    before_network : callable
        Called before TensorFlow is imported.
    """

    say: Callable[[str], object] = lambda line: None
    detail: Callable[[str], object] = lambda line: None
    progress: Callable[[int, str], Callable[[int], object]] = lambda total, unit: lambda done: None
    before_network: Callable[[], object] = lambda: None


@dataclass(frozen=True)
class _Network:
    """A network's file, what its card says, and the network once it is loaded."""

    file: Path
    card: dict[str, Any]
    envelope: Envelope | None
    network: Any = None


def predict_files(
    series: str | Path | Sequence[str | Path],
    out: str | Path = "maps",
    *,
    tis: str | Path | Sequence[float] | None = None,
    tes: str | Path | Sequence[float] | None = None,
    units: str = "ms",
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
        One 4-D file, or one 3-D file for each time.
    out : path
        Folder for the maps.
    tis, tes : path, name or sequence of float
        Inversion or echo times, one of the two: a text file, a bundled list or the numbers.
        Without them they are read from the sidecars (`relaxnet.io.bids_times`).
    units : str
        ``"ms"`` or ``"s"``, of a file's or the given numbers.
    method : str, optional
        ``rim``, ``resnet`` or ``mle``; default: the kind of `model`, else ``rim``.
    model : path or name
        Network; default: the one shipped for the times.
    listener : Listener, optional
        Whom to tell how it goes.
    complete : callable, optional
        ``complete(folder)`` adds what is made from the files while the folder is still a temporary
        one: `relaxnet.report.page.write_report` for a report, with the option `report`.
    **options
        Others of `Request`, by name: `mask`, `sigma`, `signed`, `fit`, `skip_first`, `overwrite`,
        `compare`, `look_locker`, `save_fit`, `rois`, `roi_names`, `force`, `report`; and `tr`,
        ``"sidecar"`` for a fit with the sidecars' repetition time.

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
    if tis is not None and tes is not None:
        raise ValueError("give inversion times with --tis or echo times with --tes, not both.")
    listed, times = (tes, "tes") if tis is None else (tis, "tis")
    given = None if listed is None else _protocol(listed, times, units)
    method = method or (network_kind(model) if model else "rim")
    files = (series,) if isinstance(series, str | Path) else tuple(series)
    fit = options.pop("fit", VOXELWISE)
    tr = options.pop("tr", fit.tr)
    taken = read_acquisition(tuple(map(str, files)), given, tr, fitted=method == "mle")
    for key in ("rois", "roi_names"):
        if key in options:
            options[key] = str(options[key] or "")
    options["mask"] = str(options.get("mask") or "auto")
    sigma = options.pop("sigma", None)
    if not (isinstance(sigma, str) and sigma == "auto"):
        options["sigma"] = str(sigma) if isinstance(sigma, Path) else sigma
    request = Request(
        series=taken.paths,
        protocol=taken.protocol,
        out=Path(out),
        method=method,
        network=str(model),
        fit=replace(fit, tr=taken.tr),
        notes=taken.notes,
        sidecar=taken.fields,
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
    tell = listener or Listener()
    begin = time.perf_counter()
    model = model_of(request.protocol.model.times)
    _check_options(request)
    check_out(request.out, request.overwrite, _output_names(request, model), request.files)
    network = _find_network(request, model)
    data = read_input(request)
    kinds = 2 * model.num_parameters + 2 + (len(data.tau) if request.save_fit else 0)
    check_space(request.out, int(np.prod(data.series.shape)) * kinds)
    tell.say(f"series: {len(data.tau)} images of {by(data.series.shape)}; {data.mask_words}")
    tell.detail(f"{request.protocol.words} (ms): {' '.join(f'{t:g}' for t in data.tau)}")
    if network is not None:
        tell.before_network()
        network = replace(network, network=_loaded(network.file))
        check_network(network.network, model, len(data.tau), request.method)
    maps = _estimate(request, data, model, network, tell)
    _say_how(tell, request, maps, network)
    extra = {"Fit": _fit_words(request, maps)} if network is None else _network_words(network)
    if isinstance(request.sigma, str):
        extra["SigmaFile"] = request.sigma
    words = (request.protocol.name, data.series.paths, data.mask_words, request.command)
    rows = [] if data.labels is None else roi_rows(maps, data.labels, data.names)
    write_maps(
        request.out,
        maps,
        data.series,
        sidecar_of(maps, data.tau, *words, extra),
        rows,
        complete,
        layout,
    )
    _say_what(tell, request, maps, data, len(rows))
    tell.detail(f"took {time.perf_counter() - begin:.1f} s")
    return maps


def _protocol(given: Any, times: str, units: str) -> Protocol:
    if isinstance(given, str | Path):
        return read_protocol(given, times, units)
    return given_protocol(given, model_of(times), units)


def _check_options(request: Request) -> None:
    """Refuse options that do not go together."""
    if request.method == "mle" and request.network:
        raise ValueError("--model goes with a network; --method mle takes none.")
    if request.method == "mle" and request.compare:
        raise ValueError("--compare mle checks a network against the fit; leave --method mle out.")
    if request.method != "mle" and request.fit != VOXELWISE:
        raise ValueError(
            "--bounds, --likelihood, --lambda-b, --fix-b, --share-b and --tr are options of the "
            "fit: give --method mle."
        )
    if request.look_locker:
        check_method(request.method, request.force)
    if request.roi_names and not request.rois:
        raise ValueError("--roi-names names the labels of --rois; give both.")


def _output_names(request: Request, model: SignalModel) -> list[str]:
    """Names of the files that a request writes, without the sidecars."""
    stems = [f"{map_name(p)}{kind}" for p in model.parameters for kind in ("map", "std")]
    stems += ["residual", "status", *(["fit"] if request.save_fit else [])]
    others = {"rois.csv": bool(request.rois), "report.html": request.report}
    return [*(f"{stem}.nii.gz" for stem in stems), *(n for n, made in others.items() if made)]


def _find_network(request: Request, model: SignalModel) -> _Network | None:
    """File of the network and its card, its kind checked; None for maximum likelihood."""
    if request.method == "mle":
        return None
    wanted = request.network or DEFAULT_NETWORK.get(model.name, "")
    missing = not request.network and wanted not in shipped_models()
    if missing or (not request.network and request.method != "rim"):
        raise ModelError(no_default(request.method, model.name))
    path = find_model(wanted)
    kind = network_kind(path)
    if kind != request.method:
        raise ModelError(f"the network is a {kind}, but --method is {request.method}.")
    card = read_card(path)
    same = card.get("signal_model", model.name) == model.name
    return _Network(path, card, envelope_of(card, model) if same else None)


def _loaded(file: Path) -> Any:
    """A network; the last two are kept, with what TensorFlow compiled for them."""
    file = file.absolute()
    return _kept(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=2)
def _kept(file: Path, _changed: int) -> Any:
    return load_network(file)


def _estimate(
    request: Request, data: RunInput, model: SignalModel, network: _Network | None, tell: Listener
) -> Maps:
    """Maps, the slices being those of the acquisition."""
    axis = data.series.slice_axis
    S = np.moveaxis(data.series.data, axis, 2)
    inside = None if data.mask is None else np.moveaxis(data.mask, axis, 2)
    sigma = np.moveaxis(data.sigma, axis, 2) if isinstance(data.sigma, np.ndarray) else data.sigma
    if network is None:
        work = int(np.prod(S.shape[:3]) if inside is None else inside.sum()), "voxel"
    else:
        work = S.shape[2], "slice"
    maps = predict(
        S,
        data.tau,
        model,
        request.method,
        None if network is None else network.network,
        sigma,
        inside,
        request.signed,
        request.fit,
        _spacing(data.series),
        tell.progress(*work),
        envelope=None if network is None else network.envelope,
        compare=bool(request.compare),
        look_locker=request.look_locker,
        save_fit=request.save_fit,
        force=request.force,
    )
    apparent = None if request.look_locker else look_locker_sidecar(data.sidecar)
    notes = (*request.notes, *maps.notes, *(() if apparent is None else (apparent,)))
    return replace(maps.with_axis(2, axis), notes=notes)


def _spacing(series: Series) -> tuple[float, ...]:
    """Voxel size in mm along the axes of `predict`: the slices' last."""
    zooms = [float(z) or 1.0 for z in series.header.get_zooms()[:3]]
    zooms += [1.0] * (3 - len(zooms))
    zooms.append(zooms.pop(series.slice_axis))
    return tuple(zooms)


def _fit_words(request: Request, maps: Maps) -> str:
    """What sidecars say of a fit."""
    words = replace(request.fit, likelihood="rician" if maps.rician else "gaussian").words(
        maps.model
    )
    if request.fit.lambda_b == "auto" and maps.lambda_b is not None:
        return words.replace("lambda auto", f"lambda auto ({maps.lambda_b:.3g})")
    return words


def _network_words(network: _Network) -> dict[str, Any]:
    """What sidecars say of a network."""
    words = {"Network": network.file.stem, "NetworkSHA256": checksum(network.file)}
    if "envelope" in network.card:
        words["NetworkEnvelope"] = network.card["envelope"]
    if "error_head" in network.card:
        words["Interval95"] = network.card["error_head"]["interval95"]
    return words


def _say_how(tell: Listener, request: Request, maps: Maps, network: _Network | None) -> None:
    """Noise, method, notes and warnings."""
    name = _fit_words(request, maps)
    if network is not None:
        name = f"{network.file.stem} (SHA-256 {checksum(network.file)[:12]})"
    tell.say(f"noise: sigma {maps.sigma:.4g} ({maps.sigma_source})")
    tell.say(f"method: {name}; data taken as {maps.taken_as}")
    for note in maps.notes:
        tell.say(f"note: {note}")
    for warning in maps.warnings:
        tell.say(f"warning: {warning}")
    if maps.comparison is not None:
        tell.say(str(maps.comparison))


def _say_what(tell: Listener, request: Request, maps: Maps, data: RunInput, num_rois: int) -> None:
    """Status, median and where the files are."""
    found = [f"{words} {100 * share:.1f} %" for words, share in shares(maps.status).items()]
    tell.say(f"status: {', '.join(found)}")
    tell.detail(
        f"scale of the series: {maps.scale:.4g}; slices along axis {data.series.slice_axis + 1}"
    )
    values = maps.kappa[..., -1][(maps.status != OUTSIDE) & (maps.kappa[..., -1] > 0)]
    parameter, unit = maps.model.parameters[-1], maps.model.units[-1]
    words = "no voxel has an estimate (see status.nii.gz)"
    if values.size:
        words = f"{parameter}: median {np.median(values):.0f} {unit} in the mask"
    table = f"; {num_rois} regions in rois.csv" if num_rois else ""
    tell.say(f"{words}; maps in {request.out}{table}")
