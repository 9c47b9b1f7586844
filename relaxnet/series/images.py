"""The images of a series, with what is found in them once and used in several places."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from relaxnet.series.air_noise import AirNoise, air_noise
from relaxnet.series.scale import largest_modulus


@dataclass(frozen=True)
class Images:
    """Weighted images, and their largest modulus and the noise of their air, found when asked for.

    Attributes
    ----------
    S : array, shape (X, Y, Z, N)
        The whole field of view.
    """

    S: np.ndarray

    @cached_property
    def largest(self) -> np.ndarray:
        """Voxel-wise maximum of the modulus over images, shape (X, Y, Z), float64."""
        return largest_modulus(self.S)

    @cached_property
    def air(self) -> AirNoise:
        """Noise of the air around the object, if there is clean air."""
        return air_noise(self.S)
