"""Picture of maps side by side: one row for each folder that `relaxnet predict` wrote.

The mosaic of ``relaxnet view``, of the parameters alone.

Example:
    python tools/figure_maps.py maps-rim maps-mle --label RIM --label MLE --out docs/maps.png
"""

from __future__ import annotations

from pathlib import Path

import click

from relaxnet.report.mosaic import draw_runs

_ORDER = ("T1map", "T2map", "Bmap", "M0map")


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--label", "labels", multiple=True, help="Name of each row.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="PNG file.")
def main(folders: tuple[Path, ...], labels: tuple[str, ...], out: Path) -> None:
    """Draw maps side by side."""
    there = [stem for stem in _ORDER if (folders[0] / f"{stem}.nii.gz").is_file()]
    click.echo(draw_runs(folders, out, labels=labels, stems=there, slices=1, dpi=90))


if __name__ == "__main__":
    main()
