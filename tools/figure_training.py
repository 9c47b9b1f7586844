"""Draw the learning curves of the shipped networks: validation loss against hours.

Example:
    python tools/figure_training.py docs/results/training --out docs/results/training.png
"""

from __future__ import annotations

import csv
from pathlib import Path

import click
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def curve(path: Path) -> tuple[list[float], list[float], list[int]]:
    """Hours, validation losses and iterations of a run."""
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["validation_loss"]]
    return (
        [float(row["seconds"]) / 3600 for row in rows],
        [float(row["validation_loss"]) for row in rows],
        [int(row["iteration"]) for row in rows],
    )


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
@click.option("--out", required=True, type=click.Path(path_type=Path))
def main(folder: Path, out: Path) -> None:
    """Draw one panel for each network."""
    paths = sorted(folder.glob("*.csv"))
    columns = 4
    rows = -(-len(paths) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(11, 2.2 * rows), squeeze=False)
    for axis, path in zip(axes.flat, paths, strict=False):
        hours, losses, iterations = curve(path)
        axis.plot(hours, losses, marker=".", color="#0072B2")
        axis.set_title(f"{path.stem}, {iterations[-1]} steps", fontsize=9)
        axis.tick_params(labelsize=7)
        axis.set_xlabel("hours", fontsize=8)
    for axis in axes[:, 0]:
        axis.set_ylabel("validation loss", fontsize=8)
    for axis in axes.flat[len(paths) :]:
        axis.set_visible(False)
    figure.tight_layout()
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    main()
