"""Thresholds of the built-in head's scores, by which every tissue gets its share of the head.

The cuts are found on a coarse sample of the head, tissue after tissue, from the brain outwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from relaxsim.anatomy.head.brain import BRAIN_BOX
from relaxsim.anatomy.head.lattice import Box
from relaxsim.anatomy.head.layers import COVER, DURA_LIMIT, SKIN_ONLY, LayerScores, layer_scores
from relaxsim.anatomy.head.paint import (
    BrainScores,
    Cuts,
    Head,
    brain_scores,
    inside,
    outer_fluid,
    paint_brain,
    paint_layers,
    within,
)
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

#: Voxels of the sample that the cuts are chosen on, mm.
SAMPLE = 3.0
#: Share of the vessels that lies inside the skull.
INNER_VESSELS = 0.76
#: Bounds of the cortex' thickness and of the fluid over it, mm.
RIBBON, FLUID = (1.8, 4.0), (-1.0, 2.5)


def calibrate(head: Head, view: Box, shares: Sequence[float]) -> Cuts:
    """Cuts that give the labels 1 to 11 their `shares` of the head."""
    axes = [np.arange(lower + SAMPLE / 2, upper, SAMPLE) for lower, upper in view]
    hull, jitter = head.layers.hull.at(axes), head.jitter.at(axes)
    share = dict(enumerate(shares, start=1))
    part = inside(axes, BRAIN_BOX)
    scores = brain_scores(head, within(axes, part), hull[part], jitter[part])
    voxels = np.count_nonzero(scores.hull > 0) / _brain_share(share)
    cuts = _brain_cuts(scores, share, voxels)
    brain = np.zeros(hull.shape, bool)
    brain[part] = scores.hull > 0
    return _layer_cuts(layer_scores(head.layers, axes, hull, jitter), brain, share, voxels, cuts)


def _brain_share(share: dict[int, float]) -> float:
    return share[CSF] + share[GREY] + share[WHITE] + INNER_VESSELS * share[VESSEL]


def _brain_cuts(scores: BrainScores, share: dict[int, float], voxels: float) -> Cuts:
    def count(label: int, fluid: float, ribbon: float) -> float:
        return np.count_nonzero(paint_brain(scores, fluid, ribbon) == label) / voxels

    vessels = INNER_VESSELS * share[VESSEL]
    fluid = _solve(lambda c: count(CSF, c, 3.0), share[CSF] + vessels, FLUID)
    ribbon = _solve(lambda c: count(GREY, fluid, c), share[GREY], RIBBON)
    labels = paint_brain(scores, fluid, ribbon)
    veins = np.count_nonzero((scores.sinus > 0) & (labels > 0))
    arteries = scores.artery[outer_fluid(labels, scores) & (scores.sinus <= 0)]
    return Cuts(fluid, ribbon, -_cut(-arteries, voxels * vessels - veins))


def _layer_cuts(
    scores: LayerScores, brain: np.ndarray, share: dict[int, float], voxels: float, cuts: Cuts
) -> Cuts:
    skin = _cut(scores.skin[~brain], voxels - np.count_nonzero(brain))
    cuts = replace(cuts, skin=float(np.clip(skin, -5, 5)))
    under = ~brain & (scores.skin > cuts.skin + COVER)
    near = under & (scores.out < DURA_LIMIT)
    cuts = replace(cuts, dura=_cut(scores.dura[near], voxels * share[DURA]))
    cells = under & (scores.cavity > -2)
    under &= ~cells & ~(near & (scores.dura > cuts.dura))
    bone = scores.bone(cuts.dura)
    walls = np.count_nonzero(cells & (scores.cavity <= 2))
    bones = voxels * (share[SKULL] + share[MARROW]) - walls
    cuts = replace(cuts, bone=-_cut(-bone[under], bones))
    marrow = scores.marrow_score(bone, cuts.bone)[under & (bone < cuts.bone)]
    cuts = replace(cuts, marrow=_cut(marrow, voxels * share[MARROW]))
    plain = replace(cuts, fat=np.inf, around_fat=np.inf, muscle=np.inf, vessel=-np.inf)
    soft = ~brain & (paint_layers(scores, plain) == SKIN)
    soft &= scores.skin > cuts.skin + SKIN_ONLY
    outer_vessels = voxels * (1 - INNER_VESSELS) * share[VESSEL]
    score = scores.soft_score(bone, cuts.bone)[soft]
    fat = voxels * share[FAT]
    rim = fat + voxels * share[AROUND_FAT]
    return replace(
        cuts,
        fat=_cut(score, fat),
        around_fat=_cut(score, rim),
        muscle=_cut(score, rim + voxels * share[MUSCLE]),
        vessel=-_cut(-scores.vessel[soft], outer_vessels),
    )


def _solve(function: Callable[[float], float], target: float, bounds: tuple[float, float]) -> float:
    """Argument at which a rising function reaches `target`, or the nearer of its `bounds`."""
    low, high = bounds
    for _ in range(9):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) < target else (low, middle)
    return (low + high) / 2


def _cut(scores: np.ndarray, count: float) -> float:
    """Value that `count` of `scores` exceed."""
    index = scores.size - 1 - min(max(int(count), 1), scores.size - 1)
    return float(np.partition(scores.ravel(), index)[index])
