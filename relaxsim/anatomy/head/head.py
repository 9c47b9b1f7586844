"""The built-in head: a procedural label volume with BrainWeb's classes, new for every seed.

Its shapes are ellipsoids, tubes and noise; its dimensions are those of a mean adult head in the
frame of BrainWeb's models (Montreal Neurological Institute's, origin at the anterior commissure).
"""

from __future__ import annotations

import numpy as np

from relaxsim.anatomy.head.brain import build_cerebrum
from relaxsim.anatomy.head.cuts import calibrate
from relaxsim.anatomy.head.deep import build_cerebellum, build_deep
from relaxsim.anatomy.head.lattice import Field, noise_field
from relaxsim.anatomy.head.layers import build_layers
from relaxsim.anatomy.head.paint import Head, paint
from relaxsim.anatomy.head.shapes import Frame
from relaxsim.anatomy.head.traits import Traits, draw_traits

#: Field of view along z, y and x in mm: that of BrainWeb's models.
VIEW = ((-72.5, 108.5), (-126.5, 90.5), (-90.5, 90.5))
VOXEL_SIZES = (0.4, 4.0)
#: Knots of the low-order deformation and of the boundaries' jitter, mm.
BEND_SCALE, JITTER_SCALE = 55.0, 1.2
#: Thickness of the slabs that are painted one after the other, mm. Bounds the memory.
SLAB = 12.0


def head_labels(seed: int, voxel_size: float = 1.0) -> np.ndarray:
    """Labels of the built-in head.

    Parameters
    ----------
    seed : int
        Not negative. The same seed is the same head at any voxel size.
    voxel_size : float
        In mm, 0.4 to 4.

    Returns
    -------
    labels : uint8 array, shape (Z, Y, X)
        Slice, row, column; 181 x 217 x 181 at 1 mm; BrainWeb-20 meanings.

    Raises
    ------
    ValueError
        If `seed` is negative or `voxel_size` out of range.
    """
    if seed < 0:
        raise ValueError(f"the built-in head's seed is {seed}; expected 0 or more.")
    low, high = VOXEL_SIZES
    if not low <= voxel_size <= high:
        raise ValueError(
            f"the built-in head's voxel size is {voxel_size:g} mm; expected {low:g} to {high:g}."
        )
    head, traits = build_head(np.random.default_rng(seed))
    cuts = calibrate(head, VIEW, traits.shares)
    axes = [
        lower + (np.arange(round((upper - lower) / voxel_size)) + 0.5) * voxel_size
        for lower, upper in VIEW
    ]
    labels = np.empty([len(a) for a in axes], np.uint8)
    step = max(1, round(SLAB / voxel_size))
    for start in range(0, len(labels), step):
        slab = slice(start, start + step)
        labels[slab] = paint(head, [axes[0][slab], *axes[1:]], cuts)
    return labels


def build_head(rng: np.random.Generator) -> tuple[Head, Traits]:
    """Fields and traits of a new subject."""
    traits = draw_traits(rng)
    around = [(lower - 10, upper + 10) for lower, upper in VIEW]
    frame = Frame(
        bend=tuple(_bend(noise_field(rng, around, BEND_SCALE), traits.bend) for _ in range(3)),
        scale=traits.scale,
    )
    layers = build_layers(frame, VIEW, rng)
    head = Head(
        layers=layers,
        cerebrum=build_cerebrum(frame, layers.hull, traits, rng),
        deep=build_deep(frame, traits, rng),
        cerebellum=build_cerebellum(frame, rng),
        jitter=noise_field(rng, VIEW, JITTER_SCALE),
    )
    return head, traits


def _bend(noise: Field, size: float) -> Field:
    return Field(noise.lattice, np.float32(size) * noise.coefficients)
