"""Dim voxels whose own data tell little of the main parameter, T, as beside bright tissue.

A network knows what tissue looks like, and fills in what a voxel's data do not say. Of dim voxels
(far from the coil, bone, tendon) it has seen few: its estimate is then that of other tissue, and
its interval does not know. Such voxels are not ok. Where a whole series has little signal beside
its noise, intervals hold, since networks are trained for that.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from relaxnet.fitting.crlb import fisher_information, inverse_std
from relaxnet.maps.maps import Maps
from relaxnet.maps.status import NOT_IDENTIFIABLE, OK
from relaxnet.prediction.inspection import Inspected

#: A voxel is dim if its estimated signal stays below this part of the series' scale.
DIM = 0.2
#: It tells too little if its own data leave T as uncertain as this part of T.
UNKNOWN = 0.15
#: Sigmas that noise may add to the largest image of a voxel.
LIFT = 4.0


def flag_unknown(maps: Maps, found: Inspected) -> Maps:
    """Flag dim voxels whose own data do not determine T, the shared parameter being known.

    The bound is that of Cramér and Rao at the estimate, without the shared parameter, which
    neighbours tell. Fits have it as their standard deviation, and are left as they are.

    Parameters
    ----------
    maps : Maps
        Of a network.
    found : Inspected

    Returns
    -------
    maps : Maps
    """
    model = maps.model
    sigma = np.broadcast_to(found.noise.sigma, maps.status.shape)
    faint = DIM * maps.scale
    # Noise lifts the largest image of a voxel without signal by some sigma.
    candidates = (maps.status == OK) & (found.images.largest < faint + LIFT * sigma)
    kept = [q for q in range(model.num_parameters) if q != model.shared_index]
    likelihood = "rician" if found.noise.rician else "gaussian"
    unknown = np.zeros(maps.status.shape, bool)
    for z in map(int, np.flatnonzero(candidates.any(axis=(0, 1)))):
        here = candidates[:, :, z]
        voxels, kappa = found.of_slice(z, here), maps.kappa[:, :, z][here]
        with np.errstate(all="ignore"):  # of single voxels of a wrong sigma
            information = fisher_information(
                kappa, voxels.protocol, sigma[:, :, z][here], model, likelihood, voxels.known
            )
            std = inverse_std(information[:, kept][:, :, kept])[:, -1]
        signal = np.abs(voxels.signed(kappa)).max(axis=-1)
        unknown[:, :, z][here] = (signal < faint) & (std > UNKNOWN * kappa[:, -1])
    status = np.where(unknown, NOT_IDENTIFIABLE, maps.status)
    return replace(maps, status=status.astype(np.uint8))
