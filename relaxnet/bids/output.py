"""The folder of a BIDS derivative dataset: its own files, and moving maps into place."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from relaxnet.bids.dataset import Collection
from relaxnet.bids.derivative import ignored_patterns, main_map, main_suffixes, map_name
from relaxnet.io.bids_names import DESCRIPTION, BidsError, read_json
from relaxsim.core.files import remove_leftovers, write_whole
from relaxsim.core.locks import is_at, lock_bytes
from relaxsim.core.replacing import replace_files
from relaxsim.core.version import __version__

BIDS_VERSION = "1.10.0"
LOCK = ".relaxnet-lock"
#: File in which runs lock a byte for each series that they map.
SERIES_LOCK = ".relaxnet-series-lock"
_README = """# Maps by relaxnet {version}

Relaxation times are in seconds, M0map is in the unit of the images. Outside the mask, and where
nothing could be estimated, maps are 0; the files `status` say why. Maps that the BIDS
specification has no suffix for (standard deviations, residual, status and others) are listed in
`.bidsignore`. How each map was made stands in the JSON file beside it.
"""


def prepare(out: Path, root: Path) -> None:
    """Make the derivative dataset with its own files, or refuse its folder.

    Raises
    ------
    BidsError
        If `out` is a file, the raw dataset, inside its subjects, another dataset, of another raw
        dataset, or cannot be written to.
    """
    out_place, root_place = out.resolve(), root.resolve()
    if out.exists() and not out.is_dir():
        raise BidsError(f"{out} is a file; expected a folder for the derivative dataset.")
    inside = out_place.relative_to(root_place).parts if _below(out_place, root_place) else None
    if inside is not None and (not inside or inside[0].startswith("sub-")):
        raise BidsError(
            f"{out} lies in the raw data; expected a folder of its own, such as "
            f"{root / 'derivatives' / 'relaxnet'}."
        )
    link = os.path.relpath(os.path.realpath(root), os.path.realpath(out)).replace(os.sep, "/")
    _check_ours(out, root)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=out, prefix=".relaxnet-", suffix="-lock"):
            pass
    except OSError as error:
        raise BidsError(f"{out} cannot be written ({error.strerror}).") from None
    if not (out / DESCRIPTION).exists():
        _write(out / DESCRIPTION, json.dumps(_described(root, link), indent=1) + "\n")
    if not (out / "README.md").exists():
        _write(out / "README.md", _README.format(version=__version__))
    _write(out / ".bidsignore", "\n".join(ignored_patterns()) + "\n")


def _below(path: Path, parent: Path) -> bool:
    return path == parent or parent in path.parents


def _check_ours(out: Path, root: Path) -> None:
    """Refuse a folder of another dataset."""
    if not out.is_dir():
        return
    if not (out / DESCRIPTION).exists():
        if any(not path.name.startswith(".") for path in out.iterdir()):
            raise BidsError(f"{out} holds other files; expected an empty or new folder.")
        return
    there = read_json(out / DESCRIPTION)
    makers = there.get("GeneratedBy")
    named = (
        [m.get("Name") for m in makers if isinstance(m, dict)] if isinstance(makers, list) else []
    )
    if "relaxnet" not in named:
        raise BidsError(f"{out} holds a dataset that relaxnet did not make; give another folder.")
    link = (there.get("DatasetLinks") or {}).get("raw")
    if link is not None and os.path.realpath(out / link) != os.path.realpath(root):
        raise BidsError(f"{out} holds maps of another dataset ({link}); give another folder.")


def _described(root: Path, link: str) -> dict[str, Any]:
    """Content of ``dataset_description.json``."""
    raw = read_json(root / DESCRIPTION) if (root / DESCRIPTION).is_file() else {}
    source = {"URL": "bids:raw:."}
    if "DatasetDOI" in raw:
        source["DOI"] = raw["DatasetDOI"]
    return {
        "Name": f"relaxnet maps of {raw.get('Name', root.resolve().name)}",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        **{key: raw[key] for key in ("License", "Authors") if key in raw},
        "GeneratedBy": [
            {
                "Name": "relaxnet",
                "Version": __version__,
                "Description": "Maps of relaxation times by networks or by maximum likelihood",
            }
        ],
        "SourceDatasets": [source],
        "DatasetLinks": {"raw": link},
    }


def _write(path: Path, text: str) -> None:
    """Write a file beside its place and rename it, so that nobody sees half of it."""
    with write_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="replace")


@contextlib.contextmanager
def only_run_of(out: Path, names: Sequence[str]) -> Iterator[None]:
    """Be the only run that maps these series into a dataset, where its file system has locks.

    Runs of other series may work at the same time. A process that is killed frees its locks. What
    killed runs left half written is removed. The last run to end removes the lock's file.

    Parameters
    ----------
    out : pathlib.Path
        Root of the derivative dataset.
    names : sequence of str
        Of the series, such as ``sub-01_IRT1``.

    Raises
    ------
    BidsError
        If another run maps one of them.
    """
    remove_leftovers(out)
    path = out / SERIES_LOCK
    while True:
        with path.open("a") as file:
            descriptor = file.fileno()
            for name in names:
                if not _lock_byte(descriptor, name):
                    raise BidsError(
                        f"another run maps {name} into {out}. Wait for it, or give another folder."
                    )
            if not is_at(path, descriptor):
                continue  # the run before removed the file between the two steps
            try:
                yield
            finally:
                if _lock(descriptor, 0, 0):  # all of it: no other run is in the folder
                    _remove(path)
            return


def _remove(path: Path) -> None:
    """Remove the file of a lock; where the system keeps open files, it stays."""
    with contextlib.suppress(OSError):
        path.unlink()


def _lock_byte(descriptor: int, name: str) -> bool:
    """Lock the byte that stands for a name; False if another process has it."""
    start = int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:7], "big")
    return _lock(descriptor, start, 1)


def _lock(descriptor: int, start: int, number: int) -> bool:
    """`lock_bytes`, and True where the file system has no locks."""
    try:
        return lock_bytes(descriptor, start, number)
    except OSError:
        return True


@contextlib.contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Alone in moving files into a dataset, among processes on file systems that know locks."""
    path = out / LOCK
    while True:
        with path.open("a") as file:
            with contextlib.suppress(ImportError, OSError):
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX)
            if not is_at(path, file.fileno()):
                continue  # the process before removed the file between the two steps
            try:
                yield
            finally:
                _remove(path)
            return


def publish(tree: Path, out: Path, done: Sequence[Collection], overwrite: bool) -> list[Collection]:
    """Move the maps of a subject into place together, whole folders at once where they are new.

    Parameters
    ----------
    tree : pathlib.Path
        Root of a dataset with the maps, on the file system of `out`.
    out : pathlib.Path
    done : sequence of Collection
        Series whose maps are in `tree`.
    overwrite : bool
        Replace maps that are in place.

    Returns
    -------
    late : list of Collection
        Series that another process put into place in the meantime; its maps stay.
    """
    late, earlier = [], []
    with _locked(out):
        for collection in done:
            if main_map(out, collection).exists() and not overwrite:
                late.append(collection)
                remove_maps(tree, collection)
            else:
                earlier += _maps_of(out, collection)
        moves = [move for path in sorted(tree.iterdir()) for move in _moves(path, out / path.name)]
        main = tuple(f"_{suffix}.nii.gz" for suffix in main_suffixes())
        moves.sort(key=lambda move: move[1].name.endswith(main))
        replace_files(dict(moves), earlier, tree.with_name(f"{tree.name}-earlier"))
    return late


def collect(folder: Path, tree: Path, collection: Collection) -> None:
    """Move the files of a series, which are alone in a folder, into a tree on the same disk.

    Raises
    ------
    OSError
        If a file cannot be moved; no file of the series is in the tree then.
    """
    target = tree / collection.folder
    try:
        target.mkdir(parents=True, exist_ok=True)
        for path in sorted(folder.iterdir()):
            path.rename(target / path.name)
    except OSError:
        remove_maps(tree, collection)
        raise


def remove_maps(root: Path, collection: Collection) -> None:
    """Remove the maps of a series from a dataset, the main one first, and folders left empty."""
    folder = root / collection.folder
    for path in _maps_of(root, collection):
        path.unlink()
    while folder != root and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def _maps_of(root: Path, collection: Collection) -> list[Path]:
    """Files of a series in a dataset, those of the main map first."""
    folder, main = root / collection.folder, main_map(root, collection)
    if not folder.is_dir():
        return []
    start, card = map_name(collection, ""), f"{main.name.removesuffix('.nii.gz')}.json"
    found = [path for path in folder.iterdir() if path.name.startswith(start)]
    found += [path for path in (main, folder / card) if path.exists()]
    return sorted(set(found), key=lambda path: (path != main, path.name))


def _moves(source: Path, target: Path) -> Iterator[tuple[Path, Path]]:
    """A folder and its place or, where there is one, its files and theirs."""
    if source.is_dir() and target.is_dir():
        for path in sorted(source.iterdir()):
            yield from _moves(path, target / path.name)
    else:
        yield source, target
