"""Maps in a report: pictures of bare voxels, with colour bars and legends of text around them."""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from io import BytesIO

import numpy as np

from relaxnet.maps.reader import Run
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
    unit_words,
)
from relaxsim.core.matplotlib_import import import_matplotlib

#: Pixels of a picture at most: slices are left out first, then voxels.
_PIXELS = 400_000
_SLICES = 4
_TICKS = 5
#: Smallest share of voxels beyond the colours' range that is mentioned.
_WORTH_WORDS = 5e-4


@dataclass(frozen=True)
class Image:
    """An ``img`` element.

    Attributes
    ----------
    src : str
        PNG as a data URI.
    alt : str
        What it shows, for those who do not see it.
    width, height : int
        Pixels.
    ratio : str
        Proportions in the style's words, ``width / height``.
    """

    src: str
    alt: str
    width: int
    height: int
    ratio: str


@dataclass(frozen=True)
class MapFigure:
    """A map with its colour bar and its quartiles.

    Attributes
    ----------
    title : str
    image : Image
    bar : str
        PNG of the colour bar as a data URI.
    ticks : tuple of str
        Evenly spaced along the bar.
    caption : str
    """

    title: str
    image: Image
    bar: str
    ticks: tuple[str, ...]
    caption: str


@dataclass(frozen=True)
class StatusFigure:
    """The status of each voxel.

    Attributes
    ----------
    image : Image
    legend : tuple of (str, str)
        Colour and words of each status that occurs.
    """

    image: Image
    legend: tuple[tuple[str, str], ...]


def report_slices(run: Run) -> list[int]:
    """Slices that a report shows: at most four, fewer where they are large."""
    size = plane_of(run).cut(run.mask, 0).size
    return chosen_slices(run, max(1, min(_SLICES, _PIXELS // max(size, 1))))


def map_figure(run: Run, stem: str) -> MapFigure:
    """Figure of a map that is not the status."""
    plane, chosen, scale = plane_of(run), report_slices(run), scale_of(run, stem)
    values = montage(run, plane, run.maps[stem].values, chosen)
    shown = montage(run, plane, run.shown(stem), chosen)
    summary = _quartiles(run, stem)
    alt = (
        f"{scale.label}: map, {slice_words(run, chosen)}, colours from {scale.low:g} to "
        f"{scale.high:g}. {summary}"
    )
    palette = _palette(scale)
    return MapFigure(
        title=scale.label,
        image=picture(_levels(values, shown, scale), palette, plane, alt),
        bar=_data_uri(png(np.arange(1, 256, dtype=np.uint8)[None], palette)),
        ticks=tuple(f"{tick:.4g}" for tick in np.linspace(scale.low, scale.high, _TICKS)),
        caption=summary + _beyond_words(run, stem, scale),
    )


def status_figure(run: Run) -> StatusFigure:
    """The status of each voxel, as discrete colours."""
    plane, chosen = plane_of(run), report_slices(run)
    codes = montage(run, plane, run.maps["status"].values, chosen).astype(np.uint8)
    shown = montage(run, plane, run.mask, chosen)
    palette = np.zeros((256, 3), np.uint8)
    for code in range(255):
        palette[code + 1] = rgb(status_colour(code))
    index = np.where(shown, np.minimum(codes, 254) + 1, 0).astype(np.uint8)
    shares = status_shares(run)
    words = ", ".join(f"{name} {100 * share:.1f} %" for _, name, share in shares)
    return StatusFigure(
        picture(
            index, palette, plane, f"Status: map, {slice_words(run, chosen)}. In the mask: {words}."
        ),
        tuple(
            (status_colour(code), f"{name}, {100 * share:.1f} %") for code, name, share in shares
        ),
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


def picture(index: np.ndarray, palette: np.ndarray, plane: Plane, alt: str) -> Image:
    """Picture of palette indices, shape (h, w); 0 is transparent."""
    height, width = index.shape
    step = math.ceil(math.sqrt(index.size / _PIXELS))  # of very large slices every n-th voxel
    return Image(
        src=_data_uri(png(index[::step, ::step], palette)),
        alt=alt,
        width=width,
        height=round(height * plane.aspect),
        ratio=f"{width} / {height * plane.aspect:.4g}",
    )


def png(index: np.ndarray, palette: np.ndarray) -> bytes:
    """An indexed PNG file, by the library that matplotlib writes its own with.

    Matplotlib writes colours of 32 bits a pixel, which take twice the place.

    Parameters
    ----------
    index : array, shape (h, w), uint8
        0 is transparent.
    palette : array, shape (256, 3), uint8
    """
    from PIL import Image as PillowImage

    image = PillowImage.frombytes("P", index.shape[::-1], index.astype(np.uint8).tobytes())
    image.putpalette(palette.astype(np.uint8).tobytes())
    file = BytesIO()
    image.save(file, "PNG", transparency=0, optimize=True)
    return file.getvalue()


def _levels(values: np.ndarray, shown: np.ndarray, scale: Scale) -> np.ndarray:
    """Palette index of each voxel, 1 to 255; 0 where nothing is shown."""
    span = max(scale.high - scale.low, float(np.finfo(np.float32).tiny))
    level = (np.where(shown, values, scale.low).astype(np.float64) - scale.low) / span
    return np.where(shown, 1 + np.round(254 * level.clip(0, 1)), 0).astype(np.uint8)


def _palette(scale: Scale) -> np.ndarray:
    import_matplotlib()
    from matplotlib import colormaps

    palette = np.zeros((256, 3), np.uint8)
    palette[1:] = colormaps[scale.colours](np.linspace(0, 1, 255), bytes=True)[:, :3]
    return palette


def _quartiles(run: Run, stem: str) -> str:
    """Median and quartiles over the map's voxels."""
    values = run.maps[stem].values[run.shown(stem)]
    if not values.size:
        return "No voxel has a value."
    low, median, high = np.percentile(values, [25, 50, 75])
    unit = run.maps[stem].unit
    words = "" if unit_words(run, stem) in ("", "a.u.") else f" {unit}"
    return (
        f"Over all voxels with a value: median {median:.4g}{words}, quartiles {low:.4g} to "
        f"{high:.4g}{words}."
    )


def _beyond_words(run: Run, stem: str, scale: Scale) -> str:
    below, above = beyond(run, stem, scale)
    parts = [
        f"{100 * share:.1f} % {words}"
        for share, words in ((below, "below"), (above, "above"))
        if share >= _WORTH_WORDS
    ]
    return f" {' and '.join(parts)} the colours' range." if parts else ""


def _data_uri(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"
