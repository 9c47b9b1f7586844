"""Noise of a series: its standard deviation, and whether the images carry the signal's sign."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from relaxnet.mle import estimate_sigma, fit_voxelwise
from relaxsim.signals import SignalModel

#: Voxels that the noise estimate fits at most, evenly spaced among those of the mask.
SIGMA_VOXELS = 50_000
#: Data are signed if more than this share of samples lies below -5 sigma.
SIGNED_SHARE = 0.01
#: Least sigma in units of the scale. The likelihood of a noise-free series needs some noise, far
#: below what matters.
FLOOR = 1e-4


@dataclass(frozen=True)
class Noise:
    """Noise of a series.

    Attributes
    ----------
    sigma : array, shape () or (X, Y, Z)
        Standard deviation in the unit of the series.
    source : str
        How it was found.
    signed : bool
        The images carry the signal's sign.
    """

    sigma: np.ndarray
    source: str
    signed: bool


def find_noise(
    S: np.ndarray,
    tau: np.ndarray,
    model: SignalModel,
    mask: np.ndarray,
    scale: float,
    sigma: np.ndarray | None = None,
    signed: bool | None = None,
) -> Noise:
    """What is not given of a series' noise, from the residuals of a voxel-wise fit.

    Data of a model of the modulus are taken as signed if more than 1 % of the mask's samples lie
    below -5 sigma. As long as that is open, sigma is the smaller one of a fit to the modulus and a
    fit to signed data: the wrong one of the two leaves the larger residuals.

    Parameters
    ----------
    S : array, shape (X, Y, Z, N)
    tau : array, shape (N,)
        ms.
    model : SignalModel
    mask : bool array, shape (X, Y, Z)
        Voxels that count; their samples are finite.
    scale : float
        Scale of the series.
    sigma : array, shape () or (X, Y, Z), optional
        As given by the user (`checked_sigma`).
    signed : bool, optional
        As given by the user.

    Returns
    -------
    Noise

    Raises
    ------
    ValueError
        If sigma is not given and the images are no more than the parameters.
    """
    if sigma is not None:
        if signed is None:
            signed = model.magnitude and _share_below(S, mask, -5 * sigma) > SIGNED_SHARE
        return Noise(sigma, "given", bool(signed))
    if S.shape[-1] <= model.num_parameters:
        raise ValueError(
            f"{S.shape[-1]} images leave no residuals to estimate the noise from, since "
            f"{model.name} has {model.num_parameters} parameters. Give the noise with --sigma."
        )
    voxels = np.flatnonzero(mask)
    step = -(-len(voxels) // SIGMA_VOXELS)
    sample = S[np.unravel_index(voxels[::step], mask.shape)]
    choices = [bool(signed)]
    if signed is None and model.magnitude and (sample < 0).mean() > SIGNED_SHARE:
        choices = [False, True]
    sigmas = {c: _residual_sigma(sample, tau, model, c) for c in choices}
    if signed is None:
        limit = -5 * max(min(sigmas.values()), FLOOR * scale)
        signed = len(choices) > 1 and _share_below(S, mask, limit) > SIGNED_SHARE
    found = sigmas[bool(signed)]
    if found < FLOOR * scale:
        floor = np.asarray(FLOOR * scale)
        return Noise(floor, "none found; 1e-4 of the series' scale", bool(signed))
    return Noise(np.asarray(found), "fit residuals", bool(signed))


def checked_sigma(sigma: float | np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Sigma as an array, shape () or that of `mask`.

    Raises
    ------
    ValueError
        If it has another shape, or is not positive and finite in the mask.
    """
    values = np.asarray(sigma, np.float64)
    if values.ndim and values.shape != mask.shape:
        raise ValueError(f"sigma has shape {values.shape}, the images {mask.shape}.")
    inside = values[mask] if values.ndim else values
    if not (np.isfinite(inside) & (inside > 0)).all():
        raise ValueError(
            f"sigma is {inside.min():g}, expected a positive number in the series' unit."
        )
    return values


def _share_below(S: np.ndarray, mask: np.ndarray, limit: float | np.ndarray) -> float:
    """Share of the mask's samples below a limit."""
    below = np.zeros(mask.shape, np.int64)
    for n in range(S.shape[-1]):
        below += S[..., n] < limit
    return float(below[mask].sum() / (mask.sum() * S.shape[-1]))


def _residual_sigma(sample: np.ndarray, tau: np.ndarray, model: SignalModel, signed: bool) -> float:
    fit = fit_voxelwise(sample, tau, model, signed=signed and model.magnitude)
    return estimate_sigma(sample, fit, None, model.num_parameters)
