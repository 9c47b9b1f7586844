"""What a report shows of a run's results: maps, status, distributions, fits, regions."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass

import numpy as np

from relaxnet.maps.reader import Run
from relaxnet.maps.status import OK
from relaxnet.report.facts import facts_of, main_stem, parameter_stems
from relaxnet.report.panels import plane_of, scale_of
from relaxnet.report.pictures import (
    MapFigure,
    StatusFigure,
    map_figure,
    report_slices,
    slice_words,
    status_figure,
    status_shares,
)
from relaxnet.report.plots import Plot, curves, histogram
from relaxnet.report.voxels import VoxelFit, voxel_fits
from relaxnet.report.words import listed
from relaxsim.core.files import read_text

#: Smallest share of values beyond a histogram's axis that is mentioned.
_WORTH_WORDS = 5e-4


@dataclass(frozen=True)
class MapsContent:
    """All maps but the status, and where the pictures lie in the body."""

    words: str
    figures: tuple[MapFigure, ...]


@dataclass(frozen=True)
class StatusContent:
    """Map of the status, and a row for each status that occurs: words, share, voxels."""

    figure: StatusFigure
    rows: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class PlotFigure:
    """A plot with its title and caption."""

    title: str
    plot: Plot
    caption: str


@dataclass(frozen=True)
class FitsContent:
    """Example voxels, and what their marks mean."""

    words: str
    figures: tuple[PlotFigure, ...]


def key_figures(run: Run) -> list[tuple[str, str]]:
    """Figures to read first: name and value."""
    stem = main_stem(run)
    found, rows = run.maps[stem], []
    values = _sound_values(run, stem)
    if values.size:
        low, median, high = np.percentile(values, [25, 50, 75])
        rows.append((f"Median {found.title} of ok voxels", f"{median:.4g} {found.unit}"))
        rows.append((f"Quartiles of {found.title}", f"{low:.4g} to {high:.4g} {found.unit}"))
    rows.append(("Voxels in the mask", f"{int(run.mask.sum())}"))
    shares = {code: share for code, _, share in status_shares(run)}
    if shares:
        rows.append(("Share of ok voxels", f"{100 * shares.get(OK, 0.0):.1f} %"))
    if (sigma := facts_of(run).noise.sigma) is not None:
        rows.append(("Noise sigma", f"{sigma:.4g} a.u."))
    return rows


def maps_content(run: Run) -> MapsContent:
    """All maps but the status."""
    words = (
        f"The pictures show {slice_words(run, report_slices(run))}, counted from 0. "
        "Grey voxels have no value."
    )
    if (letters := plane_of(run).letters) is not None:
        words += (
            " The left side of the pictures is {}, the right side {}, the top {} and the bottom {}."
        )
        words = words.format(*letters)
    return MapsContent(words, tuple(map_figure(run, stem) for stem in run.maps if stem != "status"))


def status_content(run: Run) -> StatusContent:
    """Map of the status, and the shares as a table."""
    counts = int(run.mask.sum())
    rows = tuple(
        (words, f"{100 * share:.2f} %", f"{share * counts:.0f}")
        for _, words, share in status_shares(run)
    )
    return StatusContent(status_figure(run), rows)


def distributions(run: Run) -> list[PlotFigure]:
    """A histogram of each parameter over ok voxels, within the range of its colours."""
    figures = []
    for stem in parameter_stems(run):
        values, scale = _sound_values(run, stem), scale_of(run, stem)
        if not values.size:
            continue
        low, median, high = np.percentile(values, [5, 50, 95])
        out = float(((values < scale.low) | (values > scale.high)).mean())
        words = f"Median {median:.4g}, 5th to 95th percentile {low:.4g} to {high:.4g}"
        caption = (
            f"{words}; {100 * out:.1f} % beyond the axis." if out >= _WORTH_WORDS else f"{words}."
        )
        alt = f"Histogram of {scale.label} over {values.size} voxels. {caption}"
        plot = histogram(values, scale.low, scale.high, scale.label, alt)
        figures.append(PlotFigure(scale.label, plot, caption))
    return figures


def fits_content(run: Run) -> FitsContent | None:
    """Samples and curves of example voxels; None where the model is not known."""
    fits = voxel_fits(run)
    if not fits:
        return None
    if all(fit.data is None for fit in fits):
        words = "The series is no longer where it was, so that samples are not shown."
    else:
        words = "Dots are the samples, with bars of one sigma."
    if len(fits[0].curves) == 1:
        words += (
            " The thick line is the signal of the voxel's estimate. Thin lines are the signals of "
            "the estimates of its neighbours in the slice."
        )
    else:
        words += (
            f" Thick lines are the signals of the voxel's estimate at {listed(fits[0].settings)}."
        )
    return FitsContent(words, tuple(_voxel_figure(run, fit) for fit in fits))


def regions(run: Run) -> list[list[str]]:
    """Table of regions, its header first; empty without one."""
    path = run.folder / "rois.csv"
    if not path.is_file():
        return []
    try:
        rows = [row for row in csv.reader(io.StringIO(read_text(path), newline="")) if row]
    except (csv.Error, ValueError, OSError):  # a cell of more than 128 kB, or no table
        return []
    if len(rows) < 2:
        return []
    main = f"{run.maps[main_stem(run)].title}_"
    filled = [n for n, _ in enumerate(rows[0]) if any(_cell(row, n) for row in rows[1:])]
    first = [n for n in filled if rows[0][n] in ("label", "name") or rows[0][n].startswith(main)]
    order = [*first, *(n for n in filled if n not in first)]
    return [[_cell(row, n) for n in order] for row in rows]


def _voxel_figure(run: Run, fit: VoxelFit) -> PlotFigure:
    values = ", ".join(f"{name} {value:.4g}" for name, value in fit.values.items())
    place = f"({', '.join(map(str, fit.index))})"
    status = f"; {fit.status}" if fit.status else ""
    residual = "" if fit.residual is None else f"; residual {fit.residual:.2f} sigma"
    caption = f"Voxel {place}: {values}{residual}{status}."
    alt = f"Samples and fitted curve, {fit.reason}. {caption} {len(fit.neighbours)} neighbours."
    sigma = facts_of(run).noise.sigma
    plot = curves(fit, 0.0 if sigma is None else sigma, _first_column(run), alt)
    return PlotFigure(fit.reason[0].upper() + fit.reason[1:], plot, caption)


def _first_column(run: Run) -> str:
    """Label of the axis of curves: ``inversion time TI (ms)``."""
    assert run.model is not None
    column = run.model.columns[0]
    symbol = run.model.border.columns[0].symbol
    return f"{column.name.replace('_', ' ')} {symbol} ({column.unit})"


def _cell(row: list[str], column: int) -> str:
    """A cell of the table, numbers with four digits; empty if the row is short."""
    text = row[column] if column < len(row) else ""
    try:
        return f"{float(text):.4g}" if "." in text or "e" in text else text
    except ValueError:
        return text


def _sound_values(run: Run, stem: str) -> np.ndarray:
    """Values of a map in voxels of status ok."""
    shown, status = run.shown(stem), run.status
    keep = shown if status is None else shown & (status == OK)
    return run.maps[stem].values[keep]
