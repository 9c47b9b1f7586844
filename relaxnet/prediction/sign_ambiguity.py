"""Voxels whose modulus a network took for the wrong side of the zero crossing.

A magnitude near the zero crossing may be of either sign, and with few times each choice is a
valley of the likelihood of its own. A network that goes down the wrong one stops where its signal
does not describe the data. There the voxel-wise fit, which tries every sign
(`relaxnet.fitting.separable`), decides which side is right, and the network runs once more with
these signs given.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from relaxnet.fitting.inputs import Measurement
from relaxnet.maps.status import poor_fit
from relaxnet.series.sample import Sample
from relaxnet.series.scale import largest_modulus

#: By how much the sum of squared residuals over sigma must fall for another polarity to be right:
#: what the Q = 3 parameters of a fit gain from noise alone in one voxel of a thousand.
GAIN = 16.3
#: Least root mean square of a voxel's images in units of sigma: below, noise gives any sign.
LEAST_SNR = 3.0


def restored(
    series: Measurement,
    kappa: np.ndarray,
    estimate_signed: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> tuple[np.ndarray, np.ndarray] | None:
    """Estimates of the voxels that were on the wrong side, made with the signs that are right.

    Parameters
    ----------
    series : Measurement
        A slice (Y, X, N) of magnitude images, finite, of a model with a modulus; with the noise
        standard deviation, and the mask of the voxels that are wanted.
    kappa : array, shape (Y, X, Q)
        The network's estimate, in the unit of the images.
    estimate_signed : callable
        Takes signed images (Y, X, N) and a mask (Y, X); returns an array (Y, X, C), of which the
        first Q channels are kappa in the unit of the images.

    Returns
    -------
    where : bool array, shape (Y, X)
        Voxels that are better now.
    values : array, shape (n, C)
        Of these. Instead of the two, None if no voxel was on the wrong side.
    """
    S, model = series.S, series.model
    inside = np.ones(S.shape[:-1], bool) if series.mask is None else series.mask
    estimated = inside & np.isfinite(kappa).all(-1) & (kappa[..., -1] > 0)
    level = np.broadcast_to(np.asarray(series.sigma), estimated.shape)
    voxels = _voxels(series, estimated)
    signal = voxels.signed(kappa[estimated])
    misfit = _misfit(voxels.S, np.abs(signal), level[estimated])
    index, fitted = _on_the_wrong_side(voxels, signal, misfit, level[estimated])
    if not len(index):
        return None
    of_estimated = _signs(signal)
    of_estimated[index] = _signs(fitted)
    signs = np.ones(S.shape, np.float32)
    signs[estimated] = of_estimated
    wrong = np.zeros_like(estimated)
    wrong.flat[np.flatnonzero(estimated)[index]] = True
    values = estimate_signed(S * signs, wrong)[wrong]
    again = voxels.part(index).forward(values[:, : model.num_parameters])
    gain = misfit[index] - _misfit(S[wrong], again, level[wrong])
    better = np.isfinite(values).all(-1) & (gain > GAIN)
    wrong[wrong] = better
    return wrong, values[better]


def _voxels(series: Measurement, where: np.ndarray) -> Sample:
    known = None if series.known is None else series.known[where]
    return Sample(series.S[where], series.protocol, series.model, known)


def _on_the_wrong_side(
    voxels: Sample, signal: np.ndarray, misfit: np.ndarray, sigma: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of voxels with a poor fit, where a free fit is better by more than noise.

    And the signed signal (n, N) of that fit. Its signs may be those of the estimate: a network that
    comes to them in its last steps alone is still far off.
    """
    S, N = voxels.S, voxels.num_images
    poor = poor_fit(np.sqrt(misfit / N), sigma, largest_modulus(S), N, 0)
    poor &= _misfit(S, np.zeros_like(S), sigma) > N * LEAST_SNR**2
    index = np.flatnonzero(poor)
    if not len(index):
        return index, S[index]
    poor_voxels = voxels.part(index)
    fitted = poor_voxels.signed(poor_voxels.fit().kappa.astype(np.float64))
    wrong = misfit[index] - _misfit(S[index], np.abs(fitted), sigma[index]) > GAIN
    return index[wrong], fitted[wrong]


def _signs(signal: np.ndarray) -> np.ndarray:
    return np.where(signal < 0, -1.0, 1.0).astype(np.float32)


def _misfit(S: np.ndarray, signal: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Sum of squared residuals over sigma, shape (n,)."""
    with np.errstate(over="ignore", invalid="ignore"):
        return (((S - signal) / sigma[:, None]).astype(np.float64) ** 2).sum(-1)
