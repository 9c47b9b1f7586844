"""Mapping a BIDS dataset: subject by subject, going on after what fails."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np

from relaxnet.bids.dataset import Collection, find_mask
from relaxnet.bids.derivative import made_with, write_derivative
from relaxnet.bids.output import publish, remove_maps
from relaxnet.fitting.options import FitOptions
from relaxnet.io.bids_names import BidsError, parse_name
from relaxnet.io.bids_times import SUFFIXES, read_acquisition
from relaxnet.maps.maps import Maps
from relaxnet.networks.registry import DEFAULT_NETWORK, checksum, find_model, network_kind
from relaxnet.prediction.files import Listener, predict_request
from relaxnet.prediction.request import Request
from relaxsim.models.registry import model_of

DONE, SKIPPED, FAILED = "done", "skipped", "failed"


@dataclass(frozen=True)
class Settings:
    """What ``relaxnet bids`` is asked to do.

    Attributes
    ----------
    root, out : pathlib.Path
        The raw and the derivative dataset.
    method : str
        ``rim``, ``resnet`` or ``mle``.
    networks : mapping of str to str
        Network by signal model; where none is named the one that ships.
    mask : str
        ``auto``, ``none`` or a pattern for `relaxnet.bids.dataset.find_mask`.
    tr : float, "sidecar" or None
        Repetition time in ms, for ``mle``.
    likelihood : str or None
        ``gaussian`` or ``rician``, for ``mle``; None: as the noise asks for.
    lambda_b : float, "auto" or None
        Weight of the penalty on B, for ``mle`` of inversion recovery.
    skip_first : int
        Echoes of a MESE series to leave out.
    report : bool
        Also write a report for each series.
    overwrite : bool
        Map again what is in place.
    command : str
        Goes into the sidecars.
    before_network : callable
        Called before TensorFlow is imported; can be pickled.
    """

    root: Path
    out: Path
    method: str = "rim"
    networks: Mapping[str, str] = field(default_factory=dict)
    mask: str = "auto"
    tr: float | Literal["sidecar"] | None = None
    likelihood: str | None = None
    lambda_b: float | str | None = None
    skip_first: int = 0
    report: bool = False
    overwrite: bool = False
    command: str = ""
    before_network: Callable[[], object] | None = None

    def network(self, collection: Collection) -> str:
        """Network for a series, as named or the one that ships; empty for a fit."""
        if self.method == "mle":
            return ""
        model = model_of(SUFFIXES[collection.suffix]).name
        return self.networks.get(model, "") or DEFAULT_NETWORK.get(model, "")

    def record(self, collection: Collection) -> dict[str, Any]:
        """What decides the maps of a series, to be compared with those in place."""
        network = self.network(collection)
        if self.method == "mle":
            own: dict[str, Any] = {"Likelihood": self.likelihood}
            recovery = collection.suffix == "IRT1"
            own["RepetitionTime"] = self.tr if recovery else None
            own["LambdaB"] = self.lambda_b if recovery else None
        else:
            own = {"NetworkSHA256": checksum(find_model(network))}
        skipped = self.skipped(collection) or None  # as of maps made before there was the option
        return {"Method": self.method, **own, "Mask": self.mask, "SkipFirst": skipped}

    def skipped(self, collection: Collection) -> int:
        """Images of a series to leave out: echoes of a train."""
        return self.skip_first if collection.suffix == "MESE" else 0


@dataclass(frozen=True)
class Outcome:
    """What became of one series.

    Attributes
    ----------
    name : str
        Such as ``sub-01_ses-2_IRT1``.
    state : str
        ``done``, ``skipped`` or ``failed``.
    words : str
        Result or reason, one line.
    notes : tuple of str
    """

    name: str
    state: str
    words: str
    notes: tuple[str, ...] = ()


def check_settings(settings: Settings, collections: Sequence[Collection]) -> None:
    """Refuse settings that no series could be mapped with.

    Raises
    ------
    ValueError
        If options exclude each other, or a network is missing or of another method.
    """
    if settings.method == "mle":
        if settings.networks:
            raise BidsError("--model goes with a network; --method mle takes none.")
        _fit(settings, "IRT1", settings.tr)
        return
    if any(x is not None for x in (settings.tr, settings.likelihood, settings.lambda_b)):
        raise BidsError(
            "--tr, --likelihood and --lambda-b are options of the fit: give --method mle."
        )
    for collection in {c.suffix: c for c in collections}.values():
        name = settings.network(collection)
        kind = network_kind(name)
        if kind != settings.method:
            raise BidsError(f"the network {name} is a {kind}, but --method is {settings.method}.")


def run(
    settings: Settings, subjects: Mapping[str, Sequence[Collection]], jobs: int = 1
) -> Iterator[Outcome]:
    """Map the series of subjects.

    Parameters
    ----------
    settings : Settings
    subjects : mapping of str to sequence of Collection
        Series by subject.
    jobs : int
        Processes; each takes whole subjects.

    Yields
    ------
    Outcome
        One for each series, as subjects are done.
    """
    if jobs == 1 or len(subjects) < 2:
        for series in subjects.values():
            yield from map_subject(settings, series)
        return
    left = dict(subjects)
    yield from _in_pool(settings, left, min(jobs, len(left)))
    # Subjects whose process died take the pool with them: each of those left gets one of its own.
    for subject, series in list(left.items()):
        yield from _in_pool(settings, alone := {subject: series}, 1)
        if alone:
            words = "its process died (out of memory?)"
            yield from (Outcome(c.name, FAILED, words) for c in series)


def _in_pool(
    settings: Settings, left: dict[str, Sequence[Collection]], jobs: int
) -> Iterator[Outcome]:
    """Map subjects in processes and drop them from `left`; ends early if a process dies."""
    threads = max(1, (os.cpu_count() or 1) // jobs)
    context = get_context("spawn")
    with ProcessPoolExecutor(jobs, context, _few_threads, (threads,)) as pool:
        tasks: dict[Future[list[Outcome]], str] = {
            pool.submit(map_subject, settings, series): subject for subject, series in left.items()
        }
        try:
            for task in as_completed(tasks):
                outcomes = task.result()
                del left[tasks[task]]
                yield from outcomes
        except BrokenProcessPool:
            return
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _few_threads(threads: int) -> None:
    """Leave the other cores to the other processes, unless the user says otherwise."""
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(name, str(threads))


def map_subject(settings: Settings, collections: Sequence[Collection]) -> list[Outcome]:
    """Map the series of one subject and move their maps into place together.

    A series that cannot be mapped does not keep the others from it. Nothing is raised but for
    Ctrl-C and lack of disk: failures are outcomes.
    """
    outcomes: list[Outcome] = []
    done: dict[str, Collection] = {}
    try:
        with tempfile.TemporaryDirectory(dir=settings.out, prefix=".relaxnet-") as place:
            tree = Path(place) / "tree"
            tree.mkdir()
            for collection in collections:
                outcome = _attempt(settings, collection, Path(place), tree)
                outcomes.append(outcome)
                if outcome.state == DONE:
                    done[collection.name] = collection
            late = publish(tree, settings.out, list(done.values()), settings.overwrite)
    except OSError as error:
        words = f"the maps cannot be written ({error.strerror or error})"
        outcomes = [Outcome(c.name, FAILED, words) for c in collections]
        return outcomes
    overtaken = {c.name: _overtaken(settings, c) for c in late}
    return [overtaken.get(outcome.name, outcome) for outcome in outcomes]


def _attempt(settings: Settings, collection: Collection, place: Path, tree: Path) -> Outcome:
    """Map one series into `tree`, or say why not and leave nothing of it there."""
    outcome = _tried(settings, collection, place, tree)
    if outcome.state == FAILED:
        remove_maps(tree, collection)
    shutil.rmtree(place / collection.name, ignore_errors=True)  # the disk may be small
    return outcome


def _tried(settings: Settings, collection: Collection, place: Path, tree: Path) -> Outcome:
    name = collection.name
    try:
        if not settings.overwrite and (there := made_with(settings.out, collection)) is not None:
            return _compare(there, settings.record(collection), name)
        begin = time.perf_counter()
        maps, notes = _map(settings, collection, place / name, tree)
        return Outcome(name, DONE, _words(maps, time.perf_counter() - begin), notes)
    except MemoryError:
        return Outcome(name, FAILED, "the memory of this machine does not suffice")
    except (ValueError, OSError) as error:
        return Outcome(name, FAILED, " ".join(str(error).split()))
    except Exception as error:  # a defect met in one subject leaves the others their maps
        words = " ".join(f"{type(error).__name__}: {error}".split())
        return Outcome(name, FAILED, words[:300])


def _overtaken(settings: Settings, collection: Collection) -> Outcome:
    """Outcome of a series whose maps another run has put into place."""
    there = made_with(settings.out, collection) or {}
    outcome = _compare(there, settings.record(collection), collection.name)
    if outcome.state == FAILED:
        return outcome
    return replace(outcome, words="another run put its maps into place in the meantime")


def _compare(there: Mapping[str, Any], wanted: Mapping[str, Any], name: str) -> Outcome:
    """Outcome of a series whose maps are in place."""
    differ = [key for key in wanted if there.get(key) != wanted[key]]
    if not differ:
        return Outcome(name, SKIPPED, "maps are in place")
    key = differ[0]
    return Outcome(
        name,
        FAILED,
        f"maps of other settings are in place ({key} {there.get(key)}, now {wanted[key]}); give "
        "--overwrite or another folder",
    )


def _map(
    settings: Settings, collection: Collection, folder: Path, tree: Path
) -> tuple[Maps, tuple[str, ...]]:
    """Map one series and write its maps to `tree`; `folder` is for those in ms."""
    if collection.problem:
        raise BidsError(f"{collection.problem}.")
    fitted = settings.method == "mle"
    tr = settings.tr if collection.suffix == "IRT1" else None
    acquisition = read_acquisition([str(p) for p in collection.images], None, tr)
    mask, stripped = settings.mask, False
    if mask not in ("auto", "none"):
        path = find_mask(mask, settings.root, collection)
        name = parse_name(path)
        mask = str(path)
        stripped = name is not None and name.entities.get("desc", "").lower() == "brain"
    request = Request(
        series=acquisition.paths,
        protocol=acquisition.protocol,
        out=folder,
        method=settings.method,
        network="" if fitted else settings.network(collection),
        mask=mask,
        fit=_fit(settings, collection.suffix, acquisition.tr) if fitted else FitOptions(),
        skip_first=settings.skipped(collection),
        command=settings.command,
        notes=(*acquisition.notes, *([collection.note] if collection.note else [])),
        report=settings.report,
    )
    told = Listener()
    if settings.before_network is not None:
        told = Listener(before_network=settings.before_network)
    maps = predict_request(request, told)
    record = settings.record(collection)
    acquisition = acquisition.without_first(settings.skipped(collection))
    write_derivative(folder, tree, settings.root, collection, acquisition, record, stripped)
    return maps, (*maps.notes, *maps.warnings)


def _fit(settings: Settings, suffix: str, tr: float | Literal["sidecar"] | None) -> FitOptions:
    return FitOptions(
        likelihood=settings.likelihood,
        lambda_b=settings.lambda_b if suffix == "IRT1" else None,
        tr=tr,
    )


def _words(maps: Maps, seconds: float) -> str:
    """Median of the relaxation time, and how long it took."""
    values = maps.kappa[..., -1][maps.kappa[..., -1] > 0]
    parameter, unit = maps.model.parameters[-1], maps.model.units[-1]
    median = f"median {np.median(values):.0f} {unit}" if values.size else "no voxel has an estimate"
    return f"{parameter} {median}, {seconds:.1f} s"
