"""What another signal model, or another setting of the same one, makes of some of the voxels.

Warnings that a model misses something name by this what to try, and how much it matters.
"""

from __future__ import annotations

import numpy as np

from relaxnet.fitting.inputs import Measurement
from relaxnet.fitting.result import CONVERGED, Fit
from relaxnet.fitting.voxelwise import fit_voxelwise
from relaxnet.prediction.inspection import Inspected
from relaxsim.models.registry import model_of
from relaxsim.models.signal_model import SignalModel

#: Voxels that are fitted.
VOXELS = 300
#: Another setting is named if its residuals are less than this part of those of the one taken.
MUCH_LESS = 0.8


def with_sequence(found: Inspected, sequence: str) -> str:
    """Sentence part: how the main parameter of some voxels differs with another signal model.

    Parameters
    ----------
    found : Inspected
    sequence : str
        Of the other model; its first column is that of the series, the others have defaults.
    """
    model, table = model_of(sequence), found.series.protocol
    others = [np.full(len(table), column.default) for column in model.border.columns[1:]]
    try:
        own = _fit(found, found.model, table)
        other = _fit(found, model, np.column_stack([table[:, 0], *others]))
    except ValueError:  # too few images, or times that are none of that model's
        return f"; `sequence` {sequence} models them"
    sound = (own.status == CONVERGED) & (other.status == CONVERGED)
    if not sound.any():
        return f"; `sequence` {sequence} models them"
    change = 100 * (np.median(other.kappa[sound, -1] / own.kappa[sound, -1]) - 1)
    way = "shorter" if change < 0 else "longer"
    return (
        f"; `sequence` {sequence} models them: {found.model.main_label} is {abs(change):.0f} % "
        f"{way} there (median of {int(sound.sum())} voxels)"
    )


def with_other_names(found: Inspected) -> str:
    """Sentence part: which other name of a column that holds names leaves much smaller residuals.

    Empty if none does, or the model has no such column.
    """
    table = found.series.protocol
    if table.ndim > 2:
        return ""
    for d, column in enumerate(found.model.border.columns):
        if not column.names:
            continue
        residuals = {}
        for n, name in enumerate(column.names):
            other = table.copy()
            other[:, d] = n
            residuals[name] = float(np.median(_fit(found, found.model, other).residual))
        taken = float(np.median(_fit(found, found.model, table).residual))
        best = min(residuals, key=lambda name: residuals[name])
        if residuals[best] < MUCH_LESS * taken:
            return (
                f". With `{column.option}` {best} they are {residuals[best] / taken:.2g} times "
                "these: give it if the scan may have had that"
            )
    return ""


def _fit(found: Inspected, model: SignalModel, table: np.ndarray) -> Fit:
    """Voxel-wise fit of some voxels, evenly spaced."""
    voxels = np.nonzero(found.counted & found.inside)
    index = tuple(v[:: -(-len(voxels[0]) // VOXELS)] for v in voxels)
    known = None if found.series.known is None else found.series.known[index]
    known = known if model is found.model else None
    S = found.series.S[index]
    return fit_voxelwise(
        Measurement(S, table, model, found.typical_sigma, signed=found.noise.signed, known=known)
    )
