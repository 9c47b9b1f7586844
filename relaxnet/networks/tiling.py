"""Running a network over slices and tiles in bounded memory."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from scipy import ndimage

#: Size of the largest piece that a network sees at once: voxels times (`_INNER` + images). It
#: takes up to 0.6 GB with the default network, and holds a slice of 512 x 512 with 31 images.
MAX_VALUES = 25_000_000
#: What a voxel holds inside a network, in images.
_INNER = 64
#: Sides of tiles are not cut below this.
_SMALLEST_SIDE = 16
#: Work of all tiles, their halos included, at most, relative to that of the box at once.
_MOST_WORK = 4.0

#: No image of a voxel that a network sees is larger, in units of the series' scale: squares of fill
#: values overflow, and convolutions carry that to voxels around.
LARGEST = 1e3

Region = tuple[slice, slice]


def run_network(
    network: Any,
    S: Iterable[np.ndarray],
    tau: np.ndarray,
    sigma: Iterable[float | np.ndarray],
    masks: Iterable[np.ndarray] | None = None,
    max_voxels: int | None = None,
    progress: Callable[[int], object] | None = None,
    rician: bool = False,
    signed: bool = False,
) -> np.ndarray:
    """Estimate kappa slice by slice.

    Of each slice only the box around its mask is computed, and that in tiles if it is large. All
    pieces overlap by the network's halo, so that the result is that of the whole slice.

    Parameters
    ----------
    network : callable
        A Keras model, or ``network([S, tau, sigma], training=False)`` -> (J, b, h, w, Q), which
        with `signed` also gets None and True; its ``halo`` is the number of voxels on each side
        that an estimate depends on.
    S : array, shape (Z, Y, X, N), or iterable of arrays, shape (Y, X, N)
        Slices of images as the network takes them, in units of the series' scale, finite.
    tau : array, shape (N,)
        ms.
    sigma : iterable of float or arrays, shape (Y, X)
        Noise of each slice, or of each of its voxels, in units of the scale, positive. The network
        gets it as (1,) or (1, h, w); a ResNet makes no use of it.
    masks : iterable of bool arrays, shape (Y, X), optional
        Voxels of each slice that are wanted.
    max_voxels : int, optional
        Of the largest piece; by default what `MAX_VALUES` allows.
    progress : callable, optional
        Called with the number of slices done since the last call.
    rician, signed : bool
        Noise is Rician; the images carry the signal's sign. A RIM is then told.

    Returns
    -------
    kappa : array, shape (Z, Y, X, Q) or (Z, Y, X, 2 Q), float32
        0 outside the boxes of the masks. Of a network with an error head (``has_std``) kappa is
        followed by its standard deviations.
    """
    tau = np.asarray(tau, np.float32)
    most = max_voxels or MAX_VALUES // (_INNER + len(tau))
    estimate = _compiled(network, rician, signed)
    channels = (2 if getattr(network, "has_std", False) else 1) * len(network.parameters)
    wanted = iter(masks) if masks is not None else None
    estimates = []
    for images, level in zip(S, sigma, strict=True):
        shape, values = images.shape[:2], np.asarray(level, np.float32)
        kappa = np.zeros((*shape, channels), np.float32)
        box = _box(np.ones(shape, bool) if wanted is None else next(wanted))
        for inner, outer, cut in tiles(shape, network.halo, most, box) if box else ():
            piece = np.ascontiguousarray(images[outer], dtype=np.float32)[None]
            noise = (values[outer] if values.ndim else values)[None]
            kappa[inner] = np.asarray(estimate(piece, tau, noise))[0][cut]
        estimates.append(kappa)
        if progress is not None:
            progress(1)
    return np.stack(estimates)


def filled(images: np.ndarray) -> np.ndarray:
    """A slice as networks take it: bad voxels among good ones do not harm these.

    A voxel that is not finite, zero in all images or beyond `LARGEST` (a fill value) gets the mean
    of its good neighbours if at least five of the eight are good, and is zero otherwise.

    Parameters
    ----------
    images : array, shape (Y, X, N)
        In units of the series' scale.

    Returns
    -------
    images : array, shape (Y, X, N)
        Finite.
    """
    good = (np.abs(images) <= LARGEST).all(-1) & images.any(-1)
    if good.all():
        return images
    images = np.where(good[..., None], images, 0)
    count = ndimage.convolve(good.astype(np.uint8), np.ones((3, 3), np.uint8), mode="constant")
    alone = np.argwhere(~good & (count >= 5))
    padded = np.pad(images, ((1, 1), (1, 1), (0, 0)))
    total = np.zeros((len(alone), images.shape[-1]), images.dtype)
    for dy, dx in np.ndindex(3, 3):
        total += padded[alone[:, 0] + dy, alone[:, 1] + dx]
    images[tuple(alone.T)] = total / count[tuple(alone.T)][:, None]
    return images


def tiles(
    shape: tuple[int, int], halo: int, max_voxels: int, box: Region | None = None
) -> Iterator[tuple[Region, Region, Region]]:
    """Tiles of a slice, or of a box in it.

    Tiles are even; sides of 16 are not cut. Of the cuts into tiles of at most
    `max_voxels`, halo included, the one with the least work is taken. Where every one of them has
    much more work than the box at once (a halo as wide as the slice), tiles are larger.

    Yields
    ------
    inner : slices
        Part of the slice that the tile gives.
    outer : slices
        Part that it needs: `inner` with the halo around it, cut at the slice's edge.
    cut : slices
        `inner` within `outer`.
    """
    box = box or (slice(0, shape[0]), slice(0, shape[1]))
    cuts = [_cuts(box[a], shape[a], halo) for a in (0, 1)]
    sides = [[[_length(outer) for _, outer in cut] for cut in of_axis] for of_axis in cuts]
    size = np.multiply.outer(*([max(cut) for cut in of_axis] for of_axis in sides))
    work = np.multiply.outer(*([sum(cut) for cut in of_axis] for of_axis in sides))
    fits = (size <= max_voxels) & (work <= _MOST_WORK * work[0, 0])
    price = np.where(fits, work, np.inf) if fits.any() else work * np.maximum(size / max_voxels, 1)
    chosen = np.unravel_index(price.argmin(), price.shape)
    for rows, outer_rows in cuts[0][chosen[0]]:
        for columns, outer_columns in cuts[1][chosen[1]]:
            cut = (_within(rows, outer_rows), _within(columns, outer_columns))
            yield (rows, columns), (outer_rows, outer_columns), cut


def _cuts(side: slice, size: int, halo: int) -> list[list[tuple[slice, slice]]]:
    """Cuts of a side into even parts, the whole first, until they are no longer than 16."""
    most = -(-_length(side) // _SMALLEST_SIDE)
    return [_cut(side, size, halo, count) for count in range(1, most + 1)]


def _cut(side: slice, size: int, halo: int, count: int) -> list[tuple[slice, slice]]:
    """About `count` even parts of a side, each with the halo around it that lies in the slice."""
    step = max(1, -(-_length(side) // count))
    starts = range(side.start, side.stop, step)
    inner = [slice(start, min(start + step, side.stop)) for start in starts]
    return [(i, slice(max(0, i.start - halo), min(size, i.stop + halo))) for i in inner]


def _length(part: slice) -> int:
    return part.stop - part.start


def _within(inner: slice, outer: slice) -> slice:
    return slice(inner.start - outer.start, inner.stop - outer.start)


def _box(mask: np.ndarray) -> Region | None:
    """Smallest box around a mask; None if the mask is empty."""
    if not mask.any():
        return None
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _compiled(network: Any, rician: bool, signed: bool) -> Callable[..., Any]:
    """The last step's estimate; of a Keras model one graph, which serves every size.

    And images with and without sign: a network may be asked for both
    (`relaxnet.prediction.sign_ambiguity`).
    """
    keras = sys.modules.get("keras")
    if keras is not None and isinstance(network, keras.Model):
        traced = _traced(network, rician)
        return lambda S, tau, sigma: traced(S, tau, np.atleast_3d(sigma), signed)
    told = [None, True] if signed else []
    return lambda S, tau, sigma: network([S, tau, sigma, *told], training=False)[-1]


@functools.lru_cache(maxsize=8)
def _traced(network: Any, rician: bool) -> Callable[..., Any]:
    """Compiled without autograph, whose conversion would take longer than a slice."""
    import tensorflow as tf

    N = network.num_images
    signature = [
        tf.TensorSpec((1, None, None, N), tf.float32),
        tf.TensorSpec((N,), tf.float32),
        tf.TensorSpec((1, None, None), tf.float32),  # (1, 1, 1) if it is the same everywhere
        tf.TensorSpec((), tf.bool),
    ]

    @tf.function(input_signature=signature, autograph=False)
    def estimate(S: Any, tau: Any, sigma: Any, signed: Any) -> Any:
        told = [tf.ones(1) if rician else None, signed] if network.kind == "rim" else []
        inputs = [S, tau, sigma, *told]
        if getattr(network, "has_std", False):
            return tf.concat(network.with_std(inputs), axis=-1)
        return network.estimate(inputs)

    return estimate
