"""The scale of a protocol: what a list of times, or of angles, alone makes large or small.

A signal model depends on times relative to each other. In logarithmic coordinates a protocol whose
times are twice as long therefore only adds log 2 to those of relaxation times. A network that sees
these less the logarithm of the protocol's longest time serves 1 ms and 500 ms alike. In the same
way the amplitude of a weak model (`relaxsim.models.signal_model.SignalModel.weak`) is that of the
images divided by a number that the protocol gives.
"""

from __future__ import annotations

from typing import Any

from relaxnet.networks.frameworks import tf
from relaxnet.networks.parametrization import SECOND
from relaxsim.models.signal_model import SignalModel

#: How a network sees relaxation times.
TIMES = ("absolute", "relative")
#: Relaxation times start at this part of the protocol's longest time.
_START = 0.5


def longest_time(protocol: Any, model: SignalModel) -> Any:
    """Longest time of a protocol (..., N, D) in ms, shape (...)."""
    columns = [d for d, column in enumerate(model.columns) if column.unit == "ms"]
    times = tf.stack([protocol[..., d] for d in columns], axis=-1)
    return tf.maximum(tf.reduce_max(times, axis=(-2, -1)), 1e-3)


def start_times(kappa: Any, protocol: Any, model: SignalModel) -> Any:
    """Start values (..., Q) with relaxation times at a part of the longest time."""
    start = _START * longest_time(protocol, model)
    columns = tf.unstack(kappa, axis=-1)
    for q, unit in enumerate(model.units):
        if unit == "ms":
            columns[q] = tf.ones_like(columns[q]) * start
    return tf.stack(columns, axis=-1)


def offsets(protocol: Any, model: SignalModel, relative_times: bool) -> Any:
    """What the protocol adds to each logarithmic coordinate, shape (..., Q)."""
    amplitude = -tf.math.log(model.largest_signal(protocol, tf))
    time = tf.math.log(longest_time(protocol, model) / SECOND)
    zero = tf.zeros_like(time)
    of_unit = {"a.u.": amplitude, "ms": time if relative_times else zero}
    return tf.stack([of_unit.get(unit, zero) for unit in model.units], axis=-1)
