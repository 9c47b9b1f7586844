"""T2 decay: T2 from single spin echoes, or T2 preparations, at several echo times (section 4.1)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from relaxsim.models import exponential_decay
from relaxsim.models.border import Border, Caution
from relaxsim.models.common_borders import AMPLITUDE_MAP, ECHO_TIMES, T2_MAP
from relaxsim.models.draws import random_times
from relaxsim.models.raw_sidecar import why_not_t2
from relaxsim.models.references import SABIDUSSI
from relaxsim.models.signal_model import Column, Parameter, SignalModel

#: Stimulated echoes are looked for in at most so many echoes of at most so many voxels.
_ECHOES, _VOXELS = 8, 4000
#: Samples below this many sigma are left out there: their logarithm is biased.
_LEAST_SNR = 10.0
#: Median over voxels of the first echo's deficit, and of the alternation of the others, above which
#: a train has stimulated echoes; both must also be this many times their standard error.
_DEFICIT, _RIPPLE, _ERRORS = 0.02, 0.01, 5.0
#: Longest echo time of a random list, ms.
_LONGEST_RANDOM = 500.0


def _random_protocol(rng: np.random.Generator) -> np.ndarray:
    """3 to 40 images, the first at 5 to 30 ms, the last at 60 to 500 ms; see `random_times`."""
    return random_times(rng, (3, 40), (5.0, 30.0), (60.0, _LONGEST_RANDOM))[:, None]


def _stimulated_echoes(
    S: np.ndarray, protocol: np.ndarray, mask: np.ndarray, sigma: float
) -> str | None:
    """Warning if a train of echoes shows stimulated echoes.

    Imperfect refocusing makes the first echo of a multi-echo train low, and lets the next ones
    alternate. Neither comes from several T2 in a voxel or from a noise floor, which lift the first
    echo over the line through the logarithms of the later ones. Trains are checked that have at
    least four evenly spaced echoes, the first of them included.
    """
    if not _is_train(protocol[..., 0]):
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
        "`skip_first` 1 leaves the first echo out, which takes a third to a half of the excess away"
    )


def _without_first_echo(protocol: np.ndarray) -> str | None:
    """Note if echo times are those of a train without its first echo, or first echoes."""
    if protocol.ndim > 2:
        return None
    first = _first_of_train(protocol[..., 0])
    if first not in (2, 3):
        return None
    step = float(np.median(np.diff(protocol[..., 0])))
    missing = "its first echo" if first == 2 else "its first two echoes"
    return (
        f"the echo times are those of a train, {step:g} ms apart, without {missing}: if refocusing "
        "is imperfect, half to two thirds of what stimulated echoes add to T2 remain (at 120 "
        "degrees T2 is still about 10 % too long)"
    )


def _is_train(tau: np.ndarray) -> bool:
    """Whether echo times are the first ones of an evenly spaced train, in order."""
    return _first_of_train(tau) == 1


def _first_of_train(tau: np.ndarray) -> int:
    """Number of the first of at least four evenly spaced echoes, from 1; 0 if they are none."""
    if len(tau) < 4:
        return 0
    steps = np.diff(tau)
    step = float(np.median(steps))
    if not step > 0 or np.ptp(steps) >= 0.05 * step:
        return 0
    first = round(float(tau[0]) / step)
    return first if first > 0 and abs(tau[0] - first * step) < 0.3 * step else 0


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


_BORDER = Border(
    sequence="t2",
    title="T2 decay",
    columns=(replace(ECHO_TIMES, random_largest=_LONGEST_RANDOM),),
    maps=(
        AMPLITUDE_MAP,
        replace(T2_MAP, trained={"wide": (5.0, 3000.0), "paper": (15.0, 3000.0)}),
    ),
    equation="S(TE) = A exp(-TE / T2)",
    random_protocol=_random_protocol,
    papers=(SABIDUSSI,),
    fit_papers=(SABIDUSSI,),
    bids_suffix="MESE",
    bids_entity="echo",
    echo_train=True,
    default_network="rim-t2",
    caution=Caution(
        of_series=_stimulated_echoes,
        remedy="mese",
        of_raw=why_not_t2,
        of_protocol=_without_first_echo,
        of_misfit=(
            "a constant under the decay, as an offset or a floor of noise, makes T2 too long; so "
            "do stimulated echoes; or several T2, images of another gain, wrong echo times"
        ),
        of_floor="too long",
    ),
)

MODEL = SignalModel(
    name="t2_decay",
    parameter_table=(
        Parameter("A", "a.u.", None, (0.0, 100.0)),
        Parameter("T2", "ms", 100.0, (1.0, 5000.0)),
    ),
    columns=(Column("echo_time"),),
    magnitude=False,
    physics=exponential_decay.signal,
    physics_jacobian=exponential_decay.jacobian,
    border=_BORDER,
    separable=exponential_decay.SEPARABLE,
)
