"""The built-in head's deep structures: ventricles, nuclei, callosum, brain stem, cerebellum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from relaxsim.head_brain import intracranial, off_midline, posterior_fossa
from relaxsim.head_shapes import Frame, Points, ellipsoid, intersection, tube, union
from relaxsim.head_traits import Traits
from relaxsim.lattice import Field, Lattice, noise_field

#: Where these structures lie, in mm.
DEEP_BOX = ((-76.0, 36.0), (-92.0, 44.0), (-48.0, 48.0))
HIND_BOX = ((-76.0, 12.0), (-108.0, -20.0), (-66.0, 66.0))
#: Cerebellar fissures in half a turn around the fourth ventricle.
FOLIA = 14
FLAT = np.zeros(1, np.float32)


@dataclass(frozen=True)
class Deep:
    """Depths in mm, on `DEEP_BOX`."""

    ventricles: Field
    nuclei: Field
    callosum: Field
    stem: Field


@dataclass(frozen=True)
class Cerebellum:
    """Depth in the cerebellum and signed distance from its fissures, on `HIND_BOX`, mm."""

    depth: Field
    fissure: Field


def build_deep(frame: Frame, traits: Traits) -> Deep:
    """Deep structures of a subject."""
    lattice = Lattice.covering(DEEP_BOX, 1.5)
    p = frame.points(lattice)
    return Deep(
        ventricles=Field(lattice, _ventricles(p, traits)),
        nuclei=Field(lattice, _nuclei(p)),
        callosum=Field(lattice, _callosum(p)),
        stem=Field(lattice, _stem(p)),
    )


def _ventricles(p: Points, traits: Traits) -> np.ndarray:
    z, y, x = p
    q = (z, y, np.abs(x))
    size = np.float32(traits.ventricles)
    tilt = np.float32(traits.ventricle_asymmetry) * np.tanh(x / 5)
    body = [(7, 31, 3, 2.0), (9, 22, 8, 4.0), (8, 5, 14, 4.0), (11, -14, 16, 3.8)]
    atrium = [(17, -31, 14, 4.4), (24, -42, 7, 5.2), (26, -60, 4, 3.4), (23, -76, 4, 1.6)]
    horn = [(25, -41, 3, 4.2), (33, -28, -9, 2.4), (31, -8, -19, 2.0)]
    lateral = np.maximum(tube(q, body + atrium), tube(q, horn)) + 3.0 * (size * (1 + tilt) - 1)
    third = np.minimum(1.6 * size - np.abs(x), ellipsoid((z, y, FLAT), (0, -13, -3), (40, 14, 9)))
    fourth = ellipsoid(p, (0, -44, -30), (7, 5, 11)) + (size - 1)
    aqueduct = tube(p, [(0, -27, -4, 1.3), (0, -41, -24, 1.3)])
    return np.maximum(np.maximum(lateral, third), np.maximum(fourth, aqueduct))


def _nuclei(p: Points) -> np.ndarray:
    """Thalamus, caudate, putamen, hippocampus with amygdala, hypothalamus."""
    z, y, x = p
    side = np.abs(x)
    q = (z, y, side)
    turned = (z, 0.98 * y + 0.2 * side, 0.98 * side - 0.2 * y)
    caudate = [(13, 21, 3, 6.0), (14, 10, 11, 5.5), (17, -4, 17, 3.5), (20, -22, 19, 2.5)]
    hippocampus = [(23, -4, -22, 8), (28, -22, -14, 5), (24, -36, -3, 4)]
    depth = ellipsoid(q, (10.5, -18, 6), (9, 14, 9))
    for part in (
        tube(q, caudate),
        ellipsoid(turned, (27.0, 6, 1), (5.5, 16, 10)),
        tube(q, hippocampus),
        ellipsoid(p, (0, -4, -9), (8, 8, 6)),
    ):
        depth = np.maximum(depth, part)
    return depth


def _callosum(p: Points) -> np.ndarray:
    z, y, x = p
    arch = [(27, -5, 1.5), (34, 2, 3), (33, 9, 4), (24, 17, 3.2), (5, 23, 2.6), (-15, 24, 2.6)]
    arch += [(-31, 19, 3), (-39, 11, 4.2), (-37, 5, 3)]
    depth = tube((z, y, FLAT), [(0, *node) for node in arch])
    return np.minimum(depth, 16 - np.abs(x))


def _stem(p: Points) -> np.ndarray:
    z, y, x = p
    q = (z, y, np.abs(x))
    stem = union(ellipsoid(p, (0, -24, -11), (17, 12, 13)), ellipsoid(p, (0, -23, -32), (19, 14, 15)), 5)
    medulla = [(0, -30, -38, 11), (0, -38, -58, 8.5), (0, -45, -95, 7)]
    stem = union(stem, tube(p, medulla), 4)
    return union(stem, tube(q, [(12, -32, -32, 7), (22, -54, -33, 7)]), 4)


def build_cerebellum(frame: Frame, rng: np.random.Generator) -> Cerebellum:
    """Cerebellum of a subject: two hemispheres and the vermis, cut by fissures that fan out."""
    lattice = Lattice.covering(HIND_BOX, 1.5)
    p = z, y, x = frame.points(lattice)
    q = (z, y, np.abs(x))
    depth = union(
        ellipsoid(q, (26, -62, -34), (31, 32, 28)), ellipsoid(p, (0, -64, -26), (14, 27, 26)), 6
    )
    depth = intersection(depth, posterior_fossa(p) - 1.0, 3)
    depth = intersection(depth, intracranial(p) - 1.5, 3)
    depth = intersection(depth, -tube(p, [(0, -24, -20, 17), (0, -42, -75, 12)]), 3)
    up, back = z + 34, -(y + 42)
    radius = np.sqrt(up * up + back * back + 0.15 * x * x) + 1
    phase = FOLIA * np.arctan2(up, back) + 0.8 * noise_field(rng, HIND_BOX, 12.0).at(lattice.axes())
    fissure = np.arcsin(np.sin(phase)) * np.maximum(radius, 6) / FOLIA
    return Cerebellum(Field(lattice, depth), Field(lattice, fissure))
