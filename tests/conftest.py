"""What all tests share: real data where they lie, and slow tests only when asked for."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Machines differ in speed, and the first call of a test may fill caches.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="also run tests marked slow")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--slow"):
        return
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="slow: give --slow"))


@pytest.fixture(scope="session")
def data_dir():
    """Folder of real data: $RELAXSIM_TEST_DATA, or shared/data beside the checkout."""
    folders = [Path(os.environ["RELAXSIM_TEST_DATA"])] if "RELAXSIM_TEST_DATA" in os.environ else []
    folders += [parent / "shared" / "data" for parent in Path(__file__).resolve().parents[2:]]
    for folder in folders:
        if folder.is_dir():
            return folder
    pytest.skip("no data folder beside the checkout")
