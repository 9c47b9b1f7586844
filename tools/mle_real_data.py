"""Maximum-likelihood fits of real series: brains, and the spheres of NIST phantom plates.

Takes the folder of real data (brain_ir, brain_t1t2, nist_3t) and prints one table for each. With
--figures, maps of the brains and fitted curves of the spheres at which the published fit and ours
differ by more than 3 % are saved as PNG.

Example:
    python tools/mle_real_data.py ../shared/data --figures figures
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import click
import nibabel as nib
import numpy as np
from scipy.ndimage import binary_erosion, binary_fill_holes, label

from relaxnet.fitting.inputs import Measurement
from relaxnet.fitting.options import FitOptions
from relaxnet.fitting.result import NO_SIGNAL, STATUS_NAMES, Fit, estimate_sigma
from relaxnet.fitting.voxelwise import fit_voxelwise
from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY
from relaxsim.models.signal_model import SignalModel
from relaxsim.models.t2_decay import MODEL as T2_DECAY

#: Tissues of the two brains (1.5 T and 3 T), by the T1 in ms of the fit with a shared B.
RANGES_IR = {"white": (550.0, 720.0), "grey": (850.0, 1200.0)}
RANGES_T1T2 = {"white": (780.0, 1000.0), "grey": (1200.0, 1700.0)}
#: Half the side of a sphere's square of voxels.
HALF = 2
#: Fits that differ by more from the published ones get a figure.
LEAST_DIFFERENCE = 0.03


def load(folder: Path, series: str, times: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (..., N) and times (N,) in ms."""
    lines = (folder / times).read_text().splitlines()
    tau = np.array([float(w) for line in lines for w in line.split("#")[0].split()])
    return np.asarray(nib.load(folder / series).dataobj), tau


def head_mask(S: np.ndarray) -> np.ndarray:
    """Largest part above a tenth of the brightest images, filled and eroded, slice by slice."""
    mip = np.abs(S).max(axis=-1)
    parts, count = label(mip > 0.1 * np.percentile(mip, 99))
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    largest = parts == 1 + sizes[1:].argmax()
    filled = binary_fill_holes(largest[..., 0])
    return binary_erosion(filled, iterations=3)[..., None]


def tissues_of(fit: Fit, mask: np.ndarray, ranges: dict) -> dict[str, np.ndarray]:
    """Masks of the tissues, by ranges of the fit's T1."""
    T1 = fit.kappa[..., -1]
    return {name: mask & (T1 > low) & (T1 < high) for name, (low, high) in ranges.items()}


def line_of(name: str, fit: Fit, mask: np.ndarray, tissues: dict[str, np.ndarray]) -> str:
    """Medians and quartiles per tissue, ratio and states of a fit, as a line of a table."""
    out = f"  {name:31}"
    for tissue, voxels in tissues.items():
        low, median, high = np.percentile(fit.kappa[voxels][:, -1], [25, 50, 75])
        out += f"  {tissue} {median:6.1f} ({low:.0f} to {high:.0f})"
    if fit.kappa.shape[-1] == 3:
        out += f"  B {np.percentile(fit.kappa[mask][:, 1], [10, 50, 90]).round(2)}"
    shares = np.bincount(fit.status[mask], minlength=len(STATUS_NAMES)) / mask.sum()
    states = zip(STATUS_NAMES, shares, strict=True)
    out += "  " + ", ".join(f"{state} {100 * share:.1f} %" for state, share in states if share)
    if hasattr(fit, "lambda_b") and 0 < fit.lambda_b < np.inf:
        out += f"  lambda {fit.lambda_b:.3g}"
    if name.startswith("TR"):
        out += f"  e {np.median(fit.ratio[mask]):.3f}"
    return out + f"  residual {np.sqrt(np.mean(fit.residual[mask] ** 2)):.3g}"


def brain_ir(data: Path, figures: Path | None) -> None:
    """Slice with 9 inversion times, TR 2550 ms."""
    S, tau = load(data / "brain_ir", "series.nii.gz", "tis.txt")
    mask = np.asarray(nib.load(data / "brain_ir" / "mask.nii.gz").dataobj) > 0.5
    model, tr = INVERSION_RECOVERY, 2550.0
    free = fit_voxelwise(Measurement(S, tau, model, mask=mask))
    sigma = estimate_sigma(S, free, mask, 3)
    series = Measurement(S, tau, model, sigma, mask)
    click.echo(
        f"\nbrain_ir: {mask.sum()} voxels, sigma {sigma:.3g}; T1 in ms, median and quartiles"
    )
    fits = {
        "voxel-wise": free,
        "B shared": FitOptions(share_b=True).fit(series),
        "B regularised, 500": FitOptions(lambda_b=500.0).fit(series),
        "B regularised, auto": FitOptions(lambda_b="auto").fit(series),
        "B = 2": FitOptions(fix_b=2.0).fit(series),
        "TR, e free": FitOptions(tr=tr).fit(series),
        "TR, e shared": FitOptions(share_b=True, tr=tr).fit(series),
        "TR, e regularised, auto": FitOptions(lambda_b="auto", tr=tr).fit(series),
        "TR, e = 1": FitOptions(fix_b=1.0, tr=tr).fit(series),
    }
    tissues = tissues_of(fits["B shared"], mask, RANGES_IR)
    for name, fit in fits.items():
        click.echo(line_of(name, fit, mask, tissues))
    if figures:
        _maps(figures / "brain_ir.png", fits, (0, 2000))


def brain_t1t2(data: Path, figures: Path | None) -> None:
    """Slice with a signed T1 series of 6 times and a T2 series of 6 echoes."""
    folder = data / "brain_t1t2"
    S, tau = load(folder, "t1_series.nii.gz", "tis.txt")
    mask = head_mask(S)
    free = fit_voxelwise(Measurement(S, tau, INVERSION_RECOVERY, mask=mask, signed=True))
    sigma = estimate_sigma(S, free, mask, 3)
    signed = Measurement(S, tau, INVERSION_RECOVERY, sigma, mask, signed=True)
    magnitude = Measurement(np.abs(S), tau, INVERSION_RECOVERY, sigma, mask)
    click.echo(
        f"\nbrain_t1t2: {mask.sum()} voxels, sigma {sigma:.3g}; T1 in ms, median and quartiles"
    )
    fits = {
        "signed, voxel-wise": free,
        "signed, B shared": FitOptions(share_b=True).fit(signed),
        "signed, B regularised, auto": FitOptions(lambda_b="auto").fit(signed),
        "magnitude, voxel-wise": fit_voxelwise(magnitude),
        "magnitude, B regularised, auto": FitOptions(lambda_b="auto").fit(magnitude),
    }
    tissues = tissues_of(fits["signed, B shared"], mask, RANGES_T1T2)
    for name, fit in fits.items():
        click.echo(line_of(name, fit, mask, tissues))
    if figures:
        _maps(figures / "brain_t1.png", fits, (0, 2500))
    S, tau = load(folder, "t2_series.nii.gz", "tes.txt")
    free = fit_voxelwise(Measurement(S, tau, T2_DECAY, mask=mask))
    sigma = estimate_sigma(S, free, mask, 2)
    click.echo(f"\nbrain_t1t2: sigma {sigma:.3g}; T2 in ms, median and quartiles")
    fits = {
        "gaussian": free,
        "rician": FitOptions(likelihood="rician").fit(Measurement(S, tau, T2_DECAY, sigma, mask)),
        "gaussian, first image left out": fit_voxelwise(
            Measurement(S[..., 1:], tau[1:], T2_DECAY, mask=mask)
        ),
    }
    for name, fit in fits.items():
        click.echo(line_of(name, fit, mask, tissues))
    if figures:
        _maps(figures / "brain_t2.png", fits, (0, 200))


def spheres(plate: dict, shape: tuple[int, ...]) -> np.ndarray:
    """Number of the sphere of each voxel, 1 to 14, and 0; shape of the series."""
    out = np.zeros(shape, dtype=int)
    for i, (row, column) in enumerate(plate["sphere_centres_row_col"], 1):
        x, y = round(column), round(row)
        out[x - HALF : x + HALF + 1, y - HALF : y + HALF + 1] = i
    return out


def nist(data: Path, name: str, figures: Path | None) -> None:
    """One plate: nominal, published and our values of the 14 spheres."""
    folder = data / "nist_3t"
    plate = json.loads((folder / f"{name}.json").read_text())
    S, tau = load(folder, f"{name}.nii.gz", f"{name}.txt")
    rois = spheres(plate, S.shape[:-1])
    means = np.stack([S[rois == i].mean(axis=0) for i in range(1, 15)])
    columns = (
        _t1_fits(S, tau, rois, means) if name.startswith("T1") else _t2_fits(S, tau, rois, means)
    )
    click.echo(f"\n{name}: T in ms; fits of the mean of a sphere, and medians of its voxels")
    click.echo("  sphere nominal published " + " ".join(f"{c:>16}" for c in columns))
    published = np.array(plate["published_fit_ms"])
    for i in range(14):
        values = " ".join(
            f"{v[i]:8.1f} {100 * (v[i] / published[i] - 1):+6.1f}%" for v in columns.values()
        )
        click.echo(f"  {i + 1:6} {plate['nominal_ms'][i]:7.1f} {published[i]:9.1f} {values}")
    if figures:
        model = INVERSION_RECOVERY if name.startswith("T1") else T2_DECAY
        _curves(figures / f"{name}.png", means, tau, model, plate)


def _t1_fits(
    S: np.ndarray, tau: np.ndarray, rois: np.ndarray, means: np.ndarray
) -> dict[str, np.ndarray]:
    model, mask, tr = INVERSION_RECOVERY, rois > 0, 1000.0
    free = fit_voxelwise(Measurement(S, tau, model, mask=mask))
    sigma = estimate_sigma(S, free, mask, 3)
    mean_sigma = sigma / (2 * HALF + 1)
    of_means = Measurement(means, tau, model, mean_sigma)
    shared = FitOptions(share_b=True, tr=tr).fit(of_means)
    voxels = FitOptions(share_b=True, tr=tr).fit(Measurement(S, tau, model, sigma, mask))
    click.echo(
        f"\nefficiency shared by the spheres: {shared.ratio[0]:.4f} (means), "
        f"{voxels.ratio[mask][0]:.4f} (voxels); sigma {sigma:.4g}"
    )
    single = FitOptions(tr=tr).fit(of_means)
    click.echo(f"efficiency of each sphere alone: {' '.join(f'{e:.2f}' for e in single.ratio)}")
    return {
        "mean": fit_voxelwise(Measurement(means, tau, model)).kappa[:, -1],
        "voxels": _medians(free, rois),
        "TR, mean": shared.kappa[:, -1],
        "TR, voxels": _medians(voxels, rois),
        "TR, e = 1, mean": FitOptions(fix_b=1.0, tr=tr).fit(of_means).kappa[:, -1],
    }


def _t2_fits(
    S: np.ndarray, tau: np.ndarray, rois: np.ndarray, means: np.ndarray
) -> dict[str, np.ndarray]:
    model, mask = T2_DECAY, rois > 0
    later = Measurement(S[..., 1:], tau[1:], model, mask=mask)
    free = fit_voxelwise(later)
    sigma = estimate_sigma(later.S, free, mask, 2)
    rician = FitOptions(likelihood="rician")
    return {
        "mean": fit_voxelwise(Measurement(means, tau, model)).kappa[:, -1],
        "voxels": _medians(fit_voxelwise(Measurement(S, tau, model, mask=mask)), rois),
        "from 2, mean": fit_voxelwise(Measurement(means[:, 1:], tau[1:], model)).kappa[:, -1],
        "from 2, voxels": _medians(free, rois),
        "from 2, rician": _medians(rician.fit(replace(later, sigma=sigma)), rois),
    }


def _medians(fit: Fit, rois: np.ndarray) -> np.ndarray:
    """Median T of the fitted voxels of each sphere."""
    fitted = fit.status < NO_SIGNAL
    return np.array([np.median(fit.kappa[(rois == i) & fitted][:, -1]) for i in range(1, 15)])


def _figure(rows: int, columns: int, size: tuple[float, float]):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    width, height = size
    return plt.subplots(
        rows, columns, figsize=(columns * width, rows * height), squeeze=False, tight_layout=True
    )


def _maps(path: Path, fits: dict[str, Fit], window: tuple[float, float]) -> None:
    """T, and B where there is one, of every fit."""
    has_ratio = next(iter(fits.values())).kappa.shape[-1] == 3
    figure, axes = _figure(1 + has_ratio, len(fits), (3.0, 3.2))
    for column, (name, fit) in enumerate(fits.items()):
        top = axes[0, column].imshow(fit.kappa[..., 0, -1].T, vmin=window[0], vmax=window[1])
        axes[0, column].set_title(name, fontsize=9)
        figure.colorbar(top, ax=axes[0, column], shrink=0.7)
        if has_ratio:
            low = axes[1, column].imshow(fit.kappa[..., 0, 1].T, vmin=1.0, vmax=2.5)
            figure.colorbar(low, ax=axes[1, column], shrink=0.7)
    for axis in axes.flat:
        axis.axis("off")
    figure.savefig(path, dpi=80)


def _curves(
    path: Path, means: np.ndarray, tau: np.ndarray, model: SignalModel, plate: dict
) -> None:
    """Mean samples of the spheres at which the two fits differ, with both fitted curves."""
    published = np.array(plate["published_fit_ms"])
    ours = fit_voxelwise(Measurement(means, tau, model))
    differing = np.flatnonzero(np.abs(ours.kappa[:, -1] / published - 1) > LEAST_DIFFERENCE)
    if not differing.size:
        return
    figure, axes = _figure(-(-differing.size // 4), min(4, differing.size), (3.6, 3.0))
    t = np.linspace(0, tau.max() * 1.05, 300)
    for axis, i in zip(axes.flat, differing, strict=False):
        T = published[i]
        at_published = FitOptions(bounds={model.main: (T, T * (1 + 1e-6))})
        published_fit = fit_voxelwise(Measurement(means[i], tau, model), at_published)
        axis.plot(tau, means[i], "ko", markersize=4)
        for fit, colour, name in ((ours, "C0", "ours"), (published_fit, "C3", "published")):
            kappa = fit.kappa[i] if fit is ours else fit.kappa
            residual = fit.residual[i] if fit is ours else fit.residual
            text = f"{name} {kappa[-1]:.1f} ms, residual {residual:.3g}"
            axis.plot(t, model.forward(kappa.astype(float), t), colour, label=text)
        axis.set_title(f"sphere {i + 1}, nominal {plate['nominal_ms'][i]:g} ms", fontsize=9)
        axis.legend(fontsize=7)
    for axis in axes.flat[differing.size :]:
        axis.axis("off")
    figure.savefig(path, dpi=80)


@click.command(help=__doc__)
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--figures", type=click.Path(file_okay=False, path_type=Path), help="Save pictures.")
def main(data: Path, figures: Path | None) -> None:
    """Print the tables."""
    if figures:
        figures.mkdir(parents=True, exist_ok=True)
    brain_ir(data, figures)
    brain_t1t2(data, figures)
    for name in ("T1_plate4", "T1_plate5", "T2_plate4", "T2_plate5"):
        nist(data, name, figures)


if __name__ == "__main__":
    main()
