"""Phantoms: evaluation series with their truth.

A `Phantom` is noise-free; `noisy_series` draws as many repeats from it as an experiment needs.
Arrays lie as in NIfTI files, (X, Y, Z): X to the right, Y to the front, Z upwards.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from scipy import ndimage

from relaxsim.anatomy.anatomy import Anatomy, brain_mask
from relaxsim.anatomy.patches import coarse_fractions, crop, fine_size, slab_fractions
from relaxsim.core.labels import BRAIN, CSF, WHITE
from relaxsim.models.signal_model import SignalModel
from relaxsim.phantoms.tables import read_plate
from relaxsim.simulation.noise import add_noise
from relaxsim.simulation.simulate import mixture_of_fractions, noise_free
from relaxsim.simulation.tissue_maps import (
    TissueValues,
    draw_known_maps,
    draw_shared,
    draw_tissue_values,
)
from relaxsim.simulation.tissues import TissueTable

#: Rings of the NIST/ISMRM phantom's relaxation plates: radius in mm, angle of the first sphere
#: from the front in degrees, number of spheres. They count clockwise.
RINGS = ((50.0, 0.0, 10), (28.3, -45.0, 4))
SPHERE_RADIUS, WALL, BODY_RADIUS = 7.5, 1.0, 100.0  # mm
#: From the plate's centre to the outer walls of the outer spheres, mm.
OUTERMOST = RINGS[0][0] + SPHERE_RADIUS + WALL
#: Label of the water around the spheres.
WATER = 15
#: Width of a plate's voxel in the finer ones that its shapes are drawn in, and the share of a voxel
#: that a sphere fills where there is no partial volume.
_FINER, _PURE = 5, 0.999
#: The middle slice of a brain is among those with this share of the largest area of white matter,
#: and its CSF is counted inside an ellipse of this share of the brain's width.
_MOST_WHITE, _DEEP = 0.85, 0.4


@dataclass(frozen=True)
class Phantom:
    """A noise-free series and its truth.

    Attributes
    ----------
    signal : array, shape (X, Y, Z, N), float32
        As measured without noise (the modulus for magnitude models).
    kappa : array, shape (X, Y, Z, Q), float32
        Reference parameters, T in ms; 0 in the background.
    labels : array, shape (X, Y, Z), uint8
        Tissue, or sphere number, with the largest share of the voxel; named by `label_names`.
    purity : array, shape (X, Y, Z), float32
        That share.
    mask : bool array, shape (X, Y, Z)
        Brain, or spheres.
    protocol : array, shape (N, D), float64
        A row an image, in the units of the model's columns.
    model : SignalModel
    voxel_size : (float, float, float)
        mm.
    label_names : dict of int to str
    tr : float or None
        Repetition time in ms; None is infinite.
    regions : dict of str to bool array, shape (X, Y, Z)
        Further masks.
    known : array, shape (X, Y, Z, K), float32, or None
        Known maps of the signal model.
    """

    signal: np.ndarray
    kappa: np.ndarray
    labels: np.ndarray
    purity: np.ndarray
    mask: np.ndarray
    protocol: np.ndarray
    model: SignalModel
    voxel_size: tuple[float, float, float]
    label_names: dict[int, str]
    tr: float | None = None
    regions: dict[str, np.ndarray] = field(default_factory=dict)
    known: np.ndarray | None = None

    @property
    def tau(self) -> np.ndarray:
        """The protocol's first column, shape (N,): the times of a model that has times alone."""
        return self.protocol[:, 0]


def noisy_series(
    phantom: Phantom, sigma: float, rng: np.random.Generator, noise: str = "gaussian"
) -> np.ndarray:
    """One repeat: the phantom's series with noise, shape (X, Y, Z, N), float32."""
    return add_noise(phantom.signal, sigma, rng, noise)


def brain_phantom(
    anatomy: Anatomy,
    protocol: np.ndarray,
    model: SignalModel,
    table: TissueTable,
    rng: np.random.Generator,
    voxel_size: float = 0.85,
    matrix: int = 256,
    middle: int | None = None,
    num_slices: int = 1,
    thickness: float | None = None,
    crisp: bool = False,
    b_field: str = "patch",
    tr: float | None = None,
    spread: float = 0.03,
) -> Phantom:
    """A slice or slab of a head (paper, section 5.1.1).

    Parameters
    ----------
    anatomy : Anatomy
    protocol : array, shape (N, D), or (N,) if D = 1
        A row an image, in the units of the model's columns.
    model : SignalModel
    table : TissueTable
        The tissues' parameters are drawn once for the whole phantom.
    rng : numpy.random.Generator
    voxel_size : float
        In the plane, mm; voxels coarser than the anatomy's are partial volumes.
    matrix : int
        Rows and columns, around the head's centre; voxels outside the anatomy are background.
    middle : int, optional
        Slice of the anatomy in the middle of the slab, within half an anatomy voxel; default:
        `middle_slice`.
    num_slices : int
    thickness : float, optional
        Of a slice, mm; default: `voxel_size`. Slices touch: each begins where the last one ends,
        inside a voxel of the anatomy if need be.
    crisp : bool
        Every voxel takes the label with the largest share instead of a mixture.
    b_field : str
        Of the parameter that neighbours share: ``patch`` (one value, paper), ``wide``, ``smooth``
        or ``slow``.
    tr : float, optional
        Repetition time in ms, of models that depend on it; default infinite.
    spread : float
        Voxel-wise variation inside a tissue.

    Returns
    -------
    Phantom

    Raises
    ------
    ValueError
        If the slab leaves the anatomy or holds no brain.
    """
    labels = anatomy.labels
    middle = middle_slice(labels) if middle is None else middle
    thickness = thickness or voxel_size
    factor, deep = voxel_size / anatomy.voxel_size, thickness / anatomy.voxel_size
    half = deep * (num_slices - 1) / 2
    first, last = middle - half, middle + half
    # Slices are numbered at their centres: the volume ends half a slice beyond the last one.
    if not (first >= -0.5 and last <= len(labels) - 0.5):
        raise ValueError(
            f"slices {first:g} to {last:g} leave {anatomy.name}, which has {len(labels)}."
        )
    if not labels[middle].any():
        raise ValueError(f"slice {middle} of {anatomy.name} is empty.")
    row, column = (round(c) for c in ndimage.center_of_mass(labels[middle] > 0))
    wide = fine_size(matrix, factor)
    size = fine_size(num_slices, deep), wide, wide

    def coarse(volume: np.ndarray) -> np.ndarray:
        """Shares of the volume's labels, shape (num_slices, matrix, matrix, 12)."""
        # One block for all slices: to place each on the fine grid alone would tear the slab.
        block = crop(volume, (middle, row, column), size)
        return slab_fractions(block, num_slices, (matrix, matrix), factor, deep)

    fractions = coarse(labels)
    if crisp:
        fractions = np.eye(fractions.shape[-1], dtype=np.float32)[fractions.argmax(-1)]
    values = draw_tissue_values(model, table, 1, matrix, rng, b_field)
    values = replace(values, tr=_repetition_times(tr, model))
    mask = coarse(brain_mask(labels).view(np.uint8))[..., 1] >= 0.5
    if not mask.any():
        raise ValueError(f"slice {middle} of {anatomy.name} holds no brain; choose another.")
    names = {n: tissue.name for tissue in table.tissues for n in tissue.labels}
    voxel = (voxel_size, voxel_size, thickness)
    return _phantom(fractions, values, mask, protocol, model, voxel, names, rng, spread)


def middle_slice(labels: np.ndarray) -> int:
    """Axial slice through the lateral ventricles and the body of the corpus callosum.

    Among the slices with at least 0.85 of the white matter that the fullest one has, it is the one
    with the most CSF deep in the brain: inside an ellipse around the middle of its brain's bounding
    box, 0.4 times as wide.
    """
    white = (labels == WHITE).sum(axis=(1, 2))
    best, most = int(white.argmax()), -1
    for z in np.flatnonzero(white >= _MOST_WHITE * white.max()):
        brain = np.isin(labels[z], BRAIN)
        if not brain.any():
            continue
        axes = []
        for axis in (1, 0):
            occupied = np.flatnonzero(brain.any(axis=axis))
            centre, half = (occupied[0] + occupied[-1]) / 2, (np.ptp(occupied) + 1) / 2
            axes.append((np.arange(brain.shape[1 - axis]) - centre) / half)
        deep = axes[0][:, None] ** 2 + axes[1][None, :] ** 2 < _DEEP**2
        count = int((labels[z][deep] == CSF).sum())
        if count > most:
            best, most = int(z), count
    return best


def plate_phantom(
    array: str,
    protocol: np.ndarray,
    model: SignalModel,
    rng: np.random.Generator,
    voxel_size: float = 1.0,
    matrix: int = 210,
    b_field: str = "patch",
    tr: float | None = None,
    spread: float = 0.0,
) -> Phantom:
    """A relaxation plate of the NIST/ISMRM system phantom (paper, section 4.3.1).

    14 spheres, 15 mm wide inside, with walls of 1 mm that give no signal, in a body of water
    200 mm wide; A is 1 throughout. The slice cuts the spheres through their centres.

    Parameters
    ----------
    array : str
        Name of an array (`relaxsim.phantoms.tables.plate_arrays`): the parameter that it varies.
    protocol, model, rng, voxel_size, matrix, b_field, tr, spread
        As `brain_phantom`.

    Returns
    -------
    Phantom
        `labels` number the spheres 1 to 14, water is 15; `mask` is the spheres' interior, the
        region ``pure`` its voxels without partial volume.

    Raises
    ------
    ValueError
        If there is no such array, the model has a parameter that it has no values of, or spheres
        lie outside the field of view.
    """
    plate = read_plate(array)
    if matrix * voxel_size < 2 * OUTERMOST:
        raise ValueError(
            f"{matrix} voxels of {voxel_size:g} mm cut spheres off; the plate's spheres lie within "
            f"{2 * OUTERMOST:g} mm. Give a larger `matrix` or `voxel_size`."
        )
    labels = plate_labels(voxel_size / _FINER, matrix * _FINER)
    fractions = coarse_fractions(labels[None], (matrix, matrix), _FINER, 1.0, WATER + 1)
    by_label = np.ones((1, WATER + 1, model.num_parameters), np.float32)
    for q, parameter in enumerate(model.parameters):
        if parameter in plate.spheres:
            by_label[0, 1:, q] = [*plate.spheres[parameter], plate.water[parameter]]
        elif model.parameter_table[q].drawn is not None and parameter != model.main:
            by_label[0, 1:, q] = model.start[q]
        elif q not in (0, model.shared_index):
            what = model.main_label if parameter == model.main else parameter
            raise ValueError(f"the NIST plates have no values of {what}.")
    shared = None
    if model.shared is not None:
        shared = draw_shared(model.shared, rng, 1, matrix, b_field)
    known = draw_known_maps(model, rng, 1, matrix)
    values = TissueValues(by_label, shared, _repetition_times(tr, model), known)
    inside = fractions[None, ..., 1:WATER].sum(-1)
    names = {sphere: f"sphere {sphere}" for sphere in range(1, WATER)} | {WATER: "water"}
    voxel = (voxel_size, voxel_size, 1.0)
    regions = {"pure": inside > _PURE}
    return _phantom(
        fractions[None], values, inside >= 0.5, protocol, model, voxel, names, rng, spread, regions
    )


def plate_labels(voxel_size: float, matrix: int) -> np.ndarray:
    """Plate seen from above, shape (matrix, matrix): rows to the front, columns to the right."""
    x = (np.arange(matrix) - (matrix - 1) / 2) * voxel_size
    y = x[:, None]
    labels = np.where(np.hypot(x, y) <= BODY_RADIUS, np.uint8(WATER), np.uint8(0))
    sphere = 0
    for radius, first, count in RINGS:
        for angle in np.deg2rad(first + 360 / count * np.arange(count)):
            sphere += 1
            distance = np.hypot(x - radius * np.sin(angle), y - radius * np.cos(angle))
            labels[distance <= SPHERE_RADIUS + WALL] = 0
            labels[distance <= SPHERE_RADIUS] = sphere
    return labels


def _repetition_times(tr: float | None, model: SignalModel) -> np.ndarray | None:
    """Repetition time of a phantom's one draw of values, shape (1,), if the model depends on it."""
    return None if tr is None or model.finite_tr is None else np.array([tr])


def _phantom(
    fractions: np.ndarray,
    values: TissueValues,
    mask: np.ndarray,
    protocol: np.ndarray,
    model: SignalModel,
    voxel_size: tuple[float, float, float],
    label_names: dict[int, str],
    rng: np.random.Generator,
    spread: float,
    regions: dict[str, np.ndarray] | None = None,
) -> Phantom:
    """Simulate slices (Z, rows, columns, labels) with one draw of values, as (X, Y, Z)."""
    num = len(fractions)

    def repeated(a: np.ndarray) -> np.ndarray:
        return np.broadcast_to(a, (num, *a.shape[1:]))

    slices = TissueValues(
        repeated(values.by_label),
        None if values.shared is None else repeated(values.shared),
        None if values.tr is None else repeated(values.tr),
        None if values.known is None else repeated(values.known),
    )
    clean = noise_free(mixture_of_fractions(fractions), protocol, model, slices, rng, spread)

    def turned(a: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(np.moveaxis(a, [0, 1, 2], [2, 1, 0]))

    return Phantom(
        signal=turned(np.abs(clean.signed) if model.magnitude else clean.signed),
        kappa=turned(clean.kappa),
        labels=turned(clean.labels),
        purity=turned(clean.purity),
        mask=turned(mask & (clean.labels > 0)),
        protocol=np.asarray(model.table(protocol), np.float64),
        model=model,
        voxel_size=voxel_size,
        label_names=label_names,
        tr=None if values.tr is None else float(values.tr[0]),
        regions={name: turned(region) for name, region in (regions or {}).items()},
        known=None if slices.known is None else turned(slices.known),
    )
