"""Command line of relaxsim: parse, call, print."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from relaxsim.cli.options import (
    VOXEL_RANGE,
    IndexRange,
    b_field,
    chosen_protocol,
    noise,
    random_column_options,
    tissues,
)
from relaxsim.cli.phantom import phantom
from relaxsim.core.errors import one_line_errors
from relaxsim.core.options import FILE, LateCommand, Number, Range, available_cores, options
from relaxsim.core.program import Program
from relaxsim.core.snr import SIGMAS
from relaxsim.core.version_option import version_option

#: Largest number of patches of a run, and of processes.
MOST_PATCHES, MOST_JOBS = 10**12, 10**6


@click.group(
    cls=Program, context_settings={"help_option_names": ["-h", "--help"], "show_default": True}
)
@version_option("relaxsim")
def main() -> None:
    """Simulate training and evaluation data for MR relaxometry."""
    # Parallelism is by process; threads of numpy's matrix products in each would compete.
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")


main.add_command(phantom)


@main.command(cls=LateCommand, late_options=random_column_options)
@options(
    click.option("--out", default="shards", type=FILE, help="Folder, made if missing."),
    click.option(
        "--brains",
        multiple=True,
        type=FILE,
        metavar="PATH",
        help="Label volume (.mnc .rawb .bin .nii, also .gz); give it several times, or list "
        "further files at the end. Default: fetched BrainWeb models, else the built-in head.",
    ),
    click.argument("more_brains", nargs=-1, type=FILE),
    click.option(
        "--patches", default=7200, type=click.IntRange(1, MOST_PATCHES), help="Total number."
    ),
    click.option("--patch-size", default=40, type=click.IntRange(4, 512), help="Width in voxels."),
    click.option(
        "--seed",
        default=0,
        type=click.IntRange(0, 2**32 - 1),
        help="Of all random draws. Runs that are trained on together, or validated with, need "
        "different seeds: equal ones draw equal noise and places.",
    ),
    click.option(
        "--jobs",
        default=0,
        type=click.IntRange(0, MOST_JOBS),
        help="Processes; 0: one a core.",
        show_default=False,
    ),
    click.option("--shards", type=IndexRange(), help="Only shards I to J - 1 (job arrays)."),
    noise,
    click.option(
        "--sigma-range",
        nargs=2,
        type=float,
        default=(0.0065, 0.255),
        metavar="LO HI",
        help="Noise standard deviation, log-uniform, in units of CSF's A; SNR = 0.75/sigma.",
    ),
    tissues,
    click.option(
        "--spread",
        default=0.03,
        type=Number(0, 0.2),
        help="Voxel-wise variation inside a tissue, share of its value.",
    ),
    click.option(
        "--voxel-size",
        type=Range(),
        help="Voxel size in mm, with partial volumes; a range draws one a patch. "
        "Default: that of the anatomy, with crisp labels.",
    ),
    b_field,
    click.option(
        "--tr",
        "tr_range",
        type=Range(),
        help="Repetition time in ms, on which A and B depend together with T1; a range draws one "
        "a patch, no shorter than the longest inversion time. Default: infinite.",
    ),
    click.option(
        "--shapes",
        default=0.0,
        type=Number(0, 1),
        help="Share of patches with drawn shapes (discs, bars, plates, points) for phantoms.",
    ),
    click.option(
        "--details",
        default=0.0,
        type=Number(0, 1),
        help="Share of the other patches with points and short lines of other tissues drawn in, "
        "about a voxel wide, so that networks keep lesions and vessels.",
    ),
    click.option("--no-augment", is_flag=True, help="No random flips and quarter turns."),
    click.option(
        "--dtype",
        default="float32",
        type=click.Choice(["float32", "float16"]),
        help="Of the stored weighted images.",
    ),
    click.option("--overwrite", is_flag=True, help="Replace shards, also those of other settings."),
)
@one_line_errors
def generate(
    out: Path, shards: tuple[int, int] | None, jobs: int, overwrite: bool, **fields: Any
) -> None:
    """Write HDF5 shards of simulated patches.

    The same command, without --overwrite, resumes an interrupted run. Shard i depends on the
    settings and the seed alone: any number of --jobs, or a job array over --shards I:J, writes the
    same data.

    \b
    Examples:
      relaxsim generate --tis cine31.txt
      relaxsim generate --tes fse6 --brains subject04_crisp_v.mnc.gz subject05_crisp_v.mnc.gz
      relaxsim generate --tis random --tissues wide --b-field smooth --shapes 0.2
    """  # noqa: D301
    import json

    from relaxsim.core.only_run import only_run
    from relaxsim.shards.generate import check_tissues
    from relaxsim.shards.run import check_number

    settings = _settings(**fields)
    wanted = range(settings.num_shards) if shards is None else range(*shards)
    if wanted.stop > settings.num_shards:
        raise ValueError(
            f"--shards {wanted.start}:{wanted.stop} goes beyond the run's {settings.num_shards} "
            f"shards ({settings.patches} patches, {settings.patches_per_shard} a shard)."
        )
    check_number(settings, out, len(wanted))
    check_tissues(settings)
    with only_run(out, wanted, json.dumps(settings.to_json(), sort_keys=True)):
        _generate(settings, out, wanted, jobs, overwrite)
    click.echo(f"{out}: {len(list(out.glob('shard-*.h5')))} shards complete")


def _generate(settings: Any, out: Path, wanted: range, jobs: int, overwrite: bool) -> None:
    """Write the shards `wanted` that are not there yet, with a progress bar."""
    from tqdm import tqdm

    from relaxsim.shards.generate import check_anatomies
    from relaxsim.shards.layout import GOES_ON
    from relaxsim.shards.run import check_space, generate, pending_shards, remove_replaced

    pending = pending_shards(settings, out, wanted, overwrite)
    need, free = check_space(settings, out, pending)
    click.echo(
        f"{len(pending)} of {settings.num_shards} shards to write in {out}: "
        f"{need / 1e9:.2f} GB ({free / 1e9:.1f} GB free)"
    )
    if overwrite:
        check_anatomies(settings)
        remove_replaced(settings, out, pending)
    jobs = min(jobs or available_cores(), max(1, len(pending)))
    hidden = None if pending else True  # None: on a terminal alone
    with tqdm(total=len(pending), unit="shard", disable=hidden, leave=False) as bar:
        try:
            for _ in generate(settings, out, pending, jobs) if pending else ():
                bar.update()
        except KeyboardInterrupt:
            raise KeyboardInterrupt(GOES_ON) from None


@main.command()
@click.argument("folder", type=FILE, metavar="DIR")
@one_line_errors
def info(folder: Path) -> None:
    """List what the shards of DIR hold: number, signal model, protocols, settings."""
    from relaxsim.shards.overview import describe

    for name, value in describe(folder).items():
        click.echo(f"{name:<16}{value}")


@main.command()
@click.argument("folder", type=FILE, metavar="DIR")
@one_line_errors
def verify(folder: Path) -> None:
    """Check every shard of DIR; exit code 2 if any is bad.

    Layout, checksums, finite and physical values, one set of settings, no gap in the numbers.
    """
    from relaxsim.shards.overview import problems, run_length

    count = 0
    for problem in problems(folder):
        click.echo(problem, err=True)
        count += 1
    if count:
        sys.exit(2)
    found, whole = len(list(folder.glob("shard-*.h5"))), run_length(folder)
    of_run = f" of the run's {whole}" if found < whole else ""
    click.echo(f"{folder}: {found}{of_run} shards are sound")


@main.command()
@click.argument("shard", type=FILE)
@click.option("--out", default="shard.png", type=FILE, help="Picture (.png, .pdf, .svg).")
@click.option("--patches", default=6, type=click.IntRange(1, 24), help="Patches to show.")
@click.option("--overwrite", is_flag=True, help="Replace a picture that is there.")
@one_line_errors
def view(shard: Path, out: Path, patches: int, overwrite: bool) -> None:
    """Draw some patches of SHARD: labels, kappa and weighted images."""
    from relaxsim.shards.view import draw_shard

    if out.exists() and not overwrite:
        raise ValueError(f"{out} exists. Give --overwrite or another --out.")
    draw_shard(shard, out, patches)
    click.echo(f"{out}: {shard.name}")


@main.command("fetch-brainweb")
@click.argument("subjects", nargs=-1, type=int)
@click.option("--out", type=FILE, help="Folder.  [default: where generate looks for them]")
@one_line_errors
def fetch_brainweb(subjects: tuple[int, ...], out: Path | None) -> None:
    """Fetch BrainWeb's anatomical models (all 20, or SUBJECTS by number, such as 4 5 18).

    Needs a network and the package brainweb-dl (pip install 'relaxnet[brainweb]'). Generate uses
    the fetched models when no --brains are given. BrainWeb: Cocosco et al. 1997, Aubert-Broche et
    al. 2006; https://brainweb.bic.mni.mcgill.ca.
    """
    from relaxsim.anatomy.anatomy import fetched_brains_dir
    from relaxsim.anatomy.brainweb import fetch_subjects

    folder = out or fetched_brains_dir()
    for path in fetch_subjects(subjects, folder):
        click.echo(str(path))


def _settings(
    brains: Sequence[Path],
    more_brains: Sequence[Path],
    tissues: str | None,
    sigma_range: tuple[float, float],
    no_augment: bool,
    **fields: Any,
) -> Any:
    """Settings of a run from the options of `generate`."""
    from relaxsim.shards.generate import Settings, sequence_of
    from relaxsim.simulation.tissues import read_tissues

    low, high = sigma_range
    if not SIGMAS[0] <= low <= high <= SIGMAS[1]:
        raise ValueError(
            f"--sigma-range {low:g} {high:g}: expected LO <= HI within {SIGMAS[0]:g} to "
            f"{SIGMAS[1]:g} (CSF's A is 1)."
        )
    model, columns = chosen_protocol(fields)
    size = fields["voxel_size"]
    if size is not None and not VOXEL_RANGE[0] <= size[0] <= size[1] <= VOXEL_RANGE[1]:
        raise ValueError("--voxel-size: expected {:g} to {:g} mm.".format(*VOXEL_RANGE))
    table = read_tissues(tissues or model.border.tissues)
    return Settings(
        sequence=sequence_of(model),
        protocols=_protocols(columns, model),
        anatomies=chosen_anatomies([*brains, *more_brains]),
        tissues=(table.name, table.text),
        sigma_range=(low, high),
        augment=not no_augment,
        **fields,
    )


def _protocols(columns: dict[str, Sequence[str]], model: Any) -> tuple[tuple[str, Any], ...]:
    """Names and numbers of the protocols; none for random ones.

    The first list of each column makes the first protocol, and so on; a column with one list has it
    in all.
    """
    from relaxsim.models.protocols import read_protocol
    from relaxsim.shards.generate import rows_of

    if any("random" in names for names in columns.values()):
        for option, names in columns.items():
            if tuple(names) != ("random",):
                raise ValueError(
                    f"'random' stands alone, here not with `{option}`: it draws a protocol for "
                    "every shard."
                )
        return ()
    number = max(len(names) for names in columns.values())
    for option, names in columns.items():
        if len(names) not in (1, number):
            raise ValueError(
                f"`{option}` is given {len(names)} times, another column {number} times; expected "
                "as many lists, or one."
            )
    found = []
    for index in range(number):
        lists = {option: names[index % len(names)] for option, names in columns.items()}
        protocol = read_protocol(lists, model)
        for column, values in zip(model.border.columns, protocol.table.T, strict=True):
            if column.names and values.max() >= len(column.names):
                raise ValueError(
                    f"`{column.option}` is a file, which shards do not hold; expected one of "
                    f"{', '.join(column.names)}."
                )
        found.append((protocol.name, rows_of(protocol)))
    return tuple(found)


def chosen_anatomies(paths: Sequence[Path]) -> tuple[tuple[str, str], ...]:
    """Path and checksum of each label volume; fetched models or the built-in head if none given."""
    from relaxsim.anatomy.anatomy import (
        BUILTIN,
        BUILTIN_SUBJECTS,
        file_checksum,
        find_fetched_brains,
    )

    if not paths and (paths := find_fetched_brains()):
        click.echo(f"Anatomy: {len(paths)} BrainWeb models in {paths[0].parent}")
    if not paths:
        click.echo(f"Anatomy: the built-in head, {BUILTIN_SUBJECTS} subjects (no --brains given)")
        return tuple((BUILTIN, str(seed)) for seed in range(BUILTIN_SUBJECTS))
    return tuple((str(path), file_checksum(path)) for path in paths)
