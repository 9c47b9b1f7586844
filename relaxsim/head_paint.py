"""From the built-in head's fields to labels: every tissue is a cut through a score.

The cuts are chosen on a coarse sample of the head so that each tissue gets its share of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from relaxsim.head_brain import BRAIN_BOX, Cerebrum
from relaxsim.head_deep import DEEP_BOX, HIND_BOX, Cerebellum, Deep
from relaxsim.head_shapes import intersection
from relaxsim.lattice import Box, Field

CSF, GREY, WHITE, FAT, MUSCLE, SKIN, SKULL, VESSEL, AROUND_FAT, DURA, MARROW = range(1, 12)
#: Jitter of every boundary, mm: BrainWeb's labels come from noisy images.
JITTER = 0.25


@dataclass(frozen=True)
class Head:
    """All fields of a subject; the noises have standard deviation 1."""

    hull: Field
    skin: Field
    bone_factor: Field
    soft: Field
    cavity: Field
    cerebrum: Cerebrum
    deep: Deep
    cerebellum: Cerebellum
    noises: dict[str, Field]


@dataclass(frozen=True)
class Cuts:
    """Thresholds of the scores, mm where the score is."""

    fluid: float = 0.5
    ribbon: float = 3.0
    vessel: float = 0.0
    skin: float = 0.0
    dura: float = 0.0
    bone: float = 0.0
    marrow: float = 0.0
    fat: float = 0.0
    around_fat: float = 0.0
    muscle: float = 0.0


def inside(axes: Sequence[np.ndarray], box: Box) -> tuple[slice, slice, slice]:
    """Part of the voxels with coordinates `axes` that lies in `box`."""
    return tuple(
        slice(*np.searchsorted(a, bounds).tolist()) for a, bounds in zip(axes, box, strict=True)
    )


class Brain:
    """Scores of the voxels in the brain's box."""

    def __init__(self, head: Head, axes: Sequence[np.ndarray], white: np.ndarray) -> None:
        cerebrum = head.cerebrum
        at = lambda field: field.at(axes)
        self.head, self.axes, self.white = head, axes, white
        self.hull = at(head.hull)
        self.midline = np.abs(at(cerebrum.midline))
        self.core = at(cerebrum.core)
        surface = intersection(at(cerebrum.surface), at(cerebrum.sylvian) + 30, 1.5)
        cleft = self.midline - 0.4 + 3 * np.maximum(self.core, 0)
        depth = intersection(surface, cleft, 1.0)
        sulcus = np.hypot(at(cerebrum.sulcus), np.maximum(depth - at(cerebrum.reach), 0))
        self.pia = intersection(depth, sulcus, 2.0) + np.float32(JITTER) * white
        self.gap = np.float32(0.6) * at(head.noises["gap"])
        self.ribbon = 1 + np.float32(0.13) * at(head.noises["ribbon"])
        self.artery = np.hypot(at(head.noises["artery_a"]), at(head.noises["artery_b"]))
        z = axes[0][:, None, None]
        sinus = 3.0 - np.hypot(self.midline, self.hull - 2) - 100 * (z < -8)
        callosal = 1.2 - np.hypot(self.midline - 0.6, self.core + 0.5) - 100 * (axes[1] < -20)[:, None]
        tent = 3.0 - np.hypot(at(cerebrum.tentorium), self.hull - 2) - 100 * (axes[1] > -50)[:, None]
        self.sinus = np.maximum(np.maximum(sinus, tent), callosal)

    def paint(self, fluid: float, ribbon: float) -> np.ndarray:
        """Labels without vessels, 0 outside the skull."""
        labels = np.full(self.pia.shape, CSF, np.uint8)
        depth = self.pia - fluid - self.gap
        labels[depth > 0] = GREY
        labels[depth > ribbon * self.ribbon] = WHITE
        self._hind(labels)
        self._deep(labels)
        labels[self.hull <= 0] = 0
        return labels

    def _hind(self, labels: np.ndarray) -> None:
        box = inside(self.axes, HIND_BOX)
        axes = [a[s] for a, s in zip(self.axes, box, strict=True)]
        depth = self.head.cerebellum.depth.at(axes)
        fissure = np.hypot(self.head.cerebellum.fissure.at(axes), np.maximum(depth - 13, 0))
        pia = intersection(depth, fissure, 1.0) + np.float32(JITTER) * self.white[box]
        part = labels[box]
        part[depth > 0] = CSF
        part[(depth > 0) & (pia > 0.15)] = GREY
        part[(depth > 0) & (pia > 2.5)] = WHITE

    def _deep(self, labels: np.ndarray) -> None:
        box = inside(self.axes, DEEP_BOX)
        axes = [a[s] for a, s in zip(self.axes, box, strict=True)]
        deep, white, part = self.head.deep, self.white[box], labels[box]
        stem = deep.stem.at(axes)
        part[stem > JITTER * white] = WHITE
        part[(stem > 1.5) & (white > 1.1)] = GREY
        part[deep.callosum.at(axes) > 0.15 * white] = WHITE
        part[deep.nuclei.at(axes) > 0.9 * white] = GREY
        part[deep.ventricles.at(axes) > JITTER * white] = CSF


def calibrate(head: Head, box: Box, shares: Sequence[float], rng) -> Cuts:
    """Cuts that give every label its share of the head, found on a sample every 3 mm."""
    axes = [np.arange(lower + 1.0, upper, 3.0) for lower, upper in box]
    white = rng.standard_normal([len(a) for a in axes], dtype=np.float32)
    part = inside(axes, BRAIN_BOX)
    brain = Brain(head, [a[s] for a, s in zip(axes, part, strict=True)], white[part])
    total = float(np.count_nonzero(brain.hull > 0))
    share = dict(enumerate(shares, start=1))
    brain_share = share[CSF] + share[GREY] + share[WHITE] + share[VESSEL]

    def fraction(label: int, fluid: float, ribbon: float) -> float:
        return np.count_nonzero(brain.paint(fluid, ribbon) == label) / total * brain_share

    fluid = _bisect(lambda c: fraction(CSF, c, 3.0), share[CSF] + share[VESSEL], -1.0, 2.5)
    ribbon = _bisect(lambda c: fraction(GREY, fluid, c), share[GREY], 1.8, 4.5)
    labels = brain.paint(fluid, ribbon)
    arteries = total * share[VESSEL] / brain_share - np.count_nonzero(brain.sinus[brain.hull > 0] > 0)
    vessel = -_cut(-brain.artery[labels == CSF], arteries)
    print("cuts", fluid, ribbon, vessel, arteries, total, [np.count_nonzero(labels==k)/total for k in (1,2,3)])
    whole = np.zeros(white.shape, np.uint8)
    whole[part] = labels
    return _calibrate_layers(head, axes, white, whole, share, total / brain_share, Cuts(fluid, ribbon, vessel))


def _bisect(function, target, low, high):
    for _ in range(8):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) < target else (low, middle)
    return (low + high) / 2


def _cut(scores: np.ndarray, count: float) -> float:
    """Score that `count` of `scores` exceed."""
    count = min(max(int(count), 1), scores.size - 1)
    return float(-np.partition(-scores.ravel(), count)[count])


class Layers:
    """Scores of the voxels outside the brain."""

    def __init__(self, head, axes, white):
        at = lambda field: field.at(axes)
        n = head.noises
        self.skin = at(head.skin)
        self.out = -at(head.hull)
        self.dura = 1.2 * at(n["dura"]) - self.out + 0.3 * white
        self.factor = 1 + 0.25 * at(n["bone"]) + at(head.bone_factor)
        self.cavity = at(head.cavity)
        self.marrow = 0.45 * at(n["marrow"]) + 0.1 * white
        self.lump = at(n["lump"])
        self.sheet = at(n["sheet"])
        self.soft = at(head.soft)
        self.white = white

    def bone(self):
        return -(self.out - np.maximum(0, self.dura + self.out)) / np.maximum(self.factor, 0.3) + 0.2 * self.white

    def soft_score(self, bone_cut):
        u = (-self.bone() - (-bone_cut)) * self.factor
        scalp = -np.abs(u - 2.6 - 0.9 * self.sheet)
        deep = 1.3 * self.lump + 1.6 * np.maximum(self.soft, -1) - 2.4
        return np.maximum(scalp, np.where(u > 6, deep, -9)) + 0.35 * self.white


def _calibrate_layers(head, axes, white, labels, share, total, cuts):
    s = Layers(head, axes, white)
    outside = labels == 0
    skin = _cut(s.skin[outside], total - np.count_nonzero(labels))
    skin = float(np.clip(skin, -5, 5))
    outside &= s.skin > skin
    covered = outside & (s.skin > skin + 3)
    dura = _cut(s.dura[covered & (s.out < 5)], total * share[DURA])
    covered &= ~((s.dura > dura) & (s.out < 5))
    cavity = covered & (s.cavity > -2)
    covered &= ~cavity
    score = s.bone()
    bone = _cut(score[covered], total * (share[SKULL] + share[MARROW]) - np.count_nonzero(cavity))
    bones = covered & (score > bone)
    marrow = _cut((score / bone + s.marrow)[bones], total * share[MARROW])
    soft = outside & (s.skin > skin + 2) & ~bones & ~cavity & (s.out > 3)
    score = s.soft_score(bone)[soft]
    fat = _cut(score, total * share[FAT])
    around = _cut(score, total * (share[FAT] + share[AROUND_FAT]))
    muscle = _cut(score, total * (share[FAT] + share[AROUND_FAT] + share[MUSCLE]))
    print("layers", skin, dura, bone, marrow, fat, around, muscle)
    return Cuts(cuts.fluid, cuts.ribbon, cuts.vessel, skin, dura, bone, marrow, fat, around, muscle)


def paint(head: Head, axes, white, cuts: Cuts) -> np.ndarray:
    """Labels of the voxels with coordinates `axes`."""
    s = Layers(head, axes, white)
    labels = np.zeros(white.shape, np.uint8)
    labels[s.skin > cuts.skin] = SKIN
    bone_score = s.bone()
    soft = s.soft_score(cuts.bone)
    under = s.skin > cuts.skin + 2
    for cut, label in ((cuts.muscle, MUSCLE), (cuts.around_fat, AROUND_FAT), (cuts.fat, FAT)):
        labels[under & (soft > cut)] = label
    under = s.skin > cuts.skin + 3
    bones = under & (bone_score > cuts.bone)
    labels[bones] = SKULL
    labels[bones & (bone_score / cuts.bone + s.marrow > cuts.marrow)] = MARROW
    labels[under & (s.cavity > -2)] = SKULL
    labels[under & (s.cavity > 2)] = 0
    labels[under & (s.dura > cuts.dura) & (s.out < 5)] = DURA
    box = inside(axes, BRAIN_BOX)
    sub = [a[b] for a, b in zip(axes, box, strict=True)]
    if all(len(a) for a in sub):
        brain = Brain(head, sub, white[box])
        part = brain.paint(cuts.fluid, cuts.ribbon)
        part[(part == CSF) & (brain.artery < cuts.vessel)] = VESSEL
        part[(brain.sinus > 0) & (part > 0)] = VESSEL
        np.copyto(labels[box], part, where=brain.hull > 0)
    return labels
