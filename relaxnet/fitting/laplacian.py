"""The Laplacian of a masked grid, and the sparse systems of a smooth map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.fft import dctn, idctn, next_fast_len
from scipy.ndimage import find_objects
from scipy.sparse import coo_matrix, csr_matrix, diags
from scipy.sparse.csgraph import connected_components

#: Iterations of the conjugate gradients at most; some tens suffice.
MAX_ITERATIONS = 2000


@dataclass(frozen=True)
class Smoothness:
    """Penalty ``1/2 sum_x (Laplacian of b)(x)^2`` of a map b inside a mask.

    The Laplacian is the sum of second differences along every axis. A neighbour outside the mask
    counts as equal (no flow across the border). The penalty is zero only for maps that are constant
    in each connected part of the mask.

    Attributes
    ----------
    mask : bool array, shape (X, Y) or (X, Y, Z)
        On the box of its voxels, widened to sizes of fast transforms.
    laplacian : sparse array, shape (n, n)
        Of the voxels in the mask.
    square : sparse array, shape (n, n)
        ``laplacian' laplacian``.
    weights : tuple of float
        Of the second difference along each axis.
    constants : sparse array, shape (n, parts)
        Indicators of the connected parts of the mask, whose penalty is zero.
    """

    mask: np.ndarray
    laplacian: csr_matrix
    square: csr_matrix
    weights: tuple[float, ...]
    constants: csr_matrix

    @property
    def parts(self) -> int:
        """Number of connected parts."""
        return self.constants.shape[1]

    def penalty(self, b: np.ndarray) -> float:
        """``1/2 |laplacian b|^2``."""
        return 0.5 * float(np.sum((self.laplacian @ b) ** 2))

    def solve(
        self,
        diagonal: np.ndarray,
        weight: float,
        right: np.ndarray,
        tolerance: float = 1e-6,
        free: np.ndarray | None = None,
    ) -> np.ndarray:
        """Solution of ``(diag(diagonal) + weight square) b = right``.

        By conjugate gradients. The preconditioner solves for the constants of the parts exactly.
        For the rest it solves the same system with a constant diagonal on the box of the mask,
        where the cosine transform diagonalises the Laplacian.

        Parameters
        ----------
        diagonal, right : arrays, shape (n,)
        weight : float
        tolerance : float
            Relative residual.
        free : bool array, shape (n,), optional
            Voxels whose equations hold; b is 0 in others.
        """
        if free is not None and not free.any():
            return np.zeros(len(free))
        floor = 1e-9 * float(diagonal.mean()) + 1e-300
        system = (diags(diagonal + floor) + weight * self.square).tocsr()
        inside, constants = self.mask, self.constants
        if free is not None:
            system, diagonal, right = system[free][:, free], diagonal[free], right[free]
            inside = self.mask.copy()
            inside[self.mask] = free
            whole = constants.T @ ~free == 0
            constants = constants[free][:, whole]
        cosines = self._cosine_solver(diagonal, weight, inside)
        precondition = _with_constants(cosines, constants, diagonal)
        solution = _conjugate_gradients(system, precondition, right, tolerance)
        if free is None:
            return solution
        out = np.zeros(len(free))
        out[free] = solution
        return out

    def _cosine_solver(
        self, diagonal: np.ndarray, weight: float, inside: np.ndarray
    ) -> Callable[[np.ndarray], np.ndarray]:
        spectrum = _spectrum(inside.shape, self.weights)
        inverse = 1.0 / (max(float(diagonal.mean()), 1e-300) + weight * spectrum**2)
        box = np.zeros(inside.shape)

        def apply(v: np.ndarray) -> np.ndarray:
            box[inside] = v
            return idctn(dctn(box, norm="ortho") * inverse, norm="ortho")[inside]

        return apply


def make_smoothness(mask: np.ndarray, spacing: Sequence[float] | None = None) -> Smoothness:
    """Smoothness on a mask.

    Parameters
    ----------
    mask : bool array, shape (X, Y) or (X, Y, Z)
    spacing : sequence of float, optional
        Voxel size along each axis. The second difference along an axis is divided by the square of
        its voxel size, relative to the smallest one. Without it all axes count alike.
    """
    size = np.ones(mask.ndim) if spacing is None else np.asarray(spacing, dtype=np.float64)
    weights = tuple((size.min() / size) ** 2)
    mask = _compact(mask)
    n = int(mask.sum())
    index = np.full(mask.shape, -1)
    index[mask] = np.arange(n)
    adjacency = csr_matrix((n, n))
    for axis, weight in enumerate(weights):
        along = np.moveaxis(index, axis, 0)
        here, there = along[:-1].ravel(), along[1:].ravel()
        both = (here >= 0) & (there >= 0)
        links = np.full(int(both.sum()), weight)
        adjacency = adjacency + coo_matrix((links, (here[both], there[both])), shape=(n, n))
    adjacency = (adjacency + adjacency.T).tocsr()
    laplacian = (diags(np.asarray(adjacency.sum(axis=1)).ravel()) - adjacency).tocsr()
    parts, part = connected_components(adjacency, directed=False) if n else (0, np.zeros(0, int))
    constants = csr_matrix((np.ones(n), (np.arange(n), part)), shape=(n, parts))
    square = (laplacian @ laplacian).tocsr()
    return Smoothness(mask, laplacian, square, weights, constants)


def _compact(mask: np.ndarray) -> np.ndarray:
    """The mask's voxels, in the same order, on a small grid of sizes of fast transforms."""
    boxes = find_objects(mask.astype(np.uint8))
    box = mask[boxes[0]] if boxes else mask
    return np.pad(box, [(0, next_fast_len(size, real=True) - size) for size in box.shape])


def _with_constants(
    solver: Callable[[np.ndarray], np.ndarray], constants: csr_matrix, diagonal: np.ndarray
) -> Callable[[np.ndarray], np.ndarray]:
    """An approximate solver made exact for the constants, whose penalty is zero."""
    solve_constants = constant_solver(constants, diagonal)

    def apply(v: np.ndarray) -> np.ndarray:
        level = solve_constants(v)
        rest = solver(v - diagonal * level)
        return rest - solve_constants(diagonal * rest) + level

    return apply


def constant_solver(
    constants: csr_matrix, diagonal: np.ndarray
) -> Callable[[np.ndarray], np.ndarray]:
    """Solver of the system restricted to constants of the parts: the diagonal's sums."""
    total = np.maximum(constants.T @ diagonal, 1e-300)
    transpose = constants.T.tocsr()
    return lambda v: constants @ ((transpose @ v) / total)


def _conjugate_gradients(
    system: csr_matrix,
    precondition: Callable[[np.ndarray], np.ndarray],
    right: np.ndarray,
    tolerance: float,
) -> np.ndarray:
    """Preconditioned conjugate gradients without BLAS.

    On a slice of 128 x 128 voxels `scipy.sparse.linalg.cg` takes as long with one thread of BLAS,
    and seven to twelve times as long with the default threads, which cost more than they save.
    """
    x, residual = np.zeros_like(right), right.copy()
    direction = precondition(residual)
    power = _inner(residual, direction)
    limit = tolerance**2 * _inner(right, right)
    for _ in range(MAX_ITERATIONS):
        if _inner(residual, residual) <= limit or power <= 0:
            break
        image = system @ direction
        length = power / _inner(direction, image)
        x += length * direction
        residual -= length * image
        z = precondition(residual)
        power, previous = _inner(residual, z), power
        direction = z + (power / previous) * direction
    return x


def _inner(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.einsum("i,i->", a, b))


def _spectrum(shape: tuple[int, ...], weights: Sequence[float]) -> np.ndarray:
    """Eigenvalues of the Laplacian of a whole grid, in the basis of the cosine transform."""
    out = np.zeros(shape)
    for axis, (size, weight) in enumerate(zip(shape, weights, strict=True)):
        values = weight * (2.0 - 2.0 * np.cos(np.pi * np.arange(size) / size))
        out += values.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    return out
