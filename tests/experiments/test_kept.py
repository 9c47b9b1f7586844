import numpy as np
import pytest
from kept import kept_array, kept_rows


class Counter:
    """Makes a value, and counts how often."""

    def __init__(self, value):
        self.value, self.calls = value, 0

    def __call__(self):
        self.calls += 1
        return self.value


def test_rows_are_made_once_for_the_same_settings(tmp_path):
    make = Counter([{"tissue": "GM", "bias": 1.5}])
    for _ in range(2):
        assert kept_rows(tmp_path, "a name", {"snr": 3.0}, make) == make.value
    assert make.calls == 1
    kept_rows(tmp_path, "a name", {"snr": 5.0}, make)
    assert make.calls == 2


def test_array_is_kept_bit_for_bit(tmp_path):
    make = Counter(np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32))
    kept_array(tmp_path, "map", {}, make)
    np.testing.assert_array_equal(kept_array(tmp_path, "map", {}, make), make.value)
    assert make.calls == 1


@pytest.mark.parametrize("kept", [kept_rows, kept_array])
def test_damaged_file_is_made_again(tmp_path, kept):
    make = Counter([{"x": 1}] if kept is kept_rows else np.ones(3))
    kept(tmp_path, "map", {}, make)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-5])
    kept(tmp_path, "map", {}, make)
    assert make.calls == 2


def test_nothing_is_kept_of_what_fails(tmp_path):
    def fail():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        kept_rows(tmp_path, "map", {}, fail)
    assert not list(tmp_path.iterdir())
