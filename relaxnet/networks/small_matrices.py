"""Linear algebra of small symmetric matrices, one a voxel, unrolled over their size.

A matrix is a list of rows of tensors, a vector a list of tensors, all of one shape.
"""

from __future__ import annotations

from typing import Any

from relaxnet.networks.frameworks import tf


def eliminate(C: list[list[Any]], g: list[Any]) -> tuple[list[list[Any]], list[Any]]:
    """Rows and right-hand side after Gaussian elimination without pivoting.

    The last row holds the last variable's equation with all others eliminated (their Schur
    complement).
    """
    Q = len(g)
    rows, right = [list(row) for row in C], list(g)
    for k in range(Q):
        for i in range(k + 1, Q):
            factor = rows[i][k] / rows[k][k]
            for j in range(k + 1, Q):
                rows[i][j] = rows[i][j] - factor * rows[k][j]
            right[i] = right[i] - factor * right[k]
    return rows, right


def solve(C: list[list[Any]], g: list[Any]) -> list[Any]:
    """Solve C x = g for positive definite C."""
    Q = len(g)
    rows, right = eliminate(C, g)
    x: list[Any] = [None] * Q
    for i in reversed(range(Q)):
        total = right[i]
        for j in range(i + 1, Q):
            total = total - rows[i][j] * x[j]
        x[i] = total / rows[i][i]
    return x


def asinh(x: tf.Tensor) -> tf.Tensor:
    """The inverse hyperbolic sine; that of TensorFlow takes one value at a time."""
    size = tf.minimum(tf.abs(x), 1e18)
    return tf.sign(x) * tf.math.log(size + tf.sqrt(size * size + 1.0))
