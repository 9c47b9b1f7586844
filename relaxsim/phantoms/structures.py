"""Small structures in a phantom, to see how well an estimator keeps them (paper, 5.1.2)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import ndimage

from relaxsim.phantoms.phantoms import Phantom
from relaxsim.phantoms.tables import Structure, read_structures

#: Share of a voxel that its tissue fills where a structure may lie.
_PURE = 0.999
#: Half the width of the square around a structure that others keep clear of, voxels.
_CLEARANCE = 4
#: The paper's four.
STRUCTURES = read_structures()


def with_structures(phantom: Phantom) -> Phantom:
    """Scenario E2: a brain phantom with the paper's four small structures in its middle slice.

    Each lies where its tissue is widest, clear of the others. Its relaxation time is replaced, the
    amplitude and the shared parameter stay those of the place. The phantom itself is scenario E1.

    Returns
    -------
    phantom : Phantom
        With the regions ``structure`` and ``neighborhood`` (the voxels that touch a structure) of
        all four, and ``structure-1`` to ``structure-4``, ``neighborhood-1`` to ``neighborhood-4``.

    Raises
    ------
    ValueError
        If the slice has no room for them, or there is no value of the model's main parameter.
    """
    model, z = phantom.model, phantom.labels.shape[2] // 2
    main = model.parameter_table[-1]
    pure = phantom.purity[:, :, z] > _PURE
    taken = np.zeros(pure.shape, bool)
    kappa, signal, regions = phantom.kappa.copy(), phantom.signal.copy(), dict(phantom.regions)
    protocol = phantom.protocol.astype(np.float32)
    for number, structure in enumerate(STRUCTURES, start=1):
        value = structure.value_of(main.name, main.drawn)
        room = (phantom.labels[:, :, z] == structure.tissue) & pure & ~taken
        inside = _place(room, structure)
        around = ndimage.binary_dilation(inside, np.ones((3, 3))) & ~inside
        taken |= ndimage.binary_dilation(inside, np.ones((2 * _CLEARANCE + 1,) * 2))
        kappa[inside, z] = _replaced(kappa[inside, z], value, phantom)
        known = None if phantom.known is None else phantom.known[inside, z]
        signal[inside, z] = model.forward(kappa[inside, z], protocol, np, known)
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
        raise ValueError(f"the slice has no room for the {structure.name}; choose another `slice`.")
    point = np.zeros(room.shape, bool)
    point[centre] = True
    return ndimage.binary_dilation(point, shape)


def _replaced(kappa: np.ndarray, value: float, phantom: Phantom) -> np.ndarray:
    """Kappa (M, Q) with another main parameter; the others, which a short TR changes, stay."""
    finite_tr = phantom.model.finite_tr
    replaced = kappa.astype(np.float64)
    if phantom.tr is None or finite_tr is None:
        replaced[:, -1] = value
        return replaced
    replaced = finite_tr.from_apparent(replaced, phantom.tr)
    replaced[:, -1] = value
    return finite_tr.apparent(replaced, phantom.tr)
