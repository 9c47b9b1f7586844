"""Layers around the built-in head's brain: dura, bone with marrow, scalp and face."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from relaxsim.anatomy.head.brain import intracranial
from relaxsim.anatomy.head.lattice import Box, Field, Lattice, noise_field
from relaxsim.anatomy.head.shapes import Frame, Points, ellipsoid, union

#: Dura lies no further than this from the brain's fluid, mm.
DURA_LIMIT = 5.0
#: Scalp without bone, and without anything but skin, mm.
COVER, SKIN_ONLY = 3.0, 2.0


@dataclass(frozen=True)
class Layers:
    """Fields around the brain; depths in mm, the noises without unit.

    Attributes
    ----------
    hull, skin : Field
        Depths inside the skull and under the skin.
    cavity, orbit : Field
        Depths in the air cells of the face and the skull's base, and in the orbits.
    dura, marrow, scalp, lump : Field
        Noises: thickness of the dura, course of the marrow, course of the scalp's layers, lumps
        of muscle and fat.
    thickness : Field
        Local thickness of the bone relative to the mean.
    vessels : two Fields
        Noises: vessels of the face and neck run where both are near 0.
    """

    hull: Field
    skin: Field
    cavity: Field
    orbit: Field
    dura: Field
    marrow: Field
    scalp: Field
    lump: Field
    thickness: Field
    vessels: tuple[Field, Field]


def build_layers(frame: Frame, view: Box, rng: np.random.Generator) -> Layers:
    """Layers of a subject in the field of view."""
    lattice = Lattice.covering(view, 3.0)
    p = frame.points(lattice)
    hull = intracranial(p)
    uneven = noise_field(rng, view, 28.0).at(lattice.axes())
    base = np.clip((-30 - p[0]) / 18, 0, 1)
    return Layers(
        hull=Field(lattice, hull),
        skin=Field(lattice, _skin(p, hull)),
        cavity=Field(lattice, _cavities(p)),
        orbit=Field(lattice, _orbits(p)),
        dura=noise_field(rng, view, 11.0),
        marrow=noise_field(rng, view, 8.0),
        scalp=noise_field(rng, view, 6.0),
        lump=noise_field(rng, view, 5.0),
        thickness=Field(lattice, np.maximum(1 + 0.2 * uneven + 0.5 * base, 0.4)),
        vessels=(noise_field(rng, view, 10.0), noise_field(rng, view, 10.0)),
    )


def _skin(p: Points, hull: np.ndarray) -> np.ndarray:
    """Depth under the skin: scalp, face, neck, nose and ears."""
    z, y, x = p
    depth = union(hull + 14.3, ellipsoid(p, (0, 33, -18), (66.5, 56, 39), 2.2), 12)
    depth = union(depth, ellipsoid(p, (0, -17, -43), (82.5, 90.5, 74.5), 2.4), 12)
    depth = union(depth, ellipsoid(p, (0, 77.5, -61.5), (12, 11.5, 21.5)), 8)
    return union(depth, ellipsoid((z, y, np.abs(x)), (88, -26, -28), (6, 14, 27)), 4)


def _cavities(p: Points) -> np.ndarray:
    """Depth in the nose, the maxillary and sphenoid sinuses and, shallow, the mastoids."""
    z, y, x = p
    mirrored = (z, y, np.abs(x))
    mastoid = np.minimum(ellipsoid(mirrored, (48, -36, -54), (14, 12, 10)), 1) - 2
    depth = np.maximum(ellipsoid(p, (0, 52, -46), (10, 24, 22)), mastoid)
    depth = np.maximum(depth, ellipsoid(mirrored, (26, 48, -66), (11, 14, 12)))
    return np.maximum(depth, ellipsoid(p, (0, 18, -38), (10, 11, 8)))


def _orbits(p: Points) -> np.ndarray:
    z, y, x = p
    return ellipsoid((z, y, np.abs(x)), (31, 55, -36), (16, 22, 16))


@dataclass(frozen=True)
class LayerScores:
    """`Layers` at voxels, in the form that the tissues are cut from.

    Attributes
    ----------
    skin, out : array
        Depth under the skin and distance from the brain's fluid, mm.
    dura : array
        Dura is where this exceeds a cut.
    thickness : array
        Local thickness of the bone relative to the mean.
    cavity : array
        Depth in air cells, mm.
    marrow, scalp, lump, jitter : array
        Noises.
    vessel : array
        Distance from vessels, in standard deviations of their noises.
    """

    skin: np.ndarray
    out: np.ndarray
    dura: np.ndarray
    thickness: np.ndarray
    cavity: np.ndarray
    marrow: np.ndarray
    scalp: np.ndarray
    lump: np.ndarray
    jitter: np.ndarray
    vessel: np.ndarray

    def bone(self, dura_cut: float) -> np.ndarray:
        """Distance outside the dura, in units of the bone's local thickness times mm."""
        sheet = np.maximum(self.dura + self.out - dura_cut, 0)
        return (self.out - sheet) / self.thickness + np.float32(0.2) * self.jitter

    def marrow_score(self, bone: np.ndarray, bone_cut: float) -> np.ndarray:
        """Closeness to the middle of the bone, between its two tables."""
        return self.marrow - np.abs(bone / bone_cut - np.float32(0.55))

    def soft_score(self, bone: np.ndarray, bone_cut: float) -> np.ndarray:
        """Fat is where this is highest; its rim and muscle follow, then skin and connective."""
        off_bone = (bone - bone_cut) * self.thickness
        layer = -np.abs(off_bone - 2.8 - self.scalp)
        return np.maximum(layer, np.where(off_bone > 6, self.lump, -9)) + 0.25 * self.jitter


def layer_scores(
    layers: Layers, axes: Sequence[np.ndarray], hull: np.ndarray, jitter: np.ndarray
) -> LayerScores:
    """Scores at the voxels with coordinates `axes`, where `hull` is already known."""
    marrow = layers.marrow.at(axes)
    in_orbit = np.clip(layers.orbit.at(axes), 0, 10)
    return LayerScores(
        skin=layers.skin.at(axes),
        out=-hull,
        dura=1.2 * layers.dura.at(axes) + hull + 0.3 * jitter,
        thickness=layers.thickness.at(axes),
        cavity=layers.cavity.at(axes) + 1.5 * marrow,
        marrow=0.2 * marrow + 0.05 * jitter,
        scalp=0.9 * layers.scalp.at(axes),
        lump=layers.lump.at(axes) - 2.1 + 0.25 * in_orbit,
        jitter=jitter,
        vessel=np.hypot(*(field.at(axes) for field in layers.vessels)),
    )
