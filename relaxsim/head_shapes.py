"""Shapes as depth fields: millimetres below their surface, positive inside, first-order exact.

Points are triples (z, y, x) of arrays that broadcast; centres, half axes and nodes are written
(x, y, z), as anatomists write them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from relaxsim.lattice import Field, Lattice

Points = Sequence[np.ndarray]
XYZ = tuple[float, float, float]


@dataclass(frozen=True)
class Frame:
    """A subject's own frame: the mean head's, bent and scaled.

    Attributes
    ----------
    bend : three Fields
        Displacement along z, y, x in mm.
    scale : three floats
        Size relative to the mean head along z, y, x.
    """

    bend: tuple[Field, Field, Field]
    scale: tuple[float, float, float]

    def points(self, lattice: Lattice) -> Points:
        """Nodes of `lattice` in the mean head's frame, three float32 arrays of its shape."""
        axes = lattice.axes()
        grid = (axes[0][:, None, None], axes[1][:, None], axes[2])
        return tuple(
            ((g + field.at(axes)) / s).astype(np.float32)
            for g, field, s in zip(grid, self.bend, self.scale, strict=True)
        )


def ellipsoid(points: Points, centre: XYZ, half: XYZ, power: float = 2.0) -> np.ndarray:
    """Depth in the (super)ellipsoid of `half` axes; `power` above 2 makes it boxier."""
    parts = [
        np.abs(p - np.float32(c)) / np.float32(h)
        for p, c, h in zip(points, centre[::-1], half[::-1], strict=True)
    ]
    if power == 2.0:
        radius = np.sqrt(sum(q * q for q in parts)) + np.float32(1e-4)
        slope = np.sqrt(sum((q / np.float32(h)) ** 2 for q, h in zip(parts, half[::-1], strict=True)))
        slope = slope / radius
    else:
        radius = sum(q ** np.float32(power) for q in parts) ** np.float32(1 / power)
        radius = radius + np.float32(1e-4)
        slope = np.sqrt(
            sum(
                (np.maximum(q, 1e-4) ** np.float32(power - 1) / np.float32(h)) ** 2
                for q, h in zip(parts, half[::-1], strict=True)
            )
        ) * radius ** np.float32(1 - power)
    return (1 - radius) / np.maximum(slope, np.float32(1 / (2 * max(half))))


def tube(points: Points, nodes: Sequence[tuple[float, float, float, float]]) -> np.ndarray:
    """Depth in a chain of round cones through `nodes` (x, y, z, radius)."""
    depth: np.ndarray | None = None
    for a, b in zip(nodes[:-1], nodes[1:], strict=True):
        axis = np.array(b[2::-1], np.float32) - np.array(a[2::-1], np.float32)
        offset = [p - np.float32(c) for p, c in zip(points, a[2::-1], strict=True)]
        along = sum(o * d for o, d in zip(offset, axis, strict=True)) / np.float32(axis @ axis)
        along = np.clip(along, 0, 1)
        distance = np.sqrt(sum((o - along * d) ** 2 for o, d in zip(offset, axis, strict=True)))
        part = np.float32(a[3]) + along * np.float32(b[3] - a[3]) - distance
        depth = part if depth is None else np.maximum(depth, part)
    if depth is None:
        raise ValueError("a tube needs two nodes or more.")
    return depth


def union(a: np.ndarray, b: np.ndarray, blend: float = 0.0) -> np.ndarray:
    """Depth in either shape; edges are rounded over `blend` mm."""
    return -intersection(-a, -b, blend)


def intersection(a: np.ndarray, b: np.ndarray, blend: float = 0.0) -> np.ndarray:
    """Depth in both shapes; edges are rounded over `blend` mm."""
    if blend == 0.0:
        return np.minimum(a, b)
    overlap = np.maximum(np.float32(blend) - np.abs(a - b), 0)
    return np.minimum(a, b) - overlap * overlap * np.float32(0.25 / blend)
