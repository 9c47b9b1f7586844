"""Noise: its standard deviation and its two distributions."""

from __future__ import annotations

import numpy as np

#: Noise standard deviations (paper, section 4.2): SNR from about 115 down to 3.
SIGMA_RANGE = (0.0065, 0.255)
NOISE_MODELS = ("gaussian", "rician")
#: Pairs of numbers that are drawn at a time: small enough for a core's cache.
_PAIRS = 16384


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
        Noise-free signal. For ``rician`` noise a magnitude image shows its modulus.
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
        raise ValueError(f"`noise` is {noise!r}, expected one of {', '.join(NOISE_MODELS)}")
    sigma = np.asarray(sigma, np.float32)
    noisy = standard_normal(rng, S.shape)
    noisy *= sigma
    noisy += S
    if noise == "rician":
        imaginary = standard_normal(rng, S.shape)
        imaginary *= sigma
        np.square(noisy, out=noisy)
        noisy += np.square(imaginary, out=imaginary)
        np.sqrt(noisy, out=noisy)
    return noisy


def standard_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal numbers, float32, by the method of Box and Muller (1958).

    It costs a third of the generator's normal numbers, since its logarithm and sines run on whole
    cached blocks. Uniform numbers have 24 bits, so none lies beyond 5.77 standard deviations
    (a Gaussian has 1 in 10^8 there).
    """
    out = np.empty(shape, np.float32)
    flat = out.reshape(-1)
    uniform = np.empty(2 * _PAIRS, np.float32)
    cosine = np.empty(_PAIRS, np.float32)
    for start in range(0, flat.size, 2 * _PAIRS):
        block = flat[start : start + 2 * _PAIRS]
        half = (block.size + 1) // 2
        radius, angle = np.split(rng.random(out=uniform[: 2 * half], dtype=np.float32), 2)
        cos = cosine[:half]
        np.log(np.subtract(1.0, radius, out=radius), out=radius)  # of (0, 1]
        radius *= -2.0
        np.sqrt(radius, out=radius)
        angle *= 2 * np.pi
        np.cos(angle, out=cos)
        np.sin(angle, out=angle)
        rest = block.size - half
        np.multiply(radius, cos, out=block[:half])
        np.multiply(radius[:rest], angle[:rest], out=block[half:])
    return out
