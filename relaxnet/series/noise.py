"""Noise of a series: its standard deviation, and whether the images carry the signal's sign."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from relaxnet.series.air_noise import Background, background_noise
from relaxnet.series.residual_noise import VOXELS, residual_sigma
from relaxsim.models.signal_model import SignalModel

#: Data are signed if more than this share of samples lies below -5 sigma.
SIGNED_SHARE = 0.01
#: Least sigma in units of the scale. The likelihood of a noise-free series needs some noise, far
#: below what matters.
FLOOR = 1e-4
#: Background and residuals agree within this factor; then the background counts.
AGREE = 1.25
#: Residuals count against the background if they are chi-squared distributed within this.
NOISE_ALONE = 0.06
#: Residuals contradict a given sigma if they are this many times larger or smaller; below the least
#: ratio the data have no noise to speak of, or sigma another unit.
CONTRADICTED, NOISELESS = 1.4, 0.02
#: Residuals say that a sigma is too large only if they have this many degrees of freedom a voxel
#: and in all: of a magnitude with fewer, what fits best takes noise for signal.
ENOUGH_FREEDOM = (2, 500)
#: Share of negative samples that magnitudes may have.
NEGATIVE_SHARE = 1e-3
#: Voxels that tell such factors; a third of those that sigma itself is found from.
FEWER_VOXELS = VOXELS // 3


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
    rician : bool
        They are magnitudes, of which (nearly) none is negative.
    """

    sigma: np.ndarray
    source: str
    signed: bool
    rician: bool


def find_noise(
    S: np.ndarray,
    tau: np.ndarray,
    model: SignalModel,
    mask: np.ndarray,
    scale: float,
    sigma: np.ndarray | None = None,
    signed: bool | None = None,
) -> Noise:
    """What is not given of a series' noise: its standard deviation, and whether it is signed.

    Sigma is looked for in the air around the object (`relaxnet.series.air_noise`) and in the
    residuals of a voxel-wise fit (`relaxnet.series.residual_noise`):

    - clean air, and residuals within a factor of 1.25 of it: the air;
    - no clean air: the residuals;
    - residuals larger: they count if noise alone explains them (chi-squared; the air was then
      suppressed, or the noise is amplified inside), otherwise the model does not describe the
      tissue and the air counts;
    - residuals smaller: they count if they are many (`ENOUGH_FREEDOM`); the air holds more than the
      noise of the tissue;
    - no more images than parameters: the air.

    Data of a model of the modulus are taken as signed if more than 1 % of the mask's samples lie
    below -5 sigma; if they are given as magnitudes, they are refused. Unless they are given as
    signed or no samples are negative, sigma is the smaller one of a fit to the modulus and a fit to
    signed data: the wrong one leaves the larger residuals.

    Parameters
    ----------
    S : array, shape (X, Y, Z, N)
        The whole field of view.
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
        If sigma is not given, there is no clean air, and the images are no more than the
        parameters; or if data that carry a sign are given as magnitudes.
    """
    if sigma is not None:
        limit = _sign_limit(S, tau, model, mask, sigma, signed)
        signed = _settled_sign(S, model, mask, limit, signed)
        rician = not signed and _share_below(S, mask, 0.0) <= NEGATIVE_SHARE
        return Noise(sigma, "given", bool(signed), rician)
    air = background_noise(S)
    if S.shape[-1] <= model.num_parameters:
        return _noise_of_air(S, model, mask, air, signed)
    sample = S[_thinned(mask, VOXELS)]
    rician = air.kind == "Rayleigh" if air.kind else is_rician(sample)
    choices = [bool(signed)]
    if not signed and model.magnitude and (sample < 0).mean() > SIGNED_SHARE:
        choices = [False, True]
    found = {c: residual_sigma(sample, tau, model, c, rician) for c in choices}
    least = min(found.values())
    if len(choices) > 1:
        limit = np.asarray(-5 * max(least[0], FLOOR * scale))
        signed = _settled_sign(S, model, mask, limit, signed)
    level, source = _more_trustworthy(air, *least, _tell_less(sample, model))
    if level < FLOOR * scale:
        level, source = FLOOR * scale, "none found; 1e-4 of the series' scale"
    return Noise(np.asarray(level), source, bool(signed), rician and not signed)


def _sign_limit(
    S: np.ndarray,
    tau: np.ndarray,
    model: SignalModel,
    mask: np.ndarray,
    sigma: np.ndarray,
    signed: bool | None,
) -> np.ndarray:
    """Below which samples tell of a sign: five of the sigma given or, where it is too small, found.

    Noise on a modulus goes below five of a sigma that is ten times too small.
    """
    limit = -5 * sigma
    known = signed or not model.magnitude or S.shape[-1] <= model.num_parameters
    if known or _share_below(S, mask, limit) <= SIGNED_SHARE:
        return limit
    sample = S[_thinned(mask, VOXELS)]
    found = [residual_sigma(sample, tau, model, c, is_rician(sample))[0] for c in (False, True)]
    return np.minimum(limit, -5 * min(found))


def _settled_sign(
    S: np.ndarray, model: SignalModel, mask: np.ndarray, limit: np.ndarray, signed: bool | None
) -> bool:
    """Whether data carry a sign: as given, otherwise by the samples below `limit`."""
    if signed or not model.magnitude:
        return bool(signed)
    share = _share_below(S, mask, limit)
    if share > SIGNED_SHARE and signed is not None:
        raise ValueError(
            f"the data are given as magnitudes (--magnitude), but {100 * share:.0f} % of the "
            "mask's samples are negative by more than noise: they carry a sign. Leave --magnitude "
            "out, or give moduli."
        )
    return bool(share > SIGNED_SHARE)


def is_rician(samples: np.ndarray) -> bool:
    """Whether samples may be magnitudes, of which only resampling makes a few negative."""
    return float((samples < 0).mean()) <= NEGATIVE_SHARE


def settle_sigma(
    S: np.ndarray,
    tau: np.ndarray,
    model: SignalModel,
    mask: np.ndarray,
    noise: Noise,
    keep: bool = False,
) -> tuple[Noise, str | None]:
    """The noise to go by where the residuals of a voxel-wise fit contradict a sigma that was given.

    It is then scaled to the residuals, unless it is to be kept; half or twice the true sigma costs
    a network up to half of its precision. Larger residuals contradict it only if noise alone
    explains them; else the model is at fault. One that is fifty times too large or more is kept,
    with a question: it may be in another unit, or the data free of noise. The arguments but `keep`
    are those of `find_noise`.

    Parameters
    ----------
    S, tau, model, mask
    noise : Noise
    keep : bool
        Go by the given one in any case.

    Returns
    -------
    noise : Noise
    words : str or None
        One line to warn with, if the two contradict each other.
    """
    if noise.source != "given" or S.shape[-1] <= model.num_parameters:
        return noise, None
    voxels = _thinned(mask, FEWER_VOXELS)
    sigma = np.broadcast_to(noise.sigma, mask.shape)[voxels]
    typical = float(np.median(sigma))
    # Of a map of sigma, in units in which it is the same everywhere.
    sample = S[voxels] * (typical / sigma)[:, None]
    found, misfit = residual_sigma(sample, tau, model, noise.signed, noise.rician)
    ratio = found / typical
    too_large = ratio < 1 / CONTRADICTED and _tell_less(sample, model)
    if not too_large and not (ratio > CONTRADICTED and misfit < NOISE_ALONE):
        return noise, None
    words = f"sigma is given as {typical:.4g}, the residuals of a fit say {found:.4g}"
    if ratio < NOISELESS:
        noiseless = found < FLOOR * float(np.abs(sample).max())  # as of a simulation
        asked = f"{words}: is it in the unit of the images? It is used as it is"
        return noise, None if noiseless else asked
    if keep:
        return noise, f"{words}: estimates and uncertainties suffer if it is wrong (docs/noise.md)"
    source = f"fit residuals, which contradict the {typical:.4g} given"
    settled = replace(noise, sigma=noise.sigma * ratio, source=source)
    return settled, f"{words}, which is used (docs/noise.md); --force keeps the given one"


def _tell_less(sample: np.ndarray, model: SignalModel) -> bool:
    """Whether residuals of samples (n, N) are enough to say that there is less noise."""
    freedom = sample.shape[1] - model.num_parameters
    return freedom >= ENOUGH_FREEDOM[0] and freedom * len(sample) >= ENOUGH_FREEDOM[1]


def _thinned(mask: np.ndarray, most: int) -> tuple[np.ndarray, ...]:
    """Indices of at most `most` of a mask's voxels, evenly."""
    voxels = np.flatnonzero(mask)
    return np.unravel_index(voxels[:: -(-len(voxels) // most) or 1], mask.shape)


def _noise_of_air(
    S: np.ndarray, model: SignalModel, mask: np.ndarray, air: Background, signed: bool | None
) -> Noise:
    """Noise of a series of no more images than parameters."""
    if air.sigma is None:
        raise ValueError(
            f"{S.shape[-1]} images leave no residuals to estimate the noise from, since "
            f"{model.name} has {model.num_parameters} parameters ({air.words}). "
            "Give the noise with --sigma."
        )
    signed = _settled_sign(S, model, mask, np.asarray(-5 * air.sigma), signed)
    rician = air.kind == "Rayleigh" and not signed
    return Noise(np.asarray(air.sigma), air.words, bool(signed), rician)


def _more_trustworthy(
    air: Background, residual: float, misfit: float, tell_less: bool
) -> tuple[float, str]:
    """Sigma and its source, by the rule of `find_noise`."""
    if air.sigma is None:
        return residual, f"fit residuals; {air.words}"
    both = f"{air.words}: {air.sigma:.4g}; fit residuals: {residual:.4g}"
    ratio = residual / air.sigma
    if 1 / AGREE <= ratio <= AGREE:
        return air.sigma, f"{air.words}; fit residuals say {residual:.4g}"
    if ratio < 1 and not tell_less:
        return air.sigma, f"background, since residuals of so few samples say little; {both}"
    if ratio < 1:
        return residual, f"fit residuals, since the background is noisier than tissue; {both}"
    if misfit < NOISE_ALONE:
        return residual, f"fit residuals, since noise alone explains them; {both}"
    return air.sigma, f"background, since the model does not describe all tissue; {both}"


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
