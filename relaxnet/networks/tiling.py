"""Running a network over slices and tiles in bounded memory."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from relaxnet.networks.network import Network
from relaxnet.networks.precision import use_full_precision

#: Size of the largest piece that a network gets at once: voxels times (`_INNER` + images). It
#: takes up to 0.6 GB with the default network, and holds a slice of 512 x 512 with 31 images.
MAX_VALUES = 25_000_000
#: Memory of a voxel inside a network, in images.
_INNER = 64
#: Sides of tiles are not cut below this, voxels.
_SMALLEST_SIDE = 16
#: Work of all tiles, their halos included, at most, relative to the work of the uncut box.
_MOST_WORK = 4.0
#: Largest value of an image in units of the series' scale. Squares of fill values overflow, and
#: convolutions carry that to the voxels around.
LARGEST = 1e3
#: A bad voxel is filled if at least so many of its eight neighbours are good.
_ENOUGH_NEIGHBOURS = 5

Region = tuple[slice, slice]


def run_network(
    network: Network,
    S: Iterable[np.ndarray],
    protocol: np.ndarray,
    sigma: Iterable[float | np.ndarray],
    masks: Iterable[np.ndarray] | None = None,
    max_voxels: int | None = None,
    progress: Callable[[int], object] | None = None,
    rician: bool = False,
    signed: bool = False,
    known: Iterable[np.ndarray] | None = None,
) -> np.ndarray:
    """Estimate kappa slice by slice.

    Of each slice only the box around its mask is computed, and that in tiles if it is large. All
    pieces overlap by the network's halo, so that the result is that of the whole slice.

    Parameters
    ----------
    network : Network
        Keras models are compiled; others get arrays.
    S : array, shape (Z, Y, X, N), or iterable of arrays, shape (Y, X, N)
        Slices of images as the network takes them, in units of the series' scale, finite.
    protocol : array, shape (N, D), or (Z, N, D) where each slice has its own
        In the units of the model's columns; (N,) of a model with one column.
    sigma : iterable of float or arrays, shape (Y, X)
        Noise of each slice, or of each of its voxels, in units of the scale, positive.
    masks : iterable of bool arrays, shape (Y, X), optional
        Voxels of each slice that are wanted.
    max_voxels : int, optional
        Of the largest piece; by default what `MAX_VALUES` allows.
    progress : callable, optional
        Called with the number of slices done since the last call.
    rician, signed : bool
        Noise is Rician; the images carry the signal's sign.
    known : iterable of arrays, shape (Y, X, K), optional
        Known maps of each slice; by default their default values.

    Returns
    -------
    kappa : array, shape (Z, Y, X, Q) or (Z, Y, X, 2 Q), float32
        0 outside the boxes of the masks. If the network has standard deviations they follow kappa.

    Raises
    ------
    ValueError
        If the protocol has not the model's columns, or not one table for each slice.
    """
    model = network.model
    table = model.network_protocol(protocol)
    most = max_voxels or MAX_VALUES // (_INNER + table.shape[-2])
    estimate = _compiled(network, rician, signed)
    channels = (2 if network.has_std else 1) * model.num_parameters
    wanted = iter(masks) if masks is not None else None
    of_slices = iter(known) if known is not None else None
    estimates: list[np.ndarray] = []
    for images, level in zip(S, sigma, strict=True):
        shape, values = images.shape[:2], np.asarray(level, np.float32)
        here = table if table.ndim == 2 else _of_slice(table, len(estimates))
        maps = _known_maps(network, shape, None if of_slices is None else next(of_slices))
        kappa = np.zeros((*shape, channels), np.float32)
        box = _box(np.ones(shape, bool) if wanted is None else next(wanted))
        for inner, outer, cut in tiles(shape, network.halo, most, box) if box else ():
            piece = np.ascontiguousarray(images[outer], dtype=np.float32)[None]
            noise = (values[outer] if values.ndim else values)[None]
            of_piece = None if maps is None else np.ascontiguousarray(maps[outer])[None]
            kappa[inner] = np.asarray(estimate(piece, here, noise, of_piece))[0][cut]
        estimates.append(kappa)
        if progress is not None:
            progress(1)
    if table.ndim == 3 and len(table) != len(estimates):
        raise ValueError(
            f"the protocol has {len(table)} tables, but there are {len(estimates)} slices"
        )
    return np.stack(estimates)


def _of_slice(table: np.ndarray, z: int) -> np.ndarray:
    if z >= len(table):
        raise ValueError(f"the protocol has {len(table)} tables, but there are more slices")
    return table[z]


def _known_maps(
    network: Network, shape: tuple[int, int], given: np.ndarray | None
) -> np.ndarray | None:
    """Known maps of a slice, (Y, X, K), with their default values if none are given."""
    maps = network.model.known_maps
    if not maps:
        return None
    values = np.array([m.default for m in maps]) if given is None else given
    return np.broadcast_to(np.asarray(values, np.float32), (*shape, len(maps)))


def filled(images: np.ndarray) -> np.ndarray:
    """A slice as networks take it: bad voxels do not harm the good ones around them.

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
    alone = np.argwhere(~good & (count >= _ENOUGH_NEIGHBOURS))
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

    Tiles have even sides; sides of 16 are not cut. Among the cuts into tiles of at most
    `max_voxels`, halo included, the one with the least work is taken. Where each of these has much
    more work than the uncut box (a halo as wide as the slice), tiles are larger.

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


def _compiled(network: Network, rician: bool, signed: bool) -> Callable[..., Any]:
    """``estimate(S, protocol, sigma, known)``: kappa, or kappa and its standard deviations.

    A Keras model becomes one graph for slices of every size, with and without sign, since
    `relaxnet.prediction.sign_ambiguity` asks the same network for both.
    """
    keras = sys.modules.get("keras")
    if keras is not None and isinstance(network, keras.Model):
        traced = _traced(network, rician)
        return lambda S, protocol, sigma, known: traced(
            S, protocol, np.atleast_3d(sigma), signed, *([] if known is None else [known])
        )
    is_rician = np.ones(1, np.float32) if rician else None
    return lambda S, protocol, sigma, known: _estimate(
        network, [S, protocol, sigma, is_rician, signed, known], np.concatenate
    )


@functools.lru_cache(maxsize=8)
def _traced(network: Network, rician: bool) -> Callable[..., Any]:
    """Compiled without autograph, whose conversion would take longer than a slice."""
    from relaxnet.networks.frameworks import tf

    use_full_precision()
    N, model = network.num_images, network.model
    signature = [
        tf.TensorSpec((1, None, None, N), tf.float32),
        tf.TensorSpec((N, model.network_columns), tf.float32),
        tf.TensorSpec((1, None, None), tf.float32),  # (1, 1, 1) if it is the same everywhere
        tf.TensorSpec((), tf.bool),
    ]
    if model.known_maps:
        signature.append(tf.TensorSpec((1, None, None, len(model.known_maps)), tf.float32))

    @tf.function(input_signature=signature, autograph=False)
    def estimate(S: Any, protocol: Any, sigma: Any, signed: Any, known: Any = None) -> Any:
        inputs = [S, protocol, sigma, tf.ones(1) if rician else None, signed, known]
        return _estimate(network, inputs, tf.concat)

    return estimate


def _estimate(network: Network, inputs: Sequence[Any], join: Callable[..., Any]) -> Any:
    if network.has_std:
        return join(network.with_std(inputs), axis=-1)
    return network.estimate(inputs)
