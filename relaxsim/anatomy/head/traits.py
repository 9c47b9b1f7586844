"""Traits in which the built-in heads differ: a few numbers that are drawn for every seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Mean share of each label among a BrainWeb model's head (labels 1 to 11).
HEAD_SHARES = (0.099, 0.263, 0.161, 0.024, 0.049, 0.234, 0.086, 0.0065, 0.011, 0.0167, 0.050)


@dataclass(frozen=True)
class Traits:
    """One subject.

    Attributes
    ----------
    scale : tuple of float
        Size relative to the mean head along z, y, x.
    bend : float
        Size of the low-order deformation, mm.
    wavelength : float
        Distance between every other sulcus, mm.
    sulcal_depth : float
        Mean depth of the sulci, mm.
    meander : float
        Weight of the noise that turns sulci off their regular course, 0 to about 0.5.
    ventricles : float
        Width of the ventricles relative to the mean.
    ventricle_asymmetry : float
        Relative difference of the lateral ventricles, half of it on each side.
    shares : tuple of float
        Share of the head that each label gets, labels 1 to 11.
    """

    scale: tuple[float, ...]
    bend: float
    wavelength: float
    sulcal_depth: float
    meander: float
    ventricles: float
    ventricle_asymmetry: float
    shares: tuple[float, ...]


def draw_traits(rng: np.random.Generator) -> Traits:
    """Traits of a new subject."""
    size = rng.uniform(0.97, 1.03) * rng.uniform(0.97, 1.03, 3)
    shares = np.array(HEAD_SHARES) * rng.uniform(0.9, 1.1, len(HEAD_SHARES))
    return Traits(
        scale=tuple(size.tolist()),
        bend=rng.uniform(1.5, 2.5),
        wavelength=rng.uniform(18.0, 20.5),
        sulcal_depth=rng.uniform(17.0, 20.0),
        meander=rng.uniform(0.35, 0.5),
        ventricles=float(np.exp(rng.normal(0, 0.22))),
        ventricle_asymmetry=float(np.clip(rng.normal(0, 0.1), -0.3, 0.3)),
        shares=tuple((shares / shares.sum()).tolist()),
    )
