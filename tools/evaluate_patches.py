"""Bias, CV and RMSE of networks and of the maximum-likelihood fit on simulated patches.

Anatomies are those of `--brains`, which no network should be trained on. Every patch is a draw of
kappa; every draw gets `--repeats` draws of noise at each SNR. Metrics are
those of `relaxnet.evaluation.metrics`, per tissue, with the Monte Carlo error over draws.

Example:
    python tools/evaluate_patches.py --tis cine31 --network runs/rim/best.keras \
        --brains subject45_crisp_v.mnc.gz --brains subject46_crisp_v.mnc.gz --out cine31.csv
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
from row_files import write_rows

from relaxnet.evaluation.metrics import Summary, by_tissue
from relaxnet.series.noise import is_rician
from relaxnet.series.scale import patch_scale
from relaxsim.cli.group import chosen_anatomies
from relaxsim.core.options import Range
from relaxsim.core.snr import sigma_of
from relaxsim.models.protocols import Protocol, random_protocol, read_protocol
from relaxsim.shards.generate import Settings, draw_mixture, shard_rng
from relaxsim.simulation.noise import add_noise
from relaxsim.simulation.simulate import noise_free
from relaxsim.simulation.tissue_maps import B_FIELDS, draw_tissue_values
from relaxsim.simulation.tissues import parse_tissues, read_tissues

Estimator = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def network_estimator(name: str) -> Estimator:
    """``estimate(S, tau, sigma, mask) -> kappa`` of a network; S (b, h, w, N), sigma (b,)."""
    from relaxnet.networks.registry import load_network

    network = load_network(name)

    def estimate(S: np.ndarray, tau: np.ndarray, sigma: np.ndarray, mask: np.ndarray) -> np.ndarray:
        scale = patch_scale(S, mask).astype(np.float32)
        rician = np.full(len(S), is_rician(S[mask]), np.float32)
        inputs = [S / scale[:, None, None, None], tau.astype(np.float32), sigma / scale, rician]
        kappa = np.array(network(inputs, training=False)[-1])
        kappa[..., 0] *= scale[:, None, None]
        return kappa

    return estimate


def mle_estimator(settings: Settings) -> Estimator:
    """``estimate`` of the voxel-wise maximum-likelihood fit."""
    from relaxnet.fitting.inputs import Measurement
    from relaxnet.fitting.voxelwise import fit_voxelwise

    def estimate(S: np.ndarray, tau: np.ndarray, sigma: np.ndarray, mask: np.ndarray) -> np.ndarray:
        spread = np.broadcast_to(sigma[:, None, None], mask.shape)
        return fit_voxelwise(Measurement(S, tau, settings.model, spread, mask)).kappa

    return estimate


def draw_patches(settings: Settings, protocol: Protocol) -> dict[str, np.ndarray]:
    """Noise-free patches, half of them from each half of the anatomies, in chunks of a shard."""
    parts = []
    per_anatomy = -(-settings.patches // len(settings.anatomies))
    table = parse_tissues(settings.tissues[1], settings.tissues[0])
    for index in range(len(settings.anatomies)):
        rng = shard_rng(settings.seed, index)
        mixture, _ = draw_mixture(settings, index, per_anatomy, rng)
        values = draw_tissue_values(
            settings.model,
            table,
            per_anatomy,
            settings.patch_size,
            rng,
            settings.b_field,
            settings.tr_range,
        )
        parts.append(
            noise_free(mixture, protocol.tau, settings.model, values, rng, settings.spread)
        )
    names = ("kappa", "signed", "labels", "purity")
    return {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}


def evaluate(
    settings: Settings,
    protocol: Protocol,
    estimators: dict[str, Estimator],
    snrs: tuple[float, ...],
    repeats: int,
) -> Iterator[dict[str, Any]]:
    """Rows (method, SNR, parameter, tissue and the metrics) of a table."""
    patches = draw_patches(settings, protocol)
    labels, kappa = patches["labels"], patches["kappa"]
    clean = np.abs(patches["signed"]) if settings.model.magnitude else patches["signed"]
    pure = (labels > 0) & (patches["purity"] > 0.999)
    draws = np.broadcast_to(np.arange(len(labels))[:, None, None], labels.shape)[pure]
    for snr in snrs:
        sigma = np.full(len(clean), sigma_of(snr), np.float32)
        rng = np.random.default_rng([settings.seed, round(100 * snr)])
        estimates: dict[str, list[np.ndarray]] = {name: [] for name in estimators}
        for _ in range(repeats):
            S = add_noise(clean, sigma[:, None, None, None], rng, settings.noise)
            for name, estimate in estimators.items():
                estimates[name].append(estimate(S, protocol.tau, sigma, labels > 0)[pure])
        for name, repeated in estimates.items():
            stack = np.stack(repeated)
            for q, parameter in enumerate(settings.model.parameters):
                table = by_tissue(stack[..., q], kappa[pure][:, q], labels[pure], draws)
                for tissue, metrics in table.items():
                    yield {
                        "protocol": protocol.name,
                        "method": name,
                        "snr": snr,
                        "parameter": parameter,
                        "tissue": tissue,
                        **_columns(metrics),
                    }


def _columns(metrics: dict[str, Summary | float]) -> dict[str, str]:
    columns: dict[str, str] = {}
    for key in ("bias", "cv", "rmse"):
        summary = metrics.get(key)
        if isinstance(summary, Summary):
            columns[key] = f"{summary.median:.2f}"
            columns[f"{key}_quartiles"] = f"{summary.lower:.2f}..{summary.upper:.2f}"
            columns[f"{key}_error"] = f"{summary.error:.2f}"
    columns["pooled_rmse"] = f"{metrics['pooled_rmse']:.2f}"
    return columns


def settings_of(
    times: str, name: str, brains: tuple[Path, ...], tissues: str, **fields: Any
) -> tuple[Settings, Protocol]:
    """Settings of the patches and their protocol, by a name, a file or ``random``."""
    rng = np.random.default_rng(fields["seed"])
    protocol = random_protocol(rng, times) if name == "random" else read_protocol(name, times)
    table = read_tissues(tissues)
    settings = Settings(
        sequence=times,
        protocols=((protocol.name, tuple(protocol.tau)),),
        anatomies=chosen_anatomies(brains),
        tissues=(table.name, table.text),
        **fields,
    )
    return settings, protocol


def label_of(network: str) -> str:
    """A network in tables: a shipped one by its name, a file with the folder that it lies in."""
    return Path(network).parent.name + "/" + Path(network).stem if "/" in network else network


@click.command()
@click.option("--tis", help="Inversion times: file, name or 'random'.")
@click.option("--tes", help="Echo times: file, name or 'random'.")
@click.option("--network", "networks", multiple=True, help="File or shipped name; repeatable.")
@click.option("--mle/--no-mle", default=True, help="Beside the maximum-likelihood fit.")
@click.option("--brains", multiple=True, type=click.Path(path_type=Path))
@click.option("--patches", default=24, help="Draws of kappa.")
@click.option("--repeats", default=8, help="Draws of noise.")
@click.option("--snr", "snrs", multiple=True, type=float, default=(5.0, 10.0, 30.0))
@click.option("--tissues", default="paper")
@click.option("--b-field", default="patch", type=click.Choice(B_FIELDS))
@click.option("--tr", "tr_range", type=Range())
@click.option("--voxel-size", type=Range())
@click.option("--noise", default="gaussian", type=click.Choice(["gaussian", "rician"]))
@click.option("--seed", default=12345)
@click.option("--out", type=click.Path(path_type=Path), help="CSV file.")
def main(
    tis: str | None,
    tes: str | None,
    networks: tuple[str, ...],
    mle: bool,
    brains: tuple[Path, ...],
    snrs: tuple[float, ...],
    repeats: int,
    tissues: str,
    out: Path | None,
    **fields: Any,
) -> None:
    """Evaluate networks and the maximum-likelihood fit on simulated patches."""
    times, name = ("tis", tis) if tis else ("tes", tes)
    if name is None:
        raise click.UsageError("give --tis or --tes")
    settings, protocol = settings_of(times, name, brains, tissues, **fields)
    estimators = {label_of(n): network_estimator(n) for n in networks}
    if mle:
        estimators["mle"] = mle_estimator(settings)
    rows = []
    for row in evaluate(settings, protocol, estimators, snrs, repeats):
        rows.append(row)
        if row["parameter"] == settings.model.main:
            click.echo(
                f"SNR {row['snr']:5g}  {row['method']:24} {row['tissue']:6} "
                f"bias {row['bias']:>7} +- {row['bias_error']:>5}  CV {row.get('cv', ''):>6}  "
                f"RMSE {row['rmse']:>6}  pooled {row['pooled_rmse']:>7} %"
            )
    if out:
        write_rows(out, rows)
        click.echo(f"{len(rows)} rows in {out}")


if __name__ == "__main__":
    main()
