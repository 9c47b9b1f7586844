"""Files of results: written whole or not at all; JSON files read in one place."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

#: Names of `temporary_path`.
_TEMPORARY = re.compile(r"\..+\.(?P<process>\d+)\.part(\..*)?")
#: Seconds in which a file is written at the latest.
_LONGEST_WRITING = 24 * 3600.0
#: When this process began, or soon after.
_BEGIN = time.time()


def temporary_path(path: Path) -> Path:
    """Name, beside `path` and with its ending, under which this process writes it."""
    return path.with_name(f".{path.name}.{_host()}.{os.getpid()}.part{''.join(path.suffixes)}")


def _host() -> str:
    return platform.node() or "host"


def remove_leftovers(folder: str | Path, is_alone: bool = False) -> None:
    """Remove the temporary files and folders of processes that no longer live.

    They are those of `write_whole` and `temporary_folder` whose process was one of this machine and
    has ended, and those of any machine that are older than a day.

    Parameters
    ----------
    folder : path
    is_alone : bool
        No other process writes to the folder: all temporary files are left over.
    """
    for path in Path(folder).glob(".*.part*"):
        try:
            if _TEMPORARY.fullmatch(path.name) and (is_alone or _is_left_over(path)):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
        except OSError:  # removed meanwhile, or not ours to remove
            continue


def _is_left_over(path: Path) -> bool:
    """Whether the process that wrote a temporary file has certainly ended."""
    written = path.stat().st_mtime
    match = re.fullmatch(rf"\..+\.{re.escape(_host())}\.(\d+)\.part(\..*)?", path.name)
    if time.time() - written > _LONGEST_WRITING:
        return True
    if match is None or os.name != "posix":  # elsewhere signal 0 is no question
        return False
    process = int(match[1])
    if process == os.getpid():  # in containers every run may have the same number
        return written < _BEGIN - 1
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        return False
    return False


@contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """Give a new folder beside `path`, for files that are moved there once they are complete.

    It is removed where the block ends. Before, those that killed processes left there are removed.

    Parameters
    ----------
    path : pathlib.Path
        Final place of the files.

    Raises
    ------
    OSError
        If it cannot be made.
    """
    remove_leftovers(path.parent)
    prefix = f".{path.name}.{_host()}.{os.getpid()}.part."
    with tempfile.TemporaryDirectory(
        dir=path.parent, prefix=prefix, ignore_cleanup_errors=True
    ) as place:
        yield Path(place)


@contextmanager
def temporary_files_in(folder: Path) -> Iterator[None]:
    """Let libraries put what they keep for a while into a folder, of which the caller disposes.

    Some leave it behind where they fail. It holds for the whole process.
    """
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


@contextmanager
def write_whole(path: str | Path) -> Iterator[Path]:
    r"""Give a temporary path to write to, and rename it once it is complete.

    A file that has its final name is complete, whatever happens while it is written.

    Parameters
    ----------
    path : path
        Final name; a file of that name is replaced.

    Yields
    ------
    temporary : pathlib.Path
        Beside `path`, with its ending. It is flushed to disk and renamed where the block ends,
        and removed where the block raises.

    Raises
    ------
    OSError
        If the file cannot be written or renamed.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with write_whole(Path(folder) / "times.txt") as temporary:
    ...         _ = temporary.write_text("100\n")
    ...     [path.name for path in Path(folder).iterdir()]
    ['times.txt']
    """
    path = Path(path)
    temporary = temporary_path(path)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


#: Endings of images, longest first: what is left of a name is that of its sidecar.
IMAGE_ENDINGS = (".nii.bz2", ".nii.gz", ".hdr.gz", ".img.gz", ".nii", ".hdr", ".img")
#: Of a text without a mark of its encoding, share of zero bytes above which it is UTF-16.
_ZERO_BYTES = 0.3
#: Characters that no text holds: those that control a terminal, and marks of another byte order.
_NO_TEXT = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\ufeff\ufffe\uffff]")
#: Largest text file that is read, and largest JSON file, which takes some twenty times its size in
#: memory; bytes.
_MOST_TEXT, MOST_JSON = 256_000_000, 16_000_000


def image_stem(name: str) -> str:
    """Name of an image without its ending, in whatever case that is written.

    Examples
    --------
    >>> image_stem("sub-01_IRT1.NII.GZ"), image_stem("s.img"), image_stem("notes.txt")
    ('sub-01_IRT1', 's', 'notes.txt')
    """
    for ending in IMAGE_ENDINGS:
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name


def why_not_regular(path: str | Path) -> str:
    """Why a path is not a file whose bytes can be read, in words; empty if it is one.

    A pipe or a device is not opened: reading it might never end.
    """
    try:
        mode = Path(path).stat().st_mode
    except FileNotFoundError:
        return "no such file"
    except ValueError:
        return "no name of a file"
    except OSError as error:
        return error.strerror or "cannot be read"
    if stat.S_ISREG(mode):
        return ""
    if stat.S_ISDIR(mode):
        return "this is a folder; expected a file"
    kinds = ((stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))
    kind = next((words for check, words in kinds if check(mode)), "a device")
    return f"this is {kind}; expected a file (write what it gives to one first)"


def read_text(path: str | Path, most: int = _MOST_TEXT) -> str:
    """Text of a file: UTF-8, UTF-16 as Windows programs write it, otherwise Latin-1.

    Parameters
    ----------
    path : path
    most : int
        Largest file that is read, bytes.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is no regular file, too large, or no text; the message names the file.
    """
    path = Path(path)
    why = why_not_regular(path)
    if why and path.exists():
        raise ValueError(f"{path}: {why}.")
    if not why and path.stat().st_size > most:
        raise ValueError(f"{path.name} is larger than the {most / 1e6:g} MB that are read.")
    text = decoded(path.read_bytes())
    if text is None:
        raise ValueError(f"{path.name} is not a text file.")
    return text


def decoded(data: bytes) -> str | None:
    r"""Bytes as text, see `read_text`; None if they are no text.

    Examples
    --------
    >>> decoded("50\n".encode("utf-16")), decoded(b"M\xfcnchen"), decoded(b"\x00\x01")
    ('50\n', 'München', None)
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encodings = ["utf-16"]
    elif len(data) > 3 and data[1::2].count(0) > _ZERO_BYTES * len(data):
        encodings = ["utf-16-le"]
    elif len(data) > 3 and data[::2].count(0) > _ZERO_BYTES * len(data):
        encodings = ["utf-16-be"]
    else:
        encodings = ["utf-8-sig", "latin-1"]
    for encoding in encodings:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        odd = encoding.startswith("utf-16") and not any(letter < "\x80" for letter in text)
        return None if odd or _NO_TEXT.search(text) else text
    return None


def read_json(path: str | Path) -> Any:
    """Content of a JSON file.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it holds no JSON, or more than 16 MB; the message names the file.
    """
    path = Path(path)
    try:
        return json.loads(read_text(path, MOST_JSON))
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is no JSON file ({reason}).") from None


def write_json(path: str | Path, content: Any, sort_keys: bool = False) -> None:
    """Write a JSON file, whole (`write_whole`).

    Raises
    ------
    OSError
        If it cannot be written.
    """
    with write_whole(path) as temporary:
        text = json.dumps(content, indent=1, sort_keys=sort_keys) + "\n"
        temporary.write_text(text, encoding="utf-8")
