"""A fit in other parameters of the same signal, and its result in the model's own.

A model that is not linear in its parameters may be so in others
(`relaxsim.models.signal_model.FitForm`): T1 of a Look-Locker readout is T1* (B - 1), and the signal
is linear for given T1*. The least sum of squares is that of either.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from relaxnet.fitting.crlb import fisher_information, std_of_free
from relaxnet.fitting.inputs import Measurement, voxel_table
from relaxnet.fitting.result import (
    NO_SIGNAL,
    NOT_IDENTIFIABLE,
    Fit,
    pooled_sigma,
    with_identifiability,
)
from relaxsim.models.signal_model import FitForm, SignalModel


def in_own_parameters(
    measurement: Measurement, form: FitForm, found: Fit, bounds: np.ndarray, likelihood: str
) -> Fit:
    """The result of a fit of `form.model`, in the parameters of the measurement's model.

    Parameters
    ----------
    measurement : Measurement
    form : FitForm
        Of its model.
    found : Fit
        Of the same measurement with `form.model`.
    bounds : array, shape (Q, 2)
        Of that fit; equal ones fixed a parameter.
    likelihood : str
        ``gaussian`` or ``rician``.

    Returns
    -------
    fit : Fit
        Standard deviations are the Cramér-Rao bounds of the model's own parameters.
    """
    model: SignalModel = measurement.model
    free = bounds[:, 1] > bounds[:, 0]
    table = voxel_table(measurement, int(free.sum()))
    status = found.status.reshape(-1)
    inner = found.kappa.reshape(len(status), -1)
    kappa, std = np.zeros_like(inner), np.zeros_like(inner)
    sigma = table.sigma
    if sigma is None:
        dof = table.S.shape[1] - int(free.sum())
        sigma = np.full(len(status), pooled_sigma(found.residual.reshape(-1), status, dof))
    for protocol, voxels in table.slices:
        rows = voxels[status[voxels] < NO_SIGNAL]
        if not len(rows):
            continue
        known = None if table.known is None else table.known[rows]
        own = form.to_kappa(inner[rows].astype(np.float64))
        noise = np.maximum(sigma[rows], np.finfo(np.float32).tiny)
        information = fisher_information(own, protocol, noise, model, likelihood, known)
        with np.errstate(over="ignore"):
            kappa[rows], std[rows] = own, std_of_free(information, free)
    std[status == NOT_IDENTIFIABLE] = np.inf
    width = float(np.ptp(model.bounds[-1]))
    std, status = with_identifiability(std, status, width)
    shape = found.status.shape
    return replace(
        found,
        kappa=kappa.reshape(*shape, -1),
        std=std.reshape(*shape, -1),
        status=status.reshape(shape),
    )
