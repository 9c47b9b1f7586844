"""Prediction from files: a NIfTI series in, maps with their sidecars out.

`predict` works on arrays, `predict_files` on files.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from relaxnet import __version__
from relaxnet.fit_options import VOXELWISE, FitOptions
from relaxnet.maps import (
    AT_BOUND,
    INVALID,
    LEGEND,
    METHODS,
    NO_SIGNAL,
    NOT_IDENTIFIABLE,
    OK,
    OUTSIDE,
    Maps,
    check_network,
    predict,
)
from relaxnet.masks import automatic_mask
from relaxnet.models import (
    DEFAULT_NETWORK,
    ModelError,
    checksum,
    find_model,
    load_network,
    network_kind,
    shipped_models,
)
from relaxnet.nifti import Series, by, load_mask, load_series, save_map
from relaxsim.protocols import Protocol
from relaxsim.signals import SignalModel, model_for_times

__all__ = [
    "AT_BOUND",
    "INVALID",
    "LEGEND",
    "METHODS",
    "NOT_IDENTIFIABLE",
    "NO_SIGNAL",
    "OK",
    "OUTSIDE",
    "Maps",
    "Request",
    "predict",
    "predict_files",
]


@dataclass(frozen=True)
class Request:
    """What `predict_files` is asked to do; the options of ``relaxnet predict``."""

    series: tuple[str, ...]
    protocol: Protocol
    out: Path
    method: str = "rim"
    network: str = ""
    mask: str = "auto"
    sigma: float | None = None
    signed: bool | None = None
    fit: FitOptions = VOXELWISE
    skip_first: int = 0
    overwrite: bool = False
    command: str = ""


@dataclass(frozen=True)
class Listener:
    """Whom `predict_files` tells how it goes; by default nobody.

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


def predict_files(request: Request, listener: Listener | None = None) -> Maps:
    """Read a series, estimate its maps and write them.

    Parameters
    ----------
    request : Request
    listener : Listener, optional

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
    model = model_for_times(request.protocol.times)
    check_out(request.out, request.overwrite)
    network_file = _find_network(request, model)
    series, tau = _series(request)
    mask, mask_words = _mask(request.mask, series)
    _check_space(request.out, series, model)
    tell.say(f"series: {len(tau)} images of {by(series.shape)}; {mask_words}")
    tell.detail(f"{request.protocol.time_name} (ms): {' '.join(f'{t:g}' for t in tau)}")
    network, name = None, request.fit.words
    if network_file is not None:
        tell.before_network()
        network = load_network(network_file)
        name = f"{network_file.stem} (SHA-256 {checksum(network_file)[:12]})"
        check_network(network, model, len(tau), request.method)
    maps = _estimate(request, series, tau, model, network, mask, tell)
    tell.say(f"noise: sigma {maps.sigma:.4g} ({maps.sigma_source})")
    tell.say(f"method: {name}; data taken as {maps.taken_as}")
    for note in maps.notes:
        tell.say(f"note: {note}")
    _write(request, maps, series, _sidecar(request, maps, series, tau, network_file, mask_words))
    for line in _details(maps, series):
        tell.detail(line)
    tell.say(f"{_median(maps)}; maps in {request.out}")
    tell.detail(f"took {time.perf_counter() - begin:.1f} s")
    return maps


def check_out(out: Path, overwrite: bool) -> None:
    """Refuse a folder for maps that is a file, cannot be written to, or holds maps.

    Raises
    ------
    ValueError
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; --out takes a folder.")
    if out.is_dir() and not overwrite and any(out.glob("*map.nii.gz")):
        raise ValueError(f"{out} holds maps. Give --overwrite or another --out.")
    parent = _existing(out)
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise ValueError(f"{out} cannot be written: {parent} is not a folder that takes files.")


def _find_network(request: Request, model: SignalModel) -> Path | None:
    """File of the network, its kind checked; None for maximum likelihood."""
    if request.method == "mle":
        if request.network:
            raise ValueError("--model goes with a network; --method mle takes none.")
        return None
    if request.fit != VOXELWISE:
        raise ValueError(
            "--bounds, --likelihood, --lambda-b, --fix-b, --share-b and --tr are options of the "
            "fit: give --method mle."
        )
    wanted = request.network or DEFAULT_NETWORK.get(model.name, "")
    missing = not request.network and wanted not in shipped_models()
    if missing or (not request.network and request.method != "rim"):
        raise ModelError(
            f"no {request.method} network ships for {model.name}. "
            "Give one with --model, or take --method mle."
        )
    path = find_model(wanted)
    kind = network_kind(path)
    if kind != request.method:
        raise ModelError(f"the network is a {kind}, but --method is {request.method}.")
    return path


def _series(request: Request) -> tuple[Series, np.ndarray]:
    """Series and times, their numbers checked, without the images to skip."""
    series, protocol, skip = load_series(request.series), request.protocol, request.skip_first
    images = series.data.shape[-1]
    if images != protocol.num_images:
        name = series.paths[0].name if len(series.paths) == 1 else f"{len(series.paths)} files"
        verb = "holds" if len(series.paths) == 1 else "hold"
        raise ValueError(
            f"{name} {verb} {images} images (shape {by(series.data.shape)}), but "
            f"{protocol.name} lists {protocol.num_images} {protocol.time_name} "
            f"({protocol.tau[0]:g} ... {protocol.tau[-1]:g} ms). Give one time per image, in "
            f"acquisition order (--{protocol.times})"
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
        mask, words = automatic_mask(series.data), "automatic mask"
    else:
        mask = load_mask(wanted, series.shape, series)
        words = f"mask {Path(wanted).name}"
    return mask, f"{words} ({100 * mask.mean():.0f} % of voxels)"


def _estimate(
    request: Request,
    series: Series,
    tau: np.ndarray,
    model: SignalModel,
    network: Any,
    mask: np.ndarray | None,
    tell: Listener,
) -> Maps:
    """Maps, the slices being those of the acquisition."""
    axis = series.slice_axis
    S = np.moveaxis(series.data, axis, 2)
    inside = None if mask is None else np.moveaxis(mask, axis, 2)
    if network is None:
        work = int(np.prod(S.shape[:3]) if inside is None else inside.sum()), "voxel"
    else:
        work = S.shape[2], "slice"
    maps = predict(
        S,
        tau,
        model,
        request.method,
        network,
        request.sigma,
        inside,
        request.signed,
        request.fit,
        _spacing(series),
        tell.progress(*work),
    )

    return replace(
        maps,
        kappa=np.moveaxis(maps.kappa, 2, axis),
        std=None if maps.std is None else np.moveaxis(maps.std, 2, axis),
        residual=np.moveaxis(maps.residual, 2, axis),
        status=np.moveaxis(maps.status, 2, axis),
    )


def _check_space(out: Path, series: Series, model: SignalModel) -> None:
    need = int(np.prod(series.shape)) * 4 * (2 * model.num_parameters + 2) + 100_000
    free = shutil.disk_usage(_existing(out)).free
    if need > free:
        raise OSError(
            f"the maps take up to {need / 1e6:.1f} MB, {out} has {free / 1e6:.1f} MB free."
        )


def _existing(path: Path) -> Path:
    """The path or its nearest parent that exists."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


def _spacing(series: Series) -> tuple[float, ...]:
    """Voxel size in mm along the axes of `predict`: the slices' last."""
    zooms = [float(z) or 1.0 for z in series.header.get_zooms()[:3]]
    zooms += [1.0] * (3 - len(zooms))
    zooms.append(zooms.pop(series.slice_axis))
    return tuple(zooms)


def _sidecar(
    request: Request,
    maps: Maps,
    series: Series,
    tau: np.ndarray,
    network_file: Path | None,
    mask_words: str,
) -> dict[str, Any]:
    """What the JSON files of all maps say."""
    network = {}
    if network_file is not None:
        network = {"Network": network_file.stem, "NetworkSHA256": checksum(network_file)}
    shared = {
        "SignalModel": maps.model.name,
        f"{'Inversion' if maps.model.times == 'tis' else 'Echo'}TimesMs": [float(t) for t in tau],
        "Protocol": request.protocol.name,
        "Method": maps.method,
        **({"Fit": request.fit.words} if maps.method == "mle" else {}),
        **network,
        "Sigma": maps.sigma,
        "SigmaSource": maps.sigma_source,
        "DataTakenAs": maps.taken_as,
        "Mask": mask_words,
        "OutsideMask": 0,
        "Sources": [str(p) for p in series.paths],
        "SoftwareName": "relaxnet",
        "SoftwareVersion": __version__,
        "CommandLine": request.command,
        "Date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "Notes": list(maps.notes),
    }
    if maps.model.times == "tis":
        shared["T1Correction"] = "none: for Look-Locker readouts this is the apparent T1*"
    return shared


def _write(request: Request, maps: Maps, series: Series, shared: dict[str, Any]) -> None:
    """Write all files to a temporary folder beside the target, then move them there."""
    out = request.out
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".maps-") as place:
        folder = Path(place) / "maps"
        folder.mkdir()
        for stem, (values, unit) in maps.named().items():
            sidecar = {"Units": unit, **shared}
            if stem == "status":
                sidecar["Levels"] = {str(code): words for code, words in LEGEND.items()}
            if stem.endswith("std"):
                sidecar["NotIdentifiable"] = "inf"
            save_map(folder / f"{stem}.nii.gz", values, series, sidecar)
        if not out.exists():
            folder.replace(out)
            return
        for path in _earlier(out):
            path.unlink()
        for path in sorted(folder.iterdir()):
            path.replace(out / path.name)


def _earlier(out: Path) -> list[Path]:
    """Maps of an earlier run and their sidecars, known by what the sidecars say."""
    found = []
    for card in out.glob("*.json"):
        image = card.with_suffix(".nii.gz")
        try:
            wrote = json.loads(card.read_text(encoding="utf-8")).get("SoftwareName")
        except (ValueError, AttributeError):
            continue
        if wrote == "relaxnet" and image.is_file():
            found += [image, card]
    return found


def _median(maps: Maps) -> str:
    """Median of the relaxation time in the mask, in words."""
    values = maps.kappa[..., -1][maps.kappa[..., -1] > 0]
    if not values.size:
        return "no voxel has an estimate (see status.nii.gz)"
    share = 100 * (maps.status == OK).sum() / (maps.status != OUTSIDE).sum()
    parameter, unit = maps.model.parameters[-1], maps.model.units[-1]
    return f"{parameter}: median {np.median(values):.0f} {unit} in the mask, {share:.0f} % of it ok"


def _details(maps: Maps, series: Series) -> list[str]:
    """Scale, slice axis and the share of each status."""
    inside = maps.status != OUTSIDE
    counts = np.bincount(maps.status[inside], minlength=len(LEGEND)) * 100 / inside.sum()
    shares = ", ".join(f"{LEGEND[c]} {n:.1f} %" for c, n in enumerate(counts) if n)
    return [
        f"scale of the series: {maps.scale:.4g}; slices along axis {series.slice_axis + 1}",
        f"in the mask: {shares}",
    ]
