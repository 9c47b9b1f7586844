"""The built-in head: a procedural label volume, a new subject for every seed."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def head_labels(seed: int, voxel_size: float = 1.0) -> np.ndarray:
    """Labels (Z, Y, X) of the built-in head."""
    rng = np.random.default_rng(seed)
    shape = tuple(round(n / voxel_size) for n in (181, 217, 181))
    axes = [(np.arange(n) + 0.5 - n / 2) * voxel_size for n in shape]
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    half = np.array([78.0, 92.0, 70.0]) * rng.uniform(0.94, 1.06, 3)
    depth = (1 - np.sqrt((z / half[0]) ** 2 + (y / half[1]) ** 2 + (x / half[2]) ** 2)) * 75
    depth = depth.astype(np.float32)
    noise = ndimage.gaussian_filter(rng.standard_normal((45, 54, 45)).astype(np.float32), 1.3)
    fold = ndimage.zoom(noise / noise.std(), np.array(shape) / noise.shape, order=1)
    sheet = np.abs(fold) * 5
    labels = np.zeros(shape, np.uint8)
    for start, label in (
        (-16, 6),
        (-10, 9),
        (-9, 4),
        (-8, 5),
        (-6, 7),
        (-4, 11),
        (-2, 10),
        (-1, 1),
    ):
        labels[depth > start] = label
    labels[(depth > 2) & (sheet > 0.6) & (np.abs(x) > 1)] = 2
    labels[(depth > 6) & (sheet > 3) & (np.abs(x) > 4)] = 3
    labels[depth > 25] = 3
    labels[(z / 15) ** 2 + (y / 30) ** 2 + ((np.abs(x) - 8) / 6) ** 2 < 1] = 1
    labels[(sheet < 0.1) & (depth > 0) & (depth < 3)] = 8
    return labels
