"""Prediction: a weighted series becomes maps, by a network or by maximum likelihood.

`predict` works on arrays, `predict_files` on NIfTI files.
"""

from __future__ import annotations

import functools
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from relaxnet import __version__, mle
from relaxnet.masks import automatic_mask
from relaxnet.mle import Fit, check_series, estimate_sigma, fit_voxelwise
from relaxnet.models import DEFAULT_NETWORK, ModelError, checksum, find_model, load_network
from relaxnet.nifti import Series, load_mask, load_series, save_map
from relaxnet.scale import series_scale
from relaxsim.protocols import Protocol
from relaxsim.signals import SignalModel, model_for_times

METHODS = ("rim", "resnet", "mle")
#: Voxels that the automatic noise estimate fits at most.
SIGMA_VOXELS = 50_000
OK, OUTSIDE, NO_SIGNAL, INVALID, AT_BOUND, NOT_IDENTIFIABLE = range(6)
LEGEND = {
    OK: "ok",
    OUTSIDE: "outside the mask",
    NO_SIGNAL: "no signal",
    INVALID: "invalid input",
    AT_BOUND: "at a bound",
    NOT_IDENTIFIABLE: "not identifiable",
}
_OF_FIT = {
    mle.CONVERGED: OK,
    mle.AT_BOUND: AT_BOUND,
    mle.NOT_IDENTIFIABLE: NOT_IDENTIFIABLE,
    mle.NO_SIGNAL: NO_SIGNAL,
    mle.INVALID: INVALID,
}


@dataclass(frozen=True)
class Maps:
    """Estimated maps of a series.

    Attributes
    ----------
    kappa : array, shape (..., Q), float32
        Estimates in the model's units; 0 outside the mask and where nothing could be estimated.
    std : array, shape (..., Q), float32, or None
        Standard deviations (Cramer-Rao, maximum likelihood only).
    residual : array, shape (...), float32
        Root mean square of the residuals in units of sigma.
    status : array, shape (...), uint8
        See `LEGEND`.
    model : SignalModel
    sigma : float
        Noise standard deviation that was used, in the unit of the series.
    sigma_source : str
        How it was found.
    signed : bool
        The data were taken as signed.
    scale : float
        Scale of the series.
    method : str
    notes : tuple of str
        What a user should know, a line each.
    """

    kappa: np.ndarray
    std: np.ndarray | None
    residual: np.ndarray
    status: np.ndarray
    model: SignalModel
    sigma: float
    sigma_source: str
    signed: bool
    scale: float
    method: str
    notes: tuple[str, ...] = field(default=())

    def named(self) -> dict[str, tuple[np.ndarray, str]]:
        """Maps by file name without ending: values and unit."""
        named = {}
        units = dict(zip(self.model.parameters, self.model.units, strict=True))
        for q, parameter in enumerate(self.model.parameters):
            named[f"{map_name(parameter)}map"] = self.kappa[..., q], units[parameter]
            if self.std is not None:
                named[f"{map_name(parameter)}std"] = self.std[..., q], units[parameter]
        named["residual"] = self.residual, "sigma"
        named["status"] = self.status, "1"
        return named


def map_name(parameter: str) -> str:
    """Stem of a parameter's file: A is M0 in files."""
    return "M0" if parameter == "A" else parameter


def predict(
    S: np.ndarray,
    tau: np.ndarray,
    model: SignalModel,
    method: str = "rim",
    network: Any = None,
    sigma: float | None = None,
    mask: np.ndarray | None = None,
    signed: bool | None = None,
    bounds: tuple[tuple[float, float], ...] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Maps:
    """Estimate maps of a series in arrays.

    Parameters
    ----------
    S : array, shape (X, Y, Z, N)
        Weighted images; the networks see slices along the third axis.
    tau : array, shape (N,)
        Times in ms, in the order of the images.
    model : SignalModel
    method : str
        ``rim``, ``resnet`` or ``mle``.
    network : network, optional
        For ``rim`` and ``resnet``; default: the one shipped for `model`.
    sigma : float, optional
        Noise standard deviation in the unit of S; default: from the residuals of a voxel-wise fit
        in the mask, degrees of freedom counted.
    mask : bool array, shape (X, Y, Z), optional
        Default: every voxel.
    signed : bool, optional
        The data carry the signal's sign; default: if more than 1 % of the mask's samples lie
        below -5 sigma. Networks take the modulus in any case.
    bounds : sequence of (low, high), optional
        Of the maximum-likelihood fit.
    progress : callable, optional
        Called with the number of slices done since the last call.

    Returns
    -------
    Maps

    Raises
    ------
    ValueError
        If times, network, sigma or mask do not suit the series.
    """
    check_series(S, tau, model)
    if method not in METHODS:
        raise ValueError(f"method is {method!r}, expected one of {', '.join(METHODS)}")
    inside = np.ones(S.shape[:3], bool) if mask is None else np.asarray(mask, bool)
    if inside.shape != S.shape[:3]:
        raise ValueError(f"the mask has shape {inside.shape}, the images {S.shape[:3]}")
    usable = np.isfinite(S).all(-1) & (S != 0).any(-1)
    if not (inside & usable).any():
        raise ValueError("no voxel of the mask holds finite values that are not zero.")
    if sigma is not None and not (np.isfinite(sigma) and sigma > 0):
        raise ValueError(f"sigma is {sigma:g}, expected a positive number in the series' unit.")
    scale = series_scale(S, inside & usable)
    looks = _looks_signed(S, inside & usable, scale) if signed is None else signed
    if sigma is None:
        sigma, source = _residual_sigma(S, tau, model, inside & usable, looks), "fit residuals"
        # Noise-free series: the likelihood needs some noise, far below what matters.
        sigma = max(sigma, 1e-4 * scale)
    else:
        source = "given"
    if signed is None:
        negative = (S[inside & usable] < -5 * sigma).mean()
        signed = bool(model.magnitude and negative > 0.01)
    fit = functools.partial(_fit, S, tau, model, sigma, inside, signed, bounds)
    if method == "mle":
        kappa, std, status, notes = fit()
    else:
        network = network if network is not None else load_network(DEFAULT_NETWORK[model.name])
        check_network(network, model, len(tau), method)
        kappa, notes = _network_kappa(network, S, tau, sigma, scale, usable & inside, progress)
        std, status = None, np.zeros(inside.shape, np.uint8)
    if signed and method != "mle":
        notes += ("the data are signed; the network takes their modulus",)
    status[~usable] = NO_SIGNAL
    status[~np.isfinite(S).all(-1)] = INVALID
    status[~inside] = OUTSIDE
    nothing = (status == NO_SIGNAL) | (status == INVALID) | (status == OUTSIDE)
    kappa[nothing] = 0
    if std is not None:
        std[nothing] = 0
    residual = _residual(S, tau, model, kappa, sigma, ~nothing, signed and method == "mle")
    return Maps(
        kappa, std, residual, status, model, float(sigma), source, signed, scale, method, notes
    )


def check_network(network: Any, model: SignalModel, num_images: int, method: str) -> None:
    """Refuse a network that does not suit the series.

    Raises
    ------
    relaxnet.models.ModelError
    """
    if network.signal_model != model.name:
        raise ModelError(
            f"the network is for {network.signal_model}, the series is {model.name} "
            f"(--{model.times}). Give a network for {model.name} with --model."
        )
    if network.kind != method:
        raise ModelError(f"the network is a {network.kind}, but --method is {method}.")
    if network.num_images not in (None, num_images):
        raise ModelError(
            f"the network takes {network.num_images} images, the series has {num_images}."
        )


def _looks_signed(S: np.ndarray, mask: np.ndarray, scale: float) -> bool:
    """First guess, before the noise is known: many samples far below zero."""
    return bool((S[mask] < -0.2 * scale).mean() > 0.01)


def _residual_sigma(
    S: np.ndarray, tau: np.ndarray, model: SignalModel, mask: np.ndarray, signed: bool
) -> float:
    """Noise from the residuals of a voxel-wise fit of at most `SIGMA_VOXELS` voxels."""
    voxels = np.flatnonzero(mask)
    step = -(-len(voxels) // SIGMA_VOXELS)
    sample = S.reshape(-1, S.shape[-1])[voxels[::step]]
    fit = fit_voxelwise(sample, tau, model, signed=signed and model.magnitude)
    return estimate_sigma(sample, fit, None, model.num_parameters)


def _fit(
    S: np.ndarray,
    tau: np.ndarray,
    model: SignalModel,
    sigma: float,
    mask: np.ndarray,
    signed: bool,
    bounds: tuple[tuple[float, float], ...] | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[str, ...]]:
    fit: Fit = fit_voxelwise(S, tau, model, sigma, mask, signed=signed, bounds=bounds)
    status = np.zeros(mask.shape, np.uint8)
    for code, own in _OF_FIT.items():
        status[fit.status == code] = own
    return fit.kappa, fit.std, status, ()


def _network_kappa(
    network: Any,
    S: np.ndarray,
    tau: np.ndarray,
    sigma: float,
    scale: float,
    mask: np.ndarray,
    progress: Callable[[int], None] | None,
) -> tuple[np.ndarray, tuple[str, ...]]:
    from relaxnet.inference import run_network

    slices = np.moveaxis(S, 2, 0)
    kappa = np.empty((*slices.shape[:3], model_size(network)), np.float32)
    finite = np.moveaxis(np.isfinite(S).all(-1), 2, 0)
    for z in range(len(slices)):  # one slice at a time, so that memory stays bounded
        piece = np.abs(slices[z : z + 1]) / scale
        piece[~finite[z : z + 1]] = 0
        kappa[z : z + 1] = run_network(network, piece, tau, np.array([sigma / scale]))
        if progress is not None:
            progress(1)
    kappa[..., 0] *= scale
    return np.moveaxis(kappa, 0, 2), ()


def model_size(network: Any) -> int:
    """Number of parameters that a network estimates."""
    return len(network.parameters)


def _residual(
    S: np.ndarray,
    tau: np.ndarray,
    model: SignalModel,
    kappa: np.ndarray,
    sigma: float,
    mask: np.ndarray,
    signed: bool,
) -> np.ndarray:
    """Root mean square of the residuals in units of sigma, 0 outside the mask."""
    residual = np.zeros(mask.shape, np.float32)
    forward = model.signed if signed else model.forward
    for z in range(mask.shape[2]):
        keep = mask[:, :, z]
        data = S[:, :, z][keep]
        if model.magnitude and not signed:
            data = np.abs(data) if (data < -5 * sigma).mean() > 0.01 else data
        difference = data - forward(kappa[:, :, z][keep], np.asarray(tau, np.float32), xp=np)
        residual[:, :, z][keep] = np.sqrt((difference**2).mean(-1)) / sigma
    return residual


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
    bounds: tuple[tuple[float, float], ...] | None = None
    skip_first: int = 0
    overwrite: bool = False
    command: str = ""


def predict_files(
    request: Request,
    say: Callable[[str], None] = lambda line: None,
    progress: Callable[[int], Callable[[int], None]] | None = None,
) -> Maps:
    """Read a series, estimate its maps and write them.

    Parameters
    ----------
    request : Request
    say : callable
        Takes a line for the user.
    progress : callable, optional
        Given the number of slices, returns a callable that is told of slices done.

    Returns
    -------
    Maps

    Raises
    ------
    ValueError, OSError
        One line; nothing is written then.
    """
    model = model_for_times(request.protocol.times)
    _check_out(request.out, request.overwrite)
    network, name = _network(request, model)
    series = load_series(request.series)
    series, tau = _skip(series, request)
    _check_count(series, request)
    axis = series.slice_axis
    S = np.moveaxis(series.data, axis, 2)
    mask, mask_words = _mask(request.mask, series)
    inside = np.moveaxis(mask, axis, 2)
    _check_space(request.out, series, model)
    say(f"series: {S.shape[-1]} images of {' x '.join(map(str, series.shape))}; {mask_words}")
    bar = progress(S.shape[2]) if progress and request.method != "mle" else None
    maps = predict(
        S,
        tau,
        model,
        request.method,
        network,
        request.sigma,
        inside,
        request.signed,
        request.bounds,
        bar,
    )
    maps = _turned(maps, axis)
    say(f"noise: sigma {maps.sigma:.4g} ({maps.sigma_source})")
    say(f"method: {name}; data taken as {'signed' if maps.signed else 'magnitude'}")
    for note in maps.notes:
        say(f"note: {note}")
    _write(request, maps, series, tau, name, mask_words)
    parameter = model.parameters[-1]
    median = np.median(maps.kappa[maps.status == OK][:, -1]) if (maps.status == OK).any() else 0
    say(f"{parameter}: median {median:.0f} ms where ok; maps in {request.out}")
    return maps


def _network(request: Request, model: SignalModel) -> tuple[Any, str]:
    if request.method == "mle":
        if request.network:
            raise ValueError("--model goes with a network; --method mle takes none.")
        return None, "voxel-wise maximum likelihood"
    wanted = request.network or DEFAULT_NETWORK.get(model.name, "")
    if not wanted:
        raise ModelError(f"no network ships for {model.name}; give one with --model.")
    path = find_model(wanted)
    network = load_network(path)
    check_network(network, model, len(request.protocol.tau) - request.skip_first, request.method)
    return network, f"{path.stem} (SHA-256 {checksum(path)[:12]})"


def _skip(series: Series, request: Request) -> tuple[Series, np.ndarray]:
    """Series and times without the first images."""
    tau = request.protocol.tau
    if not request.skip_first:
        return series, tau
    if request.skip_first >= len(tau):
        raise ValueError(f"--skip-first {request.skip_first} leaves none of {len(tau)} images.")
    if series.data.shape[-1] == len(tau):
        data = series.data[..., request.skip_first :]
        return replace(series, data=data), tau[request.skip_first :]
    return series, tau


def _check_count(series: Series, request: Request) -> None:
    protocol, images = request.protocol, series.data.shape[-1] + request.skip_first
    if images != protocol.num_images:
        name = series.paths[0].name if len(series.paths) == 1 else f"{len(series.paths)} files"
        shape = " x ".join(map(str, series.data.shape))
        raise ValueError(
            f"{name} holds {images} images (shape {shape}), but {protocol.name} lists "
            f"{protocol.num_images} {protocol.time_name} ({protocol.tau[0]:g} ... "
            f"{protocol.tau[-1]:g} ms). Give one time per image, in acquisition order "
            f"(--{protocol.times})."
        )


def _mask(wanted: str, series: Series) -> tuple[np.ndarray, str]:
    if wanted == "none":
        mask, words = np.ones(series.shape, bool), "no mask"
    elif wanted == "auto":
        mask, words = automatic_mask(series.data), "automatic mask"
    else:
        mask, words = load_mask(wanted, series.shape), f"mask {Path(wanted).name}"
    return mask, f"{words} ({100 * mask.mean():.0f} % of voxels)"


def _check_out(out: Path, overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; --out takes a folder.")
    if out.is_dir() and not overwrite and any(out.glob("*map.nii.gz")):
        raise ValueError(f"{out} holds maps. Give --overwrite or another --out.")


def _check_space(out: Path, series: Series, model: SignalModel) -> None:
    parent = out.absolute()
    while not parent.exists():
        parent = parent.parent
    need = int(np.prod(series.shape)) * 4 * (2 * model.num_parameters + 2) + 100_000
    free = shutil.disk_usage(parent).free
    if need > free:
        raise OSError(
            f"the maps take up to {need / 1e6:.0f} MB, {out} has {free / 1e6:.0f} MB free."
        )


def _turned(maps: Maps, axis: int) -> Maps:
    """Maps with the slice axis back in its place."""

    def turn(a: np.ndarray | None) -> np.ndarray | None:
        return None if a is None else np.moveaxis(a, 2, axis)

    return replace(
        maps,
        kappa=turn(maps.kappa),
        std=turn(maps.std),
        residual=turn(maps.residual),
        status=turn(maps.status),
    )


def _write(
    request: Request, maps: Maps, series: Series, tau: np.ndarray, name: str, mask_words: str
) -> None:
    """Write all files to a temporary folder beside the target, then move them there."""
    shared = {
        "SignalModel": maps.model.name,
        f"{'Inversion' if maps.model.times == 'tis' else 'Echo'}TimesMs": [float(t) for t in tau],
        "Method": name,
        "Sigma": maps.sigma,
        "SigmaSource": maps.sigma_source,
        "DataTakenAs": "signed" if maps.signed else "magnitude",
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
    request.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=request.out.parent, prefix=".maps-") as folder:
        for stem, (values, unit) in maps.named().items():
            sidecar = {"Units": unit, **shared}
            if stem == "status":
                sidecar["Levels"] = {str(code): words for code, words in LEGEND.items()}
            save_map(Path(folder) / f"{stem}.nii.gz", values, series, sidecar)
        request.out.mkdir(parents=True, exist_ok=True)
        for path in sorted(Path(folder).iterdir()):
            path.replace(request.out / path.name)
