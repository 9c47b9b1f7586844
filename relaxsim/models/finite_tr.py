"""Inversion recovery with a finite repetition time: its algebra, in parameters (M0, e, T1).

With a 90-degree readout every TR, an inversion of efficiency e and ``E = exp(-TR / T1)``,

    S(TI) = M0 (1 + e E - (1 + e) exp(-TI / T1)),

which is ``A (1 - B exp(-TI / T1))`` with ``A = M0 (1 + e E)`` and ``B = (1 + e) / (1 + e E)``. B
depends on T1 when TR is short, and is neither constant nor smooth in space; e is.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

Array = Any


def apparent(kappa: Array, tr: Array) -> np.ndarray:
    """(A, B, T1) of the signal with (M0, e, T1).

    Parameters
    ----------
    kappa : array, shape (..., 3)
        M0 in image units, e without unit, T1 in ms; where T1 is 0 it counts as infinite.
    tr : float or array, shape (...)
        Repetition times in ms.

    Returns
    -------
    kappa : array, shape (..., 3)

    Examples
    --------
    >>> [round(float(v), 2) for v in apparent(np.array([1.0, 1.0, 300.0]), 1000.0)]
    [1.04, 1.93, 300.0]
    >>> [round(float(v), 2) for v in apparent(np.array([1.0, 1.0, 2000.0]), 1000.0)]
    [1.61, 1.24, 2000.0]
    """
    M0, e, T1 = np.moveaxis(kappa, -1, 0)
    recovery = 1.0 + e * _late(np.where(T1 > 0, T1, np.inf), tr)
    return np.stack([M0 * recovery, (1.0 + e) / recovery, T1], axis=-1)


def apparent_jacobian(kappa: Array, tr: Array) -> np.ndarray:
    """Derivative of `apparent`, shape (..., 3, 3): rows (A, B, T1), columns (M0, e, T1)."""
    M0, e, T1 = np.moveaxis(kappa, -1, 0)
    late = _late(T1, tr)
    slope = late * tr / T1**2
    recovery = 1.0 + e * late
    zero, one = np.zeros_like(M0), np.ones_like(M0)
    rows = [
        [recovery, M0 * late, M0 * e * slope],
        [zero, (1.0 - late) / recovery**2, -(1.0 + e) * e * slope / recovery**2],
        [zero, zero, one],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def from_infinite(kappa: Array) -> np.ndarray:
    """(M0, e, T1) of the same tissue and inversion, of (A, B, T1) at infinite TR: ``e = B - 1``."""
    kappa = np.array(kappa)
    kappa[..., 1] -= 1.0
    return kappa


def from_apparent(kappa: Array, tr: Array) -> np.ndarray:
    """(M0, e, T1) whose signal is that of `apparent` parameters (A, B, T1): its inverse.

    Parameters
    ----------
    kappa : array, shape (..., 3)
        A in image units, B without unit, T1 in ms, positive.
    tr : float or array, shape (...)
        Repetition times in ms.

    Returns
    -------
    kappa : array, shape (..., 3)

    Examples
    --------
    >>> kappa = np.array([0.7, 0.9, 800.0])
    >>> bool(np.allclose(from_apparent(apparent(kappa, 1500.0), 1500.0), kappa))
    True
    """
    A, B, T1 = np.moveaxis(kappa, -1, 0)
    late = _late(T1, tr)
    e = (B - 1.0) / (1.0 - B * late)
    return np.stack([A / (1.0 + e * late), e, T1], axis=-1)


def signed(kappa: Array, protocol: Array, tr: float, xp: ModuleType) -> Array:
    """Signed signal of (M0, e, T1): (..., 3), (..., N, 1) -> (..., N)."""
    M0, e, T1 = kappa[..., 0:1], kappa[..., 1:2], kappa[..., 2:3]
    return M0 * (1.0 + e * xp.exp(-tr / T1) - (1.0 + e) * xp.exp(-protocol[..., 0] / T1))


def signed_jacobian(kappa: Array, protocol: Array, tr: float, xp: ModuleType) -> Array:
    """Derivative of `signed`, (..., N, 3)."""
    M0, e, T1 = kappa[..., 0:1], kappa[..., 1:2], kappa[..., 2:3]
    TI = protocol[..., 0]
    late, E = xp.exp(-tr / T1), xp.exp(-TI / T1)
    along_T1 = (e * late * tr - (1.0 + e) * E * TI) / T1**2
    return xp.stack([1.0 + e * late - (1.0 + e) * E, M0 * (late - E), M0 * along_T1], axis=-1)


def basis(T1: Array, protocol: Array, tr: float, xp: ModuleType) -> Array:
    """Columns of the separable form with coefficients (M0, M0 e): (...,) -> (..., N, 2)."""
    E = xp.exp(-protocol[..., 0] / T1[..., None])
    return xp.stack([1.0 - E, xp.exp(-tr / T1[..., None]) - E], axis=-1)


def check(tr: float, protocol: np.ndarray) -> None:
    """Refuse a repetition time in which the longest inversion time has no room.

    Raises
    ------
    ValueError
    """
    longest = float(np.max(protocol[..., 0]))
    if not tr >= longest:
        raise ValueError(
            f"the repetition time of {tr:g} ms (`tr`) is shorter than the longest inversion time, "
            f"{longest:g} ms; expected one in which each image is inverted and read."
        )


def _late(T1: Array, tr: Array) -> Array:
    return np.exp(-tr / T1)
