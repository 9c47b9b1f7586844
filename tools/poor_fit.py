"""Experiment: errors that the status "poor fit" finds on simulated brains, and its false alarms.

Two tables as CSV: shares of voxels that a voxel-wise fit flags, with one tissue a voxel (false
alarms) and with partial volumes; and, for a network, the errors of flagged and of other voxels.

Example:
    python tools/poor_fit.py --brain subject45_crisp_v.mnc.gz --out docs/results
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from row_files import write_rows

from relaxnet.cli.tensorflow_import import import_tensorflow
from relaxnet.maps.maps import Maps
from relaxnet.maps.status import POOR_FIT
from relaxnet.networks.registry import loaded
from relaxnet.prediction.arrays import predict
from relaxsim.anatomy.anatomy import Anatomy, builtin_head, load_anatomy
from relaxsim.core.errors import one_line_errors
from relaxsim.core.snr import sigma_of
from relaxsim.models.registry import MODELS
from relaxsim.phantoms.phantoms import Phantom, brain_phantom, noisy_series
from relaxsim.simulation.tissues import read_tissues

TIMES = {
    "inversion_recovery": np.array([350.0, 500, 650, 800, 950, 1100, 1250, 1400, 1700]),
    "t2_decay": np.array([10.0, 20, 40, 80, 160, 320]),
}
#: Relative error of the relaxation time that counts as an outlier.
OUTLIER = 0.2


def slice_of(anatomy: Anatomy, name: str, crisp: bool, rng: np.random.Generator) -> Phantom:
    """Middle slice at 1.7 mm, one tissue a voxel if `crisp`."""
    return brain_phantom(
        anatomy,
        TIMES[name],
        MODELS[name],
        read_tissues("paper"),
        rng,
        voxel_size=1.7,
        matrix=110,
        crisp=crisp,
        b_field="smooth",
    )


def fit_rows(
    anatomy: Anatomy, snrs: Sequence[float], rng: np.random.Generator
) -> Iterator[dict[str, Any]]:
    """Shares that the fit flags, sigma given and found."""
    for name in TIMES:
        for crisp in (True, False):
            phantom = slice_of(anatomy, name, crisp, rng)
            for noise in ("gaussian", "rician"):
                for snr in snrs:
                    S = noisy_series(phantom, sigma_of(snr), rng, noise)
                    for sigma in (sigma_of(snr), None):
                        maps = predict(S, phantom.tau, name, "mle", mask=phantom.mask, sigma=sigma)
                        yield {
                            "model": name,
                            "voxels": "one tissue" if crisp else "mixed",
                            "noise": noise,
                            "snr": snr,
                            "sigma": "found" if sigma is None else "given",
                            "voxel_count": int(phantom.mask.sum()),
                            "flagged_percent": f"{100 * _flagged(maps, phantom).mean():.3f}",
                        }


def network_rows(
    anatomy: Anatomy, snrs: Sequence[float], rng: np.random.Generator
) -> Iterator[dict[str, Any]]:
    """Errors of the relaxation time in voxels where a network is flagged, and in others."""
    for name, model in MODELS.items():
        if not model.border.default_network:
            continue
        phantom = slice_of(anatomy, name, False, rng)
        network = loaded(model.border.default_network)
        for snr in snrs:
            S = noisy_series(phantom, sigma_of(snr), rng)
            options = {"network": network, "mask": phantom.mask, "sigma": sigma_of(snr)}
            maps = predict(S, phantom.tau, name, **options)
            flagged = _flagged(maps, phantom)
            truth = phantom.kappa[phantom.mask][:, -1]
            error = maps.kappa[phantom.mask][:, -1] / truth - 1.0
            outlier = np.abs(error) > OUTLIER
            yield {
                "network": model.border.default_network,
                "snr": snr,
                "flagged_percent": f"{100 * flagged.mean():.2f}",
                "rmse_flagged_percent": _rmse(error[flagged]),
                "rmse_others_percent": _rmse(error[~flagged]),
                "outliers": int(outlier.sum()),
                "outliers_flagged": int((outlier & flagged).sum()),
            }


def _flagged(maps: Maps, phantom: Phantom) -> np.ndarray:
    return maps.status[phantom.mask] == POOR_FIT


def _rmse(error: np.ndarray) -> str:
    return f"{100 * np.sqrt(np.mean(error**2)):.2f}" if error.size else ""


@click.command()
@click.option("--brain", type=click.Path(path_type=Path), help="Label volume [a built-in head].")
@click.option("--out", default=".", type=click.Path(path_type=Path), help="Folder of the tables.")
@click.option("--seed", default=5, type=click.IntRange(0), show_default=True)
@click.option("--quick", is_flag=True, help="One SNR.")
@one_line_errors
def main(brain: Path | None, out: Path, seed: int, quick: bool) -> None:
    """Measure what "poor fit" finds."""
    anatomy = load_anatomy(brain) if brain else builtin_head(seed)
    snrs = (100.0,) if quick else (5.0, 10.0, 30.0, 100.0)
    rng = np.random.default_rng(seed)
    write_rows(out / "poor_fit_mle.csv", list(fit_rows(anatomy, snrs, rng)))
    import_tensorflow()
    snrs = (100.0,) if quick else (30.0, 100.0, 200.0)
    write_rows(out / "poor_fit_network.csv", list(network_rows(anatomy, snrs, rng)))
    click.echo(f"two tables in {out}")


if __name__ == "__main__":
    main()
