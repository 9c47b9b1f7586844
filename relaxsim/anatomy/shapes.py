"""Drawn shapes: label patches of no anatomy, and small details in an anatomy.

Patches of no anatomy let networks serve phantoms: a background label and some discs, bars, plates
and points of other labels. Details (lesions, vessels) keep networks from smoothing small structures
away. Labels are those of tissues (their relaxation times come from the tissue table) or, in patches
of no anatomy, 0 (no signal).
"""

from __future__ import annotations

import numpy as np

#: Details in a patch of 40 x 40 voxels, at most.
MOST_DETAILS = 40


def draw_shapes(rng: np.random.Generator, size: int, factor: float = 1.0) -> np.ndarray:
    """Draw a label patch.

    Parameters
    ----------
    rng : numpy.random.Generator
    size : int
        Width in fine voxels.
    factor : float
        Fine voxels per voxel of the patch; shapes scale with it.

    Returns
    -------
    labels : uint8 array, shape (size, size)
    """
    y, x = np.mgrid[:size, :size].astype(np.float32)
    labels = np.full((size, size), 0 if rng.random() < 0.4 else rng.integers(1, 12), np.uint8)
    for _ in range(int(rng.integers(3, 12))):
        cy, cx = rng.uniform(0, size, 2)
        kind = rng.choice(["disc", "bar", "plate", "point"])
        angle = rng.uniform(0, np.pi)
        along, across = _rotated(x - cx, y - cy, angle)
        if kind == "disc":
            inside = along**2 + across**2 < (factor * rng.uniform(2, 9)) ** 2
        elif kind == "bar":
            inside = np.abs(across) < factor * rng.uniform(0.5, 2)
        elif kind == "plate":
            long, wide = factor * rng.uniform(2, 12, 2)
            inside = (np.abs(along) < long) & (np.abs(across) < wide)
        else:
            half = factor * rng.uniform(0.5, 1.2)
            inside = (np.abs(x - cx) < half) & (np.abs(y - cy) < half)
        labels[inside] = rng.integers(0, 12)
    return labels


def with_details(labels: np.ndarray, rng: np.random.Generator, factor: float = 1.0) -> np.ndarray:
    """Draw points and short lines of other tissues, about a voxel wide.

    Their number is log-uniform, from one to `MOST_DETAILS` in 40 x 40 voxels: where they are rare a
    network learns that a voxel which stands out is noise.

    Parameters
    ----------
    labels : uint8 array, shape (depth, size, size)
        Fine labels; they stay as they are. Background stays background.
    rng : numpy.random.Generator
    factor : float
        Fine voxels per voxel of the patch; details scale with it.

    Returns
    -------
    labels : uint8 array, shape (depth, size, size)
    """
    labels = labels.copy()
    size = labels.shape[-1]
    y, x = np.mgrid[:size, :size].astype(np.float32)
    most = max(1.0, MOST_DETAILS * (size / factor / 40) ** 2)
    for _ in range(round(most ** rng.random())):
        cy, cx = rng.uniform(0, size, 2)
        long = factor * (rng.uniform(0.5, 1.0) if rng.random() < 0.5 else rng.uniform(1.0, 5.0))
        wide = factor * rng.uniform(0.5, 1.0)
        # Along the grid in half of the cases, where structures are one voxel wide and sharp.
        angle = rng.choice([0.0, 0.5 * np.pi, *rng.uniform(0, np.pi, 2)])
        along, across = _rotated(x - cx, y - cy, angle)
        inside = (np.abs(along) < long) & (np.abs(across) < wide)
        labels[inside & (labels > 0)] = rng.integers(1, 12)
    return labels


def _rotated(x: np.ndarray, y: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates along and across a direction."""
    along = x * np.cos(angle) + y * np.sin(angle)
    return along, y * np.cos(angle) - x * np.sin(angle)
