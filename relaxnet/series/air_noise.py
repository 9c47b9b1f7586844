"""Noise in the air around an object: found, recognised by its distribution, and tested.

Air shows the noise alone: of a magnitude image it is Rayleigh distributed (one receiver channel or
an adaptive combination), of a real image Gaussian around zero, of the modulus of a real image half
normal. Many scanners and tools leave something else there: zeros, a threshold's remains, ghosts,
several channels' root of squares, a filter's ripple. None of that shows what the noise is, so the
air counts only if it passes every test of `air_noise`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from scipy import ndimage, special

#: Most voxels in which air is searched for: evenly spaced slices.
MOST_VOXELS = 500_000
#: Air must hold at least this many voxels, and this share of those that are not zero.
LEAST_VOXELS, LEAST_SHARE = 300, 0.02
#: Most exact zeros among the samples of air; those that rounding to integers makes come on top.
ZEROS = 0.02
#: Largest distance between the samples' distribution and that of noise (Kolmogorov-Smirnov).
SHAPE = 0.03
#: Degrees of freedom of a sample of air that is the root of squares of several receivers: two each,
#: fewer if their noise is correlated.
LEAST_DOF, MOST_DOF = 2.8, 300.0
#: Largest distance between the distribution of the voxels' power and chi squared.
POWER = 0.10
#: Largest deviation of an image's noise from that of all images, relative.
STEADY = 0.10
#: Most voxels in an equal window right above that one, as a share of those in it: more of them
#: belong to one distribution that goes on.
CROWD = 0.9
#: Largest spread of that average over air, in units of that of uniform, uncorrelated noise.
SPREAD = 1.5
#: Share of voxels that are zero in all images above which what is left is taken for an object.
MASKED = 0.1
#: Side of the square of voxels over which power is averaged in the search for air.
SIDE = 5
#: Window of that average below and above its mean: in standard deviations, and at least (relative).
BELOW, ABOVE = (3.5, 0.25), (2.0, 0.1)
#: Quantiles of that average at which the search for air begins.
BEGIN = (0.005, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)

#: What air may be, by name: degrees of freedom of a sample. Its modulus is chi distributed.
KINDS = {"Rayleigh": 2, "Gaussian": 1, "half-normal": 1}
#: Density of the modulus at one sigma, by its degrees of freedom.
DENSITY = {2: np.exp(-0.5), 1: np.sqrt(2 / np.pi) * np.exp(-0.5)}


class Unusable(Enum):
    """Why the air around an object does not show the noise; the value goes into sidecars."""

    ZEROS = "zeros"
    FEW_VOXELS = "few voxels"
    LITTLE_AIR = "little air"
    UNSTEADY = "unsteady"
    OTHER_DISTRIBUTION = "other distribution"
    SEVERAL_RECEIVERS = "several receivers"
    VARIES_IN_SPACE = "varies in space"


@dataclass(frozen=True)
class AirNoise:
    """Noise of the air around an object.

    Attributes
    ----------
    sigma : float or None
        Noise standard deviation in the unit of the series; None if the air is not usable.
    kind : str
        ``Rayleigh`` (magnitude), ``Gaussian`` (real, with negatives), ``half-normal`` (modulus of
        real data); empty if not usable.
    voxels : int
        Voxels that it was found from.
    unusable : Unusable, optional
        Why there is no sigma.
    floor : float, optional
        Root mean square of the air where it is that of several receivers' root of squares.
    """

    sigma: float | None = None
    kind: str = ""
    voxels: int = 0
    unusable: Unusable | None = None
    floor: float | None = None

    @property
    def words(self) -> str:
        """The same in words."""
        if self.unusable is not None:
            return f"background not usable: {_REASONS[self.unusable]}"
        return f"background, {self.kind}, {self.voxels} voxels of air"


_REASONS = {
    Unusable.ZEROS: "zeros (masked or thresholded images)",
    Unusable.FEW_VOXELS: "too few voxels",
    Unusable.LITTLE_AIR: "too few voxels of air",
    Unusable.UNSTEADY: "it changes from image to image (tissue or ghosts)",
    Unusable.OTHER_DISTRIBUTION: (
        "it is neither Rayleigh nor Gaussian (filtered or several channels)"
    ),
    Unusable.SEVERAL_RECEIVERS: "it is the root of squares of several receivers",
    Unusable.VARIES_IN_SPACE: (
        "its noise varies in space (ghosts, parallel imaging, interpolation)"
    ),
}


def air_noise(S: np.ndarray) -> AirNoise:
    """Noise of the air around an object, if there is clean air.

    Air is found without a mask. For noise of standard deviation sigma the mean power of a square
    of voxels lies in a narrow window; from several powers, the lowest first, the window is moved
    to the mean power of the voxels in it until it rests. What is found is refused if

    - it holds fewer than `LEAST_VOXELS` voxels, or `LEAST_SHARE` of those that are not zero,
    - more than `ZEROS` of its samples are exactly zero (masked or thresholded images),
    - an image's noise deviates by more than `STEADY` from the others' (tissue, ghosts),
    - the samples are neither Rayleigh, Gaussian nor half-normal within `SHAPE`,
    - the voxels' power is not chi-squared within `POWER`, its average over squares spreads by
      more than `SPREAD`, or goes on above the window with more than `CROWD` of the voxels in it
      (ghosts, noise that varies in space, images that were interpolated).

    Parameters
    ----------
    S : array, shape (X, Y, Z, N)
        Weighted images, the whole field of view.

    Returns
    -------
    AirNoise

    References
    ----------
    Gudbjartsson and Patz 1995, doi 10.1002/mrm.1910340618. Power of noise over images as a test
    for air: Koay et al. 2009, doi 10.1016/j.jmr.2009.03.005.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> air = np.hypot(*rng.normal(0, 5, (2, 40, 40, 1, 8)))
    >>> found = air_noise(air)
    >>> found.kind, round(found.sigma, 1)
    ('Rayleigh', 5.0)
    """
    layers = max(1, MOST_VOXELS // max(1, S.shape[0] * S.shape[1]))
    S = S[:, :, :: -(-S.shape[2] // layers)]
    power, nearby = _power(S)
    valid = np.isfinite(nearby)
    reasons = [Unusable.ZEROS] if (power == 0).mean() > MASKED else []
    if valid.sum() < LEAST_VOXELS:
        return AirNoise(unusable=[*reasons, Unusable.FEW_VOXELS][0])
    samples, power, nearby = S[valid].astype(np.float64), power[valid], nearby[valid]
    kinds = tuple(KINDS) if (samples < 0).any() else ("Rayleigh", "half-normal")
    floor = None
    for level in np.quantile(nearby, BEGIN):
        for kind in kinds:
            found = _of_kind(samples, power, nearby, level, kind)
            if found.unusable is None:
                return found
            if found.floor is not None and floor is None:
                floor = found
            if found.unusable is not Unusable.LITTLE_AIR:
                reasons.append(found.unusable)
    return floor or AirNoise(unusable=[*reasons, Unusable.LITTLE_AIR][0])


def _power(S: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean square over images, and its mean over a square of voxels; shapes (X, Y, Z).

    The latter is NaN where a voxel of the square is zero in all images, or not finite.
    """
    power = np.zeros(S.shape[:3])
    with np.errstate(over="ignore", invalid="ignore"):
        for n in range(S.shape[-1]):
            power += S[..., n].astype(np.float64) ** 2
    power /= S.shape[-1]
    good = np.isfinite(power) & (power > 0)
    nearby = ndimage.uniform_filter(np.where(good, power, 0.0), (SIDE, SIDE, 1), mode="nearest")
    good = ndimage.minimum_filter(good, (SIDE, SIDE, 1), mode="nearest")
    return power, np.where(good, nearby, np.nan)


def _of_kind(
    samples: np.ndarray, power: np.ndarray, nearby: np.ndarray, level: float, kind: str
) -> AirNoise:
    """Air of a kind whose power is near `level`, or why there is none."""
    per_sample = KINDS[kind]
    dof = per_sample * samples.shape[1]
    deviation = np.sqrt(2 / (dof * SIDE**2))
    low, high = (max(times * deviation, least) for times, least in (BELOW, ABOVE))
    inside = np.zeros(len(power), bool)
    for _ in range(30):
        now = (nearby > (1 - low) * level) & (nearby < (1 + high) * level)
        if not now.any() or (now == inside).all():
            break
        inside, level = now, power[now].mean()
    air, sigma = samples[inside], float(np.sqrt(level / per_sample))
    if len(air) < max(LEAST_VOXELS, LEAST_SHARE * len(samples)):
        return AirNoise(unusable=Unusable.LITTLE_AIR)
    half_grain = 0.5 * _grain(air) / sigma
    if (air == 0).mean() > ZEROS + special.chdtr(per_sample, half_grain**2):
        return AirNoise(unusable=Unusable.ZEROS)
    levels = np.sqrt((air**2).mean(axis=0) / per_sample) / sigma
    if np.abs(levels - 1).max() > STEADY + 3 / np.sqrt(2 * len(air)):
        return AirNoise(unusable=Unusable.UNSTEADY)
    pooled = np.sort(air.reshape(-1)[:: max(1, air.size // 50_000)]) / sigma
    signed = kind == "Gaussian"
    expected = special.ndtr(pooled) if signed else special.chdtr(per_sample, pooled**2)
    if _distance(expected) > SHAPE + half_grain * DENSITY[per_sample]:
        return _of_receivers(air, half_grain * sigma)
    spread = 0.5 * np.diff(np.quantile(nearby[inside], [0.16, 0.84]))[0] / level / deviation
    shares = special.chdtr(dof, np.sort(power[inside]) * samples.shape[1] / sigma**2)
    end = 1 + high + low + high
    crowd = ((nearby > (1 + high) * level) & (nearby < end * level)).sum() / len(air)
    if spread > SPREAD or crowd > CROWD or _distance(shares) > POWER:
        return AirNoise(unusable=Unusable.VARIES_IN_SPACE)
    return AirNoise(sigma, kind, len(air))


def _of_receivers(air: np.ndarray, half_grain: float) -> AirNoise:
    """What air is that is no noise of one receiver: the root of squares of several, or other."""
    power = air.reshape(-1)[:: max(1, air.size // 50_000)] ** 2
    mean, variance = power.mean(), power.var()
    dof = 2 * mean**2 / variance if variance > 0 else 0.0
    if not MOST_DOF > dof > LEAST_DOF or (air < 0).any():
        return AirNoise(unusable=Unusable.OTHER_DISTRIBUTION)
    shares = special.chdtr(dof, np.sort(power) * dof / mean)
    grain = half_grain * np.sqrt(dof / mean)
    if _distance(shares) > SHAPE + grain:
        return AirNoise(unusable=Unusable.OTHER_DISTRIBUTION)
    return AirNoise(
        voxels=len(air), unusable=Unusable.SEVERAL_RECEIVERS, floor=float(np.sqrt(mean))
    )


def _distance(values: np.ndarray) -> float:
    """Kolmogorov-Smirnov distance of sorted values from a uniform distribution in 0 to 1."""
    steps = np.arange(len(values) + 1) / len(values)
    return float(max(np.abs(values - steps[1:]).max(), np.abs(values - steps[:-1]).max()))


def _grain(air: np.ndarray) -> float:
    """Step between the values of rounded images, 0 of images that are not."""
    values = np.unique(np.abs(air.reshape(-1)[:20_000]))
    if len(values) < 2 or len(values) > 2_000:
        return 0.0
    return float(np.diff(values).min())
