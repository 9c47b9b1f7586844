"""Rows of an experiment as a table of two headings: one down, one across."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from text_tables import table


def pivot(
    rows: Iterable[Mapping[str, Any]],
    down: str,
    across: str,
    cell: Callable[[Mapping[str, Any]], str],
    heading: str = "{:g}",
) -> list[str]:
    """Lines of a Markdown table.

    Parameters
    ----------
    rows : iterable of mapping
    down, across : str
        Columns of the rows; one row for each pair.
    cell : callable
        Text of a row.
    heading : str
        Format of the headings across.

    Examples
    --------
    >>> rows = [{"m": "a", "snr": 5.0, "x": 1.0}, {"m": "a", "snr": 10.0, "x": 2.0}]
    >>> pivot(rows, "m", "snr", lambda row: f"{row['x']:.1f}", "SNR {:g}")
    ['| m | SNR 5 | SNR 10 |', '|---|---|---|', '| a | 1.0 | 2.0 |']
    """
    lines: dict[Any, dict[str, str]] = {}
    names: dict[str, None] = {}
    for row in rows:
        name = heading.format(row[across])
        names[name] = None
        lines.setdefault(row[down], {down: str(row[down])})[name] = cell(row)
    columns = {down: (down, "")} | {name: (name, "") for name in names}
    return table(lines.values(), columns)
