"""Status of each voxel: whether its estimate can be used and, if not, why.

A voxel has one code. Faults of the input come first, then the method's own flags (at a bound, not
identifiable), then the checks of the remaining voxels: the training range, the fit to the
data, and the agreement with a second method.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy import special

from relaxnet.fitting import result as fits
from relaxnet.series.images import Images

(
    OK,
    OUTSIDE,
    NO_SIGNAL,
    INVALID,
    AT_BOUND,
    NOT_IDENTIFIABLE,
    UNTRAINED,
    POOR_FIT,
    DISAGREE,
    NO_CORRECTION,
) = range(10)
LEGEND = {
    OK: "ok",
    OUTSIDE: "outside the mask",
    NO_SIGNAL: "no signal",
    INVALID: "invalid input",
    AT_BOUND: "at a bound",
    NOT_IDENTIFIABLE: "not identifiable",
    UNTRAINED: "outside the training range",
    POOR_FIT: "poor fit",
    DISAGREE: "methods disagree",
    NO_CORRECTION: "no correction",  # of folders that earlier versions wrote
}
#: Codes of voxels that have no estimate: their maps are 0.
WITHOUT_ESTIMATE = (OUTSIDE, NO_SIGNAL, INVALID)
#: Code of a voxel by the status of its fit.
OF_FIT = {
    fits.CONVERGED: OK,
    fits.AT_BOUND: AT_BOUND,
    fits.NOT_IDENTIFIABLE: NOT_IDENTIFIABLE,
    fits.NO_SIGNAL: NO_SIGNAL,
    fits.INVALID: INVALID,
}
#: Share of sound voxels that `poor_fit` and `disagreement` flag, under Gaussian noise.
FALSE_ALARM = 1e-3
#: Misfit beyond the noise, relative to the voxel's largest image, that counts as poor.
MISFIT = 0.03
#: The same of series whose residuals exceed the noise in one way in all voxels: there a misfit is
#: no chance, and one of 2 % may be an error of T2 by 25 %.
MISFIT_EVERYWHERE = 0.005
#: A fit is well determined if its standard deviation is below this part of the relaxation time.
WELL = 0.2
#: An estimate disagrees with a fit if it is off by more than this part of it as well.
RELEVANT = 0.1


def input_status(images: Images, mask: np.ndarray | None) -> np.ndarray:
    """OK, OUTSIDE, NO_SIGNAL or INVALID for each voxel.

    Parameters
    ----------
    images : Images
    mask : bool array, shape (X, Y, Z), optional

    Returns
    -------
    status : array, shape (X, Y, Z), uint8

    Raises
    ------
    ValueError
        If the mask has another shape.
    """
    mip = images.largest
    status = np.full(mip.shape, OK, np.uint8)
    status[mip == 0] = NO_SIGNAL
    status[~np.isfinite(mip)] = INVALID
    if mask is not None:
        if np.shape(mask) != mip.shape:
            raise ValueError(f"the mask has shape {np.shape(mask)}, the images {mip.shape}")
        status[~np.asarray(mask, bool)] = OUTSIDE
    return status


def poor_fit(
    residual: np.ndarray,
    sigma: np.ndarray,
    largest: np.ndarray,
    num_images: int,
    num_fitted: int,
    visible: float = MISFIT,
) -> np.ndarray:
    """Whether the estimated signal misses the data by more than noise explains, and visibly.

    Both must hold: the voxel's chi-square, ``N residual^2``, exceeds the quantile that one sound
    voxel in a thousand exceeds (`FALSE_ALARM`); and what it has more than noise is above 3 %
    (`MISFIT`) of the voxel's largest image, so that series of hardly any noise are not flagged for
    what nobody sees.

    Parameters
    ----------
    residual : array, shape (...)
        Root mean square over images of the residuals in units of sigma.
    sigma : array, shape (...) or ()
        Noise standard deviation.
    largest : array, shape (...)
        Largest modulus over images, in the unit of sigma.
    num_images : int
        N.
    num_fitted : int
        Parameters that were fitted to the voxel's own data: Q for a voxel-wise fit, 0 for networks,
        whose estimate does not minimise the residuals.
    visible : float
        Part of the largest image beyond which a misfit counts; `MISFIT_EVERYWHERE` where the model
        misses all of the tissue.

    Returns
    -------
    poor : bool array, shape (...)
        Nowhere if no degree of freedom is left.

    Examples
    --------
    >>> poor_fit(np.array([1.0, 3.0]), np.array(2.0), np.array([50.0, 50.0]), 10, 3).tolist()
    [False, True]
    """
    dof = num_images - num_fitted
    if dof < 1:
        return np.zeros(np.shape(residual), bool)
    square = np.asarray(residual, np.float64) ** 2
    beyond = np.maximum(square - dof / num_images, 0.0)
    unlikely = num_images * square > special.chdtri(dof, FALSE_ALARM)
    return unlikely & (np.sqrt(beyond) * sigma > visible * largest)


def well_determined(T: np.ndarray, std: np.ndarray, status: np.ndarray) -> np.ndarray:
    """Whether a voxel-wise fit's standard deviation is below a fifth of its time (`WELL`)."""
    with np.errstate(invalid="ignore"):
        return (status == OK) & (T > 0) & (std > 0) & (std <= WELL * T)


def disagreement(T: np.ndarray, T_fit: np.ndarray, std_fit: np.ndarray) -> np.ndarray:
    """Whether an estimate differs from a well-determined fit by more than the fit's own error.

    It does if it is off by more than a tenth (`RELEVANT`) and by more than what the error of an
    unbiased fit exceeds in one voxel of a thousand (`FALSE_ALARM`).

    Parameters
    ----------
    T : array, shape (...)
        Relaxation time to be checked.
    T_fit, std_fit : arrays, shape (...)
        That of the fit, and its standard deviation.

    Returns
    -------
    differs : bool array, shape (...)

    Examples
    --------
    >>> T = np.array([900.0, 700.0])
    >>> disagreement(T, np.array([910.0, 900.0]), np.array([20.0, 20.0])).tolist()
    [False, True]
    """
    difference = np.abs(np.asarray(T, np.float64) - T_fit)
    limit = -special.ndtri(FALSE_ALARM / 2)
    return (difference > limit * std_fit) & (difference > RELEVANT * T_fit)


def shares(status: np.ndarray, legend: Mapping[int, str] = LEGEND) -> dict[str, float]:
    """Share of each status among the voxels of the mask: words -> share, those that occur.

    Examples
    --------
    >>> shares(np.array([OK, OK, OUTSIDE, POOR_FIT, OK]))
    {'ok': 0.75, 'poor fit': 0.25}
    """
    inside = status[status != OUTSIDE]
    counts = np.bincount(inside, minlength=len(LEGEND))
    return {legend[code]: float(n / inside.size) for code, n in enumerate(counts) if n}


def levels(legend: Mapping[int, str] = LEGEND) -> dict[str, str]:
    """Legend for a JSON file: code as text -> words."""
    return {str(code): words for code, words in legend.items()}
