"""From the built-in head's fields to labels: every tissue is a cut through a score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from relaxsim.anatomy.head.brain import BRAIN_BOX, FAR, Cerebrum
from relaxsim.anatomy.head.deep import DEEP_BOX, HIND_BOX, Cerebellum, Deep
from relaxsim.anatomy.head.lattice import Box, Field
from relaxsim.anatomy.head.layers import (
    COVER,
    DURA_LIMIT,
    SKIN_ONLY,
    Layers,
    LayerScores,
    layer_scores,
)
from relaxsim.anatomy.head.shapes import intersection
from relaxsim.core.labels import (
    AROUND_FAT,
    CSF,
    DURA,
    FAT,
    GREY,
    MARROW,
    MUSCLE,
    SKIN,
    SKULL,
    VESSEL,
    WHITE,
)

#: Roughness of the brain's boundaries, mm: BrainWeb's labels were cut from noisy images.
ROUGHNESS = 0.35


@dataclass(frozen=True)
class Head:
    """All fields of a subject. `jitter` is fine noise that roughens every boundary."""

    layers: Layers
    cerebrum: Cerebrum
    deep: Deep
    cerebellum: Cerebellum
    jitter: Field


@dataclass(frozen=True)
class Cuts:
    """Thresholds of the scores, in mm for scores in mm.

    Attributes
    ----------
    fluid : depth of the fluid over the cortex
    ribbon : thickness of the cortex
    artery : size of the brain's arteries, in standard deviations of their noise
    skin, dura, bone, marrow, fat, around_fat, muscle, vessel : cuts through `LayerScores`
    """

    fluid: float = 0.3
    ribbon: float = 3.0
    artery: float = 0.2
    skin: float = 0.0
    dura: float = 0.0
    bone: float = 5.0
    marrow: float = 0.0
    fat: float = 0.0
    around_fat: float = 0.0
    muscle: float = 0.0
    vessel: float = 0.0


@dataclass(frozen=True)
class BrainScores:
    """The brain's fields at voxels of `BRAIN_BOX`; depths in mm, their boundaries roughened.

    Attributes
    ----------
    hull, pia : array
        Depths inside the skull and below the cerebrum's surface, sulci included.
    gap, ribbon : array
        Local widening of the sulci, mm, and local thickness of the cortex relative to the mean.
    artery, sinus : array
        Distance from arteries, in standard deviations of their noise; depth in the sinuses.
    hind, deep : three slices each
        Parts of the voxels that `HIND_BOX` and `DEEP_BOX` cover.
    cerebellum, folia : array
        Depths in the cerebellum and below its surface, fissures included; on `hind`.
    stem, stem_nuclei, callosum, nuclei, ventricles : array
        Depths; on `deep`.
    """

    hull: np.ndarray
    pia: np.ndarray
    gap: np.ndarray
    ribbon: np.ndarray
    artery: np.ndarray
    sinus: np.ndarray
    hind: tuple[slice, slice, slice]
    cerebellum: np.ndarray
    folia: np.ndarray
    deep: tuple[slice, slice, slice]
    stem: np.ndarray
    stem_nuclei: np.ndarray
    callosum: np.ndarray
    nuclei: np.ndarray
    ventricles: np.ndarray


def inside(axes: Sequence[np.ndarray], box: Box) -> tuple[slice, slice, slice]:
    """Part of the voxels with coordinates `axes` that lies in `box`."""
    z, y, x = (
        slice(*np.searchsorted(a, bounds).tolist()) for a, bounds in zip(axes, box, strict=True)
    )
    return z, y, x


def within(axes: Sequence[np.ndarray], part: Sequence[slice]) -> list[np.ndarray]:
    """Coordinates of a part of the voxels."""
    return [a[s] for a, s in zip(axes, part, strict=True)]


def brain_scores(
    head: Head, axes: Sequence[np.ndarray], hull: np.ndarray, jitter: np.ndarray
) -> BrainScores:
    """Scores of the voxels with coordinates `axes`, all in `BRAIN_BOX`."""
    cerebrum = head.cerebrum
    rough = np.float32(ROUGHNESS) * jitter
    midline = np.abs(cerebrum.midline.at(axes))
    core = cerebrum.core.at(axes)
    hind, deep = inside(axes, HIND_BOX), inside(axes, DEEP_BOX)
    there = within(axes, hind)
    cerebellum = head.cerebellum.depth.at(there)
    folia = np.hypot(head.cerebellum.fissure.at(there), np.maximum(cerebellum - 17, 0))
    there = within(axes, deep)
    clump = head.deep.clump.at(there)
    stem = head.deep.stem.at(there)
    return BrainScores(
        hull=hull,
        pia=_pia(cerebrum, axes, midline, core) + rough,
        gap=0.6 * cerebrum.gap.at(axes),
        ribbon=1 + 0.1 * cerebrum.ribbon.at(axes),
        artery=np.hypot(*(field.at(axes) for field in cerebrum.arteries)),
        sinus=_sinuses(cerebrum, axes, hull, midline, core),
        hind=hind,
        cerebellum=cerebellum,
        folia=intersection(cerebellum, folia, 1.0) + rough[hind],
        deep=deep,
        stem=stem - rough[deep],
        stem_nuclei=np.minimum(stem - 1.5, clump - 1.25),
        callosum=head.deep.callosum.at(there) - 0.5 * rough[deep],
        nuclei=head.deep.nuclei.at(there) - clump - rough[deep],
        ventricles=head.deep.ventricles.at(there) - rough[deep],
    )


def _pia(
    cerebrum: Cerebrum, axes: Sequence[np.ndarray], midline: np.ndarray, core: np.ndarray
) -> np.ndarray:
    """Depth below the cerebrum's surface, which includes the walls of the sulci."""
    cleft = midline - 1.1 + 3 * np.maximum(core, 0)
    outer = intersection(cerebrum.convexity.at(axes), cleft, 1.0)
    base, reach = cerebrum.base.at(axes), np.clip(cerebrum.reach.at(axes), 4, 26)
    beyond = np.minimum(outer - reach, base - 0.35 * reach)
    sulcus = np.hypot(cerebrum.sulcus.at(axes), np.maximum(beyond, 0))
    surface = intersection(outer, cerebrum.sylvian.at(axes) + FAR, 1.5)
    return intersection(intersection(surface, base, 2.0), sulcus, 2.0)


def _sinuses(
    cerebrum: Cerebrum,
    axes: Sequence[np.ndarray],
    hull: np.ndarray,
    midline: np.ndarray,
    core: np.ndarray,
) -> np.ndarray:
    """Depth in the sagittal and transverse sinuses and the artery over the corpus callosum."""
    z, y = axes[0][:, None, None], axes[1][:, None]
    never = np.float32(-100)
    sagittal = np.where(z > -8, 3.0 - np.hypot(midline, hull - 2), never)
    transverse = np.where(y < -50, 3.0 - np.hypot(cerebrum.tentorium.at(axes), hull - 2), never)
    callosal = np.where(y > -20, 1.2 - np.hypot(midline - 0.6, core + 0.5), never)
    return np.maximum(np.maximum(sagittal, transverse), callosal)


def paint_brain(scores: BrainScores, fluid: float, ribbon: float) -> np.ndarray:
    """Labels of the brain without vessels, 0 outside the skull."""
    labels = np.full(scores.pia.shape, CSF, np.uint8)
    depth = scores.pia - fluid - scores.gap
    labels[depth > 0] = GREY
    labels[depth > ribbon * scores.ribbon] = WHITE
    part, here = labels[scores.hind], scores.cerebellum > 0
    part[here] = CSF
    part[here & (scores.folia > -0.1)] = GREY
    part[here & (scores.folia > 1.9)] = WHITE
    part = labels[scores.deep]
    part[scores.stem > 0] = WHITE
    part[scores.stem_nuclei > 0] = GREY
    part[scores.callosum > 0] = WHITE
    part[scores.nuclei > 0] = GREY
    part[scores.ventricles > 0] = CSF
    labels[scores.hull <= 0] = 0
    return labels


def outer_fluid(labels: np.ndarray, scores: BrainScores) -> np.ndarray:
    """Mask of the fluid around the brain, without that of the ventricles."""
    fluid = labels == CSF
    fluid[scores.deep] &= scores.ventricles <= 0
    return fluid


def paint_vessels(labels: np.ndarray, scores: BrainScores, size: float) -> None:
    """Arteries in the fluid, and the venous sinuses."""
    labels[outer_fluid(labels, scores) & (scores.artery < size)] = VESSEL
    labels[(labels > 0) & (scores.sinus > 0)] = VESSEL


def paint_layers(scores: LayerScores, cuts: Cuts) -> np.ndarray:
    """Labels of the whole head but for its brain, which is painted over them."""
    labels = np.zeros(scores.skin.shape, np.uint8)
    labels[scores.skin > cuts.skin] = SKIN
    bone = scores.bone(cuts.dura)
    soft = scores.soft_score(bone, cuts.bone)
    under = scores.skin > cuts.skin + SKIN_ONLY
    for cut, label in ((cuts.muscle, MUSCLE), (cuts.around_fat, AROUND_FAT), (cuts.fat, FAT)):
        labels[under & (soft > cut)] = label
    labels[under & (scores.vessel < cuts.vessel)] = VESSEL
    under = scores.skin > cuts.skin + COVER
    labels[under & (bone < cuts.bone)] = SKULL
    middle = scores.marrow_score(bone, cuts.bone) > cuts.marrow
    labels[under & (bone < cuts.bone) & middle] = MARROW
    labels[under & (scores.cavity > -2)] = SKULL
    labels[under & (scores.cavity > 2)] = 0
    labels[under & (scores.dura > cuts.dura) & (scores.out < DURA_LIMIT)] = DURA
    return labels


def paint(head: Head, axes: Sequence[np.ndarray], cuts: Cuts) -> np.ndarray:
    """Labels of the voxels with coordinates `axes` along z, y and x."""
    hull, jitter = head.layers.hull.at(axes), head.jitter.at(axes)
    labels = paint_layers(layer_scores(head.layers, axes, hull, jitter), cuts)
    part = inside(axes, BRAIN_BOX)
    if labels[part].size:
        scores = brain_scores(head, within(axes, part), hull[part], jitter[part])
        brain = paint_brain(scores, cuts.fluid, cuts.ribbon)
        paint_vessels(brain, scores, cuts.artery)
        np.copyto(labels[part], brain, where=brain > 0)
    return labels
