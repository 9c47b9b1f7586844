"""Option types and habits that relaxsim's commands share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


def options(*decorators: Callable[..., Any]) -> Callable[..., Any]:
    """Several click options as one decorator, in this order in the help."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


def chosen_times(tis: Any, tes: Any, tr: Any) -> str:
    """``"tis"`` or ``"tes"``, whichever is given.

    Raises
    ------
    ValueError
        If both or neither are, or a repetition time is given with echo times.
    """
    if bool(tis) == bool(tes):
        raise ValueError("give inversion times with --tis or echo times with --tes, not both.")
    if tes and tr is not None:
        raise ValueError("--tr belongs to inversion recovery (--tis); T2 decay does not use it.")
    return "tis" if tis else "tes"


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


class IndexRange(click.ParamType):
    """``I:J``: shards I to J - 1."""

    name = "I:J"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, int]:
        """Pair of bounds."""
        if isinstance(value, tuple):
            return value
        low, _, high = str(value).partition(":")
        if not (_is_index(low) and _is_index(high) and int(low) < int(high)):
            self.fail(f"{value!r}: expected I:J with 0 <= I < J.", param, ctx)
        return int(low), int(high)


def _is_index(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) < 10


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


FILE = click.Path(path_type=Path)
#: Noise standard deviations that are simulated; 0.75 over these are the SNR.
SIGMAS = (1e-6, 1e3)
SNR = Number(0.75 / SIGMAS[1], 0.75 / SIGMAS[0])
#: Voxel sizes that are simulated, mm.
VOXEL_RANGE = (0.2, 5.0)
VOXEL_SIZE = Number(*VOXEL_RANGE)

noise = click.option(
    "--noise",
    default="gaussian",
    type=click.Choice(["gaussian", "rician"]),
    help="Noise of the weighted images.",
)
tissues = click.option(
    "--tissues",
    default="paper",
    metavar="FILE|NAME",
    help="Tissue table: 'paper' (Table 1), 'wide' (no gaps), or a CSV file.",
)
b_field = click.option(
    "--b-field",
    default="patch",
    type=click.Choice(["patch", "wide", "smooth", "slow"]),
    help="B: one value, half-normal below 2 (paper); one value from 1.0 to 2.05; a field that "
    "varies smoothly over a patch (over a phantom's slice); one that does so over 256 voxels.",
)
