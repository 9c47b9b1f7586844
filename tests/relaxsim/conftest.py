"""A small head and small runs that the tests of relaxsim share."""

import nibabel as nib
import numpy as np
import pytest
from toy_models import add_toys, remove_toys

from relaxsim.anatomy.anatomy import file_checksum
from relaxsim.models.protocols import read_protocol
from relaxsim.models.registry import model_of
from relaxsim.shards.generate import Settings, rows_of, sequence_of
from relaxsim.simulation.tissues import read_tissues


def head_volume(shape=(24, 44, 36)):
    """Nested ellipsoids of skin, skull, CSF, grey and white matter with a ventricle."""
    axes = [np.linspace(-1, 1, n) for n in shape]
    radius = np.sqrt(sum(a**2 for a in np.meshgrid(*axes, indexing="ij")))
    labels = np.zeros(shape, np.uint8)
    for bound, label in ((0.95, 6), (0.88, 7), (0.8, 1), (0.75, 2), (0.62, 3), (0.2, 1)):
        labels[radius < bound] = label
    return labels


@pytest.fixture(scope="session")
def head(tmp_path_factory):
    """Label volume file of a small head, 2 mm."""
    path = tmp_path_factory.mktemp("head") / "subject07_crisp.nii.gz"
    volume = np.ascontiguousarray(head_volume().transpose(2, 1, 0))
    nib.save(nib.Nifti1Image(volume, np.diag([2.0, 2, 2, 1])), path)
    return path


@pytest.fixture(scope="session")
def small_settings(head):
    """Settings of small runs: ``small_settings(patches=..., ...)``."""

    def make(times="tis", protocol="cine23", **fields):
        table = read_tissues(fields.pop("tissues", "paper"))
        p = read_protocol(protocol, times)
        defaults = {
            "sequence": sequence_of(model_of(times)),
            "protocols": ((p.name, rows_of(p)),),
            "anatomies": ((str(head), file_checksum(head)),),
            "tissues": (table.name, table.text),
            "patches": 6,
            "patch_size": 12,
        }
        return Settings(**(defaults | fields))

    return make


@pytest.fixture
def toys(monkeypatch):
    """The toy signal models, known to the registry for a test."""
    known = add_toys(monkeypatch)
    yield
    remove_toys(known)
