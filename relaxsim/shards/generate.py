"""Recipe: a run's settings and a shard's index become the shard's arrays.

Shard i is a function of the settings and (seed, i) alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from relaxsim.anatomy.anatomy import (
    BUILTIN,
    Anatomy,
    brain_mask,
    builtin_head,
    head_voxel,
    load_anatomy,
)
from relaxsim.anatomy.patches import (
    coarse_fractions,
    crop,
    draw_centres,
    fine_size,
    random_orientation,
)
from relaxsim.anatomy.shapes import draw_shapes, with_details
from relaxsim.core.labels import BRAIN, NUM_LABELS
from relaxsim.models.protocols import Protocol, random_protocol
from relaxsim.models.registry import finite_tr_of, model_of
from relaxsim.models.signal_model import SignalModel
from relaxsim.simulation.noise import SIGMA_RANGE, draw_sigma
from relaxsim.simulation.simulate import Mixture, mixture_of_fractions, mixture_of_labels, simulate
from relaxsim.simulation.tissue_maps import draw_tissue_values
from relaxsim.simulation.tissues import parse_tissues

#: Patches of a shard, and of one with a random protocol: networks that shall serve any protocol
#: need many protocols.
PATCHES_PER_SHARD = 240
PATCHES_PER_RANDOM_SHARD = 24

#: Numbers of a protocol: its times, or a row for each image where it has several columns.
Rows = tuple[float, ...] | tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Settings:
    """Everything that a run's data depend on, besides the shard's index.

    Attributes
    ----------
    sequence : str
        Signal model, as `relaxsim.models.registry.model_of` takes it; see `sequence_of`. Shards
        store it as ``times``.
    protocols : tuple of (str, tuple)
        Names and numbers in the units of the model's columns, which the shards take in turn:
        times (N,), or rows (N, D) of a model with several columns. Empty: a random protocol for
        every shard.
    anatomies : tuple of (str, str)
        Path and SHA-256 of each label volume, or ``builtin`` and its seed. The shards of each
        protocol take them in turn.
    tissues : (str, str)
        Name and text of the tissue table.
    patches, patch_size, seed : int
        Total number of patches, their width in voxels, the seed.
    spread : float
        Voxel-wise variation inside a tissue, share of its value.
    noise : str
        ``gaussian`` or ``rician``.
    sigma_range : (float, float)
        Noise standard deviation, in units of CSF's A.
    b_field : str
        ``patch``, ``wide``, ``smooth`` or ``slow``.
    tr_range : (float, float) or None
        Repetition time in ms, log-uniform, no shorter than the list's longest time; None is
        infinite.
    voxel_size : (float, float) or None
        Voxel size in mm, log-uniform, one a patch; None is that of the anatomy, with crisp
        labels.
    shapes : float
        Share of patches with drawn shapes instead of anatomy.
    details : float
        Share of patches of anatomy with small details drawn in.
    augment : bool
        Random flips and quarter turns.
    dtype : str
        Of S, ``float32`` or ``float16``.

    Raises
    ------
    ValueError
        If a list has a time beyond the longest repetition time, or the signal model does not
        depend on one.
    """

    sequence: str
    protocols: tuple[tuple[str, Rows], ...]
    anatomies: tuple[tuple[str, str], ...]
    tissues: tuple[str, str]
    patches: int = 7200
    patch_size: int = 40
    seed: int = 0
    spread: float = 0.03
    noise: str = "gaussian"
    sigma_range: tuple[float, float] = SIGMA_RANGE
    b_field: str = "patch"
    tr_range: tuple[float, float] | None = None
    voxel_size: tuple[float, float] | None = None
    shapes: float = 0.0
    details: float = 0.0
    augment: bool = True
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.tr_range is None:
            return
        finite_tr = finite_tr_of(self.model)
        longest = self.model.border.columns[0].random_largest or 0.0
        for name, rows in self.protocols or (("random", (longest,)),):
            try:
                finite_tr.check(self.tr_range[1], self.model.table(np.array(rows)))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None

    @property
    def model(self) -> SignalModel:
        """Signal model."""
        return model_of(self.sequence)

    @property
    def patches_per_shard(self) -> int:
        """240, or 24 where every shard has another protocol."""
        return PATCHES_PER_SHARD if self.protocols else PATCHES_PER_RANDOM_SHARD

    @property
    def num_shards(self) -> int:
        """Number of shards of the whole run."""
        return -(-self.patches // self.patches_per_shard)

    def patches_of(self, index: int) -> int:
        """Number of patches of shard `index`; the last one may hold fewer."""
        return min(self.patches_per_shard, self.patches - index * self.patches_per_shard)

    def protocol_of(self, index: int) -> Protocol:
        """Protocol of shard `index`."""
        if self.protocols:
            name, rows = self.protocols[index % len(self.protocols)]
            return Protocol(name, self.model, self.model.table(np.array(rows)))
        return random_protocol(shard_rng(self.seed, index, stream=1), self.model)

    def tr_range_of(self, protocol: Protocol) -> tuple[float, float] | None:
        """Repetition times that a protocol's patches are drawn from."""
        if self.tr_range is None:
            return None
        return max(self.tr_range[0], float(protocol.tau.max())), self.tr_range[1]

    def anatomy_of(self, index: int) -> tuple[str, str]:
        """Path and checksum of the label volume of shard `index`."""
        turn = index // max(1, len(self.protocols))
        return self.anatomies[turn % len(self.anatomies)]

    def to_json(self) -> dict[str, Any]:
        """Settings as stored in shards: anatomies by file name, not by path."""
        fields = dict(vars(self))
        fields["times"] = fields.pop("sequence")
        fields["anatomies"] = [[Path(path).name, checksum] for path, checksum in self.anatomies]
        return _listed(fields)


def sequence_of(model: SignalModel) -> str:
    """`Settings.sequence` of a signal model.

    It is the option of a model's only column, unless another model takes the same option; else the
    model's name.

    Examples
    --------
    >>> sequence_of(model_of("ir"))
    'tis'
    """
    option = model.border.columns[0].option
    return option if len(model.columns) == 1 and model_of(option) is model else model.name


def rows_of(protocol: Protocol) -> Rows:
    """Numbers of a protocol as `Settings.protocols` has them."""
    if len(protocol.model.columns) == 1:
        return tuple(float(value) for value in protocol.tau)
    return tuple(tuple(float(value) for value in row) for row in protocol.table)


def shard_rng(seed: int, index: int, stream: int = 0) -> np.random.Generator:
    """Random generator of shard `index`; `stream` separates independent uses."""
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence([seed, index, stream])))


def make_shard(settings: Settings, index: int) -> tuple[dict[str, np.ndarray], Protocol]:
    """Arrays of shard `index` (layout of `relaxsim.shards.layout`) and its protocol.

    Raises
    ------
    ValueError
        If an anatomy's file has changed since the settings were made, or holds no brain.
    """
    rng = shard_rng(settings.seed, index)
    protocol = settings.protocol_of(index)
    num = settings.patches_of(index)
    mixture, origin = draw_mixture(settings, index, num, rng)
    table = parse_tissues(settings.tissues[1], settings.tissues[0])
    tr_range = settings.tr_range_of(protocol)
    values = draw_tissue_values(
        settings.model, table, num, settings.patch_size, rng, settings.b_field, tr_range
    )
    sigma = draw_sigma(rng, num, settings.sigma_range)
    patches = simulate(
        mixture, protocol.table, settings.model, values, sigma, rng, settings.spread, settings.noise
    )
    arrays = {
        "S": patches.S.astype(settings.dtype, copy=False),
        "kappa": patches.kappa,
        "sigma": patches.sigma,
        "labels": patches.labels,
        "purity": patches.purity.astype(np.float16),
        "origin": origin,
    }
    if patches.known is not None:
        arrays["known"] = patches.known
    return arrays, protocol


def check_tissues(settings: Settings) -> None:
    """Draw from the tissue table, before a folder is made.

    Raises
    ------
    ValueError
        If it lacks a parameter of the signal model.
    """
    table = parse_tissues(settings.tissues[1], settings.tissues[0])
    draw_tissue_values(settings.model, table, 1, 1, np.random.default_rng(0))


def check_anatomies(settings: Settings) -> None:
    """Read all anatomies, before old shards are removed.

    Raises
    ------
    ValueError
        If one is damaged.
    """
    for path, checksum in settings.anatomies:
        if path != BUILTIN:
            _load_anatomy(path, checksum, head_voxel(settings.voxel_size))


def draw_mixture(
    settings: Settings, index: int, num: int, rng: np.random.Generator
) -> tuple[Mixture, np.ndarray]:
    """Mixture and origin (num, 4) of the patches of a shard."""
    P, partial = settings.patch_size, settings.voxel_size is not None
    anatomy, brain = _anatomy(*settings.anatomy_of(index), head_voxel(settings.voxel_size))
    centres = draw_centres(brain, anatomy.labels.shape, num, rng)
    origin = np.column_stack([np.full(num, anatomy.subject), centres]).astype(np.int32)
    is_shape = rng.random(num) < settings.shapes
    origin[is_shape] = (-1, 0, 0, 0)
    out = (
        np.zeros((num, P, P, NUM_LABELS), np.float32)
        if partial
        else np.zeros((num, P, P), np.uint8)
    )
    for i, centre in enumerate(centres):
        factor = 1.0
        if settings.voxel_size is not None:
            factor = np.exp(rng.uniform(*np.log(settings.voxel_size))) / anatomy.voxel_size
        fine = fine_size(P, factor) if partial else P
        depth = fine_size(1, factor) if partial else 1
        if is_shape[i]:
            block = np.broadcast_to(draw_shapes(rng, fine, factor), (depth, fine, fine))
        else:
            block = crop(anatomy.labels, centre, (depth, fine, fine))
            if settings.details and rng.random() < settings.details:
                block = with_details(block, rng, factor)
        if settings.augment:
            block = random_orientation(block, rng)
        out[i] = coarse_fractions(block, (P, P), factor) if partial else block[0]
    return (mixture_of_fractions(out) if partial else mixture_of_labels(out)), origin


#: The anatomy that this process used last, by the arguments of `_anatomy`.
_last_anatomy: dict[tuple[str, str, float], tuple[Anatomy, np.ndarray]] = {}


def _anatomy(path: str, checksum: str, voxel_size: float) -> tuple[Anatomy, np.ndarray]:
    """Label volume and the flat indices of its brain; the last one is kept."""
    key = path, checksum, voxel_size
    if key not in _last_anatomy:
        _last_anatomy.clear()  # before the next one needs its memory
        _last_anatomy[key] = _load_anatomy(*key)
    return _last_anatomy[key]


def _load_anatomy(path: str, checksum: str, voxel_size: float) -> tuple[Anatomy, np.ndarray]:
    if path == BUILTIN:
        anatomy = builtin_head(int(checksum), voxel_size)
    else:
        anatomy = load_anatomy(path)
        if anatomy.checksum != checksum:
            raise ValueError(f"{path} has changed since the run began.")
    brain = np.flatnonzero(brain_mask(anatomy.labels)).astype(np.int32)
    if not len(brain):
        raise ValueError(f"{path} holds no brain (labels {', '.join(map(str, BRAIN))}).")
    return anatomy, brain


def _listed(value: Any) -> Any:
    """Tuples as lists, so that settings compare equal after JSON."""
    if isinstance(value, (tuple, list)):
        return [_listed(v) for v in value]
    if isinstance(value, dict):
        return {key: _listed(v) for key, v in value.items()}
    return value
