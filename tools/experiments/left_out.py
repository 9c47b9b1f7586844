"""Experiment: do the intervals of maps hold on real series? Images that are left out tell.

Each image in turn is left out, the others are mapped, and the sample that the maps predict for it
is compared with the measured one. Its variance is that of the noise and that of the estimates,
through the Jacobian of the signal; their correlations are those of the Fisher information. 95 %
intervals that are right hold 95 % of the samples, whatever the truth. The first and the last image
are not left out: maps of the others say little of them.

Example:
    python tools/experiments/left_out.py series.nii.gz --tis tis.txt
    python tools/experiments/left_out.py mese.nii.gz --tes tes.txt --sequence mese
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
from figures import write_rows

from relaxnet.cli.signal_model_options import protocol_options
from relaxnet.fitting.crlb import fisher_information, inverse
from relaxnet.io.inputs import load_series
from relaxnet.maps.status import OK
from relaxnet.prediction.arrays import predict
from relaxnet.prediction.request import request_protocol
from relaxsim.models.signal_model import SignalModel

#: Half-width of a 95 % interval in standard deviations.
HALF = 1.96
#: At most so many voxels of a series are compared.
VOXELS = 20_000


def shares(S: np.ndarray, table: np.ndarray, model: SignalModel, method: str) -> list[dict]:
    """A row for each image that is left out: share of ok voxels whose interval holds the sample.

    Parameters
    ----------
    S : array, shape (X, Y, Z, N)
    table : array, shape (N, D)
    model : SignalModel
    method : str
        ``rim`` or ``mle``.
    """
    order = np.argsort(table[:, 0], kind="stable")
    rows = []
    for n in order[1:-1]:
        kept = np.delete(np.arange(len(table)), n)
        try:
            maps = predict(S[..., kept], table[kept], model, method, mask="auto")
        except ValueError as error:  # the others are too few, or none of the model's protocols
            click.echo(f"image {n + 1}: {error}")
            continue
        index = tuple(v[:: -(-len(v) // VOXELS)] for v in np.nonzero(maps.status == OK))
        if not len(index[0]) or maps.std is None:
            continue
        inside, expected, deviation = _compared(S[index][:, n], maps, index, table, n, kept)
        error = (S[index][:, n] - expected) / deviation
        rows.append(
            {
                "image": int(n) + 1,
                "time": float(table[n, 0]),
                "method": method,
                "voxels": len(error),
                "within_95": 100.0 * float(inside.mean()),
                "bias_in_std": float(np.median(error)),
                "spread_in_std": float(0.5 * np.subtract(*np.percentile(error, [84, 16]))),
            }
        )
    return rows


def _compared(
    sample: np.ndarray, maps: Any, index: tuple, table: np.ndarray, n: int, kept: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whether intervals hold the samples (v,), the expected samples and their deviations."""
    model, kappa = maps.model, maps.kappa[index].astype(np.float64)
    likelihood = "rician" if maps.data.rician else "gaussian"
    C = inverse(fisher_information(kappa, table[kept], maps.sigma, model, likelihood))
    own = np.sqrt(np.maximum(np.diagonal(C, axis1=1, axis2=2), 1e-300))
    ratio = np.where(np.isfinite(own), maps.std[index] / own, 0.0)
    C = np.where(np.isfinite(C), C, 0.0) * ratio[:, :, None] * ratio[:, None, :]
    J = model.jacobian(kappa, table[n : n + 1], np)[:, 0]
    signal = model.forward(kappa, table[n : n + 1], np)[:, 0]
    variance = maps.sigma**2 + np.maximum(np.einsum("vq,vqr,vr->v", J, C, J), 0.0)
    if maps.data.rician:  # mean of the Rice distribution, well above the noise
        signal = np.hypot(signal, maps.sigma)
    deviation = np.sqrt(variance)
    return np.abs(sample - signal) <= HALF * deviation, signal, deviation


@click.command(params=protocol_options())
@click.argument("series", nargs=-1, required=True)
@click.option("--out", type=click.Path(path_type=Path), help="CSV file.")
def main(series: tuple[str, ...], out: Path | None, sequence: str = "", **columns: Any) -> None:
    """Leave out one image after the other, and see whether its interval holds it."""
    protocol = request_protocol(columns, sequence)
    if protocol is None:
        raise click.UsageError("give the times of the series (--tis, --tes, ...).")
    S = load_series(series, protocol.num_images).data
    S = S if S.ndim == 4 else S[:, :, None]
    rows = []
    for method in ("rim", "mle"):
        found = shares(S, protocol.table, protocol.model, method)
        rows += found
        for row in found:
            click.echo(
                f"{method}, image {row['image']} ({row['time']:g}): {row['within_95']:.1f} % in "
                f"95 %, median {row['bias_in_std']:+.2f}, spread {row['spread_in_std']:.2f} std"
            )
        if found:
            mean = np.mean([row["within_95"] for row in found])
            click.echo(f"{method}: {mean:.1f} % of the samples in 95 % intervals")
    if out is not None and rows:
        write_rows(out, rows)


if __name__ == "__main__":
    main()
