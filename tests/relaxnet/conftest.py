import pytest
from small_shards import make_shards


@pytest.fixture(scope="session")
def shards(tmp_path_factory):
    """Folder of two small shards with 6 and 5 inversion times."""
    return make_shards(tmp_path_factory.mktemp("data") / "shards")
