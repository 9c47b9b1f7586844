"""Small structures in a phantom, to see how well an estimator keeps them (paper, 5.1.2)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from relaxsim.phantoms.phantoms import Phantom
from relaxsim.simulation.tissue_maps import finite_tr

GREY, WHITE = 2, 3
LINE = 7  # voxels


@dataclass(frozen=True)
class Structure:
    """One small structure.

    Attributes
    ----------
    name : str
    tissue : int
        Label of the tissue that it lies in.
    shape : (int, int)
        Width (X) and height (Y) in voxels.
    T : dict of str to float
        Its relaxation times, ms.
    """

    name: str
    tissue: int
    shape: tuple[int, int]
    T: dict[str, float]


#: The paper's four. It gives T1; T2 has the same ratio to the tissue's mean in Table 1.
STRUCTURES = (
    Structure("hypo-intense point", GREY, (1, 1), {"T1": 400.0, "T2": 31.0}),
    Structure("hyper-intense point", WHITE, (1, 1), {"T1": 1200.0, "T2": 123.0}),
    Structure("hyper-intense vertical line", WHITE, (1, LINE), {"T1": 1200.0, "T2": 123.0}),
    Structure("hyper-intense horizontal line", WHITE, (LINE, 1), {"T1": 1200.0, "T2": 123.0}),
)


def with_structures(phantom: Phantom) -> Phantom:
    """Scenario E2: a brain phantom with the paper's four small structures in its middle slice.

    Each lies where its tissue is widest, clear of the others. Its relaxation time is replaced, the
    magnetisation and the inversion stay those of the place. The phantom itself is scenario E1.

    Returns
    -------
    phantom : Phantom
        With the regions ``structure`` and ``neighborhood`` (the voxels that touch a structure) of
        all four, and ``structure-1`` to ``structure-4``, ``neighborhood-1`` to ``neighborhood-4``.

    Raises
    ------
    ValueError
        If the slice has no room for them or the structures no value for the model's parameter.
    """
    name = phantom.model.parameters[-1]
    z = phantom.labels.shape[2] // 2
    pure = phantom.purity[:, :, z] > 0.999
    taken = np.zeros(pure.shape, bool)
    kappa, signal, regions = phantom.kappa.copy(), phantom.signal.copy(), dict(phantom.regions)
    for number, structure in enumerate(STRUCTURES, start=1):
        if name not in structure.T:
            raise ValueError(f"the small structures have no value for {name}.")
        room = (phantom.labels[:, :, z] == structure.tissue) & pure & ~taken
        inside = _place(room, structure)
        around = ndimage.binary_dilation(inside, np.ones((3, 3))) & ~inside
        taken |= ndimage.binary_dilation(inside, np.ones((9, 9)))
        kappa[inside, z] = _replaced(kappa[inside, z], structure.T[name], phantom)
        signal[inside, z] = phantom.model.forward(kappa[inside, z], phantom.tau.astype(np.float32))
        for region, plane in (("structure", inside), ("neighborhood", around)):
            volume = np.zeros(phantom.labels.shape, bool)
            volume[:, :, z] = plane
            regions[f"{region}-{number}"] = volume
            regions[region] = regions.get(region, np.zeros_like(volume)) | volume
    return replace(phantom, kappa=kappa, signal=signal, regions=regions)


def _place(room: np.ndarray, structure: Structure) -> np.ndarray:
    """The structure's voxels, where it fits with the widest margin."""
    shape = np.ones(structure.shape, bool)
    margin = ndimage.distance_transform_edt(np.pad(room, 1))[1:-1, 1:-1]
    # The least margin along the structure; its neighbours must be of the tissue, too.
    least = ndimage.grey_erosion(margin, footprint=shape, mode="constant", cval=0.0)
    centre = np.unravel_index(int(least.argmax()), least.shape)
    if least[centre] <= 1:
        raise ValueError(f"the slice has no room for the {structure.name}; choose another --slice.")
    point = np.zeros(room.shape, bool)
    point[centre] = True
    return ndimage.binary_dilation(point, shape)


def _replaced(kappa: np.ndarray, T: float, phantom: Phantom) -> np.ndarray:
    """Kappa (M, Q) with another relaxation time, at the same magnetisation and inversion."""
    replaced = kappa.copy()
    replaced[:, -1] = T
    if phantom.tr is not None and "B" in phantom.model.parameters:
        A, B, T1 = kappa.T
        E = np.exp(-phantom.tr / T1)
        efficiency = (B - 1) / (1 - B * E)
        M0 = A / (1 + efficiency * E)
        replaced[:, 0], replaced[:, 1] = finite_tr(M0, efficiency, T, phantom.tr)
    return replaced
