"""The maps of a run as they lie in its folder, read for pictures and reports."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from relaxnet.io.nifti import Series, axis_codes, by, load_map
from relaxnet.maps.status import LEGEND, OUTSIDE, WITHOUT_ESTIMATE
from relaxsim.models.registry import MODELS
from relaxsim.models.signal_model import SignalModel

_ENDING = ".nii.gz"
#: Names of maps, with or without BIDS entities before them.
_NAME = re.compile(
    r"(?P<entities>(?:[a-z]+-[A-Za-z0-9]+_)+)?"
    r"(?P<stem>[A-Za-z][A-Za-z0-9]*(?:map|std)|residual|status)\.nii\.gz$"
)
_UNITS = {"T1": "ms", "T2": "ms", "B": "1"}
#: Factor from one unit of time to another.
_FACTORS = {("s", "ms"): 1000.0, ("ms", "s"): 0.001}


@dataclass(frozen=True)
class RunMap:
    """One map of a run.

    Attributes
    ----------
    stem : str
        File name without ending, such as ``T1map``, ``T1std``, ``residual``, ``status``.
    values : array, shape (X, Y, Z), float32
    unit : str
    """

    stem: str
    values: np.ndarray
    unit: str

    @property
    def title(self) -> str:
        """Name in words, without the unit."""
        if self.stem.endswith("std"):
            return f"{self.stem.removesuffix('std')} std"
        return self.stem.removesuffix("map")


@dataclass(frozen=True)
class Run:
    """A folder of maps.

    Attributes
    ----------
    folder : pathlib.Path
    series : str
        BIDS entities that the maps' names have in common; empty for maps of ``relaxnet predict``.
    maps : dict of str to RunMap
        By stem: parameters (the relaxation time first), standard deviations, residual, status.
    sidecar : dict
        What the sidecars of all maps say; empty without sidecars.
    legend : dict of int to str
        Words of the status codes.
    slice_axis : int
        Axis across the acquisition plane.
    codes : tuple of str, or None
        Where the axes point (``R``, ``A``, ``S`` and their opposites).
    zooms : tuple of float
        Voxel size in mm.
    """

    folder: Path
    series: str
    maps: dict[str, RunMap]
    sidecar: dict[str, Any]
    legend: dict[int, str]
    slice_axis: int
    codes: tuple[str, str, str] | None
    zooms: tuple[float, float, float]

    @property
    def model(self) -> SignalModel | None:
        """Signal model that the sidecars name; None if they name none that is known."""
        return MODELS.get(str(self.sidecar.get("SignalModel")))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of a map."""
        shape = next(iter(self.maps.values())).values.shape
        return (shape[0], shape[1], shape[2])

    @property
    def status(self) -> np.ndarray | None:
        """Status codes, shape (X, Y, Z), uint8; None if there is no such map."""
        if "status" not in self.maps:
            return None
        return np.nan_to_num(self.maps["status"].values).clip(0, 255).astype(np.uint8)

    @property
    def mask(self) -> np.ndarray:
        """Voxels that were asked for, shape (X, Y, Z); without a status those not 0."""
        if (status := self.status) is not None:
            return status != OUTSIDE
        values = next(iter(self.maps.values())).values
        return np.isfinite(values) & (values != 0)

    def shown(self, stem: str) -> np.ndarray:
        """Where a map says something, shape (X, Y, Z)."""
        values = self.maps[stem].values
        if stem == "status":
            return self.mask
        if (status := self.status) is None:
            return np.isfinite(values) & (values != 0)
        return np.isfinite(values) & ~np.isin(status, WITHOUT_ESTIMATE)


def read_run(folder: str | Path) -> Run:
    """Read the maps of a run.

    Parameters
    ----------
    folder : path
        That `relaxnet predict` wrote, or one of `relaxnet bids` with a single series; of several
        series one map's file tells which. Other maps are taken if they are named alike.

    Returns
    -------
    Run

    Raises
    ------
    ValueError
        If there is no map, one is damaged, they differ in shape, or belong to several series.
    """
    folder = Path(folder)
    files = _files(folder)
    folder = folder if folder.is_dir() else folder.parent
    parameters = sorted((s for s in files if s.endswith("map")), key=_rank)
    deviations = sorted((s for s in files if s.endswith("std")), key=_rank)
    others = [s for s in ("residual", "status") if s in files]
    images = {s: _load(files[s]) for s in (*parameters, *deviations, *others)}
    first = images[parameters[0]]
    for stem, image in images.items():
        if image.shape != first.shape:
            raise ValueError(
                f"{folder}: {stem} has shape {by(image.shape)}, {parameters[0]} "
                f"{by(first.shape)}; maps of a run share one grid."
            )
    cards = {stem: _card(_beside(files[stem])) for stem in images}
    maps = {
        stem: RunMap(stem, image.data, str(cards[stem].get("Units", _unit(stem))))
        for stem, image in images.items()
    }
    return Run(
        folder=folder,
        series="_".join(_without_desc(files[parameters[0]].name.split("_")[:-1])),
        maps=maps,
        sidecar=cards[parameters[0]],
        legend=_legend(cards.get("status", {})),
        slice_axis=first.slice_axis,
        codes=axis_codes(first),
        zooms=_zooms(first),
    )


def in_one_unit(runs: Sequence[Run]) -> list[Run]:
    """Runs with the times of each map in the unit of the first run that has it.

    ``predict`` writes ms, ``bids`` s.
    """
    units: dict[str, str] = {}
    for run in runs:
        for stem, own in run.maps.items():
            units.setdefault(stem, own.unit)
    return [
        replace(run, maps={stem: _in_unit(own, units[stem]) for stem, own in run.maps.items()})
        for run in runs
    ]


def _in_unit(own: RunMap, unit: str) -> RunMap:
    factor = _FACTORS.get((own.unit, unit))
    if factor is None:
        return own
    return replace(own, values=own.values * np.float32(factor), unit=unit)


def _files(path: Path) -> dict[str, Path]:
    """Maps of one run by their stems."""
    folder = path if path.is_dir() else path.parent
    if not folder.is_dir() or not (path.is_dir() or path.is_file()):
        raise ValueError(f"{path}: no such folder.")
    groups: dict[str, dict[str, Path]] = {}
    for file in sorted(folder.glob(f"*{_ENDING}")):
        if found := _NAME.match(file.name):
            series = _series_of(found["entities"] or "", found["stem"])
            groups.setdefault(series, {})[found["stem"]] = file
    groups = {key: files for key, files in groups.items() if any(s.endswith("map") for s in files)}
    if path != folder:
        groups = {key: files for key, files in groups.items() if path in files.values()}
    if not groups:
        raise ValueError(
            f"{path} holds no maps (such as T1map.nii.gz). Give a folder that relaxnet predict "
            "wrote."
        )
    if len(groups) > 1:
        names = [next(iter(files.values())).name for files in groups.values()]
        raise ValueError(
            f"{folder} holds maps of {len(groups)} series; name one by a map of it, such as "
            f"{folder / names[0]}."
        )
    return next(iter(groups.values()))


def _series_of(entities: str, stem: str) -> str:
    """Series of a BIDS map: its entities, and the suffix that ``desc-`` or the map itself tells."""
    parts = [part for part in entities.split("_") if part]
    desc = [part.removeprefix("desc-") for part in parts if part.startswith("desc-")]
    main = {"T1map": "IRT1", "T2map": "MESE"}.get(stem, "") if parts else ""
    return "_".join([*_without_desc(parts), desc[0] if desc else main])


def _without_desc(entities: Sequence[str]) -> list[str]:
    """What the maps of a series have in common in their names."""
    return [entity for entity in entities if not entity.startswith("desc-")]


def _beside(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(_ENDING) + ".json")


def _load(path: Path) -> Series:
    image = load_map(path)
    if image.data.ndim == 4 and image.data.shape[3] == 1:
        image = Series(image.data[..., 0], image.affine, image.header, image.paths)
    if image.data.ndim != 3:
        raise ValueError(f"{path.name} has shape {by(image.data.shape)}; a map has 3 dimensions.")
    return image


def _rank(stem: str) -> tuple[int, str]:
    """Relaxation times first, then M0, then what else there is."""
    order = {"T1": 0, "T2": 0, "M0": 1, "B": 2}
    return order.get(stem[:-3], 3), stem


def _unit(stem: str) -> str:
    if stem == "residual":
        return "sigma"
    return "1" if stem == "status" else _UNITS.get(stem[:-3], "a.u.")


def _card(path: Path) -> dict[str, Any]:
    """Sidecar of a map; empty if there is none that can be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(content, dict):
        return {}
    inner = content.get("Relaxnet")  # of relaxnet bids: what is no field of BIDS
    return {**content, **inner} if isinstance(inner, dict) else content


def _legend(card: dict[str, Any]) -> dict[int, str]:
    levels = card.get("Levels")
    if not isinstance(levels, dict):
        return dict(LEGEND)
    return {int(code): str(words) for code, words in levels.items() if str(code).isdigit()}


def _zooms(image: Series) -> tuple[float, float, float]:
    found = [abs(float(z)) for z in image.header.get_zooms()[:3]]
    a, b, c = (z if math.isfinite(z) and z > 0 else 1.0 for z in (*found, 1.0, 1.0, 1.0)[:3])
    return a, b, c
