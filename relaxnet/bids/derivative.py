"""Maps in a BIDS derivative dataset: their names, units and sidecars."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from relaxnet.bids.dataset import Collection
from relaxnet.io.bids_names import BidsError, entity_name, read_json
from relaxnet.io.bids_times import Acquisition
from relaxnet.maps.map_folder import MapLayout
from relaxsim.core.version import __version__
from relaxsim.models.border import ColumnBorder, MapBorder
from relaxsim.models.registry import MODELS
from relaxsim.models.signal_model import SignalModel

#: Stems of maps of no parameter, and what they hold.
_MEANING = {
    "residual": "Root mean square of the fit's residuals, in units of the noise",
    "status": "What became of each voxel",
}
#: Stems of other files of a series that the specification has no suffix for.
_OTHER_STEMS = ("residual", "status", "fit")
#: Stem of the report.
REPORT = "report"
#: Estimation algorithm by `Method` of the sidecars.
_ALGORITHMS = {"rim": "recurrent inference machine", "resnet": "residual network"}
#: Fields of a raw sidecar that do not hold for a map.
_OF_IMAGES = (
    "Units",
    "Levels",
    "Sources",
    "SkullStripped",
    "Description",
    "RawSources",
    "BasedOn",
)
#: Fields of the sidecars of ``relaxnet predict`` that BIDS names otherwise, but for the protocol's.
_RENAMED = ("Units", "Sources", "Levels", "Description")


def map_name(collection: Collection, stem: str) -> str:
    """Name without extension of a file that ``relaxnet predict`` calls `stem`.

    The map of the parameter that the sequence measures has the series' entities; all others carry
    ``desc-`` with the series' suffix, too, and so does that map if it shares its name with that of
    another series.

    Examples
    --------
    >>> series = Collection((("sub", "01"), ("run", "2")), "IRT1", ())
    >>> map_name(series, "T1map"), map_name(series, "M0map")
    ('sub-01_run-2_T1map', 'sub-01_run-2_desc-IRT1_M0map')
    """
    entities = dict(collection.entities)
    border = _border_of(stem, collection.model)
    is_main = border is collection.model.border.maps[-1] and stem.endswith("map")
    if not is_main or collection.shares_name:
        entities["desc"] = collection.suffix
    suffix = stem if border is None or stem.endswith("std") else border.derivative_suffix
    return entity_name(entities, suffix)


def main_map(out: Path, collection: Collection) -> Path:
    """The map of a collection that is in place once all its files are."""
    name = map_name(collection, f"{collection.model.border.maps[-1].stem}map")
    return out / collection.folder / f"{name}.nii.gz"


def main_suffixes() -> tuple[str, ...]:
    """Suffixes of the maps of the parameters that the sequences measure."""
    mapped = [model.border for model in MODELS.values() if model.border.bids_suffix]
    return tuple(dict.fromkeys(border.maps[-1].derivative_suffix for border in mapped))


def ignored_patterns() -> tuple[str, ...]:
    """Patterns of the files that the specification has no suffix for, for ``.bidsignore``.

    A fit with a repetition time maps the amplitude of the signal by its own name beside M0.
    """
    models = [model for model in MODELS.values() if model.border.bids_suffix]
    borders = [border for model in models for border in model.border.all_maps]
    amplitudes = [model.parameters[0] for model in models if model.finite_tr is not None]
    specified = {border.bids_suffix for border in borders if border.bids_suffix}
    maps = [border.derivative_suffix for border in borders] + [f"{a}map" for a in amplitudes]
    stds = [f"{stem}std" for stem in (*(border.stem for border in borders), *amplitudes)]
    stems = dict.fromkeys([*maps, *stds, *_OTHER_STEMS])
    return (*(f"*_{s}.*" for s in stems if s not in specified), f"*_{REPORT}.html")


def derivative_layout(
    root: Path,
    collection: Collection,
    acquisition: Acquisition,
    settings: Mapping[str, Any],
    skull_stripped: bool,
) -> MapLayout:
    """Names, units and sidecars of the files of a series.

    Parameters
    ----------
    root : pathlib.Path
        Of the raw dataset, which the sources are named by.
    collection : Collection
    acquisition : Acquisition
        Of the images that are mapped.
    settings : mapping
        What the maps were asked with; kept, to be compared by a later run.
    skull_stripped : bool
        Voxels outside the brain are 0.

    Returns
    -------
    MapLayout
    """
    common = (root, acquisition, settings, skull_stripped)
    return MapLayout(
        name=partial(map_name, collection),
        unit=partial(_unit, collection.model),
        sidecar=partial(_sidecar, *common),
    )


def _border_of(stem: str, model: SignalModel) -> MapBorder | None:
    """What the model calls the parameter of a map or of a standard deviation; None for others."""
    if not stem.endswith(("map", "std")):
        return None
    return next((border for border in model.border.all_maps if border.stem == stem[:-3]), None)


def _unit(model: SignalModel, stem: str, unit: str) -> tuple[str, float]:
    """Unit in the derivative and the factor to it."""
    border = _border_of(stem, model)
    if border is None and unit == model.units[0]:  # another amplitude, in the unit of the images
        border = model.border.maps[0]
    if border is None or not border.bids_unit:
        return unit, 1.0
    return border.bids_unit, border.bids_factor


def _sidecar(
    root: Path,
    acquisition: Acquisition,
    settings: Mapping[str, Any],
    skull_stripped: bool,
    stem: str,
    card: Mapping[str, Any],
) -> dict[str, Any]:
    """JSON file of a map: fields of BIDS, and under ``Relaxnet`` those of ``relaxnet predict``."""
    model, protocol = acquisition.protocol.model, acquisition.protocol
    columns = model.border.columns
    renamed = {*_RENAMED, *(column.sidecar_field for column in columns)}
    kept = {key: value for key, value in card.items() if key not in renamed}
    if "KnownMaps" in kept:
        kept["KnownMaps"] = {k: bids_uri(v, root) for k, v in kept["KnownMaps"].items()}
    return {
        **{k: v for k, v in acquisition.constants.items() if k not in _OF_IMAGES},
        "Description": _description(stem, model, card),
        "Units": card["Units"],
        **({"Levels": card["Levels"]} if "Levels" in card else {}),
        "SkullStripped": skull_stripped,
        "Sources": [bids_uri(path, root) for path in acquisition.paths],
        **{
            column.derivative_field: _values(column, protocol.table[..., d])
            for d, column in enumerate(columns)
        },
        "EstimationAlgorithm": _algorithm(card),
        "EstimationReference": _reference(card, model),
        "SoftwareName": "relaxnet",
        "SoftwareVersion": __version__,
        "Relaxnet": {**kept, "Settings": dict(settings)},
    }


def _values(column: ColumnBorder, values: np.ndarray) -> float | str | list[Any]:
    """Values of a column in the unit of its field: a list, or one that holds for all, or a name."""
    if column.names:
        return column.text(values.flat[0])
    listed = values / column.bids_factor
    if not column.varies and np.ptp(values) == 0:
        return float(listed.flat[0])
    return listed.tolist()


def _description(stem: str, model: SignalModel, card: Mapping[str, Any]) -> str:
    if stem.endswith("std"):
        return f"Standard deviation of {stem.removesuffix('std')}; inf where not identifiable"
    if "Description" in card:
        return str(card["Description"])
    border = _border_of(stem, model)
    return _MEANING.get(stem, stem) if border is None else border.meaning


def _algorithm(card: Mapping[str, Any]) -> str:
    """Estimation algorithm in words."""
    if card["Method"] == "mle":
        return str(card.get("Fit", "maximum likelihood"))
    return f"{_ALGORITHMS[card['Method']]} {card.get('Network', '')}".strip()


def _reference(card: Mapping[str, Any], model: SignalModel) -> str:
    """Papers of the estimation algorithm."""
    if card["Method"] == "mle":
        return model.border.fit_reference
    return "; ".join(model.border.references)


def bids_uri(path: str | Path, root: Path) -> str:
    """BIDS URI of a file of the raw dataset."""
    relative = PurePosixPath(os.path.relpath(path, root).replace(os.sep, "/"))
    return f"bids:raw:{relative}"


def check_name_is_free(folders: Iterable[Path], collection: Collection) -> None:
    """Refuse a series whose main map has the name of that of a series of another signal model.

    Parameters
    ----------
    folders : iterable of pathlib.Path
        Datasets in which that map may be.
    collection : Collection

    Raises
    ------
    BidsError
    """
    for folder in folders:
        maker = _card_of_main(folder, collection).get("Relaxnet", {}).get("SignalModel")
        if maker not in (None, collection.model.name):
            title = MODELS[maker].border.title if maker in MODELS else maker
            raise BidsError(
                f"{main_map(folder, collection).name} is the map of a series of {title}; map "
                f"{collection.suffix} series into another folder."
            )


def made_with(out: Path, collection: Collection) -> Mapping[str, Any] | None:
    """Settings of the maps of a collection that are in place; None if there are none."""
    if not main_map(out, collection).exists():
        return None
    return dict(_card_of_main(out, collection).get("Relaxnet", {}).get("Settings") or {})


def _card_of_main(out: Path, collection: Collection) -> Mapping[str, Any]:
    """JSON file of the main map; without fields if it cannot be read or is none of ours."""
    main = main_map(out, collection)
    try:
        card = read_json(main.with_name(main.name.replace(".nii.gz", ".json")))
    except BidsError:
        return {}
    return card if isinstance(card.get("Relaxnet"), Mapping) else {}
