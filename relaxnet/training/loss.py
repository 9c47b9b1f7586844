"""Losses of training, on scaled parameters u (`relaxnet.networks.parametrization`)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from relaxnet.networks.frameworks import tf
from relaxnet.training.settings import Settings

#: Root mean square error of a patch in u (a relative error of a logarithm) below which a smaller
#: one hardly lowers the loss.
LEAST_ERROR = 0.02
#: Width of a tissue in the last coordinate: the voxels of a patch whose true main parameter lies in
#: one such bin.
TISSUE_WIDTH = 0.35
#: Number of bins, which are used again beyond: values up to exp(24 x 0.35), a factor of 4000, apart
#: (T from 5 to 5000 ms) have bins of their own.
NUM_TISSUES = 24


def squared_loss(estimates: Sequence[Any], target: Any, weight: Any) -> tf.Tensor:
    """Eq. 6: squared error in scaled units, averaged over the steps and the voxels of weight 1."""
    weight = weight[..., None]
    total = tf.add_n([tf.reduce_sum(weight * (u - target) ** 2) for u in estimates])
    return total / (len(estimates) * (tf.reduce_sum(weight) + 1e-6))


def patch_loss(
    estimates: Sequence[Any], target: Any, weight: Any, bias_weight: float = 0.0
) -> tf.Tensor:
    """Root mean square error of each patch and parameter: geometric mean of these, mean over steps.

    Within a patch it is the squared error of Eq. 6. A relative decrease of a patch's error lowers
    the loss by the same amount in every patch. In an arithmetic mean the noisy patches, whose
    errors are ten times larger and can hardly be lowered, would outweigh the others. Errors far
    below `LEAST_ERROR` hardly change the loss.

    With `bias_weight` the mean error of each tissue (`tissue_bias`) is part of the loss. The
    estimate of least squared error is biased towards frequent values, so that the mean over a
    tissue, in which noise averages out, has an error.
    """
    weight = weight[..., None]
    count = tf.reduce_sum(weight, axis=(1, 2)) + 1e-6
    used = tf.cast(count[:, 0] > 1.0, tf.float32)[:, None]
    any_used = tf.reduce_max(used)
    number = target.shape[-1] * (tf.reduce_sum(used) + 1e-6)
    tissues = weight * tissues_of(target[..., -1]) if bias_weight else None
    total = 0.0
    for u in estimates:
        error = u - target
        square = tf.reduce_sum(weight * error**2, axis=(1, 2)) / count
        if tissues is not None:
            square += bias_weight * tissue_bias(error, tissues)
        logs = 0.5 * tf.math.log(square + LEAST_ERROR**2)
        total += any_used * tf.exp(tf.reduce_sum(used * logs) / number)
    return total / len(estimates)


def tissues_of(last: Any) -> tf.Tensor:
    """Bin of the last coordinate, that of the main parameter, one-hot (b, h, w, NUM_TISSUES)."""
    bins = tf.cast(tf.floor(last / TISSUE_WIDTH), tf.int32)
    return tf.one_hot(tf.math.floormod(bins, NUM_TISSUES), NUM_TISSUES)


def tissue_bias(error: Any, tissues: Any) -> tf.Tensor:
    """Squared mean error of a patch's tissues, (b, Q), weighted by the root of their sizes.

    Parameters
    ----------
    error : tensor, shape (b, h, w, Q)
    tissues : tensor, shape (b, h, w, K)
        1 for a voxel's tissue, 0 for others and for voxels of weight 0.
    """
    count = tf.reduce_sum(tissues, axis=(1, 2))[..., None]
    means = tf.einsum("bhwk,bhwq->bkq", tissues, error) / (count + 1e-6)
    share = tf.sqrt(count)
    return tf.reduce_sum(share * means**2, axis=1) / (tf.reduce_sum(share, axis=1) + 1e-6)


def loss_of(settings: Settings) -> Callable[..., tf.Tensor]:
    """Loss of a run: ``loss(estimates, target, weight)``."""
    if settings.recipe == "paper":
        return squared_loss
    return functools.partial(patch_loss, bias_weight=settings.bias_weight)
