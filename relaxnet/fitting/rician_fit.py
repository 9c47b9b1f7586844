"""Descent to the minima of the Rician likelihood, many voxels at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import i0e, i1e

from relaxnet.fitting.bounded_newton import bounded_newton, from_steps, to_steps
from relaxsim.models.signal_model import SignalModel

#: Least second derivative along nu, relative to 1 / sigma^2, in the steps of a fit.
LEAST_CURVATURE = 0.05
#: Decrease of the negative log-likelihood that is not worth a step.
LEAST_DECREASE = 1e-6
#: Starts that differ by less, relative to the values of the first, lead to one minimum.
SAME_START = 0.02


@dataclass(frozen=True)
class RicianVoxels:
    """Magnitudes with Rician noise, and how their signal comes about.

    Attributes
    ----------
    S : array, shape (n, N), float64
        Negative samples count as 0.
    sigma : array, shape (n,)
        Noise standard deviation.
    model : SignalModel
    protocol : array, shape (N, D)
        Rows in the order of the samples; (N,) of a model with one column.
    known : array, shape (n, K), optional
        Known maps of the model.
    """

    S: np.ndarray
    sigma: np.ndarray
    model: SignalModel
    protocol: np.ndarray
    known: np.ndarray | None = None

    def take(self, rows: np.ndarray) -> RicianVoxels:
        """Some of the voxels."""
        known = None if self.known is None else self.known[rows]
        return replace(self, S=self.S[rows], sigma=self.sigma[rows], known=known)


def least_of_descents(
    voxels: RicianVoxels, starts: Sequence[np.ndarray], bounds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Least of the minima that several starts, each (n, Q), descend to.

    Bounds, and returns, as for `refine_rician`. A voxel descends from a later start only where
    that differs from the first.
    """
    nll, kappa = refine_rician(voxels, starts[0], bounds)
    for start in starts[1:]:
        differs = np.abs(start - starts[0]) > SAME_START * np.abs(starts[0])
        rows = np.flatnonzero(differs.any(axis=1))
        other_nll, other = refine_rician(voxels.take(rows), start[rows], bounds[rows])
        better = other_nll < nll[rows]
        nll[rows[better]], kappa[rows[better]] = other_nll[better], other[better]
    return nll, kappa


def refine_rician(
    voxels: RicianVoxels, kappa: np.ndarray, bounds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Local minimum of the Rician likelihood within bounds, from given kappa.

    Levenberg-Marquardt in (A, ..., log T) with the second derivative of the negative
    log-likelihood along nu, kept positive (`relaxnet.fitting.bounded_newton`).

    Parameters
    ----------
    voxels : RicianVoxels
    kappa : array, shape (n, Q)
        Start, within the bounds.
    bounds : array, shape (n, Q, 2)

    Returns
    -------
    nll : array, shape (n,)
    kappa : array, shape (n, Q)
    """

    def evaluate(u: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return cost_and_derivatives(voxels.take(rows), from_steps(u))

    low, high = to_steps(bounds[..., 0]), to_steps(bounds[..., 1])
    nll, u = bounded_newton(evaluate, to_steps(kappa), low, high, LEAST_DECREASE)
    return nll, from_steps(u)


def cost_and_derivatives(
    voxels: RicianVoxels, kappa: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Negative log-likelihood, its gradient and a positive curvature in (A, ..., log T).

    Of kappa (n, Q): shapes (n,), (n, Q) and (n, Q, Q). The first is that of
    `relaxnet.fitting.rician.rician_nll`.
    """
    sigma, known = voxels.sigma, voxels.known
    f = voxels.model.signed(kappa, voxels.protocol, np, known) / sigma[:, None]
    J = voxels.model.signed_jacobian(kappa, voxels.protocol, np, known) / sigma[:, None, None]
    J[..., -1] *= kappa[:, -1:]
    s, nu = np.maximum(voxels.S, 0.0) / sigma[:, None], np.abs(f)
    z = s * nu
    scaled = i0e(z)
    ratio = i1e(z) / scaled
    nll = (0.5 * (s - nu) ** 2 - np.log(scaled)).sum(axis=-1)
    over_z = np.where(z > 1e-6, ratio / np.where(z > 1e-6, z, 1.0), 0.5)
    second = 1.0 - s**2 * (1.0 - ratio**2 - over_z)
    weight = np.clip(second, LEAST_CURVATURE, 1.0)
    gradient = np.einsum("inq,in->iq", J, np.sign(f) * (nu - s * ratio))
    return nll, gradient, np.swapaxes(J, 1, 2) @ (J * weight[..., None])
