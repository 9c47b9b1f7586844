"""What the sidecars of a run say, as typed facts: the one place where a report reads them.

Sidecars hold each fact as a number, a bool or one word of a fixed list. Folders of earlier versions
have sentences for some of them: a report shows these as they are and decides nothing by them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from relaxnet.maps.reader import Run
from relaxsim.models.border import MapBorder
from relaxsim.models.registry import MODELS
from relaxsim.models.signal_model import Parameter, SignalModel


@dataclass(frozen=True)
class NoiseFacts:
    """The noise standard deviation.

    Attributes
    ----------
    sigma : float, or None
        In the unit of the images; None if it is not recorded.
    source : str
        ``given``, ``map``, ``air``, ``residuals``, ``floor``; empty if it is not recorded.
    reason : str
        Why the air or the residuals were taken.
    air_sigma, air_voxels : float, or None
        Noise of the air, and the voxels that it was found from.
    air_kind : str
        Distribution of the air's samples.
    air_unusable : str
        Why the air does not show the noise; empty if it does.
    residual_sigma, given_sigma : float, or None
        Noise of the residuals of a voxel-wise fit, and one that was given and not used.
    text : str
        Sentence of an earlier version.
    """

    sigma: float | None
    source: str
    reason: str
    air_sigma: float | None
    air_voxels: float | None
    air_kind: str
    air_unusable: str
    residual_sigma: float | None
    given_sigma: float | None
    text: str


@dataclass(frozen=True)
class MaskFacts:
    """Which voxels were taken.

    Attributes
    ----------
    kind : str
        ``auto``, ``file``, ``array``, ``none``; empty if it is not recorded.
    rule : str
        Of an automatic mask, a key of `relaxnet.series.foreground.RULES`.
    file : str
        Name of a mask's file.
    half : float
        Of a soft mask in a file half of its range, from which on voxels count; 0 for another.
    share : float, or None
        Share of voxels in the mask.
    text : str
        Sentence of an earlier version.
    """

    kind: str
    rule: str
    file: str
    half: float
    share: float | None
    text: str


@dataclass(frozen=True)
class DataFacts:
    """What the samples were taken for.

    Attributes
    ----------
    signed : bool, or None
        The method took the sign of the samples into account; None if it is not recorded.
    modulus : bool
        The series carries a sign, of which the method took the modulus.
    rician : bool
        Noise was taken for Rician.
    text : str
        Sentence of an earlier version.
    """

    signed: bool | None
    modulus: bool
    rician: bool
    text: str


@dataclass(frozen=True)
class FitFacts:
    """Options of a maximum-likelihood fit.

    Attributes
    ----------
    likelihood : str
        ``gaussian`` or ``rician``; empty if it is not recorded.
    weight : float, or None
        Of the penalty on the shared parameter, if there was one.
    weight_chosen : bool
        The data chose the weight.
    fixed : float, or None
        Value at which the shared parameter was fixed.
    shared : bool
        The mask has one value of the shared parameter.
    repetition_time : float, or None
        ms.
    text : str
        Sentence of an earlier version.
    """

    likelihood: str
    weight: float | None
    weight_chosen: bool
    fixed: float | None
    shared: bool
    repetition_time: float | None
    text: str


@dataclass(frozen=True)
class Facts:
    """All of these, and the protocol.

    Attributes
    ----------
    protocol : array, shape (N, D) or (Z, N, D), or None
        In the units of the model's columns; None if the sidecars do not list it.
    noise : NoiseFacts
    mask : MaskFacts
    data : DataFacts
    fit : FitFacts
    known : dict of str to str
        Files of known maps by the maps' names.
    checked, difference : float, or None
        Of the comparison with a voxel-wise fit (`relaxnet.maps.maps.Comparison`).
    """

    protocol: np.ndarray | None
    noise: NoiseFacts
    mask: MaskFacts
    data: DataFacts
    fit: FitFacts
    known: dict[str, str]
    checked: float | None
    difference: float | None


def facts_of(run: Run) -> Facts:
    """The facts that a run's sidecars hold; what is of another type counts as not recorded."""
    card = run.sidecar
    comparison = _record(card, "Comparison")
    return Facts(
        protocol=None if run.model is None else _protocol(card, run.model),
        noise=_noise(card),
        mask=_mask(card),
        data=_data(card),
        fit=_fit(card),
        known={} if run.model is None else _known(card, run.model),
        checked=_number(comparison.get("checked")),
        difference=_number(comparison.get("difference")),
    )


def main_stem(run: Run) -> str:
    """Stem of the map that the sequence is for; of an unknown model the first map's."""
    if run.model is not None and (stem := f"{run.model.border.maps[-1].stem}map") in run.maps:
        return stem
    return next(iter(run.maps))


def parameter_stems(run: Run) -> list[str]:
    """Stems of the maps of parameters."""
    return [stem for stem in run.maps if stem.endswith("map")]


def parameter_of(run: Run, stem: str) -> tuple[Parameter, MapBorder] | None:
    """Parameter whose map or standard deviation has this stem, and its border; None of others.

    Runs without a signal model get the first model that has such a map.
    """
    for model in MODELS.values() if run.model is None else (run.model,):
        for parameter, border in zip(model.parameter_table, model.border.maps, strict=True):
            if stem in (f"{border.stem}map", f"{border.stem}std"):
                return parameter, border
    return None


def unit_factor(run: Run, stem: str) -> float:
    """Factor from the model's unit of a parameter to the unit of its map, which may be BIDS's."""
    found = parameter_of(run, stem)
    if found is None:
        return 1.0
    parameter, border = found
    unit = run.maps[stem].unit
    return border.bids_factor if unit == border.bids_unit != parameter.unit else 1.0


def _noise(card: Mapping[str, Any]) -> NoiseFacts:
    record = _record(card, "Noise")
    sigma = _number(record.get("Sigma"))
    return NoiseFacts(
        sigma=_number(card.get("Sigma")) if sigma is None else sigma,
        source=_text(record.get("Source")),
        reason=_text(record.get("Reason")),
        air_sigma=_number(record.get("AirSigma")),
        air_voxels=_number(record.get("AirVoxels")),
        air_kind=_text(record.get("AirKind")),
        air_unusable=_text(record.get("AirUnusable")),
        residual_sigma=_number(record.get("ResidualSigma")),
        given_sigma=_number(record.get("GivenSigma")),
        text=_text(card.get("SigmaSource")),
    )


def _mask(card: Mapping[str, Any]) -> MaskFacts:
    record = _record(card, "MaskKind")
    return MaskFacts(
        kind=_text(record.get("Kind")),
        rule=_text(record.get("Rule")),
        file=_text(record.get("File")),
        half=(_number(record.get("From")) or 0.5) if record.get("Probabilities") is True else 0.0,
        share=_number(record.get("Share")),
        text=_text(card.get("Mask")),
    )


def _data(card: Mapping[str, Any]) -> DataFacts:
    record = _record(card, "Data")
    modulus, signed = record.get("Modulus") is True, record.get("Signed")
    return DataFacts(
        signed=signed and not modulus if isinstance(signed, bool) else None,
        modulus=modulus,
        rician=record.get("Rician") is True,
        text=_text(card.get("DataTakenAs")),
    )


def _fit(card: Mapping[str, Any]) -> FitFacts:
    options = _record(card, "FitOptions")
    asked, chosen = _number(options.get("LambdaB")), _number(options.get("ChosenLambdaB"))
    return FitFacts(
        likelihood=_text(options.get("Likelihood")),
        weight=asked if chosen is None else chosen,
        weight_chosen=asked is None and chosen is not None,
        fixed=_number(options.get("FixB")),
        shared=options.get("ShareB") is True,
        repetition_time=_number(options.get("TR")),
        text=_text(card.get("Fit")),
    )


def _known(card: Mapping[str, Any], model: SignalModel) -> dict[str, str]:
    """Files of known maps by the maps' names; sidecars name them by the border's options."""
    files = _record(card, "KnownMaps")
    pairs = zip(model.known_maps, model.border.known, strict=True)
    return {
        known.name: file for known, border in pairs if (file := _text(files.get(border.option)))
    }


def _protocol(card: Mapping[str, Any], model: SignalModel) -> np.ndarray | None:
    """Table of the protocol: a list for each column, of each slice one, or one number for all."""
    try:
        columns = np.broadcast_arrays(
            *(
                np.asarray(
                    column.stated(card.get(column.sidecar_field, column.default)), np.float64
                )
                for column in model.border.columns
            )
        )
    except (TypeError, ValueError):
        return None
    table = np.stack(columns, axis=-1)
    if table.ndim not in (2, 3) or not table.size or not np.isfinite(table).all():
        return None
    return table


def _record(card: Mapping[str, Any], key: str) -> dict[str, Any]:
    record = card.get(key)
    return record if isinstance(record, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _number(value: object) -> float | None:
    """A number; JSON has none for infinity, which sidecars write as a word."""
    if value == "inf":
        return math.inf
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        return None
    return float(value)
