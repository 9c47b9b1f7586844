"""The command ``relaxnet predict``."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from relaxnet.cli.fit_options import fit_options, read_sigma, take_fit_options
from relaxnet.cli.signal_model_options import series_options, slice_timing_option
from relaxnet.cli.tensorflow_import import import_tensorflow
from relaxsim.core.errors import in_flags, one_line_errors
from relaxsim.core.options import LateCommand

if TYPE_CHECKING:
    from relaxsim.models.signal_model import SignalModel


@click.command(cls=LateCommand, late_options=series_options)
@click.argument("series", nargs=-1, required=True, metavar="SERIES...")
@click.option("--units", default="ms", type=click.Choice(["ms", "s"]), help="Of the times' file.")
@click.option("--out", default="maps", type=click.Path(path_type=Path), help="Folder.")
@click.option(
    "--method",
    type=click.Choice(["rim", "resnet", "mle"]),
    help="Network or voxel-wise maximum likelihood.  [default: that of --model, else rim]",
    show_default=False,
)
@click.option(
    "--model",
    default="",
    metavar="FILE|NAME",
    help="Network; see relaxnet models.  [default: the one that ships for the sequence]",
    show_default=False,
)
@click.option(
    "--mask",
    default="auto",
    metavar="FILE|auto|none",
    help="Voxels to map: above 0, of a soft mask from half its range up; auto: those above Otsu's "
    "threshold or the air's noise, holes filled.",
)
@click.option(
    "--sigma",
    default="auto",
    metavar="auto|VALUE|FILE",
    help="Noise standard deviation in the series' unit, or a map of it; auto: found in the data.",
)
@click.option(
    "--signed/--magnitude",
    default=None,
    help="Data carry the signal's sign, or not.  [default: found from the data]",
    show_default=False,
)
@fit_options
@slice_timing_option
@click.option("--skip-first", default=0, type=click.IntRange(0), help="Leave out first images.")
@click.option(
    "--compare",
    default=None,
    type=click.Choice(["mle"]),
    help="Also fit voxel by voxel, and mark where the network disagrees.",
)
@click.option("--save-fit", is_flag=True, help="Write the predicted series, fit.nii.gz.")
@click.option("--rois", metavar="LABELS", help="Label map (NIfTI); write a table, rois.csv.")
@click.option("--roi-names", metavar="FILE", help="Lines of label,name for --rois.")
@click.option("--report", is_flag=True, help="Write report.html beside the maps.")
@click.option(
    "--force",
    is_flag=True,
    help="Take a network far outside of its training, and a --sigma that the data contradict.",
)
@click.option("--overwrite", is_flag=True, help="Replace maps that are there.")
@click.option("--verbose", is_flag=True, help="Say more.")
@one_line_errors
def predict(
    series: tuple[str, ...],
    model: str,
    method: str | None,
    sigma: str,
    verbose: bool,
    **options: Any,
) -> None:
    """Map a weighted series: one 4-D NIfTI file, or one 3-D file for each time.

    Without the list of what varied between the images (--tis, --tes, ...) it is read from the JSON
    sidecars (InversionTime or EchoTime in seconds, as in BIDS), and files are put in its order.

    Writes a map of each parameter (T1map or T2map in ms, M0map, Bmap), their standard deviations
    where the method has them, residual (in units of sigma) and status, each with a JSON file;
    outside the mask they are 0. With --tr, M0map is the magnetisation and Amap the amplitude.

    \b
    Examples:
      relaxnet predict series.nii.gz --tis cine31.txt
      relaxnet predict series.nii.gz --tes echo_times.txt --method mle --out maps-mle
      relaxnet predict sub-01_inv-*_IRT1.nii.gz
    """  # noqa: D301
    from tqdm import tqdm

    from relaxnet.prediction.files import Listener, predict_files

    options["fit"] = take_fit_options(options, lambda: [_model(series, options)])
    if options["report"]:
        options["complete"] = _write_report
    with contextlib.ExitStack() as bars:

        def progress(total: int, unit: str) -> Callable[[int], object]:
            shown = tqdm(total=total, unit=unit, disable=None, leave=False, delay=1)
            return bars.enter_context(shown).update

        def say(line: str) -> None:
            with tqdm.external_write_mode():
                click.echo(in_flags(line))

        listener = Listener(say=say, progress=progress, before_network=import_tensorflow)
        predict_files(
            series,
            method=method,
            model=model,
            sigma=read_sigma(sigma),
            command=shlex.join(["relaxnet", *sys.argv[1:]]),
            listener=replace(listener, detail=say) if verbose else listener,
            **options,
        )


def _write_report(folder: Path) -> Path:
    from relaxnet.report.page import write_report

    return write_report(folder)


def _model(series: tuple[str, ...], options: dict[str, Any]) -> SignalModel:
    """Signal model of the columns that are given, otherwise of the sidecars."""
    from relaxnet.io.bids_times import sequence_of_files, series_model
    from relaxsim.models.registry import (
        chosen_model,
        column_options,
        flagged_sequence,
        model_of,
    )

    given = {name: options[name] for name in column_options() if options.get(name) is not None}
    sequence = flagged_sequence(options, options["sequence"]) or sequence_of_files(series, given)
    if given:
        return chosen_model(given, sequence)
    return model_of(sequence) if sequence else series_model(series)
