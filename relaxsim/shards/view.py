"""Picture of a shard: labels, kappa and weighted images of some patches."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from relaxsim.core.files import write_whole
from relaxsim.core.labels import NUM_LABELS
from relaxsim.core.matplotlib_import import drawable, import_matplotlib
from relaxsim.shards.layout import Shard, read_shard

#: Weighted images shown of each patch, spread over the protocol.
_IMAGES = 3
#: Quantiles of a map and of the images that are the upper end of their colours.
_MAP_TOP, _IMAGE_TOP = 0.99, 0.995
#: Least upper end, for patches without a signal.
_LEAST_TOP = 1e-6


@dataclass(frozen=True)
class _Panel:
    """One picture: title, values, their range and colour map."""

    title: str
    values: np.ndarray
    low: float
    high: float
    colours: str = "viridis"


def draw_shard(path: str | Path, out: str | Path, num_patches: int = 6) -> None:
    """Draw patches of a shard, evenly chosen, one a row.

    Parameters
    ----------
    path : path
        Shard.
    out : path
        Picture, in a format that its ending names.
    num_patches : int

    Raises
    ------
    ShardError
        If the shard cannot be read.
    ValueError
        If matplotlib knows no such format.
    """
    import_matplotlib()
    from matplotlib.figure import Figure

    shard, out = read_shard(path), Path(out)
    chosen = np.unique(np.linspace(0, len(shard.S) - 1, num_patches).round().astype(int))
    rows = [_panels(shard, int(patch)) for patch in chosen]
    figure = Figure(figsize=(1.9 * len(rows[0]), 1.75 * len(rows) + 0.7), layout="constrained")
    axes = figure.subplots(len(rows), len(rows[0]), squeeze=False)
    for number, row, panels in zip(chosen, axes, rows, strict=True):
        row[0].set_ylabel(f"patch {number}")
        for axis, panel in zip(row, panels, strict=True):
            image = axis.imshow(
                panel.values,
                vmin=panel.low,
                vmax=panel.high,
                cmap=panel.colours,
                interpolation="none",
            )
            axis.set_title(panel.title, fontsize=7)
            axis.set_xticks([])
            axis.set_yticks([])
            if axis is not row[0]:
                figure.colorbar(image, ax=axis, fraction=0.05).ax.tick_params(labelsize=6)
    info = shard.info
    words = info.signal_model.border.columns[0].words
    figure.suptitle(
        f"{drawable(info.path.name)}: {info.signal_model.name}, {info.protocol}, "
        f"{len(info.tau)} {words}"
    )
    with write_whole(out) as temporary:
        figure.savefig(temporary, dpi=110, format=out.suffix.removeprefix(".") or "png")


def _panels(shard: Shard, patch: int) -> list[_Panel]:
    """Labels, purity where voxels are mixed, every parameter, known maps, images."""
    labels, subject = shard.labels[patch], int(shard.origin[patch, 0])
    title = "drawn shapes" if subject < 0 else f"labels, subject {subject}"
    panels = [_Panel(title, labels, 0, NUM_LABELS - 1, "tab20")]
    if (shard.purity[shard.labels > 0] < 1).any():
        panels.append(_Panel("purity", shard.purity[patch].astype(np.float32), 0, 1, "magma"))
    return panels + _map_panels(shard, patch) + _image_panels(shard, patch)


def _map_panels(shard: Shard, patch: int) -> list[_Panel]:
    """Parameters where there is tissue, and known maps."""
    inside, model = shard.labels[patch] > 0, shard.info.signal_model
    panels = []
    for q, parameter in enumerate(model.parameter_table):
        values = np.where(inside, shard.kappa[patch, ..., q], np.nan)
        top = float(np.nanquantile(values, _MAP_TOP)) if inside.any() else 1.0
        low, high = 0.0, max(top, _LEAST_TOP)
        if model.shared is not None and q == model.shared_index:
            low, high = model.shared.wide
        panels.append(_Panel(_with_unit(parameter.name, parameter.unit), values, low, high))
    for k, known in enumerate(model.known_maps):
        assert shard.known is not None
        values = shard.known[patch, ..., k]
        panels.append(_Panel(_with_unit(known.name, known.unit), values, *known.plausible))
    return panels


def _image_panels(shard: Shard, patch: int) -> list[_Panel]:
    """Some of the weighted images, in the order of the protocol's first column."""
    table, S = shard.info.protocol_table, shard.S[patch].astype(np.float32)
    order = np.argsort(table[:, 0], kind="stable")
    shown = order[np.linspace(0, len(table) - 1, min(_IMAGES, len(table))).round().astype(int)]
    top = max(float(np.quantile(S, _IMAGE_TOP)), _LEAST_TOP)
    units = [column.unit for column in shard.info.signal_model.columns]
    panels = []
    for n in shown:
        row = ", ".join(f"{v:g} {unit}" for v, unit in zip(table[n], units, strict=True))
        title = f"{row}, sigma {shard.sigma[patch]:.3f}"
        panels.append(_Panel(title, S[..., n], 0, top, "gray"))
    return panels


def _with_unit(name: str, unit: str) -> str:
    return name if unit == "1" else f"{name} ({unit})"
