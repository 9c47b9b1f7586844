"""The maps of a run as they lie in its folder, read for pictures and reports."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from relaxnet.io.bids_names import DESCRIPTION, BidsError, dataset_root, read_json
from relaxnet.io.nifti import Series, axis_codes, load_map
from relaxnet.maps.status import LEGEND, OUTSIDE, WITHOUT_ESTIMATE
from relaxsim.core.files import read_json as read_any_json
from relaxsim.core.nifti_reader import by
from relaxsim.models.registry import MODELS
from relaxsim.models.signal_model import SignalModel

_ENDING = ".nii.gz"
#: Names of maps, with or without BIDS entities before them.
_NAME = re.compile(
    r"(?P<entities>(?:[a-z]+-[A-Za-z0-9]+_)+)?"
    r"(?P<stem>[A-Za-z][A-Za-z0-9]*(?:map|std)|residual|status)\.nii\.gz$"
)
#: Start of the BIDS URI of a file of the raw dataset.
_RAW = "bids:raw:"
#: Factor from one unit of time to another.
_FACTORS = {("s", "ms"): 1000.0, ("ms", "s"): 0.001}
#: Place of a map among those of a run: what the sequence measures, the amplitude, other parameters.
_MAIN, _AMPLITUDE, _PARAMETER, _UNKNOWN = range(4)


def _label(stem: str) -> str:
    """What a map is called in words: ``T2*`` of T2star."""
    borders = (border for model in MODELS.values() for border in model.border.all_maps)
    return next((border.label for border in borders if border.stem == stem and border.label), stem)


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
            return f"{_label(self.stem.removesuffix('std'))} std"
        return _label(self.stem.removesuffix("map"))


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
        name = str(self.sidecar.get("SignalModel"))
        if name == "inversion_recovery" and self.sidecar.get("Corrected") is True:
            name = "look_locker"  # of versions that corrected the apparent T1* afterwards
        return MODELS.get(name)

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
        That `relaxnet predict` wrote, or one of `relaxnet bids` with a single series; the file of
        a map names one of several series. Other maps are taken if they are named alike.

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
        sidecar=_like_predict(cards[parameters[0]], files[parameters[0]]),
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
        for stem, found in run.maps.items():
            units.setdefault(stem, found.unit)
    return [
        replace(run, maps={s: _in_unit(found, units[s]) for s, found in run.maps.items()})
        for run in runs
    ]


def in_model_units(run: Run) -> Run:
    """A run with its maps in the units of its signal model, those of ``relaxnet predict``.

    Without a known signal model it stays as it is.
    """
    if run.model is None:
        return run
    return replace(run, maps={s: _of_model(found, run.model) for s, found in run.maps.items()})


def _of_model(found: RunMap, model: SignalModel) -> RunMap:
    """A map in the model's unit, of that in a BIDS derivative."""
    for border, unit in zip(model.border.maps, model.units, strict=True):
        if border.stem == _parameter(found.stem) and found.unit == border.bids_unit:
            values = found.values
            if border.bids_factor != 1.0:
                values = values * np.float32(1.0 / border.bids_factor)
            return replace(found, values=values, unit=unit)
    amplitude = model.border.maps[0]
    return replace(found, unit=model.units[0]) if found.unit == amplitude.bids_unit else found


def _in_unit(found: RunMap, unit: str) -> RunMap:
    factor = _FACTORS.get((found.unit, unit))
    if factor is None:
        return found
    return replace(found, values=found.values * np.float32(factor), unit=unit)


def _parameter(stem: str) -> str:
    """Stem of a parameter, of that of its map or its standard deviation."""
    return stem[:-3]


def _files(path: Path) -> dict[str, Path]:
    """Maps of one run by their stems."""
    folder = path if path.is_dir() else path.parent
    if not folder.is_dir() or not (path.is_dir() or path.is_file()):
        raise ValueError(f"{path}: no such folder.")
    groups: dict[str, dict[str, Path]] = {}
    for file in sorted(folder.glob(f"*{_ENDING}")):
        if found := _NAME.match(file.name):
            series = _series_of(found["entities"] or "", found["stem"], file)
            stem = _stem_of_suffix(found["stem"]) if found["entities"] else found["stem"]
            groups.setdefault(series, {})[stem] = file
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


def _series_of(entities: str, suffix: str, file: Path) -> str:
    """Series of a BIDS map: its entities, and the raw suffix, of ``desc-`` or of the main map."""
    parts = [part for part in entities.split("_") if part]
    desc = [part.removeprefix("desc-") for part in parts if part.startswith("desc-")]
    raw = _raw_suffix(suffix, file) if parts and not desc else ""
    return "_".join([*_without_desc(parts), desc[0] if desc else raw])


def _raw_suffix(suffix: str, file: Path) -> str:
    """Suffix of the series that a main map was made of; of several by the map's sidecar."""
    models = [m for m in MODELS.values() if m.border.maps[-1].derivative_suffix == suffix]
    models = [m for m in models if m.border.bids_suffix]
    if len(models) > 1:
        named = _card(_beside(file)).get("SignalModel")
        models = [m for m in models if m.name == named] or models
    return models[0].border.bids_suffix if models else ""


def _stem_of_suffix(suffix: str) -> str:
    """Stem of a map, of its suffix in a BIDS derivative."""
    for border in (border for model in MODELS.values() for border in model.border.all_maps):
        if border.derivative_suffix == suffix:
            return f"{border.stem}map"
    return suffix


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
    """Main parameters first, then amplitudes, then what else there is."""
    ranks = [_rank_in(model, _parameter(stem)) for model in MODELS.values()]
    return min(ranks, default=_UNKNOWN), stem


def _rank_in(model: SignalModel, parameter: str) -> int:
    """Place of a parameter's map among those of a model."""
    stems = [border.stem for border in model.border.maps]
    if parameter not in stems:
        return _UNKNOWN
    if parameter == stems[-1]:
        return _MAIN
    return _AMPLITUDE if parameter == stems[0] else _PARAMETER


def _unit(stem: str) -> str:
    """Unit of a map whose sidecar names none, as ``relaxnet predict`` writes it."""
    if stem == "residual":
        return "sigma"
    if stem == "status":
        return "1"
    for model in MODELS.values():
        for border, unit in zip(model.border.maps, model.units, strict=True):
            if border.stem == _parameter(stem):
                return unit
        for entry in model.border.derived:
            if entry.border.stem == _parameter(stem):
                return entry.unit
    return "a.u."


def _card(path: Path) -> dict[str, Any]:
    """Sidecar of a map; empty if there is none that can be read."""
    try:
        content = read_any_json(path)
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    inner = content.get("Relaxnet")  # of relaxnet bids: what is no field of BIDS
    return {**content, **inner} if isinstance(inner, dict) else content


def _like_predict(card: dict[str, Any], file: Path) -> dict[str, Any]:
    """Sidecar with the fields of ``relaxnet predict``, of that of a map in a BIDS derivative.

    The protocol gets the units of the signal model, and sources become paths.
    """
    model = MODELS.get(str(card.get("SignalModel")))
    if "Relaxnet" not in card or model is None:
        return card
    columns = {
        column.sidecar_field: [round(v * column.bids_factor, 6) for v in values]
        for column in model.border.columns
        if (values := _numbers(card.get(column.derivative_field)))
    }
    sources = card.get("Sources")
    if not isinstance(sources, list):
        return {**columns, **card}
    return {**columns, **card, "Sources": _paths_of(sources, file)}


def _numbers(values: Any) -> list[float]:
    """A list of numbers; empty if it is none."""
    is_list = isinstance(values, list) and all(isinstance(v, int | float) for v in values)
    return values if is_list else []


def _paths_of(sources: Sequence[Any], file: Path) -> list[str]:
    """Files of the raw dataset that a derivative links to, of their BIDS URIs."""
    root = dataset_root(file)
    try:
        raw = read_json(Path(root or file.parent) / DESCRIPTION)["DatasetLinks"]["raw"]
    except (BidsError, KeyError, TypeError):
        return [str(source) for source in sources]
    place = (Path(root or file.parent).resolve() / str(raw)).resolve()
    return [
        str(place / str(source).removeprefix(_RAW)) if str(source).startswith(_RAW) else str(source)
        for source in sources
    ]


def _legend(card: dict[str, Any]) -> dict[int, str]:
    levels = card.get("Levels")
    if not isinstance(levels, dict):
        return dict(LEGEND)
    return {int(code): str(words) for code, words in levels.items() if str(code).isdigit()}


def _zooms(image: Series) -> tuple[float, float, float]:
    found = [abs(float(z)) for z in image.header.get_zooms()[:3]]
    a, b, c = (z if math.isfinite(z) and z > 0 else 1.0 for z in (*found, 1.0, 1.0, 1.0)[:3])
    return a, b, c
