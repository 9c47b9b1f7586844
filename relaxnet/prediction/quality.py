"""Steps that complete maps after the estimation: residuals, flags, comparison, correction, notes.

Each takes maps and gives new ones.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from relaxnet.fitting.options import FitOptions
from relaxnet.maps.correction import corrected as corrected_estimates
from relaxnet.maps.correction import correction_of
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
from relaxnet.networks.training_domain import Envelope, outside_training
from relaxnet.prediction.estimators import Estimate
from relaxnet.prediction.inspection import Inspected
from relaxnet.series.residual_noise import rice_moments


def series_caution(found: Inspected) -> str | None:
    """Warning about the series itself, by its signal model."""
    check = found.model.border.caution.of_series
    if check is None or found.series.protocol.ndim > 2:
        return None
    return check(found.series.S, found.series.protocol, found.counted, found.typical_sigma)


def flag_untrained(maps: Maps, envelope: Envelope | None) -> Maps:
    """Flag estimates outside the range of the network's training data."""
    if envelope is None:
        return maps
    return _flagged(maps, outside_training(envelope, maps.kappa, maps.model), UNTRAINED)


def _flagged(maps: Maps, where: np.ndarray, code: int) -> Maps:
    """Maps with another status at voxels that were OK."""
    status = np.where(where & (maps.status == OK), code, maps.status)
    return replace(maps, status=status.astype(np.uint8))


def with_residual(maps: Maps, found: Inspected, keep: bool) -> Maps:
    """Fill in the root mean square of the residuals in units of sigma, 0 where no estimate.

    With `keep` the maps also get the predicted series, the modulus if the method took that.
    """
    S, sigma = found.series.S, np.broadcast_to(found.noise.sigma, maps.status.shape)
    done = ~np.isin(maps.status, WITHOUT_ESTIMATE) & (maps.main > 0)
    residual = np.zeros(maps.status.shape, np.float32)
    predicted = np.zeros(S.shape, np.float32) if keep else None
    for z in range(S.shape[2]):
        here = done[:, :, z]
        voxels, kappa = found.of_slice(z, here), maps.kappa[:, :, z][here]
        signed = maps.data.signed and not maps.data.modulus
        signal = voxels.signed(kappa) if signed else voxels.forward(kappa)
        difference = (np.abs(voxels.S) if maps.data.modulus else voxels.S) - signal
        with np.errstate(over="ignore"):
            square = (difference.astype(np.float64) ** 2).mean(-1)
        residual[:, :, z][here] = np.sqrt(square) / sigma[:, :, z][here]
        if predicted is not None:
            predicted[:, :, z][here] = signal
    return replace(maps, residual=residual, predicted=predicted)


def flag_poor_fit(maps: Maps, found: Inspected, fit: FitOptions) -> Maps:
    """Flag voxels that the estimated signal does not describe (`relaxnet.maps.status.poor_fit`)."""
    fitted = fit.num_fitted(maps.model) if maps.fit is not None else 0
    ok = maps.status == OK
    sigma = np.broadcast_to(found.noise.sigma, ok.shape)
    poor = np.zeros(ok.shape, bool)
    for z in range(ok.shape[2]):
        here = ok[:, :, z]
        level, residual = sigma[:, :, z][here], maps.residual[:, :, z][here]
        if found.noise.rician:
            voxels = found.of_slice(z, here)
            signal = voxels.forward(maps.kappa[:, :, z][here])
            residual = _rician_residual(voxels.S, signal, level)
        largest = found.images.largest[:, :, z][here]
        poor[:, :, z][here] = poor_fit(residual, level, largest, found.series.S.shape[-1], fitted)
    return _flagged(maps, poor, POOR_FIT)


def _rician_residual(S: np.ndarray, signal: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Root mean square over images of magnitudes (n, N) less the mean that noise gives them.

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
    T, T_fit = maps.main, fit.kappa[..., -1].astype(np.float64)
    std = fit.std[..., -1].astype(np.float64)
    estimated = ~np.isin(maps.status, WITHOUT_ESTIMATE)
    checked = estimated & well_determined(T_fit, std, fit.status)
    differs = np.zeros(checked.shape, bool)
    differs[checked] = disagreement(T[checked], T_fit[checked], std[checked])
    relative = T[checked] / T_fit[checked] - 1.0
    comparison = Comparison(
        checked=float(checked.sum() / max(estimated.sum(), 1)),
        difference=float(np.median(relative)) if relative.size else float("nan"),
        disagree=float(differs.sum() / max(checked.sum(), 1)),
    )
    return replace(_flagged(maps, differs, DISAGREE), comparison=comparison)


def corrected(maps: Maps, found: Inspected) -> Maps:
    """Maps with the corrected main parameter, such as T1 for the apparent T1*."""
    likelihood = "rician" if maps.data.rician else "gaussian"
    series = found.series
    of_estimate = corrected_estimates(
        *(maps.kappa, maps.std, series.protocol, maps.model, maps.sigma, likelihood, series.known)
    )
    refused = of_estimate.refused & ~np.isin(maps.status, WITHOUT_ESTIMATE)
    warnings, correction = maps.warnings, correction_of(maps.model)
    if maps.fit is None and correction.needs_fit:
        warnings += (f"`{correction.argument}` {correction.needs_fit}",)
    return replace(
        maps,
        kappa=of_estimate.kappa,
        std=of_estimate.std,
        status=np.where(refused, NO_CORRECTION, maps.status).astype(np.uint8),
        corrected=True,
        warnings=warnings,
    )


def with_cautions(maps: Maps, found: Inspected) -> Maps:
    """Maps with a note where estimates or protocol are those of a readout that needs correction."""
    caution, sentence = maps.model.border.caution, None
    if maps.fit is not None and caution.of_estimate is not None:
        sound = found.counted & (maps.status == OK)
        sentence = caution.of_estimate(maps.kappa, maps.std, sound)
    if sentence is None and caution.of_protocol is not None:
        sentence = caution.of_protocol(found.series.protocol)
    return maps if sentence is None else replace(maps, notes=(*maps.notes, sentence))
