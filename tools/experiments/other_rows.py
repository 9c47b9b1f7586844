"""Rows of an earlier table that a run keeps instead of measuring them again.

A fit takes a hundred times longer than a network and does not change when a network does: with
``--methods NAME --keep-others`` a command measures one method and leaves the others' rows as its
table has them.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from kept import Rows

others_option = click.option(
    "--keep-others",
    is_flag=True,
    help="Rows that this run does not measure stay in the table as they are.",
)


def with_others(path: Path, rows: Rows, keys: Sequence[str]) -> Rows:
    """Rows of a table, of which new ones take the place of old ones with the same keys.

    Parameters
    ----------
    path : Path
        CSV file of an earlier run; it may be missing.
    rows : list of dict
        New rows.
    keys : sequence of str
        Columns that identify a row.

    Returns
    -------
    rows : list of dict
        In the order of the file, then new rows that it lacks; numbers are numbers, not text.
    """
    if not path.is_file():
        return rows
    with path.open(newline="", encoding="utf-8") as file:
        old = [{k: _number(v) for k, v in row.items()} for row in csv.DictReader(file)]
    new = {tuple(row[key] for key in keys): row for row in rows}
    merged = [new.pop(tuple(row[key] for key in keys), row) for row in old]
    return [*merged, *new.values()]


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
