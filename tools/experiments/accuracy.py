"""Table of accuracy: bias, CV and RMSE per tissue over draws of kappa on brains not trained on.

Every draw of kappa has a slice, and every slice several draws of noise at each SNR. Results are
kept in cells (`cells`), which the noise experiment shares. CSF, GM and WM are the voxels of one
tissue, brain is the whole mask. Medians and quartiles are over the voxels of all draws; the errors
of the medians follow from their scatter over draws. Methods get the true sigma. Noise is Gaussian,
as in the paper, or Rician, as in magnitude images.

The slope is that of the mean estimate on the truth inside a tissue, where the truth varies by 3 %;
beside it stands the Bayes-optimal slope (`bounds.bayes_slopes`). The bounds are those of unbiased
voxel-wise estimators.

Example:
    python tools/experiments/accuracy.py --protocol cine31 \
        --brains subject45_crisp_v.mnc.gz --brains subject46_crisp_v.mnc.gz
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from accuracy_text import markdown
from bounds import bayes_slopes, relative_bounds
from cells import Cell, load_moments, run_cells
from experiment_command import Experiment, experiment_command
from figures import write_rows
from methods import Method, methods_for
from slices import Scene, make_scene

from relaxnet.evaluation.metrics import TISSUES, Moments, summarise
from relaxsim.phantoms.phantoms import Phantom

SNRS = (3.0, 5.0, 10.0, 30.0, 60.0, 100.0)
#: Columns that identify a row.
KEYS = ("b_field", "snr", "method", "parameter", "tissue")
#: A voxel counts for a tissue if this share of it is that tissue.
PURE = 0.999
METRICS = ("bias", "cv", "rmse")


@dataclass(frozen=True)
class Voxels:
    """Truth of the mask's voxels of one slice: labels (M,), pure (M,), kappa (M, Q)."""

    labels: np.ndarray
    pure: np.ndarray
    kappa: np.ndarray

    def of(self, tissue: str) -> np.ndarray:
        """Voxels of a tissue that count, shape (M,)."""
        if tissue == "brain":
            return np.ones(len(self.labels), bool)
        return np.isin(self.labels, TISSUES[tissue]) & self.pure


def voxels_of(phantom: Phantom) -> Voxels:
    """Truth of a slice."""
    inside = phantom.mask
    kappa = phantom.kappa[inside].astype(np.float64)
    return Voxels(phantom.labels[inside], phantom.purity[inside] > PURE, kappa)


def method_rows(
    head: dict[str, Any],
    scene: Scene,
    voxels: Sequence[Voxels],
    moments: Sequence[Moments],
    optimal: dict[tuple[str, str], float],
) -> Iterator[dict[str, Any]]:
    """Rows of one method at one SNR, one for each parameter and tissue."""
    for q, parameter in enumerate(scene.model.parameters):
        for tissue in TISSUES:
            keeps = [v.of(tissue) for v in voxels]
            if not any(keep.any() for keep in keeps):
                continue
            columns = dict(head, parameter=parameter, tissue=tissue)
            for metric in METRICS:
                columns |= _summary(
                    metric,
                    [getattr(m, metric)[k, q] for m, k in zip(moments, keeps, strict=True)],
                )
            square = np.concatenate(
                [m.rmse[k, q] for m, k in zip(moments, keeps, strict=True)]
            ).astype(np.float64)
            columns["pooled_rmse"] = float(np.sqrt(np.mean(square**2)))
            far = [m.outliers[k, q] / m.count for m, k in zip(moments, keeps, strict=True)]
            columns["outliers"] = float(100 * np.mean(np.concatenate(far)))
            varies = tissue != "brain" and q != scene.model.shared_index
            slopes = [
                _slope(v.kappa[k, q], m.mean[k, q])
                for v, m, k in zip(voxels, moments, keeps, strict=True)
                if varies
            ]
            columns |= _slopes(slopes, optimal.get((parameter, tissue)))
            columns["voxels"] = int(sum(keep.sum() for keep in keeps))
            yield columns


def bound_rows(
    head: dict[str, Any], scene: Scene, voxels: Sequence[Voxels], sigma: float
) -> Iterator[dict[str, Any]]:
    """Rows of the bounds at one SNR, in the columns of CV and RMSE."""
    facts = scene.protocol.tau, sigma, scene.model, scene.noise_kind
    all_bounds = [relative_bounds(v.kappa, *facts) for v in voxels]
    for name in all_bounds[0]:
        for q, parameter in enumerate(scene.model.parameters):
            if q == scene.model.shared_index and "known" in name:
                continue
            for tissue in TISSUES:
                values = [
                    100 * b[name][v.of(tissue), q] for b, v in zip(all_bounds, voxels, strict=True)
                ]
                columns = dict(head, method=name, parameter=parameter, tissue=tissue)
                columns |= _summary("bias", [np.zeros_like(v) for v in values])
                columns |= _summary("cv", values) | _summary("rmse", values)
                columns |= {"pooled_rmse": float("nan"), "outliers": float("nan")}
                columns |= _slopes([], None) | {"voxels": sum(len(v) for v in values)}
                yield columns


def optimal_slopes(
    scene: Scene, voxels: Sequence[Voxels], sigma: float
) -> dict[tuple[str, str], float]:
    """Mean Bayes-optimal slope of each parameter and tissue."""
    found = {}
    for tissue in ("CSF", "GM", "WM"):
        kappa = np.concatenate([v.kappa[v.of(tissue)] for v in voxels])
        facts = scene.protocol.tau, sigma, scene.model, scene.spread, scene.noise_kind
        slopes = bayes_slopes(kappa, *facts)
        for q, parameter in enumerate(scene.model.parameters):
            found[parameter, tissue] = float(slopes[:, q].mean()) if len(kappa) else float("nan")
    return found


def _summary(metric: str, values: Sequence[np.ndarray]) -> dict[str, float]:
    draws = np.repeat(np.arange(len(values)), [len(v) for v in values])
    together = np.concatenate(values)
    finite = np.isfinite(together)
    summary = summarise(together[finite], draws[finite])
    return {
        metric: summary.median,
        f"{metric}_lower": summary.lower,
        f"{metric}_upper": summary.upper,
        f"{metric}_error": summary.error,
    }


def _slope(truth: np.ndarray, mean_error: np.ndarray) -> float:
    """Slope of the mean estimate on the truth; NaN for few voxels or a constant truth."""
    if len(truth) < 10 or np.ptp(truth) == 0:
        return float("nan")
    estimate = truth * (1 + mean_error)
    return float(np.cov(estimate, truth)[0, 1] / truth.var(ddof=1))


def _slopes(slopes: Sequence[float], optimal: float | None) -> dict[str, float]:
    known = np.array([slope for slope in slopes if np.isfinite(slope)])
    error = float(known.std(ddof=1) / np.sqrt(len(known))) if len(known) > 1 else float("nan")
    return {
        "slope": float(known.mean()) if len(known) else float("nan"),
        "slope_error": error,
        "slope_optimal": float("nan") if optimal is None else optimal,
    }


def table(
    scene: Scene,
    methods: Sequence[Method],
    snrs: Sequence[float],
    b_fields: Sequence[str],
    draws: Sequence[int],
    cache: Path,
) -> list[dict[str, Any]]:
    """All rows of the table, from cells that have been run."""
    rows: list[dict[str, Any]] = []
    for b_field in b_fields:
        voxels = [voxels_of(scene.slice(draw, b_field)) for draw in draws]
        for snr in snrs:
            head = {"protocol": scene.protocol.name, "b_field": b_field, "snr": snr}
            sigma = Cell(methods[0], scene, 0, b_field, snr).sigma
            optimal = optimal_slopes(scene, voxels, sigma)
            common = {"draws": len(draws)}
            for method in methods:
                cells = [Cell(method, scene, draw, b_field, snr) for draw in draws]
                moments = [_finished(cell.path(cache)) for cell in cells]
                counts = {**common, "repeats": min(m.count for m in moments)}
                named = {**head, "method": method.name, **counts}
                rows += method_rows(named, scene, voxels, moments, optimal)
            named = {**head, "method": "", **common, "repeats": 0}
            rows += bound_rows(named, scene, voxels, sigma)
    return rows


def _finished(path: Path) -> Moments:
    moments = load_moments(path)
    if moments is None:
        raise ValueError(f"{path} is missing or damaged; run the command again.")
    return moments


@experiment_command(__doc__)
@click.option("--protocol", default="cine31", help="cine23, cine25, cine31 or fse6.")
@click.option("--snr", "snrs", multiple=True, type=float, help="Default: 3 5 10 30 60 100.")
@click.option("--b-field", "b_fields", multiple=True, type=click.Choice(["patch", "smooth"]))
@click.option("--noise", default="gaussian", type=click.Choice(["gaussian", "rician"]))
@click.option("--draws", default=12, type=click.IntRange(1), show_default=True, help="Of kappa.")
@click.option("--repeats", default=10, type=click.IntRange(2), show_default=True, help="Of noise.")
def main(
    run: Experiment,
    protocol: str,
    snrs: tuple[float, ...],
    b_fields: tuple[str, ...],
    noise: str,
    draws: int,
    repeats: int,
) -> None:
    """Run the cells that are missing, then write the table."""
    scene = replace(make_scene(run.brains, protocol, run.seed, run.quick), noise_kind=noise)
    methods = methods_for(protocol, scene.model, run.files, run.only)
    if not methods:
        raise ValueError("no method is left to evaluate.")
    if run.quick:
        draws, repeats = min(draws, 2), min(repeats, 2)
        snrs, b_fields = snrs or (10.0,), b_fields or ("smooth",)
    snrs = snrs or SNRS
    fields = scene.b_fields(b_fields or ("patch", "smooth"))
    for _ in run_cells(scene, methods, snrs, fields, range(draws), repeats, run.cache):
        pass
    rows = table(scene, methods, snrs, fields, range(draws), run.cache)
    stem = f"accuracy_{protocol}{'_rician' * (noise == 'rician')}"
    rows = run.with_kept(stem, rows, KEYS)
    write_rows(run.path(stem, ".csv"), rows)
    page = run.path(stem, ".md")
    page.write_text(markdown(rows, scene.model), encoding="utf-8")
    click.echo(f"table: {page}")


if __name__ == "__main__":
    main()
