"""Simulated patches of anatomies not trained on, and how well a method maps them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from methods import Method
from slices import BUILTIN_SUBJECTS

from relaxnet.evaluation.metrics import Summary, by_tissue
from relaxsim.anatomy.anatomy import BUILTIN, file_checksum
from relaxsim.core.snr import SIGNAL as MEAN_A
from relaxsim.models.signal_model import SignalModel
from relaxsim.shards.generate import Settings, draw_mixture, shard_rng
from relaxsim.simulation.noise import add_noise
from relaxsim.simulation.simulate import Mixture, noise_free
from relaxsim.simulation.tissue_maps import TissueValues, draw_tissue_values
from relaxsim.simulation.tissues import read_tissues

#: mm; inside the range that the networks for any times were trained on.
VOXEL_SIZE = 0.85
SPREAD = 0.03
#: Width of a patch in voxels; B varies over it as over a part of a slice.
SIZE = 96
QUICK_SIZE = 24
#: Groups of labels that are reported.
TISSUES = {"CSF": (1,), "GM": (2,), "WM": (3,), "GM and WM": (2, 3)}


@dataclass(frozen=True)
class Places:
    """Places of patches: their tissues, without values; patches of one anatomy are one mixture.

    `settings` is what they depend on, JSON-serialisable.
    """

    mixtures: tuple[Mixture, ...]
    size: int
    settings: dict[str, object]


@dataclass(frozen=True)
class Patches:
    """Noise-free patches with their truth.

    Attributes
    ----------
    clean : array, shape (n, P, P, N), float32
        As measured without noise.
    kappa : array, shape (n, P, P, Q), float32
    labels : array, shape (n, P, P), uint8
    pure : bool array, shape (n, P, P)
        Voxels of one tissue, background left out.
    tau : array, shape (N,) or (N, D)
        The protocol: times in ms, or the table of a model with several columns.
    model : SignalModel
    known : array, shape (n, P, P, K), or None
        Known maps of the model.
    """

    clean: np.ndarray
    kappa: np.ndarray
    labels: np.ndarray
    pure: np.ndarray
    tau: np.ndarray
    model: SignalModel
    known: np.ndarray | None = None

    def noisy(self, snr: float, seed: Sequence[int], noise: str = "gaussian") -> np.ndarray:
        """Series (n, P, P, N) with noise of standard deviation 0.75 / `snr`."""
        return add_noise(self.clean, MEAN_A / snr, np.random.default_rng(seed), noise)


def draw_places(
    anatomies: Sequence[Path],
    num: int,
    seed: int = 0,
    size: int = SIZE,
    voxel_size: float = VOXEL_SIZE,
) -> Places:
    """Patches with centres in the brain, shared out evenly over the anatomies.

    Parameters
    ----------
    anatomies : sequence of Path
        Label volumes of subjects not trained on; none for built-in heads.
    num : int
        Number of patches.
    seed : int
    size : int
        Width P in voxels.
    voxel_size : float
        mm.
    """
    chosen = [(str(path), file_checksum(path)) for path in anatomies]
    chosen = (chosen or [(BUILTIN, str(subject)) for subject in BUILTIN_SUBJECTS])[:num]
    settings = Settings(
        sequence="tis",
        protocols=(("none", (1.0,)),),
        anatomies=tuple(chosen),
        tissues=("", ""),
        patch_size=size,
        seed=seed,
        voxel_size=(voxel_size, voxel_size),
    )
    counts = [len(part) for part in np.array_split(np.arange(num), len(chosen))]
    mixtures = (
        draw_mixture(settings, index, count, shard_rng(seed, index))[0]
        for index, count in enumerate(counts)
    )
    words = {
        "anatomies": [checksum for _, checksum in chosen],
        "patches": num,
        "size": size,
        "voxel_size": voxel_size,
        "places_seed": seed,
    }
    return Places(tuple(mixtures), size, words)


def simulate(
    places: Places,
    tau: np.ndarray,
    model: SignalModel,
    seed: int = 0,
    b_field: str | float = "slow",
    tr: float | None = None,
    change: Callable[[TissueValues, np.random.Generator], TissueValues] | None = None,
) -> Patches:
    """Patches with one draw of the model's tissue table each; the paper's for T1 and T2.

    The same places and seed give the same kappa for any times.

    Parameters
    ----------
    places : Places
    tau : array, shape (N,) or (N, D)
        As of `Patches`.
    model : SignalModel
    seed : int
    b_field : str or float
        As `relaxsim.simulation.tissue_maps.draw_tissue_values`, or the value of the shared
        parameter (for infinite TR).
    tr : float, optional
        Repetition time in ms; default infinite.
    change : callable, optional
        Takes the drawn values and the generator, returns other values.
    """
    table, parts, known = read_tissues(model.border.tissues), [], []
    for index, mixture in enumerate(places.mixtures):
        rng = shard_rng(seed, index, stream=7)
        num = mixture.shape[0]
        field = b_field if isinstance(b_field, str) else "patch"
        values = draw_tissue_values(
            model, table, num, places.size, rng, field, None if tr is None else (tr, tr)
        )
        if values.shared is not None and not isinstance(b_field, str):
            values = replace(values, shared=np.full_like(values.shared, b_field))
        if change is not None:
            values = change(values, rng)
        parts.append(noise_free(mixture, tau, model, values, rng, SPREAD))
        if values.known is not None:
            known.append(values.known)
    signed, kappa, labels, purity = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("signed", "kappa", "labels", "purity")
    )
    clean = np.abs(signed) if model.magnitude else signed
    pure = (labels > 0) & (purity > 0.999)
    maps = np.concatenate(known) if known else None
    return Patches(clean, kappa, labels, pure, np.asarray(tau, float), model, maps)


def estimated(
    method: Method, patches: Patches, S: np.ndarray, sigma: float, force: bool = False
) -> np.ndarray:
    """Kappa (n, P, P, Q) of noisy patches S (n, P, P, N), each mapped by itself."""
    masks = patches.labels > 0
    estimates = [
        method.estimate(series, patches.tau, patches.model, sigma, mask, force)
        for series, mask in zip(S, masks, strict=True)
    ]
    return np.stack(estimates)


def repeated(
    method: Method,
    patches: Patches,
    snr: float,
    repeats: int,
    noise: str = "gaussian",
    wrong: float = 1.0,
    seed: int = 0,
    alter: Callable[[np.ndarray], np.ndarray] | None = None,
    force: bool = False,
) -> np.ndarray:
    """Estimates of the relaxation time under several draws of noise.

    Parameters
    ----------
    method : Method
    patches : Patches
    snr : float
    repeats : int
        Draws C.
    noise : str
        ``gaussian`` or ``rician``.
    wrong : float
        Sigma that the method gets over the true sigma.
    seed : int
        All methods get the same noise for the same seed.
    alter : callable, optional
        Changes a noisy series (n, P, P, N) before it is mapped.
    force : bool
        Use the given sigma even if the data contradict it.

    Returns
    -------
    T : array, shape (C, n, P, P), float32
        ms.
    """
    out = []
    for repeat in range(repeats):
        S = patches.noisy(snr, [seed, round(100 * snr), repeat], noise)
        S = S if alter is None else alter(S)
        out.append(estimated(method, patches, S, wrong * MEAN_A / snr, force)[..., -1])
    return np.stack(out)


def scores(
    T: np.ndarray, patches: Patches, tissues: Mapping[str, tuple[int, ...]] = TISSUES
) -> Iterator[dict[str, str | float]]:
    """Bias, CV and RMSE of estimates (C, n, P, P) in each tissue, over its pure voxels.

    `tissues` names groups of labels.

    Yields
    ------
    row : dict
        ``tissue``; ``bias``, ``cv``, ``rmse`` (medians over voxels, per cent) with quartiles and
        Monte Carlo error over patches; ``pooled_rmse``; ``voxels``.
    """
    pure, truth = patches.pure, patches.kappa[..., -1]
    patch = np.broadcast_to(np.arange(len(pure))[:, None, None], pure.shape)[pure]
    table = by_tissue(T[:, pure], truth[pure], patches.labels[pure], patch, tissues)
    for tissue, metrics in table.items():
        row: dict[str, str | float] = {"tissue": tissue}
        for name, value in metrics.items():
            if isinstance(value, Summary):
                row[name] = value.median
                row[f"{name}_q1"], row[f"{name}_q3"] = value.lower, value.upper
                row[f"{name}_error"] = value.error
                row["voxels"] = value.num_voxels
            else:
                row[name] = value
        yield row
