"""The built-in head: a procedural label volume with BrainWeb's classes, new for every seed."""

from __future__ import annotations

import numpy as np

from relaxsim.head_brain import BRAIN_BOX, build_cerebrum, intracranial
from relaxsim.head_deep import build_cerebellum, build_deep
from relaxsim.head_paint import Head, calibrate, paint
from relaxsim.head_shapes import Frame, Points, ellipsoid, union
from relaxsim.head_traits import Traits, draw_traits
from relaxsim.lattice import Field, Lattice, noise_field

#: Field of view in mm, the 20 models' own: z, y, x.
VIEW = ((-72.5, 108.5), (-126.5, 90.5), (-90.5, 90.5))
SLAB = 16.0


def head_labels(seed: int, voxel_size: float = 1.0) -> np.ndarray:
    """Labels (Z, Y, X) of the built-in head."""
    if seed < 0:
        raise ValueError(f"the built-in head's seed is {seed}; expected 0 or more.")
    if not 0.4 <= voxel_size <= 4:
        raise ValueError(f"the built-in head's voxel size is {voxel_size:g} mm; expected 0.4 to 4.")
    import time
    T=time.process_time()
    shapes, speckle = (np.random.default_rng([seed, k]) for k in range(2))
    head, traits = build_head(shapes)
    print("built",time.process_time()-T)
    cuts = calibrate(head, VIEW, traits.shares, shapes)
    print("cal",time.process_time()-T)
    axes = [
        lower + (np.arange(round((upper - lower) / voxel_size)) + 0.5) * voxel_size
        for lower, upper in VIEW
    ]
    labels = np.empty([len(a) for a in axes], np.uint8)
    step = max(1, round(SLAB / voxel_size))
    for start in range(0, len(axes[0]), step):
        slab = labels[start : start + step]
        white = speckle.standard_normal(slab.shape, dtype=np.float32)
        slab[:] = paint(head, [axes[0][start : start + step], *axes[1:]], white, cuts)
    print("painted",time.process_time()-T)
    return labels


def build_head(rng: np.random.Generator) -> tuple[Head, Traits]:
    """Fields of a new subject."""
    traits = draw_traits(rng)
    around = [(lower - 10, upper + 10) for lower, upper in VIEW]
    bend = [_bend(rng, around, traits.bend) for _ in range(3)]
    frame = Frame(tuple(bend), traits.scale)
    lattice = Lattice.covering(VIEW, 3.0)
    p = frame.points(lattice)
    hull = intracranial(p)
    noises = {
        name: noise_field(rng, VIEW, scale)
        for name, scale in (("dura", 11.0), ("bone", 18.0), ("marrow", 8.0), ("lump", 5.0), ("sheet", 6.0))
    }
    noises |= {
        name: noise_field(rng, BRAIN_BOX, scale)
        for name, scale in (("gap", 8.0), ("ribbon", 11.0), ("artery_a", 9.0), ("artery_b", 9.0))
    }
    hull_field = Field(lattice, hull)
    head = Head(
        hull=hull_field,
        skin=Field(lattice, _skin(p, hull)),
        bone_factor=Field(lattice, np.clip((-30 - p[0]) / 18, 0, 1) * 0.9),
        soft=Field(lattice, _orbits(p)),
        cavity=Field(lattice, _cavities(p)),
        cerebrum=build_cerebrum(frame, hull_field, traits, rng),
        deep=build_deep(frame, traits),
        cerebellum=build_cerebellum(frame, rng),
        noises=noises,
    )
    return head, traits


def _bend(rng: np.random.Generator, box, size: float) -> Field:
    field = noise_field(rng, box, 55.0)
    return Field(field.lattice, np.float32(size) * field.coefficients)


def _skin(p: Points, hull: np.ndarray) -> np.ndarray:
    z, y, x = p
    q = (z, y, np.abs(x))
    depth = union(hull + 14.3, ellipsoid(p, (0, 33, -18), (66.5, 56, 39), 2.2), 12)
    depth = union(depth, ellipsoid(p, (0, -17, -43), (82.5, 90.5, 74.5), 2.4), 12)
    depth = union(depth, ellipsoid(p, (0, 77.5, -61.5), (12, 11.5, 21.5)), 8)
    return union(depth, ellipsoid(q, (88, -26, -28), (6, 14, 27)), 4)


def _orbits(p: Points) -> np.ndarray:
    z, y, x = p
    q = (z, y, np.abs(x))
    return np.clip(ellipsoid(q, (31, 55, -36), (16, 22, 16)), -10, 10) / 10


def _cavities(p: Points) -> np.ndarray:
    z, y, x = p
    q = (z, y, np.abs(x))
    nose = ellipsoid(p, (0, 52, -52), (9, 24, 18))
    maxillary = ellipsoid(q, (26, 48, -66), (11, 14, 12))
    sphenoid = ellipsoid(p, (0, 18, -38), (10, 11, 8))
    mastoid = ellipsoid(q, (48, -36, -54), (14, 12, 10)) - 4
    return np.maximum(np.maximum(nose, maxillary), np.maximum(sphenoid, mastoid))
