"""Command line of relaxnet: parse, call, print. TensorFlow is imported inside the commands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from relaxnet.cli.bids import bids
from relaxnet.cli.calibrate import calibrate
from relaxnet.cli.evaluate import evaluate
from relaxnet.cli.export import export
from relaxnet.cli.predict import predict
from relaxnet.cli.tensorflow_import import import_tensorflow
from relaxnet.cli.view import view
from relaxsim.core.errors import one_line_errors
from relaxsim.core.options import Number
from relaxsim.core.program import Program
from relaxsim.core.version_option import version_option

#: Largest numbers of training steps and of patches a step, and weight of mean errors in the loss.
MOST_STEPS, MOST_PATCHES, MOST_WEIGHT = 10**9, 10**6, 1e9


@click.group(
    cls=Program, context_settings={"help_option_names": ["-h", "--help"], "show_default": True}
)
@version_option("relaxnet")
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
    help="Folder of validation shards; without it about a thirtieth of --data is held back.",
    show_default=False,
)
@click.option("--model", default="rim", type=click.Choice(["rim", "resnet"]), help="Network.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder.  [default: runs/MODEL]")
@click.option(
    "--iterations", default=3000, type=click.IntRange(1, MOST_STEPS), help="Training steps."
)
@click.option(
    "--batch-size", default=24, type=click.IntRange(1, MOST_PATCHES), help="Patches a step."
)
@click.option("--learning-rate", default=1e-3, type=Number(0, 1, min_open=True), help="Of Adam.")
@click.option(
    "--recipe",
    default="default",
    type=click.Choice(["default", "paper"]),
    help="'paper': raw gradient, linear units, squared loss, constant learning rate.",
)
@click.option(
    "--bias-weight",
    default=0.0,
    type=Number(0, MOST_WEIGHT),
    help="Weight in the loss of tissues' mean errors beside voxels' errors.",
)
@click.option(
    "--features",
    default=36,
    type=click.IntRange(1, 512),
    help="Channels of the RIM; --init brings its own.",
)
@click.option(
    "--num-steps", default=6, type=click.IntRange(1, 64), help="Steps J of the RIM; likewise."
)
@click.option(
    "--times",
    default="absolute",
    type=click.Choice(["absolute", "relative"]),
    help="How the RIM sees relaxation times: in ms, or relative to the protocol's longest time.",
)
@click.option("--init", default="", metavar="FILE|NAME", help="Network to start from.")
@click.option("--resume", is_flag=True, help="Go on with the run in --out.")
@click.option("--overwrite", is_flag=True, help="Replace the run in --out.")
@click.option(
    "--seed", default=0, type=click.IntRange(0, 2**32 - 1), help="Seed of weights and batches."
)
@click.option("--deterministic", is_flag=True, help="Bitwise repeatable, slower.")
@click.option(
    "--precision",
    default="float32",
    type=click.Choice(["float32", "mixed_bfloat16"]),
    help="Of convolutions; weights and likelihood stay float32.",
)
@one_line_errors
def train(out: Path | None, resume: bool, overwrite: bool, **options: Any) -> None:
    """Train a network on shards.

    The folder --out gets best.keras (of the least validation loss; not if a single shard leaves
    nothing to validate on), last.keras, history.csv, settings.json and a checkpoint.
    Ctrl-C saves; the same command with --resume goes on, also after a kill.

    \b
    Examples:
      relaxnet train
      relaxnet train --data shards-mine --out runs/mine --init rim-t1 --iterations 1000
    """  # noqa: D301
    from tqdm import tqdm

    import_tensorflow()
    from relaxnet.training.loop import run
    from relaxnet.training.run_folder import saved_iteration
    from relaxnet.training.settings import Settings

    settings = Settings(**options)
    folder = out or Path("runs") / settings.model
    last = None
    # disable=None: on a terminal alone
    bar = tqdm(total=settings.iterations, unit="step", smoothing=0.05, disable=None)
    try:
        for last in run(settings, folder, resume, overwrite):
            if resume and last.iteration == 1:
                tqdm.write(f"{folder} held no checkpoint: the run begins anew", nolock=True)
            bar.update(last.iteration - bar.n)
            shown = {"loss": f"{last.loss:.4f}"}
            if last.validation_loss is not None:
                shown["validation"] = f"{last.validation_loss:.4f}"
            bar.set_postfix(shown, refresh=False)
    except KeyboardInterrupt:
        bar.close()
        is_ours = resume or last is not None  # not the run that it would have replaced
        done = saved_iteration(folder) if is_ours else 0
        goes_on = f"Saved after iteration {done}; go on with: --out {folder} --resume"
        click.echo(goes_on if done else "Interrupted; nothing was saved.", err=True)
        sys.exit(130)
    finally:
        bar.close()
    if last is not None:
        click.echo(f"{folder}: {last.iteration} iterations in {last.seconds / 60:.1f} min")
        if not (folder / "best.keras").exists():
            click.echo("no shard was left to validate on: the network is last.keras")


@main.command()
@click.argument("name", default="", metavar="[NAME|FILE]")
@one_line_errors
def models(name: str) -> None:
    """List the networks that ship with the package, or show one network's card."""
    from relaxnet.networks.model_card import card_text, overview

    click.echo(card_text(name) if name else overview())


main.add_command(bids)
main.add_command(calibrate)
main.add_command(evaluate)
main.add_command(export)
main.add_command(predict)
main.add_command(view)
