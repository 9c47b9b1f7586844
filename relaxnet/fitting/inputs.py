"""What a fit is given, checked: the series, bounds, mask and noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from relaxsim.models.signal_model import SignalModel

Bounds = Mapping[str, tuple[float, float]] | Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Measurement:
    """A weighted series as a fit takes it.

    Attributes
    ----------
    S : array, shape (X, N), (X, Y, N) or (X, Y, Z, N)
        Weighted images.
    protocol : array, shape (N, D), or (Z, N, D) where each slice has its own
        In the units of the model's columns; (N,) of a model with one column.
    model : SignalModel
    sigma : float or array, shape (...), optional
        Noise standard deviation in the unit of S; by default the residuals of a fit tell it.
    mask : bool array, shape (...), optional
        Voxels to fit; default all.
    signed : bool
        The images carry the signal's sign.
    known : array, shape (..., K), optional
        Known maps of the model.
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


def check_series(S: np.ndarray, tau: np.ndarray, model: SignalModel) -> None:
    """Refuse a series that no fit can use.

    Parameters
    ----------
    S : array, shape (..., N)
    tau : array, shape (N,)
        ms.
    model : SignalModel

    Raises
    ------
    ValueError
        In one line: not real numbers, number of images and times differ, fewer images than
        parameters, times not finite, negative or all equal, fewer distinct times than parameters.
    """
    S, tau, Q = np.asarray(S), np.asarray(tau), model.num_parameters
    if S.dtype.kind not in "biuf":
        raise ValueError(f"images must be real numbers, received dtype {S.dtype}.")
    if tau.ndim != 1 or tau.size == 0:
        raise ValueError(f"times must be a list of numbers, received shape {tau.shape}.")
    if S.ndim == 0 or S.shape[-1] != tau.size:
        found = S.shape[-1] if S.ndim else 0
        raise ValueError(
            f"the series holds {found} images (shape {' x '.join(map(str, S.shape))}), but "
            f"{tau.size} {model.time_name} are given. Give one time per image."
        )
    if not np.isfinite(tau).all() or (tau < 0).any():
        raise ValueError(f"{model.time_name} must be finite and not negative.")
    if tau.size < Q:
        raise ValueError(
            f"{tau.size} images cannot determine the {Q} parameters ({', '.join(model.parameters)})"
            f" of {model.name}; at least {Q} are needed."
        )
    distinct = np.unique(tau).size
    if distinct == 1:
        raise ValueError(f"all {tau.size} {model.time_name} are {tau[0]:g} ms; they must differ.")
    if distinct < Q:
        raise ValueError(
            f"only {distinct} of the {tau.size} {model.time_name} are distinct; the {Q} parameters "
            f"of {model.name} need {Q}."
        )


def fit_bounds(model: SignalModel, bounds: Bounds | None = None) -> np.ndarray:
    """Bounds of each parameter, shape (Q, 2), checked; the model's own unless given.

    Parameters
    ----------
    model : SignalModel
    bounds : mapping of names to (low, high), or sequence of Q pairs, optional
        A mapping may leave parameters out. Bounds of amplitudes are relative to the largest
        modulus among the voxel's samples. Equal bounds fix a linear parameter.

    Raises
    ------
    ValueError
        If a name is unknown, the number of pairs is not Q, or a pair is not a range.
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
