"""Recipe: a run's settings and a shard's index become the shard's arrays.

Shard i is a function of the settings and (seed, i) alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from relaxsim.anatomy.anatomy import Anatomy, brain_mask, builtin_head, load_anatomy
from relaxsim.anatomy.patches import (
    coarse_fractions,
    crop,
    draw_centres,
    fine_size,
    random_orientation,
)
from relaxsim.anatomy.shapes import draw_shapes, with_details
from relaxsim.models.protocols import Protocol, random_protocol
from relaxsim.models.registry import model_of
from relaxsim.models.signal_model import SignalModel
from relaxsim.simulation.noise import SIGMA_RANGE, draw_sigma
from relaxsim.simulation.simulate import Mixture, mixture_of_fractions, mixture_of_labels, simulate
from relaxsim.simulation.tissue_maps import draw_tissue_values
from relaxsim.simulation.tissues import parse_tissues

PATCHES_PER_SHARD = 240
PATCHES_PER_RANDOM_SHARD = 24
#: Subjects that the built-in head is drawn for when no anatomy is given.
BUILTIN_SUBJECTS = 10
#: What `Settings.anatomies` has in a path's place for the built-in head.
BUILTIN = "builtin"


@dataclass(frozen=True)
class Settings:
    """All that a run's data depend on, besides the shard's index.

    Attributes
    ----------
    times : str
        ``tis`` or ``tes``; names the signal model.
    protocols : tuple of (str, tuple of float)
        Names and times in ms, which the shards take in turn. Empty: a random protocol for every
        shard.
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
        Voxel size in mm, log-uniform, one a patch; None takes the anatomy's own, with crisp
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
        If a list has a time beyond the longest repetition time.
    """

    times: str
    protocols: tuple[tuple[str, tuple[float, ...]], ...]
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
        if self.tr_range is not None:
            longest = self.model.border.columns[0].random_largest
            for name, tau in self.protocols or (("random", (longest,)),):
                assert self.model.finite_tr is not None
                try:
                    self.model.finite_tr.check(self.tr_range[1], np.array(tau)[:, None])
                except ValueError as error:
                    raise ValueError(f"{name}: {error}") from None

    @property
    def model(self) -> SignalModel:
        """Signal model."""
        return model_of(self.times)

    @property
    def patches_per_shard(self) -> int:
        """240, or 24 where every shard has a protocol of its own."""
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
            name, tau = self.protocols[index % len(self.protocols)]
            return Protocol(name, self.model, np.array(tau)[:, None])
        return random_protocol(shard_rng(self.seed, index, stream=1), self.times)

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
        fields["anatomies"] = [[Path(path).name, checksum] for path, checksum in self.anatomies]
        return _listed(fields)


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
        mixture, protocol.tau, settings.model, values, sigma, rng, settings.spread, settings.noise
    )
    arrays = {
        "S": patches.S.astype(settings.dtype, copy=False),
        "kappa": patches.kappa,
        "sigma": patches.sigma,
        "labels": patches.labels,
        "purity": patches.purity.astype(np.float16),
        "origin": origin,
    }
    return arrays, protocol


def check_inputs(settings: Settings) -> None:
    """Read all anatomies and draw from the tissue table, before old shards are removed.

    Raises
    ------
    ValueError
        If one is damaged or lacks what the signal model needs.
    """
    table = parse_tissues(settings.tissues[1], settings.tissues[0])
    draw_tissue_values(settings.model, table, 1, 1, np.random.default_rng(0))
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
    out = np.zeros((num, P, P, 12), np.float32) if partial else np.zeros((num, P, P), np.uint8)
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


def head_voxel(voxel_size: tuple[float, float] | None) -> float:
    """Voxel size of the built-in head, mm; finer than patches that have mixed voxels."""
    return 1.0 if voxel_size is None else float(np.clip(voxel_size[0] / 1.5, 0.5, 1.0))


#: The anatomy that this process used last, by what `_anatomy` was asked for.
_held: dict[tuple[str, str, float], tuple[Anatomy, np.ndarray]] = {}


def _anatomy(path: str, checksum: str, head_voxel: float) -> tuple[Anatomy, np.ndarray]:
    """Label volume and the flat indices of its brain; the last one is kept."""
    key = path, checksum, head_voxel
    if key not in _held:
        _held.clear()  # before the next one needs its memory
        _held[key] = _load_anatomy(*key)
    return _held[key]


def _load_anatomy(path: str, checksum: str, head_voxel: float) -> tuple[Anatomy, np.ndarray]:
    if path == BUILTIN:
        anatomy = builtin_head(int(checksum), head_voxel)
    else:
        anatomy = load_anatomy(path)
        if anatomy.checksum != checksum:
            raise ValueError(f"{path} has changed since the run began.")
    brain = np.flatnonzero(brain_mask(anatomy.labels)).astype(np.int32)
    if not len(brain):
        raise ValueError(f"{path} holds no brain (labels 1, 2, 3, 8).")
    return anatomy, brain


def _listed(value: Any) -> Any:
    """Tuples as lists, so that settings compare equal after JSON."""
    if isinstance(value, (tuple, list)):
        return [_listed(v) for v in value]
    if isinstance(value, dict):
        return {key: _listed(v) for key, v in value.items()}
    return value
