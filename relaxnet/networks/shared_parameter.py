"""What a voxel's neighbourhood says of B, which varies slowly in space.

A voxel alone tells B from T poorly; hundreds of voxels that share a B tell it well. For each voxel
one Newton step leads towards the maximum-likelihood value of a B common to its neighbourhood, in
which every voxel keeps an A and a T of its own: with A and T eliminated, voxel v has the profile
gradient g_v and the profile information i_v in B, and

``B_common = (sum_v w_v i_v B_v - sum_v w_v g_v) / sum_v w_v i_v``

where w falls linearly from 1 at the voxel to 0 beyond `REACH` along each axis, times what the
voxel counts: noise alone tells of a B as well, of a wrong one, and a slice has much air; so does a
voxel of two tissues, which no single T explains.

With a short repetition time B follows T1, and neighbours of different tissue do not share it. By
how much the B of a neighbourhood vary about B_common, beyond what their noise explains, is

``t = max(0, sum_v w_v (i'_v (B*_v - B_common,v)^2 - 1)) / sum_v w_v i'_v``

with B*_v the voxel's own fit, its information i'_v less where no kappa explains it (the estimate
of DerSimonian and Laird 1986, Controlled Clinical Trials 7:177, about a mean that varies in space).
The step leads to what is then most likely, ``(B_common + t i_v B*_v) / (1 + t i_v)``: B_common
where neighbours agree, the voxel's own B where they differ more than that is uncertain. A network
sees this and may take the step (`relaxnet.networks.rim`).
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from relaxnet.networks.small_matrices import asinh, eliminate, solve
from relaxsim.models.signal_model import SignalModel

#: The parameter that neighbours share.
SHARED = "B"
#: Voxels on each side that count.
REACH = 24
#: Information with which a voxel's other parameters are held to their present values: that of a
#: standard deviation of 0.45 in the logarithm. Where the times hardly tell B from T (times that end
#: below T1) the two may not wander far together; elsewhere it is nothing beside the data.
_HELD = 5.0
#: Beside it, relative to the data's own information, against rounding.
_ROUNDING = 1e-5
#: Added to what divides.
_LEAST = 1e-3
#: An own B farther than this from the common one counts as that far in a neighbourhood's spread.
_FARTHEST = 1.0


def reach(model: SignalModel) -> int:
    """Voxels on each side that a step depends on: a window, and those of the voxels in it."""
    return 2 * REACH if SHARED in model.parameters else 0


def num_channels(model: SignalModel) -> int:
    """Channels of `features_and_step`: 0 for a model without a shared parameter."""
    return 2 + model.num_parameters if SHARED in model.parameters else 0


def features_and_step(
    u: Any,
    gradient: list[Any],
    information: list[list[Any]],
    counts: Any,
    model: SignalModel,
) -> tuple[list[Any], list[Any]]:
    """What the network sees of its neighbourhood, and the step of a fit with B_common.

    Parameters
    ----------
    u : tensor, shape (b, h, w, Q)
        The estimate in scaled coordinates.
    gradient : list of tensors, shape (b, h, w)
        Of the negative log-likelihood with respect to u.
    information : list of lists of tensors, shape (b, h, w)
        Fisher information with respect to u.
    counts : tensor, shape (b, h, w)
        What a voxel counts, from 0 to 1.
    model : SignalModel

    Returns
    -------
    channels : list of tensors, shape (b, h, w)
        Of order one: how far B_common is from B; the logarithm of what the neighbourhood knows of
        B; by how many standard deviations the voxel's own B is off B_common; and the Newton step of
        each other parameter with B moved as `step` moves it.
    step : list of Q tensors, shape (b, h, w)
        Of u: towards B_common as far as neighbours share it, and those steps.
    """
    shared = model.parameters.index(SHARED)
    order = [*(q for q in range(model.num_parameters) if q != shared), shared]
    d = [tf.sqrt(tf.maximum(information[q][q], 0.0)) + _LEAST for q in order]
    g = [gradient[q] / scale for q, scale in zip(order, d, strict=True)]
    F = [[information[q][r] for r in order] for q in order]
    C = [[x / (d[i] * d[j]) for j, x in enumerate(row)] for i, row in enumerate(F)]
    for i, scale in enumerate(d[:-1]):
        C[i][i] = C[i][i] + _ROUNDING + _HELD / scale**2
    profile = _profile(C, g, d)
    known, to_common, off, moved = _common(u[..., shared], *profile, counts, model.start[shared])
    steps = _steps_beside(C, g, d, moved)
    seen = [asinh(10.0 * to_common), 0.3 * tf.math.log(known + 1.0), asinh(off)]
    step = [*steps[:shared], moved, *steps[shared:]]
    return [*seen, *(asinh(2.0 * x) for x in steps)], step


def _profile(C: list[list[Any]], g: list[Any], d: list[Any]) -> tuple[Any, Any]:
    """Gradient and information in the last parameter with the others eliminated."""
    rows, right = eliminate(C, g)
    # Rounding may take a little more than there is.
    return d[-1] * right[-1], d[-1] ** 2 * tf.maximum(rows[-1][-1], 0.0)


def _common(
    B: Any, gradient: Any, information: Any, counts: Any, start: Any
) -> tuple[Any, Any, Any, Any]:
    """Information of the neighbourhood, step to B_common, the own step's distance from it, step.

    B_common is `start` where nothing is known.
    """
    pull = counts * (information * (B - start) - gradient)
    known, pull = window_sums([_finite(counts * information), _finite(pull)])
    to_common = pull / (known + 1.0) + start - B
    own = -gradient / (information + _LEAST)
    variance = _variance(own - to_common, information, counts)
    trust = variance * information / (1.0 + variance * information)
    step = to_common + trust * (own - to_common)
    return known, to_common, (own - to_common) * tf.sqrt(information), step


def _variance(apart: Any, information: Any, counts: Any) -> Any:
    """Variance of B among neighbours, beyond what is uncertain of each; `apart` from B_common."""
    apart = tf.clip_by_value(apart, -_FARTHEST, _FARTHEST)
    certain = counts * information
    excess, known = window_sums(
        [_finite(counts * (certain * apart**2 - 1.0)), _finite(counts * certain)]
    )
    return tf.nn.relu(excess) / (known + 1.0)


def _steps_beside(C: list[list[Any]], g: list[Any], d: list[Any], moved: Any) -> list[Any]:
    """Newton steps of all parameters but the last, which has moved."""
    others = range(len(g) - 1)
    inner = [row[:-1] for row in C[:-1]]
    right = [-(g[i] + C[i][-1] * d[-1] * moved) for i in others]
    return [x / d[i] for i, x in zip(others, solve(inner, right), strict=True)]


def _finite(image: Any) -> Any:
    """The image with 0 where it is not finite, which would spread over the whole slice."""
    return tf.where(tf.math.is_finite(image), image, 0.0)


def window_sums(images: list[Any]) -> list[Any]:
    """Weighted sums over each voxel's neighbourhood.

    Parameters
    ----------
    images : list of tensors, shape (b, h, w)

    Returns
    -------
    sums : list of tensors, shape (b, h, w)
    """
    stacked = tf.stack(images, axis=1)
    rows, columns = (_weights(tf.shape(stacked)[axis]) for axis in (-2, -1))
    return tf.unstack(tf.matmul(tf.matmul(rows, stacked), columns), axis=1)


def _weights(size: Any) -> tf.Tensor:
    """Banded matrix of the weights along one axis, shape (size, size)."""
    position = tf.range(tf.cast(size, tf.float32))
    distance = tf.abs(position[:, None] - position[None, :])
    return tf.nn.relu(1.0 - distance / (REACH + 1.0))
