"""Picture of a shard: labels, kappa and weighted images of some patches."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from relaxsim.shards.layout import Shard, read_shard

#: Weighted images shown of each patch, spread over the times.
_IMAGES = 3
_B_RANGE = (1.0, 2.05)


@dataclass(frozen=True)
class _Panel:
    """One picture: title, values, their range and colour map."""

    title: str
    values: np.ndarray
    low: float
    high: float
    colours: str


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
    figure.suptitle(
        f"{info.path.name}: {info.signal_model.name}, {info.protocol}, {len(info.tau)} times"
    )
    temporary = out.with_name(f".part-{out.name}")
    try:
        figure.savefig(temporary, dpi=110, format=out.suffix.removeprefix(".") or "png")
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)


def _panels(shard: Shard, patch: int) -> list[_Panel]:
    """Labels, purity where voxels are mixed, every parameter, images."""
    labels, subject = shard.labels[patch], int(shard.origin[patch, 0])
    inside = labels > 0
    title = "drawn shapes" if subject < 0 else f"labels, subject {subject}"
    panels = [_Panel(title, labels, 0, 11, "tab20")]
    if (shard.purity[shard.labels > 0] < 1).any():
        panels.append(_Panel("purity", shard.purity[patch].astype(np.float32), 0, 1, "magma"))
    model = shard.info.signal_model
    for q, (name, unit) in enumerate(zip(model.parameters, model.units, strict=True)):
        values = np.where(inside, shard.kappa[patch, ..., q], np.nan)
        top = float(np.nanquantile(values, 0.99)) if inside.any() else 1.0
        low, high = _B_RANGE if name == "B" else (0.0, max(top, 1e-6))
        panels.append(
            _Panel(name if unit == "1" else f"{name} ({unit})", values, low, high, "viridis")
        )
    tau, S = shard.info.tau, shard.S[patch].astype(np.float32)
    order = np.argsort(tau, kind="stable")
    shown = order[np.linspace(0, len(tau) - 1, min(_IMAGES, len(tau))).round().astype(int)]
    top = max(float(np.quantile(S, 0.995)), 1e-6)
    for n in shown:
        title = f"{tau[n]:g} ms, sigma {shard.sigma[patch]:.3f}"
        panels.append(_Panel(title, S[..., n], 0, top, "gray"))
    return panels
