"""Random lists of times, for networks that shall serve any protocol."""

from __future__ import annotations

import numpy as np


def random_times(
    rng: np.random.Generator,
    images: tuple[int, int],
    first: tuple[float, float],
    last: tuple[float, float],
) -> np.ndarray:
    """Draw a rising list of times.

    Number, first and last time are log-uniform; the spacing between them is linear, geometric
    or linear with jitter (each time moved by up to 0.4 of the step), with equal chances.

    Parameters
    ----------
    rng : numpy.random.Generator
    images : (int, int)
        Fewest and most times.
    first, last : (float, float)
        Ranges of the first and the last time, ms.

    Returns
    -------
    tau : array, shape (N,), float64
        ms, rounded to 0.1.
    """
    fewest, most = images
    N = int(np.floor(np.exp(rng.uniform(np.log(fewest), np.log(most + 1)))))
    start = np.exp(rng.uniform(*np.log(first)))
    end = np.exp(rng.uniform(*np.log(last)))
    spacing = rng.choice(["linear", "geometric", "jittered"])
    tau = np.geomspace(start, end, N) if spacing == "geometric" else np.linspace(start, end, N)
    if spacing == "jittered":
        tau[1:-1] += rng.uniform(-0.4, 0.4, N - 2) * (tau[1] - tau[0])
    return np.sort(np.round(tau, 1))
