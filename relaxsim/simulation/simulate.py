"""Simulation: labels, tissue values and a protocol become kappa, S and sigma. Pure functions.

A voxel is a list of (tissue, volume fraction) pairs. Crisp labels make one pair a voxel; coarser
voxels make several where tissues meet, and their signal is the sum of the tissues' *signed*
signals by volume, of which the modulus is taken.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from relaxsim.models.signal_model import SignalModel
from relaxsim.simulation.noise import add_noise
from relaxsim.simulation.reference import nearest_single_compartment
from relaxsim.simulation.tissue_maps import TissueValues, apparent, draw_variation, voxel_kappa

#: Voxels that are simulated at a time: few enough for their signals to stay in a core's cache.
_BLOCK = 4096


@dataclass(frozen=True)
class Mixture:
    """(Voxel, tissue) pairs of a batch of patches, sorted by voxel, background left out.

    Attributes
    ----------
    shape : (n, rows, columns)
    voxel : array, shape (M,), int64
        Flat voxel index of each pair.
    label : array, shape (M,), int64
    fraction : array, shape (M,), float32
        Volume fraction, > 0.
    """

    shape: tuple[int, int, int]
    voxel: np.ndarray
    label: np.ndarray
    fraction: np.ndarray


@dataclass(frozen=True)
class Patches:
    """Simulated patches.

    Attributes
    ----------
    S : array, shape (n, P, P, N), float32
        Weighted images, noise added.
    kappa : array, shape (n, P, P, Q), float32
        Reference parameters; 0 in the background.
    sigma : array, shape (n,), float32
    labels : array, shape (n, P, P), uint8
        Tissue with the largest volume fraction; 0 where there is none.
    purity : array, shape (n, P, P), float32
        That tissue's volume fraction; 0 in the background.
    known : array, shape (n, P, P, K), float32, or None
        Known maps of the signal model.
    """

    S: np.ndarray
    kappa: np.ndarray
    sigma: np.ndarray
    labels: np.ndarray
    purity: np.ndarray
    known: np.ndarray | None = None


def mixture_of_labels(labels: np.ndarray) -> Mixture:
    """Mixture of crisp labels (n, P, P): one tissue a voxel."""
    voxel = np.flatnonzero(labels)
    label = labels.reshape(-1)[voxel].astype(np.int64)
    return Mixture(labels.shape, voxel, label, np.ones(len(voxel), np.float32))


def mixture_of_fractions(fractions: np.ndarray, least: float = 1e-3) -> Mixture:
    """Mixture of volume fractions (n, P, P, 12); shares below `least` are dropped."""
    tissue = np.ascontiguousarray(fractions[..., 1:])
    flat = np.flatnonzero(tissue.reshape(-1) > least)
    voxel, label = np.divmod(flat, tissue.shape[-1])
    return Mixture(fractions.shape[:3], voxel, label + 1, tissue.reshape(-1)[flat])


def simulate(
    mixture: Mixture,
    protocol: np.ndarray,
    model: SignalModel,
    values: TissueValues,
    sigma: np.ndarray,
    rng: np.random.Generator,
    spread: float = 0.03,
    noise: str = "gaussian",
) -> Patches:
    """Simulate patches (paper, section 4.2 and Eq. 1).

    Parameters
    ----------
    mixture : Mixture
    protocol : array, shape (N, D), or (N,) if D = 1
    model : SignalModel
    values : TissueValues
    sigma : array, shape (n,)
        Noise standard deviations, in the unit of the tissues' A.
    rng : numpy.random.Generator
    spread : float
        Voxel-wise variation inside a tissue, as a share of the tissue's value; none on the
        shared parameter.
    noise : str
        ``gaussian`` or ``rician``.

    Returns
    -------
    Patches
        The A of a weak model is that of the tissue divided by `SignalModel.largest_signal`.

    The reference kappa of a mixed voxel is that of `noise_free`.

    Raises
    ------
    ValueError
        If `noise` or `spread` is out of range.
    """
    clean = noise_free(mixture, protocol, model, values, rng, spread)
    S = np.empty_like(clean.signed)
    for noisy, signed, patch_sigma in zip(S, clean.signed, sigma, strict=True):
        clean_signal = np.abs(signed) if model.magnitude else signed
        noisy[...] = add_noise(clean_signal, patch_sigma, rng, noise)
    return Patches(
        S, clean.kappa, sigma.astype(np.float32), clean.labels, clean.purity, values.known
    )


@dataclass(frozen=True)
class NoiseFree:
    """Simulated patches before modulus and noise.

    Attributes
    ----------
    signed : array, shape (n, rows, columns, N), float32
    kappa : array, shape (n, rows, columns, Q), float32
    labels : array, shape (n, rows, columns), uint8
    purity : array, shape (n, rows, columns), float32
    """

    signed: np.ndarray
    kappa: np.ndarray
    labels: np.ndarray
    purity: np.ndarray


def noise_free(
    mixture: Mixture,
    protocol: np.ndarray,
    model: SignalModel,
    values: TissueValues,
    rng: np.random.Generator,
    spread: float = 0.03,
) -> NoiseFree:
    """Simulate signed signals without noise; parameters as `simulate`.

    The reference kappa of a mixed voxel is the single-compartment kappa with the place's shared
    parameter and known maps (and the patch's TR) whose signed signal is nearest to the voxel's in
    the least-squares sense: an ideal fit of noise-free data that knows these returns it. Where
    the protocol does not determine it, it is the mean of its tissues, weighted by their A.
    """
    size = int(np.prod(mixture.shape))
    protocol = np.asarray(model.table(protocol), np.float32)
    signed = np.zeros((size, len(protocol)), np.float32)
    kappa = np.zeros((size, model.num_parameters), np.float32)
    labels, purity = np.zeros(size, np.uint8), np.zeros(size, np.float32)
    # The same variation for all tissues of a voxel: it stands for the place, not for the tissue.
    variation = draw_variation(rng, size, model, spread)
    largest = np.float32(model.largest_signal(protocol)) if model.weak else None
    edges = np.searchsorted(mixture.voxel, np.arange(0, size + _BLOCK, _BLOCK))
    for low, high in itertools.pairwise(edges):
        if low == high:
            continue
        voxel, label = mixture.voxel[low:high], mixture.label[low:high]
        fraction = mixture.fraction[low:high]
        patch, row, column = np.unravel_index(voxel, mixture.shape)
        tissue = voxel_kappa(values, model, patch, row, column, label, variation[voxel])
        if largest is not None:
            tissue[:, 0] /= largest
        tr = None if values.tr is None else values.tr[patch].astype(np.float32)
        known = None if values.known is None else values.known[patch, row, column]
        signal = model.signed(apparent(tissue, model, tr), protocol, np, known)
        if (fraction < 1).any():
            first = np.flatnonzero(np.diff(voxel, prepend=-1))
            signal = _sum_of_groups(signal * fraction[:, None], first)
            tr = None if tr is None else tr[first]
            known = None if known is None else known[first]
            tissue = reference_kappa(signal, tissue, fraction, first, protocol, model, tr, known)
            dominant = _largest_in_group(fraction, first)
            voxel, label, fraction = voxel[first], label[dominant], fraction[dominant]
        signed[voxel], kappa[voxel] = signal, apparent(tissue, model, tr)
        labels[voxel], purity[voxel] = label, fraction
    shape = mixture.shape
    return NoiseFree(
        signed.reshape(*shape, -1),
        kappa.reshape(*shape, -1),
        labels.reshape(shape),
        purity.reshape(shape),
    )


def reference_kappa(
    signal: np.ndarray,
    tissue_kappa: np.ndarray,
    fraction: np.ndarray,
    first: np.ndarray,
    protocol: np.ndarray,
    model: SignalModel,
    tr: np.ndarray | None = None,
    known: np.ndarray | None = None,
) -> np.ndarray:
    """Reference kappa of mixed voxels, for infinite TR; see `noise_free`.

    Parameters
    ----------
    signal : array, shape (V, N)
        Signed signals of the voxels.
    tissue_kappa, fraction : arrays, shapes (M, Q) and (M,)
        Of the (voxel, tissue) pairs; kappa for infinite TR.
    first : array, shape (V,), int
        Index of each voxel's first pair.
    protocol : array, shape (N, D), or (N,) if D = 1
    model : SignalModel
    tr : array, shape (V,), optional
        Repetition times of the signals, ms.
    known : array, shape (V, K), optional
        Known maps at the voxels.

    Returns
    -------
    kappa : array, shape (V, Q), float32
    """
    kappa = _mean_kappa(tissue_kappa, fraction, first, model)
    mixed = np.diff(first, append=len(fraction)) > 1
    if not mixed.any():
        return kappa
    T = tissue_kappa[:, -1]
    bracket = np.minimum.reduceat(T, first)[mixed], np.maximum.reduceat(T, first)[mixed]
    kappa[mixed] = nearest_single_compartment(
        signal[mixed],
        kappa[mixed],
        bracket,
        protocol,
        model,
        None if tr is None else tr[mixed],
        None if known is None else known[mixed],
    )
    return kappa


def _mean_kappa(
    kappa: np.ndarray, fraction: np.ndarray, first: np.ndarray, model: SignalModel
) -> np.ndarray:
    """A summed by volume, the others averaged with A as weight (the logarithm of T)."""
    weight = fraction * kappa[:, 0]
    total = np.add.reduceat(weight, first)
    mean = np.empty((len(first), model.num_parameters), np.float32)
    mean[:, 0] = total
    for q in range(1, model.num_parameters):
        log = q == model.num_parameters - 1
        value = np.log(kappa[:, q]) if log else kappa[:, q]
        value = np.add.reduceat(weight * value, first) / total
        mean[:, q] = np.exp(value) if log else value
    return mean


def _sum_of_groups(values: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Sum of the rows (M, N) of each group; groups begin at the indices `first`."""
    size = np.diff(first, append=len(values))
    total = values[first]
    for k in range(1, size.max()):
        larger = np.flatnonzero(size > k)
        total[larger] += values[first[larger] + k]
    return total


def _largest_in_group(value: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Index of the largest value of each group; groups begin at the indices `first`."""
    group = np.repeat(np.arange(len(first)), np.diff(first, append=len(value)))
    order = np.lexsort((-value, group))
    return order[first]
