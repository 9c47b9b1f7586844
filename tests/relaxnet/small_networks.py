"""Small networks and images that several tests share."""

import numpy as np

TAU = np.array([100.0, 400.0, 900.0, 2000.0], np.float32)


def randomised(network, seed=0):
    """Network whose weights are random everywhere, also in the zero-initialised last layer."""
    rng = np.random.default_rng(seed)
    for variable in network.trainable_variables:
        spread = 1 / np.sqrt(np.prod(variable.shape[:-1]) or 1)
        variable.assign(min(spread, 0.3) * rng.standard_normal(variable.shape))
    return network


def images(h=9, w=8, num=4, b=2, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(0.1, 1.0, (b, h, w, num)).astype(np.float32)


def sigma(b=2):
    return np.full(b, 0.05, np.float32)
