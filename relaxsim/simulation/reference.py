"""Reference of mixed voxels: the single compartment whose signal is nearest to the mixture's."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from relaxsim.models.signal_model import SignalModel
from relaxsim.simulation.tissue_maps import apparent

#: A direction shorter than this share of the vector it comes from is rounding error.
_DEPENDENT = 1e-6
#: A step of the logarithm of T after which the next one would not matter.
_SMALL_STEP = 1e-3


def nearest_single_compartment(
    signed: np.ndarray,
    start: np.ndarray,
    bracket: tuple[np.ndarray, np.ndarray],
    protocol: np.ndarray,
    model: SignalModel,
    tr: np.ndarray | None = None,
    known: np.ndarray | None = None,
    steps: int = 15,
) -> np.ndarray:
    """Single-compartment kappa whose signed signal is nearest in the least-squares sense.

    The amplitude and the last parameter, T, are free. The shared parameter is of the place and not
    of its tissues, and keeps its value: a free one would take up a part of the mixture's effect
    on the signal, and T another. At a finite TR the kappa is still that for infinite TR, of which
    the apparent one follows (`relaxsim.simulation.tissue_maps.apparent`).

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
    protocol : array, shape (N, D), or (N,) if D = 1
    model : SignalModel
    tr : array, shape (M,), optional
        Repetition times, ms; default: infinite.
    known : array, shape (M, K), optional
        Known maps at the voxels; default: their default values.
    steps : int
        Most steps; voxels whose steps have become small take no more.

    Returns
    -------
    kappa : array, shape (M, Q), float32
    """
    signed, start64 = signed.astype(np.float64), start.astype(np.float64)
    low, high = (bound.astype(np.float64) for bound in bracket)
    mixture = _Mixture(
        signed,
        np.asarray(model.table(protocol), np.float64),
        model,
        None if tr is None else tr.astype(np.float64),
        None if known is None else known.astype(np.float64),
    )
    unit = start64.copy()
    unit[:, 0] = 1.0
    start_residual = signed - start64[:, :1] * mixture.shape(unit)
    unit[:, -1] = np.clip(unit[:, -1], low, high)
    moving = np.arange(len(signed))
    for _ in range(steps):
        step = _step(unit[moving], mixture.part(moving))
        before = unit[moving, -1]
        unit[moving, -1] = np.clip(before * np.exp(step), low[moving], high[moving])
        moving = moving[np.abs(np.log(unit[moving, -1] / before)) > _SMALL_STEP]
        if not len(moving):
            break
    A, residual = _project(mixture.shape(unit), signed)
    better = (_dot(residual, residual) < _dot(start_residual, start_residual)) & (A > 0)
    kappa = np.column_stack([A, unit[:, 1:]])
    return np.where(better[:, None], kappa, start).astype(np.float32)


@dataclass(frozen=True)
class _Mixture:
    """Voxels whose signal is fitted: signals (M, N), and all that their model depends on."""

    signed: np.ndarray
    protocol: np.ndarray
    model: SignalModel
    tr: np.ndarray | None
    known: np.ndarray | None

    def part(self, voxels: np.ndarray) -> _Mixture:
        """Some of the voxels."""
        return replace(
            self,
            signed=self.signed[voxels],
            tr=None if self.tr is None else self.tr[voxels],
            known=None if self.known is None else self.known[voxels],
        )

    def shape(self, unit: np.ndarray) -> np.ndarray:
        """Signed signal (M, N) of kappa for infinite TR (M, Q), whose amplitude is 1."""
        kappa = apparent(unit, self.model, self.tr)
        return self.model.signed(kappa, self.protocol, np, self.known)

    def slope(self, unit: np.ndarray) -> np.ndarray:
        """Derivative of `shape` with respect to T."""
        kappa = apparent(unit, self.model, self.tr)
        J = self.model.signed_jacobian(kappa, self.protocol, np, self.known)
        if self.tr is None or self.model.finite_tr is None:
            return J[..., -1]
        true = self.model.finite_tr.from_infinite(unit)
        of_T = self.model.finite_tr.apparent_jacobian(true, self.tr)[..., -1]
        return np.einsum("mnq,mq->mn", J, of_T)


def _step(unit: np.ndarray, mixture: _Mixture) -> np.ndarray:
    """Gauss-Newton step of the logarithm of T, shape (M,), at most 1."""
    shape = mixture.shape(unit)
    A, residual = _project(shape, mixture.signed)
    slope = (A * unit[:, -1])[:, None] * mixture.slope(unit)
    length = _dot(slope, slope)
    _, slope = _project(shape, slope)
    left = _dot(slope, slope)
    clear = left > _DEPENDENT**2 * length
    step = np.where(clear, _dot(slope, residual), 0.0) / np.where(clear, left, 1.0)
    return np.clip(step, -1.0, 1.0)


def _project(shape: np.ndarray, signed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coefficient (M,) of `shape` (M, N) in the signals, and the residual (M, N)."""
    A = _dot(shape, signed) / np.maximum(_dot(shape, shape), 1e-300)
    return A, signed - A[:, None] * shape


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Dot products of the rows of two (M, N) arrays."""
    return np.einsum("mn,mn->m", a, b)
