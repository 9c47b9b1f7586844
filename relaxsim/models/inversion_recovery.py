"""Inversion recovery: T1 from images at several inversion times (paper, section 4.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np

from relaxsim.models import finite_tr
from relaxsim.models.border import Border, Caution, MapBorder
from relaxsim.models.common_borders import AMPLITUDE_MAP, INVERSION_TIMES, T1_MAP
from relaxsim.models.draws import random_times
from relaxsim.models.references import SABIDUSSI, Reference
from relaxsim.models.signal_model import (
    Array,
    Column,
    FiniteTR,
    Parameter,
    Separable,
    SharedParameter,
    SignalModel,
)

#: Longest inversion time of a random list, ms.
_LONGEST_RANDOM = 5000.0
#: Bounds of the efficiency: from saturation to a little more than a perfect inversion.
_EFFICIENCY_BOUNDS = (0.0, 1.1)
#: Parameter of the half-normal distribution of 2 - B (paper, section 4.2).
_B_SCALE = 0.2
#: Median of a fitted B above which the readout is of the Look-Locker kind.
_LOOK_LOCKER_B = 2.05
#: A list of at least so many inversion times in even steps of at most so many ms: each cannot have
#: had an inversion of its own.
_TRAIN_LENGTH, _TRAIN_STEP = 10, 100.0
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
_APPARENT = "T1 is the apparent T1*; `sequence` look-locker maps T1 = T1* (B - 1)"
_BARRAL = Reference(
    key="barral2010",
    authors=(
        "Barral, J. K. and Gudmundson, E. and Stikov, N. and Etezadi-Amoli, M. and Stoica, P. "
        "and Nishimura, D. G."
    ),
    title="A robust methodology for in vivo T1 mapping",
    journal="Magnetic Resonance in Medicine",
    year="2010",
    volume="64",
    pages="1057--1067",
    doi="10.1002/mrm.22497",
    short_journal="Magn Reson Med",
)
DEICHMANN = Reference(
    key="deichmann1992",
    authors="Deichmann, R. and Haase, A.",
    title="Quantification of T1 values by SNAPSHOT-FLASH NMR imaging",
    journal="Journal of Magnetic Resonance",
    year="1992",
    volume="96",
    pages="608--612",
    doi="10.1016/0022-2364(92)90347-A",
)


def _signal(kappa: Array, protocol: Array, known: None, xp: ModuleType) -> Array:
    """``A (1 - B exp(-TI / T1))``."""
    A, B, T1 = kappa[..., 0:1], kappa[..., 1:2], kappa[..., 2:3]
    return A * (1.0 - B * xp.exp(-protocol[..., 0] / T1))


def _jacobian(kappa: Array, protocol: Array, known: None, xp: ModuleType) -> Array:
    A, B, T1 = kappa[..., 0:1], kappa[..., 1:2], kappa[..., 2:3]
    TI = protocol[..., 0]
    E = xp.exp(-TI / T1)
    return xp.stack([1.0 - B * E, -A * E, -A * B * E * (TI / T1**2)], axis=-1)


def _basis(T1: Array, protocol: Array, known: None, xp: ModuleType) -> Array:
    E = xp.exp(-protocol[..., 0] / T1[..., None])
    return xp.stack([xp.ones_like(E), -E], axis=-1)


def _from_linear(c: Array, T1: Array, xp: ModuleType) -> Array:
    """Coefficients are (A, A B)."""
    A = c[..., 0]
    return xp.stack([A, c[..., 1] / xp.where(A == 0, xp.ones_like(A), A), T1], axis=-1)


def _exponential(kappa: Array) -> tuple[Array, Array, list[Array], list[Array]]:
    A, B = kappa[..., 0], kappa[..., 1]
    return A, -A * B, [1.0, 0.0], [-B, -A]


def _one_b(rng: np.random.Generator, n: int) -> np.ndarray:
    """B of whole patches: ``2 - |x|``, x normal of scale 0.2 (paper, section 4.2)."""
    return 2.0 - np.abs(rng.normal(0.0, _B_SCALE, n))


def _b_of_field(p: np.ndarray) -> np.ndarray:
    """B of an inversion pulse whose flip angle is ``pi (1 + d)``, ``d = tanh(2 p) / 2``.

    ``B = 1 - cos(pi (1 + d))``: from 1 to 2.
    """
    return 1.0 + np.cos(0.5 * np.pi * np.tanh(2 * p))


def _at_repetition_time(tr: float) -> SignalModel:
    """Signal model with parameters (M0, e, T1) for a repetition time in ms.

    Raises
    ------
    ValueError
        If `tr` is not positive.
    """
    if not (np.isfinite(tr) and tr > 0):
        raise ValueError(f"the repetition time must be a positive number of ms, received {tr:g}.")
    A, B, T1 = MODEL.parameter_table
    efficiency = replace(B, name="e", start=1.0, bounds=_EFFICIENCY_BOUNDS)
    assert MODEL.separable is not None
    assert MODEL.shared is not None
    return replace(
        MODEL,
        name=f"{MODEL.name}_tr",
        border=replace(_BORDER, maps=(_M0_MAP, _EFFICIENCY_MAP, _T1_MAP)),
        parameter_table=(replace(A, name="M0"), efficiency, T1),
        physics=lambda kappa, protocol, known, xp: finite_tr.signed(kappa, protocol, tr, xp),
        physics_jacobian=lambda kappa, protocol, known, xp: finite_tr.signed_jacobian(
            kappa, protocol, tr, xp
        ),
        shared=replace(MODEL.shared, name="e", label="efficiency"),
        separable=replace(
            MODEL.separable,
            basis=lambda T1, protocol, known, xp: finite_tr.basis(T1, protocol, tr, xp),
            exponential=None,
        ),
        finite_tr=None,
    )


def _random_protocol(rng: np.random.Generator) -> np.ndarray:
    """4 to 40 images, the first at 20 to 500 ms, the last at 600 to 5000 ms; see `random_times`."""
    return random_times(rng, (4, 40), (20.0, 500.0), (600.0, _LONGEST_RANDOM))[:, None]


def _even_times(protocol: np.ndarray) -> str | None:
    """Sentence if times lie so evenly and close that one inversion served them all."""
    tau = protocol[..., 0]
    if tau.shape[-1] < _TRAIN_LENGTH or tau.ndim != 1:
        return None
    steps = np.diff(np.sort(tau))
    step = float(np.median(steps))
    if not 0 < step <= _TRAIN_STEP or steps.min() < 0.5 * step or steps.max() > 1.5 * step:
        return None
    return (
        f"{len(tau)} inversion times in even steps of {step:.0f} ms: if they follow one inversion "
        f"(cine, Look-Locker), {_APPARENT}"
    )


def _large_b(kappa: np.ndarray, std: np.ndarray | None, sound: np.ndarray) -> str | None:
    """Sentence if a fitted B is above 2, which no inversion reaches, but a Look-Locker readout.

    Such a readout drives the magnetisation towards less than its equilibrium, so that
    ``B = 1 + T1 / T1*`` exceeds 2; a poor inversion or a short repetition time lowers B.
    """
    if std is None:
        return None
    with np.errstate(invalid="ignore"):
        known = sound & (std[..., 1] > 0) & (std[..., 1] < 0.1)
    B = kappa[..., 1][known]
    if known.sum() < 20 or np.median(B) < _LOOK_LOCKER_B:
        return None
    return (
        f"B has a median of {np.median(B):.2f}, and no inversion gives more than 2: the readout is "
        f"of the Look-Locker kind, and {_APPARENT}"
    )


def _named_look_locker(fields: Mapping[str, Any]) -> str | None:
    """Sentence if the JSON file beside a series names a Look-Locker sequence."""
    if fields.get("LookLocker") is True:
        return f"the sidecar says LookLocker: {_APPARENT}"
    for key in _SEQUENCE_FIELDS:
        words = str(fields.get(key, ""))
        if any(word in words.lower() for word in _LOOK_LOCKER_WORDS):
            return f"the sidecar says {key} {words[:60]!r}: {_APPARENT}"
    return None


#: Slices that are read within so many s of each other share their inversion times.
_SLICE_SPREAD = 0.01


def _slices_in_turn(fields: Mapping[str, Any], suffix: str) -> str | None:
    """Warning if slices are read one after the other: each may have inversion times of its own."""
    times = fields.get("SliceTiming")
    if fields.get("MRAcquisitionType") == "3D" or not isinstance(times, list):
        return None
    found = [t for t in times if isinstance(t, int | float) and abs(t) < 1e6]
    spread = max(found, default=0.0) - min(found, default=0.0)
    if spread <= _SLICE_SPREAD:
        return None
    return (
        f"SliceTiming of the sidecars spreads over {1000 * spread:g} ms: if one inversion serves "
        "several slices, the inversion times hold for one of them only, and B and T1 of the others "
        "are off; `slice_timing` adds it to the times of each slice"
    )


def _other_readout(fields: Mapping[str, Any]) -> str | None:
    """Sentence if a sidecar names a readout other than one of 90 degrees a repetition time."""
    if fields.get("LookLocker") is True:
        return "`tr` assumes one 90-degree readout a TR; the sidecars say LookLocker"
    angle = fields.get("FlipAngle")
    if isinstance(angle, int | float) and 0 <= angle <= 360 and abs(angle - 90) > 10:
        return f"`tr` assumes a 90-degree readout; the sidecars say FlipAngle {angle:g}"
    return None


#: Maps of a finite repetition time; that of T1 is the same.
_M0_MAP = MapBorder(
    "M0",
    "Equilibrium magnetisation M0, in the unit of the images",
    bids_suffix="M0map",
    bids_unit="arbitrary",
)
_EFFICIENCY_MAP = MapBorder("e", "Efficiency of the inversion; 1 is a perfect one")
_T1_MAP = replace(
    T1_MAP,
    meaning="Longitudinal relaxation time; of a Look-Locker readout, uncorrected, the apparent T1*",
    trained={"wide": (50.0, 5000.0), "paper": (100.0, 4500.0)},
)

_BORDER = Border(
    sequence="ir",
    title="inversion recovery",
    columns=(replace(INVERSION_TIMES, random_largest=_LONGEST_RANDOM),),
    maps=(
        AMPLITUDE_MAP,
        MapBorder(
            "B",
            "B of the signal model A (1 - B exp(-TI / T1)); 2 is a perfect inversion",
            range=(1.0, 2.5),
            std_range=(0.0, 0.5),
        ),
        _T1_MAP,
    ),
    equation="S(TI) = |A (1 - B exp(-TI / T1))|",
    random_protocol=_random_protocol,
    papers=(SABIDUSSI,),
    fit_papers=(_BARRAL, SABIDUSSI),
    bids_suffix="IRT1",
    bids_entity="inv",
    default_network="rim-t1",
    finite_tr_words=(
        "A = M0 (1 + e exp(-TR / T1)) and B = (1 + e) / (1 + e exp(-TR / T1)) at an inversion "
        "efficiency e"
    ),
    caution=Caution(
        of_protocol=_even_times,
        of_estimate=_large_b,
        of_sidecar=_named_look_locker,
        of_raw=_slices_in_turn,
        of_readout=_other_readout,
        of_misfit="an offset, images of another gain, wrong inversion times, motion",
        of_floor="most of all where an image lies near the zero crossing",
    ),
)

MODEL = SignalModel(
    name="inversion_recovery",
    parameter_table=(
        Parameter("A", "a.u.", None, (0.0, 10.0)),
        Parameter("B", "1", 2.0, (0.5, 2.5)),
        Parameter("T1", "ms", 1000.0, (10.0, 6000.0)),
    ),
    columns=(Column("inversion_time"),),
    magnitude=True,
    physics=_signal,
    physics_jacobian=_jacobian,
    border=_BORDER,
    shared=SharedParameter("B", one_value=_one_b, wide=(1.0, 2.05), of_field=_b_of_field),
    separable=Separable(_basis, _from_linear, _exponential),
    finite_tr=FiniteTR(
        model=_at_repetition_time,
        apparent=finite_tr.apparent,
        apparent_jacobian=finite_tr.apparent_jacobian,
        from_infinite=finite_tr.from_infinite,
        from_apparent=finite_tr.from_apparent,
        check=finite_tr.check,
    ),
)
