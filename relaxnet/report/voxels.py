"""A few telling voxels of a run: their samples, their fitted curves and those of neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from relaxnet.io.nifti import load_voxels
from relaxnet.maps.reader import Run
from relaxnet.maps.status import OK
from relaxsim.models.signal_model import SignalModel

_CURVE_POINTS = 240

Index = tuple[int, int, int]


@dataclass(frozen=True)
class VoxelFit:
    """One voxel.

    Attributes
    ----------
    why : str
        What is telling about it.
    index : tuple of int
        From 0.
    values : dict of str to float
        Estimates by parameter.
    curve : array, shape (M,)
        Signal of the estimate.
    neighbours : tuple of arrays, shape (M,)
        Signals of the estimates around it in the slice, up to eight.
    data : array, shape (N,), or None
        Samples.
    residual : float, or None
        In units of sigma.
    status : str
    """

    why: str
    index: Index
    values: dict[str, float]
    curve: np.ndarray
    neighbours: tuple[np.ndarray, ...]
    data: np.ndarray | None
    residual: float | None
    status: str


def run_times(run: Run) -> np.ndarray:
    """Times of a run in ms, shape (N,), as its sidecars list them; empty if they do not."""
    for key in ("InversionTimesMs", "EchoTimesMs"):
        if isinstance(run.sidecar.get(key), list):
            return np.asarray(run.sidecar[key], np.float64)
    return np.zeros(0)


def samples(run: Run, places: Sequence[Index]) -> np.ndarray | None:
    """Samples of voxels, shape (voxels, N), as the method took them.

    None if the series is not where the sidecars say, or no longer what it was.
    """
    sources, num_images = run.sidecar.get("Sources"), len(run_times(run))
    if not isinstance(sources, list) or not sources or not places:
        return None
    try:
        values = load_voxels([str(path) for path in sources], run.shape, places)
    except (ValueError, OSError):
        return None
    if values.shape[1] < num_images:
        return None
    values = values[:, values.shape[1] - num_images :]  # without images skipped
    return np.abs(values) if "modulus" in str(run.sidecar.get("DataTakenAs")) else values


def telling_voxels(run: Run) -> list[tuple[str, Index]]:
    """Voxels to look at: typical, short and long relaxation time, and the worst residual."""
    stem = next(iter(run.maps))
    name, T = run.maps[stem].title, run.maps[stem].values
    status = run.status
    estimated = run.shown(stem) & (T > 0)
    sound = estimated if status is None else estimated & (status == OK)
    sound = sound if sound.any() else estimated
    if not sound.any():
        return []
    chosen: list[tuple[str, Index]] = []
    for why, share in (("median", 0.5), ("5th percentile of", 0.05), ("95th percentile of", 0.95)):
        target = float(np.quantile(T[sound], share))
        distance = np.where(sound, np.abs(T - target), np.inf)
        chosen.append((f"{why} {name}", _place(int(np.argmin(distance)), run.shape)))
    if "residual" in run.maps:
        residual = np.where(estimated, np.nan_to_num(run.maps["residual"].values), -1.0)
        chosen.append(("largest residual", _place(int(np.argmax(residual)), run.shape)))
    unique: dict[Index, str] = {}
    for why, index in chosen:
        unique[index] = f"{unique[index]}, {why}" if index in unique else why
    return [(why, index) for index, why in unique.items()]


def voxel_fits(run: Run) -> tuple[np.ndarray, list[VoxelFit]]:
    """Telling voxels with their curves.

    Returns
    -------
    times : array, shape (M,)
        Of the curves, in ms.
    fits : list of VoxelFit
        Empty if the sidecars name no known signal model or no times.
    """
    model, tau = run.model, run_times(run)
    if model is None or not tau.size or any(s not in run.maps for s in _stems(model)):
        return np.zeros(0), []
    times = np.linspace(0.0, float(tau.max()) * 1.05, _CURVE_POINTS)
    voxels = telling_voxels(run)
    found = samples(run, [index for _, index in voxels])
    data = [None] * len(voxels) if found is None else list(found)
    fits = [_fit(run, model, times, *v, d) for v, d in zip(voxels, data, strict=True)]
    return times, fits


def _fit(
    run: Run,
    model: SignalModel,
    times: np.ndarray,
    why: str,
    index: Index,
    data: np.ndarray | None,
) -> VoxelFit:
    signed = run.sidecar.get("DataTakenAs") == "signed"
    kappa, *around = (_kappa(run, model, place) for place in (index, *_around(run, index)))
    residual, status = run.maps.get("residual"), run.status
    return VoxelFit(
        why=why,
        index=index,
        values={
            stem.removesuffix("map"): float(found.values[index])
            for stem, found in run.maps.items()
            if stem.endswith("map")
        },
        curve=_signal(kappa, times, model, signed),
        neighbours=tuple(_signal(k, times, model, signed) for k in around if k[-1] > 0),
        data=None if data is None else data.astype(np.float64),
        residual=None if residual is None else float(residual.values[index]),
        status="" if status is None else run.legend.get(int(status[index]), ""),
    )


def _stems(model: SignalModel) -> list[str]:
    return ["M0map" if p == "A" else f"{p}map" for p in model.parameters]


def _kappa(run: Run, model: SignalModel, index: Index) -> np.ndarray:
    """Estimate (Q,) of the model of the samples in a voxel."""
    kappa = np.array([run.maps[stem].values[index] for stem in _stems(model)], np.float64)
    if str(run.sidecar.get("T1Correction", "")).startswith("Look-Locker"):
        B = kappa[model.parameters.index("B")]
        kappa[-1] /= B - 1 if B > 1 else 1.0  # the samples follow T1* = T1 / (B - 1)
    return kappa


def _signal(kappa: np.ndarray, times: np.ndarray, model: SignalModel, signed: bool) -> np.ndarray:
    return np.asarray(model.signed(kappa, times, np) if signed else model.forward(kappa, times))


def _around(run: Run, index: Index) -> list[Index]:
    """The eight neighbours in the slice that have an estimate."""
    shown = run.shown(next(iter(run.maps)))
    first, second = (a for a in range(3) if a != run.slice_axis)
    found = []
    for da, db in np.ndindex(3, 3):
        place = list(index)
        place[first] += da - 1
        place[second] += db - 1
        inside = all(0 <= p < n for p, n in zip(place, run.shape, strict=True))
        key: Index = (place[0], place[1], place[2])
        if key != index and inside and shown[key]:
            found.append(key)
    return found


def _place(flat: int, shape: tuple[int, int, int]) -> Index:
    i, j, k = (int(n) for n in np.unravel_index(flat, shape))
    return i, j, k
