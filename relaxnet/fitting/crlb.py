"""How well data can determine kappa: Fisher information and the Cramér-Rao lower bound (numpy).

With independent Gaussian noise of standard deviation sigma the Fisher information of a voxel is
``F = J' J / sigma^2``, J being the (N, Q) Jacobian of its signal, and the covariance of any
unbiased voxel-wise estimator is at least ``F^-1``. An estimator below it uses a prior.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from relaxnet.fitting.rician import information_factor
from relaxsim.models.signal_model import SignalModel

#: Below this determinant of the information scaled to unit diagonal, it counts as singular.
SINGULAR = 1e-14


def fisher_information(
    kappa: np.ndarray,
    protocol: np.ndarray,
    sigma: float | np.ndarray,
    model: SignalModel,
    likelihood: str = "gaussian",
    known: np.ndarray | None = None,
) -> np.ndarray:
    """Fisher information of each voxel.

    The modulus changes the sign of rows of J, which ``J' J`` does not see: signed and magnitude
    data have the same information.

    Parameters
    ----------
    kappa : array, shape (..., Q)
        Tissue parameters.
    protocol : array, shape (N, D), (N,) if D = 1, or (..., N, D)
        In the units of the model's columns.
    sigma : float or array, shape (...)
        Noise standard deviation in the unit of A.
    model : SignalModel
    likelihood : str
        ``"gaussian"``, or ``"rician"``: a sample of little signal then holds less information, by
        `relaxnet.fitting.rician.information_factor`.
    known : array, shape (..., K), optional
        Known maps of the model; by default their default values.

    Returns
    -------
    F : array, shape (..., Q, Q), float64
    """
    kappa = np.asarray(kappa, dtype=np.float64)
    protocol, sigma = np.asarray(protocol, np.float64), np.asarray(sigma, np.float64)
    J = model.signed_jacobian(kappa, protocol, np, known)
    if likelihood == "rician":
        snr = np.abs(model.signed(kappa, protocol, np, known)) / sigma[..., None]
        J = J * np.sqrt(information_factor(snr))[..., None]
    return gram(J) / sigma[..., None, None] ** 2


def crlb(
    kappa: np.ndarray,
    protocol: np.ndarray,
    sigma: float | np.ndarray,
    model: SignalModel,
    likelihood: str = "gaussian",
    known: np.ndarray | None = None,
) -> np.ndarray:
    """Cramér-Rao lower bound of the standard deviation of each parameter, at `kappa`.

    Parameters
    ----------
    kappa, protocol, sigma, model, likelihood, known
        As for `fisher_information`.

    Returns
    -------
    std : array, shape (..., Q), float64
        In the unit of each parameter; inf where the information is singular.

    Examples
    --------
    >>> from relaxsim.models.t2_decay import MODEL as T2_DECAY
    >>> tau = np.array([10.0, 20.0, 40.0, 80.0, 160.0, 320.0])
    >>> [round(float(v), 4) for v in crlb(np.array([1.0, 80.0]), tau, 0.01, T2_DECAY)]
    [0.0107, 1.9796]
    """
    return inverse_std(fisher_information(kappa, protocol, sigma, model, likelihood, known))


def coverage(
    estimate: np.ndarray, std: np.ndarray, truth: np.ndarray, level: float = 0.95
) -> float:
    """Share of the intervals ``estimate +- z std`` that hold the truth.

    Parameters
    ----------
    estimate, std, truth : arrays of one shape
        Entries whose `std` is not finite and positive are left out.
    level : float
        Nominal share, which sets z.

    Returns
    -------
    share : float
        NaN if nothing is left.

    Examples
    --------
    >>> coverage(np.array([1.0, 2.0]), np.array([0.1, 0.1]), np.array([1.1, 3.0]))
    0.5
    """
    known = np.isfinite(std) & (std > 0)
    if not known.any():
        return float("nan")
    z = ndtri(0.5 + 0.5 * level)
    return float((np.abs(estimate - truth)[known] <= z * std[known]).mean())


def clustered_share(hit: np.ndarray, cluster: np.ndarray) -> tuple[float, float, float]:
    """Share of hits with its 95 % interval, where hits of one cluster are correlated.

    Parameters
    ----------
    hit : bool array, shape (V,)
        Of each voxel, such as: its interval holds the truth.
    cluster : int array, shape (V,)
        Of each voxel, such as the draw of kappa that it belongs to; not negative.

    Returns
    -------
    share, low, high : float
        The interval is that of a ratio of sums over clusters (linearised variance), normal; NaN
        for fewer than two clusters, and all NaN without voxels.

    Examples
    --------
    >>> share, low, high = clustered_share(np.array([1, 1, 1, 0], bool), np.array([0, 0, 1, 1]))
    >>> share, round(high - share, 2)
    (0.75, 0.49)
    """
    sizes, hits = np.bincount(cluster), np.bincount(cluster, weights=hit)
    hits, sizes = hits[sizes > 0], sizes[sizes > 0]
    if not sizes.size:
        return float("nan"), float("nan"), float("nan")
    share = hits.sum() / sizes.sum()
    if sizes.size < 2:
        return float(share), float("nan"), float("nan")
    correction = sizes.size / (sizes.size - 1)
    error = np.sqrt(correction * ((hits - share * sizes) ** 2).sum()) / sizes.sum()
    half = ndtri(0.975) * error
    return float(share), float(share - half), float(share + half)


def std_of_free(F: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Bound of the standard deviations where bounds fix some parameters.

    Parameters
    ----------
    F : array, shape (n, Q, Q)
        Fisher information of all parameters.
    free : bool array, shape (Q,)
        Parameters that are fitted.

    Returns
    -------
    std : array, shape (n, Q), float64
        0 of a fixed parameter; inf of the others where their information is singular.
    """
    std = np.zeros(F.shape[:-1])
    std[:, free] = inverse_std(F[:, free][:, :, free])
    return std


def inverse_std(F: np.ndarray) -> np.ndarray:
    """``sqrt(diag(F^-1))`` of symmetric matrices (..., Q, Q); inf where F is singular."""
    variance = np.diagonal(inverse(F), axis1=-2, axis2=-1)
    return np.sqrt(np.where(np.isfinite(variance) & (variance > 0), variance, np.inf))


def inverse(F: np.ndarray) -> np.ndarray:
    """Inverse of symmetric, positive matrices (..., Q, Q); inf where one is singular."""
    scale = np.sqrt(np.diagonal(F, axis1=-2, axis2=-1))
    positive = (scale > 0).all(axis=-1) & np.isfinite(scale).all(axis=-1)
    scale = np.where(positive[..., None], scale, 1.0)
    product = scale[..., :, None] * scale[..., None, :]
    identity = np.eye(F.shape[-1])
    correlation = np.where(positive[..., None, None], F / product, identity)
    regular = positive & (np.linalg.det(correlation) > SINGULAR)
    out = np.linalg.inv(np.where(regular[..., None, None], correlation, identity)) / product
    regular &= (np.diagonal(out, axis1=-2, axis2=-1) > 0).all(axis=-1)
    return np.where(regular[..., None, None], out, np.inf)


def covariance_with_known(F: np.ndarray, q: int, variance: np.ndarray) -> np.ndarray:
    """Covariance of all parameters when one of them is known from elsewhere.

    With parameter q known with variance v, the covariance of the others, a, is
    ``F_aa^-1 + s s' v``, where ``s = da/dq = -F_aa^-1 F_aq`` is their change with q.

    Parameters
    ----------
    F : array, shape (..., Q, Q)
        Fisher information of the voxel's data.
    q : int
        Index of the known parameter.
    variance : array, shape (...)
        Its variance given everything, the voxel's data included.

    Returns
    -------
    C : array, shape (..., Q, Q)
        Not finite where the others are not identifiable.
    """
    Q = F.shape[-1]
    others = [i for i in range(Q) if i != q]
    conditional = inverse(F[..., others, :][..., others])
    follow = np.zeros((*F.shape[:-2], Q))
    follow[..., q] = 1.0
    with np.errstate(invalid="ignore"):
        follow[..., others] = -(conditional @ F[..., others, q][..., None])[..., 0]
        C = follow[..., :, None] * follow[..., None, :] * np.asarray(variance)[..., None, None]
        for i, row in enumerate(others):
            for j, column in enumerate(others):
                C[..., row, column] += conditional[..., i, j]
    return C


def gram(J: np.ndarray) -> np.ndarray:
    """``J' J`` of Jacobians (..., N, Q)."""
    return np.swapaxes(J, -1, -2) @ J
