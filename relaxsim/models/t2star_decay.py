"""T2* decay: T2* from gradient echoes at several echo times.

The decay is taken for exponential. Field inhomogeneity across a voxel, which bends it, and fat,
whose protons precess at another frequency, are not in the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from relaxsim.models import exponential_decay
from relaxsim.models.border import Border, Caution, DerivedMap, MapBorder
from relaxsim.models.common_borders import AMPLITUDE_MAP, ECHO_TIMES
from relaxsim.models.draws import random_times
from relaxsim.models.raw_sidecar import sequence_parts, why_gradient_echoes
from relaxsim.models.references import Reference
from relaxsim.models.signal_model import Column, Parameter, SignalModel

#: Longest echo time of a random list, ms.
_LONGEST_RANDOM = 80.0
#: Fat and water are looked for in at least so many voxels. A rise between two echoes counts above
#: so many of its standard errors and this part of the voxel's largest signal, and leads to a
#: warning in this share of the voxels.
_LEAST_VOXELS, _ERRORS, _RISE, _SHARE = 20, 5.0, 0.05, 0.02
#: Least ratio of the last echo time of a random list to its first.
_LEAST_SPAN = 1.5
_CHAVHAN = Reference(
    key="chavhan2009",
    authors="Chavhan, G. B. and Babyn, P. S. and Thomas, B. and Shroff, M. M. and Haacke, E. M.",
    title=(
        "Principles, techniques, and applications of T2*-based MR imaging and its special "
        "applications"
    ),
    journal="RadioGraphics",
    year="2009",
    volume="29",
    pages="1433--1449",
    doi="10.1148/rg.295095034",
)


def _random_protocol(rng: np.random.Generator) -> np.ndarray:
    """3 to 40 echoes, the first at 0.8 to 8 ms, the last at 8 to 80 ms; see `random_times`.

    Trains that end before `_LEAST_SPAN` times their first echo say too little, and are drawn again.
    """
    while True:
        times = random_times(rng, (3, 40), (0.8, 8.0), (8.0, _LONGEST_RANDOM))
        if times[-1] >= _LEAST_SPAN * times[0]:
            return times[:, None]


def _opposed_phases(
    S: np.ndarray, protocol: np.ndarray, mask: np.ndarray, sigma: float
) -> str | None:
    """Warning if the signal of many voxels rises from an echo to a later one.

    A decay falls, whatever the field does to it until the signal has nearly gone. The signal of fat
    and water in a voxel rises again as their phases meet.
    """
    order = np.argsort(protocol[..., 0], kind="stable")
    times = protocol[order, 0]
    v = np.asarray(S[mask], np.float64)[:, order]
    v = v[np.isfinite(v).all(axis=1)]
    if len(v) < _LEAST_VOXELS or len(times) < 3:
        return None
    rise = np.diff(v, axis=1)
    least = np.maximum(_ERRORS * np.sqrt(2.0) * sigma, _RISE * v.max(axis=1, keepdims=True))
    shares = (rise > least).mean(axis=0)
    share = float((rise > least).any(axis=1).mean())
    if share < _SHARE:
        return None
    n = int(shares.argmax())
    return (
        f"the signal rises along the echoes in {100 * share:.0f} % of the voxels, most often from "
        f"{times[n]:g} to {times[n + 1]:g} ms, as that of fat and water does whose phases are "
        "opposed: T2* is wrong there. Echoes at which they are in phase (every 2.3 ms at 3 T, 4.6 "
        "ms at 1.5 T) do not show it"
    )


def _rate(kappa: np.ndarray) -> np.ndarray:
    """R2* in 1/s; 0 where there is no T2*."""
    T = kappa[..., -1]
    return np.divide(1000.0, T, out=np.zeros_like(T), where=T > 0)


def _rate_slope(kappa: np.ndarray) -> np.ndarray:
    """Derivative of `_rate` with respect to T2*, 1/s/ms."""
    return -(_rate(kappa) ** 2) / 1000.0


def _spin_echoes(fields: Mapping[str, Any], suffix: str) -> str | None:
    """Warning if names or sidecars tell of spin echoes, which decay with T2."""
    if suffix == "MESE":
        why = "the files are named MESE"
    elif "SE" in sequence_parts(fields) and "GR" not in sequence_parts(fields):
        why = "the sidecars say ScanningSequence SE"
    else:
        return None
    return (
        f"{why}: spin echoes decay with T2, so that the maps named T2star hold T2; give `sequence` "
        "t2"
    )


_BORDER = Border(
    sequence="t2star",
    title="T2* decay",
    columns=(
        replace(
            ECHO_TIMES,
            plausible=(0.0, 500.0),
            plausible_largest=(1.0, 500.0),
            random_largest=_LONGEST_RANDOM,
        ),
    ),
    maps=(
        AMPLITUDE_MAP,
        MapBorder(
            "T2star",
            "Effective transverse relaxation time T2*",
            range=(0.0, 100.0),
            std_range=(0.0, 10.0),
            label="T2*",
            bids_suffix="T2starmap",
            bids_unit="s",
            bids_factor=1e-3,
        ),
    ),
    derived=(
        DerivedMap(
            MapBorder(
                "R2star",
                "Effective transverse relaxation rate R2* = 1 / T2*",
                range=(0.0, 200.0),
                label="R2*",
                bids_suffix="R2starmap",
                bids_unit="1/s",
            ),
            "1/s",
            value=_rate,
            slope=_rate_slope,
        ),
    ),
    equation="S(TE) = A exp(-TE / T2*)",
    random_protocol=_random_protocol,
    tissues="t2star",
    papers=(_CHAVHAN,),
    fit_papers=(_CHAVHAN,),
    bids_suffix="MEGRE",
    bids_entity="echo",
    default_network="rim-t2star",
    other_suffixes=("T2starw", "T2star"),
    only_by_name=True,
    claims=lambda fields: bool(why_gradient_echoes(fields)),
    signal_only="field inhomogeneity across a voxel and fat are not in the model",
    caution=Caution(
        of_series=_opposed_phases,
        of_raw=_spin_echoes,
        of_misfit=(
            "fat and water beat against each other, field inhomogeneity bends the decay, and an "
            "offset or a floor of noise lifts late echoes"
        ),
        of_floor="too long",
    ),
)

MODEL = SignalModel(
    name="t2star_decay",
    parameter_table=(
        Parameter("A", "a.u.", None, (0.0, 100.0)),
        Parameter("T2star", "ms", 30.0, (0.2, 1000.0)),
    ),
    columns=(Column("echo_time"),),
    magnitude=False,
    physics=exponential_decay.signal,
    physics_jacobian=exponential_decay.jacobian,
    border=_BORDER,
    separable=exponential_decay.SEPARABLE,
)
