"""Smooth fields in space: cubic B-splines on coarse lattices, and noise made of them.

Space is in mm, its axes in the order z (up), y (forward), x (right). A spline is evaluated on a
box of voxels by three matrix products, so that a field costs about as much as writing it down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: Lower and upper end along z, y and x, in mm.
Box = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Lattice:
    """Nodes at ``start + spacing * index``, in mm."""

    start: tuple[float, float, float]
    spacing: float
    shape: tuple[int, int, int]

    @classmethod
    def covering(cls, box: Box, spacing: float) -> Lattice:
        """Lattice whose splines are complete inside `box`."""
        start = tuple(float(lower) - 1.5 * spacing for lower, _ in box)
        shape = tuple(int(np.ceil((upper - lower) / spacing)) + 4 for lower, upper in box)
        return cls(start, spacing, shape)

    def axes(self) -> list[np.ndarray]:
        """Coordinates of the nodes along z, y and x."""
        return [
            s + self.spacing * np.arange(n) for s, n in zip(self.start, self.shape, strict=True)
        ]

    def box(self) -> list[tuple[float, float]]:
        """First and last node along each axis."""
        return [(axis[0], axis[-1]) for axis in self.axes()]

    def weights(self, axis: int, coordinates: np.ndarray) -> np.ndarray:
        """Cubic B-spline weights (len(coordinates), nodes along `axis`), float32."""
        position = (np.asarray(coordinates, float) - self.start[axis]) / self.spacing
        t = np.abs(position[:, None] - np.arange(self.shape[axis]))
        near = 2 / 3 - t**2 + t**3 / 2
        far = np.maximum(2 - t, 0) ** 3 / 6
        return np.where(t < 1, near, far).astype(np.float32)


@dataclass(frozen=True)
class Field:
    """Spline with one float32 coefficient a node; values on the nodes serve as coefficients."""

    lattice: Lattice
    coefficients: np.ndarray

    def at(self, axes: Sequence[np.ndarray]) -> np.ndarray:
        """Values at the voxels with coordinates `axes` along z, y and x; float32, zero far away."""
        wz, wy, wx = (self.lattice.weights(k, a) for k, a in enumerate(axes))
        return np.matmul(wy, np.tensordot(wz, self.coefficients, 1) @ wx.T)


def noise_field(rng: np.random.Generator, box: Box, scale: float) -> Field:
    """Smooth noise of mean 0 and standard deviation 1.

    Parameters
    ----------
    rng : numpy.random.Generator
    box : three pairs (lower, upper)
        Where it is needed, in mm.
    scale : float
        Spacing of the knots in mm; bumps are about twice as wide.
    """
    lattice = Lattice.covering(box, scale)
    # The mean over a knot's cell of the sum of squared B-spline weights is 151/315, per axis.
    gain = np.float32((315 / 151) ** 1.5)
    return Field(lattice, gain * rng.standard_normal(lattice.shape, dtype=np.float32))
