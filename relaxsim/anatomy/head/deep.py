"""The built-in head's deep structures: ventricles, nuclei, callosum, brain stem, cerebellum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from relaxsim.anatomy.head.brain import intracranial, posterior_fossa
from relaxsim.anatomy.head.lattice import Field, Lattice, noise_field
from relaxsim.anatomy.head.shapes import Frame, Node, Points, ellipsoid, intersection, tube, union
from relaxsim.anatomy.head.traits import Traits

#: Where these structures lie, in mm.
DEEP_BOX = ((-76.0, 36.0), (-92.0, 44.0), (-48.0, 48.0))
HIND_BOX = ((-76.0, 12.0), (-108.0, -20.0), (-66.0, 66.0))
#: Cerebellar fissures in half a turn around the fourth ventricle.
FOLIA = 11
FLAT = np.zeros(1, np.float32)


@dataclass(frozen=True)
class Deep:
    """Depths in mm on `DEEP_BOX`; `clump` is noise that mixes grey and white matter."""

    ventricles: Field
    nuclei: Field
    callosum: Field
    stem: Field
    clump: Field


@dataclass(frozen=True)
class Cerebellum:
    """Depth in the cerebellum and signed distance from its fissures, on `HIND_BOX`, mm."""

    depth: Field
    fissure: Field


def build_deep(frame: Frame, traits: Traits, rng: np.random.Generator) -> Deep:
    """Deep structures of a subject."""
    lattice = Lattice.covering(DEEP_BOX, 1.5)
    p = frame.points(lattice)
    return Deep(
        ventricles=Field(lattice, _ventricles(p, traits)),
        nuclei=Field(lattice, _nuclei(p)),
        callosum=Field(lattice, _callosum(p)),
        stem=Field(lattice, _stem(p)),
        clump=noise_field(rng, DEEP_BOX, 1.7),
    )


def _ventricles(p: Points, traits: Traits) -> np.ndarray:
    z, y, x = p
    q = (z, y, np.abs(x))
    size = np.float32(traits.ventricles)
    tilt = np.float32(traits.ventricle_asymmetry) * np.tanh(x / 5)
    body: list[Node] = [(11, 32, 6, 2.5), (8, 23, 10, 4.6), (6.5, 5, 15, 4.6), (9, -14, 18, 4.6)]
    atrium: list[Node] = [(18, -32, 16, 5.6), (25, -43, 8, 6.2), (27, -60, 4, 4), (24, -76, 4, 2)]
    horn = [(26, -41, 3, 4.8), (33, -28, -9, 3.0), (31, -8, -19, 2.6)]
    roof = [(15, 25, 14, 3.0), (14, 5, 21, 3.6), (16, -18, 23, 3.6), (20, -34, 19, 3.4)]
    lateral = np.maximum(np.maximum(tube(q, body + atrium), tube(q, horn)), tube(q, roof))
    lateral += 3.0 * (size * (1 + tilt) - 1)
    third = np.minimum(2.0 * size - np.abs(x), ellipsoid((z, y, FLAT), (0, -13, -2), (40, 14, 10)))
    fourth = ellipsoid(p, (0, -44, -30), (7, 5, 11)) + (size - 1)
    aqueduct = tube(p, [(0, -27, -4, 1.3), (0, -41, -24, 1.3)])
    velum = ellipsoid(p, (0, -35, 4), (7, 7, 7))
    hind = np.maximum(np.maximum(fourth, aqueduct), velum)
    return np.maximum(np.maximum(lateral, third), hind)


def _nuclei(p: Points) -> np.ndarray:
    """Thalamus, caudate, putamen, hippocampus with amygdala, hypothalamus."""
    z, y, x = p
    side = np.abs(x)
    q = (z, y, side)
    turned = (z, 0.98 * y - 0.2 * side, 0.98 * side + 0.2 * y)
    caudate = [
        (15, 12, -7, 7.0),
        (16, 21, 4, 6.5),
        (17, 10, 11, 6.0),
        (18, -5, 18, 4.5),
        (21, -24, 20, 3.5),
    ]
    hippocampus = [(23, -4, -22, 8), (28, -22, -14, 5), (24, -36, -3, 4)]
    depth = ellipsoid(q, (10, -18, 8), (9, 15, 10))
    for part in (
        tube(q, caudate),
        ellipsoid(turned, (26.5, -4.5, 5), (5.5, 16, 13)),
        tube(q, hippocampus),
        ellipsoid(p, (0, -4, -9), (8, 8, 6)),
    ):
        depth = np.maximum(depth, part)
    return depth


def _callosum(p: Points) -> np.ndarray:
    z, y, x = p
    arch = (
        *((28, -5, 1.5), (36, 2, 3), (36, 11, 4), (26, 22, 3.4), (6, 28, 3)),
        *((-15, 28, 3), (-30, 23, 3.2), (-38, 14, 4.4), (-36, 7, 3.2)),
    )
    depth = tube((z, y, FLAT), [(0, *node) for node in arch])
    return np.minimum(depth, 16 - np.abs(x))


def _stem(p: Points) -> np.ndarray:
    z, y, x = p
    q = (z, y, np.abs(x))
    stem = union(
        ellipsoid(p, (0, -24, -11), (17, 12, 13)), ellipsoid(p, (0, -23, -32), (19, 14, 15)), 5
    )
    medulla = [(0, -30, -38, 11), (0, -38, -58, 8.5), (0, -45, -95, 7)]
    stem = union(stem, tube(p, medulla), 4)
    return union(stem, tube(q, [(12, -32, -32, 7), (22, -54, -33, 7)]), 4)


def build_cerebellum(frame: Frame, rng: np.random.Generator) -> Cerebellum:
    """Cerebellum of a subject: two hemispheres and the vermis, cut by fissures that fan out."""
    lattice = Lattice.covering(HIND_BOX, 1.5)
    p = z, y, x = frame.points(lattice)
    q = (z, y, np.abs(x))
    depth = union(
        ellipsoid(q, (26, -61, -35), (33, 34, 30)), ellipsoid(p, (0, -64, -26), (14, 28, 27)), 6
    )
    depth = intersection(depth, posterior_fossa(p) - 1.0, 3)
    depth = intersection(depth, intracranial(p) - 1.5, 3)
    depth = intersection(depth, -tube(p, [(0, -24, -20, 17), (0, -42, -75, 12)]), 3)
    up, back = z + 34, -(y + 42)
    radius = np.sqrt(up * up + back * back + 0.15 * x * x) + 1
    phase = FOLIA * np.arctan2(up, back) + 0.8 * noise_field(rng, HIND_BOX, 12.0).at(lattice.axes())
    fissure = np.arcsin(np.sin(phase)) * np.maximum(radius, 6) / FOLIA
    return Cerebellum(Field(lattice, depth), Field(lattice, fissure))
