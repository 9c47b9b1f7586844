"""Spoiled gradient echo at several flip angles: T1 with a measured transmit field.

The steady state of a perfectly spoiled gradient echo (Ernst and Anderson 1966; Fram et al. 1987).
Imperfect spoiling and magnetisation transfer are not in the model. T2* decay scales all images
alike if they have one echo time.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from relaxsim.models.border import Border, Caution, ColumnBorder
from relaxsim.models.common_borders import AMPLITUDE_MAP, RADIANS_HINT, T1_MAP, TRANSMIT_FIELD
from relaxsim.models.references import Reference
from relaxsim.models.signal_model import Array, Column, KnownMap, Parameter, SignalModel

#: Radians in a degree.
_RADIANS = np.pi / 180.0
#: Random protocols: numbers of angles, smallest and largest angle in degrees, repetition times in
#: ms.
_ANGLES, _ANGLE_RANGE, _TR_RANGE = (2, 20), (1.0, 60.0), (2.0, 60.0)
#: Their smallest and largest angle, relative to the Ernst angle of this T1 in ms.
_SMALLEST, _LARGEST, _TYPICAL_T1 = (0.2, 1.0), (1.5, 6.0), 1000.0
#: Share of random protocols in which each angle has a repetition time of its own.
_OWN_TR = 0.1
_FRAM = Reference(
    key="fram1987",
    authors=(
        "Fram, E. K. and Herfkens, R. J. and Johnson, G. A. and Glover, G. H. and Karis, J. P. "
        "and Shimakawa, A. and Perkins, T. G. and Pelc, N. J."
    ),
    title="Rapid calculation of T1 using variable flip angle gradient refocused imaging",
    journal="Magnetic Resonance Imaging",
    year="1987",
    volume="5",
    pages="201--208",
    doi="10.1016/0730-725X(87)90021-X",
    short_journal="Magn Reson Imaging",
)
_DEONI = Reference(
    key="deoni2003",
    authors="Deoni, S. C. L. and Rutt, B. K. and Peters, T. M.",
    title=(
        "Rapid combined T1 and T2 mapping using gradient recalled acquisition in the steady state"
    ),
    journal="Magnetic Resonance in Medicine",
    year="2003",
    volume="49",
    pages="515--526",
    doi="10.1002/mrm.10407",
    short_journal="Magn Reson Med",
)


def _signal(kappa: Array, protocol: Array, known: Array, xp: ModuleType) -> Array:
    """``A sin(a) (1 - E) / (1 - E cos(a))``, a = B1 FA, E = exp(-TR / T1)."""
    A, T1 = kappa[..., 0:1], kappa[..., 1:2]
    angle = known[..., 0:1] * protocol[..., 0] * _RADIANS
    E = xp.exp(-protocol[..., 1] / T1)
    return A * (1.0 - E) * xp.sin(angle) / (1.0 - E * xp.cos(angle))


def _jacobian(kappa: Array, protocol: Array, known: Array, xp: ModuleType) -> Array:
    A, T1 = kappa[..., 0:1], kappa[..., 1:2]
    angle, TR = known[..., 0:1] * protocol[..., 0] * _RADIANS, protocol[..., 1]
    E, sine, cosine = xp.exp(-TR / T1), xp.sin(angle), xp.cos(angle)
    rest = 1.0 - E * cosine
    slope = A * sine * (cosine - 1.0) / rest**2 * E * TR / T1**2
    return xp.stack([sine * (1.0 - E) / rest, slope], axis=-1)


def _b1_of_field(p: np.ndarray) -> np.ndarray:
    """B1 from 0.5 to 1.5, as at 3 to 7 T."""
    return 1.0 + 0.5 * np.tanh(1.5 * p)


def _random_protocol(rng: np.random.Generator) -> np.ndarray:
    """2 to 20 angles of 1 to 60 degrees about the Ernst angle, TR 2 to 60 ms."""
    fewest, most = _ANGLES
    N = int(np.floor(np.exp(rng.uniform(np.log(fewest), np.log(most + 1)))))
    TR = np.exp(rng.uniform(*np.log(_TR_RANGE)))
    ernst = np.degrees(np.arccos(np.exp(-TR / _TYPICAL_T1)))
    ends = ernst * np.exp([rng.uniform(*np.log(_SMALLEST)), rng.uniform(*np.log(_LARGEST))])
    low, high = np.clip(ends, *_ANGLE_RANGE)
    angles = np.linspace(low, high, N) if rng.random() < 0.5 else np.geomspace(low, high, N)
    if N > 2 and rng.random() < 0.5:
        angles[1:-1] = np.sort(rng.uniform(low, high, N - 2))
    times = np.full(N, TR)
    if rng.random() < _OWN_TR:
        times = np.clip(TR * np.exp(rng.uniform(-0.4, 0.4, N)), *_TR_RANGE)
    return np.stack([np.round(angles, 1), np.round(times, 2)], axis=-1)


_BORDER = Border(
    sequence="vfa",
    title="variable flip angle",
    columns=(
        ColumnBorder(
            option="fas",
            words="flip angles",
            symbol="FA",
            plausible=(0.1, 180.0),
            plausible_largest=(3.2, 180.0),
            bids_field="FlipAngle",
            bids_factor=1.0,
            sidecar_field="FlipAnglesDegrees",
            derivative_field="FlipAngle",
            random_largest=_ANGLE_RANGE[1],
            unit_hint=RADIANS_HINT,
        ),
        ColumnBorder(
            option="trs",
            words="repetition times",
            symbol="TR",
            plausible=(0.5, 2000.0),
            plausible_largest=(1.0, 2000.0),
            bids_field="RepetitionTimeExcitation",
            other_bids_field="RepetitionTime",
            bids_factor=1000.0,
            sidecar_field="RepetitionTimesMs",
            derivative_field="RepetitionTimeExcitation",
            random_largest=_TR_RANGE[1],
            varies=False,
        ),
    ),
    known=(TRANSMIT_FIELD,),
    maps=(AMPLITUDE_MAP, T1_MAP),
    equation="S(FA) = A sin(a) (1 - E) / (1 - E cos(a)), a = B1 FA, E = exp(-TR / T1)",
    random_protocol=_random_protocol,
    papers=(_FRAM,),
    fit_papers=(_FRAM, _DEONI),
    bids_suffix="VFA",
    bids_entity="flip",
    default_network="rim-vfa",
    signal_only="perfect spoiling is assumed; magnetisation transfer is not in the model",
    caution=Caution(
        of_misfit=(
            "a wrong transmit field, imperfect spoiling, or images of another receiver gain"
        ),
    ),
)

MODEL = SignalModel(
    name="spoiled_gradient_echo",
    parameter_table=(
        Parameter("A", "a.u.", None, (0.0, 5000.0)),
        Parameter("T1", "ms", 1000.0, (10.0, 10_000.0)),
    ),
    columns=(Column("flip_angle", "degrees"), Column("repetition_time")),
    magnitude=False,
    physics=_signal,
    physics_jacobian=_jacobian,
    border=_BORDER,
    known_maps=(KnownMap("B1", "1", 1.0, (0.2, 2.5), _b1_of_field),),
    weak=True,
)
