"""Picture of maps side by side: one row for each folder that `relaxnet predict` wrote.

Example:
    python tools/figure_maps.py maps-rim maps-mle --label RIM --label MLE --out docs/maps.png
"""

from __future__ import annotations

from pathlib import Path

import click
import matplotlib as mpl
import nibabel as nib
import numpy as np

mpl.use("Agg")
import matplotlib.pyplot as plt

#: Fixed ranges, so that pictures compare.
RANGES = {"T1map": (0, 2500, "T1 (ms)"), "T2map": (0, 250, "T2 (ms)"), "Bmap": (1, 2.1, "B")}


def middle_slice(path: Path) -> np.ndarray:
    """Middle slice across the third axis, as seen with the first axis to the right."""
    image = nib.load(path)
    volume = np.asarray(image.dataobj)
    return np.rot90(volume[:, :, volume.shape[2] // 2])


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--label", "labels", multiple=True, help="Name of each row.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="PNG file.")
def main(folders: tuple[Path, ...], labels: tuple[str, ...], out: Path) -> None:
    """Draw maps side by side."""
    ranges = dict(RANGES)
    columns = [s for s in RANGES if (folders[0] / f"{s}.nii.gz").is_file()] + ["M0map"]
    fig, axes = plt.subplots(
        len(folders),
        len(columns),
        figsize=(3.1 * len(columns), 3.0 * len(folders)),
        layout="constrained",
        squeeze=False,
    )
    for row, folder in zip(axes, folders, strict=True):
        for axis, stem in zip(row, columns, strict=True):
            picture = middle_slice(folder / f"{stem}.nii.gz")
            low, high, unit = ranges.get(stem, (0, np.percentile(picture, 99), "M0 (a.u.)"))
            ranges[stem] = low, high, unit  # the first row's range serves the others
            inside = np.argwhere(picture > 0)
            (top, left), (bottom, right) = inside.min(0), inside.max(0) + 1
            image = axis.imshow(
                picture[top:bottom, left:right], vmin=low, vmax=high, cmap="viridis"
            )
            axis.set_xticks([])
            axis.set_yticks([])
            fig.colorbar(image, ax=axis, label=unit, shrink=0.8)
    for row, label in zip(axes, labels, strict=False):
        row[0].set_ylabel(label)
    out.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(out, dpi=90)
    click.echo(f"{out}")


if __name__ == "__main__":
    main()
