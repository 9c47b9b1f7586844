"""The command ``relaxnet predict``."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from relaxnet.cli.signal_model_options import SeriesCommand
from relaxnet.cli.tensorflow_import import import_tensorflow
from relaxsim.core.errors import in_flags, one_line_errors

if TYPE_CHECKING:
    from relaxsim.models.signal_model import SignalModel


@click.command(cls=SeriesCommand)
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
    help="Voxels to map: above 0, of probabilities from 0.5 up; auto: those above Otsu's "
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
@click.option(
    "--bounds",
    type=click.Path(path_type=Path),
    help='JSON file of bounds for mle, such as {"T1": [50, 5000], "B": [1, 2.1]}; T in ms, A '
    "relative to the voxel's largest sample.",
)
@click.option(
    "--likelihood",
    type=click.Choice(["gaussian", "rician"]),
    help="Of mle.  [default: rician for magnitudes of SNR below 75, else gaussian]",
)
@click.option(
    "--lambda-b",
    metavar="X|auto",
    help="mle: Laplacian penalty on B in the mask (the paper's weight: 500).",
)
@click.option("--fix-b", type=float, help="mle: B is known (with --tr: the efficiency).")
@click.option("--share-b", is_flag=True, help="mle: one B for the mask.")
@click.option(
    "--tr",
    metavar="MS|sidecar",
    help="mle: repetition time; B then depends on T1 and an inversion efficiency.",
)
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
    bounds: Path | None,
    verbose: bool,
    **options: Any,
) -> None:
    """Map a weighted series: one 4-D NIfTI file, or one 3-D file for each time.

    Without the list of what varied between the images (--tis, --tes, ...) it is read from the JSON
    sidecars (InversionTime or EchoTime in seconds, as in BIDS), and files are put in its order.

    Writes a map of each parameter (T1map or T2map in ms, M0map, Bmap), their standard deviations
    where the method has them, residual (in units of sigma) and status, each with a JSON file;
    outside the mask they are 0.

    \b
    Examples:
      relaxnet predict series.nii.gz --tis cine31.txt
      relaxnet predict series.nii.gz --tes echo_times.txt --method mle --out maps-mle
      relaxnet predict sub-01_inv-*_IRT1.nii.gz
    """  # noqa: D301
    from tqdm import tqdm

    from relaxnet.fitting.options import FitOptions, weight_of
    from relaxnet.io.bids_repetition import repetition_time
    from relaxnet.prediction.files import Listener, predict_files

    fit = {name: options.pop(name) for name in _FIT_OPTIONS}
    fit["lambda_b"] = weight_of(fit["lambda_b"])
    fit["tr"] = repetition_time(fit["tr"])
    limits = None if bounds is None else _bounds(bounds, _model(series, options), fit["tr"])
    options["fit"] = FitOptions(bounds=limits, **fit)
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
            sigma=_sigma(sigma),
            command=shlex.join(["relaxnet", *sys.argv[1:]]),
            listener=replace(listener, detail=say) if verbose else listener,
            **options,
        )


def _write_report(folder: Path) -> object:
    from relaxnet.report.page import write_report

    return write_report(folder)


#: Options of the maximum-likelihood fit, by their names in `relaxnet.fitting.options.FitOptions`.
_FIT_OPTIONS = ("likelihood", "lambda_b", "fix_b", "share_b", "tr")


def _sigma(text: str) -> float | str | None:
    """Number, file or None for auto."""
    if text == "auto":
        return None
    try:
        return float(text)
    except ValueError:
        if Path(text).is_file():
            return text
        raise ValueError(
            f"--sigma {text}: expected a number, a NIfTI file or auto; there is no such file."
        ) from None


def _model(series: tuple[str, ...], options: dict[str, Any]) -> SignalModel:
    """Signal model of the columns that are given, otherwise of the sidecars."""
    from relaxnet.io.bids_times import series_kind
    from relaxsim.models.registry import chosen_model, column_options, model_of

    given = {name: options[name] for name in column_options() if options.get(name) is not None}
    sequence = options["sequence"]
    return chosen_model(given, sequence) if given else model_of(sequence or series_kind(series))


#: Upper bounds of a time below this share of the signal model's own are in s: 5 s of 5000 ms.
_SMALLEST_SHARE = 1 / 500


def _bounds(
    path: Path, model: SignalModel, tr: float | Literal["sidecar"] | None
) -> dict[str, Any]:
    """Bounds that a JSON file names; with a repetition time of the parameters that hold then."""
    import json

    from relaxnet.fitting.options import FitOptions

    model = FitOptions(tr=tr).fitted_model(model)
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
        pairs = {name: (float(low), float(high)) for name, (low, high) in given.items()}
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise ValueError(f'{path}: expected JSON such as {{"{model.main}": [50, 5000]}}.') from None
    for name, (low, high) in pairs.items():
        if name not in model.parameters or not low < high:
            raise ValueError(
                f"{path}: {name} from {low:g} to {high:g}; expected low < high for some of "
                f"{', '.join(model.parameters)}."
            )
        smallest = model.bounds[-1][1] * _SMALLEST_SHARE
        if name == model.main and model.units[-1] == "ms" and high < smallest:
            raise ValueError(f"{path}: {name} from {low:g} to {high:g} looks like s; expected ms.")
    return pairs
