"""The command that judges maps against the truth; registered in `relaxnet.cli.group`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from relaxsim.core.errors import one_line_errors

_FILE = click.Path(path_type=Path)


@click.command()
@click.argument("more", nargs=-1, type=_FILE, metavar="[MAPS]...")
@click.option("--truth", required=True, type=_FILE, metavar="FILE", help="True map, 3-D.")
@click.option(
    "--maps",
    "first",
    multiple=True,
    required=True,
    type=_FILE,
    metavar="FILE...",
    help="Estimated maps in the truth's unit: 3-D repeats, or one 4-D file of them.",
)
@click.option("--mask", required=True, type=_FILE, metavar="FILE", help="Voxels that count.")
@click.option("--labels", type=_FILE, metavar="FILE", help="Regions, as whole numbers.")
@click.option("--out", default="evaluation", type=_FILE, metavar="DIR", help="Folder.")
@click.option("--overwrite", is_flag=True, help="Replace the results in --out.")
@one_line_errors
def evaluate(
    more: tuple[Path, ...],
    truth: Path,
    first: tuple[Path, ...],
    mask: Path,
    labels: Path | None,
    out: Path,
    overwrite: bool,
) -> None:
    """Bias, CV and RMSE of maps against the truth.

    Prints a table and writes metrics.csv and metrics.png: for the mask and each label the median
    and quartiles over voxels of the relative bias, the coefficient of variation over repeats
    (two maps or more) and the root mean square error relative to the truth.

    \b
    Example:
      relaxnet evaluate --truth T1.nii.gz --maps rep*.nii.gz --mask mask.nii.gz
    """  # noqa: D301
    from relaxnet.evaluation.evaluate import (
        FIGURE,
        TABLE,
        draw_figure,
        evaluate_files,
        table_text,
        write_table,
    )
    from relaxsim.core.files import temporary_folder
    from relaxsim.core.only_run import only_run
    from relaxsim.core.replacing import replace_files

    table, figure = out / TABLE, out / FIGURE
    _check_free((table, figure), overwrite)
    evaluation = evaluate_files(truth, [*first, *more], mask, labels)
    click.echo(table_text(evaluation))
    for note in evaluation.notes:
        click.echo(f"Note: {note}")
    with only_run(out), temporary_folder(out / "evaluation") as place:
        write_table(evaluation, place / TABLE)
        draw_figure(evaluation, place / FIGURE)
        _check_free((table, figure), overwrite)  # again: another run may have ended
        moves = {place / TABLE: table, place / FIGURE: figure}
        replace_files(moves, (), place / "earlier", marked=False)
    click.echo(f"{table}, {figure}")


def _check_free(paths: Sequence[Path], overwrite: bool) -> None:
    """Refuse to replace results unasked."""
    there = [path for path in paths if path.exists()]
    if there and not overwrite:
        raise ValueError(f"{there[0]} is there; choose another --out or give --overwrite.")
