"""Inversion recovery with a finite repetition time: parameters M0, e and T1.

With a 90-degree readout every TR, an inversion of efficiency e and ``E = exp(-TR / T1)``,

    S(tau) = M0 (1 + e E - (1 + e) exp(-tau / T1)),

which is ``A (1 - B exp(-tau / T1))`` with ``A = M0 (1 + e E)`` and ``B = (1 + e) / (1 + e E)``. B
depends on T1 when TR is short, and is neither constant nor smooth in space; e is.
"""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import numpy as np

from relaxsim.models.signals import INVERSION_RECOVERY, Array, SignalModel
from relaxsim.simulation.tissue_maps import finite_tr

#: Bounds of the efficiency: from saturation to a little more than a perfect inversion.
EFFICIENCY_BOUNDS = (0.0, 1.1)


def finite_tr_model(model: SignalModel, tr: float) -> SignalModel:
    """Signal model with parameters (M0, e, T1) for a repetition time.

    Parameters
    ----------
    model : SignalModel
        The model at infinite TR: inversion recovery.
    tr : float
        Repetition time in ms.

    Raises
    ------
    ValueError
        If the model is not inversion recovery, or `tr` not positive.

    Examples
    --------
    >>> model = finite_tr_model(INVERSION_RECOVERY, 1000.0)
    >>> kappa = np.array([1.0, 1.0, 300.0])
    >>> [round(float(v), 2) for v in apparent(kappa, 1000.0)]
    [1.04, 1.93, 300.0]
    """
    if model.name != INVERSION_RECOVERY.name:
        raise ValueError(f"a repetition time goes with inversion recovery, not with {model.name}.")
    if not (np.isfinite(tr) and tr > 0):
        raise ValueError(f"the repetition time must be a positive number of ms, received {tr:g}.")

    def signed(kappa: Array, tau: Array, xp: ModuleType) -> Array:
        M0, e, T1 = kappa[..., 0:1], kappa[..., 1:2], kappa[..., 2:3]
        return M0 * (1.0 + e * xp.exp(-tr / T1) - (1.0 + e) * xp.exp(-tau / T1))

    def signed_jacobian(kappa: Array, tau: Array, xp: ModuleType) -> Array:
        M0, e, T1 = kappa[..., 0:1], kappa[..., 1:2], kappa[..., 2:3]
        late, E = xp.exp(-tr / T1), xp.exp(-tau / T1)
        along_T1 = (e * late * tr - (1.0 + e) * E * tau) / T1**2
        return xp.stack([1.0 + e * late - (1.0 + e) * E, M0 * (late - E), M0 * along_T1], axis=-1)

    def basis(T: Array, tau: Array, xp: ModuleType) -> Array:
        E = xp.exp(-tau / T[..., None])
        return xp.stack([1.0 - E, xp.exp(-tr / T[..., None]) - E], axis=-1)

    return replace(
        model,
        name=f"{model.name}_tr",
        parameters=("M0", "e", model.parameters[2]),
        start=(None, 1.0, model.start[2]),
        bounds=(model.bounds[0], EFFICIENCY_BOUNDS, model.bounds[2]),
        signed=signed,
        signed_jacobian=signed_jacobian,
        basis=basis,
        exponential=None,
    )


def apparent(kappa: np.ndarray, tr: float) -> np.ndarray:
    """(A, B, T1) of the signal with (M0, e, T1); arrays of shape (..., 3)."""
    M0, e, T1 = np.moveaxis(kappa, -1, 0)
    return np.stack([*finite_tr(M0, e, np.where(T1 > 0, T1, np.inf), tr), T1], axis=-1)


def apparent_jacobian(kappa: np.ndarray, tr: float) -> np.ndarray:
    """Derivative of `apparent`, shape (..., 3, 3): rows (A, B, T1), columns (M0, e, T1)."""
    M0, e, T1 = np.moveaxis(kappa, -1, 0)
    late = np.exp(-tr / T1)
    slope = late * tr / T1**2
    whole = 1.0 + e * late
    zero, one = np.zeros_like(M0), np.ones_like(M0)
    rows = [
        [whole, M0 * late, M0 * e * slope],
        [zero, (1.0 - late) / whole**2, -(1.0 + e) * e * slope / whole**2],
        [zero, zero, one],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
