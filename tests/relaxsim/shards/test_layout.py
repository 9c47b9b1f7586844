import time

import h5py
import numpy as np
import pytest

from relaxsim.models.t2_decay import MODEL as T2_DECAY
from relaxsim.shards.layout import (
    ShardError,
    list_shards,
    read_shard,
    shard_path,
    verify_shard,
    write_shard,
)

TAU = np.array([10.0, 20.0, 40.0])


def arrays(n=5, P=6, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "S": rng.random((n, P, P, 3), dtype=np.float32),
        "kappa": 1 + rng.random((n, P, P, 2), dtype=np.float32),
        "sigma": np.full(n, 0.1, np.float32),
        "labels": rng.integers(0, 4, (n, P, P)).astype(np.uint8),
        "purity": np.ones((n, P, P), np.float16),
        "origin": np.zeros((n, 4), np.int32),
    }


def write(folder, content=None, **options):
    path = shard_path(folder, 0)
    given = {
        "model": T2_DECAY,
        "protocol_table": TAU,
        "protocol": "p",
        "index": 0,
        "settings": {"seed": 3},
    }
    write_shard(path, content or arrays(), **{**given, **options})
    return path


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_what_is_written_is_read(tmp_path, dtype):
    content = arrays()
    content["S"] = content["S"].astype(dtype)
    shard = read_shard(write(tmp_path, content))
    for name, values in content.items():
        np.testing.assert_array_equal(getattr(shard, name), values)
        assert getattr(shard, name).dtype == values.dtype
    info = shard.info
    assert (info.signal_model, info.protocol, info.num_patches, info.patch_size) == (
        T2_DECAY,
        "p",
        5,
        6,
    )
    assert info.settings == {"seed": 3}
    np.testing.assert_array_equal(info.tau, TAU)
    assert verify_shard(info.path).index == 0
    assert list_shards(tmp_path) == [info.path]


def test_one_chunk_is_one_patch(tmp_path):
    with h5py.File(write(tmp_path)) as file:
        assert file["S"].chunks == (1, 6, 6, 3)


def refused(function, path, match):
    with pytest.raises(ShardError, match=match) as caught:
        function(path)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)


def test_missing_foreign_and_truncated_files_are_refused(tmp_path):
    refused(read_shard, tmp_path / "shard-00009.h5", "no such file")
    path = write(tmp_path)
    whole = path.read_bytes()
    for size in (0, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(ShardError):
            read_shard(path)
    path.unlink()
    with h5py.File(path, "w") as file:
        file["x"] = 1
    with pytest.raises(ShardError, match="no shard"):
        read_shard(path)
    with pytest.raises(ShardError, match="no such folder"):
        list_shards(tmp_path / "none")
    path.unlink()
    with pytest.raises(ShardError, match="holds no shard"):
        list_shards(tmp_path)


def test_every_damaged_byte_of_data_is_noticed(tmp_path):
    path = write(tmp_path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    original = read_shard(path)
    for place in rng.integers(0, len(whole), 60):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        path.write_bytes(bytes(damaged))
        try:
            shard = read_shard(path)
        except ShardError:
            continue
        for name in arrays():  # what is read without an error is what was written
            np.testing.assert_array_equal(getattr(shard, name), getattr(original, name))


@pytest.mark.parametrize(
    ("name", "change", "match"),
    [
        ("S", lambda a: np.where(a > 0.99, np.nan, a), "not finite"),
        ("sigma", lambda a: 0 * a, "sigma"),
        ("kappa", lambda a: -a, "relaxation time"),
    ],
)
def test_verify_finds_bad_values(tmp_path, name, change, match):
    content = arrays()
    content[name] = change(content[name])
    path = write(tmp_path, content)
    read_shard(path)
    with pytest.raises(ShardError, match=match):
        verify_shard(path)


def test_failure_leaves_no_file(tmp_path):
    content = arrays()
    del content["origin"]
    with pytest.raises(KeyError):
        write(tmp_path, content)
    assert list(tmp_path.iterdir()) == []


def rewritten(path, change):
    """The shard with a change to its HDF5 file, as another program would make it."""
    with h5py.File(path, "r+") as file:
        change(file)
    return path


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            lambda f: f.attrs.__setitem__("layout", 3),
            "layout version 3, this version reads 1 and 2",
        ),
        (lambda f: f.attrs.__delitem__("layout"), "no shard"),
        (lambda f: f.attrs.__setitem__("tau", TAU + 1), "attributes do not match"),
        (lambda f: f.attrs.__setitem__("settings", "{}"), "attributes do not match"),
        (lambda f: f.attrs.__delitem__("tau"), "attributes do not match"),
        (lambda f: f.__delitem__("sigma"), "lacks the dataset sigma"),
        (lambda f: f["S"].__setitem__((0, 0, 0, 0), 7.0), "S does not match its checksum"),
        (lambda f: f["origin"].attrs.__delitem__("crc32"), "origin cannot be read"),
    ],
)
def test_changed_shards_are_refused(tmp_path, change, match):
    refused(read_shard, rewritten(write(tmp_path), change), match)


def test_shapes_must_agree(tmp_path):
    for name, shape in (("sigma", (4,)), ("kappa", (5, 6, 6, 3)), ("labels", (5, 6, 5))):
        content = arrays()
        content[name] = np.ones(shape, content[name].dtype)
        refused(read_shard, write(tmp_path, content), f"dataset {name} has shape")


def test_checksums_can_be_left_out(tmp_path):
    path = rewritten(write(tmp_path), lambda f: f["S"].__setitem__((0, 0, 0, 0), 7.0))
    assert read_shard(path, checksums=False).S[0, 0, 0, 0] == 7.0


def test_many_settings_fit(tmp_path):
    """More than the 64 kB that an HDF5 attribute takes in the older format."""
    settings = {"protocols": [[f"list{k}", list(range(40))] for k in range(1000)]}
    assert read_shard(write(tmp_path, settings=settings)).info.settings == settings


def test_names_may_hold_any_letters(tmp_path):
    info = read_shard(write(tmp_path, protocol="Käse µs", settings={"a": "ß"})).info
    assert (info.protocol, info.settings) == ("Käse µs", {"a": "ß"})


def test_same_data_make_the_same_bytes_at_any_time(tmp_path):
    one, other = tmp_path / "a", tmp_path / "b"
    for folder in (one, other):
        folder.mkdir()
    first = write(one).read_bytes()
    time.sleep(1.1)  # HDF5 stores times in seconds
    assert first == write(other).read_bytes()


def test_a_shard_without_tissue_is_sound(tmp_path):
    content = arrays()
    content["labels"][:] = 0
    content["kappa"][:] = 0
    assert verify_shard(write(tmp_path, content)).num_patches == 5
