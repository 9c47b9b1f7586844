"""Protocols: lists of inversion or echo times, in ms.

A protocol is a text file of numbers (separated by white space or commas, ``#`` starts a comment),
one of the bundled lists (``cine23``, ``cine25``, ``cine31``, ``fse6``) or a random draw.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

BUNDLED = Path(__file__).with_name("protocols")
MAX_IMAGES = 4096

#: The longest time of a series lies between these, in ms. A list out of them was given in another
#: unit: but for echo times of 3 to 5, no list is plausible in both ms and s.
_LONGEST = {"tis": (20.0, 20_000.0), "tes": (3.0, 5_000.0)}
#: Longest inversion time of a random list, ms.
RANDOM_LAST = 5000.0
_WORDS = {"tis": "inversion times", "tes": "echo times"}


@dataclass(frozen=True)
class Protocol:
    """Times of one series.

    Attributes
    ----------
    name : str
        File name or bundled name without ending, or ``random``.
    times : str
        ``"tis"`` (inversion times) or ``"tes"`` (echo times).
    tau : array, shape (N,), float64
        Times in ms, in acquisition order.
    """

    name: str
    times: str
    tau: np.ndarray

    @property
    def num_images(self) -> int:
        """Number of weighted images, N."""
        return len(self.tau)

    @property
    def time_name(self) -> str:
        """The times in words."""
        return _WORDS[self.times]

    def __str__(self) -> str:
        """Name, number and range, for messages."""
        return (
            f"{self.name}: {self.num_images} {self.time_name}, "
            f"{self.tau.min():g} to {self.tau.max():g} ms"
        )


def bundled_protocols() -> dict[str, Path]:
    """Bundled lists: name without ending -> file."""
    return {path.stem: path for path in sorted(BUNDLED.glob("*.txt"))}


def check_times(tau: np.ndarray, times: str, source: str, units: str = "ms") -> np.ndarray:
    """Times in ms, or a refusal of what cannot be times in the given unit.

    Parameters
    ----------
    tau : array, shape (N,)
        Times in `units`; any order, repeats allowed.
    times : str
        ``"tis"`` or ``"tes"``.
    source : str
        Where they come from, for the message.
    units : str
        ``"ms"`` or ``"s"``.

    Returns
    -------
    tau : array, shape (N,), float64
        Times in ms, order kept.

    Raises
    ------
    ValueError
        If the list is empty, holds a value that is not finite or is negative, or is implausible
        in its unit.
    """
    tau = np.asarray(tau, dtype=np.float64)
    words = _WORDS[times]
    if tau.ndim != 1 or tau.size == 0:
        raise ValueError(f"{source} holds no {words}. Give one number per image.")
    if tau.size > MAX_IMAGES:
        raise ValueError(f"{source} lists {tau.size} {words}; at most {MAX_IMAGES} are taken.")
    if not np.isfinite(tau).all():
        raise ValueError(f"{source} holds {words} that are not finite numbers.")
    if (tau < 0).any():
        raise ValueError(f"{source} holds a negative time ({tau.min():g}); times are >= 0.")
    if units not in ("ms", "s"):
        raise ValueError(f"times are in ms or s, not in {units!r}.")
    longest = tau.max() * (1000.0 if units == "s" else 1.0)
    low, high = _LONGEST[times]
    if not low <= longest <= high:
        raise ValueError(_looks_like(tau, words, source, units, longest > high))
    return tau * 1000.0 if units == "s" else tau


def _looks_like(tau: np.ndarray, words: str, source: str, units: str, long: bool) -> str:
    """Sentence about a list that cannot be in its unit."""
    span = f"{source} lists {words} of {tau.min():g} to {tau.max():g} {units}"
    if units == "ms" and not long:
        return (
            f"{span}, which looks like seconds. Times are read in ms: give --units s to relaxnet "
            "predict, or multiply them by 1000."
        )
    if units == "s" and long:
        return f"{span}, which looks like milliseconds: leave --units s out."
    what = "longer" if long else "shorter"
    return f"{span}, which is {what} than {words} are. Times are in ms, or in s with --units s."


def read_protocol(name: str | Path, times: str, units: str = "ms") -> Protocol:
    """Read a list of times: a file or, if no such file exists, the bundled list of that name.

    Parameters
    ----------
    name : str or path
        ``cine31.txt``, ``cine31`` or a path.
    times : str
        ``"tis"`` or ``"tes"``: what the caller takes the list for.
    units : str
        Unit of the numbers in a file, ``"ms"`` or ``"s"``. Bundled lists are in ms.

    Raises
    ------
    ValueError
        If there is no such list, it is not text, holds no numbers or implausible ones
        (`check_times`), or is a bundled list of the other kind.

    Examples
    --------
    >>> read_protocol("fse6", "tes").tau.tolist()
    [10.0, 20.0, 40.0, 80.0, 160.0, 320.0]
    """
    path = Path(name)
    if not path.is_file():
        bundled = bundled_protocols().get(path.name.removesuffix(".txt"))
        if bundled is None or path.name != str(name):
            raise ValueError(
                f"{name}: no such file, and no bundled list of that name "
                f"(bundled: {', '.join(bundled_protocols())})."
            )
        _check_kind(bundled, times)
        path, units = bundled, "ms"
    return Protocol(path.stem, times, check_times(_numbers(path), times, path.name, units))


def check_repetition_time(tr: float, tau: np.ndarray, source: str = "--tr") -> None:
    """Refuse a repetition time in which the longest inversion time has no room.

    Raises
    ------
    ValueError
    """
    if not tr >= (longest := float(np.max(tau))):
        raise ValueError(
            f"{source}: the repetition time of {tr:g} ms is shorter than the longest inversion "
            f"time, {longest:g} ms; expected one in which each image is inverted and read."
        )


def random_protocol(rng: np.random.Generator, times: str) -> Protocol:
    """Draw a protocol for networks that shall serve any.

    ``tis``: 4 to 40 images, the first at 20 to 500 ms, the last at 600 to 5000 ms.
    ``tes``: 3 to 40 images, the first at 5 to 30 ms, the last at 60 to 500 ms.
    Number, first and last time are log-uniform; the spacing between them is linear, geometric
    or linear with jitter (each time moved by up to 0.4 of the step), with equal chances.
    Times are rounded to 0.1 ms and ascend.
    """
    fewest, first_range, last_range = {
        "tis": (4, (20.0, 500.0), (600.0, RANDOM_LAST)),
        "tes": (3, (5.0, 30.0), (60.0, 500.0)),
    }[times]
    num_images = int(np.floor(np.exp(rng.uniform(np.log(fewest), np.log(41)))))
    first = np.exp(rng.uniform(*np.log(first_range)))
    last = np.exp(rng.uniform(*np.log(last_range)))
    spacing = rng.choice(["linear", "geometric", "jittered"])
    if spacing == "geometric":
        tau = np.geomspace(first, last, num_images)
    else:
        tau = np.linspace(first, last, num_images)
    if spacing == "jittered":
        tau[1:-1] += rng.uniform(-0.4, 0.4, num_images - 2) * (tau[1] - tau[0])
    return Protocol("random", times, np.sort(np.round(tau, 1)))


def _check_kind(bundled: Path, times: str) -> None:
    kind = "tes" if bundled.stem.startswith("fse") else "tis"
    if kind != times:
        raise ValueError(
            f"{bundled.stem} is a list of {_WORDS[kind]}: give it with --{kind}, not --{times}."
        )


def _numbers(path: Path) -> np.ndarray:
    if path.stat().st_size > 1_000_000:
        raise ValueError(f"{path.name} is larger than 1 MB: not a list of times.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path.name} is not a text file; expected one time per line.") from None
    words = [w for line in text.splitlines() for w in line.split("#")[0].replace(",", " ").split()]
    try:
        return np.array([float(w) for w in words])
    except ValueError:
        bad = next(w for w in words if not _is_number(w))
        raise ValueError(
            f"{path.name} holds {bad[:40]!r}, which is no number; expected times in ms."
        ) from None


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
