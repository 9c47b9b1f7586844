"""Tables of the experiments as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

#: Column of the rows -> its heading and the format of its numbers.
Columns = Mapping[str, tuple[str, str]]


def table(rows: Iterable[Mapping[str, Any]], columns: Columns) -> list[str]:
    """Lines of one table.

    Examples
    --------
    >>> table([{"a": 1.234, "b": "x"}], {"b": ("what", ""), "a": ("a (%)", ".1f")})
    ['| what | a (%) |', '|---|---|', '| x | 1.2 |']
    """
    lines = [f"| {' | '.join(heading for heading, _ in columns.values())} |"]
    lines.append(f"|{'---|' * len(columns)}")
    for row in rows:
        cells = (_cell(row.get(name, ""), form) for name, (_, form) in columns.items())
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _cell(value: Any, form: str) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return "" if value != value else format(value, form)  # NaN is empty
    return str(value)


def write_markdown(path: Path, title: str, parts: Sequence[tuple[str, Sequence[str]]]) -> None:
    """Write a page: the title, then parts of a heading (or none) and lines."""
    lines = [f"# {title}"]
    for heading, body in parts:
        lines += ["", *([f"## {heading}", ""] if heading else []), *body]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    click.echo(f"tables: {path}")
