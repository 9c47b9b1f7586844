"""Samples that are not what was measured: cut off at the largest value, or set to zero."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

#: Clipped: at least so many voxels, and so many times those of a level below, have an image's
#: largest value, which is at least this part of the series' largest one.
CLIPPED_VOXELS, CLIPPED_TIMES, CLIPPED_VALUE = 15, 5.0, 0.5
#: Levels right below the largest value that it is compared with, as a part of it.
LEVELS_BELOW = 0.05
#: Set to zero: at least so many voxels, and so many times those of a level beside zero, or the
#: smallest value lies so many level steps above zero.
ZERO_VOXELS, ZERO_TIMES, GAP_STEPS = 15, 5.0, 20.0
#: Levels beside zero that it is compared with, as a part of the series' largest value; in coarser
#: images than this many levels, small signals are rounded to zero.
LEVELS_BESIDE, FINE_LEVELS = 0.02, 500
#: Smallest values whose steps tell how fine the levels are.
STEPS = 50


@dataclass(frozen=True)
class Cut:
    """Samples of one kind.

    Attributes
    ----------
    values : dict of int to float
        Value that they were given, by image, from 0.
    voxels : bool array, shape (X, Y, Z)
        Those with such a sample.
    share : float
        Of the voxels of the mask.
    """

    values: dict[int, float]
    voxels: np.ndarray
    share: float = 0.0

    def among(self, counted: np.ndarray) -> Cut:
        """The same with the share of the voxels `counted` (X, Y, Z) that are cut."""
        share = (self.voxels & counted).sum() / max(counted.sum(), 1)
        return replace(self, share=float(share))

    @property
    def sentence(self) -> str:
        """One line."""
        images = _numbers([n + 1 for n in self.values])
        many = "images" if len(self.values) > 1 else "image"
        value = max(self.values.values(), key=abs)
        share = f"{100 * self.share:.1f} % of the mask"
        if value == 0:
            return (
                f"samples are 0 in {many} {images} where other images have signal ({share}): such "
                "voxels were masked, thresholded or lost in some images only, and are marked as "
                "poor fits. Give the images before that step"
            )
        return (
            f"samples are clipped: {value:g} is the largest value of {many} {images} in many "
            f"voxels ({share}), which are marked as poor fits. Export the images with another "
            "scaling"
        )


def _numbers(values: list[int]) -> str:
    """Rising numbers in words: "1, 3 to 6"."""
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    return ", ".join(
        f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs
    )


def cut_samples(S: np.ndarray, tissue: np.ndarray) -> tuple[Cut, ...]:
    """Samples that were clipped, and those of tissue that were set to zero.

    Parameters
    ----------
    S : array, shape (X, Y, Z, N)
    tissue : bool array, shape (X, Y, Z)
    """
    found = (clipped_samples(S), zeroed_samples(S, tissue))
    return tuple(cut.among(tissue) for cut in found if cut is not None)


def clipped_samples(S: np.ndarray) -> Cut | None:
    """Samples that were cut off, where many voxels of an image have its largest value.

    The values right below occur far less often, and other images show that the voxels differ, as
    those of a simulation without noise may not.

    Parameters
    ----------
    S : array, shape (X, Y, Z, N)
    """
    largest = max((abs(limit) for _, limit, _ in _limits(S)), default=0.0)
    values, voxels = {}, np.zeros(S.shape[:-1], bool)
    for n, limit, at in _limits(S):
        number = int(at.sum())
        if abs(limit) < CLIPPED_VALUE * largest or number < CLIPPED_VOXELS:
            continue
        near = np.abs(S[..., n] - limit) <= LEVELS_BELOW * abs(limit)
        below = S[..., n][near & ~at]
        level = np.unique(below, return_counts=True)[1].mean() if below.size else 0.0
        if number < CLIPPED_TIMES * max(level, 1.0) or not _differ(S[at]):
            continue
        values[n] = float(limit)
        voxels |= at
    return Cut(values, voxels) if values else None


def _limits(S: np.ndarray) -> Iterator[tuple[int, float, np.ndarray]]:
    """Largest value of each image and, if it is negative, its smallest, with where they are."""
    for n in range(S.shape[-1]):
        image = S[..., n]
        with np.errstate(invalid="ignore"):
            high, low = np.nanmax(image, initial=0.0), np.nanmin(image, initial=0.0)
        for limit in {float(high), float(low)}:
            if limit and np.isfinite(limit):
                yield n, limit, image == np.asarray(limit, S.dtype)


def _differ(samples: np.ndarray) -> bool:
    """Whether voxels (n, N) differ from one another, as those of measured images do."""
    some = samples[:1000]
    return len(np.unique(some, axis=0)) >= 0.5 * len(some)


def zeroed_samples(S: np.ndarray, tissue: np.ndarray) -> Cut | None:
    """Samples that are exactly 0 where the voxel has signal in other images.

    Noise makes a sample 0 as seldom as it makes it any level beside 0; a decay that ends below the
    first level of coarse images, or of images without noise, does so rightly.

    Parameters
    ----------
    S : array, shape (X, Y, Z, N)
    tissue : bool array, shape (X, Y, Z)
        Voxels that are looked at. In air images may well be thresholded.
    """
    samples = S[tissue]
    zero = samples == 0
    partly = zero.any(axis=1) & ~zero.all(axis=1) & np.isfinite(samples).all(axis=1)
    if partly.sum() < ZERO_VOXELS:
        return None
    largest = float(np.abs(samples[partly]).max())
    images = [
        n for n in range(S.shape[-1]) if _set_to_zero(samples, zero[:, n] & partly, n, largest)
    ]
    if not images:
        return None
    voxels = np.zeros(tissue.shape, bool)
    voxels[tissue] = zero[:, images].any(axis=1) & partly
    return Cut(dict.fromkeys(images, 0.0), voxels)


def _set_to_zero(samples: np.ndarray, at: np.ndarray, n: int, largest: float) -> bool:
    """Whether image `n` of voxels (m, N) was set to zero `at` (m,) some."""
    if at.sum() < ZERO_VOXELS or not _differ(samples[at]):
        return False
    moduli = np.abs(samples[:, n][~at])
    return _unlike_noise(int(at.sum()), moduli[moduli > 0], largest)


def _unlike_noise(zeros: int, others: np.ndarray, largest: float) -> bool:
    """Whether an image has too many zeros beside its other moduli (k,), or none of them near 0."""
    levels, counts = np.unique(others[np.isfinite(others)], return_counts=True)
    steps = np.diff(levels[: STEPS + 1])
    if not steps.size:
        return False
    step = float(np.median(steps))
    if levels[0] > GAP_STEPS * step:
        return True
    beside = levels <= LEVELS_BESIDE * largest
    fine = step * FINE_LEVELS < largest
    return fine and bool(beside.any()) and zeros > ZERO_TIMES * counts[beside].mean()
