"""The parameter that neighbours share, such as B of inversion recovery: its common value.

The data of one voxel hardly separate the shared parameter p from T; the data of hundreds of voxels
with the same p do. For each voxel, one Newton step leads to the maximum-likelihood value of a p
that is common to its neighbourhood, while every voxel of the neighbourhood keeps its other
parameters. With these eliminated, voxel v has the profile gradient g_v and the profile information
i_v in p, and

``p_common = (sum_v w_v i_v p_v - sum_v w_v g_v) / sum_v w_v i_v``.

The weight w_v is the product of two factors. The first falls linearly from 1 at the voxel in the
centre to 0 beyond `REACH` along each axis. The second is the voxel's `weight` (0 to 1), which is
small in air, since a fit to noise gives a wrong p, and in a voxel of several tissues, which no
single T describes.

Neighbours do not always share p: with a short repetition time B of inversion recovery depends on
T1. The variance of p in a neighbourhood about p_common, beyond the variance that noise explains, is

``t = max(0, sum_v w_v (i'_v (p*_v - p_common,v)^2 - 1)) / sum_v w_v i'_v``,

where p*_v is the voxel-wise fit and i'_v its information times the voxel's weight (the estimate of
DerSimonian and Laird 1986, Controlled Clinical Trials 7:177, about a mean that varies in space).
The step leads to the most likely value given both, ``(p_common + t i_v p*_v) / (1 + t i_v)``: to
p_common where neighbours agree, to the voxel-wise fit where they differ by more than its
uncertainty. The common value, its information and the step are inputs of the network
(`relaxnet.networks.rim`), which chooses how much of the step it takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from relaxnet.networks.frameworks import tf
from relaxnet.networks.small_matrices import asinh, eliminate, solve
from relaxsim.models.signal_model import SignalModel

#: Voxels on each side in a neighbourhood.
REACH = 24
#: Information that keeps a voxel's other parameters near their present values: that of a standard
#: deviation of 0.45 in the logarithm. Where the protocol hardly separates p from T (times that end
#: below T1), the two cannot move far together; elsewhere the data have much more information.
_PRIOR_INFORMATION = 5.0
#: Added to the scaled information's unit diagonal, against rounding.
_ROUNDING = 1e-5
#: Added to divisors, in the coordinates of u.
_SMALLEST_DIVISOR = 1e-3
#: Larger differences of the voxel-wise fit from p_common count as this one in the variance.
_LARGEST_DIFFERENCE = 1.0
#: Information of the start value, which p_common is where the data have none.
_START_INFORMATION = 1.0
#: Factors that bring the channels to order one: of p_common - p, of a logarithm, of Newton steps.
_OF_DIFFERENCE, _OF_LOGARITHM, _OF_STEP = 10.0, 0.3, 2.0


@dataclass(frozen=True)
class _Common:
    """The shared parameter of a neighbourhood; tensors of shape (b, h, w).

    Attributes
    ----------
    information : tensor
        Of the neighbourhood.
    to_common : tensor
        p_common less the voxel's present p.
    deviation : tensor
        Voxel-wise fit less p_common, in standard deviations of the fit.
    step : tensor
        Of p, towards p_common as far as neighbours share p.
    """

    information: Any
    to_common: Any
    deviation: Any
    step: Any


def reach(model: SignalModel) -> int:
    """Voxels on each side that a step depends on: those of a window and of the windows in it."""
    return 0 if model.shared is None else 2 * REACH


def num_channels(model: SignalModel) -> int:
    """Channels of `features_and_step`: 0 for a model without a shared parameter."""
    return 0 if model.shared is None else 2 + model.num_parameters


def features_and_step(
    u: Any,
    gradient: list[Any],
    information: list[list[Any]],
    weight: Any,
    model: SignalModel,
) -> tuple[list[Any], list[Any]]:
    """Features of the neighbourhood, and the step of a fit with the common value.

    Parameters
    ----------
    u : tensor, shape (b, h, w, Q)
        The estimate in scaled coordinates.
    gradient : list of tensors, shape (b, h, w)
        Of the negative log-likelihood with respect to u.
    information : list of lists of tensors, shape (b, h, w)
        Fisher information with respect to u.
    weight : tensor, shape (b, h, w)
        Weight of a voxel among its neighbours, from 0 to 1.
    model : SignalModel
        With a shared parameter.

    Returns
    -------
    channels : list of tensors, shape (b, h, w)
        Of order one: the difference of p_common from p; the logarithm of the neighbourhood's
        information; the deviation of the voxel-wise fit from p_common in its standard deviations;
        and the Newton step of each other parameter after p has taken its step.
    step : list of Q tensors, shape (b, h, w)
        Of u: the step of p and those of the other parameters.
    """
    shared = model.shared_index
    if shared is None:
        raise ValueError(f"{model.name} has no parameter that neighbours share")
    order = [*(q for q in range(model.num_parameters) if q != shared), shared]
    d = [tf.sqrt(tf.maximum(information[q][q], 0.0)) + _SMALLEST_DIVISOR for q in order]
    g = [gradient[q] / scale for q, scale in zip(order, d, strict=True)]
    F = [[information[q][r] for r in order] for q in order]
    C = [[x / (d[i] * d[j]) for j, x in enumerate(row)] for i, row in enumerate(F)]
    for i, scale in enumerate(d[:-1]):
        C[i][i] = C[i][i] + _ROUNDING + _PRIOR_INFORMATION / scale**2
    profile = _profile(C, g, d)
    common = _common(u[..., shared], *profile, weight, model.start[shared])
    steps = _other_steps(C, g, d, common.step)
    channels = [
        asinh(_OF_DIFFERENCE * common.to_common),
        _OF_LOGARITHM * tf.math.log(common.information + _START_INFORMATION),
        asinh(common.deviation),
        *(asinh(_OF_STEP * x) for x in steps),
    ]
    return channels, [*steps[:shared], common.step, *steps[shared:]]


def _profile(C: list[list[Any]], g: list[Any], d: list[Any]) -> tuple[Any, Any]:
    """Gradient and information in the last parameter with the others eliminated."""
    rows, right = eliminate(C, g)
    # Rounding may leave a little less than 0.
    return d[-1] * right[-1], d[-1] ** 2 * tf.maximum(rows[-1][-1], 0.0)


def _common(p: Any, gradient: Any, information: Any, weight: Any, start: Any) -> _Common:
    """Common value of the shared parameter p, given its profile gradient and information.

    p_common is `start` where there is no information.
    """
    pull = weight * (information * (p - start) - gradient)
    total, pull = window_sums([_finite(weight * information), _finite(pull)])
    to_common = pull / (total + _START_INFORMATION) + start - p
    to_fit = -gradient / (information + _SMALLEST_DIVISOR)
    variance = _variance(to_fit - to_common, information, weight)
    share_of_fit = variance * information / (1.0 + variance * information)
    return _Common(
        information=total,
        to_common=to_common,
        deviation=(to_fit - to_common) * tf.sqrt(information),
        step=to_common + share_of_fit * (to_fit - to_common),
    )


def _variance(difference: Any, information: Any, weight: Any) -> Any:
    """Variance of p among neighbours beyond their uncertainty.

    `difference` is that of the voxel-wise fit from p_common.
    """
    difference = tf.clip_by_value(difference, -_LARGEST_DIFFERENCE, _LARGEST_DIFFERENCE)
    weighted = weight * information
    excess, total = window_sums(
        [_finite(weight * (weighted * difference**2 - 1.0)), _finite(weight * weighted)]
    )
    return tf.nn.relu(excess) / (total + _START_INFORMATION)


def _other_steps(C: list[list[Any]], g: list[Any], d: list[Any], step: Any) -> list[Any]:
    """Newton steps of all parameters but the last one, after the last one has taken its `step`."""
    others = range(len(g) - 1)
    inner = [row[:-1] for row in C[:-1]]
    right = [-(g[i] + C[i][-1] * d[-1] * step) for i in others]
    return [x / d[i] for i, x in zip(others, solve(inner, right), strict=True)]


def _finite(image: Any) -> Any:
    """The image with 0 where it is not finite; such a voxel would spoil the sums of all others."""
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
    rows, columns = (_window_weights(tf.shape(stacked)[axis]) for axis in (-2, -1))
    return tf.unstack(tf.matmul(tf.matmul(rows, stacked), columns), axis=1)


def _window_weights(size: Any) -> tf.Tensor:
    """Banded matrix of the weights along one axis, shape (size, size)."""
    position = tf.range(tf.cast(size, tf.float32))
    distance = tf.abs(position[:, None] - position[None, :])
    return tf.nn.relu(1.0 - distance / (REACH + 1.0))
