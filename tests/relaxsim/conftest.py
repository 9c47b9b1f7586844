"""A small head and small runs that the tests of relaxsim share."""

import pytest
from small_head import write_head
from toy_models import add_toys, remove_toys

from relaxsim.anatomy.anatomy import file_checksum
from relaxsim.models.protocols import read_protocol
from relaxsim.models.registry import model_of
from relaxsim.shards.generate import Settings, rows_of, sequence_of
from relaxsim.simulation.tissues import read_tissues


@pytest.fixture(scope="session")
def head(tmp_path_factory):
    """Label volume file of a small head, 2 mm."""
    return write_head(tmp_path_factory.mktemp("head") / "subject07_crisp.nii.gz")


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
