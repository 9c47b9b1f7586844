"""Mapping a BIDS dataset: subject by subject, going on after what fails."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from relaxnet.bids.dataset import Collection, find_match
from relaxnet.bids.derivative import (
    REPORT,
    bids_uri,
    check_name_is_free,
    derivative_layout,
    made_with,
    map_name,
)
from relaxnet.bids.output import collect, only_run_of, publish
from relaxnet.bids.processes import worker_pool
from relaxnet.fitting.options import VOXELWISE, FitOptions
from relaxnet.io.bids_known import find_known_maps
from relaxnet.io.bids_names import BidsError, parse_name
from relaxnet.io.bids_times import read_acquisition
from relaxnet.maps.maps import Maps
from relaxnet.networks.registry import ModelError, network_file, no_default
from relaxnet.prediction.files import Listener, predict_request
from relaxnet.prediction.request import Request
from relaxsim.core.files import temporary_folder
from relaxsim.models.signal_model import SignalModel

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
        ``auto``, ``none`` or a pattern for `relaxnet.bids.dataset.find_match`.
    sigma : float, str or None
        Noise standard deviation, or such a pattern for maps of it; found in the data without it.
    fit : FitOptions
        For ``mle``; each signal model takes those that it has a use for (`fit_of`).
    skip_first : int
        Echoes of a train to leave out.
    slice_timing : bool
        Add SliceTiming of the sidecars to the times since a pulse, of each slice.
    report : callable, optional
        ``report(folder, file)`` writes the report of a folder of maps; can be pickled.
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
    sigma: float | str | None = None
    fit: FitOptions = VOXELWISE
    skip_first: int = 0
    slice_timing: bool = False
    report: Callable[[Path, Path], object] | None = None
    overwrite: bool = False
    command: str = ""
    before_network: Callable[[], object] | None = None

    def network(self, model: SignalModel) -> str:
        """Network for a signal model, as named or the one that ships; empty for a fit.

        Raises
        ------
        ModelError
            If none is named and none ships.
        """
        if self.method == "mle":
            return ""
        name = self.networks.get(model.name, "") or model.border.default_network
        if not name:
            raise ModelError(no_default(self.method, model.name))
        return name

    def fit_of(self, model: SignalModel) -> FitOptions:
        """Those of the options of a fit that a signal model has a use for."""
        tr = self.fit.tr if model.finite_tr is not None else None
        if model.shared is None:
            fit = FitOptions(likelihood=self.fit.likelihood, tr=tr)
        else:
            fit = replace(self.fit, bounds=None, tr=tr)
        return replace(fit, bounds=_bounds_of(self.fit, model))

    def record(self, collection: Collection) -> dict[str, Any]:
        """What decides the maps of a series, to be compared with those in place.

        Options that earlier versions lacked are None where they are not given.
        """
        model = collection.model
        known = {k: bids_uri(path, self.root) for k, path in self.known(collection).items()}
        if self.method == "mle":
            fit = self.fit_of(model)
            bounds = _bounds_of(fit, model) or {}
            decides: dict[str, Any] = {
                "Likelihood": fit.likelihood,
                "RepetitionTime": fit.tr,
                "LambdaB": fit.lambda_b,
                "FixB": fit.fix_b,
                "ShareB": fit.share_b or None,
                "Bounds": {name: list(pair) for name, pair in bounds.items()} or None,
            }
        else:
            decides = {"NetworkSHA256": network_file(self.network(model)).sha256}
        return {
            "Method": self.method,
            **decides,
            "Mask": self.mask,
            "Sigma": self.sigma,
            "KnownMaps": known or None,
            "SkipFirst": self.skipped(model) or None,
            "SliceTiming": self.adds_slice_timing(model) or None,
        }

    def known(self, collection: Collection) -> dict[str, str]:
        """Files of known maps beside a series, by the options of the signal model."""
        if not collection.images:
            return {}
        found = find_known_maps(collection.images[0], collection.model)
        return {option: str(path) for option, path in found.items()}

    def adds_slice_timing(self, model: SignalModel) -> bool:
        """Whether SliceTiming is added to the times of a signal model's series."""
        return self.slice_timing and model.border.columns[0].after_preparation

    def skipped(self, model: SignalModel) -> int:
        """Images of a series to leave out: echoes of a train."""
        return self.skip_first if model.border.echo_train else 0


def _bounds_of(fit: FitOptions, model: SignalModel) -> dict[str, tuple[float, float]] | None:
    """Those of the bounds that a signal model has parameters for."""
    if not isinstance(fit.bounds, Mapping):
        return None
    fitted = model if model.finite_tr is None else fit.fitted_model(model)
    return {name: fit.bounds[name] for name in fit.bounds if name in fitted.parameters} or None


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
    models = {c.model.name: c.model for c in collections}.values()
    if settings.method == "mle":
        if settings.networks:
            raise BidsError("`networks` go with a network; `method` mle takes none.")
        for model in models:
            settings.fit_of(model).check(model)
        return
    if settings.fit != VOXELWISE:
        raise BidsError(
            "`bounds`, `likelihood`, `lambda_b`, `fix_b`, `share_b` and `tr` are options of the "
            "fit: give `method` mle."
        )
    without = [model for model in models if not _has_network(settings, model)]
    for model in models if len(without) == len(models) else ():
        settings.network(model)  # refuses the first
    for model in models:
        if model in without:
            continue
        name = settings.network(model)
        kind = network_file(name).architecture
        if kind != settings.method:
            raise BidsError(f"the network {name} is a {kind}, but `method` is {settings.method}.")


def _has_network(settings: Settings, model: SignalModel) -> bool:
    return bool(settings.networks.get(model.name) or model.border.default_network)


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

    Raises
    ------
    BidsError
        If another run maps one of the series into the same dataset.
    """
    wanted = [c.name for series in subjects.values() for c in series if _is_wanted(settings, c)]
    with only_run_of(settings.out, wanted):
        yield from _run_alone(settings, subjects, jobs)


def _is_wanted(settings: Settings, collection: Collection) -> bool:
    """Whether a series is to be mapped: its maps are not in place, or are to be replaced."""
    try:
        return settings.overwrite or made_with(settings.out, collection) is None
    except (ValueError, OSError):  # said where the series is tried
        return False


def _run_alone(
    settings: Settings, subjects: Mapping[str, Sequence[Collection]], jobs: int
) -> Iterator[Outcome]:
    """Map series that no other run maps."""
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
    with worker_pool(jobs) as submit:
        tasks: dict[Future[list[Outcome]], str] = {
            submit(map_subject, settings, series): subject for subject, series in left.items()
        }
        try:
            for task in as_completed(tasks):
                outcomes = task.result()
                del left[tasks[task]]
                yield from outcomes
        except BrokenProcessPool:
            return


def map_subject(settings: Settings, collections: Sequence[Collection]) -> list[Outcome]:
    """Map the series of one subject and move their maps into place together.

    A series that cannot be mapped does not keep the others from it. Nothing is raised but for
    Ctrl-C and lack of disk: failures are outcomes.
    """
    outcomes: list[Outcome] = []
    done: dict[str, Collection] = {}
    try:
        with temporary_folder(settings.out / "relaxnet") as place:
            tree = place / "tree"
            tree.mkdir()
            for collection in collections:
                outcome = _attempt(settings, collection, place, tree)
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
    """Map one series into `tree`; files of one that cannot be mapped do not get there."""
    outcome = _tried(settings, collection, place, tree)
    shutil.rmtree(place / collection.name, ignore_errors=True)  # the disk may be small
    return outcome


def _tried(settings: Settings, collection: Collection, place: Path, tree: Path) -> Outcome:
    name = collection.name
    try:
        check_name_is_free((tree, settings.out), collection)
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
        "`overwrite` or another folder",
    )


def _map(
    settings: Settings, collection: Collection, folder: Path, tree: Path
) -> tuple[Maps, tuple[str, ...]]:
    """Map one series into `folder` and, once all files are there, move them to `tree`."""
    if collection.problem:
        raise BidsError(f"{collection.problem}.")
    model = collection.model
    fitted = settings.method == "mle"
    fit = settings.fit_of(model)
    images = [str(path) for path in collection.images]
    later = settings.adds_slice_timing(model)
    acquisition = read_acquisition(images, None, fit.tr, slice_timing=later)
    mask, stripped = _mask(settings, collection)
    skipped = settings.skipped(model)
    request = Request(
        series=acquisition.paths,
        protocol=acquisition.protocol,
        out=folder,
        method=settings.method,
        network=settings.network(model),
        mask=mask,
        sigma=_sigma(settings, collection),
        known=settings.known(collection),
        fit=replace(fit, tr=acquisition.tr) if fitted else VOXELWISE,
        skip_first=skipped,
        command=settings.command,
        notes=(*acquisition.notes, *([collection.note] if collection.note else [])),
        sidecar=acquisition.fields,
        warnings=acquisition.warnings,
        signed=acquisition.signed,
        scaling=acquisition.scaling,
    )
    listener = Listener()
    if settings.before_network is not None:
        listener = Listener(before_network=settings.before_network)
    mapped = acquisition.without_first(skipped)
    record = settings.record(collection)
    layout = derivative_layout(settings.root, collection, mapped, record, stripped)
    maps = predict_request(
        request, listener, layout=layout, complete=_reporter(settings, collection)
    )
    collect(folder, tree, collection)
    return maps, (*maps.notes, *maps.warnings)


def _reporter(settings: Settings, collection: Collection) -> Callable[[Path], object] | None:
    """What writes the report of a series under its BIDS name; None if none is wanted."""
    report = settings.report
    if report is None:
        return None
    name = f"{map_name(collection, REPORT)}.html"
    return lambda folder: report(folder, folder / name)


def _mask(settings: Settings, collection: Collection) -> tuple[str, bool]:
    """Mask of a series, as a request takes it, and whether it is one of the brain."""
    if settings.mask in ("auto", "none"):
        return settings.mask, False
    path = find_match(settings.mask, settings.root, collection, "mask")
    name = parse_name(path)
    return str(path), name is not None and name.entities.get("desc", "").lower() == "brain"


def _sigma(settings: Settings, collection: Collection) -> float | str | None:
    """Noise standard deviation of a series, or the file of a map of it."""
    if not isinstance(settings.sigma, str):
        return settings.sigma
    return str(find_match(settings.sigma, settings.root, collection, "sigma"))


def _words(maps: Maps, seconds: float) -> str:
    """Median of the relaxation time, and how long it took."""
    values = maps.kappa[..., -1][maps.kappa[..., -1] > 0]
    parameter, unit = maps.model.main_label, maps.model.units[-1]
    median = f"median {np.median(values):.0f} {unit}" if values.size else "no voxel has an estimate"
    return f"{parameter} {median}, {seconds:.1f} s"
