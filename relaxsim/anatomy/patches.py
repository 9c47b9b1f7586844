"""Patches: where they lie in a label volume, and how they are cut out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from relaxsim.core.labels import NUM_LABELS


def draw_centres(
    flat_mask: np.ndarray, shape: tuple[int, ...], num: int, rng: np.random.Generator
) -> np.ndarray:
    """Centres uniform over the voxels of a mask (paper, section 4.2).

    Parameters
    ----------
    flat_mask : array, shape (M,)
        Flat indices of the mask's voxels in a volume of `shape`.
    shape : (Z, Y, X)
    num : int
    rng : numpy.random.Generator

    Returns
    -------
    centres : array, shape (num, 3), int32
        Slice, row, column.
    """
    flat = flat_mask[rng.integers(0, len(flat_mask), num)]
    return np.stack(np.unravel_index(flat, shape), axis=-1).astype(np.int32)


def crop(volume: np.ndarray, centre: Sequence[int], size: tuple[int, int, int]) -> np.ndarray:
    """Block of `size` around `centre`, zero where it leaves the volume.

    Parameters
    ----------
    volume : array, shape (Z, Y, X)
        A volume of one slice is that slice at every depth.
    centre : (slice, row, column)
        Index of the block's voxel ``size // 2``.
    size : (int, int, int)

    Returns
    -------
    block : array of `size`
    """
    if len(volume) == 1:
        volume = np.broadcast_to(volume, (size[0], *volume.shape[1:]))
        centre = size[0] // 2, *centre[1:]
    block = np.zeros(size, volume.dtype)
    start = [int(c) - s // 2 for c, s in zip(centre, size, strict=True)]
    inside = [
        (max(0, -lo), min(s, n - lo)) for lo, s, n in zip(start, size, volume.shape, strict=True)
    ]
    if any(hi <= lo for lo, hi in inside):
        return block
    target = tuple(slice(lo, hi) for lo, hi in inside)
    source = tuple(slice(lo + a, lo + b) for lo, (a, b) in zip(start, inside, strict=True))
    block[target] = volume[source]
    return block


def random_orientation(block: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Random flip and quarter turns in the plane of the last two axes."""
    if rng.random() < 0.5:
        block = block[..., ::-1]
    return np.rot90(block, int(rng.integers(4)), axes=(-2, -1))


def coarse_fractions(
    block: np.ndarray,
    size: tuple[int, int],
    factor: float,
    depth_factor: float | None = None,
    num_labels: int = NUM_LABELS,
) -> np.ndarray:
    """Volume fraction of each label in voxels that are `factor` times as wide.

    Every coarse voxel is a box of `factor` fine voxels in each direction, the block's edges cut
    by their overlap.

    Parameters
    ----------
    block : uint8 array, shape (z, y, x)
        Fine labels, centred, at least as large as the coarse voxels (`fine_size`).
    size : (int, int)
        Rows and columns of the result.
    factor : float
        Ratio of the voxel sizes.
    depth_factor : float, optional
        That of the thickness; default: `factor`.
    num_labels : int

    Returns
    -------
    fractions : array, shape (rows, columns, num_labels), float32
        They sum to 1.
    """
    deep = factor if depth_factor is None else depth_factor
    return slab_fractions(block, 1, size, factor, deep, num_labels)[0]


def slab_fractions(
    block: np.ndarray,
    num_slices: int,
    size: tuple[int, int],
    factor: float,
    depth_factor: float,
    num_labels: int = NUM_LABELS,
) -> np.ndarray:
    """Volume fractions as `coarse_fractions`, in slices that touch.

    Parameters
    ----------
    block : uint8 array, shape (z, y, x)
        Fine labels; the slab lies in their middle. ``z`` is at least
        ``fine_size(num_slices, depth_factor)``.
    num_slices : int
    size, factor, depth_factor, num_labels
        As `coarse_fractions`.

    Returns
    -------
    fractions : array, shape (num_slices, rows, columns, num_labels), float32
        They sum to 1.
    """
    depth = _box_weights(num_slices, block.shape[0], depth_factor)
    rows = _box_weights(size[0], block.shape[1], factor)
    columns = _box_weights(size[1], block.shape[2], factor)
    fractions = np.zeros((num_slices, *size, num_labels), np.float32)
    for fraction, weights in zip(fractions, depth, strict=True):
        touched = np.flatnonzero(weights)
        inside = slice(touched[0], touched[-1] + 1)
        part = block[inside]
        for label in np.unique(part):
            of_label = (part == label).astype(np.float32)
            plane = np.tensordot(weights[inside], of_label, axes=(0, 0))
            fraction[..., label] = rows @ plane @ columns.T
    return fractions


def fine_size(size: int, factor: float) -> int:
    """Number of fine voxels that hold `size` coarse ones.

    Of a whole ratio it is exactly as many, so that no coarse voxel's edge cuts a fine one: at a
    ratio of 1 the labels do not change.
    """
    if abs(factor - round(factor)) < 1e-6:
        return size * round(factor)
    return int(np.ceil(size * factor - 1e-6)) + 1


def _box_weights(coarse: int, fine: int, factor: float) -> np.ndarray:
    """Share of each fine voxel in each coarse one, shape (coarse, fine); rows sum to 1."""
    offset = (fine - coarse * factor) / 2
    edges = offset + factor * np.arange(coarse + 1)
    cells = np.arange(fine)
    overlap = np.minimum(edges[1:, None], cells + 1) - np.maximum(edges[:-1, None], cells)
    return (np.clip(overlap, 0, None) / factor).astype(np.float32)
