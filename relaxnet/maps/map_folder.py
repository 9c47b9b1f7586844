"""The folder of maps: checked before the work, filled after it, all files or none."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from relaxnet.io.nifti import Series, save_map
from relaxnet.maps.maps import Maps
from relaxnet.maps.roi import roi_columns, roi_csv
from relaxnet.maps.status import levels
from relaxsim.core.folders import check_writable, nearest_existing, written_by


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
        raise ValueError(f"{out} holds maps. Give --overwrite or another --out.")
    there = [path for name in names if (path := out / name).exists()]
    lost = {path.resolve() for path in [*there, *earlier_files(out)]}
    for path in inputs:
        if path.resolve() in lost:
            raise ValueError(f"{path} is read, and would be replaced. Give another --out.")
    if there and not overwrite:
        raise ValueError(f"{there[0]} is there. Give --overwrite or another --out.")


def check_space(out: Path, num_values: int) -> None:
    """Refuse a disk that does not hold so many values in float32.

    Raises
    ------
    OSError
    """
    need = num_values * 4 + 100_000
    free = shutil.disk_usage(nearest_existing(out)).free
    if need > free:
        raise OSError(
            f"the maps take up to {need / 1e6:.1f} MB, {out} has {free / 1e6:.1f} MB free."
        )


def write_maps(
    out: Path,
    maps: Maps,
    series: Series,
    shared: Mapping[str, Any],
    rois: Sequence[Mapping[str, Any]] = (),
    report: bool = False,
) -> None:
    """Write all files to a temporary folder on the target's disk, then move them there.

    Files of an earlier run in the target go, after the new ones have come; others stay.

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
    report : bool
        Also write report.html.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    place = out if out.is_dir() else out.parent
    with tempfile.TemporaryDirectory(dir=place, prefix=".maps-") as temporary:
        folder = Path(temporary) / "maps"
        folder.mkdir()
        _write_files(folder, maps, series, shared)
        if rois:
            _write_table(folder, maps, shared, rois)
        if report:
            from relaxnet.report.page import write_report

            write_report(folder)
        if not out.exists():
            folder.replace(out)
            return
        new = sorted(folder.iterdir())
        replaced = {path.name for path in new}
        stale = [path for path in earlier_files(out) if path.name not in replaced]
        for path in new:
            path.replace(out / path.name)
        for path in stale:
            path.unlink()


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


def _write_files(folder: Path, maps: Maps, series: Series, shared: Mapping[str, Any]) -> None:
    for stem, (values, unit) in maps.named().items():
        sidecar = {"Units": unit, **shared}
        if stem == "status":
            sidecar["Levels"] = levels()
        if stem.endswith("std"):
            sidecar["NotIdentifiable"] = "inf"
        save_map(folder / f"{stem}.nii.gz", values, series, sidecar)
    if maps.predicted is not None:
        sidecar = {"Units": "a.u.", "Content": "signal of the estimates, in the series' order"}
        save_map(folder / "fit.nii.gz", maps.predicted, series, {**sidecar, **shared})


def _write_table(
    folder: Path, maps: Maps, shared: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> None:
    columns = roi_columns(maps, "name" in rows[0])
    (folder / "rois.csv").write_text(roi_csv(rows), encoding="utf-8")
    text = json.dumps({"Columns": columns, **shared}, indent=1) + "\n"
    (folder / "rois.json").write_text(text, encoding="utf-8")
