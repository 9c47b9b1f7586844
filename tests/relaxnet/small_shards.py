"""Small shards that the tests of relaxnet share."""

import numpy as np

from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY
from relaxsim.shards.layout import shard_path, write_shard
from relaxsim.simulation.noise import draw_sigma
from relaxsim.simulation.simulate import mixture_of_labels, simulate
from relaxsim.simulation.tissue_maps import draw_tissue_values
from relaxsim.simulation.tissues import read_tissues

TAU = np.array([50.0, 200.0, 500.0, 900.0, 1500.0, 3000.0])


def block_labels(rng, num, size):
    """Patches of a few square tissues with background between them."""
    labels = np.zeros((num, size, size), np.uint8)
    half = size // 2
    for patch in labels:
        patch[: half - 1, : half - 1] = rng.integers(1, 4)
        patch[half:, : half - 1] = rng.integers(1, 4)
        patch[:, half:] = rng.integers(1, 4)
    return labels


def make_shards(folder, num_shards=2, num=8, size=12, model=INVERSION_RECOVERY, tau=TAU, seed=0):
    """Write small shards of `model`; every one has another number of images.

    `tau` is its protocol: times (N,), or a table (N, D) of several columns.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(num_shards):
        rng = np.random.default_rng(index + 1000 * seed)
        protocol = tau[: len(tau) - index % 2]
        values = draw_tissue_values(model, read_tissues("paper"), num, size, rng)
        mixture = mixture_of_labels(block_labels(rng, num, size))
        patches = simulate(mixture, protocol, model, values, draw_sigma(rng, num), rng)
        arrays = vars(patches) | {"origin": np.zeros((num, 4), np.int32)}
        settings = {"seed": seed, "tissues": ["paper", ""], "sigma_range": [0.0065, 0.255]}
        write_shard(shard_path(folder, index), arrays, model, protocol, "test", index, settings)
    return folder
