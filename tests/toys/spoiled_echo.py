"""A signal model with a known map and a protocol of two columns, which no closed form separates.

A readout of flip angle a every TR after full saturation, ``A sin(B1 a) (1 - exp(-TR / T1v))``.
"""

import numpy as np

from relaxsim.models.border import Border, ColumnBorder, KnownBorder, MapBorder
from relaxsim.models.references import Reference
from relaxsim.models.signal_model import Column, KnownMap, Parameter, SignalModel

TOY = Reference(
    "toy2026", "Toy, A. and Block, B. and Car, C.", "Toy models", "Journal of Toys", "2026"
)


def _signal(kappa, protocol, known, xp):
    A, T1 = kappa[..., 0:1], kappa[..., 1:2]
    angle = known[..., 0:1] * protocol[..., 0] * (np.pi / 180.0)
    return A * xp.sin(angle) * (1.0 - xp.exp(-protocol[..., 1] / T1))


def _jacobian(kappa, protocol, known, xp):
    A, T1 = kappa[..., 0:1], kappa[..., 1:2]
    sine = xp.sin(known[..., 0:1] * protocol[..., 0] * (np.pi / 180.0))
    TR = protocol[..., 1]
    E = xp.exp(-TR / T1)
    return xp.stack([sine * (1.0 - E), -A * sine * E * TR / T1**2], axis=-1)


def _b1_of_field(p):
    """B1 from 0.7 to 1.3."""
    return 1.0 + 0.3 * np.tanh(p)


def _random_protocol(rng):
    N = int(rng.integers(4, 9))
    return np.stack([rng.uniform(20.0, 80.0, N), rng.uniform(100.0, 3000.0, N)], axis=-1).round(1)


MODEL = SignalModel(
    name="spoiled_echo",
    parameter_table=(
        Parameter("A", "a.u.", None, (0.0, 20.0)),
        Parameter("T1v", "ms", 1000.0, (10.0, 6000.0), drawn=(200.0, 3000.0)),
    ),
    columns=(Column("flip_angle", "degrees"), Column("repetition_time")),
    magnitude=False,
    physics=_signal,
    physics_jacobian=_jacobian,
    known_maps=(KnownMap("B1", "1", 1.0, (0.3, 2.0), _b1_of_field),),
    border=Border(
        sequence="se",
        title="spoiled echo",
        columns=(
            ColumnBorder(
                option="angles",
                words="flip angles",
                symbol="FA",
                plausible=(0.0, 180.0),
                plausible_largest=(5.0, 180.0),
                bids_field="ReadoutAngle",
                bids_factor=1.0,
                sidecar_field="ReadoutAnglesDegrees",
                derivative_field="ReadoutAngle",
                random_largest=80.0,
            ),
            ColumnBorder(
                option="waits",
                words="repetition times",
                symbol="TR",
                plausible=(1.0, 20_000.0),
                plausible_largest=(5.0, 20_000.0),
                bids_field="RecoveryTime",
                bids_factor=1000.0,
                sidecar_field="RecoveryTimesMs",
                derivative_field="RecoveryTime",
                random_largest=3000.0,
                varies=False,
            ),
        ),
        known=(KnownBorder("b1", "relative transmit field", "TB1map", "divide per cent by 100"),),
        maps=(
            MapBorder("M0", "Amplitude A", bids_unit="arbitrary"),
            MapBorder(
                "T1v",
                "Longitudinal relaxation time",
                range=(0.0, 3000.0),
                std_range=(0.0, 300.0),
                bids_suffix="T1vmap",
                bids_unit="s",
                bids_factor=1e-3,
            ),
        ),
        equation="S = A sin(B1 FA) (1 - exp(-TR / T1v))",
        random_protocol=_random_protocol,
        papers=(TOY,),
        fit_papers=(TOY,),
        bids_suffix="SET1",
        bids_entity="flip",
    ),
)

#: Rows of flip angle (degrees) and repetition time (ms) of the tests.
TABLE = np.array([[30.0, 200.0], [60.0, 200.0], [60.0, 600.0], [60.0, 1500.0], [40.0, 3000.0]])
