"""The repetition time that a series shows though nobody states it.

With a short repetition time the shared parameter falls with T1 (`relaxsim.models.finite_tr`): no
value of it holds for all tissues, neither for neighbours nor for a mask. The voxel-wise fit of some
voxels tells. Its errors in both go together, which looks like a long repetition time; what that
makes of series with an infinite one (0.14 to 0.22 in simulated brains of 9 images) is below `GAIN`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from relaxnet.fitting.crlb import fisher_information, inverse
from relaxsim.models.signal_model import SignalModel

#: Repetition times that are tried, ms, and efficiencies.
TRIED = np.geomspace(400.0, 20_000.0, 36)
EFFICIENCIES = np.linspace(0.2, 1.0, 17)
#: Standard deviation of the shared parameter from place to place that a field may cause.
FIELD = 0.05
#: Fewest voxels, and the widest range of T1 that says nothing: that of the 10th to 90th per cent.
FEWEST, NARROW = 100, 1.5
#: A repetition time is certain if it makes a voxel's shared parameter more probable by this in the
#: logarithm, in the mean, and moves it by more than so much between the ends of the range of T1.
GAIN, MOVES = 0.3, 0.08
#: Largest standard deviations of voxels that count: a part of T1, and of the shared parameter.
WELL_T1, WELL_SHARED = 0.3, 0.5
#: Errors that count as this many standard deviations at most.
FAR = 3.0


@dataclass(frozen=True)
class ImpliedTR:
    """A repetition time that data show.

    Attributes
    ----------
    tr : float
        ms.
    low, high : float
        The shared parameter where T1 is short and long (10th and 90th per cent).
    """

    tr: float
    low: float
    high: float


def implied_by_fit(
    kappa: np.ndarray, protocol: np.ndarray, sigma: float, model: SignalModel
) -> ImpliedTR | None:
    """Repetition time that the voxel-wise fit of some voxels shows; see `implied_tr`.

    Parameters
    ----------
    kappa : array, shape (n, 3)
    protocol : array, shape (N, D)
    sigma : float
    model : SignalModel
    """
    if model.finite_tr is None:
        return None
    kappa = kappa.astype(np.float64)
    with np.errstate(all="ignore"):  # of a sigma that is none
        C = inverse(fisher_information(kappa, protocol, sigma, model))
        known = (np.sqrt(C[:, 2, 2]) < WELL_T1 * kappa[:, 2]) & (np.sqrt(C[:, 1, 1]) < WELL_SHARED)
    return implied_tr(kappa[known], C[known], model)


def implied_tr(kappa: np.ndarray, covariance: np.ndarray, model: SignalModel) -> ImpliedTR | None:
    """Repetition time by which the shared parameter of voxels depends on T1; None if it does not.

    Parameters
    ----------
    kappa : array, shape (n, 3)
        Voxel-wise fit at infinite repetition time, of voxels that it could determine.
    covariance : array, shape (n, 3, 3)
    model : SignalModel
    """
    if model.finite_tr is None or len(kappa) < FEWEST:
        return None
    T1, B = kappa[:, 2].astype(np.float64), kappa[:, 1].astype(np.float64)
    ends = np.percentile(T1, [10, 90])
    if ends[1] < NARROW * ends[0]:
        return None
    scale = np.median(B)
    constant = min(_surprise(B - b, covariance[:, 1, 1]) for b in scale * np.linspace(0.8, 1.2, 41))
    best, tr, e = min(
        (_of_tr(T1, B, covariance, e, tr, model), tr, e) for tr in TRIED for e in EFFICIENCIES
    )
    low, high = _shared(e, ends, tr, model)
    if constant - best < GAIN or low - high < MOVES:
        return None
    return ImpliedTR(float(tr), float(low), float(high))


def _of_tr(
    T1: np.ndarray, B: np.ndarray, C: np.ndarray, e: float, tr: float, model: SignalModel
) -> float:
    """Surprise at the shared parameters of voxels, if T1 and the repetition time decide them."""
    step = 0.01
    expected, later = _shared(e, T1, tr, model), _shared(e, T1 * (1 + step), tr, model)
    slope = (later - expected) / (step * T1)
    variance = C[:, 1, 1] - 2.0 * slope * C[:, 1, 2] + slope**2 * C[:, 2, 2]
    return _surprise(B - expected, variance)


def _surprise(difference: np.ndarray, variance: np.ndarray) -> float:
    """Negative logarithm of the likelihood of differences, a voxel, but for a constant."""
    total = np.maximum(variance, 0.0) + FIELD**2
    square = np.minimum(difference**2 / total, FAR**2)
    return float(0.5 * np.mean(square + np.log(total)))


def _shared(e: float, T1: np.ndarray, tr: float, model: SignalModel) -> np.ndarray:
    """Shared parameter at infinite repetition time of tissue of efficiency e."""
    assert model.finite_tr is not None
    kappa = np.stack([np.ones_like(T1), np.full_like(T1, e), T1], axis=-1)
    return model.finite_tr.apparent(kappa, tr)[:, 1]
