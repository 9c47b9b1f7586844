"""Maps in a BIDS derivative dataset: their names, units and sidecars."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from relaxnet import __version__
from relaxnet.bids.dataset import Collection
from relaxnet.io.bids_names import BidsError, entity_name, read_json
from relaxnet.io.bids_times import Acquisition
from relaxnet.io.nifti import rescale_map

#: Map that a collection is for; it alone carries no ``desc-``, and is the last to be in place.
MAIN = {"IRT1": "T1map", "MESE": "T2map"}
#: Field of the times, a list in s. The specification recommends an array under the raw field's
#: name, but its schema takes one number for InversionTime, and the validator refuses a list there.
_VARIED = {"IRT1": "InversionTimes", "MESE": "EchoTime"}
#: Units in files of one series, and what they are here: factor and name.
_UNITS = {"ms": (1e-3, "s"), "a.u.": (1.0, "arbitrary")}
_MEANING = {
    "T1map": "Longitudinal relaxation time",
    "T2map": "Transverse relaxation time",
    "M0map": "Amplitude A of the signal model, in the unit of the images",
    "Bmap": "B of the signal model A (1 - B exp(-TI / T1)); 2 is a perfect inversion",
    "residual": "Root mean square of the fit's residuals, in units of the noise",
    "status": "What became of each voxel",
}
_PAPER = "Sabidussi et al. 2021, Medical Image Analysis, doi:10.1016/j.media.2021.102220"
_REFERENCES = {
    ("mle", "IRT1"): f"Barral et al. 2010, Magn Reson Med, doi:10.1002/mrm.22497; {_PAPER}",
}
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
#: Fields of one series' sidecar that BIDS names otherwise.
_RENAMED = ("Units", "Sources", "InversionTimesMs", "EchoTimesMs", "Levels", "Protocol")


def map_name(collection: Collection, stem: str) -> str:
    """Name without extension of a map that `relaxnet predict` calls `stem`.

    Examples
    --------
    >>> series = Collection((("sub", "01"), ("run", "2")), "IRT1", ())
    >>> map_name(series, "T1map"), map_name(series, "M0map")
    ('sub-01_run-2_T1map', 'sub-01_run-2_desc-IRT1_M0map')
    """
    entities = dict(collection.entities)
    if stem != MAIN[collection.suffix]:
        entities["desc"] = collection.suffix
    return entity_name(entities, stem)


def main_map(out: Path, collection: Collection) -> Path:
    """The map of a collection that is in place once all its files are."""
    name = map_name(collection, MAIN[collection.suffix])
    return out / collection.folder / f"{name}.nii.gz"


def write_derivative(
    maps: Path,
    tree: Path,
    root: Path,
    collection: Collection,
    acquisition: Acquisition,
    settings: Mapping[str, Any],
    skull_stripped: bool,
) -> None:
    """Write the maps of a series, and its report if there is one, under their BIDS names.

    Parameters
    ----------
    maps : pathlib.Path
        Folder of ``relaxnet predict``: relaxation times in ms.
    tree : pathlib.Path
        Root of the dataset to write to.
    root : pathlib.Path
        Of the raw dataset, which the sources are named by.
    collection : Collection
    acquisition : Acquisition
        Of the series.
    settings : mapping
        What the maps were asked with; kept, to be compared by a later run.
    skull_stripped : bool
        Voxels outside the brain are 0.
    """
    folder = tree / collection.folder
    folder.mkdir(parents=True, exist_ok=True)
    for image in sorted(maps.glob("*.nii.gz")):
        stem = image.name.removesuffix(".nii.gz")
        card = read_json(image.with_name(f"{stem}.json"))
        factor, unit = _UNITS.get(card["Units"], (1.0, card["Units"]))
        sidecar = {
            **{k: v for k, v in acquisition.constants.items() if k not in _OF_IMAGES},
            "Description": _description(stem),
            "Units": unit,
            **({"Levels": card["Levels"]} if "Levels" in card else {}),
            "SkullStripped": skull_stripped,
            "Sources": [_uri(path, root) for path in acquisition.paths],
            _VARIED[collection.suffix]: [t / 1000 for t in acquisition.protocol.tau],
            "EstimationAlgorithm": _algorithm(card),
            "EstimationReference": _REFERENCES.get((card["Method"], collection.suffix), _PAPER),
            "SoftwareName": "relaxnet",
            "SoftwareVersion": __version__,
            "Relaxnet": {k: v for k, v in card.items() if k not in _RENAMED}
            | {"Settings": dict(settings)},
        }
        rescale_map(image, folder / f"{map_name(collection, stem)}.nii.gz", factor, sidecar)
    report = maps / "report.html"
    if report.is_file():
        report.rename(folder / f"{map_name(collection, 'report')}.html")


def _description(stem: str) -> str:
    if stem.endswith("std"):
        return f"Standard deviation of {stem.removesuffix('std')}; inf where not identifiable"
    return _MEANING.get(stem, stem)


def _algorithm(card: Mapping[str, Any]) -> str:
    """Estimation algorithm in words."""
    if card["Method"] == "mle":
        return str(card.get("Fit", "maximum likelihood"))
    kind = {"rim": "recurrent inference machine", "resnet": "residual network"}[card["Method"]]
    return f"{kind} {card.get('Network', '')}".strip()


def _uri(path: str, root: Path) -> str:
    """BIDS URI of a raw file."""
    relative = PurePosixPath(os.path.relpath(path, root).replace(os.sep, "/"))
    return f"bids:raw:{relative}"


def made_with(out: Path, collection: Collection) -> Mapping[str, Any] | None:
    """Settings of the maps of a collection that are in place; None if there are none."""
    main = main_map(out, collection)
    if not main.exists():
        return None
    try:
        card = read_json(main.with_name(main.name.replace(".nii.gz", ".json")))
        return dict(card["Relaxnet"]["Settings"])
    except (BidsError, KeyError, TypeError, ValueError):
        return {}
