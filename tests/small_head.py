"""A small head that tests of both packages simulate."""

import nibabel as nib
import numpy as np


def head_volume(shape=(24, 44, 36)):
    """Nested ellipsoids of skin, skull, CSF, grey and white matter with a ventricle."""
    axes = [np.linspace(-1, 1, n) for n in shape]
    radius = np.sqrt(sum(a**2 for a in np.meshgrid(*axes, indexing="ij")))
    labels = np.zeros(shape, np.uint8)
    for bound, label in ((0.95, 6), (0.88, 7), (0.8, 1), (0.75, 2), (0.62, 3), (0.2, 1)):
        labels[radius < bound] = label
    return labels


def write_head(path):
    """Write the small head as a label volume of 2 mm; returns the path."""
    volume = np.ascontiguousarray(head_volume().transpose(2, 1, 0))
    nib.save(nib.Nifti1Image(volume, np.diag([2.0, 2, 2, 1])), path)
    return path
