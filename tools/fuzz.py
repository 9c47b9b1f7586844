"""Fuzz run of `relaxnet predict`: files that are damaged, hostile or of another kind.

Each case runs the real command in this process and has to end in one of two ways: exit code 0 with
a complete folder of maps, or exit code 2 with exactly one line ``Error: ...``, no traceback, and a
folder that is as it was. No case may run code out of a file. A seed repeats a run; --only repeats
one case of it.

Example:
    python tools/fuzz.py --count 600 --seed 0 --out fuzz.csv
"""

from __future__ import annotations

import csv
import os
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import nibabel as nib
import numpy as np
from click.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent))

from fuzz_cases import BREACH, MAPPED, REFUSED, Case, draw

from relaxnet.cli.group import main as relaxnet_main

MAPS = ("T1map", "M0map", "Bmap", "residual", "status")


@dataclass(frozen=True)
class Outcome:
    """Result of a case.

    Attributes
    ----------
    number : int
    case : Case
    exit_code : int
    line : str
        The error line, if there was one.
    faults : tuple of str
        Descriptions of what went wrong; empty if nothing did.
    """

    number: int
    case: Case
    exit_code: int
    line: str
    faults: tuple[str, ...]


def run(count: int, seed: int, only: int | None = None) -> Iterator[Outcome]:
    """Draw and run cases; each has its own generator, so that any can be repeated alone."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for number in range(count) if only is None else (only,):
        with tempfile.TemporaryDirectory(prefix="fuzz-") as place:
            rng = np.random.default_rng([seed, number])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # nibabel's and numpy's, on values that overflow
                case = draw(rng, Path(place))
            yield attempt(number, case, Path(place))


def attempt(number: int, case: Case, folder: Path) -> Outcome:
    """Run one case and check what it wrote."""
    before, out = _listing(folder), folder / "maps"
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        result = CliRunner().invoke(relaxnet_main, ["predict", *case.arguments, "--out", str(out)])
    lines = [line for line in result.output.splitlines() if line.startswith("Error:")]
    faults = [
        f"{w.message} at {Path(w.filename).name}:{w.lineno}"
        for w in warned
        if "relax" in w.filename
    ]
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        frames = traceback.extract_tb(result.exc_info[2])
        faults.append(f"{result.exception!r} at {frames[-1].filename}:{frames[-1].lineno}")
    if "Traceback" in result.output:
        faults.append("a traceback")
    if (folder / BREACH).exists():
        faults.append("code of the file was run")
    if result.exit_code == 0:
        faults += _of_maps(out)
    elif result.exit_code == 2:
        if len(lines) != 1:
            faults.append(f"{len(lines)} error lines")
        if _listing(folder) != before:
            faults.append("files were left")
    else:
        faults.append(f"exit code {result.exit_code}")
    if (case.expect, result.exit_code) in ((REFUSED, 0), (MAPPED, 2)):
        faults.append(f"expected to be {case.expect}")
    return Outcome(number, case, result.exit_code, lines[0] if lines else "", tuple(faults))


def _listing(folder: Path) -> list[tuple[str, int, int]]:
    return sorted((str(p), *_size(p)) for p in folder.rglob("*"))


def _size(path: Path) -> tuple[int, int]:
    status = path.stat()
    return (0, 0) if path.is_dir() else (status.st_size, status.st_mtime_ns)


def _of_maps(out: Path) -> Iterator[str]:
    """Faults of a folder of maps."""
    for stem in MAPS:
        path = out / f"{stem}.nii.gz"
        if not path.is_file() or not path.with_name(f"{stem}.json").is_file():
            yield f"{stem} is missing"
            continue
        image = nib.load(path)
        if image.ndim != 3 or image.get_data_dtype() != np.float32:
            yield f"{stem} is {image.get_data_dtype()} of {image.ndim} dimensions"
        if not np.isfinite(np.asarray(image.dataobj)).all():
            yield f"{stem} is not finite"


@click.command(help=__doc__)
@click.option("--count", default=600, show_default=True, help="Cases.")
@click.option("--seed", default=0, show_default=True)
@click.option("--quick", is_flag=True, help="60 cases.")
@click.option("--only", type=int, help="Run this case alone, and show its arguments.")
@click.option("--out", type=click.Path(path_type=Path), help="CSV file of all cases.")
def main(count: int, seed: int, quick: bool, only: int | None, out: Path | None) -> None:
    """Run the cases; exit with 1 if one has a fault."""
    begin, outcomes = time.perf_counter(), []
    for outcome in run(60 if quick else count, seed, only):
        outcomes.append(outcome)
        if outcome.faults or only is not None:
            words = "; ".join(outcome.faults) or "as it should be"
            click.echo(f"{outcome.number}: {outcome.case.what}: {words}; {outcome.line}")
        if only is not None:
            click.echo(" ".join(outcome.case.arguments))
    if out is not None:
        with out.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["number", "case", "exit_code", "line", "faults"])
            for o in outcomes:
                writer.writerow([o.number, o.case.what, o.exit_code, o.line, "; ".join(o.faults)])
    codes = Counter(o.exit_code for o in outcomes)
    bad = sum(bool(o.faults) for o in outcomes)
    click.echo(
        f"{len(outcomes)} cases in {time.perf_counter() - begin:.0f} s: {codes[0]} mapped, "
        f"{codes[2]} refused, {bad} with faults"
    )
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
