"""Simulation: labels, tissue values and times become kappa, S and sigma. Pure functions.

A voxel is a list of (tissue, volume fraction) pairs. Crisp labels make one pair a voxel; coarser
voxels make several where tissues meet, and their signal is the sum of the tissues' *signed*
signals by volume, of which the modulus is taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from relaxsim.maps import TissueValues, draw_variation, voxel_kappa
from relaxsim.noise import add_noise
from relaxsim.signals import SignalModel


@dataclass(frozen=True)
class Mixture:
    """(Voxel, tissue) pairs of a batch of patches, sorted by voxel, background left out.

    Attributes
    ----------
    shape : (n, P, P)
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
        Label with the largest volume fraction.
    purity : array, shape (n, P, P), float32
        That label's volume fraction.
    """

    S: np.ndarray
    kappa: np.ndarray
    sigma: np.ndarray
    labels: np.ndarray
    purity: np.ndarray


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
    tau: np.ndarray,
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
    tau : array, shape (N,)
        Times in ms.
    model : SignalModel
    values : TissueValues
    sigma : array, shape (n,)
        Noise standard deviations, in the unit of A.
    rng : numpy.random.Generator
    spread : float
        Voxel-wise variation inside a tissue, as a share of the tissue's value; none on B.
    noise : str
        ``gaussian`` or ``rician``.

    Returns
    -------
    Patches
        The reference kappa of a mixed voxel is the single-compartment kappa whose signed signal
        is nearest to the voxel's in the least-squares sense: what an ideal voxel-wise fit of
        noise-free data returns.
    """
    kappa, signed, labels, purity = noise_free(mixture, tau, model, values, rng, spread)
    S = np.abs(signed, out=signed) if model.magnitude else signed
    S = add_noise(S, sigma[:, None, None, None], rng, noise)
    return Patches(S, kappa, sigma.astype(np.float32), labels, purity)


def noise_free(
    mixture: Mixture,
    tau: np.ndarray,
    model: SignalModel,
    values: TissueValues,
    rng: np.random.Generator,
    spread: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Reference kappa (n, P, P, Q), signed signal (n, P, P, N), labels and purity (n, P, P)."""
    n, P, _ = mixture.shape
    tau = np.asarray(tau, np.float32)
    patch, row, column = np.unravel_index(mixture.voxel, mixture.shape)
    # The same variation for all tissues of a voxel: it stands for the place, not for the tissue.
    factor = draw_variation(rng, n * P * P, model, spread)[mixture.voxel]
    pair_kappa = voxel_kappa(values, model, patch, row, column, mixture.label, factor)
    pair_signal = model.signed(pair_kappa, tau, np)

    first = np.flatnonzero(np.diff(mixture.voxel, prepend=-1))
    voxel = mixture.voxel[first]
    labels = np.zeros(n * P * P, np.uint8)
    purity = np.zeros(n * P * P, np.float32)
    kappa = np.zeros((n * P * P, model.num_parameters), np.float32)
    signed = np.zeros((n * P * P, len(tau)), np.float32)
    if len(voxel) == 0:
        pass
    elif len(first) == len(mixture.voxel) and (mixture.fraction == 1).all():
        labels[voxel], purity[voxel] = mixture.label, 1.0
        kappa[voxel], signed[voxel] = pair_kappa, pair_signal
    else:
        pair_signal *= mixture.fraction[:, None]
        signal = np.add.reduceat(pair_signal, first, axis=0)
        dominant = _largest_in_group(mixture.fraction, first)
        labels[voxel] = mixture.label[dominant]
        purity[voxel] = mixture.fraction[dominant]
        reference = pair_kappa[dominant]
        mixed = mixture.fraction[dominant] < 0.999
        start = _mean_kappa(pair_kappa, mixture.fraction, first, model)[mixed]
        reference[mixed] = nearest_single_compartment(signal[mixed], start, tau, model)
        kappa[voxel], signed[voxel] = reference, signal
    return (
        kappa.reshape(n, P, P, -1),
        signed.reshape(n, P, P, -1),
        labels.reshape(n, P, P),
        purity.reshape(n, P, P),
    )


def nearest_single_compartment(
    signed: np.ndarray, start: np.ndarray, tau: np.ndarray, model: SignalModel, steps: int = 12
) -> np.ndarray:
    """Single-compartment kappa nearest to signed signals, by damped Gauss-Newton steps.

    Parameters
    ----------
    signed : array, shape (M, N)
    start : array, shape (M, Q)
    tau : array, shape (N,)
    model : SignalModel
    steps : int

    Returns
    -------
    kappa : array, shape (M, Q), float32
        Steps that do not lower the cost are refused, so it is never worse than `start`.
    """
    scale = np.abs(start) + 1e-6
    u = np.ones_like(start, dtype=np.float64)
    damping = np.full(len(start), 1e-3)
    eye = np.eye(model.num_parameters)

    def residual(u: np.ndarray) -> np.ndarray:
        return signed - model.signed(u * scale, tau, np)

    r = residual(u)
    cost = (r**2).sum(-1)
    for _ in range(steps):
        J = model.signed_jacobian(u * scale, tau, np) * scale[:, None, :]
        H = J.swapaxes(1, 2) @ J
        ridge = damping[:, None, None] * np.trace(H, axis1=1, axis2=2)[:, None, None] + 1e-12
        step = np.linalg.solve(H + ridge * eye, J.swapaxes(1, 2) @ r[..., None])[..., 0]
        trial = np.clip(u + step, 0.05, 20.0)
        trial_r = residual(trial)
        trial_cost = (trial_r**2).sum(-1)
        better = trial_cost < cost
        u[better], r[better], cost[better] = trial[better], trial_r[better], trial_cost[better]
        damping = np.where(better, damping * 0.2, damping * 8.0)
    return (u * scale).astype(np.float32)


def _mean_kappa(
    kappa: np.ndarray, fraction: np.ndarray, first: np.ndarray, model: SignalModel
) -> np.ndarray:
    """Start of the reference: A summed by volume, the others averaged by proton number (log T)."""
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


def _largest_in_group(value: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Index of the largest value of each group; groups begin at the indices `first`."""
    largest = np.maximum.reduceat(value, first)
    group = np.zeros(len(value), np.int64)
    group[first] = 1
    group = np.cumsum(group) - 1
    hits = np.flatnonzero(value == largest[group])
    _, unique = np.unique(group[hits], return_index=True)
    return hits[unique]
