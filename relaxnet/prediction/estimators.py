"""Estimates of each method from an inspected series: kappa, standard deviations and a status."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from relaxnet.fitting.inputs import Measurement
from relaxnet.fitting.joint_result import RegularisedFit
from relaxnet.fitting.options import FitOptions
from relaxnet.maps.maps import Equilibrium
from relaxnet.maps.status import NOT_IDENTIFIABLE, OF_FIT
from relaxnet.networks.network import Network
from relaxnet.networks.registry import ModelError
from relaxnet.networks.tiling import filled, run_network
from relaxnet.prediction.equilibrium import equilibrium_of
from relaxnet.prediction.inspection import Inspected
from relaxnet.prediction.sign_ambiguity import restored
from relaxsim.models.signal_model import SignalModel

Progress = Callable[[int], object]

#: Most times by which a map of sigma may differ from a slice's median, either way: no coil's noise
#: differs by more, and what a single voxel's overflow leaves would spread to its neighbours.
MOST_TIMES = 100.0


@dataclass(frozen=True)
class Estimate:
    """Estimates of each voxel.

    Attributes
    ----------
    kappa : array, shape (X, Y, Z, Q)
    std : array, shape (X, Y, Z, Q), or None
    status : array, shape (X, Y, Z)
    lambda_b : float, optional
        Weight of a penalty on the shared parameter, given or chosen.
    equilibrium : Equilibrium, optional
        Of a fit with a repetition time.
    """

    kappa: np.ndarray
    std: np.ndarray | None
    status: np.ndarray
    lambda_b: float | None = None
    equilibrium: Equilibrium | None = None


def by_fit(found: Inspected, options: FitOptions, progress: Progress | None = None) -> Estimate:
    """Maximum likelihood in the voxels of status OK."""
    inside = found.inside
    fit = options.fit(found.series, progress)
    of_fit = np.array([OF_FIT[code] for code in sorted(OF_FIT)], np.uint8)[fit.status]
    kappa = np.where(inside[..., None], fit.kappa, np.float32(0))
    std = np.where(inside[..., None], fit.std, np.float32(0))
    weight = equilibrium = None
    if isinstance(fit, RegularisedFit):
        weight = fit.lambda_b if options.lambda_b is not None else None
        if options.tr is not None:
            equilibrium = equilibrium_of(found, fit, options)
    status = np.where(inside, of_fit, found.status)
    return _finite(Estimate(kappa, std, status, weight, equilibrium))


def by_network(found: Inspected, network: Network, progress: Progress | None = None) -> Estimate:
    """Estimate of a network in the voxels of status OK; slices lie along the third axis.

    Voxels that it took for the wrong side of the zero crossing are mapped once more
    (`relaxnet.prediction.sign_ambiguity`).
    """
    model, noise, scale, S = found.model, found.noise, found.scale, found.series.S
    inside = np.moveaxis(found.inside, 2, 0)
    levels = _slice_levels(noise.sigma / scale, inside, of_voxels=network.takes_sigma_map)
    takes_sign = model.magnitude and network.takes_sign

    def images(z: int) -> np.ndarray:
        return filled(S[:, :, z] / scale)

    values = run_network(
        network,
        map(images, range(S.shape[2])),
        found.series.protocol,
        levels,
        inside,
        progress=progress,
        rician=noise.rician,
        signed=noise.signed and takes_sign,
        known=None if found.series.known is None else np.moveaxis(found.series.known, 2, 0),
    )
    if takes_sign and not noise.signed:
        values = np.stack(
            [
                _with_signs(_slice_of(found, z, images(z), level, where), part, network, noise)
                for z, (level, part, where) in enumerate(zip(levels, values, inside, strict=True))
            ]
        )
    values = np.where(found.inside[..., None], np.moveaxis(values, 0, 2), np.float32(0))
    Q = model.num_parameters
    factors = np.where(np.array(model.units) == "a.u.", scale, 1.0).astype(np.float32)
    std = values[..., Q:] * factors if values.shape[-1] == 2 * Q else None
    return _finite(Estimate(values[..., :Q] * factors, std, found.status))


def _slice_of(
    found: Inspected, z: int, images: np.ndarray, level: np.ndarray, where: np.ndarray
) -> Measurement:
    """A slice in units of the scale; `images` (X, Y, N), `level` () or (X, Y)."""
    known = found.series.known
    return Measurement(
        images,
        found.protocol_of(z),
        found.model,
        level,
        where,
        known=None if known is None else known[:, :, z],
    )


def _with_signs(
    series: Measurement, values: np.ndarray, network: Network, noise: Any
) -> np.ndarray:
    """Estimates of one slice (X, Y, C), better where the network took the wrong side."""

    def estimate_signed(signed: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return run_network(
            network,
            [signed],
            series.protocol,
            [np.asarray(series.sigma)],
            [mask],
            rician=noise.rician,
            signed=True,
            known=None if series.known is None else [series.known],
        )[0]

    kappa = values[..., : series.model.num_parameters]
    found = restored(series, kappa, estimate_signed)
    if found is None:
        return values
    where, better = found
    out = values.copy()
    out[where] = better
    return out


def check_network(network: Network, model: SignalModel, num_images: int, method: str) -> None:
    """Refuse a network that does not suit the series.

    Raises
    ------
    relaxnet.networks.registry.ModelError
    """
    if network.model.name != model.name:
        raise ModelError(
            f"the network is for {network.model.name}, the series is {model.name} "
            f"(`{model.border.columns[0].option}`). Give a `network` for {model.name}."
        )
    if network.architecture != method:
        raise ModelError(f"the network is a {network.architecture}, but `method` is {method}.")
    if network.num_images not in (None, num_images):
        raise ModelError(
            f"the network takes {network.num_images} images, the series has {num_images}."
        )


def _finite(estimate: Estimate) -> Estimate:
    """Estimates with 0 for those that are not finite (overflow), which the status says."""
    lost = ~np.isfinite(estimate.kappa).all(-1)
    if not lost.any():
        return estimate
    return replace(
        estimate,
        kappa=np.where(lost[..., None], np.float32(0), estimate.kappa),
        std=None
        if estimate.std is None
        else np.where(lost[..., None], np.float32(0), estimate.std),
        status=np.where(lost, NOT_IDENTIFIABLE, estimate.status).astype(np.uint8),
    )


def _slice_levels(sigma: np.ndarray, inside: np.ndarray, of_voxels: bool) -> list[np.ndarray]:
    """Noise of each slice as a network takes it.

    Parameters
    ----------
    sigma : array, shape () or (X, Y, Z)
        In units of the scale; positive and finite in the mask.
    inside : bool array, shape (Z, X, Y)
        Mask of each slice.
    of_voxels : bool
        Whether a map is used voxel by voxel; of another network it is each slice's median.

    Returns
    -------
    levels : list of arrays, shape () or (X, Y)
        Outside the mask, where a map may hold anything, the median in it.
    """
    slices = np.moveaxis(np.broadcast_to(sigma, (*inside.shape[1:], len(inside))), 2, 0)
    levels = []
    for values, keep in zip(slices, inside, strict=True):
        level = np.median(values[keep]) if keep.any() else np.ones(())
        if of_voxels and np.ndim(sigma):
            limited = np.clip(values, level / MOST_TIMES, level * MOST_TIMES)
            level = np.where(keep, limited, level)
        levels.append(level)
    return levels
