"""Evaluation slices: brains not trained on, with draws of kappa.

Slices are axial, 256 x 256 voxels of 0.85 mm, 0.85 mm thick: one through the body of the corpus
callosum (`relaxsim.phantoms.phantoms.middle_slice`), one 18 mm below it, through the basal ganglia.
Draws of kappa take the slices of the subjects in turn.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import click
import numpy as np

from relaxsim.anatomy.anatomy import Anatomy, builtin_head, load_anatomy
from relaxsim.models.protocols import Protocol, read_protocol
from relaxsim.models.signal_model import SignalModel
from relaxsim.phantoms.phantoms import Phantom, brain_phantom, middle_slice
from relaxsim.simulation.tissues import TissueTable, read_tissues

#: Places of the slices: mm above the corpus callosum's.
PLACES = {"corpus callosum": 0.0, "basal ganglia": -18.0}
#: Built-in heads for runs without a brain; training takes other ones.
BUILTIN_SUBJECTS = (1000, 1001)
#: Slices of a label volume that are kept on each side of the slice.
MARGIN = 6
#: Protocols and the option that carries their times.
PROTOCOLS = {"cine23": "tis", "cine25": "tis", "cine31": "tis", "fse6": "tes"}


@dataclass(frozen=True)
class Scene:
    """Settings that all slices of an experiment share.

    Attributes
    ----------
    brains : tuple of Anatomy
    protocol : Protocol
    seed : int
    voxel_size : float
        mm.
    matrix : int
    spread : float
        Voxel-wise variation inside a tissue.
    table : TissueTable
    noise_kind : str
        ``gaussian`` (paper) or ``rician``.
    """

    brains: tuple[Anatomy, ...]
    protocol: Protocol
    seed: int = 0
    voxel_size: float = 0.85
    matrix: int = 256
    spread: float = 0.03
    table: TissueTable = field(default_factory=functools.partial(read_tissues, "paper"))
    noise_kind: str = "gaussian"

    @property
    def model(self) -> SignalModel:
        """Signal model of the protocol."""
        return self.protocol.model

    @property
    def settings(self) -> dict[str, object]:
        """Settings that the slices depend on, JSON-serialisable."""
        return {
            "brains": [brain.checksum for brain in self.brains],
            "tau": self.protocol.tau.tolist(),
            "model": self.model.name,
            "seed": self.seed,
            "voxel_size": self.voxel_size,
            "matrix": self.matrix,
            "spread": self.spread,
            "table": self.table.text,
            "mixed voxels": "nearest kappa with the place's B",
            **({} if self.noise_kind == "gaussian" else {"noise": self.noise_kind}),
        }

    def slice(self, draw: int, b_field: str) -> Phantom:
        """Slice of a draw of kappa. Tissue values are the same for all kinds of B.

        Parameters
        ----------
        draw : int
            From 0. Subject and place change with it.
        b_field : str
            ``patch`` (constant) or ``smooth``.
        """
        subject, place = place_of(draw, len(self.brains))
        brain, middle = slab(self.brains[subject], PLACES[place])
        return brain_phantom(
            brain,
            self.protocol.tau,
            self.model,
            self.table,
            np.random.default_rng([self.seed, draw]),
            voxel_size=self.voxel_size,
            matrix=self.matrix,
            middle=middle,
            b_field=b_field if self.model.shared else "patch",
            spread=self.spread,
        )

    def noise(self, draw: int, b_field: str, snr: float, repeat: int) -> np.random.Generator:
        """Generator of one repeat's noise: the same for all methods."""
        kind = 1 if b_field == "smooth" else 0
        return np.random.default_rng([self.seed, draw, kind, round(100 * snr), repeat])

    def b_fields(self, wanted: Sequence[str]) -> tuple[str, ...]:
        """Kinds of B to simulate: the first alone for a model without a shared parameter."""
        return tuple(wanted) if self.model.shared else ("patch",)

    def at_the_means(self) -> Scene:
        """Scene whose tissues have the mean values of the table."""
        rows = tuple(replace(t, sd=dict.fromkeys(t.sd, 0.0)) for t in self.table.tissues)
        table = replace(self.table, tissues=rows, text=self.table.text + "\n# means")
        return replace(self, table=table)


def place_of(draw: int, num_brains: int) -> tuple[int, str]:
    """Subject's number and place of a draw: both change fastest.

    Examples
    --------
    >>> [place_of(draw, 2) for draw in range(3)]
    [(0, 'corpus callosum'), (1, 'basal ganglia'), (0, 'basal ganglia')]
    """
    places = list(PLACES)
    return draw % num_brains, places[(draw % num_brains + draw // num_brains) % len(places)]


def slab(brain: Anatomy, above: float) -> tuple[Anatomy, int]:
    """Few slices around one at `above` mm over the corpus callosum's, and its number in them."""
    middle = _middle(brain) + round(above / brain.voxel_size)
    low = max(0, middle - MARGIN)
    return replace(brain, labels=brain.labels[low : middle + MARGIN + 1]), middle - low


def _middle(brain: Anatomy) -> int:
    if brain.checksum not in _MIDDLES:
        _MIDDLES[brain.checksum] = middle_slice(brain.labels)
    return _MIDDLES[brain.checksum]


_MIDDLES: dict[str, int] = {}


@functools.lru_cache(maxsize=2)
def load_brains(paths: tuple[Path, ...]) -> tuple[Anatomy, ...]:
    """Label volumes; the built-in heads if none are given.

    Raises
    ------
    ValueError
        If a file is no label volume.
    """
    if paths:
        return tuple(load_anatomy(path) for path in paths)
    click.echo("No --brains: the built-in heads stand in for validation subjects.")
    return tuple(builtin_head(subject, 0.85) for subject in BUILTIN_SUBJECTS)


def make_scene(brains: Sequence[Path], protocol: str, seed: int, quick: bool) -> Scene:
    """Scene of an experiment; a quick one has voxels twice as wide."""
    if protocol not in PROTOCOLS:
        raise ValueError(f"no protocol is called {protocol}; there are: {', '.join(PROTOCOLS)}.")
    times = read_protocol(protocol, PROTOCOLS[protocol])
    scene = Scene(load_brains(tuple(brains)), times, seed)
    return replace(scene, voxel_size=1.7, matrix=128) if quick else scene


#: Options that all experiments on brain slices have.
brains_option = click.option(
    "--brains",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Label volume of a subject not trained on; repeatable. Default: built-in heads.",
)
seed_option = click.option("--seed", default=0, type=click.IntRange(0), help="Of kappa and noise.")
quick_option = click.option("--quick", is_flag=True, help="Small: to see that it runs.")
