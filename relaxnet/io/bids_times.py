"""Times of a series from its sidecars: the border at which seconds become ms."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from relaxnet.io.bids_names import (
    BidsError,
    BidsName,
    Sidecar,
    entity_name,
    parse_name,
    read_sidecar,
)
from relaxnet.io.bids_repetition import find_repetition_time, number, same_time
from relaxsim.models.protocols import Protocol, check_times
from relaxsim.models.registry import model_of

#: Suffixes of file collections that fit a signal model, and the option of the model's times.
SUFFIXES = {"IRT1": "tis", "MESE": "tes"}
#: Field that varies in a collection, and the entity that counts its files.
FIELDS = {"tis": "InversionTime", "tes": "EchoTime"}
INDEX = {"tis": "inv", "tes": "echo"}
#: Other collections of the specification, and why they are not mapped.
_OTHER = {
    "MEGRE": "decays with T2*, which relaxnet does not map",
    "MP2RAGE": "needs the MP2RAGE signal model, which relaxnet lacks",
    "VFA": "varies the flip angle, which relaxnet does not model",
    "MPM": "varies the flip angle, which relaxnet does not model",
    "MTS": "varies the magnetisation transfer, which relaxnet does not model",
    "MTR": "varies the magnetisation transfer, which relaxnet does not model",
}
#: Seconds: a list without a time above the first, or with one above the second, is in no seconds.
_PLAUSIBLE = {"tis": (0.02, 100.0), "tes": (0.001, 10.0)}


@dataclass(frozen=True)
class Acquisition:
    """A series with what its sidecars say.

    Attributes
    ----------
    paths : tuple of str
        Files; several are in the order of their times if these come from sidecars.
    protocol : Protocol
    tr : float or None
        Repetition time in ms that the fit shall take.
    constants : dict
        Fields that all sidecars share.
    notes : tuple of str
    """

    paths: tuple[str, ...]
    protocol: Protocol
    tr: float | None = None
    constants: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def without_first(self, number: int) -> Acquisition:
        """The same without the first images."""
        protocol = self.protocol.without_first(number)
        paths = self.paths[number:] if len(self.paths) > 1 else self.paths
        return replace(self, paths=paths, protocol=protocol)


def read_acquisition(
    series: Sequence[str],
    given: Protocol | None = None,
    tr: float | Literal["sidecar"] | None = None,
    fitted: bool = False,
) -> Acquisition:
    """Times of a series: those given, checked against the sidecars, or those of the sidecars.

    Parameters
    ----------
    series : sequence of str
        One 4-D file, or one file for each time.
    given : Protocol, optional
        Times in the order of `series`.
    tr : float or "sidecar", optional
        Repetition time in ms, or the wish for that of the sidecars.
    fitted : bool
        A fit is to be made, for which a repetition time is of use.

    Returns
    -------
    Acquisition

    Raises
    ------
    BidsError
        If files do not belong together, a sidecar or field is missing, or sidecars contradict
        `given` or `tr`.
    """
    names = [parse_name(path) for path in series]
    _check_one_series(series, names)
    sidecars = [read_sidecar(path) for path in series]
    if given is None:
        times = _kind(series, names, sidecars)
        tau = _times_of(series, sidecars, times)
        order = np.argsort(tau, kind="stable") if len(series) > 1 else range(1)
        paths = tuple(str(series[n]) for n in order)
        tau = tau[order] if len(series) > 1 else tau
        tau = check_times(tau, times, sidecars[0].name)
        protocol = Protocol(
            _protocol_name(names[0], times, sidecars[0]), model_of(times), tau[:, None]
        )
    else:
        _check_given(series, names, sidecars, given)
        _check_order(series, sidecars, given)
        paths, protocol = tuple(map(str, series)), given
    constants = _constants(sidecars)
    longest = float(protocol.tau.max())
    if protocol.model.times != "tis":
        if tr == "sidecar":
            raise BidsError("--tr sidecar goes with inversion times; a T2 decay takes no TR.")
        return Acquisition(paths, protocol, tr, constants)
    found, notes = find_repetition_time(constants, sidecars, longest, tr, fitted)
    return Acquisition(paths, protocol, found, constants, notes)


def series_kind(series: Sequence[str]) -> str:
    """``tis`` or ``tes``, as the files' suffix or the sidecars' varying field says.

    Raises
    ------
    BidsError
        If neither tells.
    """
    return _kind(series, [parse_name(p) for p in series], [read_sidecar(p) for p in series])


def _check_one_series(series: Sequence[str], names: Sequence[BidsName | None]) -> None:
    """Refuse parts that are no magnitude, and files of different series."""
    for path, name in zip(series, names, strict=True):
        part = name.entities.get("part", "mag") if name is not None else "mag"
        if part != "mag":
            raise BidsError(
                f"{Path(path).name} is the {part} part of complex data; give magnitude images "
                "only, such as *_part-mag_*."
            )
    first = names[0]
    if first is None or first.suffix not in SUFFIXES:
        return
    index = INDEX[SUFFIXES[first.suffix]]
    seen: dict[int, str] = {}
    for path, name in zip(series, names, strict=True):
        if name is None or (name.without(index, "part"), name.suffix) != (
            first.without(index, "part"),
            first.suffix,
        ):
            raise BidsError(
                f"{Path(series[0]).name} and {Path(path).name} belong to different series; "
                "map one at a time, or a dataset with relaxnet bids."
            )
        if len(series) == 1:
            return
        number = _index(path, name, index)
        if number in seen:
            raise BidsError(
                f"{seen[number]} and {Path(path).name} have the same index {index}-{number}; "
                "expected one file for each."
            )
        seen[number] = Path(path).name


def _index(path: str, name: BidsName, index: str) -> int:
    text = name.entities.get(index, "")
    if not text.isdecimal():
        raise BidsError(f"{Path(path).name} has no {index}-<number>, which counts {name.suffix}.")
    return int(text)


def _kind(
    series: Sequence[str], names: Sequence[BidsName | None], sidecars: Sequence[Sidecar]
) -> str:
    """``tis`` or ``tes``: by the suffix, otherwise by the field that varies."""
    name, first = names[0], Path(series[0]).name
    suffix = name.suffix if name is not None else ""
    if suffix in SUFFIXES:
        return SUFFIXES[suffix]
    if suffix in _OTHER:
        raise BidsError(
            f"{first} is {suffix}, which {_OTHER[suffix]}. Mapped are: {', '.join(SUFFIXES)}."
        )
    varied = [times for times in FIELDS if _varies(sidecars, FIELDS[times])]
    if len(varied) == 1:
        return varied[0]
    card = next((c for c in sidecars if not c.files), sidecars[0])
    first = Path(series[sidecars.index(card)]).name
    if Path(series[0]).is_dir():
        raise BidsError(f"{series[0]} is a folder; give its files, in the order of their times.")
    if varied:
        why = f"in {card.name} both InversionTime and EchoTime vary"
    elif card.files:
        why = f"{card.name} holds no list of InversionTime or EchoTime"
    else:
        why = f"{first} has no sidecar {card.name} to read them from"
    raise BidsError(f"give inversion times with --tis or echo times with --tes: {why}.")


def _varies(sidecars: Sequence[Sidecar], key: str) -> bool:
    values = [card.fields.get(key) for card in sidecars]
    if len(values) == 1:
        return isinstance(values[0], list) and len(values[0]) > 1
    return None not in values and any(value != values[0] for value in values)


def _times_of(series: Sequence[str], sidecars: Sequence[Sidecar], times: str) -> np.ndarray:
    """Times in ms, in the order of the files or of the list in the only sidecar."""
    key = FIELDS[times]
    values = [_value(path, card, key) for path, card in zip(series, sidecars, strict=True)]
    if len(series) > 1:
        for card, value in zip(sidecars, values, strict=True):
            if isinstance(value, list) and len(value) != 1:
                raise BidsError(
                    f"{card.name}: {key} lists {len(value)} times for one of {len(series)} files; "
                    "expected one number."
                )
        flat = [value[0] if isinstance(value, list) else value for value in values]
    elif isinstance(values[0], list):
        flat = values[0]
    else:
        raise BidsError(
            f"{sidecars[0].name}: {key} is a single number; one 4-D file needs a list of times, "
            "otherwise give one file for each time."
        )
    cards = sidecars if len(sidecars) > 1 else list(sidecars) * len(flat)
    tau = np.array([_ms(card, key, v, times) for card, v in zip(cards, flat, strict=True)])
    low = 1000 * _PLAUSIBLE[times][0]
    if len(tau) and tau.max() < low:
        raise BidsError(
            f"{sidecars[0].name}: all {key} are below {low:g} ms (up to {tau.max() / 1000:g} s); "
            "expected seconds."
        )
    return tau


def _value(path: str, card: Sidecar, key: str) -> Any:
    if not card.files:
        raise BidsError(
            f"{Path(path).name} has no sidecar ({card.expected.name}), from which its {key} would "
            "be read."
        )
    if key not in card.fields:
        raise BidsError(f"{card.name} has no {key}, which {Path(path).name} needs (in seconds).")
    return card.fields[key]


def _ms(card: Sidecar, key: str, value: Any, times: str) -> float:
    """One time in ms, refused if it is no positive number of seconds."""
    seconds = number(value)
    if seconds is None or not seconds > 0:
        raise BidsError(f"{card.name}: {key} is {value!r}; expected a positive number of seconds.")
    if seconds > _PLAUSIBLE[times][1]:
        raise BidsError(
            f"{card.name}: {key} is {seconds:g}, which looks like ms; expected seconds."
        )
    return round(seconds * 1000.0, 6)


def _check_given(
    series: Sequence[str],
    names: Sequence[BidsName | None],
    sidecars: Sequence[Sidecar],
    given: Protocol,
) -> None:
    """Refuse times given that the sidecars contradict; sidecars that are silent do not."""
    suffix = names[0].suffix if names[0] is not None else ""
    if SUFFIXES.get(suffix, given.model.times) != given.model.times:
        raise BidsError(
            f"{Path(series[0]).name} is {suffix}: give its times with --{SUFFIXES[suffix]}, not "
            f"--{given.model.times}."
        )
    key = FIELDS[given.model.times]
    if len(series) == 1:
        listed = sidecars[0].fields.get(key)
        if not isinstance(listed, list):
            return
        if len(listed) != given.num_images:
            raise BidsError(
                f"{sidecars[0].name} lists {len(listed)} times ({key}), {given.name} "
                f"{given.num_images}. Leave --{given.model.times} out or mend one of them."
            )
        found = [(sidecars[0], value) for value in listed]
    else:
        found = [(card, card.fields.get(key)) for card in sidecars]
    for n, ((card, value), tau) in enumerate(zip(found, given.tau, strict=False)):
        seconds = number(value[0] if isinstance(value, list) and len(value) == 1 else value)
        if seconds is not None and not same_time(seconds * 1000, tau):
            raise BidsError(
                f"{card.name}: {key} is {seconds:g} s, but time {n + 1} of {given.name} is "
                f"{tau:g} ms. Files are taken in the order given; leave --{given.model.times} out "
                "or mend one of them."
            )


def _check_order(series: Sequence[str], sidecars: Sequence[Sidecar], given: Protocol) -> None:
    """Refuse files in alphabetical order, 10 before 2, that are given times in rising order.

    Only where the sidecars do not say the times: they would have been compared.
    """
    if all(number(card.fields.get(FIELDS[given.model.times])) is not None for card in sidecars):
        return
    numbered = sorted(series, key=_number_key)
    moved = [n for n, path in enumerate(series) if path != numbered[n]]
    rising = bool((np.diff(given.tau) > 0).all())
    if moved and rising and list(series) == sorted(series):
        first = moved[0]
        raise BidsError(
            f"time {first + 1} ({given.tau[first]:g} ms) would be that of "
            f"{Path(series[first]).name}, before {Path(numbered[first]).name}: the files are in "
            "alphabetical order, the times rise. Give the files in the order of their times, or "
            "sidecars with the times."
        )


def _number_key(path: str) -> list[tuple[int, float, str]]:
    """Key of an order in which numbers count as such: 2 before 10, and 0.05 before 0.4."""
    parts = re.split(r"(\d+(?:[.p]\d+)?)", str(path))
    numbers = [float(part.replace("p", ".")) for part in parts[1::2]]
    return [(1, numbers[i // 2], "") if i % 2 else (0, 0.0, part) for i, part in enumerate(parts)]


def _constants(sidecars: Sequence[Sidecar]) -> dict[str, Any]:
    """Fields with one value in all sidecars; the list of a 4-D file's times is none.

    What JSON does not know, such as an infinite number, is left out.
    """
    first = sidecars[0].fields
    return {
        key: value
        for key, value in first.items()
        if all(key in card.fields and card.fields[key] == value for card in sidecars)
        and not (key in FIELDS.values() and isinstance(value, list))
        and _is_json(value)
    }


def _is_json(value: Any) -> bool:
    """Whether a value can be written as strict JSON."""
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


def _protocol_name(name: BidsName | None, times: str, card: Sidecar) -> str:
    """Name of the series' times for messages and sidecars."""
    if name is None or not name.entities:
        return card.name
    return entity_name(name.without(INDEX[times], "part"), name.suffix)
