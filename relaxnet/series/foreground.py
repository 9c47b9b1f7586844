"""The mask of a series: which voxels are mapped, and how they were chosen."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from scipy import ndimage, special

from relaxnet.series.air_noise import KINDS
from relaxnet.series.images import Images

#: Upper end of the histogram, in per cent of the voxels; objects that are larger than the rest of
#: them part from the background there.
TOP = 99.0
#: The lower class lies below this share of the upper one, in the mean, or there are no classes;
#: where the upper class lies beyond `TOP`.
PARTED, FAR_PARTED = 0.5, 0.1
#: The same where more than this share of the object's box is zero and there is no clean air: the
#: background has been cut off, and the classes may be tissues.
CUT_OFF, CUT_PARTED = 0.1, 0.2
#: Share of the air's voxels whose power is taken for that of an object.
FALSE_ALARMS = 1e-4
#: Connected voxels that are no spike, where a threshold goes up to the maximum.
LEAST_OBJECT = 4
#: Side of the square of voxels whose power counts together.
NEAR = 3
#: What is above the air but fainter than this share of Otsu's upper class, in the mean, is left
#: out: it may be that one's ghost.
FAINTEST = 0.15
#: Parts that are smaller than this share of the largest one are dropped.
SMALLEST_PART = 0.1


class MaskRule(Enum):
    """What an automatic mask was found by; the value goes into sidecars."""

    OTSU = "otsu"
    BOTH = "both"
    AIR = "air"
    ALL = "all"


class MaskSource(Enum):
    """Where a mask comes from; the value goes into sidecars."""

    NONE = "none"
    AUTO = "auto"
    FILE = "file"
    ARRAY = "array"


@dataclass(frozen=True)
class MaskKind:
    """Which voxels are mapped, and how they were chosen.

    Attributes
    ----------
    source : MaskSource
        ``NONE`` for every voxel.
    rule : MaskRule, optional
        Of an automatic mask.
    file : str
        Name of a mask's file.
    half : float
        Of a soft mask in a file half of its range, from which on voxels count; 0 for one of which
        those above zero count.
    share : float
        Share of voxels in the mask.
    """

    source: MaskSource
    rule: MaskRule | None = None
    file: str = ""
    half: float = 0.0
    share: float = 1.0

    @property
    def words(self) -> str:
        """The same in words."""
        if self.source is MaskSource.NONE:
            return "no mask"
        words = "mask"
        if self.source is MaskSource.FILE:
            words = f"mask {self.file}{f' from {self.half:g} up' if self.half else ''}"
        if self.rule is not None:
            words = f"automatic mask, {RULES[self.rule.value]}"
        return f"{words} ({100 * self.share:.0f} % of voxels)"


#: Every voxel is mapped.
NO_MASK = MaskKind(MaskSource.NONE)
#: Rules of automatic masks in words, by the values of `MaskRule`.
RULES = {
    "otsu": "Otsu's threshold",
    "both": "Otsu's threshold, or power above that of the air",
    "air": "power above that of the air",
    "all": "all that is not zero",
}


def automatic_mask(S: np.ndarray) -> np.ndarray:
    """Foreground of a series, bool, shape (X, Y, Z); `mask_and_rule` without the rule."""
    return mask_and_rule(Images(S))[0]


def mask_and_rule(images: Images) -> tuple[np.ndarray, MaskRule]:
    """Foreground of a series, and the rule by which it was found.

    1. The voxel-wise maximum over images, where it is not zero, is parted in two classes by Otsu's
       method (256 bins up to the 99th percentile). The upper one is the foreground if the lower
       one's mean is less than half of its mean (a fifth if a tenth of the box around what is not
       zero is zero and there is no clean air: a background that was cut off leaves tissues alone,
       as bright and dim as CSF and white matter). Two classes leave out what is dim beside what is
       bright; if there is clean air (`relaxnet.series.air_noise.air_noise`), what stands
       above it as in rule 2 is added, unless its maximum is below 0.15 of the upper class's mean
       (ghosts).
    2. Otherwise the object may be small or faint. If there is clean air, the foreground is what has
       a power over the images that only one in 10^4 voxels of air has. Where the SNR is low single
       voxels are not sure enough: a voxel above the median of the air counts, too, if its square of
       3 x 3 in the slice, less the voxels found by themselves, has such a power.
    3. Otherwise the histogram goes up to the maximum, and the lower class has to lie below a tenth
       of the upper one, which is no spike of less than four voxels; not where a background was cut
       off.
    4. Otherwise there is no background: all voxels that are not zero are inside.

    Then parts smaller than a tenth of the largest one are dropped, and holes are filled slice by
    slice along the third axis.

    Parameters
    ----------
    images : Images
        Voxels that are not finite are outside (and may be filled as holes).

    Returns
    -------
    mask : bool array, shape (X, Y, Z)
    rule : MaskRule

    Raises
    ------
    ValueError
        If the series is empty (all zero or not finite), or noise alone.
    """
    mip = np.where(np.isfinite(images.largest), images.largest, 0.0)
    if not (mip > 0).any():
        raise ValueError("the series is zero or not finite everywhere; there is nothing to map.")
    values = mip[mip > 0]
    found, rule = _found(images, mip)
    if found is None:
        found, rule = mip > otsu_threshold(values, 100.0, FAR_PARTED), MaskRule.OTSU
        if found.sum() == len(values) or _largest_part(found) < LEAST_OBJECT:
            found, rule = mip > 0, MaskRule.ALL
    mask = _large_parts(found)
    for z in range(mask.shape[2]):
        mask[:, :, z] = ndimage.binary_fill_holes(mask[:, :, z])
    return mask, rule


def _found(images: Images, mip: np.ndarray) -> tuple[np.ndarray | None, MaskRule]:
    """Foreground by the first two rules of `mask_and_rule`, and which; None by neither."""
    air = images.air
    cut_off = air.sigma is None and _share_cut_off(mip) > CUT_OFF
    threshold = otsu_threshold(mip[mip > 0], parted=CUT_PARTED if cut_off else PARTED)
    parted = mip > threshold if threshold > 0 else None
    if air.sigma is None:
        return (mip > 0, MaskRule.ALL) if cut_off and parted is None else (parted, MaskRule.OTSU)
    alone, above = _above_air(images.S, air.sigma, KINDS[air.kind])
    if parted is not None:
        return parted | (above & (mip > FAINTEST * mip[parted].mean())), MaskRule.BOTH
    if _noise_alone(alone):
        raise ValueError(
            "nothing in the series stands out of its noise; there is nothing to map. Give a `mask` "
            "if there is an object."
        )
    return above, MaskRule.AIR


def _share_cut_off(mip: np.ndarray) -> float:
    """Share of zeros in the box around what is not zero: padding is none of it."""
    box = ndimage.find_objects((mip > 0).astype(np.int8))[0]
    return float((mip[box] == 0).mean())


def otsu_threshold(values: np.ndarray, top: float = TOP, parted: float = PARTED) -> float:
    """Threshold that parts a histogram in two classes of least variance (Otsu 1979).

    Parameters
    ----------
    values : array, shape (n,)
        Positive.
    top : float
        Percentile at which the histogram ends; larger values count in its last bin.
    parted : float
        Largest ratio of the classes' means.

    Returns
    -------
    threshold : float
        0 where the values do not part: all alike, or the classes' means too close.
    """
    end = np.percentile(values, top)
    counts, edges = np.histogram(np.minimum(values, end), bins=256, range=(0, end or 1.0))
    centres = 0.5 * (edges[1:] + edges[:-1])
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = sums / below, (sums[-1] - sums) / above
        between = below * above * (high - low) ** 2
    if np.isnan(between).all():
        return 0.0
    best = int(np.nanargmax(between))
    if not low[best] < parted * high[best]:
        return 0.0
    return float(edges[best + 1])


def _above_air(S: np.ndarray, sigma: float, per_sample: int) -> tuple[np.ndarray, np.ndarray]:
    """Voxels whose power is none of the air's.

    A square's power leaves out the voxels that stand out by themselves: next to a bright object it
    is that of the air, and the object gets no rim.

    Parameters
    ----------
    S : array, shape (X, Y, Z, N)
    sigma : float
        Of the air.
    per_sample : int
        Degrees of freedom of a sample (`relaxnet.series.air_noise.KINDS`).

    Returns
    -------
    alone, above : bool arrays, shape (X, Y, Z)
        By their own power; by that or the power of their square in the slice.
    """
    power = np.zeros(S.shape[:3])
    with np.errstate(over="ignore", invalid="ignore"):
        for n in range(S.shape[-1]):
            power += (S[..., n].astype(np.float64) / sigma) ** 2
    dof = per_sample * S.shape[-1]
    good = np.isfinite(power) & (power > 0)
    alone = good & (power > special.chdtri(dof, FALSE_ALARMS))
    rest = good & ~alone
    square = np.ones((NEAR, NEAR, 1))
    count = ndimage.convolve(rest.astype(np.int64), square, mode="constant")
    total = ndimage.convolve(np.where(rest, power, 0.0), square, mode="constant")
    # Chi squared of as many voxels as the square holds; those of no voxel are not in `rest`.
    limits = special.chdtri(dof * np.maximum(np.arange(NEAR**2 + 1), 1), FALSE_ALARMS)
    near = rest & (total > limits[count]) & (power > special.chdtri(dof, 0.5))
    return alone, alone | near


def _noise_alone(alone: np.ndarray) -> bool:
    """Whether the voxels above the air are as few and scattered as those that air itself gives."""
    return bool(_largest_part(alone) < 3 and alone.sum() < 3 * FALSE_ALARMS * alone.size + 10)


def _largest_part(mask: np.ndarray) -> int:
    """Voxels of the largest connected part; 0 of an empty mask."""
    parts, _ = ndimage.label(mask)
    return int(np.bincount(parts.ravel())[1:].max(initial=0))


def _large_parts(mask: np.ndarray) -> np.ndarray:
    parts, count = ndimage.label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return np.isin(parts, np.flatnonzero(sizes >= SMALLEST_PART * sizes.max()))
