import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaxsim.anatomy.head.lattice import Field, Lattice, noise_field

BOX = ((-10.0, 14.0), (-7.0, 9.0), (0.0, 20.0))


@given(st.floats(0.8, 6.0), st.tuples(*[st.floats(-2, 2)] * 4))
def test_linear_fields_are_exact(spacing, slopes):
    """Values on the nodes serve as coefficients because splines keep straight lines straight."""
    lattice = Lattice.covering(BOX, spacing)
    z, y, x = lattice.axes()
    a, b, c, d = slopes
    nodes = a + b * z[:, None, None] + c * y[:, None] + d * x
    axes = [np.linspace(*ends, n) for ends, n in zip(BOX, (5, 6, 7), strict=True)]
    z, y, x = axes
    expected = a + b * z[:, None, None] + c * y[:, None] + d * x
    found = Field(lattice, nodes.astype(np.float32)).at(axes)
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_values_are_those_of_the_dense_product():
    lattice = Lattice.covering(BOX, 3.0)
    field = noise_field(np.random.default_rng(0), BOX, 3.0)
    axes = [np.linspace(*ends, n) for ends, n in zip(BOX, (5, 6, 7), strict=True)]
    wz, wy, wx = (lattice.weights(k, a).toarray() for k, a in enumerate(axes))
    expected = np.einsum("zl,ym,xn,lmn->zyx", wz, wy, wx, field.coefficients)
    found = field.at(axes)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_fields_vanish_far_away():
    field = Field(Lattice.covering(BOX, 2.0), np.ones((16, 12, 14), np.float32))
    values = field.at([np.array([-50.0, 0.0, 50.0]), np.array([0.0]), np.array([10.0])])
    np.testing.assert_allclose(values[:, 0, 0], [0, 1, 0], atol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_noise_has_unit_variance_and_its_scale(scale):
    box = ((0.0, 60.0),) * 3
    noise = noise_field(np.random.default_rng(3), box, scale)
    values = noise.at([np.arange(0, 60, 0.5)] * 3)
    assert abs(values.mean()) < 0.05
    assert values.std() == pytest.approx(1, abs=0.03)
    near, far = round(0.5 * scale / 0.5), round(4 * scale / 0.5)
    assert np.mean(values[near:] * values[:-near]) > 0.7
    assert abs(np.mean(values[far:] * values[:-far])) < 0.1
