"""Hostile inputs and crashes: tries by the thousand on the commands, repeatable by a seed.

Each part draws commands with something wrong about them, runs them, and counts faults. A command
passes if it succeeds with sound files, or ends with exit code 2, exactly one line ``Error: ...``,
no traceback, no word of a library, nothing left on the disk, in time and below 2 GB.

Parts:
    predict       series, lists, masks and options that lie, each with what has to come of it
    nifti         images that are damaged, lie, or are of another format
    sidecars      JSON, lists and tables that are none
    shards        HDF5 files that are damaged or hold something else
    networks      .keras files and run folders that are hostile or none
    options       values at the edge, pipes and devices
    kills         SIGKILL and SIGTERM at random moments; the same command then goes on
    surroundings  full disks, small limits, closed streams, foreign settings
    pairs         two runs in one folder

For example:
    python tools/torture.py --quick
    python tools/torture.py --part nifti --part shards --tries 500 --seed 3 --out table.csv
    python tools/torture.py --only shards:17
"""

from __future__ import annotations

import csv
import importlib
import shlex
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

import torture_kills
import torture_pairs
import torture_surroundings
from torture_files import Stock, make_stock
from torture_run import Outcome, preload, run


@dataclass(frozen=True)
class Part:
    """A part of the campaign.

    Attributes
    ----------
    tries, quick : int
        Usual numbers of tries.
    networks : bool
        Whether it needs TensorFlow.
    """

    tries: int
    quick: int
    networks: bool


#: New parts come last: the place of a part is in its seeds.
PARTS = {
    "nifti": Part(1000, 40, False),
    "sidecars": Part(500, 25, False),
    "shards": Part(600, 20, True),
    "networks": Part(200, 12, True),
    "options": Part(400, 20, True),
    "kills": Part(300, 6, True),
    "surroundings": Part(torture_surroundings.number_of_cases(), 8, True),
    "pairs": Part(40, 4, True),
    "predict": Part(600, 60, False),
}
#: Parts that run commands themselves; the others draw a command and its files.
RUNNERS = {
    "kills": torture_kills.attempt,
    "surroundings": torture_surroundings.attempt,
    "pairs": torture_pairs.attempt,
}
#: Which sound command a refusal is compared with, for the time it takes to start.
GOOD = {
    "predict": "maps",
    "nifti": "maps",
    "sidecars": "shards",
    "shards": "run",
    "networks": "run",
    "options": "run",
}


def generator(seed: int, part: str, number: int) -> np.random.Generator:
    """Random numbers of one try."""
    return np.random.default_rng([seed, list(PARTS).index(part), number])


def attempt(part: str, number: int, seed: int, stock: Stock, keep: Path | None = None) -> Outcome:
    """One try of a part; `keep`: a folder for its files, which stay."""
    rng = generator(seed, part, number)
    with tempfile.TemporaryDirectory(prefix="torture-") as temporary:
        folder = keep or Path(temporary)
        if part in RUNNERS:
            return RUNNERS[part](number, rng, folder, stock)
        module = importlib.import_module(f"torture_{part}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of numpy and nibabel, on values that overflow
            drawn = module.make(rng, folder, stock)
        ended, faults = run(drawn, folder, stock.runs.get(GOOD[part]))
        line = ended.lines[0] if ended.lines else ""
        outcome = Outcome(part, number, drawn.what, drawn.arguments, ended.code, line, faults)
        if keep is not None:
            click.echo(_shown(ended.output, ended.errors))
            click.echo(f"{ended.seconds:.1f} s of processor time, {ended.peak / 1e6:.0f} MB")
        return outcome


def _shown(output: str, errors: str) -> str:
    return f"--- output\n{output[-3000:]}\n--- errors\n{errors[-6000:]}"


def campaign(
    parts: tuple[str, ...],
    seed: int,
    tries: int | None,
    seconds: float | None,
    quick: bool,
    only: int | None = None,
) -> Iterator[Outcome]:
    """Run the tries of some parts; `tries` and `seconds` bound each of them."""
    heavy = any(PARTS[part].networks for part in parts)
    preload(heavy)
    with tempfile.TemporaryDirectory(prefix="torture-stock-") as place:
        stock = make_stock(Path(place), heavy)
        for part in parts:
            usual = PARTS[part].quick if quick else PARTS[part].tries
            numbers = range(tries or usual) if only is None else [only]
            keep = (
                None if only is None else Path(tempfile.mkdtemp(prefix=f"torture-{part}-{only}-"))
            )
            begin = time.monotonic()
            for number in numbers:
                if seconds is not None and time.monotonic() - begin > seconds:
                    break
                yield attempt(part, number, seed, stock, keep)
            if keep is not None:
                click.echo(f"its files: {keep}")


@click.command(help=__doc__.replace("\n\n", "\n\n\b\n"))
@click.option("--part", "parts", multiple=True, type=click.Choice(list(PARTS)), help="[all]")
@click.option("--seed", default=0, show_default=True)
@click.option("--tries", type=int, help="Of each part.")
@click.option("--seconds", type=float, help="At most, for each part.")
@click.option("--quick", is_flag=True, help="A few tries of each part.")
@click.option("--only", metavar="PART:NUMBER", help="Repeat one try and show what it printed.")
@click.option("--out", type=click.Path(path_type=Path), help="CSV file of all tries.")
def main(
    parts: tuple[str, ...],
    seed: int,
    tries: int | None,
    seconds: float | None,
    quick: bool,
    only: str | None,
    out: Path | None,
) -> None:
    """Run, print the table, and exit with 1 if there are faults."""
    number = None
    if only is not None:
        part, text = only.split(":")
        parts, number = (part,), int(text)
    parts = parts or tuple(PARTS)
    outcomes = []
    try:
        for outcome in campaign(parts, seed, tries, seconds, quick, number):
            outcomes.append(outcome)
            if outcome.faults or only is not None:
                click.echo(line_of(outcome, seed))
    except KeyboardInterrupt:
        click.echo("Interrupted; the table is of the tries so far.")
    if out is not None:
        write_table(out, outcomes)
    click.echo(table(outcomes))
    sys.exit(any(o.faults for o in outcomes))


def line_of(outcome: Outcome, seed: int) -> str:
    """A fault in one line, with the arguments that repeat it."""
    faults = "; ".join(outcome.faults) or "as it should be"
    command = " ".join(shlex.quote(a if len(a) < 60 else f"{a[:50]}...") for a in outcome.arguments)
    text = (
        f"[--seed {seed} --only {outcome.part}:{outcome.number}] {faults} | {outcome.what} | "
        f"{command} | {outcome.code} {outcome.line[:200]}"
    )
    return "".join(c if c.isprintable() else "?" for c in text).encode("utf-8", "replace").decode()


def write_table(path: Path, outcomes: list[Outcome]) -> None:
    """All tries as a CSV file."""
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file)
        writer.writerow(["part", "number", "what", "exit_code", "line", "faults"])
        for o in outcomes:
            line = "skipped" if o.skipped else o.line
            writer.writerow([o.part, o.number, o.what, o.code, line, "; ".join(o.faults)])


def table(outcomes: list[Outcome]) -> str:
    """Counts by part, and the kinds of faults with the first number of each."""
    rows = [f"{'part':13}{'tried':>7}{'done':>7}{'refused':>9}{'faults':>8}"]
    kinds: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], int] = {}
    for part in dict.fromkeys(o.part for o in outcomes):
        mine = [o for o in outcomes if o.part == part and not o.skipped]
        codes = Counter(o.code for o in mine)
        bad = sum(bool(o.faults) for o in mine)
        rows.append(f"{part:13}{len(mine):7}{codes[0]:7}{codes[2]:9}{bad:8}")
        for o in mine:
            for kind in o.faults:
                kinds[part, kind] += 1
                first.setdefault((part, kind), o.number)
    for (part, kind), count in sorted(kinds.items(), key=lambda item: (item[0][0], -item[1])):
        rows.append(f"  {part}: {count} x {kind} (--only {part}:{first[part, kind]})")
    return "\n".join(rows).encode("utf-8", "replace").decode()


if __name__ == "__main__":
    main()
