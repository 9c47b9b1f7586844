"""T1 of a Look-Locker readout from its apparent T1*.

A train of small flips after one inversion drives the magnetisation to less than its equilibrium,
and faster: with ``A* = M0 T1* / T1`` and a full inversion, ``B = 1 + M0 / A* = 1 + T1 / T1*``, and

    T1 = T1* (B - 1).

It holds for a perfect inversion and small flips (Deichmann and Haase 1992); B must come from the
data, with enough late times.
"""

from __future__ import annotations

import numpy as np

from relaxnet.fitting.crlb import covariance_with_known, fisher_information
from relaxsim.models.signal_model import SignalModel


def check_model(model: SignalModel) -> None:
    """Refuse a model that has no B and T1.

    Raises
    ------
    ValueError
    """
    if "B" not in model.parameters or model.parameters[-1] != "T1":
        raise ValueError(f"--look-locker needs inversion times (--tis); this is {model.name}.")


def check_method(method: str, force: bool = False) -> None:
    """Refuse a network: its training knows B up to 2, and a Look-Locker readout has more.

    Raises
    ------
    ValueError
        Unless `force`.
    """
    if method != "mle" and not force:
        raise ValueError(
            "--look-locker needs B above 2, which the networks have never seen: their T1 would "
            "come out too short. Give --method mle, or insist with --force."
        )


def true_t1(
    kappa: np.ndarray,
    std: np.ndarray | None,
    tau: np.ndarray,
    model: SignalModel,
    sigma: float = 1.0,
    likelihood: str = "gaussian",
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Kappa with T1 for T1*, its standard deviations, and where there is no correction.

    The standard deviation is propagated with the correlation of B and T1*: what the times imply of
    how T1* follows B (Fisher information at the estimate), at the standard deviation of B that the
    fit gives. A B that the neighbourhood tells, too, has a smaller one.

    Parameters
    ----------
    kappa : array, shape (..., Q)
        With the apparent T1*, ms.
    std : array, shape (..., Q), optional
    tau : array, shape (N,)
        ms.
    model : SignalModel
    sigma : float
        Noise; it matters to the Rician likelihood alone.
    likelihood : str
        ``gaussian`` or ``rician``, of the fit.

    Returns
    -------
    kappa : array, shape (..., Q)
        T1 is 0 where there is no correction.
    std : array, shape (..., Q), or None
    refused : bool array, shape (...)
        B <= 1: no Look-Locker readout gives that.

    Examples
    --------
    >>> from relaxsim.models.inversion_recovery import MODEL as model
    >>> kappa = np.array([[1.0, 2.5, 800.0], [1.0, 0.9, 800.0]])
    >>> corrected, _, refused = true_t1(kappa, None, np.array([100.0, 500.0, 2000.0]), model)
    >>> corrected[:, -1].tolist(), refused.tolist()
    ([1200.0, 0.0], [False, True])
    """
    check_model(model)
    b = model.parameters.index("B")
    factor = kappa[..., b].astype(np.float64) - 1.0
    apparent = kappa[..., -1].astype(np.float64)
    refused = (factor <= 0) & (apparent > 0)
    keep = factor > 0
    out = kappa.copy()
    out[..., -1] = np.where(keep, apparent * factor, 0.0)
    if std is None:
        return out, None, refused
    spread = std.copy()
    fitted = keep & (apparent > 0)
    s_b, s_t = std[fitted][..., b].astype(np.float64), std[fitted][..., -1].astype(np.float64)
    follows = _slope(kappa[fitted], tau, model, b, sigma, likelihood)
    with np.errstate(invalid="ignore", over="ignore"):
        to_b, to_t = apparent[fitted] * s_b, factor[fitted] * s_t
        covariance = np.clip(follows * s_b**2, -s_b * s_t, s_b * s_t)
        variance = to_b**2 + to_t**2 + 2.0 * apparent[fitted] * factor[fitted] * covariance
    known = np.isfinite(s_b) & np.isfinite(s_t)
    spread[..., -1] = 0.0
    spread[fitted, -1] = np.where(known, np.sqrt(np.maximum(np.nan_to_num(variance), 0)), np.inf)
    return out, spread, refused


def _slope(
    kappa: np.ndarray, tau: np.ndarray, model: SignalModel, b: int, sigma: float, likelihood: str
) -> np.ndarray:
    """Change of the estimate of T1* by a change of B, 0 where the times do not tell.

    The covariance of both is this times the variance of B, be B free or known from elsewhere.
    """
    one = np.ones(kappa.shape[:-1])
    F = fisher_information(kappa, tau, sigma, model, likelihood)
    return np.nan_to_num(covariance_with_known(F, b, one)[..., b, -1], posinf=0.0, neginf=0.0)
