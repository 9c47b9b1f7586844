"""Option types and habits that the commands of both packages share."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

FILE = click.Path(path_type=Path)


def options(*decorators: Callable[..., Any]) -> Callable[..., Any]:
    """Several click options as one decorator, in this order in the help."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


class LateCommand(click.Command):
    """A command some of whose options are found when it is run or asked for help.

    To find them may take imports that the list of commands does without.

    Parameters
    ----------
    late_options : callable
        Gives the options; they stand before the command's others.
    *args, **keywords
        As `click.Command`.
    """

    def __init__(
        self, *args: Any, late_options: Callable[[], Sequence[click.Parameter]], **keywords: Any
    ) -> None:
        super().__init__(*args, **keywords)
        self.late_options = late_options

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """All options, those found late first."""
        return [*self.late_options(), *super().get_params(ctx)]


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Range(click.ParamType):
    """``X`` or ``LOW:HIGH``, positive numbers."""

    name = "X|LOW:HIGH"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[float, float]:
        """Pair of bounds; a single number is both."""
        if isinstance(value, tuple):
            return value
        try:
            low, _, high = str(value).partition(":")
            bounds = float(low), float(high or low)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor LOW:HIGH.", param, ctx)
        if not 0 < bounds[0] <= bounds[1] < float("inf"):
            self.fail(f"{value!r}: expected 0 < LOW <= HIGH.", param, ctx)
        return bounds


class Number(click.FloatRange):
    """A number in a range; NaN is in none."""

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """The number."""
        number = super().convert(value, param, ctx)
        if number != number:
            self.fail(f"{value!r} is no number.", param, ctx)
        return number


class Positive(Number):
    """A finite number above 0."""

    def __init__(self) -> None:
        super().__init__(min=0, min_open=True, max=1e9)

    def _describe_range(self) -> str:
        return ""
