"""Part ``pairs`` of `tools/torture.py`: two runs of a command in one folder at once."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
from torture_compare import UnreadableError, leaves
from torture_files import Stock
from torture_kills import JOBS, LIMIT, prepare, reference, temporary_left
from torture_run import Ended, Outcome, fork, noise, surroundings, traces, wait


def attempt(number: int, rng: np.random.Generator, folder: Path, stock: Stock) -> Outcome:
    """Run two variants of a command: one wins, the other says so, and nothing is mixed."""
    names = [name for name, job in JOBS.items() if job.variants]
    name = names[number % len(names)]
    job = JOBS[name]
    sound = [reference(job, stock, extra) for extra in job.variants]
    prepare(job, folder, stock)
    delay = float(rng.uniform(0, 0.6) * sound[0].wall) if rng.random() < 0.7 else 0.0
    order = rng.permutation(2)
    ended = _both([(*job.arguments, *job.variants[i]) for i in order], folder, delay)
    faults = [fault for e in ended for fault in (*traces(e.errors), *noise(e), *_limits(e))]
    codes = [e.code for e in ended]
    if sorted(codes) == [0, 0]:
        faults.append("both succeed")
    elif sorted(codes) != [0, 2]:
        faults.append(f"exit codes {sorted(codes)}")
    faults += [f"{len(e.lines)} error lines" for e in ended if e.code == 2 and len(e.lines) != 1]
    try:
        found = leaves(folder, job.out)
        equal = [i for i in range(2) if not sound[order[i]].differences(found)]
        if not equal:
            faults.append("the results are those of neither run")
        elif sorted(codes) == [0, 2] and codes[equal[0]] != 0:
            faults.append("the results are those of the run that was refused")
    except UnreadableError as error:
        faults.append(str(error))
    if left := temporary_left(folder):
        faults.append(f"leaves {left}")
    lines = [line for e in ended for line in e.lines]
    what = f"two runs of {name}, the second after {delay / sound[0].wall:.0%} of the first's time"
    kinds = [f"{name}: {fault}" for fault in dict.fromkeys(faults)]
    return Outcome("pairs", number, what, job.arguments, max(codes), " ".join(lines), kinds)


def _limits(ended: Ended) -> list[str]:
    return [f"ended by the limit of {ended.stopped}"] if ended.stopped else []


def _both(commands: list[tuple[str, ...]], folder: Path, delay: float) -> list[Ended]:
    """Start two commands, the second some seconds later, and wait for both."""
    with tempfile.TemporaryDirectory(prefix="torture-log-") as place:
        variables = surroundings(folder, Path(place))
        started = []
        for i, command in enumerate(commands):
            if i:
                time.sleep(delay)
            log = Path(place) / f"log{i}"
            started.append((fork(command, folder, log, environment=variables), log))
        return [wait(number, log, LIMIT) for number, log in started]
