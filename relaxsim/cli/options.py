"""Options that relaxsim's commands share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from relaxsim.core.options import Number
from relaxsim.core.snr import SIGMAS, snr_of

if TYPE_CHECKING:
    from relaxsim.models.signal_model import SignalModel


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


SNR = Number(snr_of(SIGMAS[1]), snr_of(SIGMAS[0]))
#: Voxel sizes that are simulated, mm.
VOXEL_RANGE = (0.2, 5.0)
VOXEL_SIZE = Number(*VOXEL_RANGE)

#: Value of the option of a protocol that is drawn for every shard.
RANDOM = ("random",)

noise = click.option(
    "--noise",
    default="gaussian",
    type=click.Choice(["gaussian", "rician"]),
    help="Noise of the weighted images.",
)
tissues = click.option(
    "--tissues",
    default=None,
    metavar="FILE|NAME",
    help="Tissue table: 'paper' (Table 1), 'wide' (no gaps), 't2star', or a CSV file.  [default: "
    "paper; t2star for T2*]",
)
b_field = click.option(
    "--b-field",
    default="patch",
    type=click.Choice(["patch", "wide", "smooth", "slow"]),
    help="Parameter that neighbours share (B of inversion recovery): one value, for B half-normal "
    "below 2 (paper); one value from a wide range, for B 1.0 to 2.05; a field that varies smoothly "
    "over a patch (over a phantom's slice); one that does so over 256 voxels.",
)


def random_column_options() -> list[click.Parameter]:
    """Options of protocols in `relaxsim generate`: lists for the shards in turn, or ``random``."""
    return _column_options(
        "FILE|NAME|random",
        " Several are spread over the shards; 'random' draws a list for every shard.",
        multiple=True,
    )


def column_options() -> list[click.Parameter]:
    """Options of a protocol: one for each column of the signal models, and the sequence's."""
    return _column_options("FILE|NAME")


def chosen_protocol(fields: dict[str, Any]) -> tuple[SignalModel, dict[str, Any]]:
    """Signal model of a command's options, and those of its columns, which leave `fields`.

    Raises
    ------
    ValueError
        If the options are of no signal model; see `relaxsim.models.registry.chosen_model`.
    """
    from relaxsim.models.registry import chosen_model
    from relaxsim.models.registry import column_options as models_of_options

    sequence = fields.pop("sequence") or ""
    columns = {option: fields.pop(option, None) or None for option in models_of_options()}
    columns |= _drawn_together(given(columns), sequence)
    return chosen_model(columns, sequence), given(columns)


def _drawn_together(columns: Mapping[str, Any], sequence: str) -> dict[str, Any]:
    """Columns that are drawn at random since another one of the signal model is."""
    from relaxsim.models.registry import MODELS

    if RANDOM not in columns.values():
        return {}
    options = [
        set(model.border.options)
        for model in MODELS.values()
        if (model.border.sequence == sequence if sequence else not model.border.only_by_name)
    ]
    takers = [names for names in options if columns.keys() <= names]
    return dict.fromkeys(takers[0] - columns.keys(), RANDOM) if len(takers) == 1 else {}


def given(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Those options of columns that have a value."""
    return {option: value for option, value in columns.items() if value is not None}


def _column_options(metavar: str, more: str = "", **settings: Any) -> list[click.Parameter]:
    from relaxsim.models.registry import MODELS
    from relaxsim.models.registry import column_options as models_of_options

    found: list[click.Parameter] = [
        click.Option(
            [f"--{option.replace('_', '-')}"],
            metavar=metavar,
            help=_words(option, models) + more,
            **settings,
        )
        for option, models in models_of_options().items()
    ]
    sequences = ", ".join(f"{m.border.sequence} ({m.border.title})" for m in MODELS.values())
    help_words = f"Signal model, where the other options do not tell which: {sequences}."
    return [*found, click.Option(["--sequence"], metavar="NAME", help=help_words)]


def _words(option: str, models: Sequence[SignalModel]) -> str:
    """Help of a column's option: ``Inversion times in ms (inversion recovery): ...``."""
    from relaxsim.models.protocols import bundled_protocols

    index = models[0].border.options.index(option)
    words, unit = models[0].border.columns[index].words, models[0].columns[index].unit
    titles = ", ".join(model.border.title for model in models)
    bundled = [] if index else [name for model in models for name in bundled_protocols(model)]
    lists = f" or a bundled list ({', '.join(bundled)})" if bundled else ""
    return f"{words.capitalize()} in {unit} ({titles}): a text file{lists}."
