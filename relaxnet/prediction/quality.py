"""What is made of estimates once they are there: their fit, their trust, and their meaning.

Each step takes maps and gives maps; steps that flag voxels write into the status map.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from relaxnet.fitting.options import FitOptions
from relaxnet.maps.look_locker import true_t1
from relaxnet.maps.maps import Comparison, Maps
from relaxnet.maps.status import (
    DISAGREE,
    NO_CORRECTION,
    OK,
    POOR_FIT,
    UNTRAINED,
    WITHOUT_ESTIMATE,
    disagreement,
    poor_fit,
    well_determined,
)
from relaxnet.maps.warnings import look_locker_b, look_locker_times, stimulated_echoes
from relaxnet.networks.training_domain import Envelope, outside_training
from relaxnet.prediction.estimators import Estimate
from relaxnet.series.noise import Noise
from relaxnet.series.residual_noise import rice_moments
from relaxnet.series.scale import knows_sign, largest_modulus
from relaxsim.models.signal_model import SignalModel


def series_cautions(
    S: np.ndarray, tau: np.ndarray, mask: np.ndarray, sigma: float, model: SignalModel
) -> Iterator[str]:
    """Warnings about the series itself."""
    echoes = stimulated_echoes(S, tau, mask, sigma, model)
    if echoes:
        yield echoes


def flag_untrained(maps: Maps, envelope: Envelope | None) -> Maps:
    """Flag estimates outside the range of the network's training data."""
    if envelope is not None:
        untrained = outside_training(envelope, maps.kappa, maps.model)
        maps.status[(maps.status == OK) & untrained] = UNTRAINED
    return maps


def with_residual(maps: Maps, S: np.ndarray, tau: np.ndarray, noise: Noise, keep: bool) -> Maps:
    """Fill in the root mean square of the residuals in units of sigma, 0 where no estimate.

    With `keep` the maps also get the predicted series, the modulus for a ResNet.
    """
    modulus = maps.signed and not knows_sign(maps.method)
    forward = maps.model.signed if maps.signed and not modulus else maps.model.forward
    sigma = np.broadcast_to(noise.sigma, maps.status.shape)
    done = ~np.isin(maps.status, WITHOUT_ESTIMATE) & (maps.kappa[..., -1] > 0)
    predicted = np.zeros(S.shape, np.float32) if keep else None
    for z in range(S.shape[2]):
        here = done[:, :, z]
        data, signal = S[:, :, z][here], forward(maps.kappa[:, :, z][here], tau, np)
        difference = (np.abs(data) if modulus else data) - signal
        with np.errstate(over="ignore"):
            square = (difference.astype(np.float64) ** 2).mean(-1)
        maps.residual[:, :, z][here] = np.sqrt(square) / sigma[:, :, z][here]
        if predicted is not None:
            predicted[:, :, z][here] = signal
    return replace(maps, predicted=predicted)


def flag_poor_fit(
    maps: Maps, S: np.ndarray, tau: np.ndarray, noise: Noise, fit: FitOptions
) -> Maps:
    """Flag voxels that the estimated signal does not describe (`relaxnet.maps.status.poor_fit`)."""
    fitted = fit.num_fitted(maps.model) if maps.method == "mle" else 0
    ok = maps.status == OK
    sigma = np.broadcast_to(noise.sigma, ok.shape)
    for z in range(S.shape[2]):
        here = ok[:, :, z]
        data, level = S[:, :, z][here], sigma[:, :, z][here]
        residual = maps.residual[:, :, z][here]
        if noise.rician:
            signal = maps.model.forward(maps.kappa[:, :, z][here], tau, np)
            residual = _rician_residual(data, signal, level)
        poor = poor_fit(residual, level, largest_modulus(data), S.shape[-1], fitted)
        maps.status[:, :, z][here] = np.where(poor, POOR_FIT, OK)
    return maps


def _rician_residual(S: np.ndarray, signal: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Root mean square over images of what magnitudes (n, N) differ from what noise makes of them.

    Each in units of its own standard deviation: near the noise floor a magnitude lies above its
    signal, by more than sigma and more narrowly spread.
    """
    level = sigma[:, None]
    with np.errstate(over="ignore", invalid="ignore"):
        mean, variance = rice_moments(signal / level)
        return np.sqrt(((S / level - mean) ** 2 / variance).mean(axis=-1))


def compared(maps: Maps, fit: Estimate) -> Maps:
    """Flag voxels in which an estimate disagrees with a well-determined voxel-wise fit.

    Parameters
    ----------
    maps : Maps
    fit : Estimate
        Of the fit, on the same grid.

    Raises
    ------
    ValueError
        If the fit has no standard deviations.
    """
    if fit.std is None:
        raise ValueError("a fit to compare with needs standard deviations")
    T, T_fit = maps.kappa[..., -1], fit.kappa[..., -1].astype(np.float64)
    std = fit.std[..., -1].astype(np.float64)
    there = ~np.isin(maps.status, WITHOUT_ESTIMATE)
    known = there & well_determined(T_fit, std, fit.status)
    differs = np.zeros(known.shape, bool)
    differs[known] = disagreement(T[known], T_fit[known], std[known])
    maps.status[differs & (maps.status == OK)] = DISAGREE
    relative = T[known] / T_fit[known] - 1.0
    comparison = Comparison(
        checked=float(known.sum() / max(there.sum(), 1)),
        difference=float(np.median(relative)) if relative.size else float("nan"),
        disagree=float(differs.sum() / max(known.sum(), 1)),
    )
    return replace(maps, comparison=comparison)


def corrected(maps: Maps, tau: np.ndarray) -> Maps:
    """Maps with T1 for the apparent T1* of a Look-Locker readout."""
    likelihood = "rician" if maps.rician else "gaussian"
    told = maps.kappa, maps.std, tau, maps.model, maps.sigma, likelihood
    kappa, std, refused = true_t1(*told)
    maps.status[refused & ~np.isin(maps.status, WITHOUT_ESTIMATE)] = NO_CORRECTION
    warnings = maps.warnings
    if maps.method != "mle":
        warnings += (
            "the network knows B up to 2, a Look-Locker readout has more: T1 is too short",
        )
    return replace(maps, kappa=kappa, std=std, look_locker=True, warnings=warnings)


def told_apparent(maps: Maps, tau: np.ndarray, mask: np.ndarray) -> Maps:
    """Maps with a note if T1 looks like the apparent one of a Look-Locker readout."""
    sentence = None
    if maps.method == "mle" and "B" in maps.model.parameters:
        b = maps.model.parameters.index("B")
        sound = mask & (maps.status == OK)
        std = None if maps.std is None else maps.std[..., b]
        sentence = look_locker_b(maps.kappa[..., b], std, sound)
    sentence = sentence or look_locker_times(tau, maps.model)
    return maps if sentence is None else replace(maps, notes=(*maps.notes, sentence))
