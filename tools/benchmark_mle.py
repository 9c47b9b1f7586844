"""Speed and memory of the maximum-likelihood fits, with a per-voxel scipy loop in the same run.

Run it on a quiet machine. Every fit runs in a new process, whose peak memory is then that of the
fit. Beside each speed stand the limits that the machine sets: the bytes that one voxel moves in and
out over the bandwidth, and the operations of its search over the rate, both measured here.

Example:
    python tools/benchmark_mle.py
    python tools/benchmark_mle.py --quick
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import time
from pathlib import Path

import click
import numpy as np
from scipy.optimize import least_squares

from relaxnet.fitting.grid_search import make_grid
from relaxnet.fitting.inputs import Measurement, fit_bounds
from relaxnet.fitting.options import FitOptions
from relaxnet.fitting.regularised import LAMBDA_B, fit_regularised, fit_shared
from relaxnet.fitting.separable import make_problem
from relaxnet.fitting.voxelwise import fit_voxelwise
from relaxsim.core.snr import sigma_of
from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY
from relaxsim.models.protocols import read_protocol
from relaxsim.models.registry import signal_model
from relaxsim.models.signal_model import SignalModel
from relaxsim.models.t2_decay import MODEL as T2_DECAY

SNR = 30.0


def phantom(
    shape: tuple[int, ...], model: SignalModel, tau: np.ndarray
) -> tuple[np.ndarray, float, np.ndarray]:
    """Series, sigma and mask of a disc of three tissues with a smooth B."""
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(*[np.linspace(-1, 1, s) for s in shape[:2]], indexing="ij")
    x, y = (np.broadcast_to(v.reshape(shape[:2] + (1,) * (len(shape) - 2)), shape) for v in (x, y))
    tissue = (np.floor(6 * x) + np.floor(7 * y)).astype(int) % 3
    A = np.choose(tissue, [0.65, 0.85, 1.0])
    spread = 1 + 0.03 * rng.normal(size=shape)
    if model is INVERSION_RECOVERY:
        B = 1.9 - 0.15 * (x**2 + 0.5 * y)
        kappa = [A, B, np.choose(tissue, [780.0, 1400.0, 3500.0]) * spread]
    else:
        kappa = [A, np.choose(tissue, [80.0, 110.0, 300.0]) * spread]
    sigma = sigma_of(SNR)
    S = model.forward(np.stack(kappa, axis=-1), tau).astype(np.float32)
    S += sigma * rng.standard_normal(S.shape, dtype=np.float32)
    return S, sigma, x**2 + y**2 < 1


def scipy_loop(S: np.ndarray, tau: np.ndarray, model: SignalModel, count: int) -> float:
    """Voxels/s of a bounded `least_squares` per voxel, from the paper's start values."""
    voxels = S.reshape(-1, len(tau)).astype(np.float64)
    voxels = voxels[:: max(1, len(voxels) // count)][:count]
    bounds = np.array(model.bounds, dtype=float)
    begin = time.perf_counter()
    for v in voxels:
        low, high = bounds.T * np.append(np.abs(v).max(), np.ones(len(bounds) - 1))[None]
        start = np.clip(model.start_from(np.array(np.abs(v).max())), low + 1e-6, high - 1e-6)
        least_squares(
            lambda k, v=v: model.forward(k, tau) - v,
            start,
            jac=lambda k: model.jacobian(k, tau),
            bounds=(low, high),
            x_scale=start,
        )
    return len(voxels) / (time.perf_counter() - begin)


def peaks() -> tuple[float, float]:
    """Memory bandwidth (GB/s) of a copy, and GFlop/s of a float32 product, on all cores."""
    a, b = np.ones(1 << 25, np.float32), np.empty(1 << 25, np.float32)
    copies = [_seconds(lambda: np.copyto(b, a)) for _ in range(5)]
    m = np.ones((1536, 1536), np.float32)
    products = [_seconds(lambda: m @ m) for _ in range(5)]
    return 2 * a.nbytes / min(copies) / 1e9, 2 * 1536**3 / min(products) / 1e9


def _seconds(call) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def peak_memory() -> float:
    """Peak resident memory of this process in GB (that of its parent does not count)."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    line = next(v for v in status.read_text().splitlines() if v.startswith("VmHWM"))
    return int(line.split()[1]) / 1e6


def _measure(queue, fit: str, shape: tuple[int, ...], name: str, tau: np.ndarray) -> None:
    """Time one fit; note the peak memory of this process, and its rise above that of the input."""
    model = signal_model(name)
    S, sigma, mask = phantom(shape, model, tau)
    fit_voxelwise(Measurement(S.reshape(-1, len(tau))[:500], tau, model))
    measurement = Measurement(S, tau, model, sigma, None if fit == "voxel-wise" else mask)
    before = peak_memory()
    begin = time.perf_counter()
    if fit == "voxel-wise":
        fit_voxelwise(measurement)
    elif fit == "shared B":
        fit_shared(measurement)
    else:
        weight = "auto" if "auto" in fit else LAMBDA_B
        fit_regularised(measurement, FitOptions(lambda_b=weight))
    seconds = time.perf_counter() - begin
    peak = peak_memory()
    fitted = S[..., 0].size if fit == "voxel-wise" else int(mask.sum())
    queue.put((seconds, fitted, peak, peak - before))


def measured(fit: str, shape: tuple[int, ...], model: SignalModel, tau: np.ndarray) -> tuple:
    """Seconds, voxels, peak memory and its rise (GB) of a fit in a fresh process."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_measure, args=(queue, fit, shape, model.name, tau))
    process.start()
    out = queue.get()
    process.join()
    return out


def floor(model: SignalModel, tau: np.ndarray, bandwidth: float, rate: float) -> str:
    """Bytes and operations of a voxel of the voxel-wise fit, and the speeds that they allow."""
    moved = 4 * len(tau) + 4 * (2 * model.num_parameters + 1) + 1
    problem, _ = make_problem(tau, model, fit_bounds(model), model.magnitude)
    grid = make_grid(problem)
    operations = 2 * grid.m.size * (1 if grid.w is None else 2)
    return (
        f"floor of a voxel: {moved} bytes in and out ({1e9 * bandwidth / moved:.3g} voxels/s), "
        f"{operations / 1e3:.0f} kflop in the search ({1e9 * rate / operations:.3g} voxels/s)"
    )


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help="Small sizes: to see that it runs.")
def main(quick: bool) -> None:
    """Print the table."""
    side, volume, count = (64, (40, 40, 6), 40) if quick else (256, (210, 210, 10), 400)
    bandwidth, rate = peaks()
    click.echo(f"{os.cpu_count()} cores, copy {bandwidth:.1f} GB/s, product {rate:.0f} GFlop/s")
    cine, fse = read_protocol("cine31", "tis").tau, read_protocol("fse6", "tes").tau
    six = np.array([50.0, 150.0, 400.0, 800.0, 1600.0, 3200.0])
    for model, tau in ((INVERSION_RECOVERY, cine), (INVERSION_RECOVERY, six), (T2_DECAY, fse)):
        click.echo(f"\n{model.name}, {len(tau)} images, {side} x {side}")
        click.echo(f"  {floor(model, tau, bandwidth, rate)}")
        S = phantom((side, side), model, tau)[0]
        loop = scipy_loop(S, tau, model, count)
        click.echo(f"  {'scipy loop':28} {loop:10.0f} voxels/s")
        fits = ["voxel-wise"]
        if len(tau) == 31:
            fits += ["shared B", "regularised B", "regularised B, auto"]
        for fit in fits:
            _line(fit, (side, side), model, tau, loop)
        if len(tau) == 31:
            for fit in ("voxel-wise", "regularised B"):
                _line(fit, volume, model, tau, loop)


def _line(
    fit: str, shape: tuple[int, ...], model: SignalModel, tau: np.ndarray, loop: float
) -> None:
    seconds, fitted, peak, rise = measured(fit, shape, model, tau)
    title = f"{fit}, {' x '.join(map(str, shape))}"
    click.echo(
        f"  {title:28} {fitted / seconds:10.0f} voxels/s, {fitted / seconds / loop:6.0f} times the "
        f"loop; {seconds:6.2f} s for {fitted} voxels, peak {peak:.2f} GB ({rise:+.2f})"
    )


if __name__ == "__main__":
    main()
