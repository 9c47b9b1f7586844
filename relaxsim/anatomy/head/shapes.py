"""Shapes as depth fields: millimetres below their surface, positive inside, first-order exact.

Points are triples (z, y, x) of arrays that broadcast; centres, half axes and nodes are written
(x, y, z), as anatomists write them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from relaxsim.anatomy.head.lattice import Field, Lattice

Points = Sequence[np.ndarray]
XYZ = tuple[float, float, float]
#: Node of a tube: x, y, z, radius.
Node = tuple[float, float, float, float]


@dataclass(frozen=True)
class Frame:
    """Frame of one subject: that of the mean head, bent and scaled.

    Attributes
    ----------
    bend : three Fields
        Displacement along z, y, x in mm.
    scale : three floats
        Size relative to the mean head along z, y, x.
    """

    bend: tuple[Field, ...]
    scale: tuple[float, ...]

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
    axes = [np.float32(h) for h in half[::-1]]
    parts = [
        np.abs(p - np.float32(c)) / h for p, c, h in zip(points, centre[::-1], axes, strict=True)
    ]
    e = np.float32(power)
    radius = sum(_power(q, e) for q in parts) ** (1 / e) + np.float32(1e-4)
    slope = sum((_power(q, e - 1) / h) ** 2 for q, h in zip(parts, axes, strict=True))
    slope = np.sqrt(slope) * radius ** (1 - e)
    return (1 - radius) / np.maximum(slope, np.float32(1 / max(half)))


def _power(q: np.ndarray, e: np.float32) -> np.ndarray:
    """``q**e``, the cheap cases first."""
    return q if e == 1 else q * q if e == 2 else np.maximum(q, np.float32(1e-4)) ** e


def tube(points: Points, nodes: Sequence[Node]) -> np.ndarray:
    """Depth in a chain of round cones through `nodes` (x, y, z, radius)."""
    depth: np.ndarray | None = None
    for a, b in pairwise(nodes):
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
