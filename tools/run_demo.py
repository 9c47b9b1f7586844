"""The whole chain on simulated data: generate, train, predict, compare with the truth.

Needs the installed package and no data: anatomies are the built-in head's. The test series
have other subjects and other noise than the training data. Run by ``tools/demo``.
"""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import click
import nibabel as nib
import numpy as np

from relaxnet.evaluation.metrics import Summary, by_tissue
from relaxnet.report.mosaic import draw_runs

SNR = 15
REPEATS = 2


def call(command: str) -> None:
    """Print a command and run it."""
    click.secho(f"$ {command}", bold=True)
    subprocess.run(shlex.split(command), check=True)


def volume(path: Path) -> np.ndarray:
    """Voxels of a map."""
    return np.asarray(nib.load(path).dataobj)


def compare(phantom: Path, maps: dict[str, list[Path]]) -> None:
    """Print bias, CV and RMSE of T1 per tissue and method."""
    truth, labels = volume(phantom / "T1map.nii.gz"), volume(phantom / "labels.nii.gz")
    inside = volume(phantom / "mask.nii.gz") > 0
    click.echo(f"\nT1 against the truth, SNR {SNR}, {REPEATS} repeats (per cent)")
    click.echo(f"{'method':22}{'tissue':8}{'bias':>8}{'CV':>8}{'RMSE':>8}{'pooled RMSE':>14}")
    for method, folders in maps.items():
        estimates = np.stack([volume(f / "T1map.nii.gz")[inside] for f in folders])
        for tissue, row in by_tissue(estimates, truth[inside], labels[inside]).items():
            shown = [row[k].median for k in ("bias", "cv", "rmse") if isinstance(row[k], Summary)]
            click.echo(
                f"{method:22}{tissue:8}"
                + "".join(f"{v:8.2f}" for v in shown)
                + f"{row['pooled_rmse']:14.2f}"
            )


def figure(phantom: Path, maps: dict[str, list[Path]], path: Path) -> None:
    """Maps of the truth and each method, a row each."""
    draw_runs(
        [phantom, *(folders[0] for folders in maps.values())],
        path,
        labels=["truth", *maps],
        stems=["T1map", "Bmap", "M0map"],
    )


@click.command()
@click.option("--out", default="demo", type=click.Path(path_type=Path), help="Folder.")
@click.option("--quick", is_flag=True, help="Train for a few steps only.")
def main(out: Path, quick: bool) -> None:
    """Generate, train, predict and compare."""
    shards, run, phantom = out / "shards", out / "run", out / "phantom"
    patches, steps = (480, 10) if quick else (2400, 200)
    call(f"relaxsim generate --tis cine31 --b-field smooth --patches {patches} --out {shards}")
    call(
        f"relaxnet train --data {shards} --iterations {steps} --batch-size 12 --out {run} "
        "--learning-rate 2e-3 --overwrite"
    )
    call(
        f"relaxsim phantom brain --tis cine31 --snr {SNR} --repeats {REPEATS} --subject 1000 "
        f"--b-field smooth --out {phantom} --overwrite"
    )
    methods = {
        "trained here": f"--model {run / 'best.keras'}",
        "rim-t1 (shipped)": "--model rim-t1",
        "maximum likelihood": "--method mle",
    }
    maps: dict[str, list[Path]] = {}
    for number, (method, options) in enumerate(methods.items()):
        maps[method] = []
        for repeat in range(1, REPEATS + 1):
            folder = out / f"maps-{number}-rep{repeat}"
            call(
                f"relaxnet predict {phantom / f'rep-{repeat}_series.nii.gz'} --tis cine31 "
                f"{options} --mask {phantom / 'mask.nii.gz'} --out {folder} --report --overwrite"
            )
            maps[method].append(folder)
    compare(phantom, maps)
    figure(phantom, maps, out / "maps.png")
    click.echo(f"\nPicture: {out / 'maps.png'}; report: {maps['rim-t1 (shipped)'][0]}/report.html")


if __name__ == "__main__":
    main()
