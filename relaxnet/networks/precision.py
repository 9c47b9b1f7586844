"""The precision of TensorFlow's matrix products, which the networks need in full."""

from __future__ import annotations


def use_full_precision() -> None:
    """Let float32 products keep their 24 bits of mantissa, in the whole process.

    The sums that the Fisher information is made of cancel. TensorFlow takes ten bits of mantissa
    for products of matrices on recent graphics processors, which are too few for that. Called
    where a network is loaded, run or trained; importing a module changes no setting.
    """
    from relaxnet.networks.frameworks import tf

    tf.config.experimental.enable_tensor_float_32_execution(False)
