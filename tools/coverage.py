"""How often intervals of a network hold the truth, on simulated patches of brains not trained on.

Every patch is a draw of kappa and of the noise. The share of voxels whose truth lies in the 68 %
interval (1 standard deviation) and in the 95 % interval (that times a factor: 1.96 for the fit, the
factor of its error head for a network) around the estimate is given per parameter, tissue and SNR.
Its 95 % interval is over draws, since errors of one patch go together. Writes a table and a picture
of it.

Example:
    python tools/coverage.py rim-cine31 --tis cine31 --b-field smooth --out coverage \
        --brains subject45_crisp_v.mnc.gz --brains subject46_crisp_v.mnc.gz
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import matplotlib as mpl
import numpy as np
from evaluate_patches import draw_patches, label_of, settings_of
from row_files import write_rows

from relaxnet.evaluation.metrics import TISSUES
from relaxnet.fitting.crlb import clustered_share
from relaxnet.series.noise import is_rician
from relaxnet.series.scale import patch_scale
from relaxsim.core.options import Range
from relaxsim.core.snr import sigma_of
from relaxsim.models.protocols import Protocol
from relaxsim.shards.generate import Settings
from relaxsim.simulation.noise import add_noise
from relaxsim.simulation.tissue_maps import B_FIELDS

mpl.use("Agg")
import matplotlib.pyplot as plt

#: (kappa, std, half width of the 95 % interval in std)
Estimator = Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]]
#: Patches that are handed to a network at once.
BATCH = 16


def network_estimator(name: str) -> Estimator:
    """``estimate(S, tau, sigma, mask)`` of a network with an error head; sigma is one number."""
    from relaxnet.networks.registry import load_network

    network = load_network(name)
    if not network.has_std:
        raise click.UsageError(f"{name} has no error head; relaxnet calibrate gives it one.")

    def estimate(S: np.ndarray, tau: np.ndarray, sigma: float, mask: np.ndarray) -> Any:
        scale = patch_scale(S, mask).astype(np.float32)
        S, rician = S / scale[:, None, None, None], is_rician(S[mask])
        parts = []
        for i in range(0, len(S), BATCH):
            piece = slice(i, i + BATCH)
            inputs = [S[piece], tau.astype(np.float32), np.float32(sigma) / scale[piece]]
            inputs.append(np.full(len(S[piece]), rician, np.float32))
            parts.append([np.array(x) for x in network.with_std(inputs)])
        kappa, std = (np.concatenate(x) for x in zip(*parts, strict=True))
        for values in (kappa, std):
            values[..., 0] *= scale[:, None, None]
        return kappa, std, network.error_head.factors

    return estimate


def mle_estimator(settings: Settings) -> Estimator:
    """``estimate`` of the voxel-wise maximum-likelihood fit and its Cramer-Rao bound."""
    from relaxnet.fitting.inputs import Measurement
    from relaxnet.fitting.voxelwise import fit_voxelwise

    def estimate(S: np.ndarray, tau: np.ndarray, sigma: float, mask: np.ndarray) -> Any:
        spread = np.full(mask.shape, sigma)
        fit = fit_voxelwise(Measurement(S, tau, settings.model, spread, mask))
        return fit.kappa, fit.std, np.full(settings.model.num_parameters, 1.96)

    return estimate


def measure(
    settings: Settings,
    protocol: Protocol,
    estimators: dict[str, Estimator],
    snrs: tuple[float, ...],
    purity: float,
) -> Iterator[dict[str, Any]]:
    """Rows (protocol, method, SNR, parameter, tissue, level and coverage) of a table."""
    patches = draw_patches(settings, protocol)
    labels, kappa = patches["labels"], patches["kappa"]
    clean = np.abs(patches["signed"]) if settings.model.magnitude else patches["signed"]
    counted = (labels > 0) & (patches["purity"] >= purity)
    draws = np.broadcast_to(np.arange(len(labels))[:, None, None], labels.shape)
    for snr in snrs:
        sigma = sigma_of(snr)
        rng = np.random.default_rng([settings.seed, round(100 * snr)])
        S = add_noise(clean, np.float32(sigma), rng, settings.noise)
        for method, estimate in estimators.items():
            kappa_hat, std, factors = estimate(S, protocol.tau, sigma, labels > 0)
            for tissue, members in TISSUES.items():
                where = counted & np.isin(labels, members)
                found = kappa_hat[where], std[where], kappa[where], draws[where]
                for row in _of_tissue(settings.model.parameters, factors, *found):
                    where_from = {"protocol": protocol.name, "method": method, "snr": snr}
                    yield {**where_from, "tissue": tissue, **row}


def _of_tissue(
    parameters: tuple[str, ...],
    factors: np.ndarray,
    kappa_hat: np.ndarray,
    std: np.ndarray,
    truth: np.ndarray,
    draws: np.ndarray,
) -> Iterator[dict[str, Any]]:
    for q, parameter in enumerate(parameters):
        known = np.isfinite(std[:, q]) & (std[:, q] > 0)
        error = np.abs(kappa_hat[known, q] - truth[known, q])
        spread = std[known, q]
        for level, half_width in (("68", 1.0), ("95", float(factors[q]))):
            share, low, high = clustered_share(error <= half_width * spread, draws[known])
            yield {
                "parameter": parameter,
                "level": level,
                "half_width": f"{half_width:.3f}",
                "coverage": f"{100 * share:.2f}",
                "low": f"{100 * low:.2f}",
                "high": f"{100 * high:.2f}",
                "median_std": f"{np.median(spread):.4g}" if known.any() else "",
                "median_error": f"{np.median(error):.4g}" if known.any() else "",
                "draws": len(np.unique(draws[known])),
                "voxels": int(known.sum()),
            }


def draw_table(rows: list[dict[str, Any]], path: Path, title: str) -> None:
    """Picture of a table: a row of panels for each method, a panel for each parameter."""
    methods = list(dict.fromkeys(row["method"] for row in rows))
    parameters = list(dict.fromkeys(row["parameter"] for row in rows))[::-1]
    size = 3.6 * len(parameters) + 0.4, 3.0 * len(methods) + 0.6
    fig, axes = plt.subplots(
        len(methods), len(parameters), figsize=size, squeeze=False, sharex=True, sharey=True
    )
    for m, method in enumerate(methods):
        for p, parameter in enumerate(parameters):
            axis = axes[m, p]
            _panel(axis, [r for r in rows if (r["method"], r["parameter"]) == (method, parameter)])
            axis.set_title(f"{method}: {parameter}", fontsize=9)
            if m == len(methods) - 1:
                axis.set_xlabel("SNR (0.75 / sigma)")
        axes[m, 0].set_ylabel("truth in the interval (%)")
    axes[0, 0].legend(fontsize=7, loc="lower right", title="line: 95 %; dashes: 68 %")
    fig.suptitle(title, fontsize=10)
    fig.tight_layout()
    fig.savefig(path, dpi=110)
    plt.close(fig)


def _panel(axis: Any, rows: list[dict[str, Any]]) -> None:
    for low, high, middle in ((65, 71, 68.27), (93, 97, 95)):
        axis.axhspan(low, high, color="0.9", zorder=0)
        axis.axhline(middle, color="0.6", lw=0.7, zorder=0)
    for t, tissue in enumerate(("GM", "WM", "CSF")):
        for level, style in (("95", "-"), ("68", "--")):
            chosen = [r for r in rows if r["tissue"] == tissue and r["level"] == level]
            if not chosen:
                continue
            # Tissues side by side, so that their intervals do not hide one another.
            x = [r["snr"] * 1.03 ** (t - 1) for r in chosen]
            y, low, high = (np.array([float(r[k]) for r in chosen]) for k in _LINE)
            axis.errorbar(
                x,
                y,
                (np.maximum(y - low, 0), np.maximum(high - y, 0)),
                ls=style,
                color=f"C{t}",
                marker="o",
                ms=3,
                lw=1,
                elinewidth=1,
                label=tissue if level == "95" else None,
            )
    axis.set_xscale("log")
    ticks = sorted({r["snr"] for r in rows})
    axis.set_xticks(ticks, [f"{s:g}" for s in ticks])
    axis.minorticks_off()
    axis.set_ylim(40, 100)


_LINE = ("coverage", "low", "high")


@click.command()
@click.argument("networks", nargs=-1, metavar="NETWORK...")
@click.option("--tis", help="Inversion times: file, name or 'random'.")
@click.option("--tes", help="Echo times: file, name or 'random'.")
@click.option("--mle", is_flag=True, help="Also the voxel-wise fit and its Cramer-Rao bound.")
@click.option("--brains", multiple=True, type=click.Path(path_type=Path))
@click.option("--patches", default=200, help="Draws of kappa.")
@click.option("--snr", "snrs", multiple=True, type=float, default=(5.0, 10.0, 30.0, 60.0, 100.0))
@click.option("--purity", default=0.999, help="Least share of one tissue in a voxel that counts.")
@click.option("--tissues", default="paper")
@click.option("--b-field", default="smooth", type=click.Choice(B_FIELDS))
@click.option("--tr", "tr_range", type=Range())
@click.option("--voxel-size", type=Range())
@click.option("--noise", default="gaussian", type=click.Choice(["gaussian", "rician"]))
@click.option("--seed", default=4545)
@click.option("--out", type=click.Path(path_type=Path), help="Stem of a CSV and a PNG file.")
def main(
    networks: tuple[str, ...],
    tis: str | None,
    tes: str | None,
    mle: bool,
    brains: tuple[Path, ...],
    snrs: tuple[float, ...],
    purity: float,
    tissues: str,
    out: Path | None,
    **fields: Any,
) -> None:
    """Measure the coverage of networks' intervals on patches not trained on."""
    if (tis is None) == (tes is None):
        raise click.UsageError("give --tis or --tes")
    times, name = ("tis", tis) if tis else ("tes", tes)
    settings, protocol = settings_of(times, name, brains, tissues, **fields)
    estimators = {label_of(n): network_estimator(n) for n in networks}
    if mle:
        estimators["mle"] = mle_estimator(settings)
    if not estimators:
        raise click.UsageError("name networks, or give --mle")
    rows = []
    for row in measure(settings, protocol, estimators, snrs, purity):
        rows.append(row)
        if row["parameter"] == settings.model.main:
            click.echo(
                f"SNR {row['snr']:5g}  {row['method']:20} {row['tissue']:6} {row['level']:>3} %: "
                f"{row['coverage']:>6} ({row['low']} to {row['high']})  std {row['median_std']}"
            )
    if out:
        write(rows, out, f"{protocol.name}, B {settings.b_field}, {settings.patches} draws")


def write(rows: list[dict[str, Any]], stem: Path, title: str) -> None:
    """Write the table and its picture."""
    write_rows(Path(f"{stem}.csv"), rows)
    draw_table(rows, Path(f"{stem}.png"), title)
    click.echo(f"{len(rows)} rows in {stem}.csv; {stem}.png")


if __name__ == "__main__":
    main()
