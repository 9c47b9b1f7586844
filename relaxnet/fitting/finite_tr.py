"""Signal model of a repetition time: see `relaxsim.models.signal_model.FiniteTR`."""

from __future__ import annotations

import numpy as np

from relaxsim.models.finite_tr import apparent, apparent_jacobian
from relaxsim.models.signal_model import SignalModel

__all__ = ["apparent", "apparent_jacobian", "finite_tr_model"]


def finite_tr_model(model: SignalModel, tr: float) -> SignalModel:
    """Signal model with parameters that do not depend on the repetition time, in ms.

    Raises
    ------
    ValueError
        If the model knows no finite repetition time, or `tr` is not positive.
    """
    if model.finite_tr is None:
        raise ValueError(f"a repetition time does not go with {model.name}.")
    if not (np.isfinite(tr) and tr > 0):
        raise ValueError(f"the repetition time must be a positive number of ms, received {tr:g}.")
    return model.finite_tr.model(tr)
