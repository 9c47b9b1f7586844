"""Where the recurrent inference machine starts: the paper's fixed values, or a dictionary's.

A dictionary holds the signals of a grid of relaxation times (and of B). Its posterior mean, voxel
by voxel, lies in the likelihood's main valley. That matters where a sample near the zero crossing
gives the likelihood two valleys, since the modulus hides on which side the sample is: a gradient
does not lead from one to the other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from relaxnet.coordinates import from_kappa
from relaxsim.signals import SignalModel

STARTS = ("fixed", "dictionary")
#: Grid points of the relaxation time, log-spaced, and of any parameter between it and A.
NUM_T, NUM_OTHER = 48, 5
#: Ranges of the grid, T in ms; of other parameters the model's bounds.
RANGES = {"T1": (40.0, 6000.0), "T2": (4.0, 4000.0), "B": (1.0, 2.0)}


def fixed_start(S: Any, model: SignalModel, coordinates: str) -> tf.Tensor:
    """The paper's start values (section 4.4.4), u of shape (b, h, w, Q)."""
    return from_kappa(model.start_from(tf.reduce_max(S, axis=-1), tf), model, coordinates)


def dictionary_start(
    S: Any, tau: Any, sigma: Any, model: SignalModel, coordinates: str
) -> tf.Tensor:
    """Posterior mean of each voxel over `grid`, under a prior that is flat on it.

    A is the best one at each grid point, in closed form, so that the whole grid costs one matrix
    product.

    Parameters
    ----------
    S : tensor, shape (b, h, w, N)
    tau : tensor, shape (N,)
        ms.
    sigma : tensor, shape (b,)
        In the unit of S.
    model : SignalModel
        Of a signal proportional to its first parameter.
    coordinates : str

    Returns
    -------
    u : tensor, shape (b, h, w, Q)
    """
    kappa = tf.constant(grid(model))
    atoms = model.forward(kappa, tau, tf)  # (G, N)
    power = tf.reduce_sum(atoms**2, axis=-1) + 1e-9
    product = tf.maximum(tf.linalg.matmul(S, atoms, transpose_b=True), 0.0)  # (b, h, w, G)
    explained = product**2 / (power * (sigma**2)[:, None, None, None])
    weight = tf.nn.softmax(0.5 * explained, axis=-1)
    mean = tf.linalg.matmul(weight, from_kappa(kappa, model, coordinates))
    A = tf.reduce_sum(weight * product / power, axis=-1)
    rest = tf.unstack(tf.ones_like(mean), axis=-1)[1:]
    of_A = from_kappa(tf.stack([A, *rest], axis=-1), model, coordinates)
    return tf.concat([of_A[..., :1], mean[..., 1:]], axis=-1)


def grid(model: SignalModel) -> np.ndarray:
    """Kappa of the grid points, A = 1, shape (G, Q)."""
    named = list(zip(model.parameters, model.bounds, strict=True))
    ranges = [RANGES.get(name, bounds) for name, bounds in named]
    axes = [np.ones(1), *(np.linspace(*r, NUM_OTHER) for r in ranges[1:-1])]
    axes.append(np.geomspace(*ranges[-1], NUM_T))
    return np.stack([a.ravel() for a in np.meshgrid(*axes, indexing="ij")], -1).astype(np.float32)
