"""The input of a fit and its checks: series, protocol, bounds, mask, noise and known maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from relaxsim.models.signal_model import SignalModel

Bounds = Mapping[str, tuple[float, float]] | Sequence[tuple[float, float]]
#: Bounds beyond these overflow in products; no parameter is so large, or a main one so small.
_LARGEST_BOUND, _SMALLEST_BOUND = 1e9, 1e-6


@dataclass(frozen=True)
class Measurement:
    """A weighted series as a fit takes it.

    Attributes
    ----------
    S : array, shape (..., N)
        Weighted images of any real dtype. Joint fits take up to three axes of space before the
        last one, and a protocol for each slice takes exactly three, (X, Y, Z, N).
    protocol : array, shape (N, D), or (Z, N, D) where each slice has its own
        In the units of the model's columns; (N,) of a model with one column.
    model : SignalModel
    sigma : float or array, shape (...), optional
        Noise standard deviation in the unit of S; by default it is estimated from the residuals of
        a Gaussian fit (`relaxnet.fitting.result.estimate_sigma`).
    mask : bool array, shape (...), optional
        Voxels to fit; default all.
    signed : bool
        The images carry the signal's sign.
    known : array, shape (..., K), optional
        Known maps of the model; by default their default values.
    spacing : tuple of float, optional
        Voxel size along each axis; by default all axes count alike.
    """

    S: np.ndarray
    protocol: np.ndarray
    model: SignalModel
    sigma: float | np.ndarray | None = None
    mask: np.ndarray | None = None
    signed: bool = False
    known: np.ndarray | None = None
    spacing: tuple[float, ...] | None = None


@dataclass(frozen=True)
class VoxelTable:
    """A checked measurement, a voxel a row.

    Attributes
    ----------
    shape : tuple of int
        Axes of space; their product is V.
    S : array, shape (V, N)
    inside : bool array, shape (V,)
        Mask.
    sigma : array, shape (V,), float64, or None
    known : array, shape (V, K), float64, or None
    slices : list of (protocol, voxels)
        Each protocol, shape (N, D), float64, with the rows of the mask that were measured with it.
    """

    shape: tuple[int, ...]
    S: np.ndarray
    inside: np.ndarray
    sigma: np.ndarray | None
    known: np.ndarray | None
    slices: list[tuple[np.ndarray, np.ndarray]]


def voxel_table(measurement: Measurement, num_free: int | None = None) -> VoxelTable:
    """Check a measurement and lay its voxels out as rows; `num_free` as in `check_series`.

    Raises
    ------
    ValueError
        For a series that no fit can use (`check_series`), or a mask, sigma or known map of another
        shape.
    """
    model, S = measurement.model, np.asarray(measurement.S)
    check_series(S, measurement.protocol, model, num_free)
    shape = S.shape[:-1]
    inside = check_mask(measurement.mask, shape)
    sigma = None if measurement.sigma is None else check_sigma(measurement.sigma, inside)
    known = check_known(measurement.known, model, shape)
    inside = inside.reshape(-1)
    tables = protocol_tables(measurement.protocol, model)
    voxels = np.flatnonzero(inside)
    return VoxelTable(
        shape,
        S.reshape(-1, S.shape[-1]),
        inside,
        None if sigma is None else sigma.reshape(-1),
        None if known is None else known.reshape(len(inside), -1),
        [(table, voxels[voxels % len(tables) == z]) for z, table in enumerate(tables)],
    )


def protocol_tables(protocol: np.ndarray, model: SignalModel) -> np.ndarray:
    """Protocol of each slice, shape (Z, N, D), float64; Z is 1 where all slices share one.

    Raises
    ------
    ValueError
        If it has another number of columns, or too many axes.
    """
    table = model.table(np.asarray(protocol, dtype=np.float64))
    if table.ndim > 3:
        raise ValueError(f"the protocol has shape {table.shape}; expected (N, D) or (Z, N, D).")
    return table if table.ndim == 3 else table[None]


def check_series(
    S: np.ndarray, protocol: np.ndarray, model: SignalModel, num_free: int | None = None
) -> None:
    """Refuse a series that no fit can use.

    Parameters
    ----------
    S : array, shape (..., N)
    protocol : array, shape (N, D) or (Z, N, D), (N,) of a model with one column
        In the units of the model's columns.
    model : SignalModel
    num_free : int, optional
        Parameters that are not known; default: all of the model.

    Raises
    ------
    ValueError
        In one line: the images are not real numbers, the numbers of images and of rows or those of
        slices differ, there are fewer images or fewer distinct rows than parameters, or the
        protocol is not finite, negative or the same for all images.
    """
    S = np.asarray(S)
    if S.dtype.kind not in "biuf":
        raise ValueError(f"images must be real numbers, received dtype {S.dtype}.")
    tables = protocol_tables(protocol, model)
    if len(tables) > 1 and (S.ndim != 4 or S.shape[2] != len(tables)):
        raise ValueError(
            f"the protocol has {len(tables)} slices, but the series has shape "
            f"{' x '.join(map(str, S.shape))}; expected X x Y x {len(tables)} x images."
        )
    for table in tables:
        _check_table(S, table, model, num_free)


def _check_table(
    S: np.ndarray, table: np.ndarray, model: SignalModel, num_free: int | None = None
) -> None:
    """Refuse a protocol (N, D) that does not go with the images, or determines no parameters."""
    N, Q = len(table), model.num_parameters if num_free is None else num_free
    columns = model.border.columns
    rows = columns[0].words if len(columns) == 1 else "rows of the protocol"
    if N == 0 or S.ndim == 0 or S.shape[-1] != N:
        found = S.shape[-1] if S.ndim else 0
        raise ValueError(
            f"the series holds {found} images (shape {' x '.join(map(str, S.shape))}), but "
            f"{N} {rows} are given. Give one for each image."
        )
    for column, values in zip(columns, table.T, strict=True):
        if not np.isfinite(values).all() or (values < 0).any():
            raise ValueError(f"{column.words} must be finite and not negative.")
    if N < Q:
        raise ValueError(
            f"{N} images cannot determine the {Q} {_unknowns(model, Q)} of {model.name}; "
            f"at least {Q} are needed."
        )
    distinct = len(np.unique(table, axis=0))
    if distinct == 1:
        value = ", ".join(
            f"{v:g} {column.unit}" for v, column in zip(table[0], model.columns, strict=True)
        )
        raise ValueError(f"all {N} {rows} are {value}; they must differ.")
    if distinct < Q:
        raise ValueError(
            f"only {distinct} of the {N} {rows} are distinct; the {Q} "
            f"{_unknowns(model, Q, named=False)} of {model.name} need {Q}."
        )


def _unknowns(model: SignalModel, num_free: int, named: bool = True) -> str:
    """What has to be found: all parameters, with their names, or those that are not known."""
    if num_free < model.num_parameters:
        return "unknown parameters"
    return f"parameters ({', '.join(model.parameters)})" if named else "parameters"


def fit_bounds(model: SignalModel, bounds: Bounds | None = None) -> np.ndarray:
    """Bounds of each parameter, shape (Q, 2), checked; the model's own unless given.

    Parameters
    ----------
    model : SignalModel
    bounds : mapping of names to (low, high), or sequence of Q pairs, optional
        A mapping may leave parameters out. Bounds of amplitudes are relative to the largest
        modulus among the voxel's samples. Equal bounds fix a parameter other than the last.

    Raises
    ------
    ValueError
        If a name is unknown, the number of pairs is not Q, or a pair is not a range of numbers that
        can be reckoned with.
    """
    if isinstance(bounds, Mapping):
        unknown = [name for name in bounds if name not in model.parameters]
        if unknown:
            raise ValueError(
                f"bounds of {unknown[0]!r}: {model.name} has {', '.join(model.parameters)}."
            )
        pairs = [bounds.get(p, b) for p, b in zip(model.parameters, model.bounds, strict=True)]
    else:
        pairs = list(model.bounds if bounds is None else bounds)
    try:
        out = np.array(pairs, dtype=np.float64)
    except (TypeError, ValueError):
        out = np.empty(0)
    if out.shape != (model.num_parameters, 2) or not np.isfinite(out).all():
        raise ValueError(
            f"bounds must be two finite numbers for each of {', '.join(model.parameters)}."
        )
    for name, (low, high) in zip(model.parameters, out, strict=True):
        if low > high:
            raise ValueError(f"bounds of {name}: {low:g} is above {high:g}.")
    if out[0, 0] < 0 or out[0, 1] <= 0:
        raise ValueError(f"bounds of {model.parameters[0]} must not be negative.")
    if not 0 < out[-1, 0] < out[-1, 1]:
        raise ValueError(f"bounds of {model.parameters[-1]} must be positive and differ.")
    for name, (low, high) in zip(model.parameters, out, strict=True):
        if max(-low, high) > _LARGEST_BOUND or (name == model.main and low < _SMALLEST_BOUND):
            raise ValueError(
                f"bounds of {name} are {low:g} and {high:g}; expected values up to "
                f"{_LARGEST_BOUND:g}, of {model.main} from {_SMALLEST_BOUND:g}."
            )
    return out


def check_mask(mask: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    """Mask of the given shape, bool; all voxels for None.

    Raises
    ------
    ValueError
        If it has another shape.
    """
    if mask is None:
        return np.ones(shape, dtype=bool)
    mask = np.asarray(mask)
    if mask.shape != shape:
        raise ValueError(f"mask has shape {mask.shape}, the images have {shape}.")
    return mask.astype(bool)


def check_sigma(sigma: float | np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Noise standard deviation of each voxel, float64, shape of `mask`.

    Raises
    ------
    ValueError
        If it is neither one number nor of the mask's shape, or not positive somewhere in the mask.
    """
    sigma = np.asarray(sigma, dtype=np.float64)
    if sigma.shape not in ((), mask.shape):
        raise ValueError(f"sigma has shape {sigma.shape}, the images have {mask.shape}.")
    sigma = np.broadcast_to(sigma, mask.shape)
    if not (np.isfinite(sigma[mask]) & (sigma[mask] > 0)).all():
        raise ValueError("sigma must be positive and finite in the mask.")
    return sigma


def check_known(
    known: np.ndarray | None, model: SignalModel, shape: tuple[int, ...]
) -> np.ndarray | None:
    """Known maps of each voxel, shape (..., K), float64; None for the model's default values.

    Raises
    ------
    ValueError
        If the model has none, or they have another shape.
    """
    if known is None:
        return None
    if not model.known_maps:
        raise ValueError(f"{model.name} has no known map; leave `known` out.")
    known = np.asarray(known, dtype=np.float64)
    expected = (*shape, len(model.known_maps))
    if known.shape != expected:
        raise ValueError(f"known maps have shape {known.shape}, expected {expected}.")
    return known
