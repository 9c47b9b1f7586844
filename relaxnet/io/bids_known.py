"""Known maps of a BIDS dataset: the file of a map that was measured beside a series."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from relaxnet.io.bids_names import BidsError, BidsName, parse_name, read_sidecar
from relaxsim.models.signal_model import SignalModel

#: Folders beside that of the images in which such maps lie.
_FOLDERS = ("anat", "fmap")
#: Endings of images.
_IMAGES = (".nii", ".nii.gz")
#: Entities that count the images of a series, or name their part.
_INDICES = ("echo", "flip", "inv", "part")
#: Entities in which a map and its series may differ although they belong together.
_FREE = ("acq", "ce", "rec", "desc", "dir", "space", "res")


def find_known_map(image: str | Path, suffix: str) -> Path | None:
    """File of a known map of the same subject and session as an image.

    Files of the image's folder and of ``anat`` and ``fmap`` beside it are looked at. Their subject
    and session are those of the image, and so are other entities, such as the run, that both have;
    only how they were acquired may differ. A map whose sidecar names the series it is for
    (``IntendedFor``, or ``B0FieldIdentifier`` and the images' ``B0FieldSource``) goes before others
    for it, and is none for another series. Of several files the one that shares the most entities
    is taken.

    Parameters
    ----------
    image : path
        Image of the series.
    suffix : str
        BIDS suffix of the map, such as ``TB1map`` (`KnownBorder.bids_suffix`).

    Returns
    -------
    path : pathlib.Path or None
        None if there is none, or the image's name is not one of BIDS.

    Raises
    ------
    BidsError
        If several files share as many entities.
    """
    name, folder = parse_name(image), Path(image).parent
    if name is None or "sub" not in name.entities or not suffix:
        return None
    folders = dict.fromkeys([folder, *(folder.parent / other for other in _FOLDERS)])
    found: list[tuple[bool, int, Path]] = []
    for place in folders:
        for path in sorted(place.glob(f"*_{suffix}.nii*")):
            other = parse_name(path)
            if other is not None and other.suffix == suffix and _belongs(other, name):
                linked = _is_for(path, image)
                if linked is not False:
                    found.append((bool(linked), _shared(other, name), path))
    if not found:
        return None
    most = max((linked, count) for linked, count, _ in found)
    best = [path for *rank, path in found if tuple(rank) == most]
    if len(best) > 1:
        raise BidsError(
            f"{best[0].name} and {best[1].name} both fit {Path(image).name}; expected one {suffix}."
        )
    return best[0]


def find_known_maps(image: str | Path, model: SignalModel) -> dict[str, Path]:
    """Files of a model's known maps that lie beside a series: option of each map -> file.

    Raises
    ------
    BidsError
        As `find_known_map`.
    """
    found = {k.option: find_known_map(image, k.bids_suffix) for k in model.border.known}
    return {option: path for option, path in found.items() if path is not None}


def _belongs(other: BidsName, name: BidsName) -> bool:
    """Whether a map is of the subject and session of a series, and contradicts no other entity."""
    if other.extension not in _IMAGES:
        return False
    if any(other.entities.get(key) != name.entities.get(key) for key in ("sub", "ses")):
        return False
    both = (other.entities.keys() & name.entities.keys()) - set(_FREE)
    return all(other.entities[key] == name.entities[key] for key in both)


def _is_for(path: Path, image: str | Path) -> bool | None:
    """Whether the sidecar of a map says that it is for an image's series; None if it is silent."""
    card, raw = read_sidecar(path).fields, read_sidecar(image).fields
    identifiers, sources = _words(card, "B0FieldIdentifier"), _words(raw, "B0FieldSource")
    if set(identifiers) & set(sources):
        return True
    intended = _words(card, "IntendedFor")
    if not intended:
        return None
    return any(_series_name(Path(target).name) == _series_name(image) for target in intended)


def _words(fields: Mapping[str, Any], key: str) -> list[str]:
    """Words of a field that holds one or several."""
    value = fields.get(key) or []
    return [str(word) for word in (value if isinstance(value, list) else [value])]


def _series_name(path: str | Path) -> tuple[dict[str, str], str] | None:
    """Entities that all images of a series share, and its suffix."""
    name = parse_name(path)
    return None if name is None else (name.without(*_INDICES), name.suffix)


def _shared(other: BidsName, name: BidsName) -> int:
    return len(other.entities.items() & name.entities.items())
