"""BIDS datasets in: which series of which subjects there are, and their masks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from relaxnet.io.bids_names import BidsError, BidsName, entity_name, parse_name
from relaxnet.io.bids_times import mapped_suffixes, series_model
from relaxsim.models.registry import model_of_suffix
from relaxsim.models.signal_model import SignalModel

IMAGES = (".nii", ".nii.gz")


@dataclass(frozen=True)
class Collection:
    """One series of a dataset: the files that share all but their index.

    Attributes
    ----------
    entities : tuple of (str, str)
        Those that the files share, in the order of their names.
    suffix : str
        Of the raw series: ``IRT1``, say.
    images : tuple of pathlib.Path
        Magnitude images, in the order of their index.
    problem : str
        Why it cannot be mapped; empty if nothing speaks against it yet.
    note : str
        Why it may not be complete; empty if nothing points to that.
    shares_name : bool
        Another series beside it, of the same entities and another suffix, gives the map of the same
        name: its own carries ``desc-``.
    """

    entities: tuple[tuple[str, str], ...]
    suffix: str
    images: tuple[Path, ...]
    problem: str = ""
    note: str = ""
    shares_name: bool = False

    @cached_property
    def model(self) -> SignalModel:
        """Signal model of the suffix; of several the one that takes the times of the images."""
        model = _model(self.suffix)
        try:
            return series_model(list(map(str, self.images))) if self.images else model
        except (BidsError, OSError):  # said where the series is read
            return model

    @property
    def subject(self) -> str:
        """Label of the subject, without ``sub-``."""
        return dict(self.entities)["sub"]

    @property
    def session(self) -> str:
        """Label of the session, without ``ses-``; empty if there are none."""
        return dict(self.entities).get("ses", "")

    @property
    def name(self) -> str:
        """Such as ``sub-01_ses-2_run-1_IRT1``."""
        return entity_name(dict(self.entities), self.suffix)

    @property
    def folder(self) -> str:
        """Its place below a dataset's root."""
        parts = [f"sub-{self.subject}", *([f"ses-{self.session}"] if self.session else []), "anat"]
        return "/".join(parts)


def _model(suffix: str) -> SignalModel:
    model = model_of_suffix(suffix)
    if model is None:
        known = ", ".join(mapped_suffixes())
        raise BidsError(f"no signal model takes {suffix} series; mapped are: {known}.")
    return model


def check_dataset(root: Path) -> None:
    """Refuse a folder that is no dataset.

    Raises
    ------
    BidsError
        If it is not there, or has no folder ``sub-...``.
    """
    if not root.is_dir():
        raise BidsError(f"{root}: no such folder; expected a BIDS dataset.")
    if not any(path.is_dir() for path in root.glob("sub-*")):
        raise BidsError(f"{root} holds no folder sub-*; expected the root of a BIDS dataset.")


def chosen_subjects(root: Path, labels: Iterable[str]) -> list[str]:
    """Labels of the subjects to map, without ``sub-``; all if none are named.

    Raises
    ------
    BidsError
        If a label is not in the dataset.
    """
    there = sorted(p.name.removeprefix("sub-") for p in root.glob("sub-*") if p.is_dir())
    wanted = [label.removeprefix("sub-") for label in labels]
    for label in wanted:
        if label not in there:
            raise BidsError(
                f"`participants` {label}: {root} has no sub-{label} ({_first_ten(there)})."
            )
    return sorted(set(wanted)) or there


def check_sessions(root: Path, subjects: Iterable[str], labels: Iterable[str]) -> None:
    """Refuse a session that none of the subjects has.

    Raises
    ------
    BidsError
    """
    folders = (f for subject in subjects for f in (root / f"sub-{subject}").glob("ses-*"))
    there = sorted({folder.name.removeprefix("ses-") for folder in folders if folder.is_dir()})
    for label in labels:
        if label.removeprefix("ses-") not in there:
            shown = _first_ten(there) or "there are no sessions"
            raise BidsError(
                f"`sessions` {label}: no chosen subject of {root} has "
                f"ses-{label.removeprefix('ses-')} ({shown})."
            )


def _first_ten(labels: Sequence[str]) -> str:
    return ", ".join(labels[:10]) + (", ..." if len(labels) > 10 else "")


def find_collections(
    root: Path,
    subject: str,
    sessions: Iterable[str] = (),
    suffixes: Iterable[str] | None = None,
) -> list[Collection]:
    """Series of one subject.

    Parameters
    ----------
    root : pathlib.Path
        Of the dataset.
    subject : str
        Label, without ``sub-``.
    sessions : iterable of str
        Labels of the sessions wanted, with or without ``ses-``; all if empty.
    suffixes : iterable of str, optional
        By default all that a signal model is there for.

    Returns
    -------
    collections : list of Collection
        Sorted by name. Phase and imaginary parts are left out; real parts are taken where there is
        no magnitude and the signal model has a sign.
    """
    home = root / f"sub-{subject}"
    wanted = {label.removeprefix("ses-") for label in sessions}
    folders = [(folder.name, folder / "anat") for folder in sorted(home.glob("ses-*"))]
    folders = [(ses.removeprefix("ses-"), folder) for ses, folder in folders]
    found = []
    for session, folder in [("", home / "anat"), *folders]:
        if folder.is_dir() and (not wanted or session in wanted):
            expected = {"sub": subject, **({"ses": session} if session else {})}
            everything = _with_shared_names(_in_folder(folder, expected, set(mapped_suffixes())))
            wanted_suffixes = mapped_suffixes() if suffixes is None else set(suffixes)
            found += [c for c in everything if c.suffix in wanted_suffixes]
    return sorted(found, key=lambda c: c.name)


def _with_shared_names(collections: Sequence[Collection]) -> list[Collection]:
    """Collections of a folder; of those whose main maps have one name all but the first share it.

    The first is that of the suffix that comes first in `mapped_suffixes`, whatever is mapped.
    """
    order = mapped_suffixes()
    taken: set[tuple[Any, ...]] = set()
    found = []
    for collection in sorted(collections, key=lambda c: order.index(c.suffix)):
        key = (collection.model.border.maps[-1].derivative_suffix, *collection.entities)
        found.append(replace(collection, shares_name=key in taken))
        taken.add(key)
    return found


def compare_counts(
    collections: Sequence[Collection], everything: Sequence[Collection]
) -> list[Collection]:
    """Collections with a note where most of their kind in the dataset have more images.

    Copying that stopped half-way may leave a series without its last images, in which nothing else
    is missing. Of a kind are series that differ in subject, session and run only.
    """
    counts: dict[tuple[Any, ...], Counter[int]] = {}
    for collection in everything:
        counts.setdefault(_of_a_kind(collection), Counter())[len(collection.images)] += 1
    found = []
    for collection in collections:
        alike = counts.get(_of_a_kind(collection), Counter())
        most = max(alike.items(), key=lambda item: (item[1], item[0]), default=(0, 0))[0]
        if 1 < len(collection.images) < most:
            number = len(collection.images)
            note = f"{number} images, while most such series here have {most}: is it complete?"
            collection = replace(collection, note=note)
        found.append(collection)
    return found


def _of_a_kind(collection: Collection) -> tuple[Any, ...]:
    kept = [pair for pair in collection.entities if pair[0] not in ("sub", "ses", "run")]
    return (collection.suffix, *kept)


def unusual_names(root: Path, subject: str, suffixes: Iterable[str]) -> list[str]:
    """Names of a subject's images that end as such series do, but are no names of BIDS.

    Entities and labels are letters and digits of ASCII there.
    """
    home = root / f"sub-{subject}"
    endings = tuple(f"_{suffix}{ending}" for suffix in suffixes for ending in IMAGES)
    images = [*home.glob("anat/*"), *home.glob("ses-*/anat/*")]
    named = (path.name for path in images if parse_name(path) is None)
    return sorted(name for name in named if name.lower().endswith(_lower(endings)))


def _lower(words: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(word.lower() for word in words)


def other_suffixes(root: Path) -> list[str]:
    """Suffixes of the images in a dataset, for messages."""
    found = set()
    for image in [*root.glob("sub-*/*/*.nii*"), *root.glob("sub-*/ses-*/*/*.nii*")]:
        name = parse_name(image)
        if name is not None:
            found.add(name.suffix)
    return sorted(found)


def _in_folder(folder: Path, expected: dict[str, str], suffixes: set[str]) -> list[Collection]:
    """Series of one ``anat`` folder."""
    groups: dict[tuple[tuple[tuple[str, str], ...], str], list[tuple[Path, BidsName]]] = {}
    for path in sorted(folder.iterdir()):
        name = parse_name(path)
        if name is None or name.suffix not in suffixes or "sub" not in name.entities:
            continue
        if name.extension.lower() in (*IMAGES, ".json"):
            shared = name.without(_index(name.suffix), "part")
            groups.setdefault((tuple(shared.items()), name.suffix), []).append((path, name))
    found = []
    for (entities, suffix), files in groups.items():
        if any(name.extension.lower() in IMAGES for _, name in files):
            found.append(_collection(entities, suffix, files, expected))
        elif any(_index(suffix) in name.entities for _, name in files):
            problem = f"{files[0][0].name} and other sidecars are there, but no image"
            found.append(Collection(entities, suffix, (), problem))
    return [_placed(collection, expected) for collection in found]


def _index(suffix: str) -> str:
    """Entity that counts the files of a series."""
    return _model(suffix).border.bids_entity


def _placed(collection: Collection, expected: dict[str, str]) -> Collection:
    """The collection, with the entities of its folder where its names contradict that."""
    named = dict(collection.entities)
    if {key: named.get(key) for key in ("sub", "ses") if key in named} == expected:
        return collection
    entities = tuple((expected | {k: v for k, v in named.items() if k not in expected}).items())
    place = "/".join(f"{key}-{label}" for key, label in expected.items())
    problem = f"{collection.name} lies in {place}; mend its name or its place"
    return Collection(entities, collection.suffix, collection.images, problem)


def _collection(
    entities: tuple[tuple[str, str], ...],
    suffix: str,
    files: Sequence[tuple[Path, BidsName]],
    expected: dict[str, str],
) -> Collection:
    index = _index(suffix)
    images = [(path, name) for path, name in files if name.extension.lower() in IMAGES]
    parts = {n.entities.get("part", "mag") for _, n in images}
    part = "real" if "mag" not in parts and _model(suffix).magnitude else "mag"
    magnitude = [(p, n) for p, n in images if n.entities.get("part", "mag") == part]
    counted = [(_number(n, index), p) for p, n in magnitude if index in n.entities]
    whole = [p for p, n in magnitude if index not in n.entities]
    ordered = (*whole, *(path for _, path in sorted(counted)))
    problem = ""
    lost = [path for path in ordered if not path.exists()]
    if not magnitude:
        real = " and no real one" if part == "real" else ""
        problem = f"{images[0][0].name} and others are there, but no magnitude image{real}"
    elif lost:
        problem = f"{lost[0].name} is a link to nothing; get the file's content first"
    elif whole and counted:
        problem = (
            f"{whole[0].name} and {counted[0][1].name}: expected one 4-D file or {index}-1 ..."
        )
    elif len(whole) > 1:
        problem = f"{whole[0].name} and {whole[1].name} are twice the same series"
    elif counted:
        problem = _gap(sorted(n for n, _ in counted), files, index)
    return Collection(entities, suffix, ordered, problem)


def _number(name: BidsName, index: str) -> int:
    text = name.entities[index]
    return int(text) if text.isdecimal() else -1


def _gap(numbers: list[int], files: Sequence[tuple[Path, BidsName]], index: str) -> str:
    """What is missing: an index in between, or the image of a sidecar."""
    missing = sorted(set(range(numbers[0], numbers[-1])) - set(numbers))
    if numbers[0] > 1:
        missing = [*range(1, numbers[0]), *missing]
    for path, name in files:
        lone = name.extension.lower() == ".json" and name.entities.get(index, "").isdecimal()
        if lone and int(name.entities[index]) not in numbers:
            return f"{path.name} has no image; the series is not complete"
    if missing and len(numbers) > 1:
        names = ", ".join(f"{index}-{n}" for n in missing[:5])
        return f"{names} missing among {len(numbers)} images; the series is not complete"
    return ""


def find_match(pattern: str, root: Path, collection: Collection, argument: str) -> Path:
    """Image that goes with a series: the match of a pattern whose entities agree with the series'.

    Parameters
    ----------
    pattern : str
        With ``*`` and ``**``, below `root` or absolute, such as
        ``derivatives/brain/**/*_desc-brain_mask.nii.gz``.
    root : pathlib.Path
    collection : Collection
    argument : str
        What the image is given as, for messages: ``mask``.

    Returns
    -------
    path : pathlib.Path

    Raises
    ------
    BidsError
        If no match agrees, or several agree in as many entities.
    """
    anchor = Path(pattern).anchor
    base = Path(anchor) if anchor else root
    shared = dict(collection.entities)
    agreeing: list[tuple[int, Path]] = []
    for path in base.glob(pattern.removeprefix(anchor)):
        name = parse_name(path)
        if name is None or name.extension.lower() not in IMAGES or name.entities.get("sub") is None:
            continue
        named = {k: v for k, v in name.entities.items() if k not in ("desc", "label", "space")}
        if named.items() <= shared.items():
            agreeing.append((len(named), path))
    if not agreeing:
        raise BidsError(f"`{argument}` {pattern}: no match for {collection.name}.")
    most = max(count for count, _ in agreeing)
    best = sorted(path for count, path in agreeing if count == most)
    if len(best) > 1:
        raise BidsError(
            f"`{argument}` {pattern}: {len(best)} matches for {collection.name} ({best[0].name}, "
            f"{best[1].name}); expected one."
        )
    return best[0]
