"""Experiment: motion between images.

A few images of each series are shifted by one voxel, along one of the two axes, in either
direction. They are drawn once for each patch: repeats differ in noise alone. Measured is the RMSE
in voxels of one tissue: in all of them, and in those with another tissue among their eight
neighbours.

Example:
    python tools/experiments/motion.py --brains subject45_crisp_v.mnc.gz
"""

from __future__ import annotations

import functools
from dataclasses import replace

import click
import numpy as np
from any_protocol import methods_of
from figures import PAGE, write_rows
from kept import Rows
from patches import Patches, scores
from scipy import ndimage
from slices import PROTOCOLS
from sweep import Panel, Setup, draw_panels, score_table
from sweep_command import Sweep, sweep_command
from text_tables import write_markdown

from relaxsim.models.protocols import read_protocol

#: Shifted images of a series.
MOVED = {"cine31": (0, 1, 3, 6, 12), "fse6": (0, 1, 2, 3)}


def moved(S: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Series (n, P, P, N) with `count` images of each shifted by a voxel, edges continued."""
    rng, S = np.random.default_rng([seed, count]), S.copy()
    for patch in S:
        for image in rng.choice(S.shape[-1], count, replace=False):
            axis, step = int(rng.integers(2)), int(rng.choice([-1, 1]))
            patch[..., image] = shifted(patch[..., image], axis, step)
    return S


def shifted(image: np.ndarray, axis: int, step: int) -> np.ndarray:
    """Image (P, P) shifted by one voxel along an axis; the edge is repeated.

    Examples
    --------
    >>> shifted(np.array([[1, 2, 3]]), 1, 1).tolist()
    [[1, 1, 2]]
    """
    places = np.clip(np.arange(image.shape[axis]) - step, 0, image.shape[axis] - 1)
    return np.take(image, places, axis=axis)


def scores_by_place(T: np.ndarray, patches: Patches) -> Rows:
    """Scores of all pure voxels and of those beside another tissue; ``where`` names which."""
    labels = patches.labels
    size = (1, 3, 3)
    edge = ndimage.maximum_filter(labels, size) != ndimage.minimum_filter(labels, size)
    at_edge = replace(patches, pure=patches.pure & edge)
    return [
        {"where": where, **row}
        for where, part in (("anywhere", patches), ("at an edge", at_edge))
        for row in scores(T, part)
    ]


def panels(rows: Rows) -> list[Panel]:
    """RMSE along the number of shifted images, for each protocol and place."""
    out = []
    for protocol, where in dict.fromkeys((row["protocol"], row["where"]) for row in rows):
        chosen = [r for r in rows if (r["protocol"], r["where"]) == (protocol, where)]
        title = f"{protocol}, voxels {where}"
        out.append(Panel(title, chosen, "moved", "shifted images", "rmse", y_log=True))
    return out


@sweep_command("motion", __doc__)
@click.option("--snr", default=30.0, show_default=True)
def main(sweep: Sweep, snr: float) -> None:
    """Run the experiment, write its table and draw its figure."""
    rows: Rows = []
    for name, counts in MOVED.items():
        protocol = read_protocol(name, PROTOCOLS[name])
        model, chosen = protocol.model, methods_of(protocol, sweep.files)
        for count in counts[:3] if sweep.quick else counts:
            alter = functools.partial(moved, count=count, seed=sweep.seed)
            columns = {"protocol": name, "moved": count}
            setup = Setup(columns, tuple(protocol.tau), model, snr, alter=alter)
            rows += sweep.rows(setup, chosen, scores_by_place)
    write_rows(sweep.path(".csv"), rows)
    lines = score_table(
        rows, {"protocol": "protocol", "where": "voxels", "moved": "shifted images"}
    )
    write_markdown(sweep.path(".md"), "Motion between images", [("", lines)])
    draw_panels(panels(rows), sweep.methods, sweep.path(".png"), 2, PAGE)


if __name__ == "__main__":
    main()
