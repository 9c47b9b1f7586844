"""Multi-echo spin echo with a measured transmit field: T2 from the echoes of a train.

The signal is that of `relaxsim.models.spin_echo_train`; its B1 is a known map.
"""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

from relaxsim.models.common_borders import TRANSMIT_FIELD
from relaxsim.models.echo_table import B1_ENDS
from relaxsim.models.signal_model import Array, KnownMap, SignalModel
from relaxsim.models.spin_echo_train import MODEL as TRAIN
from relaxsim.models.spin_echo_train import b1_of_field


def _with_b1(kappa: Array, known: Array, xp: ModuleType) -> Array:
    """(A, B1, T2) of (A, T2) and the known B1."""
    A, T2, B1 = kappa[..., 0], kappa[..., 1], known[..., 0]
    one = A * 0.0 + B1 * 0.0 + 1.0
    return xp.stack([A * one, B1 * one, T2 * one], axis=-1)


def _signal(kappa: Array, protocol: Array, known: Array, xp: ModuleType) -> Array:
    return TRAIN.physics(_with_b1(kappa, known, xp), protocol, None, xp)


def _jacobian(kappa: Array, protocol: Array, known: Array, xp: ModuleType) -> Array:
    J = TRAIN.physics_jacobian(_with_b1(kappa, known, xp), protocol, None, xp)
    return xp.stack([J[..., 0], J[..., 2]], axis=-1)


_A, _B1, _T2 = TRAIN.parameter_table

MODEL = SignalModel(
    name="spin_echo_train_known_b1",
    parameter_table=(_A, _T2),
    columns=TRAIN.columns,
    magnitude=False,
    physics=_signal,
    physics_jacobian=_jacobian,
    border=replace(
        TRAIN.border,
        sequence="mese-b1",
        title="multi-echo spin echo with stimulated echoes and a known transmit field",
        maps=(TRAIN.border.maps[0], TRAIN.border.maps[2]),
        known=(TRANSMIT_FIELD,),
        bids_suffix="",
        takes=None,
        with_known="",
        default_network="",
    ),
    known_maps=(KnownMap("B1", "1", 1.0, B1_ENDS, b1_of_field),),
    tabulated=TRAIN.tabulated,
)
