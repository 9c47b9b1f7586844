"""Work on many voxels in chunks, one thread a core (numpy releases the interpreter's lock)."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

#: Bytes of the samples of one chunk: they stay in the cache.
CHUNK_BYTES = 1 << 19
#: Tile of a matrix product: rows, and multiplications in all.
TILE, TILE_PRODUCT = 64, 250_000

#: Threads of this process's fits; None for as many as there are cores.
_threads: int | None = None


def limit_threads(number: int) -> None:
    """Let the fits of this process run in at most so many threads."""
    global _threads
    _threads = number


def num_threads() -> int:
    """Threads that a fit runs in."""
    cores = os.cpu_count() or 1
    return cores if _threads is None else min(_threads, cores)


def in_chunks(
    work: Callable[[np.ndarray], None],
    voxels: np.ndarray,
    num_images: int,
    progress: Callable[[int], object] | None = None,
) -> None:
    """Call `work` on chunks of an index array.

    Parameters
    ----------
    work : callable
        Takes a chunk of `voxels`; chunks run at the same time.
    voxels : int array, shape (n,)
    num_images : int
        Samples of a voxel; sets the size of a chunk.
    progress : callable, optional
        Called with the number of voxels of each chunk, in order, as they are done.
    """
    size = max(256, CHUNK_BYTES // (8 * num_images))
    chunks = [voxels[i : i + size] for i in range(0, len(voxels), size)]
    with ThreadPoolExecutor(num_threads()) as pool:
        for chunk, _ in zip(chunks, pool.map(work, chunks), strict=True):
            if progress is not None:
                progress(len(chunk))


def product(a: np.ndarray, b: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Matrix product in tiles below the size at which BLAS starts threads of its own.

    The chunks of a fit already run one to a core; a second set of threads would slow them.
    """
    out = np.empty((len(a), b.shape[1]), dtype=a.dtype) if out is None else out
    tiles = len(a) // TILE
    head = tiles * TILE
    stack = a[:head].reshape(tiles, TILE, a.shape[1])
    stack_out = out[:head].reshape(tiles, TILE, b.shape[1])
    width = max(1, TILE_PRODUCT // (TILE * a.shape[1]))
    for band in (slice(j, j + width) for j in range(0, b.shape[1], width)):
        np.matmul(stack, b[:, band], out=stack_out[..., band])
        np.matmul(a[head:], b[:, band], out=out[head:, band])
    return out
