"""What each method makes of a checked series: kappa, its standard deviations and a status."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from relaxnet.fitting.inputs import Measurement
from relaxnet.fitting.joint_result import RegularisedFit
from relaxnet.fitting.options import FitOptions
from relaxnet.maps.status import NOT_IDENTIFIABLE, OF_FIT, OK
from relaxnet.networks.registry import ModelError
from relaxnet.networks.tiling import filled, run_network
from relaxnet.prediction.sign_ambiguity import restored
from relaxnet.series.noise import Noise
from relaxnet.series.scale import knows_sign
from relaxsim.models.signal_model import SignalModel

Progress = Callable[[int], object]

#: By how many times a map of sigma may differ from a slice's median, either way: no coil's noise
#: does by more, and what a single voxel's overflow leaves would spread to its neighbours.
MOST_TIMES = 100.0


@dataclass(frozen=True)
class Estimate:
    """What a method says of each voxel.

    Attributes
    ----------
    kappa : array, shape (X, Y, Z, Q)
    std : array, shape (X, Y, Z, Q), or None
    status : array, shape (X, Y, Z)
    lambda_b : float, optional
        Weight of a penalty on B, given or chosen.
    """

    kappa: np.ndarray
    std: np.ndarray | None
    status: np.ndarray
    lambda_b: float | None = None


def by_fit(
    S: np.ndarray,
    tau: np.ndarray,
    model: SignalModel,
    noise: Noise,
    status: np.ndarray,
    options: FitOptions,
    spacing: tuple[float, ...] | None = None,
    progress: Progress | None = None,
) -> Estimate:
    """Maximum likelihood in the voxels of status OK."""
    inside = status == OK
    sigma = np.where(inside, noise.sigma, 1.0)
    series = Measurement(S, tau, model, sigma, inside, noise.signed, spacing=spacing)
    fit = options.fit(series, progress)
    found = np.array([OF_FIT[code] for code in sorted(OF_FIT)], np.uint8)[fit.status]
    kappa, std = fit.kappa.copy(), fit.std.copy()
    kappa[~inside], std[~inside] = 0, 0
    weight = None
    if isinstance(fit, RegularisedFit) and options.lambda_b is not None:
        weight = fit.lambda_b
    return _sound(Estimate(kappa, std, np.where(inside, found, status), weight))


def by_network(
    S: np.ndarray,
    tau: np.ndarray,
    model: SignalModel,
    noise: Noise,
    status: np.ndarray,
    network: Any,
    scale: float,
    progress: Progress | None = None,
) -> Estimate:
    """Estimate of a network in the voxels of status OK; slices lie along the third axis.

    Voxels that it took for the wrong side of the zero crossing are mapped once more
    (`relaxnet.prediction.sign_ambiguity`).
    """
    inside = np.moveaxis(status == OK, 2, 0)
    levels = _slice_levels(noise.sigma / scale, inside, of_voxels=network.kind == "rim")
    takes_sign = model.magnitude and knows_sign(network.kind)

    def images(z: int) -> np.ndarray:
        return filled(S[:, :, z] / scale)

    values = run_network(
        network,
        map(images, range(S.shape[2])),
        tau,
        levels,
        inside,
        progress=progress,
        rician=noise.rician,
        signed=noise.signed and takes_sign,
    )
    if takes_sign and not noise.signed:
        for z, (level, part, where) in enumerate(zip(levels, values, inside, strict=True)):
            _restore_polarity(images(z), tau, level, part, where, model, network, noise)
    values = np.moveaxis(values, 0, 2)
    values[status != OK] = 0
    Q = model.num_parameters
    amplitudes = [unit == "a.u." for unit in model.units]
    kappa, std = values[..., :Q], values[..., Q:] if values.shape[-1] == 2 * Q else None
    for part in (kappa, std):
        if part is not None:
            part[..., amplitudes] *= scale
    return _sound(Estimate(kappa, std, status.copy()))


def _restore_polarity(
    images: np.ndarray,
    tau: np.ndarray,
    level: np.ndarray,
    values: np.ndarray,
    inside: np.ndarray,
    model: SignalModel,
    network: Any,
    noise: Noise,
) -> None:
    """Better estimates of one slice (Y, X, C) in place where the network took the wrong side.

    `level` is sigma in the unit of `images`, shape () or (Y, X).
    """

    def estimate_signed(signed: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return run_network(
            network, [signed], tau, [level], [mask], rician=noise.rician, signed=True
        )[0]

    kappa = values[..., : model.num_parameters]
    found = restored(images, tau, kappa, level, inside, model, estimate_signed)
    if found is not None:
        where, better = found
        values[where] = better


def check_network(network: Any, model: SignalModel, num_images: int, method: str) -> None:
    """Refuse a network that does not suit the series.

    Raises
    ------
    relaxnet.networks.registry.ModelError
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


def _sound(estimate: Estimate) -> Estimate:
    """Set estimates that are not finite (overflow) to 0, in place, and say so in the status."""
    lost = ~np.isfinite(estimate.kappa).all(-1)
    estimate.status[lost] = NOT_IDENTIFIABLE
    for values in (estimate.kappa, estimate.std):
        if values is not None:
            values[lost] = 0
    return estimate


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
