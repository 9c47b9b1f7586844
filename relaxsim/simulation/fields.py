"""Random fields that vary slowly in space, as a transmit field does."""

from __future__ import annotations

import numpy as np

#: Scale of the normal distribution of a polynomial's constant term.
MEAN_SCALE = 0.2
#: That of its linear terms (from the centre to an edge) and of its quadratic ones.
_LINEAR, _QUADRATIC = 0.12, 0.06


def polynomial_field(
    rng: np.random.Generator,
    num: int,
    shape: tuple[int, int],
    mean_scale: float = MEAN_SCALE,
    corner: np.ndarray | None = None,
    width: int | None = None,
) -> np.ndarray:
    """Random polynomials of second order over a field of view.

    Models bend them into the range of a parameter or of a known map
    (`relaxsim.models.signal_model.SharedParameter.of_field`).

    Parameters
    ----------
    rng : numpy.random.Generator
    num : int
        Number of fields.
    shape : (int, int)
        Rows and columns.
    mean_scale : float
        Of the normal distribution of the constant term. The linear terms (from the centre to an
        edge) have 0.12, the quadratic ones 0.06.
    corner : array, shape (2, num), optional
        Row and column of each field's first voxel in a field of view of `width` voxels squared.
        Default: the field of view is the field.
    width : int, optional
        With `corner`.

    Returns
    -------
    p : array, shape (num, *shape), float64
    """
    if corner is None or width is None:
        y, x = (np.linspace(-1, 1, s)[None] for s in shape)
    else:
        place = [c[:, None] + np.arange(s) for c, s in zip(corner, shape, strict=True)]
        y, x = (2 * p / (width - 1) - 1 for p in place)
    y, x = y[:, :, None], x[:, None, :]
    scales = [mean_scale, _LINEAR, _LINEAR, _QUADRATIC, _QUADRATIC, _QUADRATIC]
    c = rng.standard_normal((num, 6, 1, 1)) * np.array(scales).reshape(1, 6, 1, 1)
    p = c[:, 0] + c[:, 1] * y + c[:, 2] * x
    return p + c[:, 3] * (y**2 - 1 / 3) + c[:, 4] * x * y + c[:, 5] * (x**2 - 1 / 3)
