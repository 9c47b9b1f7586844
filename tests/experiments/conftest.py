"""Makes the experiments' scripts importable; a small brain that their tests share."""

import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "tools" / "experiments"))


@pytest.fixture(scope="session")
def brain(tmp_path_factory):
    """Label volume file of a small head, 0.5 mm: nested ellipsoids from skin to ventricle."""
    axes = [np.linspace(-1, 1, n) for n in (72, 88, 40)]
    radius = np.sqrt(sum(a**2 for a in np.meshgrid(*axes, indexing="ij")))
    labels = np.zeros(radius.shape, np.uint8)
    for bound, label in ((0.98, 6), (0.92, 7), (0.87, 1), (0.84, 2), (0.55, 3), (0.15, 1)):
        labels[radius < bound] = label
    path = tmp_path_factory.mktemp("brain") / "subject99_crisp.nii.gz"
    nib.save(nib.Nifti1Image(labels, np.diag([0.5, 0.5, 0.5, 1])), path)
    return path
