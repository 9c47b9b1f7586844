"""Bias of the Gaussian and the Rician maximum-likelihood fit at low signal-to-noise ratio.

One voxel's parameters, many draws of magnitude images with Rician noise; SNR is the amplitude A
over the noise's standard deviation. Printed are the median and the mean error of T over the
voxels that converged, the scatter of their T, and the Cramér-Rao bound.

Example:
    python tools/rician_bias.py
"""

from __future__ import annotations

import click
import numpy as np

from relaxnet.fitting.crlb import crlb
from relaxnet.fitting.inputs import Measurement
from relaxnet.fitting.options import LIKELIHOODS, FitOptions
from relaxnet.fitting.result import CONVERGED
from relaxnet.fitting.voxelwise import fit_voxelwise
from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY
from relaxsim.models.protocols import read_protocol
from relaxsim.models.t2_decay import MODEL as T2_DECAY

CASES = (
    (T2_DECAY, read_protocol("fse6", "tes").tau, [1.0, 80.0]),
    (
        INVERSION_RECOVERY,
        np.array([50.0, 200.0, 400.0, 800.0, 1200.0, 1800.0, 2600.0, 4000.0]),
        [1.0, 1.9, 900.0],
    ),
)


@click.command(help=__doc__)
@click.option("--draws", default=4000, show_default=True, help="Voxels of each case.")
@click.option("--seed", default=0, show_default=True)
def main(draws: int, seed: int) -> None:
    """Print the table."""
    rng = np.random.default_rng(seed)
    for model, tau, values in CASES:
        kappa = np.array(values)
        signal, T = model.signed(kappa, tau, np), kappa[-1]
        click.echo(f"\n{model.name}, {len(tau)} images, kappa {values}; per cent of T")
        click.echo("   SNR  likelihood   median     mean  scatter  bound  converged")
        for snr in (2, 3, 5, 10, 20):
            sigma = 1 / snr
            noise = sigma * rng.normal(size=(2, draws, len(tau)))
            S = np.hypot(signal + noise[0], noise[1])
            for likelihood in LIKELIHOODS:
                fit = fit_voxelwise(
                    Measurement(S, tau, model, sigma), FitOptions(likelihood=likelihood)
                )
                good = fit.status == CONVERGED
                error = 100 * (fit.kappa[good, -1] / T - 1)
                bound = 100 * crlb(kappa, tau, sigma, model, likelihood)[-1] / T
                click.echo(
                    f"  {snr:4}  {likelihood:9} {np.median(error):+8.1f} {error.mean():+8.1f} "
                    f"{error.std():8.1f} {bound:6.1f} {100 * good.mean():9.1f} %"
                )


if __name__ == "__main__":
    main()
