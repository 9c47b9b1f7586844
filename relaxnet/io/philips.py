"""Philips images in display values: brought to one scale by what their sidecars state.

Philips scales each image on its own. Stored values PV become display values ``DV = PV RS + RI``
and floating-point values ``FP = DV / (RS SS)``, with the rescale slope RS, the rescale intercept RI
and the scale slope SS; only FP of several images can be compared. dcm2niix writes FP unless it is
asked for DV (``-p n``), and says so: ``UsePhilipsFloatNotDisplayScaling``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from relaxnet.io.bids_names import BidsError, Sidecar
from relaxnet.io.bids_repetition import number

_RESCALE, _SCALE = "PhilipsRescaleSlope", "PhilipsScaleSlope"
_IS_FLOAT = "UsePhilipsFloatNotDisplayScaling"
#: Relative difference up to which scales are the same.
_SAME = 1e-4


def philips_scaling(
    sidecars: Sequence[Sidecar],
) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """Factor of each image that brings display values to the scale of the first image, and a note.

    Parameters
    ----------
    sidecars : sequence of Sidecar
        In the order of the images.

    Returns
    -------
    scaling : tuple of float
        Empty if the images are on one scale, or nothing is said of it.
    notes : tuple of str

    Raises
    ------
    BidsError
        If the scales differ, but some images are in display values and others are not, or a slope
        is missing or is no positive number.
    """
    if len(sidecars) < 2:
        return (), ()
    floats = [_is_float(card) for card in sidecars]
    if 0 not in floats:
        return (), ()
    scales = [_scale(card) for card in sidecars]
    if len(set(floats)) > 1:
        raise BidsError(
            f"{_IS_FLOAT} is 0 in some sidecars and not in others: the images are on different "
            "scales. Convert all of them by dcm2niix -p y."
        )
    if all(math.isclose(scale, scales[0], rel_tol=_SAME) for scale in scales):
        return (), ()
    factors = tuple(scales[0] / scale for scale in scales)
    low, high = min(factors), max(factors)
    return factors, (
        f"display values of Philips ({_IS_FLOAT} 0): the images are divided by {_RESCALE} x "
        f"{_SCALE} of their sidecars, relative to the first (factors {low:.4g} to {high:.4g})",
    )


def _is_float(card: Sidecar) -> float | None:
    """1 for floating-point values, 0 for display values, None where the sidecar does not say."""
    value = card.fields.get(_IS_FLOAT)
    return float(value) if isinstance(value, bool) else number(value)


def _scale(card: Sidecar) -> float:
    """RS x SS of an image."""
    product = 1.0
    for key in (_RESCALE, _SCALE):
        value = number(card.fields.get(key))
        if value is None or not value > 0:
            raise BidsError(
                f"{card.name}: {_IS_FLOAT} is 0, but {key} is "
                f"{card.fields.get(key, 'missing')!r}; expected a positive number. Convert by "
                "dcm2niix -p y."
            )
        product *= value
    return product
