"""Maps of a weighted series in arrays, by a network or by maximum likelihood."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from relaxnet import mle
from relaxnet.fit_options import VOXELWISE, FitOptions
from relaxnet.inference import filled, run_network
from relaxnet.masks import automatic_mask
from relaxnet.mle import check_series
from relaxnet.models import DEFAULT_NETWORK, ModelError, load_network
from relaxnet.noise import Noise, checked_sigma, find_noise
from relaxnet.scale import largest_modulus, series_scale
from relaxsim.signals import SignalModel

METHODS = ("rim", "resnet", "mle")
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
        Standard deviations (Cramer-Rao, maximum likelihood only); inf where not identifiable.
    residual : array, shape (...), float32
        Root mean square of the residuals in units of sigma.
    status : array, shape (...), uint8
        See `LEGEND`.
    model : SignalModel
    sigma : float
        Noise standard deviation that was used, in the unit of the series; of a map its median.
    sigma_source : str
        How it was found.
    signed : bool
        The data carry the signal's sign.
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

    @property
    def taken_as(self) -> str:
        """What the method took the data for, in words."""
        if self.signed and self.method != "mle":
            return "the modulus of signed data"
        return "signed" if self.signed else "magnitude"

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
    sigma: float | np.ndarray | None = None,
    mask: np.ndarray | None = None,
    signed: bool | None = None,
    fit: FitOptions = VOXELWISE,
    spacing: tuple[float, ...] | None = None,
    progress: Callable[[int], object] | None = None,
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
    sigma : float or array, shape (X, Y, Z), optional
        Noise standard deviation in the unit of S; default: from the residuals of a voxel-wise fit
        in the mask, degrees of freedom counted. Of an array, networks take each slice's median.
    mask : bool array, shape (X, Y, Z), optional
        Default: every voxel is mapped; scale and noise are those of the foreground
        (`relaxnet.masks.automatic_mask`).
    signed : bool, optional
        The data carry the signal's sign; default: if more than 1 % of the mask's samples lie
        below -5 sigma. Networks take the modulus in any case.
    fit : FitOptions
        Of the maximum-likelihood fit.
    spacing : (float, float, float), optional
        Voxel size, for a B that is regularised in three dimensions.
    progress : callable, optional
        Called with the number of slices (networks) or voxels (``mle``) done since the last call.

    Returns
    -------
    Maps

    Raises
    ------
    ValueError
        If times, network, sigma or mask do not suit the series.
    """
    S, tau = np.asarray(S), np.asarray(tau, np.float64)
    check_series(S, tau, model)
    if S.ndim != 4:
        raise ValueError(f"the series has shape {S.shape}, expected (X, Y, Z, images).")
    S = S if S.dtype.kind == "f" else S.astype(np.float32)
    if method not in METHODS:
        raise ValueError(f"method is {method!r}, expected one of {', '.join(METHODS)}")
    status = _input_status(S, mask)
    if not (status == OK).any():
        raise ValueError("no voxel of the mask holds finite values that are not zero.")
    counted = (status == OK) & (True if mask is not None else automatic_mask(S))
    scale = series_scale(S, counted)
    level = None if sigma is None else checked_sigma(sigma, status == OK)
    noise = find_noise(S, tau, model, counted, scale, level, signed)
    if method == "mle":
        kappa, std, status = _fitted(S, tau, model, noise, status, fit, spacing, progress)
    else:
        network = network if network is not None else load_network(DEFAULT_NETWORK[model.name])
        check_network(network, model, len(tau), method)
        kappa, status = _estimated(network, S, tau, model, noise, scale, status, progress)
        std = None
    _drop_lost(kappa, std, status)
    modulus = noise.signed and method != "mle"
    residual = _residual(S, tau, model, kappa, noise, status, modulus)
    return Maps(
        kappa=kappa,
        std=std,
        residual=residual,
        status=status,
        model=model,
        sigma=float(np.median(np.broadcast_to(noise.sigma, status.shape)[counted])),
        sigma_source=noise.source,
        signed=noise.signed,
        scale=scale,
        method=method,
        notes=tuple(_notes(S)),
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


def _notes(S: np.ndarray) -> Iterator[str]:
    zero = [str(n + 1) for n in range(S.shape[-1]) if not S[..., n].any()]
    if zero:
        yield f"zero everywhere: image {', '.join(zero)} of {S.shape[-1]}"


def _input_status(S: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """OK, OUTSIDE, NO_SIGNAL or INVALID for each voxel."""
    mip = largest_modulus(S)
    status = np.full(mip.shape, OK, np.uint8)
    status[mip == 0] = NO_SIGNAL
    status[~np.isfinite(mip)] = INVALID
    if mask is not None:
        if np.shape(mask) != mip.shape:
            raise ValueError(f"the mask has shape {np.shape(mask)}, the images {mip.shape}")
        status[~np.asarray(mask, bool)] = OUTSIDE
    return status


def _fitted(
    S: np.ndarray,
    tau: np.ndarray,
    model: SignalModel,
    noise: Noise,
    status: np.ndarray,
    options: FitOptions,
    spacing: tuple[float, ...] | None,
    progress: Callable[[int], object] | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Kappa, its standard deviations and status by maximum likelihood."""
    inside = status == OK
    sigma = np.where(inside, noise.sigma, 1.0)
    fit = options.fit(S, tau, model, sigma, inside, noise.signed, spacing, progress)
    found = np.array([_OF_FIT[code] for code in sorted(_OF_FIT)], np.uint8)[fit.status]
    kappa, std = fit.kappa.copy(), fit.std.copy()
    kappa[~inside], std[~inside] = 0, 0
    return kappa, std, np.where(inside, found, status)


def _estimated(
    network: Any,
    S: np.ndarray,
    tau: np.ndarray,
    model: SignalModel,
    noise: Noise,
    scale: float,
    status: np.ndarray,
    progress: Callable[[int], object] | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Kappa and status by a network."""
    inside = np.moveaxis(status == OK, 2, 0)
    levels = _slice_levels(noise.sigma, inside, scale)
    slices = (np.abs(S[:, :, z]) / scale for z in range(S.shape[2]))
    kappa = run_network(network, map(filled, slices), tau, levels, inside, progress=progress)
    kappa[..., [unit == "a.u." for unit in model.units]] *= scale
    kappa = np.moveaxis(kappa, 0, 2)
    kappa[status != OK] = 0
    return kappa, status


def _drop_lost(kappa: np.ndarray, std: np.ndarray | None, status: np.ndarray) -> None:
    """Set estimates that are not finite (overflow) to 0, in place, and say so in `status`."""
    lost = ~np.isfinite(kappa).all(-1)
    status[lost] = NOT_IDENTIFIABLE
    for values in (kappa, std):
        if values is not None:
            values[lost] = 0


def _slice_levels(sigma: np.ndarray, inside: np.ndarray, scale: float) -> np.ndarray:
    """Noise of each slice in units of the scale; of a map the median in the mask."""
    levels = np.ones(len(inside))
    slices = np.moveaxis(np.broadcast_to(sigma, (*inside.shape[1:], len(inside))), 2, 0)
    for z, (values, keep) in enumerate(zip(slices, inside, strict=True)):
        if keep.any():
            levels[z] = np.median(values[keep]) / scale
    return levels


def _residual(
    S: np.ndarray,
    tau: np.ndarray,
    model: SignalModel,
    kappa: np.ndarray,
    noise: Noise,
    status: np.ndarray,
    modulus: bool,
) -> np.ndarray:
    """Root mean square of the residuals in units of sigma, 0 where there is no estimate."""
    residual = np.zeros(status.shape, np.float32)
    forward = model.signed if noise.signed and not modulus else model.forward
    sigma = np.broadcast_to(noise.sigma, status.shape)
    done = ~np.isin(status, (OUTSIDE, NO_SIGNAL, INVALID)) & (kappa[..., -1] > 0)
    for z in range(status.shape[2]):
        keep = done[:, :, z]
        data = S[:, :, z][keep]
        difference = (np.abs(data) if modulus else data) - forward(kappa[:, :, z][keep], tau, np)
        residual[:, :, z][keep] = np.sqrt((difference**2).mean(-1)) / sigma[:, :, z][keep]
    return residual
