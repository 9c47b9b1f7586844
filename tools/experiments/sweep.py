"""Sweeps: methods measured on the same patches under one set-up after another.

Each (set-up, method) pair is kept. Figures have a line for each method: solid for grey, dashed for
white matter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from figures import COLUMN, legend_below, save_figure, subplots
from kept import Rows, kept_rows
from methods import Method
from patches import Patches, Places, repeated, scores, simulate
from text_tables import table

from relaxsim.models.signal_model import SignalModel
from relaxsim.simulation.tissue_maps import TissueValues

LABELS = {"bias": "bias (%)", "cv": "CV (%)", "rmse": "RMSE (%)", "pooled_rmse": "RMSE (%)"}
TISSUE_STYLES = {"GM": "-", "WM": "--"}


@dataclass(frozen=True)
class Setup:
    """Data of one set-up.

    Attributes
    ----------
    columns : dict
        Columns of the table that identify the set-up.
    tau : tuple of float
        ms.
    model : SignalModel
    snr : float
    b_field, tr, change
        As `patches.simulate`.
    noise, wrong, alter, force
        As `patches.repeated`. `columns` must identify what `change` and `alter` do.
    """

    columns: Mapping[str, str | float]
    tau: tuple[float, ...]
    model: SignalModel
    snr: float
    b_field: str | float = "slow"
    tr: float | None = None
    noise: str = "gaussian"
    wrong: float = 1.0
    change: Callable[[TissueValues, np.random.Generator], TissueValues] | None = None
    alter: Callable[[np.ndarray], np.ndarray] | None = None
    force: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """All that its rows depend on besides patches, method, repeats and seed."""
        plain = ("columns", "tau", "snr", "b_field", "tr", "noise", "wrong")
        forced = {"force": True} if self.force else {}
        return {**{name: getattr(self, name) for name in plain}, "model": self.model.name, **forced}

    def patches(self, places: Places, seed: int) -> Patches:
        """Noise-free patches."""
        tau = np.array(self.tau)
        return simulate(places, tau, self.model, seed, self.b_field, self.tr, self.change)


Measure = Callable[[np.ndarray, Patches], Rows]


def tissue_scores(T: np.ndarray, patches: Patches) -> Rows:
    """Bias, CV and RMSE in each tissue: `patches.scores`."""
    return list(scores(T, patches))


def measured(
    experiment: str,
    setup: Setup,
    method: Method,
    places: Places,
    repeats: int,
    seed: int,
    cache: Path,
    measure: Measure = tissue_scores,
) -> Rows:
    """Rows of a method under one set-up; kept.

    Parameters
    ----------
    experiment : str
        Name; folder of the kept rows.
    setup : Setup
    method : Method
    places : Places
    repeats : int
        Draws of noise.
    seed : int
        Of kappa and noise.
    cache : Path
    measure : callable
        Takes the estimates T (C, n, P, P) and the patches, returns rows.
    """

    def make() -> Rows:
        patches = setup.patches(places, seed)
        T = repeated(
            method,
            patches,
            setup.snr,
            repeats,
            setup.noise,
            setup.wrong,
            seed,
            setup.alter,
            setup.force,
        )
        head = {**setup.columns, "snr": setup.snr, "method": method.name}
        return [{**head, **row} for row in measure(T, patches)]

    settings = {
        **places.settings,
        **setup.settings,
        "method": method.identity,
        "measure": measure.__qualname__,
        "repeats": repeats,
        "seed": seed,
    }
    words = " ".join(
        f"{value:g}" if isinstance(value, float) else str(value) for value in setup.columns.values()
    )
    name = f"{words} SNR {setup.snr:g} {method.name}"
    return kept_rows(cache / experiment, name, settings, make)


@dataclass(frozen=True)
class Panel:
    """One panel of a figure: rows that it shows, what lies along x, the metric along y.

    Attributes
    ----------
    title : str
    rows : sequence of dict
    x : str
        Column; a repeated text is a category.
    x_label : str
    metric : str
    x_log : bool
    y_log : bool
    band : (float, float), optional
        Shaded: where values should lie.
    """

    title: str
    rows: Sequence[Mapping[str, Any]]
    x: str
    x_label: str
    metric: str
    x_log: bool = False
    y_log: bool = False
    band: tuple[float, float] | None = None


def draw_panels(
    panels: Sequence[Panel],
    methods: Mapping[str, Method],
    path: Path,
    columns: int = 1,
    width: float = COLUMN,
    height: float = 1.9,
) -> None:
    """Figure of panels, row by row; `height` is that of a panel, in inches."""
    count = -(-len(panels) // columns)
    figure, axes = subplots(count, columns, width, height * count + 0.5)
    for axis, panel in zip(axes.flat, panels, strict=False):
        _draw_panel(axis, panel, methods)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    names = {row["method"] for panel in panels for row in panel.rows}
    entries = {m.title: m.colour for name, m in methods.items() if name in names}
    legend_below(figure, list(entries.items()), _tissue_lines(panels))
    save_figure(figure, path)


def _draw_panel(axis: Any, panel: Panel, methods: Mapping[str, Method]) -> None:
    places = list(dict.fromkeys(row[panel.x] for row in panel.rows))
    texts = any(isinstance(place, str) for place in places)
    if panel.band is not None:
        axis.axhspan(*panel.band, color="black", alpha=0.08, linewidth=0)
    if panel.metric == "bias":
        axis.axhline(0.0, color="black", linewidth=0.5)
    for name, method in methods.items():
        for tissue, style in TISSUE_STYLES.items():
            chosen = [r for r in panel.rows if r["method"] == name and r["tissue"] == tissue]
            x = [places.index(r[panel.x]) if texts else r[panel.x] for r in chosen]
            y = [r[panel.metric] for r in chosen]
            axis.plot(x, y, style, marker="o", markersize=2.5, linewidth=1, color=method.colour)
    if panel.x_log:
        axis.set_xscale("log")
    if panel.y_log:
        axis.set_yscale("log")
    axis.set_xticks(range(len(places)) if texts else places, [_text(place) for place in places])
    axis.minorticks_off()
    if panel.y_log:
        _plain_ticks(axis)
    axis.set_xlabel(panel.x_label)
    axis.set_ylabel(LABELS[panel.metric])
    axis.set_title(panel.title)


def _plain_ticks(axis: Any) -> None:
    """Ticks of a logarithmic axis as plain numbers, within its limits."""
    low, high = axis.get_ylim()
    ticks = [t for t in (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000) if low <= t <= high]
    if len(ticks) < 2:
        ticks = [
            t
            for t in (0.5, 1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 50)
            if low <= t <= high
        ]
    axis.set_yticks(ticks, [f"{t:g}" for t in ticks])
    axis.set_ylim(low, high)


def score_table(rows: Rows, keys: Mapping[str, str]) -> list[str]:
    """Markdown lines: bias / CV / RMSE of grey and white matter, a row for each set-up and method.

    Parameters
    ----------
    rows : list of dict
    keys : mapping
        Columns that identify set-ups, and their headings.
    """
    columns = (*keys, "snr", "method")
    cells: dict[tuple, dict[str, str | float]] = {}
    for row in rows:
        if row["tissue"] in TISSUE_STYLES:
            place = cells.setdefault(tuple(row[c] for c in columns), {})
            place[row["tissue"]] = " / ".join(_cell(row, m) for m in ("bias", "cv", "rmse"))
    lines = [dict(zip(columns, place, strict=True)) | values for place, values in cells.items()]
    headings = {name: (heading, "g") for name, heading in keys.items()}
    headings |= {"snr": ("SNR", "g"), "method": ("method", "")}
    headings |= {t: (f"{t}: bias / CV / RMSE (%)", "") for t in TISSUE_STYLES}
    return table(lines, headings)


def _cell(row: Mapping[str, Any], metric: str) -> str:
    value = row[metric]
    if not isinstance(value, float):
        return "-"
    return f"{value:+.1f}" if metric == "bias" else f"{value:.1f}"


def _tissue_lines(panels: Sequence[Panel]) -> list[Any]:
    from matplotlib.lines import Line2D

    tissues = {row["tissue"] for panel in panels for row in panel.rows}
    return [
        Line2D([], [], color="black", linewidth=1, linestyle=style, label=tissue)
        for tissue, style in TISSUE_STYLES.items()
        if tissue in tissues
    ]


def _text(place: str | float) -> str:
    return place if isinstance(place, str) else f"{place:g}"
