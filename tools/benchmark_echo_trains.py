"""Speed of the fits of echo trains, with a per-voxel scipy loop in the same run.

Trains of 32 echoes, 10 ms apart, T2 20 to 300 ms, B1 0.6 to 1.0. Run it on a quiet machine.

Example:
    python tools/benchmark_echo_trains.py
"""

from __future__ import annotations

import time

import click
import numpy as np
from scipy.optimize import least_squares

from relaxnet.fitting.inputs import Measurement
from relaxnet.fitting.options import FitOptions
from relaxsim.models.echo_table import echo_table
from relaxsim.models.phase_graph import train_of
from relaxsim.models.registry import model_of
from relaxsim.models.slice_profiles import NAMES

MODEL = model_of("mese")
NUM = 32


def protocol(profile: str) -> np.ndarray:
    """Train at 180 degrees, (N, 5)."""
    others = [180.0, 90.0, 1000.0, float(NAMES.index(profile))]
    return np.column_stack([10.0 * np.arange(1, NUM + 1), np.tile(others, (NUM, 1))])


def magnitudes(profile: str, voxels: int, snr: float) -> np.ndarray:
    """Rician samples, (1, n, 1, N)."""
    rng = np.random.default_rng(0)
    T2 = np.exp(rng.uniform(np.log(20.0), np.log(300.0), voxels))
    kappa = np.stack([np.ones(voxels), rng.uniform(0.6, 1.0, voxels), T2], axis=-1)
    S = MODEL.forward(kappa, protocol(profile))
    noise = rng.standard_normal((2, *S.shape)) / snr
    return np.hypot(S + noise[0], noise[1])[None, :, None]


def scipy_loop(S: np.ndarray, table: np.ndarray) -> float:
    """Seconds of a fit of each voxel by scipy from one start, with the same interpolated echoes."""
    begin = time.perf_counter()
    for voxel in S.reshape(-1, NUM):
        least_squares(
            lambda k, y=voxel: MODEL.forward(k, table) - y,
            [voxel.max(), 0.9, 80.0],
            lambda k, y=voxel: MODEL.jacobian(k, table),
            bounds=([0.0, 0.25, 2.0], [100.0, 1.5, 5000.0]),
            x_scale=[1.0, 0.1, 50.0],
        )
    return time.perf_counter() - begin


@click.command()
@click.option("--quick", is_flag=True, help="Few voxels.")
def main(quick: bool) -> None:
    """Print voxels a second."""
    voxels = 500 if quick else 40_000
    for profile in ("none", "sinc"):
        table = protocol(profile)
        echo_table.cache_clear()
        begin = time.perf_counter()
        echo_table(train_of(table))
        click.echo(f"{profile}: table in {time.perf_counter() - begin:.3f} s")
        for snr in (30.0, 100.0):
            S = magnitudes(profile, voxels, snr)
            some = S[:, : voxels // 200]
            loop = (some.size / NUM) / scipy_loop(some, table)
            for likelihood in ("gaussian", "rician"):
                here = S if likelihood == "gaussian" else S[:, : voxels // 10]
                begin = time.perf_counter()
                FitOptions(likelihood=likelihood).fit(
                    Measurement(here, table, MODEL, sigma=1 / snr)
                )
                speed = (here.size / NUM) / (time.perf_counter() - begin)
                click.echo(
                    f"{profile}, SNR {snr:g}, {likelihood}: {speed:.0f} voxels/s, scipy from one "
                    f"start {loop:.0f} voxels/s ({speed / loop:.0f} times)"
                )


if __name__ == "__main__":
    main()
