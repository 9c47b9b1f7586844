"""Command line of relaxnet: parse, call, print. TensorFlow is imported inside the commands."""

from __future__ import annotations

import contextlib
import functools
import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from relaxnet import __version__


def one_line_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """Turn what a user can mend into one line and exit code 2; Ctrl-C into 130."""

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except (ValueError, OSError) as error:
            click.echo(f"Error: {' '.join(str(error).split())}", err=True)
            sys.exit(2)
        except MemoryError:
            click.echo("Error: the memory of this machine does not suffice.", err=True)
            sys.exit(2)
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            sys.exit(130)

    return wrapper


def import_tensorflow() -> None:
    """Import TensorFlow without the lines that its C++ part writes to standard error at start."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept = os.dup(2)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        import tensorflow as tf

        tf.config.list_physical_devices()
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, prog_name="relaxnet")
def main() -> None:
    """T1 and T2 maps from weighted MR series, by network or by maximum likelihood."""


@main.command()
@click.option(
    "--data",
    multiple=True,
    default=("shards",),
    metavar="DIR",
    help="Folder of shards (relaxsim generate); may be given several times.",
)
@click.option(
    "--validation",
    multiple=True,
    metavar="DIR",
    help="Folder of validation shards; without it one shard in thirty of --data is held back.",
    show_default=False,
)
@click.option("--model", default="rim", type=click.Choice(["rim", "resnet"]), help="Network.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder.  [default: runs/MODEL]")
@click.option("--iterations", default=3000, type=click.IntRange(1), help="Training steps.")
@click.option("--batch-size", default=24, type=click.IntRange(1), help="Patches a step.")
@click.option(
    "--learning-rate", default=1e-3, type=click.FloatRange(0, 1, min_open=True), help="Of Adam."
)
@click.option(
    "--recipe",
    default="default",
    type=click.Choice(["default", "paper"]),
    help="'paper': raw gradient, linear units, squared loss, constant learning rate.",
)
@click.option("--features", default=36, type=click.IntRange(1, 512), help="Channels of the RIM.")
@click.option("--num-steps", default=6, type=click.IntRange(1, 64), help="Steps J of the RIM.")
@click.option("--init", default="", metavar="FILE|NAME", help="Network to start from.")
@click.option("--resume", is_flag=True, help="Go on with the run in --out.")
@click.option("--overwrite", is_flag=True, help="Replace the run in --out.")
@click.option("--seed", default=0, type=click.IntRange(0), help="Seed of weights and batches.")
@click.option("--deterministic", is_flag=True, help="Bitwise repeatable, slower.")
@one_line_errors
def train(out: Path | None, resume: bool, overwrite: bool, **options: Any) -> None:
    """Train a network on shards.

    The folder --out gets best.keras, last.keras, history.csv, settings.json and a checkpoint.
    Ctrl-C saves; the same command with --resume goes on, also after a kill.

    \b
    Examples:
      relaxnet train
      relaxnet train --data shards-mine --out runs/mine --init rim-t1 --iterations 1000
    """  # noqa: D301
    from tqdm import tqdm

    import_tensorflow()
    from relaxnet.training import Settings, run

    settings = Settings(**options)
    folder = out or Path("runs") / settings.model
    last = None
    bar = tqdm(total=settings.iterations, unit="step", smoothing=0.05)
    try:
        for last in run(settings, folder, resume, overwrite):
            bar.update(last.iteration - bar.n)
            shown = {"loss": f"{last.loss:.4f}"}
            if last.validation_loss is not None:
                shown["validation"] = f"{last.validation_loss:.4f}"
            bar.set_postfix(shown, refresh=False)
    except KeyboardInterrupt:
        bar.close()
        done = last.iteration if last else 0
        click.echo(f"Saved after iteration {done}; go on with: --out {folder} --resume", err=True)
        sys.exit(130)
    finally:
        bar.close()
    if last is not None:
        click.echo(f"{folder}: {last.iteration} iterations in {last.seconds / 60:.1f} min")


@main.command()
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
@click.option("--model", default="", metavar="FILE|NAME", help="Network; see relaxnet models.")
@click.option(
    "--mask",
    default="auto",
    metavar="FILE|auto|none",
    help="Voxels to map; auto: those above Otsu's threshold, holes filled.",
)
@click.option(
    "--sigma",
    default="auto",
    metavar="auto|VALUE",
    help="Noise standard deviation in the series' unit; auto: from the residuals of a fit.",
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
    help='JSON file of bounds for mle, such as {"T1": [50, 5000], "B": [1, 2.1]}.',
)
@click.option(
    "--likelihood",
    default="gaussian",
    type=click.Choice(["gaussian", "rician"]),
    help="Of mle; rician for magnitude data of low SNR.",
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
    type=float,
    metavar="MS",
    help="mle: repetition time; B then depends on T1 and an inversion efficiency.",
)
@click.option("--skip-first", default=0, type=click.IntRange(0), help="Leave out first images.")
@click.option("--overwrite", is_flag=True, help="Replace maps that are there.")
@click.option("--verbose", is_flag=True, help="Say more.")
@one_line_errors
def predict(
    series: tuple[str, ...],
    tis: str | None,
    tes: str | None,
    units: str,
    out: Path,
    method: str | None,
    model: str,
    mask: str,
    sigma: str,
    signed: bool | None,
    bounds: Path | None,
    skip_first: int,
    overwrite: bool,
    verbose: bool,
    **fit: Any,
) -> None:
    """Map a weighted series: one 4-D NIfTI file, or one 3-D file for each time.

    Writes T1map or T2map (ms), M0map (A), Bmap, residual (in units of sigma) and status, each
    with a JSON file; outside the mask they are 0.

    \b
    Examples:
      relaxnet predict series.nii.gz --tis cine31.txt
      relaxnet predict series.nii.gz --tes echo_times.txt --method mle --out maps-mle
    """  # noqa: D301
    from tqdm import tqdm

    from relaxnet.fit_options import FitOptions
    from relaxnet.predict import Listener, Request, predict_files
    from relaxsim.protocols import read_protocol

    if (tis is None) == (tes is None):
        raise ValueError("give inversion times with --tis or echo times with --tes.")
    times, name = ("tis", tis) if tis is not None else ("tes", tes or "")
    request = Request(
        series=series,
        protocol=read_protocol(name, times, units),
        out=out,
        method=method or _method_of(model),
        network=model,
        mask=mask,
        sigma=_sigma(sigma),
        signed=signed,
        fit=FitOptions(bounds=_bounds(bounds, times, fit["tr"]), **_weight(fit)),
        skip_first=skip_first,
        overwrite=overwrite,
        command=shlex.join(["relaxnet", *sys.argv[1:]]),
    )
    with contextlib.ExitStack() as bars:

        def progress(total: int, unit: str) -> Callable[[int], object]:
            shown = tqdm(total=total, unit=unit, disable=None, leave=False, delay=1)
            return bars.enter_context(shown).update

        def say(line: str) -> None:
            with tqdm.external_write_mode():
                click.echo(line)

        told = Listener(say=say, progress=progress, before_network=import_tensorflow)
        predict_files(request, replace(told, detail=say) if verbose else told)


def _method_of(model: str) -> str:
    """Kind of a network that is named without --method."""
    if not model:
        return "rim"
    from relaxnet.models import network_kind

    return network_kind(model)


def _sigma(text: str) -> float | None:
    if text == "auto":
        return None
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"--sigma {text}: expected a number or auto.") from None


def _weight(fit: dict[str, Any]) -> dict[str, Any]:
    """Options of the fit, the penalty's weight as a number or ``auto``."""
    text = fit["lambda_b"]
    if text is None or text == "auto":
        return fit
    try:
        return {**fit, "lambda_b": float(text)}
    except ValueError:
        raise ValueError(f"--lambda-b {text}: expected a number or auto.") from None


def _bounds(path: Path | None, times: str, tr: float | None) -> dict[str, Any] | None:
    """Bounds that a JSON file names; with a repetition time the parameters are M0, e and T1."""
    if path is None:
        return None
    import json

    from relaxnet.finite_tr import finite_tr_model
    from relaxsim.signals import model_for_times

    model = model_for_times(times)
    model = model if tr is None else finite_tr_model(model, tr)
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
        pairs = {name: (float(low), float(high)) for name, (low, high) in given.items()}
    except (ValueError, TypeError, AttributeError):
        raise ValueError(f'{path}: expected JSON such as {{"T1": [50, 5000]}}.') from None
    for name, (low, high) in pairs.items():
        if name not in model.parameters or not low < high:
            raise ValueError(
                f"{path}: {name} from {low:g} to {high:g}; expected low < high for some of "
                f"{', '.join(model.parameters)}."
            )
    return pairs


@main.command()
@one_line_errors
def models() -> None:
    """List the networks that ship with the package."""
    from relaxnet.models import read_card, shipped_models

    if not shipped_models():
        click.echo("no network ships with this version")
    for name, path in shipped_models().items():
        card = read_card(path)
        click.echo(f"{name:16} {path.stat().st_size / 1e3:7.0f} kB  {card.get('summary', '')}")
