"""Maps in a report: pictures of bare voxels, with colour bars and legends of text around them."""

from __future__ import annotations

import base64
import math
import struct
import zlib

import numpy as np

from relaxnet.maps.reader import Run
from relaxnet.report.html import Html, element
from relaxnet.report.panels import (
    Plane,
    Scale,
    beyond,
    chosen_slices,
    montage,
    plane_of,
    rgb,
    scale_of,
    status_colour,
)

#: Pixels of a picture at most: slices are left out first, then voxels.
_PIXELS = 400_000
_SLICES = 4
_TICKS = 5


def report_slices(run: Run) -> list[int]:
    """Slices that a report shows: at most four, fewer where they are large."""
    size = plane_of(run).cut(run.mask, 0).size
    return chosen_slices(run, max(1, min(_SLICES, _PIXELS // max(size, 1))))


def map_figure(run: Run, stem: str) -> Html:
    """A map with its colour bar and its quartiles.

    Parameters
    ----------
    run : Run
    stem : str
        Of a map that is not the status.
    """
    plane, chosen, scale = plane_of(run), report_slices(run), scale_of(run, stem)
    values = montage(run, plane, run.maps[stem].values, chosen)
    shown = montage(run, plane, run.shown(stem), chosen)
    index = _levels(values, shown, scale)
    summary = _quartiles(run, stem)
    alt = (
        f"{scale.label}: map, {slice_words(run, chosen)}, colours from {scale.low:g} to "
        f"{scale.high:g}. {summary}"
    )
    return element(
        "figure",
        element("h3", scale.label),
        _image(index, _palette(scale), plane, alt),
        _bar(scale),
        element("figcaption", summary, _beyond_words(run, stem, scale)),
        class_="map",
    )


def status_figure(run: Run) -> Html:
    """The status of each voxel, as discrete colours."""
    plane, chosen = plane_of(run), report_slices(run)
    codes = montage(run, plane, run.maps["status"].values, chosen).astype(np.uint8)
    shown = montage(run, plane, run.mask, chosen)
    palette = np.zeros((256, 3), np.uint8)
    for code in range(255):
        palette[code + 1] = rgb(status_colour(code))
    index = np.where(shown, np.minimum(codes, 254) + 1, 0).astype(np.uint8)
    shares = [f"{words} {100 * share:.1f} %" for _, words, share in status_shares(run)]
    alt = f"Status: map, {slice_words(run, chosen)}. In the mask: {', '.join(shares)}."
    return element(
        "figure",
        element("h3", "status"),
        _image(index, palette, plane, alt),
        _legend(run),
        class_="map",
    )


def status_shares(run: Run) -> list[tuple[int, str, float]]:
    """Code, words and share of each status in the mask, the most frequent first."""
    if (status := run.status) is None or not run.mask.any():
        return []
    counts = np.bincount(status[run.mask], minlength=256)
    frequent = [int(code) for code in np.argsort(-counts, kind="stable") if counts[code]]
    total = int(counts.sum())
    return [(c, run.legend.get(c, f"code {c}"), float(counts[c] / total)) for c in frequent]


def slice_words(run: Run, chosen: list[int]) -> str:
    """Slices in words, counted from 0 as viewers do."""
    numbers = ", ".join(str(i) for i in chosen)
    return f"{'slice' if len(chosen) == 1 else 'slices'} {numbers} of {run.shape[run.slice_axis]}"


def png(index: np.ndarray, palette: np.ndarray) -> bytes:
    """An indexed PNG file.

    Parameters
    ----------
    index : array, shape (h, w), uint8
        0 is transparent.
    palette : array, shape (256, 3), uint8
    """
    height, width = index.shape
    lines = np.zeros((height, width + 1), np.uint8)  # a filter byte of 0 before each line
    lines[:, 1:] = index
    parts = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0),
        b"PLTE": palette.astype(np.uint8).tobytes(),
        b"tRNS": b"\0",
        b"IDAT": zlib.compress(lines.tobytes(), 9),
        b"IEND": b"",
    }
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts.items()
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _levels(values: np.ndarray, shown: np.ndarray, scale: Scale) -> np.ndarray:
    """Palette index of each voxel, 1 to 255; 0 where nothing is shown."""
    span = max(scale.high - scale.low, float(np.finfo(np.float32).tiny))
    level = (np.where(shown, values, scale.low).astype(np.float64) - scale.low) / span
    return np.where(shown, 1 + np.round(254 * level.clip(0, 1)), 0).astype(np.uint8)


def _palette(scale: Scale) -> np.ndarray:
    from matplotlib import colormaps

    palette = np.zeros((256, 3), np.uint8)
    palette[1:] = colormaps[scale.colours](np.linspace(0, 1, 255), bytes=True)[:, :3]
    return palette


def _image(index: np.ndarray, palette: np.ndarray, plane: Plane, alt: str) -> Html:
    height, width = index.shape
    step = math.ceil(math.sqrt(index.size / _PIXELS))  # of very large slices every n-th voxel
    index = index[::step, ::step]
    return element(
        "img",
        src=_data_uri(png(index, palette)),
        alt=alt,
        width=width,
        height=round(height * plane.aspect),
        style=f"aspect-ratio: {width} / {height * plane.aspect:.4g}",
        class_="voxels",
    )


def _bar(scale: Scale) -> Html:
    """Colour bar with its ticks as text."""
    strip = png(np.arange(1, 256, dtype=np.uint8)[None], _palette(scale))
    ticks = np.linspace(scale.low, scale.high, _TICKS)
    return element(
        "div",
        element("img", src=_data_uri(strip), alt="", width=255, height=12, class_="bar"),
        element("div", (element("span", f"{tick:.4g}") for tick in ticks), class_="ticks"),
    )


def _legend(run: Run) -> Html:
    rows = [
        element(
            "li",
            element("span", class_="swatch", style=f"background: {status_colour(code)}"),
            f"{words}, {100 * share:.1f} %",
        )
        for code, words, share in status_shares(run)
    ]
    return element("ul", rows, class_="legend")


def _quartiles(run: Run, stem: str) -> str:
    """Median and quartiles over the map's voxels."""
    values = run.maps[stem].values[run.shown(stem)]
    if not values.size:
        return "No voxel has a value."
    low, median, high = np.percentile(values, [25, 50, 75])
    unit = run.maps[stem].unit
    words = "" if unit in ("1", "a.u.") else f" {unit}"
    return (
        f"Over all voxels with a value: median {median:.4g}{words}, quartiles {low:.4g} to "
        f"{high:.4g}{words}."
    )


def _beyond_words(run: Run, stem: str, scale: Scale) -> str:
    below, above = beyond(run, stem, scale)
    parts = [
        f"{100 * share:.1f} % {words}"
        for share, words in ((below, "below"), (above, "above"))
        if share >= 5e-4
    ]
    return f" {' and '.join(parts)} the colours' range." if parts else ""


def _data_uri(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"
