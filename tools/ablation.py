"""Ablation of the RIM: short trainings that differ from the default in one choice each.

The RIM and its losses are those of the package. A variant hides channels or steps from the RIM's
cell, or changes how the RIM is trained.

All variants of a seed are trained on the same crops in the same order, start from the same weights
where their shapes agree, and are judged on the same validation patches. A finished training is a
row of the CSV file; the same command goes on after the last row. The Markdown table is rewritten
after every row.

Example:
    python tools/ablation.py --data shards --validation shards-val --out docs/results/ablation.csv
    python tools/ablation.py --quick
"""

from __future__ import annotations

import functools
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import keras
import numpy as np
import tensorflow as tf
from row_files import read_rows, write_rows

from relaxnet.networks.likelihood import Likelihood
from relaxnet.networks.parametrization import to_kappa
from relaxnet.networks.rim import RIM
from relaxnet.series.scale import patch_scale
from relaxnet.training.dataset import PURE, Batch, load_batch, read_infos
from relaxnet.training.loop import SIGMA_ERROR, learning_rate_of
from relaxnet.training.loss import patch_loss, squared_loss
from relaxnet.training.settings import Settings
from relaxsim.core.snr import snr_of
from relaxsim.shards.layout import Shard, ShardInfo, read_shard

#: Features of the likelihood that the cell gets -> channels for each parameter.
CHANNELS = {"whitened": 1, "information": 2, "newton": 3}
#: Classes of SNR that the errors are listed for.
SNR_CLASSES = {"SNR 3-10": (0.0, 10.0), "SNR 10-30": (10.0, 30.0), "SNR > 30": (30.0, np.inf)}
#: Labels of grey and white matter, and of the brain.
TISSUE, BRAIN = (2, 3), (1, 2, 3, 8)
#: Voxels that a patch must have of them to count.
SMALLEST_PATCH = 20
#: In the loss over the CRLB errors are divided by the bound plus this, in units of the coordinates:
#: errors below it hardly count.
CRLB_FLOOR = 0.02


@dataclass(frozen=True)
class Variant:
    """One training; the defaults are those of the package."""

    name: str
    steps: str = "both"
    gradient: str = "newton"
    coordinates: str = "log"
    loss: str = "patch"
    through: bool = False
    schedule: str = "cosine"
    clip: float | None = 1.0
    last_layer: str = "zeros"
    sigma_error: float = SIGMA_ERROR
    features: int = 36
    num_steps: int = 6


PAPER: dict[str, Any] = {
    "steps": "none",
    "gradient": "raw",
    "coordinates": "linear",
    "loss": "squared",
    "through": True,
    "schedule": "constant",
    "clip": None,
    "last_layer": "he",
    "sigma_error": 1.0,
}
ZEROS = {**PAPER, "last_layer": "zeros"}
VARIANTS = (
    Variant("default"),
    Variant("paper recipe", **PAPER),
    Variant("paper recipe, last layer zeros", **ZEROS),
    Variant("paper recipe, last layer zeros, clipped", **{**ZEROS, "clip": 1.0}),
    Variant("paper recipe, last layer zeros, log coordinates", **{**ZEROS, "coordinates": "log"}),
    Variant("steps of fits: that of the voxel alone", steps="voxel"),
    Variant("steps of fits: none", steps="none"),
    Variant("no steps; gradient: whitened, log information", steps="none", gradient="information"),
    Variant("no steps; gradient: whitened alone", steps="none", gradient="whitened"),
    Variant("no steps; gradient: raw, with sigma", steps="none", gradient="raw"),
    Variant("coordinates: linear", coordinates="linear"),
    Variant("loss: bias weight 4", loss="bias"),
    Variant("loss: Eq. 6", loss="squared"),
    Variant("loss: relative", loss="relative"),
    Variant("loss: over the CRLB", loss="crlb"),
    Variant("differentiated through the gradient", through=True),
    Variant("learning rate: constant", schedule="constant"),
    Variant("clipping: none", clip=None),
    Variant("last layer: He", last_layer="he"),
    Variant("sigma: always the true one", sigma_error=1.0),
    Variant("features: 18", features=18),
    Variant("features: 64", features=64),
    Variant("J: 3", num_steps=3),
    Variant("J: 10", num_steps=10),
)


class Trial(RIM):
    """The package's RIM, of which a variant hides some channels and steps (they are zero)."""

    def __init__(self, variant: Variant, model: str) -> None:
        super().__init__(
            model,
            variant.features,
            variant.num_steps,
            "raw" if variant.gradient == "raw" else "whitened",
            variant.coordinates,
            fit_steps=variant.steps != "none",
        )
        self.variant = variant
        if variant.last_layer == "he":
            kernel = self.cell.conv_4.kernel
            kernel.assign(keras.initializers.HeNormal(0)(kernel.shape))

    def likelihood_features(self, u: Any, likelihood: Likelihood) -> tuple[Any, Any]:
        """Features of the likelihood at u for the cell, and the steps of fits that it may take."""
        u = u if self.variant.through else tf.stop_gradient(u)
        if self.variant.gradient == "raw":
            return likelihood.gradient(u), None
        if not self.fit_steps:
            visible = CHANNELS[self.variant.gradient] * self.model.num_parameters
            features = likelihood.whitened(u)
            kept = [float(c < visible) for c in range(features.shape[-1])]
            return features * tf.constant(kept), None
        features, fits = likelihood.whitened_and_steps(u)
        if self.variant.steps == "voxel":
            # Channels and the step of the neighbourhood come after those of the voxel.
            of_voxel = 3 * self.model.num_parameters
            kept = [float(c < of_voxel) for c in range(features.shape[-1] - 1)]
            return features * tf.constant([*kept, 1.0]), fits * tf.constant([[1.0], [0.0]])
        return features, fits


def loss_of(trial: Trial) -> Callable[..., tf.Tensor]:
    """``loss(estimates, kappa, sigma, weight, tau)`` of a variant, for estimates in u."""
    kind = trial.variant.loss
    plain = {
        "squared": squared_loss,
        "patch": patch_loss,
        "bias": functools.partial(patch_loss, bias_weight=4.0),
    }
    if kind in plain:
        compare = plain[kind]
        return lambda estimates, kappa, sigma, weight, tau: compare(
            estimates, trial.scaled(kappa), weight
        )

    def loss(estimates: Any, kappa: Any, sigma: Any, weight: Any, tau: Any) -> tf.Tensor:
        start = trial.model.start_from(tf.ones_like(weight), tf)
        truth = tf.where(weight[..., None] > 0, kappa, start)
        if kind == "relative":
            return squared_loss([kappa_of(u, trial) / truth for u in estimates], 1.0, weight)
        u = trial.scaled(truth)
        spread = tf.sqrt(crlb(u, tau, sigma, trial)) + CRLB_FLOOR
        return squared_loss([e / spread for e in estimates], u / spread, weight)

    return loss


def kappa_of(u: Any, trial: Trial) -> tf.Tensor:
    """Tissue parameters kappa at the coordinates u."""
    return to_kappa(u, trial.model, trial.coordinates)


def crlb(u: Any, tau: Any, sigma: Any, trial: Trial) -> tf.Tensor:
    """Cramer-Rao bound of the variance of each coordinate at u, shape (b, h, w, Q)."""
    clean = trial.model.forward(kappa_of(u, trial), tau, tf)
    _, F = trial.likelihood([clean, tau, sigma]).gradient_and_information(u)
    d = tf.sqrt(tf.linalg.diag_part(F)) + 1e-6
    C = F / (d[..., :, None] * d[..., None, :])
    inverse = tf.linalg.inv(C + 1e-5 * tf.eye(C.shape[-1]))
    return tf.linalg.diag_part(inverse) / d**2


def train(
    trial: Trial, batches: Iterator[Batch], iterations: int, learning_rate: float
) -> tuple[bool, float]:
    """Train a variant.

    Returns
    -------
    finite : bool
        The loss stayed finite.
    seconds : float
        Median processor time of an iteration, s.
    """
    recipe = "paper" if trial.variant.schedule == "constant" else "default"
    settings = Settings((), recipe=recipe, iterations=iterations, learning_rate=learning_rate)
    weights = trial.trainable_variables
    optimizer = keras.optimizers.Adam(
        learning_rate_of(settings), global_clipnorm=trial.variant.clip
    )
    optimizer.build(weights)
    loss = loss_of(trial)

    @tf.function(reduce_retracing=True, autograph=False)
    def step(S: Any, kappa: Any, sigma: Any, weight: Any, tau: Any, rician: Any) -> tf.Tensor:
        with tf.GradientTape() as tape:
            estimates = trial.steps([S, tau, sigma, rician], training=True)
            value = loss(estimates, kappa, sigma, weight, tau)
        optimizer.apply(tape.gradient(value, weights), weights)
        return value

    spent = []
    for batch in batches:
        began = time.process_time()
        values = (batch.S, batch.kappa, batch.sigma, batch.weight, batch.tau, batch.rician)
        if not np.isfinite(float(step(*map(tf.constant, values)))):
            return False, float(np.median(spent or [np.nan]))
        spent.append(time.process_time() - began)
    return True, float(np.median(spent))


def crops(
    infos: Sequence[ShardInfo],
    iterations: int,
    batch_size: int,
    size: int,
    seed: int,
    sigma_error: float,
) -> Iterator[Batch]:
    """Batches of patches, each batch cut at one random place to `size` voxels."""
    for iteration in range(iterations):
        batch = load_batch(infos, batch_size, seed, iteration, sigma_error=sigma_error)
        room = max(0, batch.S.shape[1] - size)
        y, x = np.random.default_rng([seed, iteration, 11]).integers(0, room + 1, 2)
        window = np.s_[:, y : y + size, x : x + size]
        images = {name: getattr(batch, name)[window] for name in ("S", "kappa", "weight")}
        yield replace(batch, **images)


def errors(trial: Trial, shards: Sequence[Shard], patches: int) -> dict[str, float]:
    """Relative RMSE (per cent) of the relaxation time: medians over patches, and pooled.

    `bias` is the median over patches and tissues (grey, white) of the mean error's modulus.
    Estimates are cut to the signal model's bounds, as those of maps are.
    """
    estimate = tf.function(lambda *inputs: trial.estimate(inputs), autograph=False)
    found = []
    for shard in shards:
        for first in range(0, min(patches, len(shard.S)), 12):
            rows = slice(first, min(first + 12, patches))
            found += errors_of_patches(estimate, shard, rows, trial.model.bounds[-1])
    both = [(snr, np.concatenate(tissues)) for snr, tissues, _ in found]
    table = {}
    for name, (low, high) in SNR_CLASSES.items():
        table[name] = _typical([tissue for snr, tissue in both if low <= snr < high])
    table["all SNR"] = _typical([tissue for _, tissue in both])
    table["brain"] = _typical([brain for *_, brain in found])
    table["pooled"] = _rms(np.concatenate([tissue for _, tissue in both]))
    means = [e.mean() for _, tissues, _ in found for e in tissues if e.size >= SMALLEST_PATCH]
    table["bias"] = 100.0 * float(np.median(np.abs(means)))
    return table


def errors_of_patches(
    estimate: Callable[..., tf.Tensor], shard: Shard, rows: slice, bounds: tuple[float, float]
) -> list[tuple[float, list[np.ndarray], np.ndarray]]:
    """SNR of each patch, and relative errors of its pure voxels: by tissue, and of the brain."""
    labels, truth = shard.labels[rows], shard.kappa[rows][..., -1]
    S = shard.S[rows].astype(np.float32)
    scale = patch_scale(S, labels > 0).astype(np.float32)
    S /= scale[:, None, None, None]
    rician = np.full(len(S), shard.info.rician, np.float32)
    tau = shard.info.tau.astype(np.float32)
    T = estimate(S, tau, (shard.sigma[rows] / scale).astype(np.float32), rician)[..., -1].numpy()
    error = np.clip(T, *bounds) / np.where(truth > 0, truth, 1) - 1
    pure = shard.purity[rows] > PURE
    tissues = [pure & (labels == label) for label in TISSUE]
    brain = pure & np.isin(labels, BRAIN)
    return [
        (snr_of(sigma), [error[k][used[k]] for used in tissues], error[k][brain[k]])
        for k, sigma in enumerate(shard.sigma[rows])
    ]


def _typical(patches: Sequence[np.ndarray]) -> float:
    """Median over patches of their RMSE; patches of few voxels do not count."""
    return float(np.median([_rms(e) for e in patches if e.size >= SMALLEST_PATCH]))


def _rms(error: np.ndarray) -> float:
    return 100.0 * float(np.sqrt(np.mean(error**2)))


COLUMNS = (*SNR_CLASSES, "all SNR", "brain", "pooled", "bias")
KEY = ("variant", "seed", "iterations", "batch_size", "crop", "learning_rate")


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Table of the mean over seeds, with half the range where there are several."""
    heads = ("variant", "weights", *COLUMNS, "CPU s a step", "seeds")
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for name in dict.fromkeys(row["variant"] for row in rows):
        of = [row for row in rows if row["variant"] == name]
        cells = [name, str(of[0]["weights"])]
        for column in COLUMNS:
            values = np.array([float(row[column]) for row in of])
            spread = f" ± {np.ptp(values) / 2:.1f}" if len(of) > 1 else ""
            cells.append(
                f"{values.mean():.1f}{spread}" if np.isfinite(values).all() else "diverged"
            )
        cells += [f"{np.median([float(row['cpu_seconds']) for row in of]):.2f}", str(len(of))]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def write_tables(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write the CSV file and the Markdown table beside it."""
    write_rows(path, rows)
    order = {variant.name: i for i, variant in enumerate(VARIANTS)}
    text = markdown(sorted(rows, key=lambda row: order.get(row["variant"], len(order))))
    path.with_suffix(".table.md").write_text(text, encoding="utf-8")


def quick_shards(folder: Path) -> tuple[Path, Path]:
    """Tiny training and validation data from the built-in head."""
    folders = folder / "train", folder / "validation"
    for seed, out in enumerate(folders):
        code = "from relaxsim.cli.group import main; main()"
        options = ["--tis", "cine31", "--patches", "48", "--patch-size", "16"]
        options += ["--seed", str(seed), "--jobs", "1", "--out", str(out)]
        command = [sys.executable, "-c", code, "generate", *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folders


@click.command(context_settings={"show_default": True})
@click.option("--data", multiple=True, type=click.Path(path_type=Path), help="Folder of shards.")
@click.option("--validation", multiple=True, type=click.Path(path_type=Path))
@click.option("--iterations", default=400, type=click.IntRange(1))
@click.option("--batch-size", default=8, type=click.IntRange(1))
@click.option("--crop", default=24, type=click.IntRange(8), help="Width of the crops.")
@click.option("--learning-rate", default=1e-3)
@click.option("--seeds", default=1, type=click.IntRange(1), help="Trainings of each variant.")
@click.option("--patches", default=60, help="Validation patches a shard.")
@click.option("--only", multiple=True, help="Variants whose name contains this.")
@click.option("--out", default="ablation.csv", type=click.Path(path_type=Path), help="CSV file.")
@click.option("--quick", is_flag=True, help="Tiny data of the built-in head, a few iterations.")
def main(data: tuple[Path, ...], validation: tuple[Path, ...], quick: bool, **options: Any) -> None:
    """Train and compare the variants."""
    with tempfile.TemporaryDirectory() as folder:
        if quick:
            data, validation = ((x,) for x in quick_shards(Path(folder)))
            options |= {"iterations": 3, "batch_size": 2, "crop": 10, "patches": 12}
            options["out"] = Path(folder) / "quick.csv"
        if not data or not validation:
            raise click.UsageError("give --data and --validation, or --quick")
        compare(data, validation, **options)


def compare(
    data: Sequence[Path],
    validation: Sequence[Path],
    iterations: int,
    batch_size: int,
    crop: int,
    learning_rate: float,
    seeds: int,
    patches: int,
    only: Sequence[str],
    out: Path,
) -> None:
    """Run the trainings that the CSV file lacks, seed by seed."""
    infos = read_infos(data)
    model = infos[0].signal_model.name
    validation_shards = [read_shard(info.path) for info in read_infos(validation)]
    rows: list[dict[str, Any]] = [*read_rows(out)] if out.is_file() else []
    chosen = [v for v in VARIANTS if not only or any(part in v.name for part in only)]
    for seed in range(seeds):
        for variant in chosen:
            values = (variant.name, seed, iterations, batch_size, crop, learning_rate)
            key = dict(zip(KEY, values, strict=True))
            if any(all(str(row[k]) == str(v) for k, v in key.items()) for row in rows):
                continue
            keras.backend.clear_session()
            keras.utils.set_random_seed(seed)
            trial = Trial(variant, model)
            batches = crops(infos, iterations, batch_size, crop, seed, variant.sigma_error)
            finite, seconds = train(trial, batches, iterations, learning_rate)
            row: dict[str, Any] = {**key, "weights": trial.count_params()}
            found = dict.fromkeys(COLUMNS, np.nan)
            if finite:
                found = errors(trial, validation_shards, patches)
            row |= {k: f"{v:.2f}" for k, v in found.items()}
            rows.append(row | {"cpu_seconds": f"{seconds:.3f}"})
            write_tables(out, rows)
            click.echo(" | ".join(str(x) for x in rows[-1].values()))
    click.echo(markdown(rows))


if __name__ == "__main__":
    main()
