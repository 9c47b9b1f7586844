"""Repetition time from sidecars, for a fit in which B depends on it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from relaxnet.io.bids_names import BidsError, Sidecar

#: Fields of the time between two inversions, the surest first.
REPETITION = ("RepetitionTimePreparation", "RepetitionTime", "RepetitionTimeExcitation")
#: Relative difference up to which a rounded time is the same one.
TOLERANCE = 0.005


def number(value: Any) -> float | None:
    """A finite number of a sidecar, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:  # an integer of more than 308 digits
        return None
    return found if math.isfinite(found) else None


def same_time(a: float, b: float) -> bool:
    """Whether two times in ms are the same but for rounding."""
    return math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=0.01)


def find_repetition_time(
    constants: dict[str, Any],
    sidecars: Sequence[Sidecar],
    longest: float,
    tr: float | Literal["sidecar"] | None,
    fitted: bool,
) -> tuple[float | None, tuple[str, ...]]:
    """Repetition time for the fit, in ms, and what to say of it.

    The fit's TR is the time from one inversion to the next. A field below the longest inversion
    time is the time between two excitations of one readout train and is no such time.

    Parameters
    ----------
    constants : dict
        Fields that all sidecars share.
    sidecars : sequence of Sidecar
    longest : float
        Longest inversion time in ms.
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
    name = sidecars[0].name
    values = {key: number(constants.get(key)) for key in REPETITION}
    usable = {key: v * 1000 for key, v in values.items() if v is not None and v * 1000 > longest}
    key, found = next(iter(usable.items()), ("", 0.0))
    if tr is None:
        if fitted and found:
            note = f"{key} {found:g} ms of the sidecars is not used; --tr sidecar fits with it"
            return None, (note,)
        return None, ()
    if tr == "sidecar":
        if not found:
            raise BidsError(f"--tr sidecar: {_why_none(sidecars, values, longest, name)}.")
        return found, (
            f"repetition time {found:g} ms ({key} of the sidecars)",
            *_readout(constants),
        )
    if usable and not any(same_time(value, tr) for value in usable.values()):
        raise BidsError(
            f"--tr {tr:g} contradicts {name}: {key} is {found / 1000:g} s. Give --tr sidecar or "
            "mend the sidecar."
        )
    return tr, _readout(constants)


def _why_none(
    sidecars: Sequence[Sidecar], values: dict[str, float | None], longest: float, name: str
) -> str:
    """Why no repetition time can be taken from the sidecars."""
    short = {key: value for key, value in values.items() if value is not None}
    if short:
        key, value = next(iter(short.items()))
        return (
            f"{key} of {name} is {value:g} s, shorter than the longest inversion time "
            f"({longest:g} ms), so it is not the time between inversions; give --tr in ms"
        )
    varying = [key for key in REPETITION if any(key in card.fields for card in sidecars)]
    if varying:
        return f"{varying[0]} differs between the sidecars or is no number; give --tr in ms"
    return f"{name} has no {', '.join(REPETITION[:2])}; give --tr in ms"


def _readout(constants: dict[str, Any]) -> tuple[str, ...]:
    """A warning where the readout is not the one of the fit's model."""
    angle = number(constants.get("FlipAngle"))
    if constants.get("LookLocker") is True:
        return ("--tr assumes one 90-degree readout a TR; the sidecars say LookLocker",)
    if angle is not None and abs(angle - 90) > 10:
        return (f"--tr assumes a 90-degree readout; the sidecars say FlipAngle {angle:g}",)
    return ()


def repetition_time(text: str | None) -> float | Literal["sidecar"] | None:
    """Value of the option ``--tr``: None, ms, or ``sidecar``.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    if text is None or text == "sidecar":
        return text  # type: ignore[return-value]
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"--tr {text}: expected a number of ms, or sidecar.") from None
