"""The folder of maps: checked before the work, filled after it, all files or none."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from relaxnet.io.nifti import Series, save_map
from relaxnet.maps.maps import Maps
from relaxnet.maps.roi import roi_columns, roi_csv
from relaxnet.maps.status import levels
from relaxsim.core.files import temporary_folder
from relaxsim.core.folders import check_free_space, check_writable, written_by
from relaxsim.core.only_run import LOCK
from relaxsim.core.replacing import MARK, replace_files


def _same_name(stem: str) -> str:
    return stem


def _same_unit(stem: str, unit: str) -> tuple[str, float]:
    return unit, 1.0


def _same_card(stem: str, card: Mapping[str, Any]) -> Mapping[str, Any]:
    return card


@dataclass(frozen=True)
class MapLayout:
    """What the files of a run are called and what their JSON files say, by the stems of the maps.

    The default is that of ``relaxnet predict``: stems as names, units of the signal model.

    Attributes
    ----------
    name : callable
        ``name(stem)``: file name without ending.
    unit : callable
        ``unit(stem, unit)``: unit in the files and the factor to it, of the unit in memory.
    sidecar : callable
        ``sidecar(stem, card)``: content of the JSON file; `card` is that of ``relaxnet predict``,
        with the unit in the files.
    """

    name: Callable[[str], str] = _same_name
    unit: Callable[[str, str], tuple[str, float]] = _same_unit
    sidecar: Callable[[str, Mapping[str, Any]], Mapping[str, Any]] = _same_card


def check_out(
    out: Path, overwrite: bool, names: Sequence[str] = (), inputs: Sequence[Path] = ()
) -> None:
    """Refuse a folder for maps that is a file, cannot be written to, or whose files would be lost.

    Parameters
    ----------
    out : pathlib.Path
    overwrite : bool
        Replace maps and other files that are there, but no input.
    names : sequence of str
        Files that will be written.
    inputs : sequence of pathlib.Path
        Files that are read.

    Raises
    ------
    ValueError
    """
    check_writable(out)
    if not out.is_dir():
        return
    if not overwrite and any(out.glob("*map.nii.gz")):
        what = "part of the maps of a run that was broken off" if (out / MARK).exists() else "maps"
        raise ValueError(f"{out} holds {what}. Give `overwrite` or another `out`.")
    there = [path for name in names if (path := out / name).exists()]
    lost = {path.resolve() for path in [*there, *earlier_files(out)]}
    for path in inputs:
        if path.resolve() in lost:
            raise ValueError(f"{path} is read, and would be replaced. Give another `out`.")
    if there and not overwrite:
        raise ValueError(f"{there[0]} is there. Give `overwrite` or another `out`.")


def check_space(out: Path, num_values: int) -> None:
    """Refuse a disk that does not hold so many values in float32.

    Raises
    ------
    OSError
    """
    check_free_space(out, num_values * 4 + 100_000, "the maps")


def write_maps(
    out: Path,
    maps: Maps,
    series: Series,
    shared: Mapping[str, Any],
    rois: Sequence[Mapping[str, Any]] = (),
    complete: Callable[[Path], object] | None = None,
    layout: MapLayout | None = None,
    check: Callable[[], object] | None = None,
) -> None:
    """Write all files to a temporary folder on the target's disk, then move them there.

    Files of an earlier run in the target go before the new ones come (`replace_files`); others
    stay. A target that holds nothing gets all files in one step.

    Parameters
    ----------
    out : path
    maps : Maps
    series : Series
        Whose grid the maps are on.
    shared : mapping
        What all JSON files say.
    rois : sequence of mappings
        Rows of the table of regions; without any there is no table.
    complete : callable, optional
        ``complete(folder)`` adds what is made from the files, such as a report, while the folder is
        still the temporary one.
    layout : MapLayout, optional
        Names, units and JSON files.
    check : callable, optional
        Called before the files are moved; raises if the target has been filled meanwhile.

    Raises
    ------
    OSError
        If a file cannot be written; the target is as it was then.
    """
    place = out.resolve()  # a link may lead to another disk
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(_beside(place)) as temporary:
            folder = temporary / "maps"
            folder.mkdir()
            _write_files(folder, maps, series, shared, layout or MapLayout())
            if rois:
                _write_table(folder, maps, shared, rois)
            if complete is not None:
                complete(folder)
            if check is not None:
                check()
            _move(folder, place)
    except OSError as error:
        raise OSError(f"{out} cannot be written to ({error.strerror or error}).") from error


def _beside(place: Path) -> Path:
    """What the temporary folder is made beside; a folder on a disk of its own gets it inside."""
    parent = place.parent
    if place.is_dir():
        same_disk = place.stat().st_dev == parent.stat().st_dev
        if not same_disk or not os.access(parent, os.W_OK | os.X_OK):
            return place / place.name
    return place


def _move(folder: Path, out: Path) -> None:
    """Rename a folder to another one or, where that holds files, its files into it."""
    if _is_empty(out) and out != Path.cwd():
        if out.exists():
            folder.chmod(stat.S_IMODE(out.stat().st_mode))
        if (out / LOCK).exists():  # the lock of this run stays with its folder
            os.link(out / LOCK, folder / LOCK)
            (out / LOCK).unlink()
        (out / MARK).unlink(missing_ok=True)
        try:
            folder.replace(out)
            return
        except OSError:
            if not _is_empty(out):  # another run has come in between
                raise
    new = {path: out / path.name for path in sorted(folder.iterdir())}
    replace_files(new, earlier_files(out), folder.with_name("earlier"))


def _is_empty(out: Path) -> bool:
    """Whether a folder is missing or holds nothing but the lock of a run and the mark of one."""
    return not out.exists() or all(path.name in (LOCK, MARK) for path in out.iterdir())


def earlier_files(out: Path) -> list[Path]:
    """Files of an earlier run: those whose sidecars say that relaxnet wrote them, and these."""
    found = []
    for card in out.glob("*.json"):
        file = card.with_suffix(".csv" if card.stem == "rois" else ".nii.gz")
        if file.is_file() and written_by(card) == "relaxnet":
            found += [file, card]
    report = out / "report.html"
    return [*found, report] if found and report.is_file() and _is_ours(report) else found


def _is_ours(report: Path) -> bool:
    """Whether an HTML file names relaxnet as its generator."""
    with report.open("rb") as file:
        return b'content="relaxnet ' in file.read(1000)


def _write_files(
    folder: Path, maps: Maps, series: Series, shared: Mapping[str, Any], layout: MapLayout
) -> None:
    descriptions = maps.descriptions()
    for stem, (values, unit) in maps.named().items():
        extra: dict[str, Any] = {}
        if stem in descriptions:
            extra["Description"] = descriptions[stem]
        if stem == "status":
            extra["Levels"] = levels()
        if stem.endswith("std"):
            extra["NotIdentifiable"] = "inf"
        _write_map(folder, stem, values, unit, series, {**shared, **extra}, layout)
    if maps.predicted is not None:
        extra = {"Content": "signal of the estimates, in the series' order"}
        unit = maps.model.units[0]
        _write_map(folder, "fit", maps.predicted, unit, series, {**extra, **shared}, layout)


def _write_map(
    folder: Path,
    stem: str,
    values: np.ndarray,
    unit: str,
    series: Series,
    card: Mapping[str, Any],
    layout: MapLayout,
) -> None:
    unit, factor = layout.unit(stem, unit)
    if factor != 1.0:
        values = np.asarray(values, np.float32) * np.float32(factor)
    sidecar = layout.sidecar(stem, {"Units": unit, **card})
    save_map(folder / f"{layout.name(stem)}.nii.gz", values, series, sidecar)


def _write_table(
    folder: Path, maps: Maps, shared: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> None:
    columns = roi_columns(maps, "name" in rows[0])
    (folder / "rois.csv").write_text(roi_csv(rows), encoding="utf-8", errors="replace")
    text = json.dumps({"Columns": columns, **shared}, indent=1) + "\n"
    (folder / "rois.json").write_text(text, encoding="utf-8")
