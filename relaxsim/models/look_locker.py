"""Look-Locker readouts after an inversion: T1 from a train of images, MOLLI and shMOLLI.

A train of small flips drives the magnetisation to less than its equilibrium, and faster than T1:

``S(TI) = |A (1 - B exp(-TI / T1*))|``, ``T1 = T1* (B - 1)``

(Deichmann and Haase 1992; Messroghli et al. 2004). The parameters of the model are (A, B, T1), so
that a network and its error head estimate T1 itself; fits use (A, B, T1*), in which the signal is
linear but for T1*, and turn the result into T1.
"""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import numpy as np

from relaxsim.models.border import Border, Caution, DerivedMap, MapBorder
from relaxsim.models.common_borders import AMPLITUDE_MAP, INVERSION_TIMES, T1_MAP
from relaxsim.models.inversion_recovery import DEICHMANN
from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY
from relaxsim.models.references import Reference
from relaxsim.models.signal_model import Array, Column, FitForm, Parameter, SignalModel

#: Smallest B - 1 of which T1* follows.
_LEAST = 0.01
#: Bounds of B: 1 + T1 / T1* is 2 to 4, and less after a poor inversion.
_B_BOUNDS = (1.0 + _LEAST, 4.5)
#: B of simulated tissues.
_B_DRAWN = (1.2, 4.0)
#: Sets of images after each inversion of MOLLI and shMOLLI.
_SETS = ((5, 3), (3, 3, 5), (4, 3, 2), (5, 1, 1), (5, 5), (3, 5))
#: First inversion time of MOLLI's first set, its step from set to set, and the time between
#: heartbeats, ms.
_FIRST, _STEP, _HEARTBEAT = (80.0, 150.0), (50.0, 110.0), (500.0, 1300.0)
#: Of a continuous readout: numbers of images, first and last inversion time, ms.
_IMAGES, _START, _END = (6, 40), (10.0, 150.0), (1200.0, 6000.0)
#: Share of random protocols that are of MOLLI's kind.
_MOLLI = 0.4
_MESSROGHLI = Reference(
    key="messroghli2004",
    authors=(
        "Messroghli, D. R. and Radjenovic, A. and Kozerke, S. and Higgins, D. M. and "
        "Sivananthan, M. U. and Ridgway, J. P."
    ),
    title=(
        "Modified Look-Locker inversion recovery (MOLLI) for high-resolution T1 mapping of the "
        "heart"
    ),
    journal="Magnetic Resonance in Medicine",
    year="2004",
    volume="52",
    pages="141--146",
    doi="10.1002/mrm.20110",
    short_journal="Magn Reson Med",
)


def _signal(kappa: Array, protocol: Array, known: None, xp: ModuleType) -> Array:
    """``A (1 - B exp(-TI (B - 1) / T1))``."""
    A, B = kappa[..., 0:1], kappa[..., 1:2]
    return A * (1.0 - B * xp.exp(-protocol[..., 0] * _rate(kappa, xp)))


def _jacobian(kappa: Array, protocol: Array, known: None, xp: ModuleType) -> Array:
    A, B, T1 = kappa[..., 0:1], kappa[..., 1:2], kappa[..., 2:3]
    TI, rate = protocol[..., 0], _rate(kappa, xp)
    E = xp.exp(-TI * rate)
    faster = xp.where(B - 1.0 > _LEAST, B * TI / T1, xp.zeros_like(B * TI / T1))
    return xp.stack([1.0 - B * E, A * E * (faster - 1.0), -A * B * E * TI * rate / T1], axis=-1)


def _rate(kappa: Array, xp: ModuleType) -> Array:
    """1 / T1*, shape (..., 1)."""
    return xp.maximum(kappa[..., 1:2] - 1.0, _LEAST) / kappa[..., 2:3]


def _apparent_t1(kappa: np.ndarray) -> np.ndarray:
    """T1* of (A, B, T1)."""
    return kappa[..., 2] / np.maximum(kappa[..., 1] - 1.0, _LEAST)


def _with_apparent(kappa: np.ndarray) -> np.ndarray:
    """(A, B, T1*) of (A, B, T1)."""
    return np.concatenate([kappa[..., :2], _apparent_t1(kappa)[..., None]], axis=-1)


def _with_true(kappa: np.ndarray) -> np.ndarray:
    """(A, B, T1) of (A, B, T1*)."""
    factor = np.maximum(kappa[..., 1:2] - 1.0, _LEAST)
    return np.concatenate([kappa[..., :2], kappa[..., 2:3] * factor], axis=-1)


def _random_protocol(rng: np.random.Generator) -> np.ndarray:
    """A list of MOLLI's kind, or 6 to 40 images of a continuous readout."""
    return (_molli(rng) if rng.random() < _MOLLI else _continuous(rng))[:, None]


def _molli(rng: np.random.Generator) -> np.ndarray:
    """Inversion times of sets of heartbeats, in the order in which they are acquired."""
    sets = _SETS[rng.integers(len(_SETS))]
    first, step, beat = (rng.uniform(*ends) for ends in (_FIRST, _STEP, _HEARTBEAT))
    times = [first + step * i + beat * np.arange(n) for i, n in enumerate(sets)]
    return np.round(np.concatenate(times), 1)


def _continuous(rng: np.random.Generator) -> np.ndarray:
    """Evenly spaced inversion times."""
    fewest, most = np.log(_IMAGES)
    N = round(np.exp(rng.uniform(fewest, most)))
    first, last = (np.exp(rng.uniform(*np.log(ends))) for ends in (_START, _END))
    return np.round(np.linspace(first, last, N), 1)


_APPARENT = SignalModel(
    name="look_locker_apparent",
    parameter_table=(
        *INVERSION_RECOVERY.parameter_table[:1],
        Parameter("B", "1", 2.0, _B_BOUNDS),
        Parameter("T1star", "ms", 1000.0, (10.0, 6000.0)),
    ),
    columns=INVERSION_RECOVERY.columns,
    magnitude=True,
    physics=INVERSION_RECOVERY.physics,
    physics_jacobian=INVERSION_RECOVERY.physics_jacobian,
    border=INVERSION_RECOVERY.border,
    separable=INVERSION_RECOVERY.separable,
)

_BORDER = Border(
    sequence="look-locker",
    title="Look-Locker readout",
    columns=(
        replace(INVERSION_TIMES, plausible_largest=(100.0, 20_000.0), random_largest=_END[1]),
    ),
    maps=(
        AMPLITUDE_MAP,
        MapBorder(
            "B",
            "B of the signal model A (1 - B exp(-TI / T1*)); 1 + T1 / T1* after a full inversion",
            range=(1.0, 4.0),
            std_range=(0.0, 0.5),
        ),
        replace(T1_MAP, meaning="Longitudinal relaxation time, T1* (B - 1)"),
    ),
    equation="S(TI) = |A (1 - B exp(-TI / T1*))|, T1 = T1* (B - 1)",
    random_protocol=_random_protocol,
    papers=(DEICHMANN, _MESSROGHLI),
    fit_papers=(DEICHMANN,),
    only_by_name=True,
    flag="look_locker",
    default_network="rim-look-locker",
    derived=(
        DerivedMap(
            MapBorder(
                "T1star",
                "Apparent relaxation time T1* of the readout",
                range=(0.0, 3000.0),
                label="T1*",
            ),
            "ms",
            value=_apparent_t1,
        ),
    ),
    signal_only="T1 = T1* (B - 1) holds for full inversions and small flips",
    caution=Caution(
        of_misfit="images of different sets, a heart rate that changed, motion",
        of_floor="most of all where an image lies near the zero crossing",
    ),
)

MODEL = SignalModel(
    name="look_locker",
    parameter_table=(
        Parameter("A", "a.u.", None, (0.0, 10.0)),
        Parameter("B", "1", 2.0, _B_BOUNDS, drawn=_B_DRAWN),
        Parameter("T1", "ms", 1000.0, (10.0, 10_000.0)),
    ),
    columns=(Column("inversion_time"),),
    magnitude=True,
    physics=_signal,
    physics_jacobian=_jacobian,
    border=_BORDER,
    fit_form=FitForm(_APPARENT, _with_true, _with_apparent),
)
