"""Maps: labels and a tissue table become tissue parameters kappa."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from relaxsim.models import finite_tr as finite_tr_algebra
from relaxsim.models.signal_model import SignalModel
from relaxsim.simulation.tissues import TissueTable

B_FIELDS = ("patch", "wide", "smooth", "slow")
#: Half-normal parameter of 2 - B (paper, section 4.2).
B_SCALE = 0.2
WIDE_B = (1.0, 2.05)
#: Voxels across the field of view over which ``slow`` varies as ``smooth`` does over a patch.
SLOW_WIDTH = 256
MAX_SPREAD = 0.2


@dataclass(frozen=True)
class TissueValues:
    """Parameters of every label in every patch, before voxel-wise variation.

    Attributes
    ----------
    by_label : array, shape (n, 12, Q)
        kappa of each label; the column of ``B`` is unused.
    B : array, shape (n, P, P), or None
        B for infinite TR (the inversion efficiency plus one), in models that have ``B``.
    tr : array, shape (n,), or None
        Repetition time in ms of patches with a finite one.
    """

    by_label: np.ndarray
    B: np.ndarray | None
    tr: np.ndarray | None


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
        Of B for infinite TR. ``patch``: one value a patch, ``2 - |x|`` with x normal of scale 0.2
        (paper). ``wide``: one value a patch, uniform from 1.0 to 2.05. ``smooth``: a low-order
        field over the patch, see `smooth_b`. ``slow``: such a field over a slice of 256 voxels,
        of which the patch is a random part.
    tr_range : (float, float), optional
        Repetition times in ms, log-uniform, one a patch. B and A then depend on T1.

    Returns
    -------
    TissueValues
    """
    by_label = np.ones((num, 12, model.num_parameters), np.float32)
    for q, parameter in enumerate(model.parameters):
        if parameter != "B":
            drawn = model.parameter_table[q].drawn
            by_label[..., q] = table.draw(parameter, num, rng, drawn)
    if "B" not in model.parameters:
        return TissueValues(by_label, None, None)
    tr = None
    if tr_range is not None:
        low, high = np.log(tr_range)
        tr = np.exp(rng.uniform(low, high, num))
    return TissueValues(by_label, draw_b(rng, num, patch_size, b_field), tr)


def draw_b(rng: np.random.Generator, num: int, size: int, b_field: str) -> np.ndarray:
    """B maps for infinite TR, shape (num, size, size), float32; see `draw_tissue_values`."""
    if b_field == "smooth":
        return smooth_b(rng, num, (size, size))
    if b_field == "slow":
        corner = rng.uniform(0, max(0, SLOW_WIDTH - size), (2, num))
        return smooth_b(rng, num, (size, size), corner=corner, width=max(size, SLOW_WIDTH))
    if b_field == "patch":
        values = 2.0 - np.abs(rng.normal(0.0, B_SCALE, num))
    elif b_field == "wide":
        values = rng.uniform(*WIDE_B, num)
    else:
        raise ValueError(f"b-field is {b_field!r}, expected one of {', '.join(B_FIELDS)}")
    return np.broadcast_to(values[:, None, None], (num, size, size)).astype(np.float32)


def smooth_b(
    rng: np.random.Generator,
    num: int,
    shape: tuple[int, int],
    mean_scale: float = 0.2,
    corner: np.ndarray | None = None,
    width: int | None = None,
) -> np.ndarray:
    """B maps that vary slowly, as a transmit field makes the inversion vary.

    The flip angle of the inversion is ``pi (1 + d)`` and ``B = 1 - cos(pi (1 + d))``, so that B
    is at most 2. The deviation d is a polynomial of second order over the field of view, bent into
    -0.5 ... 0.5 (B from 1 to 2) by ``d = tanh(2 p) / 2``: its constant is normal with scale
    `mean_scale`, its linear terms (from the centre to an edge) with 0.12 and its quadratic ones
    with 0.06.

    Parameters
    ----------
    rng : numpy.random.Generator
    num : int
    shape : (int, int)
        Rows and columns of the maps.
    mean_scale : float
    corner : array, shape (2, num), optional
        Row and column of each map's first voxel in a field of view of `width` voxels squared.
        Default: the field of view is the map.
    width : int, optional
        With `corner`.

    Returns
    -------
    B : array, shape (num, *shape), float32
    """
    if corner is None or width is None:
        y, x = (np.linspace(-1, 1, s)[None] for s in shape)
    else:
        place = [c[:, None] + np.arange(s) for c, s in zip(corner, shape, strict=True)]
        y, x = (2 * p / (width - 1) - 1 for p in place)
    y, x = y[:, :, None], x[:, None, :]
    c = rng.standard_normal((num, 6, 1, 1)) * np.array(
        [mean_scale, 0.12, 0.12, 0.06, 0.06, 0.06]
    ).reshape(1, 6, 1, 1)
    p = c[:, 0] + c[:, 1] * y + c[:, 2] * x
    p = p + c[:, 3] * (y**2 - 1 / 3) + c[:, 4] * x * y + c[:, 5] * (x**2 - 1 / 3)
    return (1.0 + np.cos(0.5 * np.pi * np.tanh(2 * p))).astype(np.float32)


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
        Factor on each parameter but B (1 plus the voxel-wise spread).

    Returns
    -------
    kappa : array, shape (M, Q), float32
    """
    kappa = values.by_label[patch, label] * variation
    if values.B is not None:
        kappa[:, model.parameters.index("B")] = values.B[patch, row, column]
    return kappa


def apparent(kappa: np.ndarray, model: SignalModel, tr: np.ndarray | None) -> np.ndarray:
    """Kappa (M, Q) of the signal at repetition times (M,), of kappa for infinite TR.

    None is infinite; models without B do not depend on TR.
    """
    if tr is None or "B" not in model.parameters:
        return kappa
    kappa = kappa.copy()
    kappa[:, 0], kappa[:, 1] = finite_tr(kappa[:, 0], kappa[:, 1] - 1.0, kappa[:, -1], tr)
    return kappa


def finite_tr(M0, efficiency, T1, tr):
    """A and B of an inversion recovery with a 90-degree readout every TR."""
    kappa = np.stack(np.broadcast_arrays(M0, efficiency, T1), axis=-1)
    A, B, _ = np.moveaxis(finite_tr_algebra.apparent(kappa, tr), -1, 0)
    return A, B


def draw_variation(
    rng: np.random.Generator, num: int, model: SignalModel, spread: float
) -> np.ndarray:
    """Voxel-wise factors ``1 + spread n``, shape (num, Q), float32; 1 for B.

    Raises
    ------
    ValueError
        If `spread` is negative or above 0.2, where draws would leave the physical range.
    """
    if not 0 <= spread <= MAX_SPREAD:
        raise ValueError(f"spread is {spread:g}, expected 0 to {MAX_SPREAD:g} (share of the value)")
    factor = rng.standard_normal((num, model.num_parameters), dtype=np.float32)
    np.clip(factor, -4.5, 4.5, out=factor)  # beyond 4.5 sd: one draw in 150 000
    factor *= spread
    factor += 1.0
    if "B" in model.parameters:
        factor[:, model.parameters.index("B")] = 1.0
    return factor
