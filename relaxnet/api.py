"""Public functions that need several wings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from relaxnet.maps.maps import Maps
from relaxnet.prediction import files


def predict_files(
    series: str | Path | Sequence[str | Path],
    out: str | Path = "maps",
    *,
    report: bool = False,
    **options: Any,
) -> Maps:
    """Read a series from NIfTI, estimate its maps and write them to a folder.

    Parameters
    ----------
    series : path or sequence of paths
        One 4-D file, or one 3-D file for each image.
    out : path
        Folder for the maps.
    report : bool
        Also write report.html.
    **options
        Those of `relaxnet.prediction.files.predict_files`, such as `tis` or `tes`, `method`,
        `model`, `mask`, `sigma` and `fit`.

    Returns
    -------
    Maps

    Raises
    ------
    ValueError, OSError
        One line; nothing is written then.

    Examples
    --------
    ::

        maps = predict_files("t2.nii.gz", tes=[10, 30, 80, 200], method="mle", report=True)
    """
    if report:
        options["complete"] = _write_report
    return files.predict_files(series, out, report=report, **options)


def _write_report(folder: Path) -> object:
    from relaxnet.report.page import write_report

    return write_report(folder)
