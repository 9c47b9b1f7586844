"""Coordinates: the scaled parameters u in which networks update and compare kappa.

Times are scaled to seconds, and a main parameter of another unit by its start value. ``linear``
(paper recipe) leaves it at that. ``log`` (default) takes the logarithm of amplitudes, of times and
of the main parameter: these then stay positive by construction, and a difference in u is a relative
error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from relaxnet.networks.frameworks import keras, tf
from relaxsim.models.signal_model import SignalModel

COORDINATES = ("linear", "log")
#: ms; the unit of times in u is the second.
SECOND = 1000.0
#: Smallest value of which a logarithm is taken: of amplitudes as a share of the series' scale, of
#: other parameters of their scale (1 ms of a time).
SMALLEST = 1e-3
#: Largest value of a time or main parameter in units of its scale (20 s of a time); beyond, its
#: exponentials would overflow.
LARGEST = 20.0
#: Range of logarithms, so that their exponentials are finite.
LOG_RANGE = (-10.0, 10.0)


@dataclass(frozen=True)
class Coordinate:
    """How one parameter is scaled.

    Attributes
    ----------
    scale : float
        Its value in kappa is this times that in u.
    logarithmic : bool
        u holds the logarithm of the scaled value.
    limited : bool
        The scaled value is kept within `least` and `LARGEST`.
    least : float
        `SMALLEST`, or the parameter's lower bound if that is less.
    """

    scale: float
    logarithmic: bool
    limited: bool
    least: float = SMALLEST


def coordinates_of(model: SignalModel, coordinates: str) -> list[Coordinate]:
    """Coordinate of each parameter of a model."""
    of_parameters = []
    for parameter in model.parameter_table:
        is_main = parameter.name == model.main
        is_time = parameter.unit == "ms"
        scale = SECOND if is_time else (is_main and parameter.start) or 1.0
        limited = is_time or is_main
        logarithmic = coordinates == "log" and (limited or parameter.unit == "a.u.")
        least = min(SMALLEST, parameter.bounds[0] / scale) if limited else SMALLEST
        of_parameters.append(Coordinate(scale, logarithmic, limited, least))
    return of_parameters


def from_kappa(kappa: Any, model: SignalModel, coordinates: str) -> tf.Tensor:
    """U of kappa, shape (..., Q); amplitudes in units of the series' scale."""
    columns = tf.unstack(kappa, axis=-1)
    for q, coordinate in enumerate(coordinates_of(model, coordinates)):
        if coordinate.scale != 1.0:
            columns[q] = columns[q] / coordinate.scale
        if coordinate.logarithmic:
            columns[q] = tf.math.log(tf.maximum(columns[q], coordinate.least))
    return tf.stack(columns, axis=-1)


def to_kappa(u: Any, model: SignalModel, coordinates: str) -> tf.Tensor:
    """Kappa of u, shape (..., Q)."""
    columns = tf.unstack(u, axis=-1)
    for q, coordinate in enumerate(coordinates_of(model, coordinates)):
        if coordinate.logarithmic:
            columns[q] = tf.exp(tf.clip_by_value(columns[q], *LOG_RANGE))
        if coordinate.limited:
            columns[q] = coordinate.scale * tf.clip_by_value(columns[q], coordinate.least, LARGEST)
    return tf.stack(columns, axis=-1)


def derivative(kappa: Any, model: SignalModel, coordinates: str) -> tf.Tensor:
    """Diagonal of d kappa / d u at kappa, shape (..., Q)."""
    columns = tf.unstack(kappa, axis=-1)
    for q, coordinate in enumerate(coordinates_of(model, coordinates)):
        if not coordinate.logarithmic:
            columns[q] = keras.ops.full_like(columns[q], coordinate.scale)
    return tf.stack(columns, axis=-1)
