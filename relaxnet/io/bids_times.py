"""Protocol of a series from its sidecars: the border at which their units become the model's.

Which suffix belongs to which signal model, and which field to which column of its protocol, stands
in the models' borders (`relaxsim.models.border`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
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
from relaxnet.io.bids_repetition import find_repetition_time, number, same_number
from relaxnet.io.philips import philips_scaling
from relaxnet.io.slice_times import with_slice_timing
from relaxsim.models.border import ColumnBorder
from relaxsim.models.protocols import Protocol, check_column
from relaxsim.models.registry import MODELS, model_of_suffix
from relaxsim.models.signal_model import SignalModel

#: Collections of the specification that no signal model may be there for, and why.
_OTHER = {
    "MP2RAGE": "needs the MP2RAGE signal model, which relaxnet lacks",
    "MPM": "varies flip angle and magnetisation transfer, which relaxnet does not map together",
    "MTS": "varies the magnetisation transfer, which relaxnet does not model",
    "MTR": "varies the magnetisation transfer, which relaxnet does not model",
}


@dataclass(frozen=True)
class Acquisition:
    """A series with what its sidecars say.

    Attributes
    ----------
    paths : tuple of str
        Files; several are in the order of the protocol if this comes from sidecars.
    protocol : Protocol
    tr : float or None
        Repetition time in ms that the fit shall take.
    constants : dict
        Fields that all sidecars share.
    fields : mapping
        All fields of the first image.
    notes : tuple of str
    warnings : tuple of str
        What is likely wrong.
    signed : bool, optional
        The files are real parts, which carry the signal's sign; None where that is not stated.
    scaling : tuple of float
        What each image is multiplied by to be on the scale of the first; empty for no scaling.
    """

    paths: tuple[str, ...]
    protocol: Protocol
    tr: float | None = None
    constants: dict[str, Any] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    signed: bool | None = None
    scaling: tuple[float, ...] = ()

    def without_first(self, number: int) -> Acquisition:
        """The same without the first images."""
        protocol = self.protocol.without_first(number)
        paths = self.paths[number:] if len(self.paths) > 1 else self.paths
        return replace(self, paths=paths, protocol=protocol, scaling=self.scaling[number:])


def mapped_suffixes() -> tuple[str, ...]:
    """BIDS suffixes of series that a signal model is there for."""
    return tuple(
        dict.fromkeys(m.border.bids_suffix for m in MODELS.values() if m.border.bids_suffix)
    )


def read_acquisition(
    series: Sequence[str],
    given: Protocol | None = None,
    tr: float | Literal["sidecar"] | None = None,
    fitted: bool = False,
    model: SignalModel | None = None,
    slice_timing: bool = False,
) -> Acquisition:
    """Protocol of a series: the given one, checked against the sidecars, or that of the sidecars.

    Parameters
    ----------
    series : sequence of str
        One 4-D file, or one file for each image.
    given : Protocol, optional
        In the order of `series`.
    tr : float or "sidecar", optional
        Repetition time in ms, or the wish for that of the sidecars.
    fitted : bool
        A fit is to be made, for which a repetition time is of use.
    model : SignalModel, optional
        Of a series without `given`, where it is named; otherwise files and sidecars must tell.
    slice_timing : bool
        Add SliceTiming of the sidecars to the times of each slice.

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
    real = _all_real(series, names)
    sidecars, notes = _sidecars(series, needed=given is None)
    paths, order = tuple(map(str, series)), np.arange(len(series))
    warnings: tuple[str, ...] = ()
    if given is None:
        model = model or _model(series, names, sidecars)
        sidecars, more = _with_other_fields(sidecars, model)
        notes = (*notes, *more)
        table = _table(series, sidecars, model)
        stated = [
            c.option
            for c in model.border.columns
            if any(c.bids_field in card.fields for card in sidecars)
        ]
        warnings = model.border.assumed(stated)
        if len(series) > 1:
            order = np.lexsort(table.T[::-1])  # by the first column, then by the others
            paths, table = tuple(paths[n] for n in order), table[order]
        protocol = Protocol(_protocol_name(names[0], model, sidecars[0]), model, table)
    else:
        sidecars, warnings = _without_one_value(sidecars, given)
        _check_given(series, names, sidecars, given)
        _check_order(series, sidecars, given)
        protocol = given
    if real and not protocol.model.magnitude:
        title = protocol.model.border.title
        raise BidsError(
            f"{Path(series[0]).name} is the real part of complex data, and {title} has no sign; "
            "give magnitude images only, such as *_part-mag_*."
        )
    constants = _constants(sidecars)
    fields = dict(sidecars[order[0]].fields)
    scaling, scaled = philips_scaling([sidecars[n] for n in order])
    if slice_timing:
        protocol = with_slice_timing(protocol, [sidecars[n] for n in order])
        fields.pop("SliceTiming", None)
    check = protocol.model.border.caution.of_raw
    suffix = names[0].suffix if names[0] is not None else ""
    caution = None if check is None else check(fields, suffix)
    found = Acquisition(
        paths,
        protocol,
        None,
        constants,
        fields,
        (*notes, *scaled),
        (*warnings, *(() if caution is None else (caution,))),
        True if real else None,
        scaling,
    )
    if protocol.model.finite_tr is not None:
        used, more = find_repetition_time(constants, sidecars, protocol, tr, fitted)
        return replace(found, tr=used, notes=(*found.notes, *more))
    if tr == "sidecar":
        title = protocol.model.border.title
        takers = [m.border.title for m in MODELS.values() if m.finite_tr is not None]
        raise BidsError(
            f"`tr` sidecar: {title} takes no repetition time; it goes with {', '.join(takers)}."
        )
    return replace(found, tr=tr)


def series_model(series: Sequence[str]) -> SignalModel:
    """Signal model of a series, by its files' suffix or by the fields of the sidecars that vary.

    Raises
    ------
    BidsError
        If neither names one, or several models fit.
    """
    return _model(series, [parse_name(p) for p in series], [read_sidecar(p) for p in series])


def sequence_of_files(series: Sequence[str | Path], given: Mapping[str, Any]) -> str:
    """Sequence that names and sidecars of files tell, of those that take the columns given.

    Parameters
    ----------
    series : sequence of path
    given : mapping
        Options of columns, such as ``tes`` -> value; None where not given.

    Returns
    -------
    sequence : str
        Empty if nothing tells, or what tells is a sequence of other columns.
    """
    name = parse_name(series[0]) if series else None
    options = {option for option, value in given.items() if value is not None}
    if name is not None and name.entities:
        model = _model_of_name(name.suffix)
    else:
        model = _claimant(_readable_sidecars(series))
    if model is None or not options <= set(model.border.options):
        return ""
    return model.border.sequence


def _readable_sidecars(series: Sequence[str | Path]) -> list[Sidecar]:
    """Sidecars of a series; none if one cannot be read, which is said where it is needed."""
    try:
        return [read_sidecar(path) for path in series]
    except (BidsError, OSError):
        return []


def _model_of_name(suffix: str) -> SignalModel | None:
    """Signal model of a suffix of raw series, or of other images that are such series."""
    return model_of_suffix(suffix) or _model_of_other(suffix)


def _model_of_other(suffix: str) -> SignalModel | None:
    """Signal model that takes a suffix beside that of its own raw series."""
    return next((m for m in MODELS.values() if suffix in m.border.other_suffixes), None)


def _check_one_series(series: Sequence[str], names: Sequence[BidsName | None]) -> None:
    """Refuse parts that are no magnitude, and files of different series."""
    for path, name in zip(series, names, strict=True):
        part = name.entities.get("part", "mag") if name is not None else "mag"
        if part not in ("mag", "real"):
            raise BidsError(
                f"{Path(path).name} is the {part} part of complex data; give magnitude images "
                "only, such as *_part-mag_*."
            )
    first = names[0]
    model = None if first is None else model_of_suffix(first.suffix)
    if first is None or model is None:
        return
    index = model.border.bids_entity
    numbered: dict[int, str] = {}
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
        if number in numbered:
            raise BidsError(
                f"{numbered[number]} and {Path(path).name} have the same index {index}-{number}; "
                "expected one file for each."
            )
        numbered[number] = Path(path).name


def _all_real(series: Sequence[str], names: Sequence[BidsName | None]) -> bool:
    """Whether the files are the real parts of complex data; refused where only some are."""
    real = [name is not None and name.entities.get("part") == "real" for name in names]
    if any(real) and not all(real):
        one, other = series[real.index(True)], series[real.index(False)]
        raise BidsError(
            f"{Path(one).name} is a real part, {Path(other).name} is not; give files of one kind."
        )
    return all(real)


def _sidecars(series: Sequence[str], needed: bool) -> tuple[list[Sidecar], tuple[str, ...]]:
    """Sidecars of the files; those that cannot be read are left out where times are given."""
    found, lost = [], []
    for path in series:
        try:
            found.append(read_sidecar(path))
        except BidsError as error:
            if needed:
                raise
            lost.append(str(error).rstrip("."))
            found.append(Sidecar({}, (), Path(path).with_suffix(".json")))
    if not lost:
        return found, ()
    more = f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""
    return found, (f"sidecars are left out of account: {lost[0]}{more}",)


def _with_other_fields(
    sidecars: list[Sidecar], model: SignalModel
) -> tuple[list[Sidecar], tuple[str, ...]]:
    """Sidecars with the fields of the model's columns, where they hold them by another name."""
    notes = []
    for column in model.border.columns:
        key, other = column.bids_field, column.other_bids_field
        fields = [card.fields for card in sidecars]
        if not other or any(key in f for f in fields) or not all(other in f for f in fields):
            continue
        sidecars = [
            replace(card, fields={**card.fields, key: card.fields[other]}) for card in sidecars
        ]
        notes.append(f"the sidecars lack {key}: {other} is taken for the {column.words}")
    return sidecars, tuple(notes)


def _without_one_value(
    sidecars: list[Sidecar], given: Protocol
) -> tuple[list[Sidecar], tuple[str, ...]]:
    """Sidecars less fields that state one value for all images where the given ones vary.

    Some converters write the first echo time into every sidecar.
    """
    warnings = []
    for d, column in enumerate(given.model.border.columns):
        key = column.bids_field
        stated = [number(card.fields.get(key)) for card in sidecars]
        if len(sidecars) < 2 or not column.varies or given.by_slice:
            continue
        if (
            np.ptp(given.table[:, d]) == 0
            or stated[0] is None
            or any(value != stated[0] for value in stated)
        ):
            continue
        unit = " s" if column.is_time else ""
        warnings.append(
            f"{key} is {stated[0]:g}{unit} in all {len(sidecars)} sidecars; the {column.words} of "
            f"{given.name} are taken"
        )
        sidecars = [
            replace(card, fields={k: v for k, v in card.fields.items() if k != key})
            for card in sidecars
        ]
    return sidecars, tuple(warnings)


def _index(path: str, name: BidsName, index: str) -> int:
    text = name.entities.get(index, "")
    if not text.isdecimal():
        raise BidsError(f"{Path(path).name} has no {index}-<number>, which counts {name.suffix}.")
    return int(text)


def _model(
    series: Sequence[str], names: Sequence[BidsName | None], sidecars: Sequence[Sidecar]
) -> SignalModel:
    """Signal model: by the suffix, otherwise by the fields that vary."""
    suffix = names[0].suffix if names[0] is not None else ""
    if (model := model_of_suffix(suffix, _first_column(suffix, sidecars))) is not None:
        return model
    taker = _model_of_other(suffix)
    if taker is not None and _fits(taker, sidecars):
        return taker
    fitting = _models_of_fields(sidecars)
    if suffix in _OTHER:
        raise BidsError(
            f"{Path(series[0]).name} is {suffix}, which {_OTHER[suffix]}. Mapped are: "
            f"{', '.join(mapped_suffixes())}."
        )
    if len(fitting) == 1:
        return _claimant(sidecars) or fitting[0]
    raise BidsError(_why_no_model(series, sidecars, fitting))


def _first_column(suffix: str, sidecars: Sequence[Sidecar]) -> np.ndarray | None:
    """First column of a series, in order, by which one of a suffix's models is chosen, or None."""
    model = model_of_suffix(suffix)
    if model is None:
        return None
    column = model.border.columns[0]
    listed = [card.fields.get(column.bids_field) for card in sidecars]
    if len(listed) == 1 and isinstance(listed[0], list):
        listed = listed[0]
    found = [number(v[0] if isinstance(v, list) and len(v) == 1 else v) for v in listed]
    known = [value for value in found if value is not None]
    if len(known) < len(found):
        return None
    return np.sort(np.array(known, np.float64)) * column.bids_factor


def _claimant(sidecars: Sequence[Sidecar]) -> SignalModel | None:
    """Model that all sidecars tell of beside the fields that vary."""
    for model in MODELS.values():
        claims = model.border.claims
        if claims and _fits(model, sidecars) and all(claims(card.fields) for card in sidecars):
            return model
    return None


def _models_of_fields(sidecars: Sequence[Sidecar]) -> list[SignalModel]:
    """Models whose columns vary in the sidecars, less those that leave a column out of account."""
    found = [m for m in _named_by_fields() if _fits(m, sidecars)]
    return [m for m in found if not any(_varying(m) < _varying(other) for other in found)]


def _named_by_fields() -> list[SignalModel]:
    return [m for m in MODELS.values() if not m.border.only_by_name]


def _varying(model: SignalModel) -> set[str]:
    """Fields of the columns that vary from image to image."""
    return {column.bids_field for column in model.border.columns if column.varies}


def _fits(model: SignalModel, sidecars: Sequence[Sidecar]) -> bool:
    """Whether all varying columns of a model vary, and the others are there or have a default."""
    constant = [c for c in model.border.columns if not c.varies and c.default is None]
    return all(_varies(sidecars, key) for key in _varying(model)) and all(
        c.bids_field in card.fields or c.other_bids_field in card.fields
        for c in constant
        for card in sidecars
    )


def _varies(sidecars: Sequence[Sidecar], key: str) -> bool:
    values = [card.fields.get(key) for card in sidecars]
    if len(values) == 1:
        return isinstance(values[0], list) and len(values[0]) > 1
    return None not in values and any(value != values[0] for value in values)


def _why_no_model(
    series: Sequence[str], sidecars: Sequence[Sidecar], fitting: Sequence[SignalModel]
) -> str:
    """Why the sidecars do not say which signal model a series belongs to."""
    if Path(series[0]).is_dir():
        return f"{series[0]} is a folder; give its files, in the order of their times."
    card = next((c for c in sidecars if not c.files), sidecars[0])
    if fitting:
        fields = dict.fromkeys(key for model in fitting for key in sorted(_varying(model)))
        why = f"in {card.name} both {' and '.join(fields)} vary"
    elif card.files and (what := _what_is_there(sidecars)):
        why = what
    elif card.files:
        fields = dict.fromkeys(key for m in _named_by_fields() for key in sorted(_varying(m)))
        why = f"{card.name} holds no list of {' or '.join(fields)}"
    else:
        image = Path(series[sidecars.index(card)]).name
        why = f"{image} has no sidecar {card.name} to read them from"
    ways = dict.fromkeys(
        " and ".join(f"{c.words} with `{c.option}`" for c in m.border.columns if c.default is None)
        for m in _named_by_fields()
    )
    return f"give {' or '.join(ways)}: {why}."


#: Fields that other kinds of series vary from image to image.
_OTHER_FIELDS = ("FlipAngle", "RepetitionTime", "MTState", "PulseSequenceType")


def _what_is_there(sidecars: Sequence[Sidecar]) -> str:
    """What the sidecars of several images say instead of what a model needs; empty for nothing."""
    if len(sidecars) < 2:
        return ""
    said = []
    for key in _OTHER_FIELDS:
        if _varies(sidecars, key):
            values = dict.fromkeys(str(card.fields[key]) for card in sidecars)
            shown = ", ".join(list(values)[:4]) + (", ..." if len(values) > 4 else "")
            said.append(f"{key} varies ({shown}), for which there is no signal model here")
    for key in dict.fromkeys(key for m in _named_by_fields() for key in sorted(_varying(m))):
        listed = [card.fields.get(key) for card in sidecars]
        if listed[0] is not None and all(value == listed[0] for value in listed):
            said.append(f"{key} is {listed[0]} in all {len(sidecars)} sidecars")
    return "; ".join(said[:2])


def _table(series: Sequence[str], sidecars: Sequence[Sidecar], model: SignalModel) -> np.ndarray:
    """Protocol (N, D), in the order of the files or of the lists in the only sidecar."""
    borders = model.border.columns
    columns = [_column(series, sidecars, column, len(borders) > 1) for column in borders]
    N = max(len(values) for values in columns) if len(series) == 1 else len(series)
    for column, values in zip(borders, columns, strict=True):
        if len(values) not in (1, N):
            raise BidsError(
                f"{sidecars[0].name}: {column.bids_field} lists {len(values)} {column.words}, but "
                f"there are {N} images; expected one number for each, or one for all."
            )
    table = np.stack([np.broadcast_to(values, N) for values in columns], axis=-1)
    if len(series) == 1 and N == 1 and not any(_is_list(sidecars, c.bids_field) for c in borders):
        fields = " or ".join(sorted(_varying(model)))
        raise BidsError(f"{sidecars[0].name}: {fields} {_SINGLE}")
    return table


_SINGLE = (
    "is a single number; one 4-D file needs a list of them, otherwise give one file for each image."
)


def _is_list(sidecars: Sequence[Sidecar], key: str) -> bool:
    return any(isinstance(card.fields.get(key), list) for card in sidecars)


def _column(
    series: Sequence[str], sidecars: Sequence[Sidecar], column: ColumnBorder, one_of_several: bool
) -> np.ndarray:
    """Values of a column in its unit; one value where it holds for all images."""
    key = column.bids_field
    if column.default is not None and not any(key in card.fields for card in sidecars):
        return np.array([column.default])
    values = [_value(path, card, column) for path, card in zip(series, sidecars, strict=True)]
    if len(series) > 1:
        for card, value in zip(sidecars, values, strict=True):
            if isinstance(value, list) and len(value) != 1:
                raise BidsError(
                    f"{card.name}: {key} lists {len(value)} {_kind(column)} for one of "
                    f"{len(series)} files; expected one number."
                )
        listed = [value[0] if isinstance(value, list) else value for value in values]
    elif isinstance(values[0], list):
        listed = values[0]
    elif one_of_several:
        listed = [values[0]]
    else:
        raise BidsError(f"{sidecars[0].name}: {key} {_SINGLE}")
    cards = sidecars if len(sidecars) > 1 else list(sidecars) * len(listed)
    found = [_in_unit(card, column, value) for card, value in zip(cards, listed, strict=True)]
    low = column.plausible_largest[0]
    if column.is_time and found and max(found) < low:
        raise BidsError(
            f"{sidecars[0].name}: all {key} are below {low:g} ms (up to "
            f"{max(found) / column.bids_factor:g} s); expected seconds."
        )
    return check_column(np.array(found), column, sidecars[0].name)


def _kind(column: ColumnBorder) -> str:
    return "times" if column.is_time else column.words


def _value(path: str, card: Sidecar, column: ColumnBorder) -> Any:
    key, image = column.bids_field, Path(path).name
    if not card.files:
        raise BidsError(
            f"{image} has no sidecar ({card.expected.name}), from which its {key} would be read."
        )
    if key not in card.fields:
        unit = " (in seconds)" if column.is_time else ""
        raise BidsError(f"{card.name} has no {key}, which {image} needs{unit}.")
    return card.fields[key]


def _in_unit(card: Sidecar, column: ColumnBorder, value: Any) -> float:
    """One value in the column's unit, refused if it is not plausible in the field's unit."""
    key, found = column.bids_field, number(value)
    if value in column.names:
        return float(column.names.index(value))
    unit = "seconds" if column.is_time else column.words
    if found is None or not found > 0:
        what = "a positive number of seconds" if column.is_time else f"positive {column.words}"
        raise BidsError(f"{card.name}: {key} is {value!r}; expected {what}.")
    low, high = (limit / column.bids_factor for limit in column.plausible)
    if column.is_time and found > high:
        raise BidsError(f"{card.name}: {key} is {found:g}, which looks like ms; expected {unit}.")
    if not low <= found <= high:
        hint = f", {column.unit_hint}" if column.unit_hint and found < low else ""
        raise BidsError(
            f"{card.name}: {key} is {found:g}{hint}; expected {unit} from {low:g} to {high:g}."
        )
    return round(found * column.bids_factor, 6)


def _check_given(
    series: Sequence[str],
    names: Sequence[BidsName | None],
    sidecars: Sequence[Sidecar],
    given: Protocol,
) -> None:
    """Refuse a given protocol that the sidecars contradict; sidecars that are silent do not."""
    suffix = names[0].suffix if names[0] is not None else ""
    expected = model_of_suffix(suffix)
    first = given.model.border.columns[0]
    if expected is not None and first.option not in expected.border.options:
        column = expected.border.columns[0]
        raise BidsError(
            f"{Path(series[0]).name} is {suffix}: give its {column.words} with `{column.option}`, "
            f"not `{first.option}`."
        )
    for d, column in enumerate(given.model.border.columns):
        _check_given_column(sidecars, given, d, column)


def _check_given_column(
    sidecars: Sequence[Sidecar], given: Protocol, d: int, column: ColumnBorder
) -> None:
    key = column.bids_field
    if len(sidecars) == 1:
        listed = sidecars[0].fields.get(key)
        if not isinstance(listed, list):
            return
        if len(listed) != given.num_images:
            raise BidsError(
                f"{sidecars[0].name} lists {len(listed)} {_kind(column)} ({key}), {given.name} "
                f"{given.num_images}. Leave `{column.option}` out or mend one of them."
            )
        found = [(sidecars[0], value) for value in listed]
    else:
        found = [(card, card.fields.get(key)) for card in sidecars]
    if given.by_slice:  # sidecars list one protocol for all slices
        return
    word, unit, theirs = ("time", " ms", " s") if column.is_time else (column.symbol, "", "")
    values = given.table[:, d]
    for n, ((card, value), given_value) in enumerate(zip(found, values, strict=False)):
        stated = number(value[0] if isinstance(value, list) and len(value) == 1 else value)
        if stated is not None and not same_number(stated * column.bids_factor, given_value):
            raise BidsError(
                f"{card.name}: {key} is {stated:g}{theirs}, but {word} {n + 1} of {given.name} is "
                f"{given_value:g}{unit}. Files are taken in the order given; leave "
                f"`{column.option}` out or mend one of them."
            )


def _check_order(series: Sequence[str], sidecars: Sequence[Sidecar], given: Protocol) -> None:
    """Refuse files in alphabetical order, 10 before 2, that are given times in rising order.

    Only where the sidecars do not say the times: they would have been compared.
    """
    column = given.model.border.columns[0]
    if given.by_slice or not column.is_time:
        return
    if all(number(card.fields.get(column.bids_field)) is not None for card in sidecars):
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
    """Fields with one value in all sidecars; the list of a 4-D file's protocol is none.

    What JSON does not know, such as an infinite number, is left out.
    """
    first = sidecars[0].fields
    columns = {column.bids_field for model in MODELS.values() for column in model.border.columns}
    return {
        key: value
        for key, value in first.items()
        if all(key in card.fields and card.fields[key] == value for card in sidecars)
        and not (key in columns and isinstance(value, list))
        and _is_json(value)
    }


def _is_json(value: Any) -> bool:
    """Whether a value can be written as strict JSON."""
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


def _protocol_name(name: BidsName | None, model: SignalModel, card: Sidecar) -> str:
    """Name of the series' protocol for messages and sidecars."""
    if name is None or not name.entities:
        return card.name
    return entity_name(name.without(model.border.bids_entity, "part"), name.suffix)
