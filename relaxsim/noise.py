"""Noise: its standard deviation and its two distributions."""

from __future__ import annotations

import numpy as np

#: Paper, section 4.2: SNR = 0.75 / sigma from about 115 down to 3.
SIGMA_RANGE = (0.0065, 0.255)
NOISE_MODELS = ("gaussian", "rician")


def draw_sigma(
    rng: np.random.Generator, num: int, sigma_range: tuple[float, float] = SIGMA_RANGE
) -> np.ndarray:
    """Log-uniform noise standard deviations, one a patch.

    Parameters
    ----------
    rng : numpy.random.Generator
    num : int
        Number of patches.
    sigma_range : (float, float)
        Bounds, in units of CSF's A.

    Returns
    -------
    sigma : array, shape (num,), float32
    """
    low, high = np.log(sigma_range)
    return np.exp(rng.uniform(low, high, num)).astype(np.float32)


def add_noise(
    S: np.ndarray, sigma: np.ndarray | float, rng: np.random.Generator, noise: str = "gaussian"
) -> np.ndarray:
    """Add noise to a signal.

    Parameters
    ----------
    S : array, shape (..., N)
        Noise-free signal. For ``rician`` noise its modulus is what a magnitude image shows.
    sigma : array broadcasting with `S`, or float
        Noise standard deviation (of each of the two channels if Rician), in the unit of `S`.
    rng : numpy.random.Generator
    noise : str
        ``gaussian`` (paper, section 4.2; may dip below zero) or ``rician``: the modulus of the
        signal with independent Gaussian noise in its real and imaginary channels (Gudbjartsson
        and Patz 1995).

    Returns
    -------
    noisy : array, shape (..., N), float32

    Raises
    ------
    ValueError
        If `noise` is neither.
    """
    if noise not in NOISE_MODELS:
        raise ValueError(f"noise is {noise!r}, expected one of {', '.join(NOISE_MODELS)}")
    real = standard_normal(rng, S.shape)
    real *= sigma
    real += S
    if noise == "gaussian":
        return real
    imaginary = standard_normal(rng, S.shape)
    imaginary *= sigma
    return np.hypot(real, imaginary)


def standard_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal numbers, float32."""
    return rng.standard_normal(shape, dtype=np.float32)
