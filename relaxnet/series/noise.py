"""Noise of a series: its standard deviation, and whether the images carry the signal's sign."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from relaxnet.fitting.inputs import Measurement
from relaxnet.series.air_noise import AirNoise
from relaxnet.series.images import Images
from relaxnet.series.residual_noise import (
    VOXELS,
    ResidualNoise,
    residual_noise,
    residual_sigma,
)
from relaxnet.series.sample import Sample

#: Data are signed if more than this share of samples lies below this many sigma.
SIGNED_SHARE, SIGNED_BELOW = 0.01, -5.0
#: Least sigma in units of the scale. The likelihood of a noise-free series needs some noise, far
#: below what matters.
FLOOR = 1e-4
#: Background and residuals agree within this factor; then the background counts.
AGREE = 1.25
#: Residuals count against the background if they are chi-squared distributed within this.
NOISE_ALONE = 0.06
#: Beside clean air, residuals of a slight excess are a misfit: excess power and ratio to the noise,
#: and the course's part of the signal.
SLIGHT_EXCESS, SLIGHT_RATIO, SLIGHT_COURSE = 0.06, 1.03, 0.005
#: A certain course is a misfit from this part of the signal up, and worth a note from that one up.
MISFIT_COURSE, NOTED_COURSE = 0.03, 0.005
#: Residuals contradict a given sigma if they are this many times larger or smaller; below the least
#: ratio the data have no noise to speak of, or sigma another unit.
CONTRADICTED, NOISELESS = 1.4, 0.02
#: Residuals show that a sigma is too large only with this many degrees of freedom a voxel and in
#: all: of a magnitude with fewer, what fits best takes noise for signal.
ENOUGH_FREEDOM = (2, 500)
#: Share of negative samples that magnitudes may have.
NEGATIVE_SHARE = 1e-3
#: Voxels whose residuals are compared with a given sigma; a third of those that sigma is estimated
#: from without one.
FEWER_VOXELS = VOXELS // 3


class SigmaSource(Enum):
    """Where a noise standard deviation comes from; the value goes into sidecars."""

    GIVEN = "given"
    MAP = "map"
    AIR = "air"
    RESIDUALS = "residuals"
    FLOOR = "floor"


class SigmaReason(Enum):
    """Why the noise of air or residuals was taken; the value goes into sidecars."""

    NO_RESIDUALS = "no residuals"
    AIR_UNUSABLE = "air unusable"
    BOTH_AGREE = "both agree"
    FEW_RESIDUALS = "few residuals"
    AIR_NOISIER = "air noisier than tissue"
    NOISE_ALONE = "noise alone"
    MODEL_MISFIT = "model misfit"
    WITHOUT_COURSE = "residuals without what all voxels share"
    CONTRADICTED = "given sigma contradicted"


@dataclass(frozen=True)
class NoiseSource:
    """How a noise standard deviation was found.

    Attributes
    ----------
    source : SigmaSource
    reason : SigmaReason, optional
        Why air or residuals were taken.
    air : AirNoise, optional
        Noise of the air, where it was searched for.
    residual_sigma : float, optional
        Noise of the residuals of a voxel-wise fit, in the unit of the series.
    given_sigma : float, optional
        That of the user, of a map its median, where residuals took its place.
    """

    source: SigmaSource
    reason: SigmaReason | None = None
    air: AirNoise | None = None
    residual_sigma: float | None = None
    given_sigma: float | None = None

    def __str__(self) -> str:
        """Words of it."""
        if self.source in (SigmaSource.GIVEN, SigmaSource.MAP):
            return "given"
        if self.source is SigmaSource.FLOOR:
            return "none found; 1e-4 of the series' scale"
        if self.reason is SigmaReason.CONTRADICTED:
            return f"fit residuals, which contradict the {self.given_sigma:.4g} given"
        assert self.air is not None
        assert self.reason is not None
        if self.reason is SigmaReason.NO_RESIDUALS:
            return self.air.words
        if self.reason is SigmaReason.AIR_UNUSABLE:
            return f"fit residuals; {self.air.words}"
        if self.reason is SigmaReason.WITHOUT_COURSE:
            return (
                f"fit residuals without the course over the images that all voxels share (with it "
                f"{self.residual_sigma:.4g}); {self.air.words}"
            )
        if self.reason is SigmaReason.BOTH_AGREE:
            return f"{self.air.words}; fit residuals say {self.residual_sigma:.4g}"
        both = f"{self.air.words}: {self.air.sigma:.4g}; fit residuals: {self.residual_sigma:.4g}"
        return f"{_REASONS[self.reason]}; {both}"


_REASONS = {
    SigmaReason.FEW_RESIDUALS: "background, since residuals of so few samples say little",
    SigmaReason.AIR_NOISIER: "fit residuals, since the background is noisier than tissue",
    SigmaReason.NOISE_ALONE: "fit residuals, since noise alone explains them",
    SigmaReason.MODEL_MISFIT: "background, since the model does not describe all tissue",
}


@dataclass(frozen=True)
class Misfit:
    """What the model misses in all of the tissue.

    Attributes
    ----------
    ratio : float
        Residuals of a fit over the noise.
    course : array, shape (N,)
        Residual of each image that the voxels share, relative to their largest modulus.
    slight : bool
        It is certain, but a small part of the signal.
    """

    ratio: float
    course: np.ndarray
    slight: bool = False

    @classmethod
    def of(cls, residuals: ResidualNoise, sigma: float, clean_air: bool = False) -> Misfit | None:
        """That of residuals that share a course; None of others.

        It counts if it is a large part of the signal, or if the residuals exceed the noise. Clean
        air tells a slight excess from a wrong sigma, so that there a course will do.
        """
        course, ratio = residuals.course, residuals.sigma / sigma
        if clean_air:
            found = course.excess > SLIGHT_EXCESS and ratio > SLIGHT_RATIO
            found &= course.largest > SLIGHT_COURSE
        else:
            found = course.exists and ratio > AGREE
        if found or (course.certain and course.largest > MISFIT_COURSE):
            return cls(ratio, course.course)
        noted = course.certain and course.largest > NOTED_COURSE
        return cls(ratio, course.course, slight=True) if noted else None


@dataclass(frozen=True)
class Noise:
    """Noise of a series.

    Attributes
    ----------
    sigma : array, shape () or (X, Y, Z)
        Standard deviation in the unit of the series.
    source : NoiseSource
        How it was found.
    signed : bool
        The images carry the signal's sign.
    rician : bool
        They are magnitudes, of which (nearly) none is negative.
    misfit : Misfit, optional
        What the model misses in all of the tissue.
    """

    sigma: np.ndarray
    source: NoiseSource
    signed: bool
    rician: bool
    misfit: Misfit | None = None


@dataclass(frozen=True)
class Contradiction:
    """A given sigma that the residuals of a fit contradict.

    Attributes
    ----------
    given, found : float
        Sigma as given, of a map its median, and that of the residuals; in the series' unit.
    other_unit : bool
        The two are so far apart that the given one may be in another unit.
    kept : bool
        The given one is used.
    """

    given: float
    found: float
    other_unit: bool
    kept: bool

    def __str__(self) -> str:
        """One line to warn with."""
        words = f"sigma is given as {self.given:.4g}, the residuals of a fit say {self.found:.4g}"
        if self.other_unit:
            return f"{words}: is it in the unit of the images? It is used as it is"
        if self.kept:
            return f"{words}: estimates and uncertainties suffer if it is wrong (docs/noise.md)"
        return f"{words}, which is used (docs/noise.md); `force` keeps the given one"


def find_noise(
    series: Measurement,
    scale: float,
    signed: bool | None = None,
    images: Images | None = None,
) -> Noise:
    """What is not given of a series' noise: its standard deviation, and whether it is signed.

    Sigma is estimated from the air around the object (`relaxnet.series.air_noise`) and from the
    residuals of a voxel-wise fit (`relaxnet.series.residual_noise`):

    - clean air, and residuals within a factor of 1.25 of it: the air;
    - no clean air: the residuals, without a course over the images that all voxels share
      (`relaxnet.series.shared_course`) where that dominates: it is no noise;
    - residuals larger: they count if noise alone explains them (chi-squared, and without such a
      course; the air was then suppressed, or the noise is amplified inside), otherwise the model
      does not describe the tissue and the air counts;
    - residuals smaller: they count if they are many (`ENOUGH_FREEDOM`); the air holds more than the
      noise of the tissue;
    - no more images than parameters: the air.

    Data of a model of the modulus are taken as signed if more than 1 % of the mask's samples lie
    below -5 sigma; if they are given as magnitudes, they are refused. Unless they are given as
    signed or no samples are negative, sigma is the smaller one of a fit to the modulus and a fit to
    signed data: the wrong one leaves the larger residuals.

    Parameters
    ----------
    series : Measurement
        Images (X, Y, Z, N) of the whole field of view, with their protocol and known maps; sigma as
        given by the user (`checked_sigma`) or None; the mask holds voxels that count, whose samples
        are finite. Its `signed` has no meaning here.
    scale : float
        Scale of the series.
    signed : bool, optional
        As given by the user.
    images : Images, optional
        Those of the series, if something has been found in them before.

    Returns
    -------
    Noise

    Raises
    ------
    ValueError
        If sigma is not given, there is no clean air, and the images are no more than the
        parameters; or if data that carry a sign are given as magnitudes.
    """
    model, mask = series.model, _mask(series)
    if series.sigma is not None:
        sigma = np.asarray(series.sigma)
        signed = _carries_sign(series, _sign_limit(series, sigma, signed), signed)
        rician = not signed and _share_below(series.S, mask, 0.0) <= NEGATIVE_SHARE
        source = NoiseSource(SigmaSource.MAP if sigma.ndim else SigmaSource.GIVEN)
        return Noise(sigma, source, bool(signed), rician)
    air = (images or Images(series.S)).air
    if series.S.shape[-1] <= model.num_parameters:
        return _noise_of_air(series, air, signed)
    sample = Sample.of(series, _thinned(mask, VOXELS))
    rician = air.kind == "Rayleigh" if air.kind else is_rician(sample.S)
    choices = [bool(signed)]
    if not signed and model.magnitude and (sample.S < 0).mean() > SIGNED_SHARE:
        choices = [False, True]
    found = [residual_noise(sample, c, rician) for c in choices]
    least = min(found, key=lambda noise: noise.sigma)
    if len(choices) > 1:
        limit = np.asarray(SIGNED_BELOW * max(least.sigma, FLOOR * scale))
        signed = _carries_sign(series, limit, signed)
    level, source = _more_trustworthy(air, least, _enough_freedom(sample))
    if level < FLOOR * scale:
        source = replace(source, source=SigmaSource.FLOOR, reason=None)
        level = FLOOR * scale
    misfit = Misfit.of(least, level, source.source is SigmaSource.AIR)
    return Noise(np.asarray(level), source, bool(signed), rician and not signed, misfit)


def _mask(series: Measurement) -> np.ndarray:
    """Voxels that count."""
    return np.ones(series.S.shape[:-1], bool) if series.mask is None else series.mask


def _sign_limit(series: Measurement, sigma: np.ndarray, signed: bool | None) -> np.ndarray:
    """Value below which samples carry a sign: five of the sigma given or, if too small, found.

    Noise on a modulus goes below five of a sigma that is ten times too small.
    """
    limit = SIGNED_BELOW * sigma
    model, mask = series.model, _mask(series)
    settled = signed or not model.magnitude or series.S.shape[-1] <= model.num_parameters
    if settled or _share_below(series.S, mask, limit) <= SIGNED_SHARE:
        return limit
    sample = Sample.of(series, _thinned(mask, VOXELS))
    found = [residual_sigma(sample, c, is_rician(sample.S))[0] for c in (False, True)]
    return np.minimum(limit, SIGNED_BELOW * min(found))


def _carries_sign(series: Measurement, limit: np.ndarray, signed: bool | None) -> bool:
    """Whether data carry a sign: as given, otherwise by the samples below `limit`."""
    if signed or not series.model.magnitude:
        return bool(signed)
    share = _share_below(series.S, _mask(series), limit)
    if share > SIGNED_SHARE and signed is not None:
        raise ValueError(
            f"the data are given as magnitudes, but {100 * share:.0f} % of the mask's samples are "
            "negative by more than noise: they carry a sign. Leave it to be found, or give moduli."
        )
    return bool(share > SIGNED_SHARE)


def is_rician(samples: np.ndarray) -> bool:
    """Whether samples may be magnitudes, of which only resampling makes a few negative."""
    return float((samples < 0).mean()) <= NEGATIVE_SHARE


def settle_sigma(
    series: Measurement, noise: Noise, keep: bool = False
) -> tuple[Noise, Contradiction | None]:
    """The noise to go by where the residuals of a voxel-wise fit contradict a sigma that was given.

    It is then scaled to the residuals, unless it is to be kept; half or twice the true sigma costs
    a network up to half of its precision. Larger residuals contradict it only if noise alone
    explains them; else the model is at fault. One that is fifty times too large or more is kept,
    with a question: it may be in another unit, or the data free of noise.

    Parameters
    ----------
    series : Measurement
        As for `find_noise`.
    noise : Noise
    keep : bool
        Go by the given one in any case.

    Returns
    -------
    noise : Noise
    contradiction : Contradiction or None
    """
    given = noise.source.source in (SigmaSource.GIVEN, SigmaSource.MAP)
    if not given or series.S.shape[-1] <= series.model.num_parameters:
        return noise, None
    mask = _mask(series)
    voxels = _thinned(mask, FEWER_VOXELS)
    sigma = np.broadcast_to(noise.sigma, mask.shape)[voxels]
    typical = float(np.median(sigma))
    sample = Sample.of(series, voxels)
    # Of a map of sigma, in units in which it is the same everywhere.
    sample = sample.of_other_images(sample.S * (typical / sigma)[:, None])
    residuals = residual_noise(sample, noise.signed, noise.rician)
    found = residuals.sigma
    noise = replace(noise, misfit=Misfit.of(residuals, typical))
    ratio = found / typical
    alone = residuals.misfit < NOISE_ALONE and not residuals.course.exists
    too_large = ratio < 1 / CONTRADICTED and _enough_freedom(sample)
    if not too_large and not (ratio > CONTRADICTED and alone):
        return noise, None
    if ratio < NOISELESS:
        noiseless = found < FLOOR * float(np.abs(sample.S).max())  # as of a simulation
        return noise, None if noiseless else Contradiction(typical, found, True, True)
    if keep:
        return noise, Contradiction(typical, found, False, True)
    source = replace(
        noise.source,
        source=SigmaSource.RESIDUALS,
        reason=SigmaReason.CONTRADICTED,
        residual_sigma=found,
        given_sigma=typical,
    )
    settled = replace(noise, sigma=noise.sigma * ratio, source=source)
    return settled, Contradiction(typical, found, False, False)


def _enough_freedom(sample: Sample) -> bool:
    """Whether the residuals of a sample suffice to show that there is less noise."""
    freedom = sample.num_images - sample.model.num_parameters
    return freedom >= ENOUGH_FREEDOM[0] and freedom * len(sample.S) >= ENOUGH_FREEDOM[1]


def _thinned(mask: np.ndarray, most: int) -> tuple[np.ndarray, ...]:
    """Indices of at most `most` of a mask's voxels, evenly."""
    voxels = np.flatnonzero(mask)
    return np.unravel_index(voxels[:: -(-len(voxels) // most) or 1], mask.shape)


def _noise_of_air(series: Measurement, air: AirNoise, signed: bool | None) -> Noise:
    """Noise of a series of no more images than parameters."""
    if air.sigma is None:
        raise ValueError(
            f"{series.S.shape[-1]} images leave no residuals to estimate the noise from, since "
            f"{series.model.name} has {series.model.num_parameters} parameters ({air.words}). "
            "Give the noise with `sigma`."
        )
    signed = _carries_sign(series, np.asarray(SIGNED_BELOW * air.sigma), signed)
    rician = air.kind == "Rayleigh" and not signed
    source = NoiseSource(SigmaSource.AIR, SigmaReason.NO_RESIDUALS, air)
    return Noise(np.asarray(air.sigma), source, bool(signed), rician)


def _more_trustworthy(
    air: AirNoise, residuals: ResidualNoise, many_residuals: bool
) -> tuple[float, NoiseSource]:
    """Sigma and its source, by the rule of `find_noise`."""
    residual = residuals.sigma

    def of(source: SigmaSource, reason: SigmaReason) -> tuple[float, NoiseSource]:
        level = residuals.noise if source is SigmaSource.RESIDUALS else air.sigma
        assert level is not None
        return level, NoiseSource(source, reason, air, residual)

    if air.sigma is None:
        shared = residuals.course.dominates and residuals.noise < residual / AGREE
        reason = SigmaReason.WITHOUT_COURSE if shared else SigmaReason.AIR_UNUSABLE
        return of(SigmaSource.RESIDUALS, reason)
    ratio = residual / air.sigma
    if 1 / AGREE <= ratio <= AGREE:
        return of(SigmaSource.AIR, SigmaReason.BOTH_AGREE)
    if ratio < 1 and not many_residuals:
        return of(SigmaSource.AIR, SigmaReason.FEW_RESIDUALS)
    if ratio < 1:
        return of(SigmaSource.RESIDUALS, SigmaReason.AIR_NOISIER)
    if residuals.misfit < NOISE_ALONE and not residuals.course.exists:
        return of(SigmaSource.RESIDUALS, SigmaReason.NOISE_ALONE)
    return of(SigmaSource.AIR, SigmaReason.MODEL_MISFIT)


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
    inside = values[mask] if values.ndim else values.reshape(1)
    bad = inside[~(np.isfinite(inside) & (inside > 0))]
    if bad.size:
        where = f" in {bad.size} of {inside.size} voxels of the mask" if values.ndim else ""
        raise ValueError(
            f"sigma is {bad[0]:g}{where}, expected a positive number in the series' unit."
        )
    return values


def _share_below(S: np.ndarray, mask: np.ndarray, limit: float | np.ndarray) -> float:
    """Share of the mask's samples below a limit."""
    below = np.zeros(mask.shape, np.int64)
    with np.errstate(over="ignore", invalid="ignore"):  # a limit beyond float32 is infinite
        for n in range(S.shape[-1]):
            below += S[..., n] < limit
    return float(below[mask].sum() / (mask.sum() * S.shape[-1]))
