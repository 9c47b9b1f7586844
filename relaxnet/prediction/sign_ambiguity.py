"""Voxels whose modulus a network took for the wrong side of the zero crossing.

A magnitude near the zero crossing may be of either sign, and with few times each choice is a
valley of the likelihood of its own. A network that goes down the wrong one stops where its signal
does not describe the data. There the voxel-wise fit, which tries every sign
(`relaxnet.fitting.separable`), says which side is right, and the network goes once more with signs
given.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from relaxnet.fitting.inputs import Measurement
from relaxnet.fitting.voxelwise import fit_voxelwise
from relaxnet.maps.status import poor_fit
from relaxnet.series.scale import largest_modulus
from relaxsim.models.signal_model import SignalModel

#: By how much the sum of squared residuals over sigma must fall for another polarity to be right:
#: what the Q = 3 parameters of a fit gain from noise alone in one voxel of a thousand.
GAIN = 16.3
#: Root mean square of a voxel's images in units of sigma from which it is looked at: below, noise
#: gives any sign.
LEAST_SNR = 3.0


def restored(
    S: np.ndarray,
    tau: np.ndarray,
    kappa: np.ndarray,
    sigma: np.ndarray,
    inside: np.ndarray,
    model: SignalModel,
    estimate_signed: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> tuple[np.ndarray, np.ndarray] | None:
    """Estimates of the voxels that were on the wrong side, made with the signs that are right.

    Parameters
    ----------
    S : array, shape (Y, X, N)
        A slice of magnitude images, finite.
    tau : array, shape (N,)
        ms.
    kappa : array, shape (Y, X, Q)
        The network's estimate, in the unit of S.
    sigma : array, shape (Y, X) or ()
        Noise standard deviation in the unit of S.
    inside : bool array, shape (Y, X)
        Voxels that are asked for.
    model : SignalModel
        With a modulus.
    estimate_signed : callable
        Takes signed images (Y, X, N) and a mask (Y, X); returns an array (Y, X, C), of which the
        first Q channels are kappa in the unit of S.

    Returns
    -------
    where : bool array, shape (Y, X)
        Voxels that are better now.
    values : array, shape (n, C)
        Of these. Instead of the two, None if no voxel was on the wrong side.
    """
    known = inside & np.isfinite(kappa).all(-1) & (kappa[..., -1] > 0)
    level = np.broadcast_to(sigma, known.shape)
    signal = model.signed(kappa[known], tau, np)
    misfit = _misfit(S[known], np.abs(signal), level[known])
    index, fitted = _on_the_wrong_side(S[known], tau, signal, misfit, level[known], model)
    if not len(index):
        return None
    signs = np.ones(S.shape, np.float32)
    of_known = _signs(signal)
    of_known[index] = _signs(fitted)
    signs[known] = of_known
    wrong = np.zeros_like(known)
    wrong.flat[np.flatnonzero(known)[index]] = True
    values = estimate_signed(S * signs, wrong)[wrong]
    again = model.forward(values[:, : model.num_parameters], tau, np)
    gain = misfit[index] - _misfit(S[wrong], again, level[wrong])
    better = np.isfinite(values).all(-1) & (gain > GAIN)
    wrong[wrong] = better
    return wrong, values[better]


def _on_the_wrong_side(
    S: np.ndarray,
    tau: np.ndarray,
    signal: np.ndarray,
    misfit: np.ndarray,
    sigma: np.ndarray,
    model: SignalModel,
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of voxels with a poor fit, where a free fit is better by more than noise.

    And the signed signal (n, N) of that fit. Its signs may be those of the estimate: a network that
    comes to them in its last steps alone is still far off.
    """
    N = S.shape[-1]
    poor = poor_fit(np.sqrt(misfit / N), sigma, largest_modulus(S), N, 0)
    poor &= _misfit(S, np.zeros_like(S), sigma) > N * LEAST_SNR**2
    index = np.flatnonzero(poor)
    if not len(index):
        return index, S[index]
    kappa = fit_voxelwise(Measurement(S[index], tau, model)).kappa.astype(np.float64)
    fitted = model.signed(kappa, tau, np)
    wrong = misfit[index] - _misfit(S[index], np.abs(fitted), sigma[index]) > GAIN
    return index[wrong], fitted[wrong]


def _signs(signal: np.ndarray) -> np.ndarray:
    return np.where(signal < 0, -1.0, 1.0).astype(np.float32)


def _misfit(S: np.ndarray, signal: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Sum of squared residuals over sigma, shape (n,)."""
    with np.errstate(over="ignore", invalid="ignore"):
        return (((S - signal) / sigma[:, None]).astype(np.float64) ** 2).sum(-1)
