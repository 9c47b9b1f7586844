"""Signal of a multi-echo spin-echo train with imperfect refocusing, by extended phase graphs."""

import numpy as np


def cpmg(flip, T1, T2, spacing, num):
    """Echo amplitudes (num,) for refocusing pulses of `flip` degrees after a 90 degree pulse."""
    a = np.deg2rad(flip)
    c, s = np.cos(a / 2) ** 2, np.sin(a / 2) ** 2
    rotation = np.array(
        [
            [c, s, np.sin(a)],
            [s, c, -np.sin(a)],
            [-np.sin(a) / 2, np.sin(a) / 2, np.cos(a)],
        ]
    )
    orders = 2 * num + 2
    F, G, Z = (np.zeros(orders) for _ in range(3))  # F_k, F_-k and Z_k
    F[0] = G[0] = 1.0
    E1, E2 = np.exp(-spacing / 2 / T1), np.exp(-spacing / 2 / T2)
    echoes = []
    for _ in range(num):
        F, G, Z = _half(F, G, Z, E1, E2)
        F, G, Z = rotation @ np.stack([F, G, Z])
        F, G, Z = _half(F, G, Z, E1, E2)
        echoes.append(abs(F[0]))
    return np.array(echoes)


def _half(F, G, Z, E1, E2):
    """Half an echo spacing: relaxation, and a dephasing by one order."""
    F, G, Z = F * E2, G * E2, Z * E1
    F = np.concatenate([[G[1]], F[:-1]])
    G = np.concatenate([G[1:], [0.0]])
    G[0] = F[0]
    return F, G, Z


def train(flip, sigma, num=12, T2=(50.0, 120.0), seed=0, spacing=10.0, num_voxels=1500):
    """Voxels of several T2 with the given refocusing flip and Gaussian noise, (voxels, num)."""
    rng = np.random.default_rng(seed)
    signals = np.stack([cpmg(flip, 1000.0, t, spacing, num) for t in np.linspace(*T2, 8)])
    S = 1000.0 * signals[rng.integers(0, 8, num_voxels)]
    return np.abs(S + sigma * rng.standard_normal(S.shape))
