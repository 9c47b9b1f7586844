"""Checks of a series that warn: stimulated echoes, and readouts after one inversion (Look-Locker).

Each returns one sentence for the user, or None where there is nothing to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from relaxsim.models.signal_model import SignalModel

#: Echoes of a train that are looked at, at most, and voxels.
_ECHOES, _VOXELS = 8, 4000
#: Samples below this many sigma are not looked at: their logarithm is biased.
_LEAST_SNR = 10.0
#: Median over voxels of the first echo's deficit, and of the alternation of the others, from which
#: on they are told; both must also be this many times their standard error.
_DEFICIT, _RIPPLE, _ERRORS = 0.02, 0.01, 5.0
#: Median of a fitted B from which on it tells of a Look-Locker readout.
_LARGE_B = 2.05
#: Even steps below this many ms, of at least so many times, cannot be inversions of their own.
_TRAIN_STEP, _TRAIN_LENGTH = 100.0, 10
#: Fields of a sidecar that name the sequence, and words in them that speak of such a readout.
_SEQUENCE_FIELDS = (
    "PulseSequenceType",
    "PulseSequenceDetails",
    "PulseSequenceName",
    "SequenceName",
    "SeriesDescription",
    "ProtocolName",
)
_LOOK_LOCKER_WORDS = ("look-locker", "looklocker", "look_locker", "look locker", "molli", "tomrop")


def stimulated_echoes(
    S: np.ndarray, tau: np.ndarray, mask: np.ndarray, sigma: float, model: SignalModel
) -> str | None:
    """Warning if a train of echoes shows stimulated echoes.

    Imperfect refocusing makes the first echo of a multi-echo train low, and lets the next ones
    alternate. Neither comes from several T2 in a voxel or from a noise floor, which lift the first
    echo over the line through the logarithms of the later ones. Looked at are trains of at least
    four evenly spaced echoes, the first of them included.

    Parameters
    ----------
    S : array, shape (..., N)
    tau : array, shape (N,)
        Echo times in ms.
    mask : bool array, shape (...)
    sigma : float
        Noise standard deviation.
    model : SignalModel
        Models with other times than echo times have no such check.

    Returns
    -------
    sentence : str or None
    """
    if model.times != "tes" or not _is_train(tau):
        return None
    v = np.asarray(S[mask], np.float64)[:, :_ECHOES]
    v = v[np.isfinite(v).all(axis=1) & (v.min(axis=1, initial=np.inf) > _LEAST_SNR * sigma)]
    if len(v) < 20 and v.shape[1] > 4:
        v = np.asarray(S[mask], np.float64)[:, :4]
        v = v[np.isfinite(v).all(axis=1) & (v.min(axis=1) > _LEAST_SNR * sigma)]
    if len(v) < 20:
        return None
    log = np.log(v[:: -(-len(v) // _VOXELS)])
    found = []
    low = _line_misses(log, degree=1)
    if _shown(low, _DEFICIT):
        found.append(f"the first echo is {100 * -np.expm1(-np.median(low)):.0f} % low")
    if log.shape[1] >= 6 and _shown(_alternation(log), _RIPPLE):
        found.append("the echoes alternate")
    if not found:
        return None
    return (
        f"{' and '.join(found)}, which tells of stimulated echoes: T2 comes out too long. "
        "--skip-first 1 leaves the first echo out, which takes most of it away"
    )


def look_locker_times(tau: np.ndarray, model: SignalModel) -> str | None:
    """Sentence if inversion times lie so evenly and close that one inversion served them all."""
    if model.times != "tis" or len(tau) < _TRAIN_LENGTH:
        return None
    steps = np.diff(np.sort(tau))
    step = float(np.median(steps))
    if not 0 < step <= _TRAIN_STEP or steps.min() < 0.5 * step or steps.max() > 1.5 * step:
        return None
    return (
        f"{len(tau)} inversion times in even steps of {step:.0f} ms: if they follow one inversion "
        f"(cine, Look-Locker), {_APPARENT}"
    )


def look_locker_b(B: np.ndarray, std: np.ndarray | None, sound: np.ndarray) -> str | None:
    """Sentence if a fitted B is above 2, which no inversion reaches, but a Look-Locker readout.

    Such a readout drives the magnetisation towards less than its equilibrium, so that
    ``B = 1 + T1 / T1*`` exceeds 2; a poor inversion or a short repetition time lowers B.

    Parameters
    ----------
    B, std : arrays, shape (...)
        Estimate by a fit, and its standard deviation.
    sound : bool array, shape (...)
        Voxels that count.
    """
    if std is None:
        return None
    with np.errstate(invalid="ignore"):
        known = sound & (std > 0) & (std < 0.1)
    if known.sum() < 20 or np.median(B[known]) < _LARGE_B:
        return None
    return (
        f"B has a median of {np.median(B[known]):.2f}, and no inversion gives more than 2: the "
        f"readout is of the Look-Locker kind, and {_APPARENT}"
    )


def look_locker_sidecar(sidecar: Mapping[str, Any]) -> str | None:
    """Sentence if the JSON file beside a series names a Look-Locker sequence."""
    if sidecar.get("LookLocker") is True:
        return f"the sidecar says LookLocker: {_APPARENT}"
    for key in _SEQUENCE_FIELDS:
        words = str(sidecar.get(key, ""))
        if any(word in words.lower() for word in _LOOK_LOCKER_WORDS):
            return f"the sidecar says {key} {words[:60]!r}: {_APPARENT}"
    return None


_APPARENT = "T1 is the apparent T1*; --look-locker applies T1 = T1* (B - 1)"


def _is_train(tau: np.ndarray) -> bool:
    """Whether echo times are the first ones of an evenly spaced train, in order."""
    if len(tau) < 4:
        return False
    steps = np.diff(tau)
    step = float(np.median(steps))
    return bool(step > 0 and np.ptp(steps) < 0.05 * step and abs(tau[0] - step) < 0.3 * step)


def _line_misses(log: np.ndarray, degree: int) -> np.ndarray:
    """How far the first sample lies below the polynomial through the others, shape (voxels,)."""
    n = np.arange(log.shape[1])
    basis = n[1:, None] ** np.arange(degree + 1)
    at_first = np.linalg.pinv(basis)[0]  # the polynomial's value at n = 0
    return log[:, 1:] @ at_first - log[:, 0]


def _alternation(log: np.ndarray) -> np.ndarray:
    """Half the height by which even echoes exceed odd ones, the first left out, shape (voxels,)."""
    n = np.arange(1, log.shape[1])
    smooth = n[:, None] ** np.arange(3)
    signs = -((-1.0) ** n)
    signs = signs - smooth @ (np.linalg.pinv(smooth) @ signs)
    return log[:, 1:] @ signs / (signs @ signs)


def _shown(values: np.ndarray, least: float) -> bool:
    """Whether the median of `values` is above `least`, and far above its standard error."""
    spread = np.percentile(values, 84) - np.percentile(values, 16)
    error = 1.2533 * 0.5 * spread / np.sqrt(len(values))
    return bool(np.median(values) > max(least, _ERRORS * error))
