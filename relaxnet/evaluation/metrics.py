"""Metrics of estimated maps against the truth (paper, section 4.5, and the RMSE beside them)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

#: BrainWeb labels of the tissues that are reported.
TISSUES = {"CSF": (1,), "GM": (2,), "WM": (3,), "brain": (1, 2, 3, 8)}
#: An estimate is an outlier if it is further from the truth than this share of it.
OUTLIER = 0.5


@dataclass(frozen=True)
class Summary:
    """Distribution of a metric over voxels.

    Attributes
    ----------
    median, lower, upper : float
        Median and quartiles, per cent.
    error : float
        Monte Carlo standard error of the median, per cent; NaN for fewer than two draws.
    num_voxels : int
    """

    median: float
    lower: float
    upper: float
    error: float
    num_voxels: int


def relative_bias(estimates: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Relative bias of each voxel (Eq. 7), per cent.

    Parameters
    ----------
    estimates : array, shape (C, ...)
        Repeated estimates.
    truth : array, shape (...)
        Not zero.

    Returns
    -------
    bias : array, shape (...)

    Examples
    --------
    >>> float(relative_bias(np.array([[90.0], [100.0]]), np.array([100.0]))[0])
    -5.0
    """
    return 100.0 * np.mean((estimates - truth) / truth, axis=0)


def coefficient_of_variation(estimates: np.ndarray) -> np.ndarray:
    """Coefficient of variation of each voxel (Eq. 8, standard deviation with ddof 1), per cent.

    Parameters
    ----------
    estimates : array, shape (C, ...)
        At least two repeated estimates.

    Returns
    -------
    cv : array, shape (...)

    Raises
    ------
    ValueError
        For fewer than two repeats.
    """
    if len(estimates) < 2:
        raise ValueError("the coefficient of variation needs at least two repeats, received one")
    return 100.0 * np.std(estimates, axis=0, ddof=1) / np.mean(estimates, axis=0)


def relative_rmse(estimates: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Root mean square error of each voxel relative to the truth, per cent.

    Bias and spread together: unlike the coefficient of variation it is not zero for a constant
    map. Shapes as in `relative_bias`.
    """
    return 100.0 * np.sqrt(np.mean(((estimates - truth) / truth) ** 2, axis=0))


@dataclass(frozen=True)
class Moments:
    """Moments of the relative error over repeats, without keeping the repeats.

    Attributes
    ----------
    count : int
        Repeats so far, C.
    mean : array, shape (...), float64
        Mean relative error.
    square : array, shape (...), float64
        Sum of the squared deviations of the relative error from `mean`.
    outliers : array, shape (...)
        Number of repeats whose relative error exceeds `OUTLIER`.
    """

    count: int
    mean: np.ndarray
    square: np.ndarray
    outliers: np.ndarray

    @classmethod
    def of_none(cls, shape: tuple[int, ...]) -> Moments:
        """Moments of no repeat."""
        return cls(0, np.zeros(shape), np.zeros(shape), np.zeros(shape, np.int32))

    def with_repeat(self, estimate: np.ndarray, truth: np.ndarray) -> Moments:
        """Moments with one more repeat (Welford 1962); arrays of one shape, truth not zero."""
        error = (np.asarray(estimate, np.float64) - truth) / truth
        count = self.count + 1
        step = error - self.mean
        mean = self.mean + step / count
        square = self.square + step * (error - mean)
        return Moments(count, mean, square, self.outliers + (np.abs(error) > OUTLIER))

    @property
    def bias(self) -> np.ndarray:
        """Relative bias (Eq. 7), per cent."""
        return 100.0 * self.mean

    @property
    def cv(self) -> np.ndarray:
        """Coefficient of variation (Eq. 8), per cent; NaN for fewer than two repeats."""
        if self.count < 2:
            return np.full(self.mean.shape, np.nan)
        with np.errstate(divide="ignore", invalid="ignore"):
            return 100.0 * np.sqrt(self.square / (self.count - 1)) / (1.0 + self.mean)

    @property
    def rmse(self) -> np.ndarray:
        """Root mean square error relative to the truth, per cent."""
        return 100.0 * np.sqrt(self.mean**2 + self.square / max(self.count, 1))


def pooled_rmse(estimates: np.ndarray, truth: np.ndarray) -> float:
    """Root mean square of the relative error over repeats and voxels, per cent."""
    return float(100.0 * np.sqrt(np.mean(((estimates - truth) / truth) ** 2)))


def summarise(values: np.ndarray, draws: np.ndarray | None = None) -> Summary:
    """Median and quartiles over voxels, with the Monte Carlo error of the median.

    Parameters
    ----------
    values : array, shape (M,)
        A metric of each voxel, per cent.
    draws : array, shape (M,), optional
        Number of the draw of kappa that each voxel belongs to. Voxels of one draw share their
        tissue's parameters, so that the error is that of the draws' medians.
    """
    if values.size == 0:
        return Summary(np.nan, np.nan, np.nan, np.nan, 0)
    lower, median, upper = (float(q) for q in np.percentile(values, [25, 50, 75]))
    error = float("nan")
    if draws is not None and len(labels := np.unique(draws)) > 1:
        medians = [np.median(values[draws == d]) for d in labels]
        error = float(np.std(medians, ddof=1) / np.sqrt(len(medians)))
    return Summary(median, lower, upper, error, values.size)


def by_tissue(
    estimates: np.ndarray,
    truth: np.ndarray,
    labels: np.ndarray,
    draws: np.ndarray | None = None,
    tissues: Mapping[str, tuple[int, ...]] = TISSUES,
) -> dict[str, dict[str, Summary | float]]:
    """All metrics of one parameter, per tissue.

    Parameters
    ----------
    estimates : array, shape (C, M)
        Repeats of M voxels.
    truth : array, shape (M,)
    labels : array, shape (M,)
        BrainWeb label of each voxel.
    draws : array, shape (M,), optional
        Draw of kappa of each voxel; see `summarise`.
    tissues : mapping
        Name -> labels.

    Returns
    -------
    table : dict
        Tissue -> ``bias``, ``cv`` (absent for one repeat), ``rmse`` as `Summary`, and
        ``pooled_rmse``.
    """
    table: dict[str, dict[str, Summary | float]] = {}
    for name, members in tissues.items():
        keep = np.isin(labels, members) & (truth != 0)
        if not keep.any():
            continue
        e, t = estimates[:, keep], truth[keep]
        d = None if draws is None else draws[keep]
        row: dict[str, Summary | float] = {
            "bias": summarise(relative_bias(e, t), d),
            "rmse": summarise(relative_rmse(e, t), d),
            "pooled_rmse": pooled_rmse(e, t),
        }
        if len(e) > 1:
            row["cv"] = summarise(coefficient_of_variation(e), d)
        table[name] = row
    return table
