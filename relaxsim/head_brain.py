"""The built-in head's brain: smooth fields from which its tissues are cut."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from relaxsim.head_shapes import Points, ellipsoid, intersection, tube, union
from relaxsim.lattice import Lattice, folded_noise, sample_periodic, smooth_noise


@dataclass(frozen=True)
class BrainFields:
    """Spline coefficients on the brain's lattice, in mm unless said otherwise.

    Attributes
    ----------
    cortex : depth below the cerebrum's surface, the midline left out
    midline : signed distance from the longitudinal fissure
    core : depth in the region under the corpus callosum's upper edge, where no fissure is
    sulcus : signed distance from the nearest sulcus' sheet
    reach : depth that the sulci reach
    cerebellum : depth in the cerebellum
    folium : signed distance from the nearest cerebellar fissure
    stem, nuclei, ventricles : depths
    ribbon : local cortical thickness, 1 on average
    gap : local widening of the sulci
    """

    cortex: np.ndarray
    midline: np.ndarray
    core: np.ndarray
    sulcus: np.ndarray
    reach: np.ndarray
    cerebellum: np.ndarray
    folium: np.ndarray
    stem: np.ndarray
    nuclei: np.ndarray
    ventricles: np.ndarray
    ribbon: np.ndarray
    gap: np.ndarray
    callosum: np.ndarray
    vessel: np.ndarray


def intracranial(p: Points) -> np.ndarray:
    """Depth inside the skull: cranium, frontal bones, middle and posterior fossae, canal."""
    z, y, x = p
    mirrored = (z, y, np.abs(x))
    depth = ellipsoid(p, (0, -24.5, 16), (72, 78.5, 66), 2.1)
    depth = union(depth, ellipsoid(p, (0, 24.5, 9), (58.5, 50.5, 42)), 10)
    depth = union(depth, ellipsoid(mirrored, (37.5, -5.5, -21), (27.5, 32.5, 29.5), 2.2), 10)
    depth = union(depth, ellipsoid(p, (0, -57.5, -31), (59, 34.5, 35.5), 2.2), 10)
    return union(depth, tube(p, [(0, -40, -50, 17), (0, -46, -100, 13)]), 10)


def brain_fields(p: Points, lattice: Lattice, hull: np.ndarray, traits, rng) -> BrainFields:
    """Fields of the brain.

    Parameters
    ----------
    p : points
        The lattice's nodes in the head's own frame.
    lattice : Lattice
    hull : array
        Depth inside the skull at the nodes.
    traits : Traits
    rng : numpy.random.Generator
    """
    z, y, x = p
    noise = lambda scale: smooth_noise(rng, lattice, scale)  # noqa: E731
    side = np.sqrt(x * x + 9) - 3
    midline = x + 0.8 * noise(14)
    fossa = _posterior_fossa(z, y, side)
    stem = _stem(p)
    core = _core(z, y)
    atrophy = 1.6 + 0.9 * noise(22) + 0.035 * np.maximum(z - 20, 0)
    cisterns = union(
        tube(p, [(0, -22, -12, 17), (0, -26, -36, 20), (0, -40, -70, 16)]),
        ellipsoid(p, (0, 4, -24), (14, 15, 11)),
        4,
    )
    sylvian = _sylvian(z + 1.5 * noise(16), y, side + 1.5 * noise(16))
    cortex = intersection(hull - np.maximum(atrophy, 0.2), -fossa - 1.0, 3)
    cortex = intersection(cortex, -cisterns, 6)
    depth = intersection(cortex, np.abs(midline) + 3 * np.maximum(core, 0), 8)
    sulcus = _sulci(p, lattice, depth, traits, rng)
    reach = np.clip(traits.sulcal_depth * (1 + 0.45 * noise(14)), 2, 30)
    cortex = intersection(cortex, sylvian, 1.5)
    cerebellum, folium = _cerebellum(p, hull, fossa, stem, noise)
    return BrainFields(
        cortex=cortex,
        midline=midline,
        core=core,
        sulcus=sulcus,
        reach=reach,
        cerebellum=cerebellum,
        folium=folium,
        stem=stem,
        nuclei=_nuclei(p, side),
        ventricles=_ventricles(p, side, traits),
        ribbon=1 + 0.13 * noise(12),
        gap=noise(9),
        callosum=_callosum(p),
        vessel=np.hypot(noise(10), noise(10)),
    )


def _posterior_fossa(z, y, side):
    """Depth under the tentorium and behind the petrous ridges."""
    under = 0.88 * (-1 + 0.3 * (y + 55) - 0.4 * side - z)
    behind = 0.76 * (-0.85 * side - y)
    return intersection(under, behind, 6)


def _core(z, y):
    """Depth under the upper edge of the corpus callosum, seen from the side."""
    callosum = ellipsoid((z, y, np.zeros(1, np.float32)), (0, -3, 5), (40, 40, 21.5))
    below = np.minimum(np.minimum(y + 36, 12 - y), 6 - z)
    return union(callosum, below, 4)


def _callosum(p):
    """Depth in the corpus callosum: an arch from side to side."""
    z, y, x = p
    flat = (z, y, np.zeros(1, np.float32))
    arch = [(27, -5, 1.5), (34, 2, 3), (33, 9, 4), (24, 17, 3.2), (5, 23, 2.6), (-15, 24, 2.6),
            (-31, 19, 3), (-39, 11, 4.2), (-37, 5, 3)]
    depth = tube(flat, [(0, *node) for node in arch])
    return np.minimum(depth, 16 - np.abs(x))


def _sylvian(z, y, side):
    """Distance from the Sylvian fissure: a sheet from the side to the insula, and its two walls."""
    sheet = z - (-5 - 0.45 * y)
    outside = np.maximum(np.maximum(34 - side, y - 24), -42 - y)
    lateral = np.hypot(sheet, np.maximum(outside, 0))
    beyond = np.maximum(np.maximum(np.abs(sheet) - 13, y - 22), -30 - y)
    insula = np.hypot(side - 36, np.maximum(beyond, 0))
    return np.minimum(lateral, insula) - 0.6


def _sulci(p, lattice, depth, traits, rng):
    """Signed distance from sulci: zero lines of labyrinthine noise, carried inwards."""
    spacing = 2.0
    cube = folded_noise(rng, 96, spacing, traits.wavelength)
    slope = np.gradient(depth, lattice.spacing)
    carry = np.float32(0.65) * np.clip(depth, -4, 24)
    points = [
        q - carry * s + np.float32(2.0) * smooth_noise(rng, lattice, 9)
        for q, s in zip(p, slope, strict=True)
    ]
    pattern = sample_periodic(cube, spacing, points)
    steep = np.sqrt(sum(g * g for g in np.gradient(pattern, lattice.spacing)))
    k = np.float32(2 * np.pi / traits.wavelength)
    return np.sign(pattern) * np.arctan2(k * np.abs(pattern), steep) / k


def _cerebellum(p, hull, fossa, stem, noise):
    """Depth in the cerebellum and signed distance from its fissures, which fan out from inside."""
    z, y, x = p
    mirrored = (z, y, np.abs(x))
    depth = union(
        ellipsoid(mirrored, (25, -62, -34), (31, 31, 27)),
        ellipsoid(p, (0, -63, -26), (14, 26, 26)),
        6,
    )
    depth = intersection(depth, fossa - 1.0, 3)
    depth = intersection(depth, hull - 1.5, 3)
    depth = intersection(depth, -tube(p, [(0, -26, -20, 16), (0, -42, -75, 13)]), 3)
    up, back = z + 34, -(y + 44)
    radius = np.sqrt(up * up + back * back + 0.15 * x * x) + 1
    phase = 14 * np.arctan2(up, back) + 0.7 * noise(14)
    folium = np.arcsin(np.sin(phase)) * np.maximum(radius, 6) / 14
    return depth, folium


def _stem(p):
    z, y, x = p
    mirrored = (z, y, np.abs(x))
    stem = union(ellipsoid(p, (0, -25, -12), (17, 12, 13)), ellipsoid(p, (0, -23, -32), (18, 14, 15)), 5)
    stem = union(stem, tube(p, [(0, -30, -38, 11), (0, -38, -58, 8.5), (0, -45, -95, 7)]), 4)
    return union(stem, tube(mirrored, [(12, -32, -32, 6), (20, -52, -33, 6)]), 4)


def _nuclei(p, side):
    z, y, x = p
    q = (z, y, side)
    turned = (z, y * np.float32(0.97) + side * np.float32(0.2), side * np.float32(0.97) - y * np.float32(0.2))
    parts = ellipsoid(q, (11, -18, 7), (8.5, 14, 9))
    for part in (
        tube(q, [(12, 20, 3, 6.5), (13, 10, 11, 5.5), (15, -4, 17, 3.5), (18, -22, 19, 2.5)]),
        ellipsoid(turned, (26.5, -3, 1), (5.5, 16, 10)),
        tube(q, [(24, -4, -22, 8), (28, -22, -14, 5), (24, -36, -3, 4)]),
        ellipsoid(q, (0, -4, -10), (8, 8, 6)),
    ):
        parts = np.maximum(parts, part)
    return parts


def _ventricles(p, side, traits):
    z, y, x = p
    s = np.float32(traits.ventricles)
    left, right = traits.ventricle_asymmetry, -traits.ventricle_asymmetry
    grown = s * np.where(x < 0, 1 + np.float32(left), 1 + np.float32(right))
    q = (z, y, side)
    body = tube(
        q,
        [
            (8, 31, 4, 2.2), (9, 20, 9, 4.2), (8, 4, 14.5, 4.2), (11, -14, 16, 4), (17, -32, 14, 4.6),
            (24, -43, 7, 5.5), (25, -60, 4, 3.6), (22, -76, 4, 1.8),
        ],
    )
    horn = tube(q, [(25, -42, 4, 4.5), (33, -28, -9, 2.6), (31, -8, -19, 2.2)])
    lateral = np.maximum(body, horn) + 3.2 * (grown - 1)
    third = np.minimum(
        1.9 * s - np.abs(x), ellipsoid((z, y, np.zeros(1, np.float32)), (0, -13, -3), (40, 15, 10))
    )
    fourth = ellipsoid(p, (0, -43, -30), (7, 5, 11)) + (s - 1)
    aqueduct = tube(p, [(0, -28, -4, 1.4), (0, -40, -24, 1.4)])
    return np.maximum(np.maximum(lateral, third), np.maximum(fourth, aqueduct))
