"""The command that gives a network uncertainty maps; registered in `relaxnet.cli.group`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from relaxnet.cli.tensorflow_import import import_tensorflow
from relaxsim.core.errors import one_line_errors
from relaxsim.core.options import Number


@click.command()
@click.argument("network", metavar="NETWORK")
@click.option(
    "--data",
    multiple=True,
    default=("shards",),
    metavar="DIR",
    help="Folder of shards, such as those it was trained on; may be given several times.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder.  [default: runs/NAME-calibrated]",
    show_default=False,
)
@click.option(
    "--patches", default=3840, type=click.IntRange(2, 10**6), help="To run the network on."
)
@click.option("--iterations", default=2000, type=click.IntRange(1, 10**9), help="Steps of the fit.")
@click.option("--learning-rate", default=3e-3, type=Number(0, 1, min_open=True), help="Of Adam.")
@click.option(
    "--seed", default=0, type=click.IntRange(0, 2**32 - 1), help="Seed of weights and batches."
)
@click.option("--overwrite", is_flag=True, help="Replace the network in --out.")
@one_line_errors
def calibrate(network: str, out: Path | None, overwrite: bool, **options: Any) -> None:
    """Fit an error head to a network (FILE|NAME), for maps of standard deviations.

    The network itself stays as it is. The folder --out gets best.keras and its card best.json.

    \b
    Examples:
      relaxnet calibrate runs/rim/best.keras
      relaxnet calibrate rim-cine31 --data shards-mine --out runs/mine
    """  # noqa: D301
    from tqdm import tqdm

    import_tensorflow()
    from relaxnet.training.calibration import Settings, run

    folder = out or Path("runs") / f"{_name(network)}-calibrated"
    with tqdm(unit="step", smoothing=0.05, disable=None) as bar:
        for progress in run(Settings(network, **options), folder, overwrite):
            bar.total = progress.total
            bar.set_description(progress.doing, refresh=False)
            bar.update(progress.done - bar.n)
    click.echo(f"{folder / 'best.keras'}: the network with its error head")


def _name(network: str) -> str:
    """What to call a network: its file's stem, or its folder's name for one of a run."""
    path = Path(network)
    return path.parent.name if path.stem in ("best", "last") and path.parent.name else path.stem
