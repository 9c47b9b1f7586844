"""Voxel-wise maximum-likelihood fit of a signal model, vectorised over voxels.

For independent Gaussian noise the estimate is that of least squares,

    kappa_hat = argmin over kappa within its bounds of  sum_n (S_n - f_n(kappa))^2,

and does not depend on sigma. Models with a separable form are fitted by variable projection, which
finds the global minimum (`relaxnet.fitting.separable`); models without one, and those with known
maps, by a grid search and descents from its best points (`relaxnet.fitting.general`).

For magnitude images of low signal-to-noise ratio there is the Rician likelihood. Its minimum is
refined from Gaussian ones (`relaxnet.fitting.rician_fit`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from relaxnet.fitting.crlb import fisher_information, gram, std_of_free
from relaxnet.fitting.fit_form import in_own_parameters
from relaxnet.fitting.general import descend_from_grid, make_general
from relaxnet.fitting.grid_search import make_grid
from relaxnet.fitting.inputs import Measurement, VoxelTable, fit_bounds, voxel_table
from relaxnet.fitting.nonlinear import NonlinearProblem, nonlinear_minimum, suits
from relaxnet.fitting.options import VOXELWISE, FitOptions
from relaxnet.fitting.parallel import in_chunks
from relaxnet.fitting.refine import global_minimum
from relaxnet.fitting.result import (
    AT_BOUND,
    CONVERGED,
    NO_SIGNAL,
    Fit,
    at_bound,
    pooled_sigma,
    signal_status,
    with_identifiability,
)
from relaxnet.fitting.rician import without_floor
from relaxnet.fitting.rician_fit import RicianVoxels, least_of_descents
from relaxnet.fitting.separable import make_problem
from relaxsim.models.signal_model import SignalModel

#: Of some voxels: kappa (n, Q), its standard deviations (n, Q), residual (n,) and status (n,).
Estimates = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
Progress = Callable[[int], object]


@dataclass(frozen=True)
class SliceFit:
    """How voxels of one protocol are fitted.

    Attributes
    ----------
    model : SignalModel
    protocol : array, shape (N, D)
    order : int array, shape (N,)
        Indices of the images in the order of `protocol`.
    bounds : array, shape (Q, 2)
    least_squares : callable
        ``least_squares(S, known)``: least sum of squares (n,) and its kappa (n, Q) of samples
        (n, N) relative to the voxel's maximum, and known maps (n, K) or None.
    """

    model: SignalModel
    protocol: np.ndarray
    order: np.ndarray
    bounds: np.ndarray
    least_squares: Callable[[np.ndarray, np.ndarray | None], tuple[np.ndarray, np.ndarray]]

    @property
    def free(self) -> np.ndarray:
        """Whether each parameter is fitted and not fixed by equal bounds, shape (Q,)."""
        return self.bounds[:, 1] > self.bounds[:, 0]

    @property
    def dof(self) -> int:
        """Degrees of freedom of the residuals, at least 1."""
        return max(len(self.protocol) - int(self.free.sum()), 1)

    def unit(self, scale: np.ndarray) -> np.ndarray:
        """Unit of each parameter, shape (n, Q): `scale` (n,) of amplitudes, else 1."""
        return np.where(np.array(self.model.units) == "a.u.", scale[:, None], 1.0)


def fit_voxelwise(
    measurement: Measurement, options: FitOptions = VOXELWISE, progress: Progress | None = None
) -> Fit:
    """Maximum-likelihood estimate of each voxel within the bounds.

    Parameters
    ----------
    measurement : Measurement
        Sigma is used for the standard deviations and the Rician likelihood. Negative samples count
        as 0 under the latter.
    options : FitOptions
        Of which this fit uses `bounds`, those of `SignalModel.fitted`, and `likelihood`.
    progress : callable, optional
        Called with the number of voxels done since the last call.

    Returns
    -------
    fit : Fit

    Raises
    ------
    ValueError
        For a measurement that no fit can use (`relaxnet.fitting.inputs.voxel_table`), bounds that
        are none, or signed data with the Rician likelihood.

    Examples
    --------
    >>> from relaxsim.models.inversion_recovery import MODEL as model
    >>> tau = np.array([50.0, 400.0, 1100.0, 2500.0])
    >>> S = model.forward(np.array([3.0, 1.9, 1000.0]), tau)
    >>> fit_voxelwise(Measurement(S, tau, model)).kappa.round(2).tolist()
    [3.0, 1.899999976158142, 1000.0]
    """
    bounds = fit_bounds(measurement.model.fitted, options.bounds)
    form = measurement.model.fit_form
    if form is not None:
        inner = fit_voxelwise(replace(measurement, model=form.model), options, progress)
        likelihood = "rician" if options.is_rician else "gaussian"
        return in_own_parameters(measurement, form, inner, bounds, likelihood)
    table = voxel_table(measurement, int((bounds[:, 1] > bounds[:, 0]).sum()))
    if options.is_rician and measurement.signed:
        raise ValueError("the Rician likelihood is one of magnitudes; these data are signed.")
    modulus = measurement.model.magnitude and not measurement.signed
    slices = [
        (slice_fit(measurement.model, protocol, bounds, modulus), voxels)
        for protocol, voxels in table.slices
    ]
    fit = _gaussian_fit(table, slices, None if options.is_rician else progress)
    sigma = table.sigma
    if sigma is None:
        free = int((bounds[:, 1] > bounds[:, 0]).sum())
        level = pooled_sigma(fit.residual, fit.status, table.S.shape[1] - free)
        sigma = np.full(len(table.S), level)
    if options.is_rician:
        fit = _rician_fit(table, slices, fit, sigma, progress)
        std = fit.std
    else:
        with np.errstate(invalid="ignore", over="ignore"):
            std = (fit.std * sigma[:, None]).astype(np.float32)
    std, status = with_identifiability(std, fit.status, bounds[-1, 1] - bounds[-1, 0])
    maps = fit.kappa, std, fit.residual, status
    return Fit(*(values.reshape(table.shape + values.shape[1:]) for values in maps))


def slice_fit(
    model: SignalModel, protocol: np.ndarray, bounds: np.ndarray, modulus: bool
) -> SliceFit:
    """Fit of a protocol (N, D): by variable projection where the model allows it.

    Variable projection takes no known maps, and moduli only if the protocol has one column, along
    which the signal changes sign once.

    Parameters
    ----------
    model : SignalModel
    protocol : array, shape (N, D)
    bounds : array, shape (Q, 2)
    modulus : bool
        Whether the data are moduli of a signal that changes sign.
    """
    if suits(model):
        nonlinear = NonlinearProblem(model, protocol, bounds)
        return SliceFit(
            model,
            protocol,
            np.arange(len(protocol)),
            bounds,
            lambda S, known: nonlinear_minimum(nonlinear, S),
        )
    is_ordered = not modulus or len(model.columns) == 1
    if model.separable is None or model.known_maps or not is_ordered:
        general = make_general(model, protocol, bounds, modulus)
        order = np.arange(len(protocol))
        return SliceFit(
            model, protocol, order, bounds, lambda S, known: descend_from_grid(general, S, known)
        )
    problem, order = make_problem(protocol, model, bounds, modulus)
    grid = make_grid(problem)
    return SliceFit(
        model,
        problem.protocol,
        order,
        bounds,
        lambda S, known: global_minimum(problem, grid, S),
    )


def _gaussian_fit(
    table: VoxelTable, slices: list[tuple[SliceFit, np.ndarray]], progress: Progress | None
) -> Fit:
    """Fit of least squares of all voxels (V,); standard deviations are those of sigma = 1."""
    V, Q = len(table.S), slices[0][0].model.num_parameters
    kappa, std = np.zeros((2, V, Q), np.float32)
    residual, status = np.zeros(V, np.float32), np.full(V, NO_SIGNAL, np.uint8)

    for fit, voxels in slices:

        def work(chunk: np.ndarray, fit: SliceFit = fit) -> None:
            known = None if table.known is None else table.known[chunk]
            samples = table.S[chunk][:, fit.order].astype(np.float64)
            status[chunk] = signal_status(samples, known)
            good = status[chunk] == CONVERGED
            if good.any():
                rows = chunk[good]
                found = _least_squares(fit, samples[good], None if known is None else known[good])
                with np.errstate(over="ignore"):  # beyond float32 a deviation is infinite
                    kappa[rows], std[rows], residual[rows], status[rows] = found

        in_chunks(work, voxels, table.S.shape[1], progress)
    return Fit(kappa, std, residual, status)


def _rician_fit(
    table: VoxelTable,
    slices: list[tuple[SliceFit, np.ndarray]],
    gaussian: Fit,
    sigma: np.ndarray,
    progress: Progress | None,
) -> Fit:
    """Fit under the Rician likelihood of the voxels (V,) that a Gaussian fit could fit."""
    if not (sigma > 0).any():
        raise ValueError("the residuals hold no noise; the Rician likelihood needs a `sigma`.")
    kappa, std = gaussian.kappa.copy(), gaussian.std.copy()
    residual, status = gaussian.residual.copy(), gaussian.status.copy()

    for fit, voxels in slices:

        def work(chunk: np.ndarray, fit: SliceFit = fit) -> None:
            known = None if table.known is None else table.known[chunk]
            samples = table.S[chunk][:, fit.order].astype(np.float64)
            noisy = RicianVoxels(samples, sigma[chunk], fit.model, fit.protocol, known)
            found = _rician(fit, noisy, gaussian.kappa[chunk])
            with np.errstate(over="ignore"):
                kappa[chunk], std[chunk], residual[chunk], status[chunk] = found

        fitted = voxels[gaussian.status[voxels] < NO_SIGNAL]
        in_chunks(work, fitted, table.S.shape[1], progress)
    return Fit(kappa, std, residual, status)


def _least_squares(fit: SliceFit, S: np.ndarray, known: np.ndarray | None) -> Estimates:
    """Estimates of finite, non-zero voxels, with standard deviations for sigma = 1."""
    scale = np.abs(S).max(axis=1)
    cost, kappa = fit.least_squares(S / scale[:, None], known)
    J = fit.model.signed_jacobian(kappa, fit.protocol, np, known)
    std = std_of_free(gram(J), fit.free) / scale[:, None]
    status = np.where(at_bound(kappa, fit.bounds), AT_BOUND, CONVERGED)
    unit = fit.unit(scale)
    return kappa * unit, std * unit, np.sqrt(cost / fit.dof) * scale, status


def _rician(fit: SliceFit, voxels: RicianVoxels, kappa: np.ndarray) -> Estimates:
    """Estimates under the Rician likelihood, from the kappa of least squares.

    There are two starts: those least squares, and the least squares of samples freed of the noise
    floor.
    """
    scale = np.abs(voxels.S).max(axis=1)
    S, sigma, unit = voxels.S / scale[:, None], voxels.sigma / scale, fit.unit(scale)
    model, protocol, known = voxels.model, voxels.protocol, voxels.known
    starts = [kappa.astype(np.float64) / unit, fit.least_squares(without_floor(S, sigma), known)[1]]
    bounds = np.broadcast_to(fit.bounds, (len(S), *fit.bounds.shape))
    relative = RicianVoxels(S, sigma, model, protocol, known)
    _, kappa = least_of_descents(relative, starts, bounds)
    information = fisher_information(kappa, protocol, sigma, model, "rician", known)
    std = std_of_free(information, fit.free)
    status = np.where(at_bound(kappa, fit.bounds), AT_BOUND, CONVERGED)
    difference = S - np.abs(model.signed(kappa, protocol, np, known))
    residual = np.sqrt((difference**2).sum(axis=1) / fit.dof) * scale
    return kappa * unit, std * unit, residual, status
