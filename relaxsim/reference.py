"""Reference of mixed voxels: the single compartment whose signal is nearest to the mixture's."""

from __future__ import annotations

import numpy as np

from relaxsim.signals import SignalModel

#: A direction shorter than this share of the vector it comes from is rounding error.
_DEPENDENT = 1e-6
#: A step of the logarithm of T after which the next one would not matter.
_SMALL_STEP = 1e-3


def nearest_single_compartment(
    signed: np.ndarray,
    start: np.ndarray,
    bracket: tuple[np.ndarray, np.ndarray],
    tau: np.ndarray,
    model: SignalModel,
    steps: int = 15,
) -> np.ndarray:
    """Single-compartment kappa whose signed signal is nearest in the least-squares sense.

    Variable projection (Golub and Pereyra 1973, in Kaufman's form): the linear coefficients are
    exact for each relaxation time, which takes Gauss-Newton steps in its logarithm. The nearest
    relaxation time lies between the shortest and the longest of the mixture (the residual of the
    fit is a sum of exponentials, whose sign changes Descartes' rule limits), so steps stay there.

    Parameters
    ----------
    signed : array, shape (M, N)
        Signals before the modulus.
    start : array, shape (M, Q)
        First guess, kept where the fit is not better or not physical (the times may not tell the
        parameters apart).
    bracket : (array, array), shape (M,)
        Shortest and longest relaxation time of each mixture, ms.
    tau : array, shape (N,)
        Times in ms.
    model : SignalModel
    steps : int
        Most steps; voxels whose steps have become small take no more.

    Returns
    -------
    kappa : array, shape (M, Q), float32
    """
    signed, tau = signed.astype(np.float64), np.asarray(tau, np.float64)
    low, high = (np.log(bound.astype(np.float64)) for bound in bracket)
    log_t = np.clip(np.log(start[:, -1].astype(np.float64)), low, high)
    moving = np.arange(len(signed))
    for _ in range(steps):
        here = log_t[moving]
        there = here + _step(here, signed[moving], tau, model)
        log_t[moving] = np.clip(there, low[moving], high[moving])
        moving = moving[np.abs(log_t[moving] - here) > _SMALL_STEP]
        if not len(moving):
            break
    T = np.exp(log_t)
    _, coefficients, residual = _project(model.basis(T, tau, np), signed)
    kappa = model.from_linear(coefficients, T, np)
    start_residual = signed - model.signed(start.astype(np.float64), tau, np)
    better = _dot(residual, residual) < _dot(start_residual, start_residual)
    better &= (kappa > 0).all(axis=-1)
    return np.where(better[:, None], kappa, start).astype(np.float32)


def _step(log_t: np.ndarray, signed: np.ndarray, tau: np.ndarray, model: SignalModel) -> np.ndarray:
    """Gauss-Newton step of the logarithm of the relaxation time, shape (M,)."""
    T = np.exp(log_t)
    directions, coefficients, residual = _project(model.basis(T, tau, np), signed)
    kappa = model.from_linear(coefficients, T, np)
    slope = model.signed_jacobian(kappa, tau, np)[..., -1] * T[:, None]
    length = _dot(slope, slope)
    for direction in directions:
        slope -= _dot(slope, direction)[:, None] * direction
    left = _dot(slope, slope)
    known = left > _DEPENDENT**2 * length
    return np.where(known, _dot(slope, residual), 0.0) / np.where(known, left, 1.0)


def _project(
    basis: np.ndarray, signed: np.ndarray
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Least squares by Gram and Schmidt.

    Parameters
    ----------
    basis : array, shape (M, N, L)
    signed : array, shape (M, N)

    Returns
    -------
    directions : list of L arrays, shape (M, N)
        Orthonormal, 0 where a column depends on those before it.
    coefficients : array, shape (M, L)
    residual : array, shape (M, N)
    """
    num = basis.shape[-1]
    directions: list[np.ndarray] = []
    upper = np.zeros((num, num, len(signed)))
    for j in range(num):
        column = basis[..., j].copy()
        whole = np.sqrt(_dot(column, column))
        for i, direction in enumerate(directions):
            upper[i, j] = _dot(column, direction)
            column -= upper[i, j][:, None] * direction
        left = np.sqrt(_dot(column, column))
        independent = left > _DEPENDENT * whole
        upper[j, j] = np.where(independent, left, 1.0)
        column *= (independent / upper[j, j])[:, None]
        directions.append(column)
    residual, projections = signed.copy(), []
    for direction in directions:
        projections.append(_dot(residual, direction))
        residual -= projections[-1][:, None] * direction
    coefficients = np.zeros((len(signed), num))
    for i in reversed(range(num)):
        known = sum(upper[i, j] * coefficients[:, j] for j in range(i + 1, num))
        coefficients[:, i] = (projections[i] - known) / upper[i, i]
    return directions, coefficients, residual


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Dot products of the rows of two (M, N) arrays."""
    return np.einsum("mn,mn->m", a, b)
