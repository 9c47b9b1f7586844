"""Correction of a model's main parameter, such as T1 for the apparent T1* of a Look-Locker readout.

What is corrected, and how, stands in the model's border (`relaxsim.models.border.Correction`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from relaxnet.fitting.crlb import covariance_with_known, fisher_information
from relaxsim.models.border import Correction
from relaxsim.models.registry import MODELS
from relaxsim.models.signal_model import SignalModel


@dataclass(frozen=True)
class Corrected:
    """Estimates with the corrected value in the place of the main parameter.

    Attributes
    ----------
    kappa : array, shape (..., Q)
        Main parameter 0 where there is no correction.
    std : array, shape (..., Q), or None
    refused : bool array, shape (...)
        There is an estimate, but no correction of it.
    """

    kappa: np.ndarray
    std: np.ndarray | None
    refused: np.ndarray


def correction_arguments() -> tuple[str, ...]:
    """Arguments that ask for a correction, of all models."""
    found = (model.border.correction for model in MODELS.values())
    return tuple(dict.fromkeys(c.argument for c in found if c is not None))


def wanted_correction(arguments: dict[str, bool], model: SignalModel) -> bool:
    """Whether arguments, such as ``look_locker=True``, ask for the correction of a model.

    Raises
    ------
    TypeError
        If no model has a correction of that name.
    ValueError
        If it is that of another model.
    """
    unknown = [name for name in arguments if name not in correction_arguments()]
    if unknown:
        raise TypeError(f"there is no argument {unknown[0]!r}.")
    wanted = [name for name, value in arguments.items() if value]
    correction = model.border.correction
    for name in wanted:
        if correction is None or correction.argument != name:
            others = [
                m.border
                for m in MODELS.values()
                if m.border.correction is not None and m.border.correction.argument == name
            ]
            needs = " or ".join(f"{b.columns[0].words} (`{b.columns[0].option}`)" for b in others)
            raise ValueError(f"`{name}` needs {needs}; this is {model.name}.")
    return bool(wanted)


def correction_of(model: SignalModel) -> Correction:
    """The model's correction.

    Raises
    ------
    ValueError
        If it has none.
    """
    if model.border.correction is None:
        raise ValueError(f"{model.name} has no correction.")
    return model.border.correction


def wide_enough(model: SignalModel) -> SignalModel:
    """The model with the bounds that its correction needs."""
    bounds = correction_of(model).bounds
    table = tuple(replace(p, bounds=bounds.get(p.name, p.bounds)) for p in model.parameter_table)
    return replace(model, parameter_table=table)


def check_method(model: SignalModel, fitted: bool, force: bool = False) -> None:
    """Refuse a network where its training does not cover what the correction needs.

    Raises
    ------
    ValueError
        Unless `force`.
    """
    correction = correction_of(model)
    if correction.needs_fit and not fitted and not force:
        raise ValueError(
            f"`{correction.argument}` {correction.needs_fit}. Give `method` mle, or insist with "
            "`force`."
        )


def corrected(
    kappa: np.ndarray,
    std: np.ndarray | None,
    protocol: np.ndarray,
    model: SignalModel,
    sigma: float = 1.0,
    likelihood: str = "gaussian",
    known: np.ndarray | None = None,
) -> Corrected:
    """Kappa with the corrected value for the main parameter, and its standard deviation.

    The standard deviation is propagated through the derivative of the correction with the
    correlations of the estimates: those that the protocol implies (Fisher information at the
    estimate), where the shared parameter has the standard deviation that the estimation gave it; it
    is smaller if neighbours contribute to it.

    Parameters
    ----------
    kappa : array, shape (..., Q)
    std : array, shape (..., Q), optional
    protocol : array, shape (N, D), (N,) if D = 1, or (..., N, D)
    model : SignalModel
        With a correction.
    sigma : float
        Noise; it matters to the Rician likelihood alone.
    likelihood : str
        ``gaussian`` or ``rician``, of the fit.
    known : array, shape (..., K), optional
        Known maps.

    Returns
    -------
    Corrected

    Examples
    --------
    >>> from relaxsim.models.inversion_recovery import MODEL as model
    >>> kappa = np.array([[1.0, 2.5, 800.0], [1.0, 0.9, 800.0]])
    >>> found = corrected(kappa, None, np.array([100.0, 500.0, 2000.0]), model)
    >>> found.kappa[:, -1].tolist(), found.refused.tolist()
    ([1200.0, 0.0], [False, True])
    """
    value, slope, valid = correction_of(model).value(kappa.astype(np.float64))
    estimated = kappa[..., -1] > 0
    out = kappa.copy()
    out[..., -1] = np.where(valid, value, 0.0)
    refused = ~valid & estimated
    if std is None:
        return Corrected(out, None, refused)
    fitted = valid & estimated
    spread = std.copy()
    spread[..., -1] = 0.0
    tables = model.table(protocol)
    if tables.ndim > 2:
        tables = np.broadcast_to(tables, (*fitted.shape, *tables.shape[-2:]))[fitted]
    of_voxels = None if known is None else known[fitted]
    F = fisher_information(kappa[fitted], tables, sigma, model, likelihood, of_voxels)
    spread[fitted, -1] = propagated(
        std[fitted].astype(np.float64), slope[fitted], F, model.shared_index
    )
    return Corrected(out, spread, refused)


def propagated(std: np.ndarray, slope: np.ndarray, F: np.ndarray, shared: int | None) -> np.ndarray:
    """Standard deviation of a function of estimates.

    Parameters
    ----------
    std : array, shape (n, Q)
        Of the estimates.
    slope : array, shape (n, Q)
        Derivative of the function.
    F : array, shape (n, Q, Q)
        Fisher information at the estimates; only the correlations that it implies are used.
    shared : int, optional
        Index of a parameter on which the estimation may have had more information than `F`.

    Returns
    -------
    std : array, shape (n,)
        Infinite where a standard deviation that matters is.
    """
    Q = std.shape[-1]
    used = [q for q in range(Q) if np.any(slope[..., q])]
    if not used:
        return np.zeros(len(std))
    first = used[0] if shared is None or shared not in used else shared
    with np.errstate(invalid="ignore", over="ignore"):
        C = covariance_with_known(F, first, std[..., first] ** 2)
        variance = sum((slope[..., q] * std[..., q]) ** 2 for q in used)
        for i, q in enumerate(used):
            for r in used[i + 1 :]:
                most = std[..., q] * std[..., r]
                between = np.clip(np.nan_to_num(C[..., q, r], posinf=0.0, neginf=0.0), -most, most)
                variance = variance + 2.0 * slope[..., q] * slope[..., r] * between
    finite = np.isfinite(std[..., used]).all(axis=-1)
    return np.where(finite, np.sqrt(np.maximum(np.nan_to_num(variance), 0)), np.inf)
