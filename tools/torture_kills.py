"""Part ``kills`` of `tools/torture.py`: signals at random moments, then the same command again."""

from __future__ import annotations

import re
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torture_compare import Reference, UnreadableError, leaves
from torture_files import Stock, bids_dataset, mle, series
from torture_run import (
    Ended,
    Outcome,
    fork,
    is_temporary,
    listing,
    noise,
    surroundings,
    traces,
    wait,
)

from relaxsim.core.replacing import MARK

#: Seconds for one of these commands.
LIMIT = 120.0
#: Signals and how often they are sent.
SIGNALS = {signal.SIGKILL: 0.6, signal.SIGTERM: 0.25, signal.SIGINT: 0.15}


@dataclass(frozen=True)
class Job:
    """A command that is broken off.

    Attributes
    ----------
    arguments : tuple of str
    out : str
        What it writes.
    inputs : tuple of str
        What it takes from the stock.
    partial : bool
        Whether some of its files may stand without the others.
    variants : tuple of tuples
        For two runs at once: options that make their results differ.
    """

    arguments: tuple[str, ...]
    out: str
    inputs: tuple[str, ...] = ()
    partial: bool = False
    variants: tuple[tuple[str, ...], ...] = ()


JOBS: dict[str, Job] = {
    "generate": Job(
        tuple(
            "relaxsim generate --tis random --patches 96 --patch-size 12 --jobs 2 --out o".split()
        ),
        "o",
        partial=True,
        variants=(("--seed", "1"), ("--seed", "2")),
    ),
    "train": Job(
        tuple(
            "relaxnet train --data shards --iterations 110 --batch-size 4 --features 4 "
            "--num-steps 2 --deterministic --out o".split()
        ),
        "o",
        ("shards",),
        partial=True,
        variants=(("--seed", "1"), ("--seed", "2")),
    ),
    "calibrate": Job(
        tuple(
            "relaxnet calibrate network.keras --data shards --patches 8 --iterations 60 "
            "--out o".split()
        ),
        "o",
        ("network.keras", "network.json", "shards"),
        partial=True,
    ),
    "predict": Job(
        (*mle("s.nii", out="o"), "--report", "--save-fit"),
        "o",
        variants=(("--likelihood", "rician"), ("--likelihood", "gaussian")),
    ),
    "bids": Job(
        tuple("relaxnet bids data o participant --method mle --report --jobs 2".split()),
        "o",
        partial=True,
        variants=(("--likelihood", "rician"), ("--likelihood", "gaussian")),
    ),
    "export": Job(
        tuple("relaxnet export network.keras --tis tis.txt --out o".split()),
        "o",
        ("network.keras", "network.json"),
    ),
}
_references: dict[tuple[str, ...], Reference] = {}


def prepare(job: Job, folder: Path, stock: Stock) -> None:
    """Put the inputs of a job into a folder."""
    series(folder)
    for name in job.inputs:
        stock.copy(name, folder)
    if "data" in job.arguments:
        bids_dataset(folder / "data")


def execute(
    arguments: tuple[str, ...],
    folder: Path,
    watch: Callable[[float], int | None] | None = None,
) -> Ended:
    """Run a command to its end, or until `watch` sends it a signal."""
    with tempfile.TemporaryDirectory(prefix="torture-log-") as place:
        log = Path(place) / "log"
        number = fork(arguments, folder, log, environment=surroundings(folder, Path(place)))
        return wait(number, log, LIMIT, watch)


def reference(job: Job, stock: Stock, extra: tuple[str, ...] = ()) -> Reference:
    """Two unbroken runs of a job with options `extra`, made once.

    Raises
    ------
    RuntimeError
        If a run fails.
    """
    arguments = (*job.arguments, *extra)
    if arguments in _references:
        return _references[arguments]
    found = []
    for flags in ((), ("--overwrite",)):  # so that the command line differs, and does not count
        with tempfile.TemporaryDirectory(prefix="torture-") as place:
            folder = Path(place)
            prepare(job, folder, stock)
            counter = _Changes(folder)
            ended = execute((*arguments, *flags), folder, counter)
            if ended.code != 0:
                raise RuntimeError(f"{' '.join(arguments)}: {ended.errors[-1000:]}")
            found.append((leaves(folder, job.out), ended.wall, counter.number))
            time.sleep(1.1)  # nor do dates
    (first, wall, changes), (second, _, _) = found
    _references[arguments] = Reference(first, second, wall, changes)
    return _references[arguments]


class _Changes:
    """Counts the changes of a folder; sends `number_sent` when there are `limit` of them."""

    def __init__(self, folder: Path, limit: int | None = None, sent: int = 0) -> None:
        self.folder, self.limit, self.sent = folder, limit, sent
        self.state, self.number = _state(folder), 0

    def __call__(self, wall: float) -> int | None:
        state = _state(self.folder)
        if state != self.state:
            self.state, self.number = state, self.number + 1
        return self.sent if self.limit is not None and self.number >= self.limit else None


@dataclass(frozen=True)
class _Clock:
    """Sends a signal after some seconds."""

    seconds: float
    sent: int

    def __call__(self, wall: float) -> int | None:
        return self.sent if wall > self.seconds else None


def _state(folder: Path) -> list[tuple[str, tuple[int, int]]]:
    try:
        return sorted(listing(folder).items())
    except FileNotFoundError:  # gone while it was looked at
        return []


def attempt(number: int, rng: np.random.Generator, folder: Path, stock: Stock) -> Outcome:
    """Break a command off, look at what it left, run it again, and compare the end."""
    name = list(JOBS)[number % len(JOBS)]
    job = JOBS[name]
    sound = reference(job, stock)
    sent = signal.Signals(int(rng.choice([int(s) for s in SIGNALS], p=list(SIGNALS.values()))))
    prepare(job, folder, stock)
    arguments = job.arguments
    replaced: Reference | None = None
    if name == "predict" and rng.random() < 0.5:  # over the maps of an earlier run
        replaced = reference(job, stock, ("--likelihood", "gaussian"))
        execute((*arguments, "--likelihood", "gaussian"), folder)
        arguments = (*arguments, "--overwrite")
    if rng.random() < 0.5:
        moment = float(rng.uniform(0.02, 1) * sound.wall)
        what = f"{sent.name} after {moment / sound.wall:.0%}"
        watch: Callable[[float], int | None] = _Clock(moment, sent)
    else:
        limit = int(rng.integers(1, max(2, sound.changes + 1)))
        what = f"{sent.name} at change {limit} of its files"
        watch = _Changes(folder, limit, sent)
    what = f"{name}{' --overwrite' if replaced else ''}, {what}"
    broken = execute(arguments, folder, watch)
    faults = [f"{name}: {fault}" for fault in _ending(broken, sent, folder)]
    faults += [f"{name}: {fault}" for fault in _state_faults(job, folder, sound, replaced)]
    again = [] if broken.code == 0 else _again(arguments, folder)
    end = _end_faults(job, folder, sound)
    if not again or end:  # a refusal is in order where all is done
        faults += [f"{name}: {fault}" for fault in again or end]
    line = broken.lines[0] if broken.lines else ""
    return Outcome("kills", number, what, arguments, broken.code, line, faults)


def _ending(ended: Ended, sent: signal.Signals, folder: Path) -> list[str]:
    """What is wrong with how a command took a signal."""
    faults = traces(ended.errors) + noise(ended)
    if ended.stopped == "orphans":
        faults.append("its processes outlive it")
    elif ended.stopped:
        faults.append(f"after {sent.name}: ended by the limit of {ended.stopped}")
    if sent == signal.SIGKILL:
        return [] if ended.stopped != "orphans" else faults
    if ended.code == 0:
        return faults
    if ended.code not in (130, 143):
        faults.append(f"after {sent.name}: {_code(ended.code)}")
    elif (lines := _plain_lines(ended.errors)) != 1:
        faults.append(f"after {sent.name}: {lines} lines")
    if ended.code in (130, 143) and (left := temporary_left(folder)):
        faults.append(f"after {sent.name}, leaves {left}")
    return faults


def _code(code: int) -> str:
    return f"ended by the signal, with no word (code {code})" if code < 0 else f"exit code {code}"


def _plain_lines(errors: str) -> int:
    """Lines of an error stream that are no progress bars."""
    lines = [line for part in errors.split("\n") for line in part.split("\r")[-1:]]
    return sum(
        bool(line.strip()) and not re.search(r"\d%\||\d\w+/s|\?\w+/s", line) for line in lines
    )


def temporary_left(folder: Path) -> str:
    """Kind of a temporary file or folder that is there, if any."""
    for path in sorted(listing(folder)):
        inside = Path(path).relative_to(folder)
        if inside.parts[0] == "home":
            continue
        if "autograph" in inside.name:  # TensorFlow's own, in TMPDIR
            continue
        if len(inside.parts) > 1 and inside.parts[0] == "tmp":
            return f"{_kind(inside.parts[1])} in TMPDIR"
        if is_temporary(inside.name):
            return _kind(inside.name)
    return ""


def _kind(name: str) -> str:
    return re.sub(r"(?<=-)\w{8}$|\d+", "#", name)[:40]


def _state_faults(
    job: Job, folder: Path, sound: Reference, replaced: Reference | None
) -> list[str]:
    """What is wrong with the files of final names after a command was broken off."""
    try:
        found = leaves(folder, job.out)
    except UnreadableError as error:
        return [str(error)]
    there = {name for name, _ in found}
    if replaced is not None:
        old = {name for name in there if replaced.agrees(found, name)}
        new = {name for name in there if sound.agrees(found, name)}
        if old - new and new - old:
            return ["old and new files in one folder"]
        whole = there in ({name for name, _ in run.first} for run in (sound, replaced))
        is_marked = (folder / job.out / MARK).exists()
        return [] if whole or is_marked else ["some of its files without the others, and no mark"]
    expected = {name for name, _ in sound.first}
    if there and not job.partial and there != expected:
        return ["some of its files without the others"]
    return []


def _again(arguments: tuple[str, ...], folder: Path) -> list[str]:
    """Run the same command until it succeeds, with the flags that it asks for; returns faults."""
    flags: tuple[str, ...] = ()
    for _ in range(4):
        ended = execute((*arguments, *flags), folder)
        if ended.code == 0:
            return []
        words = traces(ended.errors) or ([] if ended.code == 2 else [f"exit code {ended.code}"])
        line = " ".join(ended.lines)
        asked = [f for f in ("--resume", "--overwrite") if f in line and f not in flags]
        if "Leave --resume out" in line or "without --resume" in line:
            asked = ["" if "--overwrite" in flags else "--overwrite"]
        if words or not asked:
            return words or [f"does not go on, nor say how: {_short(line)}"]
        flags = (asked[0],) if asked[0] else ()
    return [f"does not go on: {_short(line)}"]


def _short(line: str) -> str:
    return re.sub(r"\S*/\S*", "PATH", line)[:110]


def _end_faults(job: Job, folder: Path, sound: Reference) -> list[str]:
    """What differs from an unbroken run in the end."""
    try:
        different = sound.differences(leaves(folder, job.out))
    except UnreadableError as error:
        return [f"in the end, {error}"]
    faults = [f"in the end, {d}" for d in different[:2]]
    if left := temporary_left(folder):
        faults.append(f"leaves {left} after the next run")
    return faults
