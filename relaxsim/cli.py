"""Command line of relaxsim: parse, call, print."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from relaxsim import __version__


def one_line_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """Turn what a user can mend into one line and exit code 2; Ctrl-C into 130."""

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except (ValueError, OSError, ModuleNotFoundError) as error:
            click.echo(f"Error: {' '.join(str(error).split())}", err=True)
            sys.exit(2)
        except KeyboardInterrupt:
            click.echo("Interrupted. The same command goes on.", err=True)
            sys.exit(130)

    return wrapper


class Range(click.ParamType):
    """``X`` or ``LOW:HIGH``, positive numbers."""

    name = "X|LOW:HIGH"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[float, float]:
        """Pair of bounds; a single number is both."""
        try:
            low, _, high = str(value).partition(":")
            bounds = float(low), float(high or low)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor LOW:HIGH.", param, ctx)
        if not 0 < bounds[0] <= bounds[1] < float("inf"):
            self.fail(f"{value!r}: expected 0 < LOW <= HIGH.", param, ctx)
        return bounds


class IndexRange(click.ParamType):
    """``I:J``: shards I to J - 1."""

    name = "I:J"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, int]:
        """Pair of bounds."""
        low, _, high = str(value).partition(":")
        if not (low.isdigit() and high.isdigit() and int(low) < int(high)):
            self.fail(f"{value!r}: expected I:J with 0 <= I < J.", param, ctx)
        return int(low), int(high)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, prog_name="relaxsim")
def main() -> None:
    """Simulate training and evaluation data for MR relaxometry."""


@main.command()
@click.option("--tis", multiple=True, metavar="FILE|NAME|random",
              help="Inversion times in ms (inversion recovery): a text file, a bundled list "
              "(cine23, cine25, cine31) or 'random'. Several lists are spread over the shards.")
@click.option("--tes", multiple=True, metavar="FILE|NAME|random",
              help="Echo times in ms (T2 decay): likewise; bundled: fse6.")
@click.option("--out", default="shards", type=click.Path(path_type=Path), help="Folder.")
@click.option("--brains", multiple=True, type=click.Path(path_type=Path), metavar="PATH",
              help="Label volume (.mnc .rawb .bin .nii, also .gz); give it several times, or list "
              "further files at the end. Default: fetched BrainWeb models, else the built-in head.")
@click.argument("more_brains", nargs=-1, type=click.Path(path_type=Path))
@click.option("--patches", default=7200, type=click.IntRange(1), help="Total number of patches.")
@click.option("--patch-size", default=40, type=click.IntRange(4, 512), help="Width in voxels.")
@click.option("--seed", default=0, type=click.IntRange(0), help="Seed of all random draws.")
@click.option("--jobs", default=0, type=click.IntRange(0), help="Processes; 0: one a core.",
              show_default=False)
@click.option("--shards", type=IndexRange(), help="Write shards I to J - 1 only (job arrays).")
@click.option("--noise", default="gaussian", type=click.Choice(["gaussian", "rician"]),
              help="Noise of the weighted images.")
@click.option("--sigma-range", nargs=2, type=float, default=(0.0065, 0.255), metavar="LO HI",
              help="Noise standard deviation, log-uniform, in units of CSF's A; SNR = 0.75/sigma.")
@click.option("--tissues", default="paper", metavar="FILE|NAME",
              help="Tissue table: 'paper' (Table 1), 'wide' (no gaps), or a CSV file.")
@click.option("--spread", default=0.03, type=click.FloatRange(0, 0.2),
              help="Voxel-wise variation inside a tissue, share of its value.")
@click.option("--voxel-size", type=Range(),
              help="Voxel size in mm, with partial volumes; a range draws one a patch. "
              "Default: the anatomy's own, crisp labels.")
@click.option("--b-field", default="patch", type=click.Choice(["patch", "wide", "smooth"]),
              help="B: one value a patch, half-normal below 2 (paper); one a patch from 1.0 to "
              "2.05; a field that varies slowly.")
@click.option("--tr", "tr_range", type=Range(),
              help="Repetition time in ms; a range draws one a patch. Default: infinite.")
@click.option("--shapes", default=0.0, type=click.FloatRange(0, 1),
              help="Share of patches with drawn shapes (discs, bars, plates, points).")
@click.option("--no-augment", is_flag=True, help="No random flips and quarter turns.")
@click.option("--dtype", default="float32", type=click.Choice(["float32", "float16"]),
              help="Of the stored weighted images.")
@click.option("--overwrite", is_flag=True, help="Replace shards that are there.")
@one_line_errors
def generate(out: Path, shards: tuple[int, int] | None, jobs: int, overwrite: bool,
             **options: Any) -> None:
    """Write HDF5 shards of simulated patches.

    The same command resumes an interrupted run. Shard i depends on the settings and the seed
    alone: any number of --jobs, or a job array over --shards I:J, writes the same data.

    \b
    Examples:
      relaxsim generate --tis cine31.txt
      relaxsim generate --tes fse6 --brains subject04_crisp_v.mnc.gz subject05_crisp_v.mnc.gz
      relaxsim generate --tis random --tissues wide --b-field smooth --shapes 0.2
    """  # noqa: D301
    from tqdm import tqdm

    from relaxsim.generate import check_space, generate, pending_shards

    settings = _settings(**options)
    wanted = range(settings.num_shards) if shards is None else range(*shards)
    if wanted.stop > settings.num_shards:
        raise ValueError(
            f"--shards {shards[0]}:{shards[1]} goes beyond the run's {settings.num_shards} shards "
            f"({settings.patches} patches, {settings.patches_per_shard} a shard)."
        )
    pending = pending_shards(settings, out, wanted, overwrite)
    need, free = check_space(settings, out, len(pending) / settings.num_shards)
    click.echo(
        f"{len(pending)} of {settings.num_shards} shards to write in {out}: "
        f"{need / 1e9:.2f} GB ({free / 1e9:.1f} GB free)"
    )
    jobs = min(jobs or os.cpu_count() or 1, max(1, len(pending)))
    with tqdm(total=len(pending), unit="shard", disable=not pending, leave=False) as bar:
        for _ in generate(settings, out, pending, jobs) if pending else ():
            bar.update()
    click.echo(f"{out}: {len(list(out.glob('shard-*.h5')))} shards complete")


def _settings(tis: Sequence[str], tes: Sequence[str], brains: Sequence[Path],
              more_brains: Sequence[Path], tissues: str, sigma_range: tuple[float, float],
              no_augment: bool, **fields: Any) -> Any:
    """Settings of a run from the options of `generate`."""
    from relaxsim.generate import Settings
    from relaxsim.tissues import read_tissues

    if not 0 < sigma_range[0] <= sigma_range[1]:
        raise ValueError(f"--sigma-range {sigma_range[0]:g} {sigma_range[1]:g}: expected 0 < LO <= HI.")
    times, protocols = _protocols(tis, tes)
    table = read_tissues(tissues)
    return Settings(
        times=times,
        protocols=protocols,
        anatomies=_anatomies([*brains, *more_brains]),
        tissues=(table.name, table.text),
        sigma_range=tuple(sigma_range),
        augment=not no_augment,
        **fields,
    )


def _protocols(tis: Sequence[str], tes: Sequence[str]) -> tuple[str, tuple[Any, ...]]:
    from relaxsim.protocols import read_protocol

    if bool(tis) == bool(tes):
        raise ValueError("give inversion times with --tis or echo times with --tes, not both.")
    times, names = ("tis", tis) if tis else ("tes", tes)
    if "random" in names:
        if len(names) > 1:
            raise ValueError(f"--{times} random stands alone: it draws a list for every shard.")
        return times, ()
    lists = [read_protocol(name, times) for name in names]
    return times, tuple((p.name, tuple(float(t) for t in p.tau)) for p in lists)


def _anatomies(paths: Sequence[Path]) -> tuple[tuple[str, str], ...]:
    """Path and checksum of each label volume; fetched models or the built-in head if none given."""
    from relaxsim.anatomy import file_checksum, find_fetched_brains
    from relaxsim.generate import BUILTIN_SUBJECTS

    if not paths and (paths := find_fetched_brains()):
        click.echo(f"Anatomy: {len(paths)} BrainWeb models in {paths[0].parent}")
    if not paths:
        click.echo(f"Anatomy: the built-in head, {BUILTIN_SUBJECTS} subjects (no --brains given)")
        return tuple(("builtin", str(seed)) for seed in range(BUILTIN_SUBJECTS))
    return tuple((str(path), file_checksum(path)) for path in paths)
