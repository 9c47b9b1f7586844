"""Masks: which voxels of a series show tissue."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from relaxnet.scale import largest_modulus


def automatic_mask(S: np.ndarray) -> np.ndarray:
    """Foreground of a series.

    The voxel-wise maximum over images is thresholded by Otsu's method (256 bins up to the 99th
    percentile); parts smaller than a tenth of the largest one
    are dropped, and holes are filled slice by slice.

    Parameters
    ----------
    S : array, shape (X, Y, Z, N)
        Weighted images; voxels that are not finite are outside.

    Returns
    -------
    mask : bool array, shape (X, Y, Z)

    Raises
    ------
    ValueError
        If the series is empty (all zero or not finite).
    """
    mip = largest_modulus(S)
    mip = np.where(np.isfinite(mip), mip, 0.0)
    if not (mip > 0).any():
        raise ValueError("the series is zero or not finite everywhere; there is nothing to map.")
    mask = mip > otsu_threshold(mip[mip > 0])
    parts, count = ndimage.label(mask)
    if count > 1:
        sizes = np.bincount(parts.ravel())
        sizes[0] = 0
        mask = np.isin(parts, np.flatnonzero(sizes >= 0.1 * sizes.max()))
    for z in range(mask.shape[2]):
        mask[:, :, z] = ndimage.binary_fill_holes(mask[:, :, z])
    return mask


def otsu_threshold(values: np.ndarray) -> float:
    """Threshold that parts a histogram in two classes of least variance (Otsu 1979).

    0 where the values do not part: all alike, or the lower class is not below half the upper one.
    """
    top = np.percentile(values, 99)
    counts, edges = np.histogram(np.minimum(values, top), bins=256, range=(0, top or 1.0))
    centres = 0.5 * (edges[1:] + edges[:-1])
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = sums / below, (sums[-1] - sums) / above
        between = below * above * (high - low) ** 2
    best = int(np.nanargmax(between))
    if not low[best] < 0.5 * high[best]:
        return 0.0
    return float(edges[best + 1])
