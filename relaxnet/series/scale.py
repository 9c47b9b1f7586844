"""Scale: the one number that a weighted series is divided by before a network sees it."""

from __future__ import annotations

import numpy as np

#: Percentile, over voxels, of the maximum over images.
PERCENTILE = 95.0


def largest_modulus(S: np.ndarray) -> np.ndarray:
    """Voxel-wise maximum of the modulus over images, without a copy of the series.

    Parameters
    ----------
    S : array, shape (..., N)

    Returns
    -------
    mip : array, shape (...), float64
        Not finite where an image is not.
    """
    with np.errstate(invalid="ignore"):  # signalling NaN of damaged files
        highest, lowest = S.max(axis=-1).astype(np.float64), S.min(axis=-1).astype(np.float64)
    return np.maximum(highest, -lowest)


def series_scale(S: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Scale of a series: the 95th percentile over voxels of the voxel-wise maximum over images.

    Scaling the series scales it alike, so that relaxation times do not depend on the unit of the
    images.

    Parameters
    ----------
    S : array, shape (..., N)
        Weighted images; voxels that are not finite in every image are left out.
    mask : bool array, shape (...), optional
        Voxels that count.

    Returns
    -------
    scale : float
        Positive.

    Raises
    ------
    ValueError
        If no voxel is left or all are zero.

    Examples
    --------
    >>> series_scale(np.full((4, 4, 3), 7.0))
    7.0
    """
    return scale_of(largest_modulus(S), mask)


def scale_of(mip: np.ndarray, mask: np.ndarray | None = None) -> float:
    """`series_scale` of a series whose largest modulus over images, (...), is known."""
    keep = np.isfinite(mip)
    if mask is not None:
        keep &= mask
    if not keep.any():
        raise ValueError("no voxel with finite values lies in the mask")
    scale = float(np.percentile(mip[keep], PERCENTILE))
    if scale <= 0:
        raise ValueError("the series is zero in the mask")
    return scale


def patch_scale(S: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """`series_scale` of each patch.

    Parameters
    ----------
    S : array, shape (b, h, w, N)
    mask : bool array, shape (b, h, w)

    Returns
    -------
    scale : array, shape (b,), float64
        1 where a patch's mask is empty or its signal zero.
    """
    mip = largest_modulus(S)
    scale = np.ones(len(S))
    for i, (values, keep) in enumerate(zip(mip, mask, strict=True)):
        if keep.any():
            scale[i] = np.percentile(values[keep], PERCENTILE) or 1.0
    return scale
