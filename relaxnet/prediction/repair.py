"""A series without the images that are at fault, and with its sign turned round if that is wrong.

What is done is said in a warning; only what is certain is done.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from relaxnet.fitting.inputs import Measurement
from relaxnet.maps.status import OK, input_status
from relaxnet.series.cut_samples import cut_samples
from relaxnet.series.foreground import mask_and_rule
from relaxnet.series.image_faults import (
    FaultyImage,
    empty_images,
    images_out_of_line,
    repeated_images,
    same_images,
)
from relaxnet.series.images import Images
from relaxnet.series.noise import SIGNED_SHARE
from relaxnet.series.residual_noise import residual_sigma
from relaxnet.series.sample import Sample

#: Voxels of tissue that are looked at.
VOXELS = 1_500
#: The sign is wrong if hardly a sample is positive, or if a signed fit leaves residuals that are
#: smaller by this factor once it is turned round.
POSITIVE_SHARE, REVERSED = 0.01, 0.5


@dataclass(frozen=True)
class Repaired:
    """A series as it is mapped.

    Attributes
    ----------
    series : Measurement
    images : Images
    left_out : tuple of FaultyImage
    reversed_sign : bool
        The images were multiplied by -1.
    warnings : tuple of str
    """

    series: Measurement
    images: Images
    left_out: tuple[FaultyImage, ...] = ()
    reversed_sign: bool = False
    warnings: tuple[str, ...] = ()


def repaired(series: Measurement, images: Images, signed: bool | None = None) -> Repaired:
    """The series without empty and repeated images and without those out of line.

    Parameters
    ----------
    series : Measurement
        As the user gave it: images (X, Y, Z, N), the protocol, and a mask or None.
    images : Images
        Those of `series`.
    signed : bool, optional
        As given by the user.

    Raises
    ------
    ValueError
        If the same image stands at two times and the others cannot say which one is right.
    """
    found = _turned(Repaired(series, images), signed)
    found = _without(found, empty_images(found.series.S))
    groups = same_images(found.series.S)
    sample = _tissue(found)
    if len(sample.S) == 0:
        return found
    carries_sign = _carries_sign(sample, signed)
    if groups:
        found = _without(found, repeated_images(sample, groups, carries_sign))
        sample = _tissue(found)
    found = _without(found, images_out_of_line(sample, carries_sign))
    return found


def _without(found: Repaired, faulty: list[FaultyImage]) -> Repaired:
    """The same without some images, whose numbers become those in the whole series."""
    if not faulty:
        return found
    series = found.series
    gone = {image.index for image in found.left_out}
    N = series.S.shape[-1] + len(gone)
    number = [n for n in range(N) if n not in gone]  # of each image that is left
    original = np.insert(series.protocol, [n - i for i, n in enumerate(sorted(gone))], 0.0, axis=-2)
    original[..., number, :] = series.protocol
    named = [
        replace(
            image,
            index=number[image.index],
            other=None if image.other is None else number[image.other],
        )
        for image in faulty
    ]
    keep = [n for n in range(len(number)) if n not in {image.index for image in faulty}]
    S = series.S[..., keep]
    return replace(
        found,
        series=replace(series, S=S, protocol=series.protocol[..., keep, :]),
        images=Images(S),
        left_out=(*found.left_out, *named),
        warnings=(
            *found.warnings,
            *(image.sentence(original, series.model) for image in named),
        ),
    )


def _tissue(found: Repaired) -> Sample:
    """Some voxels of the foreground, or of the mask, that have values."""
    series, images = found.series, found.images
    inside = input_status(images, series.mask) == OK
    if inside.any() and series.mask is None:
        inside &= mask_and_rule(images)[0]
    for cut in cut_samples(series.S, inside):
        if (inside & ~cut.voxels).any():
            inside &= ~cut.voxels
    voxels = np.flatnonzero(inside)
    index = np.unravel_index(voxels[:: -(-len(voxels) // VOXELS) or 1], inside.shape)
    if series.model.known_maps and series.known is None:
        index = tuple(i[:0] for i in index)
    sample = Sample.of(series, index)
    good = np.isfinite(sample.S).all(axis=1)
    if sample.known is not None:
        good &= np.isfinite(sample.known).all(axis=1)
    return sample.part(good)


def _carries_sign(sample: Sample, signed: bool | None) -> bool:
    """Whether samples carry a sign: as given, otherwise by which fit leaves less."""
    if not sample.model.magnitude or signed is not None:
        return bool(signed)
    if (sample.S < 0).mean() <= SIGNED_SHARE or sample.num_images <= sample.model.num_parameters:
        return False
    as_moduli, as_signed = (residual_sigma(sample, c, rician=False)[0] for c in (False, True))
    return as_signed < as_moduli


def _turned(found: Repaired, signed: bool | None) -> Repaired:
    """The series times -1 where its sign is the wrong way round."""
    sample = _tissue(found)
    if not len(sample.S):
        return found
    negative, positive = (sample.S < 0).mean(), (sample.S > 0).mean()
    if negative <= SIGNED_SHARE:
        return found
    if positive < POSITIVE_SHARE * negative:
        sentence = (
            "no sample is positive: the sign of the images is the wrong way round (a negative "
            "scl_slope?), and is turned"
        )
        return _negated(found, sentence)
    model = sample.model
    enough = sample.num_images > model.num_parameters
    if signed is False or not model.magnitude or not enough or negative <= 0.05:
        return found
    as_is, turned = (
        residual_sigma(s, True, rician=False)[0]
        for s in (sample, sample.of_other_images(-sample.S))
    )
    if not turned < REVERSED * as_is:
        return found
    words = model.border.columns[0].words
    sentence = (
        f"the sign of the images looks reversed: those of the longest {words} are negative. It is "
        "turned round"
    )
    return _negated(found, sentence)


def _negated(found: Repaired, sentence: str) -> Repaired:
    S = -found.series.S
    return replace(
        found,
        series=replace(found.series, S=S),
        images=Images(S),
        reversed_sign=True,
        warnings=(*found.warnings, sentence),
    )
