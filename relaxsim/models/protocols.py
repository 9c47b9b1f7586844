"""Protocols: what varied from image to image, a row an image, in the units of the model's columns.

The numbers of a column come from a text file (separated by white space, commas or semicolons, ``#``
starts a comment), such a list itself (``50,150,300``), a bundled list (``cine23``, ``cine25``,
``cine31``, ``fse6``), a single number that holds for all images, or a random draw.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from relaxsim.core.files import decoded, why_not_regular
from relaxsim.models.border import ColumnBorder
from relaxsim.models.registry import MODELS, model_of
from relaxsim.models.signal_model import SignalModel

#: Folder of bundled lists: one folder a sequence, one file a list.
BUNDLED = Path(__file__).with_name("protocols")
MAX_IMAGES = 4096
#: Bytes of the largest file that is read as a list.
_MAX_BYTES = 1_000_000
#: A list of numbers instead of the name of a file.
_LIST = re.compile(r"\s*[-+.\dEe]+([\s,;]+[-+.\dEe]+)+[\s,;]*")
#: A number with a comma before its decimals, or two numbers.
_DECIMAL_COMMA = re.compile(r"[-+]?\d[\d.]*,\d+")


@dataclass(frozen=True)
class Protocol:
    """The protocol of one series.

    Attributes
    ----------
    name : str
        File name or bundled name without ending, ``random`` or ``given``.
    model : SignalModel
    table : array, shape (N, D) or (Z, N, D), float64
        A row an image in acquisition order, in the units of the model's columns; with three axes
        each slice has its own.
    width : int
        Numbers on each line of the text that it was read from, if there are several on each and the
        model has one column.
    """

    name: str
    model: SignalModel
    table: np.ndarray
    width: int = 1

    @property
    def num_images(self) -> int:
        """Number of weighted images, N."""
        return self.table.shape[-2]

    @property
    def by_slice(self) -> bool:
        """Whether each slice has its own table."""
        return self.table.ndim == 3

    @property
    def tau(self) -> np.ndarray:
        """The first column, shape (N,) or (Z, N): the times of a model that has times alone."""
        return self.table[..., 0]

    @property
    def words(self) -> str:
        """The first column in words."""
        return self.model.border.columns[0].words

    def of_slice(self, z: int) -> np.ndarray:
        """Table of slice `z`, shape (N, D)."""
        return self.table[z] if self.by_slice else self.table

    def for_slices(self, num_images: int, num_slices: int) -> Protocol:
        """The same with a table for each slice, if its text has a line an image, a column a slice.

        Parameters
        ----------
        num_images, num_slices : int
            Of the series.
        """
        whole = num_images * num_slices
        if self.by_slice or self.width != num_slices or self.num_images != whole:
            return self
        tables = self.table.reshape(num_images, num_slices, -1)
        return replace(self, table=np.moveaxis(tables, 1, 0), width=1)

    def without_first(self, number: int) -> Protocol:
        """The same without the first images."""
        return replace(self, table=self.table[..., number:, :])

    def in_order(self, order: np.ndarray) -> Protocol:
        """The same with its images in another order, shape (N,)."""
        return replace(self, table=self.table[..., order, :])

    def __str__(self) -> str:
        """Name, number and range, for messages."""
        unit = self.model.columns[0].unit
        return (
            f"{self.name}: {self.num_images} {self.words}, "
            f"{self.tau.min():g} to {self.tau.max():g} {unit}"
        )


def given_protocol(values: object, model: SignalModel, units: str = "ms") -> Protocol:
    """Protocol of numbers: an array (N,) of a model with one column, (N, D) or (Z, N, D).

    Raises
    ------
    ValueError
        As `check_column`, for each column; or if the array has other axes.
    """
    table = np.asarray(values, np.float64)
    if table.ndim == 1:
        check_column(table, model.border.columns[0], "the list", units)
    table = np.array(model.table(table))
    for d, column in enumerate(model.border.columns):
        rows = table[..., d].reshape(-1, table.shape[-2])
        table[..., d] = np.stack(
            [check_column(row, column, "the list", units) for row in rows]
        ).reshape(table.shape[:-1])
    return Protocol("given", model, table)


def bundled_protocols(model: SignalModel | str | None = None) -> dict[str, Path]:
    """Bundled lists, of one model or of all: name without ending -> file."""
    folder = "*" if model is None else model_of(model).border.sequence
    return {path.stem: path for path in sorted(BUNDLED.glob(f"{folder}/*.txt"))}


def check_column(
    values: np.ndarray, column: ColumnBorder, source: str, units: str = "ms"
) -> np.ndarray:
    """Values of a column in its unit, or a refusal of what cannot be such values.

    Parameters
    ----------
    values : array, shape (N,)
        Any order, repeats allowed; times in `units`, others in the column's unit.
    column : ColumnBorder
    source : str
        Where they come from, for the message.
    units : str
        ``"ms"`` or ``"s"``, of times.

    Returns
    -------
    values : array, shape (N,), float64
        In the column's unit, order kept.

    Raises
    ------
    ValueError
        If the list is empty, holds a value that is not finite or is negative, or is implausible
        in its unit.
    """
    values = np.asarray(values, dtype=np.float64)
    words = column.words
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"{source} holds no {words}. Give one number per image.")
    if values.size > MAX_IMAGES:
        raise ValueError(f"{source} lists {values.size} {words}; at most {MAX_IMAGES} are taken.")
    if not np.isfinite(values).all():
        raise ValueError(f"{source} holds {words} that are not finite numbers.")
    if (values < 0).any():
        kind = "times" if column.is_time else words
        raise ValueError(f"{source} holds a negative number ({values.min():g}); {kind} are >= 0.")
    if units not in ("ms", "s"):
        raise ValueError(f"times are in ms or s, not in {units!r}.")
    values = values * (1000.0 if units == "s" and column.is_time else 1.0)
    low, high = column.plausible_largest
    if not low <= values.max() <= high:
        if column.is_time:
            raise ValueError(_looks_like(values, words, source, units, values.max() > high))
        hint = f", {column.unit_hint}" if column.unit_hint and values.max() < low else ""
        raise ValueError(
            f"{source} lists {words} of {values.min():g} to {values.max():g}{hint}; expected the "
            f"largest between {low:g} and {high:g}."
        )
    least = column.plausible[0]
    if values.min() < least:
        raise ValueError(
            f"{source} holds {words} of {values.min():g}; expected each to be {least:g} or more."
        )
    return values


def _looks_like(tau: np.ndarray, words: str, source: str, units: str, long: bool) -> str:
    """Sentence about a list of times, in ms, that cannot be in the unit it was given in."""
    given = tau / (1000.0 if units == "s" else 1.0)
    span = f"{source} lists {words} of {given.min():g} to {given.max():g} {units}"
    if units == "ms" and not long:
        return (
            f"{span}, which looks like seconds. Times are read in ms: give `units` s, or multiply "
            "them by 1000."
        )
    if units == "s" and long:
        return f"{span}, which looks like milliseconds: leave `units` s out."
    what = "longer" if long else "shorter"
    return f"{span}, which is {what} than {words} are. Times are in ms, or in s with `units` s."


def read_protocol(
    name: str | Path | Mapping[str, object], model: SignalModel | str, units: str = "ms"
) -> Protocol:
    """Read the protocol of a model.

    Parameters
    ----------
    name : str, path or mapping
        List of the model's first column: a file or, if no such file exists, the bundled list of
        that name (``cine31.txt``, ``cine31``). Of a model with several columns a mapping from
        each column's option to such a list, or to a number that holds for all images.
    model : SignalModel or str
        Model, or as `relaxsim.models.registry.model_of` takes it.
    units : str
        Unit of the times in files, ``"ms"`` or ``"s"``. Bundled lists are in ms.

    Raises
    ------
    ValueError
        If there is no such list, it is not text, holds no numbers or implausible ones
        (`check_column`), is a bundled list of another model, or columns have different lengths.

    Examples
    --------
    >>> read_protocol("fse6", "tes").tau.tolist()
    [10.0, 20.0, 40.0, 80.0, 160.0, 320.0]
    """
    model = model_of(model)
    given = name if isinstance(name, Mapping) else {model.border.columns[0].option: name}
    columns, names, widths = [], [], []
    for column in model.border.columns:
        value = given.get(column.option)
        value = column.default if value is None else value
        if value is None:
            raise ValueError(f"{model.border.title} needs {column.words}: give `{column.option}`.")
        stem, values, width = _column(value, column, model, units)
        columns.append(values)
        names.append(stem)
        widths.append(width)
    N = max(len(values) for values in columns)
    for column, values in zip(model.border.columns, columns, strict=True):
        if len(values) not in (1, N):
            raise ValueError(
                f"`{column.option}` lists {len(values)} {column.words}, but there are {N} images; "
                "expected one number for each, or one for all."
            )
    table = np.stack([np.broadcast_to(values, N) for values in columns], axis=-1)
    width = widths[0] if len(widths) == 1 else 1
    return Protocol(next(stem for stem in names if stem), model, table, width)


def random_protocol(rng: np.random.Generator, model: SignalModel | str) -> Protocol:
    """Draw a protocol for networks that shall serve any (`Border.random_protocol`)."""
    model = model_of(model)
    return Protocol("random", model, model.border.random_protocol(rng))


def _column(
    value: object, column: ColumnBorder, model: SignalModel, units: str
) -> tuple[str, np.ndarray, int]:
    """Name of a list, its values in the column's unit, and how many stand on each line.

    A number has no name.
    """
    if isinstance(value, int | float):
        return "", check_column(np.array([float(value)]), column, f"`{column.option}`", units), 1
    path, text = Path(str(value)), str(value)
    if column.names:
        return "", np.array([float(_place(text, column))]), 1
    why = why_not_regular(path)
    if why:
        if not column.varies and _is_number(text):
            return _column(float(text), column, model, units)
        if _LIST.fullmatch(text):
            numbers = _numbers_of(text, f"`{column.option}`")
            return "given", check_column(numbers, column, f"`{column.option}`", units), 1
        if os.path.lexists(path) or path.parent != Path():
            raise ValueError(f"{value}: {why}.")
        bundled = bundled_protocols().get(path.name.removesuffix(".txt"))
        if bundled is None or path.name != str(value):
            raise ValueError(
                f"{value}: no such file, and no bundled list of that name "
                f"(bundled: {', '.join(bundled_protocols())})."
            )
        _check_kind(bundled, model)
        path, units = bundled, "ms"
    text = _text(path)
    numbers, width = _numbers_of(text, path.name), _width(text)
    by_slice = [check_column(part, column, path.name, units) for part in _parts(numbers, width)]
    return path.stem, np.stack(by_slice, axis=-1).reshape(-1), width


def _parts(numbers: np.ndarray, width: int) -> list[np.ndarray]:
    """Columns of numbers that stand `width` on a line."""
    return [numbers] if width == 1 else list(numbers.reshape(-1, width).T)


def _width(text: str) -> int:
    """Numbers on each line, if two lines or more hold equally many; 1 otherwise."""
    lines = [line.split("#")[0].replace(",", " ").replace(";", " ") for line in text.splitlines()]
    counts = {len(line.split()) for line in lines if line.strip()}
    several = sum(bool(line.strip()) for line in lines) > 1
    return counts.pop() if len(counts) == 1 and several else 1


def _place(name: str, column: ColumnBorder) -> float:
    """Place of a name among those of a column, or the number of a file's content."""
    if name in column.names:
        return column.names.index(name)
    if not why_not_regular(Path(name)):
        lines = [line.strip() for line in _text(Path(name)).splitlines()]
        words = [line for line in lines if line and not line.startswith("#")]
        if len(words) == 1 and words[0] in column.names:
            return column.names.index(words[0])
        if column.of_file is not None:
            return column.of_file(Path(name))
    file = " or a file" if column.of_file is not None else ""
    raise ValueError(
        f"`{column.option}` is {name!r}; expected one of {', '.join(column.names)}{file}."
    )


def _check_kind(bundled: Path, model: SignalModel) -> None:
    """Refuse a bundled list of a model with other columns."""
    owner = next(m for m in MODELS.values() if m.border.sequence == bundled.parent.name)
    theirs, mine = owner.border.columns[0], model.border.columns[0]
    if theirs.option != mine.option:
        raise ValueError(
            f"{bundled.stem} is a list of {theirs.words}: give it with `{theirs.option}`, not "
            f"`{mine.option}`."
        )


def _text(path: Path) -> str:
    if path.stat().st_size > _MAX_BYTES:
        raise ValueError(f"{path.name} is larger than 1 MB: not a list of times.")
    text = decoded(path.read_bytes())
    if text is None:
        raise ValueError(f"{path.name} is not a text file; expected one time per line.")
    return text


def _numbers_of(text: str, source: str) -> np.ndarray:
    """Numbers of a text: separated by white space, commas or semicolons, comments left out.

    Commas within numbers, as in 50,5, are not told from commas between them by the numbers alone:
    they are where every word has one and the list would go up and down.
    """
    lines = [line.split("#")[0] for line in text.splitlines()]
    pieces = [w for line in lines for w in line.replace(";", " ").split()]
    words = [w for piece in pieces for w in piece.replace(",", " ").split()]
    try:
        numbers = np.array([float(w) for w in words])
    except ValueError:
        bad = next(w for w in words if not _is_number(w))
        raise ValueError(
            f"{source} holds {bad[:40]!r}, which is no number; expected times in ms."
        ) from None
    steps = np.diff(numbers)
    decimal = len(pieces) > 1 and all(_DECIMAL_COMMA.fullmatch(piece) for piece in pieces)
    if decimal and (";" in text or ((steps < 0).any() and (steps > 0).any())):
        raise ValueError(
            f"{source} holds decimal commas ({pieces[0]}, {pieces[1]}); write "
            f"{pieces[0].replace(',', '.')}, {pieces[1].replace(',', '.')} (commas separate "
            "numbers)."
        )
    return numbers


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
