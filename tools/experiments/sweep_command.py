"""The command of a sweep: the options that all sweeps have, and their values."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from kept import Rows, cache_option, out_option
from methods import Method, models_option, parse_files
from patches import QUICK_SIZE, SIZE, Places, draw_places
from slices import brains_option, quick_option, seed_option
from sweep import Measure, Setup, measured, tissue_scores

from relaxsim.core.errors import one_line_errors


@dataclass(frozen=True)
class Sweep:
    """Values of a sweep's options, and its results.

    Attributes
    ----------
    name : str
        Of the experiment; begins the names of its files.
    brains : tuple of Path
        Label volumes; none for the built-in heads.
    patches, repeats : int
        Draws of kappa and of noise.
    files : dict of str to Path
        Networks that take the place of a name.
    seed : int
    quick : bool
    cache, out : Path
        Folders of kept results, and of tables and figures.
    methods : dict of str to Method
        Those that have been measured.
    """

    name: str
    brains: tuple[Path, ...]
    patches: int
    repeats: int
    files: dict[str, Path]
    seed: int
    quick: bool
    cache: Path
    out: Path
    methods: dict[str, Method] = field(default_factory=dict)

    @functools.cached_property
    def places(self) -> Places:
        """Where the patches lie."""
        size = QUICK_SIZE if self.quick else SIZE
        return draw_places(self.brains, self.patches, self.seed, size)

    def rows(
        self, setup: Setup, methods: Sequence[Method], measure: Measure = tissue_scores
    ) -> Rows:
        """Rows of methods under one set-up; kept."""
        rows: Rows = []
        for method in methods:
            self.methods[method.name] = method
            rows += measured(
                self.name, setup, method, self.places, self.repeats, self.seed, self.cache, measure
            )
        return rows

    def path(self, ending: str) -> Path:
        """File of the results, such as that of ``.csv``."""
        return self.out / f"{'quick_' if self.quick else ''}{self.name}{ending}"


def sweep_command(
    name: str, text: str | None, patches: int = 12, repeats: int = 2
) -> Callable[[Callable[..., None]], click.Command]:
    """Make a command of a function that takes a `Sweep` and the values of further options.

    Parameters
    ----------
    name : str
        Of the experiment.
    text : str
        Help.
    patches, repeats : int
        Draws of kappa and of noise unless the command line says otherwise.
    """

    def decorate(function: Callable[..., None]) -> click.Command:
        @click.command(name, help=text)
        @brains_option
        @click.option("--patches", default=patches, type=click.IntRange(1), help="Draws of kappa.")
        @click.option("--repeats", default=repeats, type=click.IntRange(2), help="Draws of noise.")
        @models_option
        @seed_option
        @quick_option
        @cache_option
        @out_option
        @one_line_errors
        @functools.wraps(function)
        def command(
            brains: tuple[Path, ...],
            patches: int,
            repeats: int,
            models: tuple[str, ...],
            seed: int,
            quick: bool,
            cache: Path,
            out: Path,
            **more: Any,
        ) -> None:
            if quick:
                patches, repeats = min(patches, 2), 2
            files = parse_files(models)
            sweep = Sweep(name, brains, patches, repeats, files, seed, quick, cache, out)
            function(sweep, **more)

        return command

    return decorate
