"""Known maps of a BIDS dataset: the file of a map that was measured beside a series."""

from __future__ import annotations

from pathlib import Path

from relaxnet.io.bids_names import BidsError, BidsName, parse_name
from relaxsim.models.signal_model import SignalModel

#: Folders beside that of the images in which such maps lie.
_FOLDERS = ("anat", "fmap")
#: Endings of images.
_IMAGES = (".nii", ".nii.gz")
#: Entities in which a map and its series may differ although they belong together.
_FREE = ("acq", "ce", "rec", "desc", "dir", "space", "res")


def find_known_map(image: str | Path, suffix: str) -> Path | None:
    """File of a known map of the same subject and session as an image.

    Files of the image's folder and of ``anat`` and ``fmap`` beside it are looked at. Their subject
    and session are those of the image, and so are other entities, such as the run, that both have;
    only how they were acquired may differ. Of several files the one that shares the most entities
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
    found: list[tuple[int, Path]] = []
    for place in folders:
        for path in sorted(place.glob(f"*_{suffix}.nii*")):
            other = parse_name(path)
            if other is not None and other.suffix == suffix and _belongs(other, name):
                found.append((_shared(other, name), path))
    if not found:
        return None
    most = max(count for count, _ in found)
    best = [path for count, path in found if count == most]
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


def _shared(other: BidsName, name: BidsName) -> int:
    return len(other.entities.items() & name.entities.items())
