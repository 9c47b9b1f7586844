"""Steps that complete maps after the estimation: residuals, flags, comparison, notes.

Each takes maps and gives new ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from relaxnet.fitting.inputs import fit_bounds
from relaxnet.fitting.options import FitOptions, shared_words
from relaxnet.fitting.result import CONVERGED
from relaxnet.maps.maps import Comparison, Maps
from relaxnet.maps.status import (
    AT_BOUND,
    DISAGREE,
    MISFIT,
    MISFIT_EVERYWHERE,
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
from relaxnet.prediction.implied_tr import implied_by_fit
from relaxnet.prediction.inspection import Inspected
from relaxnet.prediction.other_models import with_other_names, with_sequence
from relaxnet.series.image_faults import image_words
from relaxnet.series.noise import Misfit
from relaxnet.series.residual_noise import rice_moments
from relaxnet.series.sample import Sample

#: Images are lifted by a floor if the median of the voxels' smallest is below so many times that.
LIFTED_BELOW = 3.0
#: Residuals are said to exceed the noise from so many times of it up.
EXCEED = 1.05
#: A note names a bound if a parameter lies at it in this share of the voxels.
MANY_AT_BOUND = 0.05
#: A parameter lies at a bound within this part of the bounds' width: what float32 keeps of it.
AT_BOUND_NEAR = 1e-5
#: Largest value of the residual map; where sigma is next to nothing, the quotient lies beyond.
LARGEST_RESIDUAL = float(np.finfo(np.float32).max)
#: Voxels of the fit that tells what a network's estimates do not.
FREE_FIT_VOXELS = 1_000


def series_caution(found: Inspected) -> str | None:
    """Warning about the series itself, by its signal model."""
    check = found.model.border.caution.of_series
    if check is None or found.series.protocol.ndim > 2:
        return None
    sentence = check(found.series.S, found.series.protocol, found.counted, found.typical_sigma)
    remedy = found.model.border.caution.remedy
    return f"{sentence}{with_sequence(found, remedy)}" if sentence and remedy else sentence


def fault_warnings(found: Inspected) -> Iterator[str]:
    """Warnings of samples that were cut, a floor of several receivers, a misfit everywhere."""
    caution, main = found.model.border.caution, found.model.main_label
    for cut in found.cuts:
        if cut.share > 0:
            yield cut.sentence
    floor = found.images.air.floor
    if floor is not None and found.noise.rician:
        here = found.counted
        smallest = float(np.median(np.abs(found.series.S[here]).min(axis=-1)))
        largest = float(np.median(found.images.largest[here]))
        if smallest < LIFTED_BELOW * floor:
            yield (
                f"the images are the root of squares of several receivers, whose floor of "
                f"{floor:.4g} is {100 * floor / largest:.0f} % of the largest signal: faint images "
                f"are lifted, and {main} is off{_in_brackets(caution.of_floor)}. Combine the "
                "receivers adaptively, or leave out images near the floor"
            )
    if found.noise.misfit is not None and not found.noise.misfit.slight:
        misfit = found.noise.misfit
        exceed = (
            f" exceed the noise ({misfit.ratio:.1f} times) and" if misfit.ratio > EXCEED else ""
        )
        yield (
            f"the residuals of a fit{exceed} go one way in all voxels: "
            f"{_off_the_fit(found, misfit)}. The model misses something, and {main} is off"
            f"{_in_brackets(caution.of_misfit)}{with_other_names(found)}"
        )


def course_notes(found: Inspected) -> tuple[str, ...]:
    """Note of a slight misfit that all voxels share."""
    misfit = found.noise.misfit
    if misfit is None or not misfit.slight:
        return ()
    return (
        f"{_off_the_fit(found, misfit)} in all voxels alike, which is more than noise: "
        f"{found.model.main_label} may be off by more than its standard deviation (docs/trust.md)",
    )


def _off_the_fit(found: Inspected, misfit: Misfit) -> str:
    """How far the image that is furthest from the fit lies from it."""
    n = int(np.abs(misfit.course).argmax())
    row = image_words(n, found.series.protocol, found.model)
    side = "above" if misfit.course[n] > 0 else "below"
    size = 100 * abs(misfit.course[n])
    return f"image {n + 1} ({row}) lies {size:.1f} % of the signal {side} the fit"


def _in_brackets(words: str) -> str:
    return f" ({words})" if words else ""


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
            relative = np.sqrt(square) / sigma[:, :, z][here]
        residual[:, :, z][here] = np.minimum(relative, LARGEST_RESIDUAL)
        if predicted is not None:
            predicted[:, :, z][here] = signal
    return replace(maps, residual=residual, predicted=predicted)


def flag_poor_fit(maps: Maps, found: Inspected, fit: FitOptions) -> Maps:
    """Flag voxels that the estimated signal does not describe (`relaxnet.maps.status.poor_fit`)."""
    fitted = fit.num_fitted(maps.model) if maps.fit is not None else 0
    ok = maps.status == OK
    sigma = np.broadcast_to(found.noise.sigma, ok.shape)
    poor = np.zeros(ok.shape, bool)
    misfit = found.noise.misfit
    visible = MISFIT if misfit is None or misfit.slight else MISFIT_EVERYWHERE
    for z in range(ok.shape[2]):
        here = ok[:, :, z]
        level, residual = sigma[:, :, z][here], maps.residual[:, :, z][here]
        if found.noise.rician:
            voxels = found.of_slice(z, here)
            signal = voxels.forward(maps.kappa[:, :, z][here])
            residual = _rician_residual(voxels.S, signal, level)
        largest = found.images.largest[:, :, z][here]
        N = found.series.S.shape[-1]
        poor[:, :, z][here] = poor_fit(residual, level, largest, N, fitted, visible)
    for cut in found.cuts:
        poor |= cut.voxels
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


def with_bound_note(maps: Maps, found: Inspected) -> Maps:
    """Maps with a note that names the bound at which a fit's parameter lies in many voxels.

    With a repetition time, the parameters that are bounded are others than those of the maps.
    """
    if maps.fit is None or maps.fit.options.tr is not None:
        return maps
    here = found.counted & found.inside
    kappa = maps.kappa[here & (maps.status == AT_BOUND)].astype(np.float64)
    limits = fit_bounds(maps.model, maps.fit.options.bounds)
    names, units = maps.model.parameters, maps.model.units
    notes = []
    for q, (low, high) in enumerate(limits):
        if units[q] == "a.u." or not high > low:
            continue
        near = AT_BOUND_NEAR * (high - low)
        for side, bound, at in (
            ("lower", low, kappa[:, q] <= low + near),
            ("upper", high, kappa[:, q] >= high - near),
        ):
            share = at.sum() / max(here.sum(), 1)
            if share >= MANY_AT_BOUND:
                unit = "" if units[q] == "1" else f" {units[q]}"
                notes.append(
                    f"{names[q]} lies at its {side} bound {bound:g}{unit} in {100 * share:.0f} % "
                    "of voxels; `bounds` widens it"
                )
    return replace(maps, notes=(*maps.notes, *notes))


def _free_fit(found: Inspected) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Voxel-wise fit of some voxels: kappa (n, Q), std (n, Q), and whether it is sound (n,)."""
    voxels = np.nonzero(found.counted & found.inside)
    step = -(-len(voxels[0]) // FREE_FIT_VOXELS)
    index = tuple(v[::step] for v in voxels)
    sigma = np.broadcast_to(found.noise.sigma, found.status.shape)[index]
    typical = float(np.median(sigma))
    sample = Sample.of(found.series, index)
    fit = sample.of_other_images(sample.S * (typical / sigma)[:, None]).fit(
        typical, found.noise.signed
    )
    return fit.kappa, fit.std, fit.status == CONVERGED


def _with_implied_tr(maps: Maps, found: Inspected) -> Maps:
    """Maps with a warning where a repetition time that is not given makes neighbours differ.

    Networks, and fits that share a parameter or make it smooth, take it for one of all tissues.
    """
    model, table = maps.model, found.series.protocol
    shares = maps.fit is None or (maps.fit.options.is_joint and maps.fit.options.tr is None)
    enough = found.series.S.shape[-1] > model.num_parameters
    if not shares or model.finite_tr is None or not enough or table.ndim > 2:
        return maps
    kappa, _, sound = _free_fit(found)
    tr = implied_by_fit(kappa[sound], table, found.typical_sigma, model)
    if tr is None:
        return maps
    name, main = shared_words(model), model.main_label
    warning = (
        f"{name} falls from {tr.low:.2f} to {tr.high:.2f} as {main} rises, as with a repetition "
        f"time of about {tr.tr:.0f} ms, which is not taken into account: {main} is off where "
        f"{name} is shared. Take `method` mle with `tr`"
    )
    return replace(maps, warnings=(*maps.warnings, warning))


def with_cautions(maps: Maps, found: Inspected) -> Maps:
    """Maps with a note where estimates or protocol are those of a readout of another sequence.

    What estimates of a network tell, or those of a fit whose shared parameter is not free, is
    asked of a voxel-wise fit of some voxels.
    """
    caution, sentence = maps.model.border.caution, None
    maps = _with_implied_tr(maps, found)
    if caution.of_estimate is not None:
        if maps.fit is not None and not maps.fit.options.is_joint:
            sound = found.counted & (maps.status == OK)
            estimates = maps.kappa, maps.std, sound
        elif found.series.S.shape[-1] > maps.model.num_parameters:
            estimates = _free_fit(found)
        else:
            estimates = maps.kappa, None, found.counted
        sentence = caution.of_estimate(*estimates)
    if sentence is None and caution.of_protocol is not None:
        sentence = caution.of_protocol(found.series.protocol)
    return maps if sentence is None else replace(maps, notes=(*maps.notes, sentence))
