"""Running a network over slices and tiles in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

#: Voxels of the largest piece that a network sees at once.
MAX_VOXELS = 160 * 160


def run_network(
    network: Any,
    S: np.ndarray,
    tau: np.ndarray,
    sigma: np.ndarray,
    max_voxels: int = MAX_VOXELS,
    progress: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Estimate kappa slice by slice.

    Slices of more than `max_voxels` are cut into tiles that overlap by the network's halo, so that
    the result is that of the whole slice.

    Parameters
    ----------
    network : callable
        ``network([S, tau, sigma], training=False)`` -> (J, b, h, w, Q); its ``halo`` is the
        number of voxels on each side that an estimate depends on.
    S : array, shape (Z, Y, X, N)
        Magnitude images in units of the series' scale, finite.
    tau : array, shape (N,)
        ms.
    sigma : array, shape (Z,)
        Noise of each slice, in units of the scale.
    max_voxels : int
    progress : callable, optional
        Called with the number of slices done since the last call.

    Returns
    -------
    kappa : array, shape (Z, Y, X, Q), float32
    """
    estimate = _compiled(network)
    tau = np.asarray(tau, np.float32)
    kappa = np.empty((*S.shape[:3], len(network.parameters)), np.float32)
    for z in range(len(S)):
        noise = np.asarray(sigma[z : z + 1], np.float32)
        for inner, outer, cut in tiles(S.shape[1:3], network.halo, max_voxels):
            piece = np.ascontiguousarray(S[z][outer], dtype=np.float32)[None]
            kappa[z][inner] = np.asarray(estimate(piece, tau, noise))[0][cut]
        if progress is not None:
            progress(1)
    return kappa


def tiles(
    shape: tuple[int, int], halo: int, max_voxels: int
) -> Iterator[tuple[tuple[slice, slice], tuple[slice, slice], tuple[slice, slice]]]:
    """Tiles of a slice.

    Yields
    ------
    inner : slices
        Part of the slice that the tile gives.
    outer : slices
        Part that it needs: `inner` with the halo around it, cut at the slice's edge.
    cut : slices
        `inner` within `outer`.
    """
    if shape[0] * shape[1] <= max_voxels:
        whole = (slice(0, shape[0]), slice(0, shape[1]))
        yield whole, whole, whole
        return
    side = max(16, int(np.sqrt(max_voxels)) - 2 * halo)
    for top in range(0, shape[0], side):
        for left in range(0, shape[1], side):
            inner, outer, cut = [], [], []
            for start, size in ((top, shape[0]), (left, shape[1])):
                stop = min(start + side, size)
                low, high = max(0, start - halo), min(size, stop + halo)
                inner.append(slice(start, stop))
                outer.append(slice(low, high))
                cut.append(slice(start - low, stop - low))
            yield tuple(inner), tuple(outer), tuple(cut)


def _compiled(network: Any) -> Callable[..., Any]:
    """The last step's estimate; one trace serves every size."""
    try:
        import keras
    except ModuleNotFoundError:
        keras = None
    if keras is None or not isinstance(network, keras.Model):
        return lambda S, tau, sigma: network([S, tau, sigma], training=False)[-1]
    import tensorflow as tf

    N = network.num_images
    signature = [
        tf.TensorSpec((1, None, None, N), tf.float32),
        tf.TensorSpec((N,), tf.float32),
        tf.TensorSpec((1,), tf.float32),
    ]

    @tf.function(input_signature=signature)
    def estimate(S: Any, tau: Any, sigma: Any) -> Any:
        return network([S, tau, sigma], training=False)[-1]

    return estimate
