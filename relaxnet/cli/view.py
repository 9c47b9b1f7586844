"""Command line of relaxnet view."""

from __future__ import annotations

from pathlib import Path

import click

from relaxsim.core.errors import one_line_errors


@click.command()
@click.argument(
    "folders", nargs=-1, required=True, metavar="MAPS_DIR...", type=click.Path(path_type=Path)
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Picture, e.g. x.png.")
@click.option(
    "--label", "labels", multiple=True, metavar="TEXT", help="Name of each folder, in order."
)
@click.option(
    "--map", "stems", multiple=True, metavar="NAME", help="Map to draw, such as T1map; repeatable."
)
@click.option("--slices", default=6, type=click.IntRange(1, 100), help="At most, of a volume.")
@click.option(
    "--range",
    "ranges",
    multiple=True,
    metavar="NAME=LOW:HIGH",
    help="Range of a map in its unit, such as T1map=0:4500; repeatable.",
)
@click.option("--dpi", default=110, type=click.IntRange(30, 600), help="Dots an inch.")
@one_line_errors
def view(
    folders: tuple[Path, ...],
    out: Path,
    labels: tuple[str, ...],
    stems: tuple[str, ...],
    slices: int,
    ranges: tuple[str, ...],
    dpi: int,
) -> None:
    """Draw the maps of a run: all of one folder, or a row for each of several.

    Ranges are fixed, so that pictures compare. Voxels without a value are grey. If the header
    states the orientation, the patient's right is on the left.

    \b
    Examples:
      relaxnet view maps --out maps.png
      relaxnet view maps-rim maps-mle --label RIM --label MLE --map T1map --map residual --out x.png
    """  # noqa: D301
    from relaxnet.report.mosaic import draw_runs

    path = draw_runs(
        folders,
        out,
        labels=labels,
        stems=stems,
        slices=slices,
        ranges=dict(_range(text) for text in ranges),
        dpi=dpi,
    )
    click.echo(str(path))


def _range(text: str) -> tuple[str, tuple[float, float]]:
    """Stem and range of a value of ``--range``."""
    stem, _, limits = text.partition("=")
    try:
        low, high = (float(part) for part in limits.split(":"))
    except ValueError:
        raise ValueError(f"--range {text}: expected NAME=LOW:HIGH, such as T1map=0:4500.") from None
    if not stem or not low < high:
        raise ValueError(f"--range {text}: expected a map's name and low < high.")
    return stem, (low, high)
