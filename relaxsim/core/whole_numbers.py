"""Whole numbers, such as labels, in files that hold floats."""

from __future__ import annotations

import numpy as np

#: Distance from a whole number that still counts as one: files may carry a slope, which rounds.
#: Labels 0 to 11 spread over 8 bits, as nibabel writes an array of floats, are up to 0.022 off.
WHOLE_TOLERANCE = 0.025


def is_whole(values: np.ndarray) -> np.ndarray:
    """Whether each of the floats is a whole number within `WHOLE_TOLERANCE`.

    Infinity is one, NaN is not.

    Examples
    --------
    >>> is_whole(np.array([3.0, 2.98, 2.9, np.nan])).tolist()
    [True, True, False, False]
    """
    with np.errstate(invalid="ignore"):  # infinity less infinity
        off = np.abs(values - np.rint(values))
    return (off <= WHOLE_TOLERANCE) | np.isinf(values)
