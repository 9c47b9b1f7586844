"""Repetition time from sidecars, for a fit whose parameters do not depend on it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from relaxnet.io.bids_names import BidsError, Sidecar
from relaxsim.models.protocols import Protocol

#: Fields of the time between two inversions, the surest first.
REPETITION = ("RepetitionTimePreparation", "RepetitionTime", "RepetitionTimeExcitation")
#: Relative and absolute difference up to which a rounded number is the same one.
TOLERANCE, LEAST_DIFFERENCE = 0.005, 0.01


def number(value: Any) -> float | None:
    """A finite number of a sidecar, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:  # an integer of more than 308 digits
        return None
    return found if math.isfinite(found) else None


def same_number(a: float, b: float) -> bool:
    """Whether two times in ms, or two angles in degrees, are the same but for rounding."""
    return math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=LEAST_DIFFERENCE)


def find_repetition_time(
    constants: Mapping[str, Any],
    sidecars: Sequence[Sidecar],
    protocol: Protocol,
    tr: float | Literal["sidecar"] | None,
    fitted: bool,
) -> tuple[float | None, tuple[str, ...]]:
    """Repetition time for the fit, in ms, and notes for the user.

    The fit's TR is the time from one inversion to the next. A field below the protocol's longest
    time is the time between two excitations of one readout train and is no such time.

    Parameters
    ----------
    constants : mapping
        Fields that all sidecars share.
    sidecars : sequence of Sidecar
    protocol : Protocol
        Of a model that has a form for a finite repetition time.
    tr : float, "sidecar" or None
        Repetition time in ms, the wish for that of the sidecars, or neither.
    fitted : bool
        A fit is to be made.

    Returns
    -------
    tr : float or None
    notes : tuple of str

    Raises
    ------
    BidsError
        If the wish cannot be met, or a field contradicts `tr`.
    """
    longest = float(protocol.tau.max())
    name = sidecars[0].name
    values = {key: number(constants.get(key)) for key in REPETITION}
    usable = {key: v * 1000 for key, v in values.items() if v is not None and v * 1000 > longest}
    key, found = next(iter(usable.items()), ("", 0.0))
    if tr is None:
        if fitted and found:
            note = f"{key} {found:g} ms of the sidecars is not used; `tr` sidecar fits with it"
            return None, (note,)
        return None, ()
    readout = protocol.model.border.caution.of_readout
    caution = None if readout is None else readout(constants)
    cautions = () if caution is None else (caution,)
    if tr == "sidecar":
        if not found:
            raise BidsError(f"`tr` sidecar: {_why_none(sidecars, values, protocol)}.")
        return found, (f"repetition time {found:g} ms ({key} of the sidecars)", *cautions)
    if usable and not any(same_number(value, tr) for value in usable.values()):
        raise BidsError(
            f"`tr` {tr:g} contradicts {name}: {key} is {found / 1000:g} s. Give `tr` sidecar or "
            "mend the sidecar."
        )
    return tr, cautions


def _why_none(
    sidecars: Sequence[Sidecar], values: Mapping[str, float | None], protocol: Protocol
) -> str:
    """Why no repetition time can be taken from the sidecars."""
    name = sidecars[0].name
    short = {key: value for key, value in values.items() if value is not None}
    if short:
        key, value = next(iter(short.items()))
        return (
            f"{key} of {name} is {value:g} s, shorter than the longest of the {protocol.words} "
            f"({protocol.tau.max():g} ms), so it is not the time between inversions; give `tr` in "
            "ms"
        )
    varying = [key for key in REPETITION if any(key in card.fields for card in sidecars)]
    if varying:
        return f"{varying[0]} differs between the sidecars or is no number; give `tr` in ms"
    return f"{name} has no {', '.join(REPETITION[:2])}; give `tr` in ms"
