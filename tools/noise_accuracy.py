"""Accuracy of the noise that `relaxnet predict --sigma auto` finds, on simulated brains.

Series are whole heads with air around them, and brains around which all is zero, at SNR 3 to 100,
with Gaussian noise on the modulus, Rician noise, or as real (signed) images. The table gives for
each the ratio of the noise found to the true noise, and where it was found; a figure shows it.

Example:
    python tools/noise_accuracy.py --quick --out noise-quick
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

from relaxnet.fitting.inputs import Measurement
from relaxnet.io.inputs import load_series
from relaxnet.series.foreground import automatic_mask
from relaxnet.series.noise import Noise, NoiseSource, SigmaSource, find_noise
from relaxnet.series.scale import series_scale
from relaxsim.anatomy.anatomy import builtin_head, load_anatomy
from relaxsim.core.snr import sigma_of
from relaxsim.models.protocols import read_protocol
from relaxsim.models.registry import model_of
from relaxsim.models.signal_model import SignalModel
from relaxsim.phantoms.phantoms import Phantom, brain_phantom
from relaxsim.simulation.noise import add_noise
from relaxsim.simulation.tissues import read_tissues

TIMES = Path(__file__).with_name("times")
PROTOCOLS = {
    "cine31": ("cine31", "tis"),
    "barral9": (str(TIMES / "barral2010.txt"), "tis"),
    "nist6": (str(TIMES / "nist3t.txt"), "tis"),
    "fse6": ("fse6", "tes"),
}
NOISES = ("gaussian", "rician", "real")
SURROUNDINGS = ("head in air", "brain in zeros")
SNRS = (3.0, 5.0, 10.0, 30.0, 100.0)
#: Largest relative error that is aimed at.
ASKED = 0.1
REAL = (
    ("brain_ir", "series", "tis", "tis"),
    ("brain_t1t2", "t1_series", "tis", "tis"),
    ("brain_t1t2", "t2_series", "tes", "tes"),
    ("nist_3t", "T1_plate4", "T1_plate4", "tis"),
    ("nist_3t", "T1_plate5", "T1_plate5", "tis"),
    ("nist_3t", "T2_plate4", "T2_plate4", "tes"),
    ("nist_3t", "T2_plate5", "T2_plate5", "tes"),
)
FIELDS = ("head", "protocol", "surroundings", "noise", "snr", "sigma", "found", "ratio", "source")


def series_of(phantom: Phantom, noise: str, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """One repeat; ``real`` images are the signed signal with Gaussian noise."""
    if noise != "real":
        return add_noise(phantom.signal, sigma, rng, noise)
    kappa = phantom.kappa.astype(np.float64)
    kappa[..., -1] = np.where(kappa[..., -1] > 0, kappa[..., -1], 1.0)
    return add_noise(phantom.model.signed(kappa, phantom.tau, np), sigma, rng)


def found_in(S: np.ndarray, tau: np.ndarray, model: SignalModel, mask: np.ndarray) -> Noise:
    """Noise as `relaxnet predict` finds it."""
    mask = mask & np.isfinite(S).all(-1) & S.any(-1)
    series = Measurement(S, model.table(tau), model, mask=mask)
    return find_noise(series, series_scale(S, mask))


def from_air(source: NoiseSource) -> bool:
    """Whether the noise of the air was taken."""
    return source.source is SigmaSource.AIR


def cases(quick: bool, count: int, brains: tuple[str, ...], seed: int) -> Iterator[dict[str, Any]]:
    """Simulated series, a row of the table each."""
    edge, matrix = (2.0, 110) if quick else (1.5, 150)
    heads = [builtin_head(number, edge) for number in range(1, 2 if quick else 1 + count)]
    heads += [load_anatomy(path) for path in brains]
    table = read_tissues()
    for number, head in enumerate(heads):
        for place, (name, (file, times)) in enumerate(PROTOCOLS.items()):
            rng = np.random.default_rng([seed, number, place])
            model, tau = model_of(times), read_protocol(file, times).tau
            phantom = brain_phantom(head, tau, model, table, rng, voxel_size=edge, matrix=matrix)
            for noise in NOISES if model.magnitude else NOISES[:2]:
                for snr in SNRS[::2] if quick else SNRS:
                    sigma = sigma_of(snr)
                    S = series_of(phantom, noise, sigma, rng)
                    bare = np.where(phantom.mask[..., None], S, np.float32(0))
                    masks = automatic_mask(S), phantom.mask
                    for around, images, mask in zip(SURROUNDINGS, (S, bare), masks, strict=True):
                        noise_found = found_in(images, tau, model, mask)
                        level = float(noise_found.sigma)
                        values = (head.name, name, around, noise, snr, sigma, level, level / sigma)
                        yield dict(zip(FIELDS, (*values, noise_found.source), strict=True))


def real_rows(data: Path) -> Iterator[str]:
    """Noise, its source and the sign of real series, a line each."""
    for folder, stem, list_stem, times in REAL:
        path = data / folder / f"{stem}.nii.gz"
        if not path.is_file():
            continue
        series, model = load_series([path]), model_of(times)
        tau = read_protocol(data / folder / f"{list_stem}.txt", times).tau
        mask = automatic_mask(series.data)
        noise = found_in(series.data, tau, model, mask)
        scale = series_scale(series.data, mask)
        yield (
            f"{folder}/{stem}: sigma {float(noise.sigma):.4g} (scale / sigma "
            f"{scale / float(noise.sigma):.0f}); {noise.source}; "
            f"{'signed' if noise.signed else 'magnitude'}"
        )


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Ratio of found to true sigma over SNR, a panel for each noise and surroundings."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        len(SURROUNDINGS), len(NOISES), figsize=(11, 6), sharex=True, sharey=True, squeeze=False
    )
    for i, around in enumerate(SURROUNDINGS):
        for j, noise in enumerate(NOISES):
            axis = axes[i, j]
            axis.axhspan(1 - ASKED, 1 + ASKED, color="0.92")
            axis.axhline(1, color="0.5", lw=0.8)
            for k, name in enumerate(PROTOCOLS):
                chosen = [
                    row
                    for row in rows
                    if (row["surroundings"], row["noise"], row["protocol"]) == (around, noise, name)
                ]
                shift = 1.04 ** (k - 1.5)
                for air, marker in ((True, "o"), (False, "^")):
                    part = [row for row in chosen if from_air(row["source"]) == air]
                    axis.plot(
                        [row["snr"] * shift for row in part],
                        [row["ratio"] for row in part],
                        marker,
                        ms=4,
                        color=f"C{k}",
                    )
            axis.set_xscale("log")
            axis.set_xticks(SNRS, [f"{snr:g}" for snr in SNRS])
            axis.minorticks_off()
            axis.set_title(f"{around}, {noise} noise", fontsize=10)
    axes[0, 0].set_ylim(0.8, 1.2)
    for axis in axes[:, 0]:
        axis.set_ylabel("sigma found / true")
    for axis in axes[-1]:
        axis.set_xlabel("SNR (0.75 / sigma)")
    dots = [plt.Line2D([], [], marker="s", ls="", color=f"C{k}") for k in range(len(PROTOCOLS))]
    shapes = [plt.Line2D([], [], marker=m, ls="", color="0.3") for m in "o^"]
    figure.legend(
        dots + shapes,
        [*PROTOCOLS, "from the background", "from fit residuals"],
        ncols=6,
        loc="lower center",
        frameon=False,
        fontsize=9,
    )
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    figure.savefig(path, dpi=110)


@click.command(help=__doc__)
@click.option("--out", default="docs/results", type=click.Path(path_type=Path), help="Folder.")
@click.option("--brains", multiple=True, metavar="PATH", help="Label volumes besides the built-in.")
@click.option("--heads", default=2, show_default=True, help="Built-in heads.")
@click.option("--seed", default=0, show_default=True)
@click.option("--quick", is_flag=True, help="One coarse head, three SNRs.")
@click.option(
    "--real", type=click.Path(path_type=Path), help="Folder of real data: only print their noise."
)
def main(
    out: Path, heads: int, brains: tuple[str, ...], seed: int, quick: bool, real: Path | None
) -> None:
    """Write noise.csv and noise.png."""
    if real is not None:
        for line in real_rows(real):
            click.echo(line)
        return
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    with (out / "noise.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        for row in cases(quick, heads, brains, seed):
            rows.append(row)
            texts = {k: f"{v:.5g}" if isinstance(v, float) else str(v) for k, v in row.items()}
            writer.writerow(texts)
            click.echo(json.dumps(texts))
    draw(rows, out / "noise.png")
    errors = np.abs([row["ratio"] - 1 for row in rows])
    click.echo(
        f"{len(rows)} series: largest error {100 * errors.max():.1f} %, median "
        f"{100 * np.median(errors):.1f} %; {int((errors > ASKED).sum())} above {100 * ASKED:.0f} %"
    )


if __name__ == "__main__":
    main()
