"""Reference of mixed voxels: the single compartment whose signal is nearest to the mixture's."""

from __future__ import annotations

import numpy as np

from relaxsim.models.signal_model import SignalModel

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
    tr: np.ndarray | None = None,
    steps: int = 15,
) -> np.ndarray:
    """Single-compartment kappa whose signed signal is nearest in the least-squares sense.

    A and T are free. The inversion is of the place and not of its tissues, and stays: were it free
    it would take up a part of what the mixture does to the signal, T another. At a finite TR the
    kappa is still that for infinite TR, of which A and B follow with T
    (`relaxsim.simulation.tissue_maps.apparent`).

    Variable projection (Golub and Pereyra 1973): A is exact for each relaxation time, which takes
    Gauss-Newton steps in its logarithm, between the shortest and the longest of the mixture.

    Parameters
    ----------
    signed : array, shape (M, N)
        Signals before the modulus.
    start : array, shape (M, Q)
        First guess, kept where the fit is not better or not physical.
    bracket : (array, array), shape (M,)
        Shortest and longest relaxation time of each mixture, ms.
    tau : array, shape (N,)
        Times in ms.
    model : SignalModel
    tr : array, shape (M,), optional
        Repetition times, ms; default: infinite.
    steps : int
        Most steps; voxels whose steps have become small take no more.

    Returns
    -------
    kappa : array, shape (M, Q), float32
    """
    signed, tau = signed.astype(np.float64), np.asarray(tau, np.float64)
    unit = start.astype(np.float64)
    tr = None if tr is None else tr.astype(np.float64)
    unit[:, 0] = 1.0
    start_residual = signed - start[:, :1] * _shape(unit, tau, model, tr)
    low, high = (bound.astype(np.float64) for bound in bracket)
    unit[:, -1] = np.clip(unit[:, -1], low, high)
    moving = np.arange(len(signed))
    for _ in range(steps):
        times = None if tr is None else tr[moving]
        step = _step(unit[moving], signed[moving], tau, model, times)
        before = unit[moving, -1]
        unit[moving, -1] = np.clip(before * np.exp(step), low[moving], high[moving])
        moving = moving[np.abs(np.log(unit[moving, -1] / before)) > _SMALL_STEP]
        if not len(moving):
            break
    A, residual = _project(_shape(unit, tau, model, tr), signed)
    better = (_dot(residual, residual) < _dot(start_residual, start_residual)) & (A > 0)
    kappa = np.column_stack([A, unit[:, 1:]])
    return np.where(better[:, None], kappa, start).astype(np.float32)


def _step(
    unit: np.ndarray,
    signed: np.ndarray,
    tau: np.ndarray,
    model: SignalModel,
    tr: np.ndarray | None,
) -> np.ndarray:
    """Gauss-Newton step of the logarithm of the relaxation time, shape (M,), at most 1."""
    shape = _shape(unit, tau, model, tr)
    A, residual = _project(shape, signed)
    slope = (A * unit[:, -1])[:, None] * _slope(unit, tau, model, tr)
    length = _dot(slope, slope)
    _, slope = _project(shape, slope)
    left = _dot(slope, slope)
    known = left > _DEPENDENT**2 * length
    step = np.where(known, _dot(slope, residual), 0.0) / np.where(known, left, 1.0)
    return np.clip(step, -1.0, 1.0)


def _shape(
    unit: np.ndarray, tau: np.ndarray, model: SignalModel, tr: np.ndarray | None
) -> np.ndarray:
    """Signed signal of kappa with A = 1; a finite TR adds ``e exp(-TR / T)``, with e = B - 1."""
    signal = model.signed(unit, tau, np)
    if tr is None or "B" not in model.parameters:
        return signal
    return signal + _late(unit, tr)[:, None]


def _slope(
    unit: np.ndarray, tau: np.ndarray, model: SignalModel, tr: np.ndarray | None
) -> np.ndarray:
    """Derivative of `_shape` with respect to T."""
    slope = model.signed_jacobian(unit, tau, np)[..., -1]
    if tr is None or "B" not in model.parameters:
        return slope
    return slope + (_late(unit, tr) * tr / unit[:, -1] ** 2)[:, None]


def _late(unit: np.ndarray, tr: np.ndarray) -> np.ndarray:
    return (unit[:, 1] - 1.0) * np.exp(-tr / unit[:, -1])


def _project(shape: np.ndarray, signed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coefficient (M,) of `shape` (M, N) in the signals, and what is left of them."""
    A = _dot(shape, signed) / np.maximum(_dot(shape, shape), 1e-300)
    return A, signed - A[:, None] * shape


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Dot products of the rows of two (M, N) arrays."""
    return np.einsum("mn,mn->m", a, b)
