"""Sections of a report that show what was found: maps, status, distributions, fits, regions."""

from __future__ import annotations

import csv

import numpy as np

from relaxnet.maps.reader import Run
from relaxnet.maps.status import OK
from relaxnet.report.html import Html, element, joined, table
from relaxnet.report.panels import plane_of, scale_of
from relaxnet.report.pictures import (
    map_figure,
    report_slices,
    slice_words,
    status_figure,
    status_shares,
)
from relaxnet.report.plots import curves, histogram
from relaxnet.report.voxels import VoxelFit, run_times, voxel_fits


def facts(run: Run) -> Html:
    """Figures to read first."""
    stem = next(iter(run.maps))
    found, rows = run.maps[stem], []
    values = _sound_values(run, stem)
    if values.size:
        low, median, high = np.percentile(values, [25, 50, 75])
        rows.append((f"Median {found.title} of ok voxels", f"{median:.4g} {found.unit}"))
        rows.append(("Quartiles of these", f"{low:.4g} to {high:.4g} {found.unit}"))
    rows.append(("Voxels in the mask", f"{int(run.mask.sum())}"))
    shares = {code: share for code, _, share in status_shares(run)}
    if shares:
        rows.append(("Of these ok", f"{100 * shares.get(OK, 0.0):.1f} %"))
    if "Sigma" in run.sidecar:
        rows.append(("Noise sigma", f"{run.sidecar['Sigma']:.4g} a.u."))
    cells = (element("div", element("dt", name), element("dd", text)) for name, text in rows)
    return element("dl", cells, class_="facts")


def maps_section(run: Run) -> Html:
    """All maps but the status."""
    chosen, letters = report_slices(run), plane_of(run).letters
    words = f"Shown: {slice_words(run, chosen)}, counted from 0. Grey is where a map says nothing."
    if letters is not None:
        words += " Left in the pictures: {}, right: {}, top: {}, bottom: {}.".format(*letters)
    figures = (map_figure(run, stem) for stem in run.maps if stem != "status")
    return joined([element("p", words), element("div", figures, class_="grid")])


def status_section(run: Run) -> Html:
    """Map of the status, and the shares as a table."""
    counts = int(run.mask.sum())
    rows = [
        (words, f"{100 * share:.2f} %", f"{share * counts:.0f}")
        for _, words, share in status_shares(run)
    ]
    shown = table(("Status", "Share", "Voxels"), rows, "Status of the mask's voxels")
    return element("div", status_figure(run), element("div", shown), class_="grid")


def distributions_section(run: Run) -> Html:
    """A histogram of each parameter over ok voxels, within the range of its colours."""
    figures = []
    for stem in (s for s in run.maps if s.endswith("map")):
        values, scale = _sound_values(run, stem), scale_of(run, stem)
        if not values.size:
            continue
        low, median, high = np.percentile(values, [5, 50, 95])
        out = float(((values < scale.low) | (values > scale.high)).mean())
        words = f"Median {median:.4g}, 5th to 95th percentile {low:.4g} to {high:.4g}"
        caption = f"{words}; {100 * out:.1f} % beyond the axis." if out >= 5e-4 else f"{words}."
        alt = f"Histogram of {scale.label} over {values.size} voxels. {caption}"
        picture = histogram(values, scale.low, scale.high, scale.label, alt)
        figures.append(
            element("figure", element("h3", scale.label), picture, element("figcaption", caption))
        )
    words = "Over the mask's voxels of status ok, all tissues together; the line is the median."
    return joined([element("p", words), element("div", figures, class_="grid plots")])


def voxels_section(run: Run) -> Html:
    """Samples and curves of telling voxels; empty where the model is not known."""
    times, fits = voxel_fits(run)
    if not fits:
        return Html("")
    if all(fit.data is None for fit in fits):
        words = "The series is not where it was, so that samples are not shown."
    else:
        words = "Dots: the samples, with bars of one sigma."
    words += (
        " Thick line: signal of the voxel's estimate. Thin lines: signals of the estimates of its "
        "neighbours in the slice."
    )
    figures = (_voxel(run, times, fit) for fit in fits)
    return joined([element("p", words), element("div", figures, class_="grid plots")])


def _voxel(run: Run, times: np.ndarray, fit: VoxelFit) -> Html:
    values = ", ".join(f"{name} {value:.4g}" for name, value in fit.values.items())
    place = f"({', '.join(map(str, fit.index))})"
    status = f"; {fit.status}" if fit.status else ""
    residual = "" if fit.residual is None else f"; residual {fit.residual:.2f} sigma"
    caption = f"Voxel {place}: {values}{residual}{status}."
    label = "inversion time (ms)" if "InversionTimesMs" in run.sidecar else "echo time (ms)"
    alt = f"Samples and fitted curve, {fit.why}. {caption} {len(fit.neighbours)} neighbours."
    sigma = float(run.sidecar.get("Sigma", 0.0))
    tau = run_times(run)
    picture = curves(tau, fit.data, sigma, times, fit.curve, fit.neighbours, label, alt)
    heading = fit.why[0].upper() + fit.why[1:]
    return element("figure", element("h3", heading), picture, element("figcaption", caption))


def regions_section(run: Run) -> Html:
    """Table of regions; empty without one."""
    path = run.folder / "rois.csv"
    if not path.is_file():
        return Html("")
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.reader(file) if row]
    if len(rows) < 2:
        return Html("")
    time = f"{run.maps[next(iter(run.maps))].title}_"
    filled = [n for n, _ in enumerate(rows[0]) if any(_cell(row, n) for row in rows[1:])]
    first = [n for n in filled if rows[0][n] in ("label", "name") or rows[0][n].startswith(time)]
    order = [*first, *(n for n in filled if n not in first)]
    shown = [[_cell(row, n) for n in order] for row in rows]
    return table(shown[0], shown[1:], "Regions (rois.csv): statistics over voxels of status ok")


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
