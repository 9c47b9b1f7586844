"""The built-in head's cerebrum: its surface, its fissures and its sulci as smooth fields."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from relaxsim.anatomy.head.lattice import Field, Lattice, noise_field
from relaxsim.anatomy.head.shapes import Frame, Points, ellipsoid, intersection, tube, union
from relaxsim.anatomy.head.traits import Traits

#: Where the brain lies, in mm.
BRAIN_BOX = ((-76.0, 100.0), (-120.0, 90.0), (-82.0, 82.0))
#: Share of the way to the surface over which the sulcal pattern does not change, so that sulci
#: stand upright.
UPRIGHT = 0.75
#: Distance in mm from which the Sylvian fissure does not matter.
FAR = 30.0


@dataclass(frozen=True)
class Cerebrum:
    """Fields of the cerebrum, in mm where no other unit is given.

    Attributes
    ----------
    convexity, base : Field
        Depth below the surface that faces the skull, and below the one that faces the tentorium
        and the cisterns.
    sylvian : Field
        Distance from the Sylvian fissure and its insular wall, `FAR` subtracted, so that it is 0
        outside its lattice.
    midline : Field
        Signed distance from the longitudinal fissure.
    core : Field
        Depth below the upper edge of the corpus callosum, where the fissure ends.
    sulcus : Field
        Signed distance from the nearest sulcus.
    reach : Field
        Depth at which the sulci end.
    tentorium : Field
        Depth below the tentorium.
    gap, ribbon : Field
        Noises without unit: width of the sulci and thickness of the cortex.
    arteries : two Fields
        Noises without unit: arteries run where both are near 0.
    """

    convexity: Field
    base: Field
    sylvian: Field
    midline: Field
    core: Field
    sulcus: Field
    reach: Field
    tentorium: Field
    gap: Field
    ribbon: Field
    arteries: tuple[Field, Field]


def intracranial(p: Points) -> np.ndarray:
    """Depth inside the skull: cranium, frontal, middle and posterior fossae, spinal canal."""
    z, y, x = p
    mirrored = (z, y, np.abs(x))
    depth = ellipsoid(p, (0, -31.5, 16.5), (73.5, 74, 67))
    depth = union(depth, ellipsoid(p, (0, 0, 21.5), (64.5, 66, 50)), 8)
    depth = union(depth, ellipsoid(mirrored, (36, -3, -13), (32, 31.5, 40.5)), 8)
    depth = union(depth, ellipsoid(p, (0, -60, -17.5), (61.5, 41, 50), 2.3), 8)
    depth = union(depth, ellipsoid(mirrored, (11.5, 31.5, 5), (45, 43, 31), 2.2), 8)
    depth = union(depth, tube(p, [(0, -38, -48, 16), (0, -46, -100, 12)]), 8)
    petrous = tube(mirrored, [(22, -14, -54, 7), (44, -32, -50, 9), (70, -48, -44, 10)])
    sella = ellipsoid(p, (0, 15, -42), (15, 17, 15))
    return intersection(depth, -union(petrous, sella), 6)


def posterior_fossa(p: Points) -> np.ndarray:
    """Depth under the tentorium, behind the petrous ridges, around cerebellum and brain stem."""
    z, y, x = p
    side = off_midline(x)
    ridge = np.minimum(0.5 * (y + 55), -0.55 * (y + 40))
    under = 0.85 * (ridge - 2 - 0.36 * side - z)
    behind = 0.76 * (-3 - 0.85 * side - y)
    return intersection(under, behind, 6)


def off_midline(x: np.ndarray) -> np.ndarray:
    """Distance from the midline, smooth across it."""
    return np.sqrt(x * x + 4) - 2


def build_cerebrum(frame: Frame, hull: Field, traits: Traits, rng: np.random.Generator) -> Cerebrum:
    """Cerebrum inside the skull `hull`, folded by `traits`; all else is drawn from `rng`."""
    coarse = Lattice.covering(BRAIN_BOX, 3.0)
    nodes = coarse.axes()
    p = z, y, x = frame.points(coarse)
    wander = {s: noise_field(rng, BRAIN_BOX, s).at(nodes) for s in (14.0, 22.0)}
    gap = np.maximum(0.6 + 0.7 * wander[22.0] + 0.04 * np.maximum(z - 15, 0), 0.2)
    fossa = posterior_fossa(p)
    convexity = hull.at(nodes) - gap
    base = intersection(-fossa - 1.0, -_cisterns(p), 6)
    surface = intersection(convexity, base, 3)
    midline = x + 0.9 * wander[14.0]
    core = _core(z, y)
    depth = intersection(surface, np.abs(midline) + 3 * np.maximum(core, 0), 8)
    return Cerebrum(
        convexity=Field(coarse, convexity),
        base=Field(coarse, base),
        sylvian=_sylvian(frame, rng),
        midline=Field(coarse, midline),
        core=Field(coarse, core),
        sulcus=_sulci(depth, coarse, traits, rng),
        reach=_reach(traits, rng),
        tentorium=Field(coarse, fossa),
        gap=noise_field(rng, BRAIN_BOX, 8.0),
        ribbon=noise_field(rng, BRAIN_BOX, 11.0),
        arteries=(noise_field(rng, BRAIN_BOX, 9.0), noise_field(rng, BRAIN_BOX, 9.0)),
    )


def _cisterns(p: Points) -> np.ndarray:
    """Depth in the fluid around the brain stem and above the sella."""
    return union(
        tube(p, [(0, -24, -20, 15), (0, -25, -34, 19), (0, -40, -70, 15)]),
        ellipsoid(p, (0, 4, -22), (13, 14, 9)),
        4,
    )


def _core(z: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Depth below the corpus callosum's upper edge, seen from the side."""
    flat = (z, y, np.zeros(1, np.float32))
    arch = ellipsoid(flat, (0, 0, 6), (40, 42, 25))
    below = np.minimum(np.minimum(y + 36, 12 - y), 6 - z)
    return union(arch, below, 4)


def _sylvian(frame: Frame, rng: np.random.Generator) -> Field:
    """Distance from a sheet between the side and the insula, and from the wall of the insula."""
    lattice = Lattice.covering(((-40.0, 45.0), (-60.0, 45.0), BRAIN_BOX[2]), 1.5)
    nodes = lattice.axes()
    z, y, x = frame.points(lattice)
    side = np.abs(x) + 1.5 * noise_field(rng, BRAIN_BOX, 12.0).at(nodes)
    sheet = z + 5 + 0.45 * y + 1.8 * noise_field(rng, BRAIN_BOX, 12.0).at(nodes)
    past = np.maximum(np.maximum(37 - side, y - 24), -42 - y)
    lateral = np.hypot(sheet, np.maximum(past, 0))
    past = np.maximum(np.maximum(np.abs(sheet) - 13, y - 22), -30 - y)
    insula = np.hypot(side - 39, np.maximum(past, 0))
    return Field(lattice, np.minimum(np.minimum(lateral, insula) - 0.5, FAR) - FAR)


def _reach(traits: Traits, rng: np.random.Generator) -> Field:
    noise = noise_field(rng, BRAIN_BOX, 13.0)
    depths = traits.sulcal_depth * (1 + 0.35 * noise.coefficients)
    return Field(noise.lattice, depths.astype(np.float32))


def _sulci(depth: np.ndarray, coarse: Lattice, traits: Traits, rng: np.random.Generator) -> Field:
    """Signed distance from the zero lines of a labyrinth.

    For a plane wave of the assumed width the arc tangent is its distance exactly; near a zero
    line it is so for any pattern.
    """
    pattern = _labyrinth(depth, coarse, traits.wavelength, rng)
    wiggle = noise_field(rng, coarse.box(), 0.4 * traits.wavelength)
    lattice = Lattice.covering(BRAIN_BOX, 1.5)
    nodes = lattice.axes()
    values = Field(coarse, pattern).at(nodes) + np.float32(traits.meander) * wiggle.at(nodes)
    steep = np.sqrt(sum(g * g for g in np.gradient(values, lattice.spacing)))
    k = np.float32(2 * np.pi / (1.5 * traits.wavelength))
    return Field(lattice, np.sign(values) * np.arctan2(k * np.abs(values), steep) / k)


def _labyrinth(
    depth: np.ndarray, lattice: Lattice, wavelength: float, rng: np.random.Generator
) -> np.ndarray:
    """Bands of one width that bend and fork along a surface and change little with depth.

    White noise is carried from the surface along its normals, cut to a band of wave numbers and
    pushed towards +1 and -1, again and again.
    """
    slope = np.gradient(depth, lattice.spacing)
    steep = np.maximum(np.sqrt(sum(s * s for s in slope)), 0.3)
    carry = np.float32(UPRIGHT / lattice.spacing) * np.clip(depth / steep, -6, 26)
    index = np.indices(lattice.shape, np.float32)
    points = [i - carry * s / steep for i, s in zip(index, slope, strict=True)]
    # The difference of these two Gaussians passes most at the wavelength.
    narrow = wavelength / 5.72 / lattice.spacing
    pattern = rng.standard_normal(lattice.shape, dtype=np.float32)
    for _ in range(10):
        pattern = ndimage.map_coordinates(pattern, points, order=1, mode="nearest")
        wide = ndimage.gaussian_filter(pattern, 1.6 * narrow, truncate=3)
        pattern = ndimage.gaussian_filter(pattern, narrow, truncate=3) - wide
        pattern = np.tanh(1.5 * pattern / pattern.std())
    return pattern
