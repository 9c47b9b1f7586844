"""Smooth fields in space: coarse lattices of nodes, cubic B-splines between them, and noise.

Space is in mm, axes in the order z (up), y (forward), x (right). A field is an array of spline
coefficients, one a node; the spline through white coefficients is smooth noise. Evaluation on a
box of voxels is three matrix products, so that a field costs about as much as writing it down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import fft, ndimage


@dataclass(frozen=True)
class Lattice:
    """Nodes at ``start + spacing * index``, in mm, axes z, y, x."""

    start: tuple[float, float, float]
    spacing: float
    shape: tuple[int, int, int]

    @classmethod
    def covering(cls, box: Sequence[tuple[float, float]], spacing: float) -> Lattice:
        """Lattice whose splines are complete inside `box`, three pairs (lower, upper) in mm."""
        start = tuple(lower - 1.5 * spacing for lower, _ in box)
        shape = tuple(int(np.ceil((upper - lower) / spacing)) + 4 for lower, upper in box)
        return cls(start, spacing, shape)

    def axes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Coordinates of the nodes, shaped to broadcast to the lattice."""
        z, y, x = (
            np.float32(s) + np.float32(self.spacing) * np.arange(n, dtype=np.float32)
            for s, n in zip(self.start, self.shape, strict=True)
        )
        return z[:, None, None], y[:, None], x

    def weights(self, axis: int, coordinates: np.ndarray) -> np.ndarray:
        """Cubic B-spline weights (len(coordinates), nodes along `axis`), float32."""
        position = (np.asarray(coordinates, float) - self.start[axis]) / self.spacing
        t = np.abs(position[:, None] - np.arange(self.shape[axis]))
        near = 2 / 3 - t**2 + t**3 / 2
        far = np.maximum(2 - t, 0) ** 3 / 6
        return np.where(t < 1, near, far).astype(np.float32)


def evaluate(field: np.ndarray, weights: Sequence[np.ndarray]) -> np.ndarray:
    """Spline values on a box of voxels.

    Parameters
    ----------
    field : float32 array, shape (l, m, n)
        Coefficients on the nodes.
    weights : three arrays, shapes (Z, l), (Y, m), (X, n)
        From `Lattice.weights`.

    Returns
    -------
    values : float32 array, shape (Z, Y, X)
    """
    wz, wy, wx = weights
    values = np.tensordot(wz, field, 1)
    return np.matmul(wy, values) @ wx.T if values.shape[1] < values.shape[2] else np.matmul(
        wy, values @ wx.T
    )


def smooth_noise(rng: np.random.Generator, lattice: Lattice, scale: float) -> np.ndarray:
    """Noise of mean 0 and standard deviation 1 on the nodes of `lattice`.

    Parameters
    ----------
    rng : numpy.random.Generator
    lattice : Lattice
    scale : float
        Distance of the noise's own knots in mm: features are about twice as wide.

    Returns
    -------
    noise : float32 array of the lattice's shape
    """
    box = [
        (s, s + lattice.spacing * (n - 1)) for s, n in zip(lattice.start, lattice.shape, strict=True)
    ]
    knots = Lattice.covering(box, scale)
    coefficients = rng.standard_normal(knots.shape, dtype=np.float32)
    nodes = [axis.ravel() for axis in lattice.axes()]
    weights = [knots.weights(k, nodes[k]) for k in range(3)]
    mean_square = np.prod([np.mean(np.sum(w**2, axis=1)) for w in weights])
    return evaluate(coefficients, weights) / np.float32(np.sqrt(mean_square))


def folded_noise(
    rng: np.random.Generator, nodes: int, spacing: float, wavelength: float
) -> np.ndarray:
    """Periodic cube of labyrinthine noise: bands of one width that bend and fork.

    White noise is cut to a shell of wave numbers and pushed towards +1 and -1, three times over.

    Parameters
    ----------
    rng : numpy.random.Generator
    nodes : int
        Nodes along an edge.
    spacing, wavelength : float
        In mm.

    Returns
    -------
    noise : float32 array, shape (nodes, nodes, nodes)
        Standard deviation 1.
    """
    k = fft.fftfreq(nodes, spacing).astype(np.float32)
    kx = fft.rfftfreq(nodes, spacing).astype(np.float32)
    radius = np.sqrt(k[:, None, None] ** 2 + k[:, None] ** 2 + kx**2)
    shell = np.exp(-0.5 * ((radius * wavelength - 1) / 0.22) ** 2)
    noise = rng.standard_normal((nodes,) * 3, dtype=np.float32)
    for _ in range(3):
        noise = fft.irfftn(fft.rfftn(noise) * shell, s=noise.shape)
        noise = np.tanh(1.5 * noise / noise.std())
    noise = fft.irfftn(fft.rfftn(noise) * shell, s=noise.shape)
    return noise / noise.std()


def sample_periodic(cube: np.ndarray, spacing: float, points: Sequence[np.ndarray]) -> np.ndarray:
    """Values of a periodic cube at points (z, y, x in mm), linear between the nodes."""
    return ndimage.map_coordinates(
        cube, [p / np.float32(spacing) for p in points], order=1, mode="grid-wrap"
    )
