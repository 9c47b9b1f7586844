"""Experiment: echo trains; what a wrong slice profile costs, and real trains by two models.

Simulated trains have 32 echoes, 10 ms apart, at 180 degrees and SNR 100; T2 20 to 300 ms and B1 0.6
to 1.0. Real ones are mapped by the mono-exponential fit and by that of ``mese`` with each named
profile; on the T2 plates of a phantom the sphere medians are compared with its nominal values and
with the mono-exponential fit without the first echo.

Example:
    python tools/experiments/echo_trains.py --data data
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
from figures import save_figure, subplots, write_rows
from kept import Rows
from real_data import SPHERES, Plate, load_plates
from text_tables import table, write_markdown

from relaxnet.fitting.inputs import Measurement
from relaxnet.fitting.options import FitOptions
from relaxnet.io.inputs import load_series
from relaxnet.maps.maps import Maps
from relaxnet.maps.status import OK, POOR_FIT
from relaxnet.prediction.arrays import predict
from relaxsim.models.echo_table import echo_table
from relaxsim.models.phase_graph import Train
from relaxsim.models.registry import model_of
from relaxsim.models.slice_profiles import NAMES
from relaxsim.simulation.noise import add_noise

MESE, T2 = model_of("mese"), model_of("t2")
#: Real trains below the folder of data.
SERIES = ("nist_3t/T2_plate4", "nist_3t/T2_plate5", "lemon_msme31", "mooc_mwf32", "legs17")
#: Range of T2 of the spheres that count, ms.
COUNTED = (20.0, 600.0)
VOXELS, SNR = 4000, 100.0
WRONG = {
    "true": ("profile of the scan", ""),
    "assumed": ("profile of the fit", ""),
    "b1": ("B1", ".1f"),
    "bias": ("bias of T2 (%)", "+.1f"),
    "spread": ("spread (%)", ".1f"),
    "b1_bias": ("bias of B1", "+.2f"),
}
REAL = {
    "series": ("series", ""),
    "model": ("model", ""),
    "ok": ("ok (%)", ".1f"),
    "poor": ("poor fit (%)", ".1f"),
    "T2": ("median T2 (ms)", ".1f"),
    "B1": ("median B1", ".2f"),
    "nominal": ("spheres against the phantom's nominal T2 (%)", ""),
    "skip_first": ("against the mono-exponential fit without the first echo (%)", ""),
}


def train(times: np.ndarray, profile: str) -> np.ndarray:
    """Protocol of a train at 180 degrees, (N, 5)."""
    others = [180.0, 90.0, 1000.0, float(NAMES.index(profile))]
    return np.column_stack([times, np.tile(others, (len(times), 1))])


def wrong_profiles(voxels: int) -> Rows:
    """Bias and spread of T2 and B1 for each profile of the scan and of the fit."""
    times = 10.0 * np.arange(1, 33)
    rows: Rows = []
    for true in NAMES:
        for b1 in (0.6, 0.8, 1.0):
            rng = np.random.default_rng(1)
            value = np.exp(rng.uniform(np.log(20.0), np.log(300.0), voxels))
            kappa = np.stack([np.ones(voxels), np.full(voxels, b1), value], axis=-1)
            S = MESE.forward(kappa, train(times, true))
            S = add_noise(S, float(S.max()) / SNR, rng, "rician")
            for assumed in NAMES:
                fit = FitOptions().fit(Measurement(S, train(times, assumed), MESE))
                ratio = 100 * (fit.kappa[:, 2] / value - 1)
                low, middle, high = np.percentile(ratio, [16, 50, 84])
                rows.append(
                    {
                        "true": true,
                        "assumed": assumed,
                        "b1": b1,
                        "bias": middle,
                        "spread": 0.5 * (high - low),
                        "b1_bias": float(np.median(fit.kappa[:, 1])) - b1,
                    }
                )
    return rows


def real_trains(data: Path) -> Iterator[dict]:
    """A row for each series and model: status, medians, and spheres of a plate."""
    plates = {plate.name: plate for plate in load_plates(data)}
    for name in SERIES:
        path = data / f"{name}.nii.gz"
        path = path if path.is_file() else data / name / "series.nii.gz"
        times = path.with_name(path.name.replace(".nii.gz", ".txt"))
        times = times if times.is_file() else path.with_name("times.txt")
        S, tau = load_series([path]).data, np.loadtxt(times).ravel()
        plate = plates.get(path.name.removesuffix(".nii.gz"))
        for model in ("t2", *NAMES):
            if model == "t2":
                maps = predict(S, tau, T2, "mle", mask="auto")
            else:
                maps = predict(S, train(tau, model), MESE, "mle", mask="auto")
            inside = maps.main > 0
            yield {
                "series": name,
                "model": "mono-exponential" if model == "t2" else f"mese, {model}",
                "ok": 100 * float((maps.status == OK)[inside].mean()),
                "poor": 100 * float((maps.status == POOR_FIT)[inside].mean()),
                "T2": float(np.median(maps.main[inside])),
                "B1": float("nan") if model == "t2" else float(np.median(maps["B1"][inside])),
                **_spheres(plate, maps),
            }


def _spheres(plate: Plate | None, maps: Maps) -> dict[str, str]:
    """Differences of sphere medians from the nominal values and the fit without the first echo."""
    if plate is None:
        return {"nominal": "", "skip_first": ""}
    each = [plate.spheres == i for i in range(1, SPHERES + 1)]
    means = np.stack([plate.S[sphere].mean(axis=0)[1:] for sphere in each])
    later = FitOptions().fit(Measurement(means, plate.tau[1:], T2)).kappa[:, -1]
    found = np.array([np.median(maps.main[sphere]) for sphere in each])
    counted = (plate.nominal > COUNTED[0]) & (plate.nominal < COUNTED[1])
    texts = []
    for reference in (plate.nominal, later):
        off = 100 * (found / reference - 1)[counted]
        texts.append(f"{off.min():+.1f} to {off.max():+.1f} (mean {np.abs(off).mean():.1f})")
    return {"nominal": texts[0], "skip_first": texts[1]}


def draw(path: Path) -> None:
    """Echoes of T2 80 ms for some B1, and how the profile changes them."""
    times, colours = 10.0 * np.arange(1, 17), ("#1b6ca8", "#c8553d", "#588157")
    figure, axes = subplots(1, 2, 7.2, 2.9)
    cases = [
        [("none", b1, f"B1 {b1:g}") for b1 in (1.0, 0.8, 0.6)],
        [(name, 0.9, f"profile {name}") for name in NAMES],
    ]
    titles = ("one angle across the slice", "B1 0.9")
    for axis, lines, title in zip(axes.ravel(), cases, titles, strict=True):
        axis.plot(
            times, np.exp((times[0] - times) / 80.0), color="0.6", ls="--", label="exp(-TE / T2)"
        )
        for (profile, b1, label), colour in zip(lines, colours, strict=True):
            numbers = tuple(range(1, len(times) + 1))
            echoes = echo_table(Train(10.0, numbers, 180.0, 90.0, 1000.0, profile))
            signal = echoes.at(np.array([80.0]), np.array([b1]))[0, 0]
            axis.plot(times, signal / signal.max(), "o-", ms=3, color=colour, label=label)
        axis.set(title=title, xlabel="echo time (ms)", ylabel="signal", yscale="log")
        axis.legend(frameon=False, fontsize=7)
    save_figure(figure, path)


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), help="Folder of series.")
@click.option("--out", default="docs/results", type=click.Path(path_type=Path))
@click.option("--quick", is_flag=True, help="Few voxels, no real series.")
def main(data: Path | None, out: Path, quick: bool) -> None:
    """Cost of wrong profiles, real trains, and a figure of the echoes."""
    out.mkdir(parents=True, exist_ok=True)
    rows = wrong_profiles(200 if quick else VOXELS)
    write_rows(out / "echo_trains_profiles.csv", rows)
    parts = [("What a wrong slice profile costs", table(rows, WRONG))]
    if data is not None and not quick:
        found = list(real_trains(data))
        write_rows(out / "echo_trains_real.csv", found)
        parts.append(("Real trains", table(found, REAL)))
    write_markdown(out / "echo_trains.md", "Echo trains", parts)
    draw(out / "echo_trains.png")


if __name__ == "__main__":
    main()
