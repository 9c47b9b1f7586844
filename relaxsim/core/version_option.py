"""The option ``--version`` of both programs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click


def version_option(program: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator that gives a program ``--version``; the metadata are read only when it is given."""

    def show(context: click.Context, _: click.Parameter, wanted: bool) -> None:
        if wanted and not context.resilient_parsing:
            from relaxsim.core.version import __version__

            click.echo(f"{program}, version {__version__}")
            context.exit()

    return click.option(
        "--version",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=show,
        help="Show the version and exit.",
    )
