"""Style of the figures of the experiments: column width, boxes from five numbers, marks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

#: Inches: one and two columns of a journal page.
COLUMN, PAGE = 3.5, 7.2
FIVE = ("low", "lower", "median", "upper", "high")


def subplots(rows: int, columns: int, width: float, height: float, **options: Any) -> Any:
    """Figure and axes (rows, columns) in the style of the experiments; sizes in inches."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update(
        {
            "font.size": 7,
            "axes.titlesize": 7.5,
            "axes.labelsize": 7,
            "legend.fontsize": 6.5,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.linewidth": 0.6,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.linewidth": 0.3,
            "grid.alpha": 0.6,
        }
    )
    return plt.subplots(
        rows, columns, figsize=(width, height), squeeze=False, layout="constrained", **options
    )


def five_numbers(values: np.ndarray) -> dict[str, float]:
    """Minimum, quartiles and maximum of finite values; NaN if there are none."""
    values = values[np.isfinite(values)]
    if not values.size:
        return dict.fromkeys(FIVE, float("nan"))
    return dict(zip(FIVE, map(float, np.percentile(values, [0, 25, 50, 75, 100])), strict=True))


def draw_box(
    axis: Any, place: float, numbers: Mapping[str, float], colour: str, width: float
) -> None:
    """Box from quartile to quartile, a line at the median, whiskers to minimum and maximum."""
    low, lower, median, upper, high = (numbers[name] for name in FIVE)
    line = {"color": colour, "linewidth": 0.7}
    axis.vlines([place, place], [low, upper], [lower, high], **line)
    axis.hlines([low, high], place - 0.25 * width, place + 0.25 * width, **line)
    axis.bar(
        place, upper - lower, 0.9 * width, lower, color=colour, edgecolor="black", linewidth=0.4
    )
    middle = {"color": "white" if _is_dark(colour) else "black", "linewidth": 1.0}
    axis.hlines(median, place - 0.4 * width, place + 0.4 * width, **middle)


def _is_dark(colour: str) -> bool:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return 0.3 * red + 0.59 * green + 0.11 * blue < 90


def offsets(count: int, room: float = 0.84) -> tuple[np.ndarray, float]:
    """Places of `count` boxes beside each other around 0, and their width."""
    width = room / max(count, 1)
    return (np.arange(count) - (count - 1) / 2) * width, width


def legend_below(
    figure: Any, entries: Sequence[tuple[str, str]], lines: Sequence[Any] = ()
) -> None:
    """Legend of titles and colours under the figure, then of drawn lines with labels."""
    from matplotlib.patches import Patch

    handles = [
        Patch(facecolor=colour, edgecolor="black", linewidth=0.4, label=title)
        for title, colour in entries
    ]
    columns = min(4 if figure.get_figwidth() > COLUMN else 2, len(handles) + len(lines))
    figure.legend(
        handles=[*handles, *lines], loc="outside lower center", ncols=columns, frameon=False
    )


def save_figure(figure: Any, path: Path) -> None:
    """Write a PNG of 200 dots an inch, and print its name."""
    import matplotlib.pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=200)
    plt.close(figure)
    click.echo(f"figure: {path}")


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a CSV file of rows with the same columns, numbers to four digits."""
    import csv

    if not rows:
        click.echo(f"nothing to write to {path}")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({key: _short(value) for key, value in row.items()})
    click.echo(f"{len(rows)} rows: {path}")


def _short(value: Any) -> Any:
    return f"{value:.4g}" if isinstance(value, float) else value
