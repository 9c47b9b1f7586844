"""Options of commands that the borders of the signal models name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from relaxsim.models.border import ColumnBorder


slice_timing_option = click.option(
    "--slice-timing",
    is_flag=True,
    help="Add SliceTiming of the sidecars to the inversion times of each slice.",
)


def series_options() -> list[click.Parameter]:
    """Options of a command on a series: protocol, sequence and known maps."""
    return [*protocol_options(), *known_options(), *sequence_flag_options()]


def protocol_options() -> list[click.Parameter]:
    """An option for each column of a protocol, and the sequence."""
    return [*_column_options(), _sequence_option()]


def _column_options() -> Iterator[click.Option]:
    from relaxsim.models.registry import column_options

    for name, takers in column_options().items():
        column = next(c for c in takers[0].border.columns if c.option == name)
        yield click.Option([_flag(name)], metavar=_metavar(column), help=_column_words(column))


def _metavar(column: ColumnBorder) -> str:
    if column.names:
        return "|".join((*column.names, *(("FILE",) if column.of_file else ())))
    return "FILE|NAME" if column.varies or column.default is None else "NUMBER"


def _column_words(column: ColumnBorder) -> str:
    """Help of a column's option."""
    words = f"{column.words[0].upper()}{column.words[1:]}"
    if column.default is not None:
        default = column.names[int(column.default)] if column.names else f"{column.default:g}"
        return f"{words}.  [default: {default}]"
    number = "" if column.varies else ", or one number"
    return f"{words}: text file, list (50,150,300) or bundled list{number}."


def _sequence_option() -> click.Option:
    from relaxsim.models.registry import MODELS

    sequences = ", ".join(f"{m.border.sequence} ({m.border.title})" for m in MODELS.values())
    return click.Option(
        ["--sequence"],
        default="",
        metavar="NAME",
        help=f"Sequence, where the options above do not tell: {sequences}.",
        show_default=False,
    )


def known_options() -> Iterator[click.Option]:
    """An option for each map that is measured beside a series."""
    from relaxsim.models.registry import MODELS

    known = {border.option: border for m in MODELS.values() for border in m.border.known}
    for border in known.values():
        yield click.Option(
            [_flag(border.option)], metavar="MAP", help=f"Measured {border.words} (NIfTI)."
        )


def sequence_flag_options() -> Iterator[click.Option]:
    """A flag for each sequence that has one."""
    from relaxsim.models.registry import sequence_flags

    for flag, model in sequence_flags().items():
        words = f"The same as --sequence {model.border.sequence}."
        yield click.Option([_flag(flag)], is_flag=True, help=words)


def _flag(argument: str) -> str:
    return f"--{argument.replace('_', '-')}"
