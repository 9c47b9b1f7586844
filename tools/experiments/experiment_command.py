"""The options that the experiments share, and their values as one record."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import click
from kept import Rows, cache_option, out_option
from methods import methods_option, models_option, parse_files
from other_rows import others_option, with_others
from slices import brains_option, quick_option, seed_option

from relaxsim.core.errors import one_line_errors

Decorator = Callable[[Any], Any]
#: Options of an experiment on any data, and those of one on slices of brains.
SHARED: tuple[Decorator, ...] = (
    models_option,
    methods_option,
    seed_option,
    quick_option,
    cache_option,
    out_option,
)
ON_SLICES: tuple[Decorator, ...] = (brains_option, others_option, *SHARED)


@dataclass(frozen=True)
class Experiment:
    """Values of the options that experiments share.

    Attributes
    ----------
    brains : tuple of Path
        Label volumes; none for the built-in heads.
    files : dict of str to Path
        Networks that take the place of a name, or are added.
    only : tuple of str
        Names of methods to keep; none for all.
    keep_others : bool
        Keep rows of an earlier table that this run does not measure.
    seed : int
    quick : bool
    cache, out : Path
        Folders of kept results, and of tables and figures.
    """

    brains: tuple[Path, ...] = ()
    files: dict[str, Path] = field(default_factory=dict)
    only: tuple[str, ...] = ()
    keep_others: bool = False
    seed: int = 0
    quick: bool = False
    cache: Path = Path()
    out: Path = Path()

    def path(self, stem: str, ending: str) -> Path:
        """File of the results, such as that of ``.csv``."""
        return self.out / f"{'quick_' if self.quick else ''}{stem}{ending}"

    def with_kept(self, stem: str, rows: Rows, keys: Sequence[str]) -> Rows:
        """New rows, with those of the earlier table beside them if they are to be kept."""
        return with_others(self.path(stem, ".csv"), rows, keys) if self.keep_others else rows


def experiment_command(
    text: str | None, shared: Sequence[Decorator] = ON_SLICES
) -> Callable[[Callable[..., None]], click.Command]:
    """Make a command of a function that takes an `Experiment` and the values of further options.

    Parameters
    ----------
    text : str
        Help.
    shared : sequence of decorators
        Options whose values go into the `Experiment`.
    """
    names = {entry.name for entry in fields(Experiment)}

    def decorate(function: Callable[..., None]) -> click.Command:
        @functools.wraps(function)
        def command(models: tuple[str, ...] = (), **values: Any) -> None:
            common = {name: values.pop(name) for name in names & values.keys()}
            function(Experiment(files=parse_files(models), **common), **values)

        decorated: Any = one_line_errors(command)
        for option in reversed(shared):
            decorated = option(decorated)
        return click.command(help=text)(decorated)

    return decorate
