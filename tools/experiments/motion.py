"""Experiment: motion between images.

Of each series a few images are shifted by one voxel, along one of the two axes, either way; which
ones, is drawn. RMSE in voxels of one tissue: of all, and of those with another tissue among their
eight neighbours.

Example:
    python tools/experiments/motion.py --brains subject45_crisp_v.mnc.gz
"""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
from any_protocol import methods_of
from figures import PAGE, write_rows
from kept import Rows, cache_option, out_option
from methods import Method, models_option, parse_files
from patches import QUICK_SIZE, SIZE, Patches, draw_places, scores
from scipy import ndimage
from slices import PROTOCOLS, brains_option, quick_option, seed_option
from sweep import Panel, Setup, draw_panels, measured, score_table
from text_tables import write_markdown

from relaxnet.command import one_line_errors
from relaxsim.protocols import read_protocol
from relaxsim.signals import model_for_times

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
    """Scores of all pure voxels and of those at another tissue, told apart by ``where``."""
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
        own = [r for r in rows if (r["protocol"], r["where"]) == (protocol, where)]
        title = f"{protocol}, voxels {where}"
        out.append(Panel(title, own, "moved", "shifted images", "rmse", y_log=True))
    return out


@click.command(help=__doc__)
@brains_option
@click.option("--snr", default=30.0, show_default=True)
@click.option("--patches", default=12, type=click.IntRange(1), help="Draws of kappa and motion.")
@click.option("--repeats", default=2, type=click.IntRange(2), help="Draws of noise.")
@models_option
@seed_option
@quick_option
@cache_option
@out_option
@one_line_errors
def main(
    brains: tuple[Path, ...],
    snr: float,
    patches: int,
    repeats: int,
    models: tuple[str, ...],
    seed: int,
    quick: bool,
    cache: Path,
    out: Path,
) -> None:
    """Run the experiment, write its table and draw its figure."""
    patches, size = (min(patches, 2), QUICK_SIZE) if quick else (patches, SIZE)
    places = draw_places(brains, patches, seed, size)
    files, stem = parse_files(models), f"{'quick_' if quick else ''}motion"
    rows: Rows = []
    methods: dict[str, Method] = {}
    for name, counts in MOVED.items():
        protocol = read_protocol(name, PROTOCOLS[name])
        model, chosen = model_for_times(protocol.times), methods_of(protocol, files)
        methods |= {method.name: method for method in chosen}
        for count in counts[:3] if quick else counts:
            alter = functools.partial(moved, count=count, seed=seed)
            columns = {"protocol": name, "moved": count}
            setup = Setup(columns, tuple(protocol.tau), model, snr, alter=alter)
            for method in chosen:
                rows += measured(
                    "motion", setup, method, places, repeats, seed, cache, scores_by_place
                )
    write_rows(out / f"{stem}.csv", rows)
    lines = score_table(
        rows, {"protocol": "protocol", "where": "voxels", "moved": "shifted images"}
    )
    write_markdown(out / f"{stem}.md", "Motion between images", [("", lines)])
    draw_panels(panels(rows), methods, out / f"{stem}.png", 2, PAGE)


if __name__ == "__main__":
    main()
