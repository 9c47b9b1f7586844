"""Tables of maps over regions of interest: one row for each label of a label map."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from relaxnet.maps.maps import Maps
from relaxnet.maps.status import OK
from relaxsim.core.files import read_text

#: Columns of a quantity: what follows its stem, and what it holds.
_OF_PARAMETER = {
    "median": "median over ok voxels",
    "q25": "lower quartile over ok voxels",
    "q75": "upper quartile over ok voxels",
    "std": "mean over ok voxels of the estimates' own standard deviation; empty without any",
}
#: Letters of a label's name.
_LONGEST_NAME = 1000
#: With these a spreadsheet's formula begins.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def roi_rows(
    maps: Maps, labels: np.ndarray, names: Mapping[int, str] | None = None
) -> list[dict[str, Any]]:
    """One row for each label above zero, in ascending order.

    Parameters
    ----------
    maps : Maps
    labels : integer array, shape (X, Y, Z)
        0 is no region.
    names : mapping of int to str, optional
        Names of labels; those without one stay nameless.

    Returns
    -------
    rows : list of dict
        Keys as `roi_columns`; values are numbers, or ``""`` where there is none.

    Raises
    ------
    ValueError
        If the labels have another shape than the maps, or there is none above zero.

    Notes
    -----
    All voxels of a label count as its voxels, also those outside the mask; statistics are over
    those of status ok.
    """
    if labels.shape != maps.status.shape:
        raise ValueError(f"labels have shape {labels.shape}, the maps {maps.status.shape}.")
    order = np.argsort(labels, axis=None, kind="stable")
    values, starts = np.unique(labels.ravel()[order], return_index=True)
    ends = [*starts[1:], labels.size]
    regions = [(int(v), order[a:b]) for v, a, b in zip(values, starts, ends, strict=True) if v > 0]
    if not regions:
        raise ValueError("the label map holds no label above zero.")
    return [_row(maps, label, voxels, names) for label, voxels in regions]


def roi_columns(maps: Maps, with_names: bool) -> dict[str, dict[str, str]]:
    """Columns of the table, in order, each with its description and unit."""
    columns = {"label": {"Description": "value in the label map"}}
    if with_names:
        columns["name"] = {"Description": "name of the label"}
    columns["voxels"] = {"Description": "voxels of the label"}
    columns["ok_voxels"] = {"Description": "voxels of status ok"}
    columns["ok_share"] = {"Description": "share of ok voxels"}
    for quantity in maps.quantities():
        for suffix, words in _OF_PARAMETER.items():
            columns[f"{quantity.stem}_{suffix}"] = {"Description": words, "Units": quantity.unit}
    return columns


def roi_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Table as CSV; numbers with six significant digits.

    A name that a spreadsheet would take for a formula gets an apostrophe before it.

    Examples
    --------
    >>> print(roi_csv([{"label": 1, "T1_median": 812.34567, "T1_std": ""}]), end="")
    label,T1_median,T1_std
    1,812.346,
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: _cell(value) for key, value in row.items()})
    return text.getvalue()


def _cell(value: Any) -> Any:
    """Cell of a table as it is written."""
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        return f"'{value}"
    return f"{value:.6g}" if isinstance(value, float) else value


def read_names(path: str | Path) -> dict[int, str]:
    """Names of labels from a CSV or TSV file of ``label,name``, with or without a header.

    Raises
    ------
    ValueError
        If a line is not a whole number and a name, or a label comes twice.
    OSError
        If it cannot be read.
    """
    path = Path(path)
    try:
        lines = read_text(path).splitlines()
    except ValueError as error:
        raise ValueError(f"{str(error).rstrip('.')}; expected lines of label,name.") from None
    names: dict[int, str] = {}
    for number, line in enumerate(filter(str.strip, lines)):
        label, _, name = line.replace("\t", ",", 1).partition(",")
        if number == 0 and not label.strip().lstrip("-").isdigit():
            continue
        try:
            value = int(label)
        except ValueError:
            raise ValueError(f"{path.name}: {line[:40]!r} is not label,name.") from None
        if value in names or not name.strip():
            what = "comes twice" if value in names else "has no name"
            raise ValueError(f"{path.name}: label {value} {what}.")
        if len(name) > _LONGEST_NAME:
            raise ValueError(f"{path.name}: the name of label {value} has {len(name)} letters.")
        names[value] = name.strip().strip('"')
    if not names:
        raise ValueError(f"{path.name} names no label; expected lines of label,name.")
    return names


def _row(
    maps: Maps, label: int, voxels: np.ndarray, names: Mapping[int, str] | None
) -> dict[str, Any]:
    """Row of one label; `voxels` are indices into the flattened maps."""
    good = voxels[maps.status.ravel()[voxels] == OK]
    row: dict[str, Any] = {"label": label}
    if names is not None:
        row["name"] = names.get(label, "")
    row |= {"voxels": len(voxels), "ok_voxels": len(good), "ok_share": len(good) / len(voxels)}
    for quantity in maps.quantities():
        values = quantity.values.reshape(-1)[good].astype(np.float64)
        quartiles = np.percentile(values, [50, 25, 75]) if len(good) else ("", "", "")
        std = None if quantity.std is None else quantity.std.reshape(-1)[good].astype(np.float64)
        numbers = [*quartiles, "" if std is None else _mean_of_finite(std)]
        row |= {
            f"{quantity.stem}_{suffix}": value if value == "" else float(value)
            for suffix, value in zip(_OF_PARAMETER, numbers, strict=True)
        }
    return row


def _mean_of_finite(values: np.ndarray) -> float | str:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else ""
