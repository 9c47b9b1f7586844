"""M0 of a fit with a finite repetition time, which the amplitude A of the signal is not then."""

from __future__ import annotations

import numpy as np

from relaxnet.fitting.crlb import covariance_with_known, fisher_information
from relaxnet.fitting.joint_result import RegularisedFit
from relaxnet.fitting.options import FitOptions
from relaxnet.fitting.parallel import in_chunks
from relaxnet.maps.maps import Equilibrium
from relaxnet.prediction.inspection import Inspected
from relaxsim.models.signal_model import FiniteTR, SignalModel


def equilibrium_of(found: Inspected, fit: RegularisedFit, options: FitOptions) -> Equilibrium:
    """M0 and its standard deviation, of the fit's apparent parameters and its efficiency.

    The standard deviation is that of the covariance that the data imply (Fisher information at the
    estimate), with the variance of the efficiency that gives the fit's standard deviation of the
    apparent shared parameter.

    Parameters
    ----------
    found : Inspected
    fit : RegularisedFit
        With `options.tr`; its `ratio` is the efficiency.
    options : FitOptions

    Returns
    -------
    Equilibrium
    """
    model = found.model
    assert model.finite_tr is not None
    assert options.tr is not None
    tr, likelihood = float(options.tr), options.likelihood or "gaussian"
    inner = model.finite_tr.model(tr)
    where = found.inside & (fit.kappa[..., -1] > 0)
    intrinsic = _intrinsic(fit, where, model.finite_tr, model, tr)
    amplitude = np.zeros(where.shape, np.float32)
    amplitude[where] = intrinsic[:, 0]
    sigma = np.broadcast_to(np.asarray(found.series.sigma), where.shape)[where]
    spread = fit.std[where].astype(np.float64)
    of_voxel = np.zeros(len(intrinsic))
    table = found.series.protocol
    slices = np.nonzero(where)[2]

    def work(chunk: np.ndarray) -> None:
        here = table if table.ndim == 2 else table[slices[chunk]]
        F = fisher_information(intrinsic[chunk], here, sigma[chunk], inner, likelihood)
        G = model.finite_tr.apparent_jacobian(intrinsic[chunk], tr)  # type: ignore[union-attr]
        of_voxel[chunk] = _std_of_amplitude(F, G, spread[chunk], model)

    in_chunks(work, np.arange(len(intrinsic)), table.shape[-2])
    std = np.zeros(where.shape, np.float32)
    with np.errstate(over="ignore"):
        std[where] = of_voxel
    return Equilibrium(inner, amplitude, std)


def _intrinsic(
    fit: RegularisedFit, where: np.ndarray, algebra: FiniteTR, model: SignalModel, tr: float
) -> np.ndarray:
    """Parameters of the finite repetition time, shape (n, Q): (M0, e, T1)."""
    kappa = fit.kappa[where].astype(np.float64)
    kappa[:, model.shared_index] = fit.ratio[where]
    unit = kappa.copy()
    unit[:, 0] = 1.0
    kappa[:, 0] /= algebra.apparent(unit, tr)[:, 0]
    return kappa


def _std_of_amplitude(
    F: np.ndarray, G: np.ndarray, std: np.ndarray, model: SignalModel
) -> np.ndarray:
    """Standard deviation of M0; (n, Q, Q), (n, Q, Q), (n, Q) of the apparent ones -> (n,)."""
    b = model.shared_index
    assert b is not None
    one = np.ones(len(F))
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        fixed = covariance_with_known(F, b, 0.0 * one)
        by_variance = covariance_with_known(F, b, one) - fixed
        of_fixed, of_variance = (
            np.einsum("ni,nij,nj->n", G[:, b], C, G[:, b]) for C in (fixed, by_variance)
        )
        variance = np.maximum((std[:, b] ** 2 - of_fixed) / of_variance, 0.0)
        found = np.sqrt(fixed[:, 0, 0] + variance * by_variance[:, 0, 0])
    return np.where(np.isfinite(found) & np.isfinite(std).all(-1), found, np.inf)
