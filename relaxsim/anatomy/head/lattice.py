"""Smooth fields in space: cubic B-splines on coarse lattices, and noise made of them.

Space is in mm, its axes in the order z (up), y (forward), x (right). A spline is evaluated on a
box of voxels by three sparse matrix products and costs about as much as writing it down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

#: Lower and upper end along z, y and x, in mm.
Box = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Lattice:
    """Nodes at ``start + spacing * index``, in mm."""

    start: tuple[float, ...]
    spacing: float
    shape: tuple[int, ...]

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

    def weights(self, axis: int, coordinates: np.ndarray) -> sparse.csr_array:
        """Cubic B-spline weights (len(coordinates), nodes along `axis`), float32."""
        position = (np.asarray(coordinates, float) - self.start[axis]) / self.spacing
        nodes = np.floor(position)[:, None] + np.arange(-1, 3)
        t = np.abs(position[:, None] - nodes)
        values = np.where(t < 1, 2 / 3 - t**2 + t**3 / 2, np.maximum(2 - t, 0) ** 3 / 6)
        size = self.shape[axis]
        values[(nodes < 0) | (nodes >= size)] = 0
        indices = np.clip(nodes, 0, size - 1).astype(np.int32).ravel()
        starts = np.arange(0, 4 * len(position) + 1, 4, dtype=np.int32)
        shape = (len(position), size)
        return sparse.csr_array((values.ravel().astype(np.float32), indices, starts), shape)


@dataclass(frozen=True)
class Field:
    """Spline with one float32 coefficient a node; values on the nodes serve as coefficients."""

    lattice: Lattice
    coefficients: np.ndarray

    def at(self, axes: Sequence[np.ndarray]) -> np.ndarray:
        """Values at the voxels with coordinates `axes` along z, y and x; float32, zero far away.

        Sparse products, not dense ones: their sums do not depend on the number of threads.
        """
        wz, wy, wx = (self.lattice.weights(k, a) for k, a in enumerate(axes))
        _, rows, columns = self.lattice.shape
        values = wz @ self.coefficients.reshape(-1, rows * columns)
        values = values.reshape(-1, rows, columns).transpose(2, 0, 1)
        values = wx @ values.reshape(columns, -1)
        values = values.reshape(wx.shape[0], -1, rows).transpose(2, 1, 0)
        values = wy @ values.reshape(rows, -1)
        return values.reshape(wy.shape[0], wz.shape[0], wx.shape[0]).transpose(1, 0, 2)


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
