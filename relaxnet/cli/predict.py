"""The command ``relaxnet predict``."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import click

from relaxnet.cli.tensorflow_import import import_tensorflow
from relaxsim.core.errors import one_line_errors


@click.command()
@click.argument("series", nargs=-1, required=True, metavar="SERIES...")
@click.option("--tis", metavar="FILE|NAME", help="Inversion times: text file or bundled list.")
@click.option("--tes", metavar="FILE|NAME", help="Echo times: text file or bundled list.")
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
    help="Network; see relaxnet models.  [default: rim-t1 or rim-t2]",
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
@click.option("--look-locker", is_flag=True, help="mle: T1 of a Look-Locker readout, T1* (B - 1).")
@click.option(
    "--compare",
    default=None,
    type=click.Choice(["mle"]),
    help="Also fit voxel by voxel; status tells where the network disagrees.",
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

    Without --tis or --tes the times are read from the JSON sidecars (InversionTime or EchoTime in
    seconds, as in BIDS), and files are put in the order of their times.

    Writes T1map or T2map (ms), M0map (A), Bmap, their standard deviations where the method has
    them, residual (in units of sigma) and status, each with a JSON file; outside the mask they
    are 0.

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
    limits = None if bounds is None else _bounds(bounds, _times(series, options), fit["tr"])
    options["fit"] = FitOptions(bounds=limits, **fit)
    with contextlib.ExitStack() as bars:

        def progress(total: int, unit: str) -> Callable[[int], object]:
            shown = tqdm(total=total, unit=unit, disable=None, leave=False, delay=1)
            return bars.enter_context(shown).update

        def say(line: str) -> None:
            with tqdm.external_write_mode():
                click.echo(line)

        told = Listener(say=say, progress=progress, before_network=import_tensorflow)
        predict_files(
            series,
            method=method,
            model=model,
            sigma=_sigma(sigma),
            command=shlex.join(["relaxnet", *sys.argv[1:]]),
            listener=replace(told, detail=say) if verbose else told,
            **options,
        )


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


def _times(series: tuple[str, ...], options: dict[str, Any]) -> str:
    """``tis`` or ``tes``: as given, otherwise by the sidecars."""
    from relaxnet.io.bids_times import series_kind

    named = [times for times in ("tis", "tes") if options[times] is not None]
    return named[0] if named else series_kind(series)


#: Upper bounds of T1 and T2 below these, in ms, are in another unit.
_LEAST_BOUND = {"tis": 20.0, "tes": 10.0}


def _bounds(path: Path, times: str, tr: float | Literal["sidecar"] | None) -> dict[str, Any]:
    """Bounds that a JSON file names; with a repetition time the parameters are M0, e and T1."""
    import json

    from relaxnet.fitting.options import FitOptions
    from relaxsim.models.registry import model_of

    model = FitOptions(tr=tr).fitted_model(model_of(times))
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
        pairs = {name: (float(low), float(high)) for name, (low, high) in given.items()}
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise ValueError(f'{path}: expected JSON such as {{"T1": [50, 5000]}}.') from None
    for name, (low, high) in pairs.items():
        if name not in model.parameters or not low < high:
            raise ValueError(
                f"{path}: {name} from {low:g} to {high:g}; expected low < high for some of "
                f"{', '.join(model.parameters)}."
            )
        if name == model.parameters[-1] and high < _LEAST_BOUND[times]:
            raise ValueError(f"{path}: {name} from {low:g} to {high:g} looks like s; expected ms.")
    return pairs
