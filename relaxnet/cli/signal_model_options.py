"""Options of commands that the borders of the signal models name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click


class SeriesCommand(click.Command):
    """A command on a series: it has the options of all signal models' protocols and corrections.

    They are made when the command is called, since signal models need numpy, for which the help of
    the whole program does not wait.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._declared = list(self.params)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Parameters, those of the signal models among them."""
        arguments = [p for p in self._declared if isinstance(p, click.Argument)]
        options = [p for p in self._declared if not isinstance(p, click.Argument)]
        at = 1 + next(i for i, p in enumerate(options) if p.name == "skip_first")
        of_models = [*protocol_options()], [*correction_options()]
        self.params = [*arguments, *of_models[0], *options[:at], *of_models[1], *options[at:]]
        return super().get_params(ctx)


def protocol_options() -> Iterator[click.Option]:
    """An option for each column of a protocol, the sequence, and each known map."""
    from relaxsim.models.registry import MODELS, column_options

    for name, takers in column_options().items():
        column = next(c for c in takers[0].border.columns if c.option == name)
        number = "" if column.varies else ", or one number"
        yield click.Option(
            [_flag(name)],
            metavar="FILE|NAME",
            help=f"{column.words.capitalize()}: text file or bundled list{number}.",
        )
    sequences = ", ".join(f"{m.border.sequence} ({m.border.title})" for m in MODELS.values())
    yield click.Option(
        ["--sequence"],
        default="",
        metavar="NAME",
        help=f"Sequence, where the options above do not tell: {sequences}.",
        show_default=False,
    )
    known = {border.option: border for m in MODELS.values() for border in m.border.known}
    for border in known.values():
        yield click.Option(
            [_flag(border.option)], metavar="MAP", help=f"Measured {border.words} (NIfTI)."
        )


def correction_options() -> Iterator[click.Option]:
    """A flag for the correction of each signal model that has one."""
    from relaxsim.models.registry import MODELS

    corrections = [m.border.correction for m in MODELS.values()]
    for correction in {c.argument: c for c in corrections if c is not None}.values():
        method = "mle: " if correction.needs_fit else ""
        yield click.Option(
            [_flag(correction.argument)], is_flag=True, help=f"{method}{correction.words}."
        )


def _flag(argument: str) -> str:
    return f"--{argument.replace('_', '-')}"
