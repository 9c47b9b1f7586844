"""A few example voxels of a run: their samples, their fitted curves and those of neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from relaxnet.io.nifti import load_voxels
from relaxnet.maps.reader import Run
from relaxnet.maps.status import OK
from relaxnet.report.facts import Facts, facts_of, main_stem, parameter_stems, unit_factor
from relaxsim.models.signal_model import SignalModel

#: Points of a curve.
_CURVE_POINTS = 240
#: Curves run beyond the largest sample by this factor.
_BEYOND = 1.05
#: Curves of a voxel at most, one for each combination of the protocol's further columns.
_MOST_CURVES = 5

Index = tuple[int, int, int]


@dataclass(frozen=True)
class VoxelFit:
    """One voxel.

    Attributes
    ----------
    reason : str
        Why it is shown.
    index : tuple of int
        From 0.
    values : dict of str to float
        Estimates by parameter.
    at : array, shape (N,)
        First column of the protocol, at which the samples lie.
    grid : array, shape (M,)
        First column of the protocol at the curves' points.
    curves : tuple of arrays, shape (M,)
        Signals of the estimate, one for each of `settings`.
    settings : tuple of str
        Values of the protocol's further columns in words; one empty text where there are none.
    neighbours : tuple of arrays, shape (M,)
        Signals of the estimates around it in the slice, up to eight; none of several curves.
    data : array, shape (N,), or None
        Samples.
    residual : float, or None
        In units of sigma.
    status : str
    """

    reason: str
    index: Index
    values: dict[str, float]
    at: np.ndarray
    grid: np.ndarray
    curves: tuple[np.ndarray, ...]
    settings: tuple[str, ...]
    neighbours: tuple[np.ndarray, ...]
    data: np.ndarray | None
    residual: float | None
    status: str


def samples(run: Run, places: Sequence[Index]) -> np.ndarray | None:
    """Samples of voxels, shape (voxels, N), as the method took them.

    None if the series is not where the sidecars say, or no longer what it was.
    """
    facts, sources = facts_of(run), run.sidecar.get("Sources")
    if facts.protocol is None or not isinstance(sources, list) or not sources or not places:
        return None
    values = _loaded([str(path) for path in sources], run, places)
    num_images = facts.protocol.shape[-2]
    if values is None or values.shape[1] < num_images:
        return None
    scaling = run.sidecar.get("ImageScaling")
    if isinstance(scaling, list) and len(scaling) == values.shape[1]:
        values = values * np.asarray(scaling, np.float32)
    values = values[:, values.shape[1] - num_images :]  # without images skipped
    return np.abs(values) if facts.data.modulus else values


def example_voxels(run: Run) -> list[tuple[str, Index]]:
    """Voxels to look at, and why: at the median and two percentiles, and the worst residual."""
    stem = main_stem(run)
    name, values = run.maps[stem].title, run.maps[stem].values
    status = run.status
    estimated = run.shown(stem) & (values > 0)
    sound = estimated if status is None else estimated & (status == OK)
    sound = sound if sound.any() else estimated
    if not sound.any():
        return []
    chosen: list[tuple[str, Index]] = []
    for words, share in (
        ("median", 0.5),
        ("5th percentile of", 0.05),
        ("95th percentile of", 0.95),
    ):
        target = float(np.quantile(values[sound], share))
        distance = np.where(sound, np.abs(values - target), np.inf)
        chosen.append((f"{words} {name}", _place(int(np.argmin(distance)), run.shape)))
    if "residual" in run.maps:
        residual = np.where(estimated, np.nan_to_num(run.maps["residual"].values), -1.0)
        chosen.append(("largest residual", _place(int(np.argmax(residual)), run.shape)))
    unique: dict[Index, str] = {}
    for reason, index in chosen:
        unique[index] = f"{unique[index]}, {reason}" if index in unique else reason
    return [(reason, index) for index, reason in unique.items()]


def voxel_fits(run: Run) -> list[VoxelFit]:
    """Example voxels with their curves.

    Returns
    -------
    fits : list of VoxelFit
        Empty if the sidecars name no known signal model or no protocol, a parameter has no map, or
        the file of a known map cannot be read.
    """
    model, facts = run.model, facts_of(run)
    if (
        model is None
        or facts.protocol is None
        or any(s not in run.maps for s in _stems(run, model))
    ):
        return []
    voxels = example_voxels(run)
    places = [index for _, index in voxels]
    found = samples(run, places)
    data = [None] * len(voxels) if found is None else list(found)
    shown = [*places, *(neighbour for place in places for neighbour in _around(run, place))]
    known = _known(run, model, facts, shown)
    if known is None:
        return []
    signal = _Signal(run, model, facts, _is_signed(facts, found), known)
    return [signal.fit(*voxel, d) for voxel, d in zip(voxels, data, strict=True)]


@dataclass(frozen=True)
class _Signal:
    """Signals of a run's estimates.

    Attributes
    ----------
    run : Run
    model : SignalModel
    facts : Facts
    signed : bool
        Curves are those before the modulus.
    known : dict of Index to array, shape (K,)
        Known maps in the example voxels and their neighbours.
    """

    run: Run
    model: SignalModel
    facts: Facts
    signed: bool
    known: dict[Index, np.ndarray]

    def fit(self, reason: str, index: Index, data: np.ndarray | None) -> VoxelFit:
        """One example voxel."""
        run = self.run
        table = _table_of(run, self.facts, index)
        grid = np.linspace(0.0, float(table[:, 0].max()) * _BEYOND, _CURVE_POINTS)
        if self.model.tabulated is not None:  # no signal between the echoes of a train
            grid = np.sort(table[:, 0])
        others = _combinations(table)
        protocols = [_with_first(grid, row) for row in others]
        around = _around(run, index) if len(others) == 1 else []
        residual, status = run.maps.get("residual"), run.status
        return VoxelFit(
            reason=reason,
            index=index,
            values={
                run.maps[stem].title: float(run.maps[stem].values[index])
                for stem in parameter_stems(run)
            },
            at=table[:, 0],
            grid=grid,
            curves=tuple(self.curve(index, protocol) for protocol in protocols),
            settings=tuple(_setting(self.model, row) for row in others),
            neighbours=tuple(
                self.curve(place, protocols[0]) for place in around if self.kappa(place)[-1] > 0
            ),
            data=None if data is None else data.astype(np.float64),
            residual=None if residual is None else float(residual.values[index]),
            status="" if status is None else run.legend.get(int(status[index]), ""),
        )

    def kappa(self, index: Index) -> np.ndarray:
        """Parameters (Q,) of the signal model in a voxel."""
        return np.array(
            [
                self.run.maps[stem].values[index] / unit_factor(self.run, stem)
                for stem in _stems(self.run, self.model)
            ],
            np.float64,
        )

    def curve(self, index: Index, protocol: np.ndarray) -> np.ndarray:
        """Signal (M,) of a voxel's estimate."""
        signal = self.model.signed if self.signed else self.model.forward
        return np.asarray(signal(self.kappa(index), protocol, known=self.known[index]))


def _is_signed(facts: Facts, found: np.ndarray | None) -> bool:
    """Whether curves have a sign; where the sidecars do not say, those of negative samples have."""
    if facts.data.signed is not None:
        return facts.data.signed
    return found is not None and bool((found < 0).any())


def _known(
    run: Run, model: SignalModel, facts: Facts, places: Sequence[Index]
) -> dict[Index, np.ndarray] | None:
    """Known maps (K,) in some voxels; their default values where no file is named.

    None if a file cannot be read.
    """
    columns = []
    for known in model.known_maps:
        file = facts.known.get(known.name, "")
        values = _loaded([file], run, places) if file else np.full((len(places), 1), known.default)
        if values is None:
            return None
        columns.append(values[:, 0].astype(np.float64))
    table = np.stack(columns, axis=-1) if columns else np.zeros((len(places), 0))
    return dict(zip(places, table, strict=True))


def _loaded(paths: Sequence[str], run: Run, places: Sequence[Index]) -> np.ndarray | None:
    """Values of voxels in files, (voxels, images); None without files on the grid of the run."""
    try:
        return load_voxels(paths, run.shape, places)
    except (ValueError, OSError):
        return None


def _stems(run: Run, model: SignalModel) -> list[str]:
    """Stems of the maps of kappa.

    A fit with a repetition time has a map of M0 and one of A, of which kappa holds A: a map that is
    named after the parameter goes before that of the border's stem.
    """
    parameters = zip(model.parameters, model.border.maps, strict=True)
    return [
        f"{name}map" if f"{name}map" in run.maps else f"{border.stem}map"
        for name, border in parameters
    ]


def _table_of(run: Run, facts: Facts, index: Index) -> np.ndarray:
    """Protocol (N, D) of a voxel's slice."""
    table = facts.protocol
    assert table is not None
    return table if table.ndim == 2 else table[min(index[run.slice_axis], len(table) - 1)]


def _combinations(table: np.ndarray) -> np.ndarray:
    """Values of the columns but the first, (C, D - 1): each that occurs, or some spread evenly."""
    rows = np.unique(table[:, 1:], axis=0) if table.shape[1] > 1 else np.zeros((1, 0))
    if len(rows) <= _MOST_CURVES:
        return rows
    return rows[np.linspace(0, len(rows) - 1, _MOST_CURVES).round().astype(int)]


def _with_first(grid: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Protocol (M, D) along the first column."""
    return np.column_stack([grid, np.broadcast_to(others, (len(grid), len(others)))])


def _setting(model: SignalModel, values: np.ndarray) -> str:
    """Values of the columns but the first in words, such as ``TR 600 ms``."""
    columns = zip(model.border.columns[1:], model.columns[1:], values, strict=True)
    return ", ".join(
        f"{border.symbol} {border.text(value)} {column.unit}".rstrip()
        for border, column, value in columns
    )


def _around(run: Run, index: Index) -> list[Index]:
    """The eight neighbours in the slice that have an estimate."""
    shown = run.shown(main_stem(run))
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
