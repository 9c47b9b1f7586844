"""BrainWeb's anatomical models from the network, by the optional package brainweb-dl."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

#: BrainWeb's 20 normal models (Aubert-Broche et al. 2006).
SUBJECTS = (4, 5, 6, 18, 20, 38, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54)


def fetch_subjects(subjects: Sequence[int], folder: str | Path) -> Iterator[Path]:
    """Fetch crisp label volumes, yielding each file; those that are there are not fetched again.

    Parameters
    ----------
    subjects : sequence of int
        BrainWeb's numbers; none means all 20.
    folder : path
        Made if missing. Files take their name when they are complete.

    Raises
    ------
    ValueError
        If there is no such subject.
    ModuleNotFoundError
        If brainweb-dl is not installed.
    OSError
        If BrainWeb cannot be reached or the folder cannot be written.
    """
    if unknown := sorted(set(subjects) - set(SUBJECTS)):
        raise ValueError(
            f"BrainWeb has no subject {unknown[0]}; it has {', '.join(map(str, SUBJECTS))}."
        )
    folder = Path(folder)
    wanted = {n: folder / f"brainweb_s{n:02d}_crisp.nii.gz" for n in subjects or SUBJECTS}
    missing = [path for path in wanted.values() if not path.is_file()]
    download = _downloader() if missing else None
    folder.mkdir(parents=True, exist_ok=True)
    for subject, path in wanted.items():
        if download is not None and not path.is_file():
            with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as temporary:
                Path(_fetched(download, subject, Path(temporary))).replace(path)
        yield path


def _downloader():
    try:
        from brainweb_dl import get_brainweb20
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"fetching needs brainweb-dl ({error}): pip install 'relaxnet[brainweb]'. "
            "Without a network, fetch BrainWeb files elsewhere and give them to relaxsim generate."
        ) from None
    return get_brainweb20


def _fetched(download, subject: int, folder: Path) -> str:
    try:
        return download(subject, brainweb_dir=folder)
    except Exception as error:  # requests, zlib, and whatever the server's answer breaks
        raise OSError(
            f"BrainWeb's subject {subject} cannot be fetched ({type(error).__name__}). "
            "Is there a network? Files fetched elsewhere can be given to relaxsim generate."
        ) from error
