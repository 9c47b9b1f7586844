"""Command line of relaxnet bids."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from relaxnet.cli.fit_options import fit_options, read_sigma, take_fit_options
from relaxnet.cli.signal_model_options import slice_timing_option
from relaxnet.cli.tensorflow_import import import_tensorflow
from relaxsim.core.errors import in_flags, one_line_errors


class _Suffix(click.ParamType):
    """A BIDS suffix that a signal model is there for."""

    name = "suffix"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """All of them."""
        from relaxnet.io.bids_times import mapped_suffixes

        return f"[{'|'.join(mapped_suffixes())}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The suffix, or a refusal that lists those there are."""
        from relaxnet.io.bids_times import mapped_suffixes

        if value not in mapped_suffixes():
            self.fail(f"{value!r} is not one of {', '.join(mapped_suffixes())}.", param, ctx)
        return str(value)


@click.command()
@click.argument("bids_dir", type=click.Path(path_type=Path))
@click.argument("output_dir", type=click.Path(path_type=Path))
@click.argument("level", type=click.Choice(["participant"]))
@click.argument("more", nargs=-1, metavar="")
@click.option(
    "--participant-label",
    "--participant_label",
    "participants",
    multiple=True,
    metavar="LABEL",
    help="Subject, with or without sub-; may be given several times.  [default: all]",
    show_default=False,
)
@click.option(
    "--session-label",
    "--session_label",
    "sessions",
    multiple=True,
    metavar="LABEL",
    help="Session, with or without ses-; may be given several times.  [default: all]",
    show_default=False,
)
@click.option(
    "--suffix",
    "suffixes",
    multiple=True,
    type=_Suffix(),
    help="Kind of series; may be given several times.  [default: all]",
    show_default=False,
)
@click.option(
    "--method",
    type=click.Choice(["rim", "resnet", "mle"]),
    help="Network or voxel-wise maximum likelihood.  [default: that of --model, else rim]",
    show_default=False,
)
@click.option(
    "--model",
    "networks",
    multiple=True,
    metavar="FILE|NAME",
    help="Network; may be given once for each kind of series.  [default: those that ship]",
    show_default=False,
)
@click.option(
    "--mask",
    default="auto",
    metavar="auto|none|PATTERN",
    help="Voxels to map; auto: the foreground; PATTERN: masks below BIDS_DIR, matched to series "
    "by their entities.",
)
@click.option(
    "--sigma",
    default="auto",
    metavar="auto|VALUE|PATTERN",
    help="Noise standard deviation in the series' unit, or maps of it, matched as masks are; auto: "
    "found in the data.",
)
@fit_options
@click.option("--jobs", default=1, type=click.IntRange(1, 1024), help="Subjects at a time.")
@slice_timing_option
@click.option(
    "--skip-first", default=0, type=click.IntRange(0), help="Leave out first echoes of trains."
)
@click.option("--report", is_flag=True, help="Write a report beside the maps of each series.")
@click.option("--overwrite", is_flag=True, help="Map again what is in place.")
@one_line_errors
def bids(
    bids_dir: Path,
    output_dir: Path,
    level: str,
    more: tuple[str, ...],
    participants: tuple[str, ...],
    sessions: tuple[str, ...],
    suffixes: tuple[str, ...],
    jobs: int,
    **options: Any,
) -> None:
    """Map the series of a BIDS dataset into a derivative dataset: IRT1, VFA, MESE and MEGRE.

    Times and angles come from the sidecars. T1map, T2map and T2starmap are in seconds; series whose
    maps are in place are skipped, so the same command goes on after an interruption. Options of the
    fit count for the series whose signal model has a use for them: --tr and those of B for IRT1.

    Exit code 0: every series has its maps. 1: some failed; they are listed at the end. 2: nothing
    was done, and one line says why.

    \b
    Examples:
      relaxnet bids data data/derivatives/relaxnet participant --jobs 4
      relaxnet bids data out participant --participant-label 01 --method mle
      relaxnet bids data out participant --mask 'derivatives/brain/**/*_desc-brain_mask.nii.gz'
    """  # noqa: D301
    from relaxnet.bids import run as work
    from relaxnet.bids.dataset import (
        check_dataset,
        check_sessions,
        chosen_subjects,
        compare_counts,
        find_collections,
        unusual_names,
    )
    from relaxnet.bids.output import prepare
    from relaxnet.io.bids_times import mapped_suffixes

    participants, sessions = _labels(participants, sessions, more)
    check_dataset(bids_dir)
    labels = chosen_subjects(bids_dir, participants)
    check_sessions(bids_dir, labels, sessions)
    wanted = suffixes or mapped_suffixes()
    found = {s: find_collections(bids_dir, s, sessions, wanted) for s in labels}
    others = chosen_subjects(bids_dir, [])
    there = [c for s in others for c in find_collections(bids_dir, s, (), wanted)]
    subjects = {s: compare_counts(series, there) for s, series in found.items() if series}
    everything = [collection for series in subjects.values() for collection in series]
    odd = {s: unusual_names(bids_dir, s, wanted) for s in labels}
    odd = {s: names for s, names in odd.items() if names}
    if not everything and odd:
        raise ValueError(f"{bids_dir} holds no name of BIDS: {_odd_names(odd)}.")
    if not everything:
        raise ValueError(_nothing(bids_dir, labels, sessions, wanted))
    models = {c.model.name: c.model for c in everything}.values()
    options["fit"] = take_fit_options(options, lambda: models)
    settings = _settings(bids_dir, output_dir, **options)
    work.check_settings(settings, everything)
    prepare(output_dir, bids_dir)
    bare = [f"sub-{label}" for label in labels if label not in subjects and label not in odd]
    people = "1 subject" if len(subjects) == 1 else f"{len(subjects)} subjects"
    click.echo(f"{bids_dir}: {len(everything)} series of {people}")
    if bare:
        click.echo(f"without {_either(wanted)}: {', '.join(bare)}")
    if odd:
        click.echo(f"not mapped: {_odd_names(odd)}")
    failed = _report(work.run(settings, subjects, jobs), len(everything))
    if participants:
        failed += [f"{name}: no {_either(wanted)} series" for name in bare]
    failed += [f"sub-{s}: {_odd_names({s: names})}" for s, names in odd.items()]
    if failed:
        click.echo(f"{len(failed)} failed:", err=True)
        for line in failed:
            click.echo(f"  {line}", err=True)
        sys.exit(1)


def _either(suffixes: Sequence[str]) -> str:
    """Suffixes in words: IRT1, VFA or MESE."""
    return " or ".join(filter(None, [", ".join(suffixes[:-1]), suffixes[-1]]))


def _odd_names(names: Mapping[str, list[str]]) -> str:
    """Why images are not found, by subject."""
    every = [name for some in names.values() for name in some]
    more = f" and {len(every) - 1} more" if len(every) > 1 else ""
    return (
        f"{every[0]}{more}: entities and labels are letters and digits without accents "
        "(sub-Zoe, not sub-Zo\u00eb); rename the files"
    )


def _labels(
    participants: tuple[str, ...], sessions: tuple[str, ...], more: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Labels of subjects and sessions, also those after commas or spaces."""
    if more and bool(participants) == bool(sessions):
        raise ValueError(
            f"{more[0]}: not expected. Give --participant-label or --session-label for each label."
        )
    participants += more if participants else ()
    sessions += more if sessions else ()
    return _split(participants), _split(sessions)


def _split(labels: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(label for text in labels for label in text.replace(",", " ").split())


def _settings(bids_dir: Path, output_dir: Path, **options: Any) -> Any:
    from relaxnet.bids.run import Settings

    networks, kind = _networks(options["networks"])
    return Settings(
        root=bids_dir,
        out=output_dir,
        method=options["method"] or kind or "rim",
        networks=networks,
        mask=options["mask"],
        sigma=read_sigma(options["sigma"], pattern=True),
        fit=options["fit"],
        skip_first=options["skip_first"],
        slice_timing=options["slice_timing"],
        report=_write_report if options["report"] else None,
        overwrite=options["overwrite"],
        command=shlex.join(["relaxnet", *sys.argv[1:]]),
        before_network=import_tensorflow,
    )


def _write_report(folder: Path, file: Path) -> Path:
    from relaxnet.report.page import write_report

    return write_report(folder, file)


def _networks(names: tuple[str, ...]) -> tuple[dict[str, str], str]:
    """Networks by signal model, and the kind of the first."""
    from relaxnet.networks.registry import network_file

    networks: dict[str, str] = {}
    kind = ""
    for name in names:
        file = network_file(name)
        model = str(file.config.get("model", ""))
        if model in networks:
            raise ValueError(f"--model {networks[model]} and {name} are both for {model}.")
        networks[model] = name
        kind = kind or file.architecture
    return networks, kind


def _nothing(root: Path, labels: list[str], sessions: Any, suffixes: Any) -> str:
    """Why there is nothing to map."""
    from relaxnet.bids.dataset import other_suffixes

    there = ", ".join(other_suffixes(root)) or "no images"
    place = f"the {len(labels)} subjects" if len(labels) > 1 else f"sub-{labels[0]}"
    if sessions:
        place += f" in session {', '.join(sessions)}"
    return (
        f"{root} holds no {_either(suffixes)} series of {place}; in the dataset there are: {there}."
    )


def _report(outcomes: Any, count: int) -> list[str]:
    """Print what becomes of each series, and return the lines of those that failed."""
    from tqdm import tqdm

    from relaxnet.bids.run import FAILED

    failed: list[str] = []
    states: dict[str, int] = {}
    with tqdm(total=count, unit="series", disable=None, leave=False) as bar:
        for outcome in outcomes:
            line = in_flags(f"{outcome.name}: {outcome.words}")
            states[outcome.state] = states.get(outcome.state, 0) + 1
            with tqdm.external_write_mode():
                if outcome.state == FAILED:
                    failed.append(line)
                    click.echo(f"failed: {line}", err=True)
                else:
                    click.echo(line)
                for note in outcome.notes:
                    click.echo(in_flags(f"  note: {note}"))
            bar.update()
    click.echo(", ".join(f"{number} {state}" for state, number in sorted(states.items())))
    return failed
