"""Multi-echo spin echo: T2 and the transmit field from a train whose refocusing is not perfect.

Echo n of a train is the sum of a spin echo and of stimulated echoes, whose share grows with the
distance of the refocusing angle from 180 degrees. The extended phase graph gives it for one angle
(`relaxsim.models.phase_graph`), and the slice's profile averages over angles
(`relaxsim.models.slice_profiles`). B1 scales both pulses. T1 matters little to it and is held.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np

from relaxsim.models.border import Border, Caution, ColumnBorder, MapBorder
from relaxsim.models.common_borders import AMPLITUDE_MAP, ECHO_TIMES, RADIANS_HINT, T2_MAP
from relaxsim.models.echo_table import NETWORK_GRID, echo_table, network_table, on_tensors
from relaxsim.models.phase_graph import is_train, train_of
from relaxsim.models.raw_sidecar import other_train, why_not_t2
from relaxsim.models.references import Reference
from relaxsim.models.signal_model import (
    Array,
    Column,
    Parameter,
    ProtocolTable,
    SharedParameter,
    SignalModel,
)
from relaxsim.models.slice_profiles import MOST_PROFILES, NAMES, read_profile

#: Random trains: numbers of echoes, spacing in ms, and refocusing angle in degrees.
_ECHOES, _SPACING, _REFOCUSING = (3, 60), (4.0, 25.0), (120.0, 180.0)
#: Share of them whose refocusing angle is 180 degrees.
_FULL = 0.6
#: Longest time of a train, ms.
_LONGEST = 600.0
#: Of B1: mean and half range of fields as at 1.5 to 7 T, and spread of a value for a whole patch.
_B1_MIDDLE, _B1_HALF, _B1_SPREAD = 0.85, 0.45, 0.15
_HENNIG = Reference(
    key="hennig1988",
    authors="Hennig, J.",
    title=("Multiecho imaging sequences with low refocusing flip angles"),
    journal="Journal of Magnetic Resonance",
    year="1988",
    volume="78",
    pages="397--407",
    doi="10.1016/0022-2364(88)90128-X",
    short_journal="J Magn Reson",
)
_LEBEL = Reference(
    key="lebel2010",
    authors="Lebel, R. M. and Wilman, A. H.",
    title="Transverse relaxometry with stimulated echo compensation",
    journal="Magnetic Resonance in Medicine",
    year="2010",
    volume="64",
    pages="1005--1014",
    doi="10.1002/mrm.22487",
    short_journal="Magn Reson Med",
)


def _echoes(kappa: Array, protocol: Array, slopes: bool, xp: ModuleType) -> Sequence[Array]:
    """Echoes of A = 1, (..., N), and their slopes along T2 and B1 if asked for."""
    if xp is not np:
        return on_tensors(kappa[..., 2], kappa[..., 1], protocol, slopes, xp)
    leading = np.broadcast_shapes(kappa.shape[:-1], protocol.shape[:-2])
    T2, B1 = (np.broadcast_to(kappa[..., q], leading) for q in (2, 1))
    if protocol.ndim == 2:
        found = _of_train(protocol, T2.ravel(), B1.ravel(), slopes)
        return [values.reshape(*leading, protocol.shape[-2]) for values in found]
    tables = np.broadcast_to(protocol, (*leading, *protocol.shape[-2:]))
    rows, inverse = np.unique(
        tables.reshape(-1, tables.shape[-2] * tables.shape[-1]), axis=0, return_inverse=True
    )
    N = tables.shape[-2]
    out = np.empty((3 if slopes else 1, T2.size, N))
    for i, row in enumerate(rows):
        here = inverse.ravel() == i
        out[:, here] = _of_train(row.reshape(N, -1), T2.ravel()[here], B1.ravel()[here], slopes)
    return [values.reshape(*leading, N) for values in out]


def _of_train(protocol: np.ndarray, T2: np.ndarray, B1: np.ndarray, slopes: bool) -> np.ndarray:
    return echo_table(train_of(protocol)).at(T2, B1, slopes)


def _signal(kappa: Array, protocol: Array, known: None, xp: ModuleType) -> Array:
    """``A`` times the echoes of (T2, B1)."""
    (echoes,) = _echoes(kappa, protocol, False, xp)
    return kappa[..., 0:1] * echoes


def _jacobian(kappa: Array, protocol: Array, known: None, xp: ModuleType) -> Array:
    A = kappa[..., 0:1]
    echoes, along_T2, along_B1 = _echoes(kappa, protocol, True, xp)
    return xp.stack([echoes, A * along_B1, A * along_T2], axis=-1)


def b1_of_field(p: np.ndarray) -> np.ndarray:
    """B1 from 0.4 to 1.3, as at 1.5 to 7 T."""
    return _B1_MIDDLE + _B1_HALF * np.tanh(1.5 * p)


def _mirror(protocol: np.ndarray) -> float | None:
    """B1 of a refocusing by 180 degrees: without a profile as much more and less are one train."""
    return 180.0 / float(protocol[0, 1]) if protocol[0, 4] == 0 else None


def _one_b1(rng: np.random.Generator, n: int) -> np.ndarray:
    """B1 of whole patches, about 1 and more often below."""
    return np.clip(1.0 - _B1_SPREAD * np.abs(rng.standard_normal(n)), 0.4, 1.0)


def _random_protocol(rng: np.random.Generator) -> np.ndarray:
    """A train of 3 to 60 echoes, 4 to 25 ms apart, 180 or 120 to 180 degrees, any profile."""
    spacing = np.exp(rng.uniform(*np.log(_SPACING)))
    most = min(_ECHOES[1], int(_LONGEST / spacing))
    N = int(np.floor(np.exp(rng.uniform(np.log(_ECHOES[0]), np.log(most + 1)))))
    refocusing = 180.0 if rng.random() < _FULL else np.round(rng.uniform(*_REFOCUSING))
    others = [refocusing, 90.0, 1000.0, float(rng.integers(len(NAMES)))]
    spacing = np.round(spacing, 2)
    return np.column_stack([spacing * np.arange(1, N + 1), np.tile(others, (N, 1))])


def _constant(option: str, words: str, symbol: str, default: float, **more: Any) -> ColumnBorder:
    """A column with one value for the whole train."""
    field = "".join(word.capitalize() for word in option.split("_"))
    settings: dict[str, Any] = {
        "bids_field": field,
        "bids_factor": 1.0,
        "sidecar_field": field,
        "derivative_field": field,
        **more,
    }
    return ColumnBorder(option, words, symbol, varies=False, default=default, **settings)


def _angle(option: str, default: float) -> ColumnBorder:
    """Column of the nominal angle of a pulse."""
    return _constant(
        option,
        f"nominal {option} angle",
        option,
        default,
        plausible=(1.0, 180.0),
        plausible_largest=(3.2, 180.0),
        unit_hint=RADIANS_HINT,
    )


_BORDER = Border(
    sequence="mese",
    title="multi-echo spin echo with stimulated echoes",
    columns=(
        replace(ECHO_TIMES, random_largest=_LONGEST),
        replace(_angle("refocusing", 180.0), says_default=True),
        _angle("excitation", 90.0),
        _constant(
            "t1",
            "T1 that is held",
            "T1",
            1000.0,
            plausible=(20.0, 20_000.0),
            plausible_largest=(20.0, 20_000.0),
        ),
        _constant(
            "slice_profile",
            "slice profile",
            "profile",
            0.0,
            plausible=(0.0, MOST_PROFILES),
            plausible_largest=(0.0, MOST_PROFILES),
            names=NAMES,
            of_file=read_profile,
            says_default=True,
        ),
    ),
    maps=(
        AMPLITUDE_MAP,
        MapBorder(
            "B1",
            "Transmit field relative to the nominal one",
            range=(0.4, 1.3),
            std_range=(0.0, 0.1),
            bids_suffix="TB1map",
            bids_unit="arbitrary",
        ),
        T2_MAP,
    ),
    equation="S(TE_n) = A E_n(T2, B1), E_n by the extended phase graph across the slice",
    random_protocol=_random_protocol,
    papers=(_HENNIG, _LEBEL),
    fit_papers=(_LEBEL,),
    bids_suffix="MESE",
    bids_entity="echo",
    takes=is_train,
    default_network="rim-mese",
    echo_train=True,
    only_by_name=True,
    with_known="mese-b1",
    signal_only=("all pulses have the same phase, crushers act, and T1 is held; one T2 in a voxel"),
    caution=Caution(
        of_raw=why_not_t2,
        of_sidecar=other_train,
        of_misfit="several T2 in a voxel, another slice profile, or a floor of noise",
        of_floor="too long",
    ),
)

MODEL = SignalModel(
    name="spin_echo_train",
    parameter_table=(
        Parameter("A", "a.u.", None, (0.0, 100.0)),
        Parameter("B1", "1", 0.95, (0.25, 1.5)),
        Parameter("T2", "ms", 80.0, (2.0, 5000.0)),
    ),
    columns=(
        Column("echo_time"),
        Column("refocusing_angle", "degrees"),
        Column("excitation_angle", "degrees"),
        Column("t1"),
        Column("slice_profile", ""),
    ),
    magnitude=False,
    physics=_signal,
    physics_jacobian=_jacobian,
    border=_BORDER,
    tabulated=ProtocolTable(*NETWORK_GRID, lambda table: network_table(train_of(table))),
    shared=SharedParameter(
        "B1", one_value=_one_b1, wide=(0.5, 1.2), of_field=b1_of_field, points=25, mirror=_mirror
    ),
)
