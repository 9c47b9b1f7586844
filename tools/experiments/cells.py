"""Monte Carlo runs in cells whose results are kept: one method on one slice at one SNR.

A cell's file holds the moments of its voxels' relative errors and the number of repeats behind
them. An interrupted run thus goes on, and a longer run adds to a shorter one. The name of the file
has a digest of all that the cell depends on, the network's checksum included: other settings make
another cell.
"""

from __future__ import annotations

import hashlib
import json
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from methods import Method
from slices import Scene

from relaxnet.evaluation.metrics import Moments
from relaxsim.core.files import write_whole
from relaxsim.core.snr import SIGNAL
from relaxsim.phantoms.phantoms import Phantom
from relaxsim.simulation.noise import add_noise

#: Seconds after which a cell that is not done is saved.
SAVE_EVERY = 30.0


@dataclass(frozen=True)
class Cell:
    """One method on one slice at one SNR.

    Attributes
    ----------
    method : Method
    scene : Scene
    draw : int
        Draw of kappa.
    b_field : str
        ``patch`` or ``smooth``.
    snr : float
    """

    method: Method
    scene: Scene
    draw: int
    b_field: str
    snr: float

    @property
    def sigma(self) -> float:
        """Noise standard deviation."""
        return SIGNAL / self.snr

    def path(self, cache: Path) -> Path:
        """File of the cell."""
        settings = {**self.scene.settings, "method": self.method.identity}
        text = json.dumps(settings, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        name = f"{self.method.name}-snr{self.snr:g}-{self.b_field}-{self.draw}-{digest}.npz"
        return cache / self.scene.protocol.name / name

    def estimate(self, phantom: Phantom, repeat: int) -> np.ndarray:
        """Kappa of the mask's voxels, shape (M, Q), from one draw of noise."""
        rng = self.scene.noise(self.draw, self.b_field, self.snr, repeat)
        S = add_noise(phantom.signal[:, :, 0], self.sigma, rng, self.scene.noise_kind)
        mask = phantom.mask[:, :, 0]
        return self.method.estimate(S, phantom.tau, phantom.model, self.sigma, mask)[mask]


def run_cell(cell: Cell, phantom: Phantom, repeats: int, cache: Path) -> Moments:
    """Moments of a cell with at least `repeats` repeats: those that are missing are run."""
    path = cell.path(cache)
    truth = phantom.kappa[:, :, 0][phantom.mask[:, :, 0]].astype(np.float64)
    moments = load_moments(path) or Moments.of_none(truth.shape)
    if moments.count >= repeats:
        return moments
    saved = time.monotonic()
    try:
        while moments.count < repeats:
            moments = moments.with_repeat(cell.estimate(phantom, moments.count), truth)
            if time.monotonic() - saved > SAVE_EVERY:
                save_moments(path, moments)
                saved = time.monotonic()
    finally:
        save_moments(path, moments)
    return moments


def load_moments(path: Path) -> Moments | None:
    """Moments in a file; None if there is none or it is damaged."""
    try:
        with path.open("rb") as raw, np.load(raw) as file:
            mean, square = (file[name].astype(np.float64) for name in ("mean", "square"))
            return Moments(int(file["count"]), mean, square, file["outliers"].astype(np.int32))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def save_moments(path: Path, moments: Moments) -> None:
    """Write a cell's file; a file with the final name is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_whole(path) as temporary:
        np.savez(
            temporary,
            count=moments.count,
            mean=moments.mean.astype(np.float32),
            square=moments.square.astype(np.float32),
            outliers=moments.outliers.astype(np.uint16),
        )


def run_cells(
    scene: Scene,
    methods: Sequence[Method],
    snrs: Sequence[float],
    b_fields: Sequence[str],
    draws: Sequence[int],
    repeats: int,
    cache: Path,
    say: Callable[[str], object] = click.echo,
) -> Iterator[tuple[Cell, Phantom, Moments]]:
    """All cells of an experiment, each with its slice and its moments.

    Parameters
    ----------
    scene : Scene
    methods, snrs, b_fields, draws : sequences
        Their product; slices change slowest, methods fastest.
    repeats : int
        Draws of noise.
    cache : Path
        Folder of the cells' files.
    say : callable
        Takes a line for each cell that took more than a second.
    """
    for b_field in b_fields:
        for draw in draws:
            phantom = scene.slice(draw, b_field)
            for snr in snrs:
                for method in methods:
                    begin = time.monotonic()
                    cell = Cell(method, scene, draw, b_field, snr)
                    moments = run_cell(cell, phantom, repeats, cache)
                    if (seconds := time.monotonic() - begin) > 1.0:
                        say(
                            f"{scene.protocol.name} {b_field} draw {draw} SNR {snr:g} "
                            f"{method.name}: {moments.count} repeats, {seconds:.0f} s"
                        )
                    yield cell, phantom, moments
