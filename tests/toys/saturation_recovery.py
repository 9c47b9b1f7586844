"""A signal model that the package does not have: T1 from images after saturation.

With `spoiled_echo` beside it an example of how a model is added: by one file.
"""

import numpy as np

from relaxsim.models.border import Border, ColumnBorder, MapBorder
from relaxsim.models.draws import random_times
from relaxsim.models.references import Reference
from relaxsim.models.signal_model import Column, Parameter, Separable, SignalModel

TOY = Reference(
    "toy2026", "Toy, A. and Block, B. and Car, C.", "Toy models", "Journal of Toys", "2026"
)


def _signal(kappa, protocol, known, xp):
    """``A (1 - exp(-TS / T1s))``."""
    return kappa[..., 0:1] * (1.0 - xp.exp(-protocol[..., 0] / kappa[..., 1:2]))


def _jacobian(kappa, protocol, known, xp):
    A, T1 = kappa[..., 0:1], kappa[..., 1:2]
    E = xp.exp(-protocol[..., 0] / T1)
    return xp.stack([1.0 - E, -A * E * protocol[..., 0] / T1**2], axis=-1)


def _basis(T1, protocol, known, xp):
    return (1.0 - xp.exp(-protocol[..., 0] / T1[..., None]))[..., None]


def _from_linear(c, T1, xp):
    return xp.stack([c[..., 0], T1], axis=-1)


def _random_protocol(rng):
    return random_times(rng, (4, 12), (50.0, 300.0), (1000.0, 4000.0))[:, None]


MODEL = SignalModel(
    name="saturation_recovery",
    parameter_table=(
        Parameter("A", "a.u.", None, (0.0, 20.0)),
        Parameter("T1s", "ms", 1000.0, (10.0, 6000.0), drawn=(200.0, 3000.0)),
    ),
    columns=(Column("saturation_time"),),
    magnitude=False,
    physics=_signal,
    physics_jacobian=_jacobian,
    separable=Separable(_basis, _from_linear),
    border=Border(
        sequence="sr",
        title="saturation recovery",
        columns=(
            ColumnBorder(
                option="tss",
                words="saturation times",
                symbol="TS",
                plausible=(0.0, 20_000.0),
                plausible_largest=(20.0, 20_000.0),
                bids_field="SaturationTime",
                bids_factor=1000.0,
                sidecar_field="SaturationTimesMs",
                derivative_field="SaturationTimes",
                random_largest=4000.0,
            ),
        ),
        maps=(
            MapBorder("M0", "Amplitude A", bids_unit="arbitrary"),
            MapBorder(
                "T1s",
                "Longitudinal relaxation time after saturation",
                range=(0.0, 3000.0),
                std_range=(0.0, 300.0),
                bids_suffix="T1smap",
                bids_unit="s",
                bids_factor=1e-3,
            ),
        ),
        equation="S(TS) = A (1 - exp(-TS / T1s))",
        random_protocol=_random_protocol,
        papers=(TOY,),
        fit_papers=(TOY,),
        bids_suffix="SRT1",
        bids_entity="sat",
    ),
)

#: Times of the tests, ms.
TIMES = np.array([100.0, 300.0, 700.0, 1500.0, 4000.0])
