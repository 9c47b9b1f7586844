"""Linear algebra unrolled over small matrices, against numpy's."""

import numpy as np

from relaxnet.networks.small_matrices import asinh, eliminate, solve


def positive_definite(Q, count=50, seed=0):
    rng = np.random.default_rng(seed)
    half = rng.standard_normal((count, Q, Q)).astype(np.float32)
    C = half @ half.swapaxes(1, 2) + 0.5 * np.eye(Q, dtype=np.float32)
    return C, rng.standard_normal((count, Q)).astype(np.float32)


def rows_of(C):
    return [[C[:, i, j] for j in range(C.shape[1])] for i in range(C.shape[1])]


def test_solve():
    for Q in (1, 2, 3):
        C, g = positive_definite(Q)
        x = np.stack(solve(rows_of(C), list(g.T)), axis=-1)
        np.testing.assert_allclose(np.einsum("vij,vj->vi", C, x), g, rtol=1e-3, atol=1e-4)


def test_the_last_row_is_the_schur_complement():
    C, g = positive_definite(3)
    rows, right = eliminate(rows_of(C), list(g.T))
    inverse = np.linalg.inv(C.astype(float))
    np.testing.assert_allclose(rows[-1][-1], 1 / inverse[:, 2, 2], rtol=1e-3)
    solution = np.einsum("vij,vj->vi", inverse, g)
    np.testing.assert_allclose(right[-1] / rows[-1][-1], solution[:, 2], rtol=1e-2, atol=1e-4)


def test_asinh():
    x = np.array([0.0, 1e-4, -0.5, 3.0, -1e6], np.float32)
    np.testing.assert_allclose(asinh(x), np.arcsinh(x), rtol=1e-3, atol=1e-7)
    assert np.isfinite(asinh(np.array([1e20, -1e20], np.float32))).all()
