"""Maps: labels and a tissue table become tissue parameters kappa."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from relaxsim.core.labels import NUM_LABELS
from relaxsim.models.signal_model import SharedParameter, SignalModel
from relaxsim.simulation.fields import polynomial_field
from relaxsim.simulation.tissues import TissueTable

#: How the parameter that neighbours share varies over a patch; see `draw_tissue_values`.
B_FIELDS = ("patch", "wide", "smooth", "slow")
#: Voxels across the field of view over which ``slow`` varies as ``smooth`` does over a patch.
SLOW_WIDTH = 256
#: Largest voxel-wise spread: beyond it draws would leave the physical range.
MAX_SPREAD = 0.2
#: Standard deviations at which voxel-wise variation is cut: one draw in 150 000 lies beyond.
_MOST_DEVIATIONS = 4.5


@dataclass(frozen=True)
class TissueValues:
    """Parameters of every label in every patch, before voxel-wise variation.

    Attributes
    ----------
    by_label : array, shape (n, 12, Q)
        kappa of each label; the column of the shared parameter is unused.
    shared : array, shape (n, P, P), or None
        Shared parameter for infinite TR, in models that have one.
    tr : array, shape (n,), or None
        Repetition time in ms of patches with a finite one.
    known : array, shape (n, P, P, K), or None
        Known maps, in models that have some.
    """

    by_label: np.ndarray
    shared: np.ndarray | None = None
    tr: np.ndarray | None = None
    known: np.ndarray | None = None


def draw_tissue_values(
    model: SignalModel,
    table: TissueTable,
    num: int,
    patch_size: int,
    rng: np.random.Generator,
    b_field: str = "patch",
    tr_range: tuple[float, float] | None = None,
) -> TissueValues:
    """Draw the parameters of each patch and tissue (paper, section 4.2).

    Parameters
    ----------
    model : SignalModel
    table : TissueTable
    num, patch_size : int
        Patches n and their width P.
    rng : numpy.random.Generator
    b_field : str
        Of the shared parameter for infinite TR. ``patch``: one value a patch, as the model draws it
        (``2 - |x|`` for B, with x normal of scale 0.2: paper). ``wide``: one value a patch, uniform
        in the model's wide range (1.0 to 2.05 for B). ``smooth``: a field that varies smoothly over
        the patch (`relaxsim.simulation.fields.polynomial_field`). ``slow``: such a field over a
        slice of 256 voxels, of which the patch is a random part.
    tr_range : (float, float), optional
        Repetition times in ms, log-uniform, one a patch; for models that depend on it. The others
        of the parameters then depend on the relaxation time.

    Returns
    -------
    TissueValues

    Raises
    ------
    ValueError
        If the table lacks a parameter that the model gives no range for, or `b_field` is unknown.
    """
    by_label = np.ones((num, NUM_LABELS, model.num_parameters), np.float32)
    for q, parameter in enumerate(model.parameter_table):
        if q != model.shared_index:
            by_label[..., q] = table.draw(parameter.name, num, rng, parameter.drawn)
    tr = None
    if tr_range is not None and model.finite_tr is not None:
        low, high = np.log(tr_range)
        tr = np.exp(rng.uniform(low, high, num))
    shared = None
    if model.shared is not None:
        shared = draw_shared(model.shared, rng, num, patch_size, b_field)
    return TissueValues(by_label, shared, tr, draw_known_maps(model, rng, num, patch_size))


def draw_shared(
    parameter: SharedParameter, rng: np.random.Generator, num: int, size: int, b_field: str
) -> np.ndarray:
    """Maps of a shared parameter for infinite TR, (num, size, size); see `draw_tissue_values`."""
    shape = size, size
    if b_field == "smooth":
        return parameter.of_field(polynomial_field(rng, num, shape)).astype(np.float32)
    if b_field == "slow":
        corner = rng.uniform(0, max(0, SLOW_WIDTH - size), (2, num))
        field = polynomial_field(rng, num, shape, corner=corner, width=max(size, SLOW_WIDTH))
        return parameter.of_field(field).astype(np.float32)
    if b_field == "patch":
        values = parameter.one_value(rng, num)
    elif b_field == "wide":
        values = rng.uniform(*parameter.wide, num)
    else:
        raise ValueError(f"`b_field` is {b_field!r}, expected one of {', '.join(B_FIELDS)}")
    return np.broadcast_to(values[:, None, None], (num, size, size)).astype(np.float32)


def draw_known_maps(
    model: SignalModel, rng: np.random.Generator, num: int, size: int
) -> np.ndarray | None:
    """Known maps that vary smoothly over a patch, (num, size, size, K); None if there are none."""
    if not model.known_maps:
        return None
    maps = [known.of_field(polynomial_field(rng, num, (size, size))) for known in model.known_maps]
    return np.stack(maps, axis=-1).astype(np.float32)


def voxel_kappa(
    values: TissueValues,
    model: SignalModel,
    patch: np.ndarray,
    row: np.ndarray,
    column: np.ndarray,
    label: np.ndarray,
    variation: np.ndarray,
) -> np.ndarray:
    """Kappa for infinite TR of listed (voxel, tissue) pairs; `apparent` is that for another TR.

    Parameters
    ----------
    values : TissueValues
    model : SignalModel
    patch, row, column, label : arrays, shape (M,), int
        Voxel and label of each pair.
    variation : array, shape (M, Q)
        Factor on each parameter but the shared one (1 plus the voxel-wise spread).

    Returns
    -------
    kappa : array, shape (M, Q), float32
    """
    kappa = values.by_label[patch, label] * variation
    if values.shared is not None:
        kappa[:, model.shared_index] = values.shared[patch, row, column]
    return kappa


def apparent(kappa: np.ndarray, model: SignalModel, tr: np.ndarray | None) -> np.ndarray:
    """Kappa (M, Q) of the signal at repetition times (M,), of kappa for infinite TR.

    None is infinite; some models do not depend on TR.
    """
    if tr is None or model.finite_tr is None:
        return kappa
    return model.finite_tr.apparent(model.finite_tr.from_infinite(kappa), tr)


def draw_variation(
    rng: np.random.Generator, num: int, model: SignalModel, spread: float
) -> np.ndarray:
    """Voxel-wise factors ``1 + spread n``, shape (num, Q), float32; 1 for the shared parameter.

    Raises
    ------
    ValueError
        If `spread` is negative or above 0.2, where draws would leave the physical range.
    """
    if not 0 <= spread <= MAX_SPREAD:
        raise ValueError(f"spread is {spread:g}, expected 0 to {MAX_SPREAD:g} (share of the value)")
    factor = rng.standard_normal((num, model.num_parameters), dtype=np.float32)
    np.clip(factor, -_MOST_DEVIATIONS, _MOST_DEVIATIONS, out=factor)
    factor *= spread
    factor += 1.0
    if model.shared_index is not None:
        factor[:, model.shared_index] = 1.0
    return factor
