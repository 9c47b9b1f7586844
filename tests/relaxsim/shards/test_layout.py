import os
import signal
import time

import h5py
import numpy as np
import pytest

from relaxsim.models.registry import MODELS, signal_model
from relaxsim.models.t2_decay import MODEL as T2_DECAY
from relaxsim.shards import layout
from relaxsim.shards.layout import (
    ShardError,
    list_shards,
    read_info,
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
        (lambda f: f.attrs.__setitem__("settings", np.bytes_(b"{}")), "attributes do not match"),
        (lambda f: f.attrs.__delitem__("tau"), "attributes do not match"),
        (lambda f: f.__delitem__("sigma"), "lacks the dataset sigma"),
        (lambda f: f["S"].__setitem__((0, 0, 0, 0), 7.0), "S does not match its checksum"),
        (lambda f: f["origin"].attrs.__delitem__("crc32"), "origin: attribute crc32 is missing"),
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


TABLE = np.array([[30.0, 200.0], [60.0, 600.0], [40.0, 3000.0]])


def write_table(folder, content=None, **options):
    """A shard of a model with two columns and a known map."""
    if content is None:
        content = arrays() | {"known": np.ones((5, 6, 6, 1), np.float32)}
    model = signal_model("spoiled_echo")
    return write(folder, content, model=model, protocol_table=TABLE, **options)


def test_columns_and_known_maps_are_read_as_written(toys, tmp_path):
    shard = read_shard(write_table(tmp_path))
    np.testing.assert_array_equal(shard.info.protocol_table, TABLE)
    np.testing.assert_array_equal(shard.info.tau, TABLE[:, 0])
    np.testing.assert_array_equal(shard.known, np.ones((5, 6, 6, 1)))
    with h5py.File(shard.info.path) as file:
        assert (file.attrs["layout"], file.attrs["tau"].shape) == (2, (3, 2))
        assert file.attrs["columns"] == b'["flip_angle", "repetition_time"]'
        assert file.attrs["known_maps"] == b'["B1"]'
        assert file["known"].chunks == (1, 6, 6, 1)
    assert read_shard(write(tmp_path)).known is None


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"columns": '["flip_angle"]'}, "has the columns flip_angle, but spoiled_echo has flip"),
        ({"known_maps": "[]"}, "has the known maps none, but spoiled_echo has B1"),
        ({"tau": np.ones(3)}, "takes a protocol of 2 columns"),
        ({"layout": 1}, "layout version 1, which holds no protocol of spoiled_echo"),
    ],
)
def test_protocols_of_other_columns_are_refused(toys, tmp_path, monkeypatch, change, match):
    attributes = layout._attributes
    monkeypatch.setattr(layout, "_attributes", lambda *words: attributes(*words) | change)
    refused(read_shard, write_table(tmp_path), match)


def test_known_maps_that_do_not_fit_are_refused(toys, tmp_path):
    content = arrays() | {"known": np.ones((5, 6, 6, 2), np.float32)}
    refused(read_shard, write_table(tmp_path, content), "dataset known has shape .*1 known maps")
    path = rewritten(write_table(tmp_path), lambda f: f.__delitem__("known"))
    refused(read_shard, path, "lacks the dataset known")
    content["known"] = np.full((5, 6, 6, 1), np.nan, np.float32)
    refused(verify_shard, write_table(tmp_path, content), "known holds values that are not finite")
    with pytest.raises(KeyError):
        write_table(tmp_path, arrays())


def test_words_of_zeros_that_become_ones_are_noticed(toys, tmp_path):
    """HDF5's own checksum (Fletcher-32) takes them for equal."""
    content = arrays() | {"known": np.ones((5, 6, 6, 1), np.float32)}
    content["S"][:] = 0
    path = write_table(tmp_path, content)
    whole = bytearray(path.read_bytes())
    place = bytes(whole).find(b"\0" * 400) + 200
    whole[place : place + 2] = b"\xff\xff"
    path.write_bytes(bytes(whole))
    with pytest.raises(ShardError):
        read_shard(path)


def test_a_model_that_is_not_there_is_named(toys, tmp_path, monkeypatch):
    path = write_table(tmp_path)
    monkeypatch.delitem(MODELS, "spoiled_echo")
    refused(read_shard, path, "no signal model is called 'spoiled_echo'")


def attribute(name, value):
    """The shard with another value of an attribute, and the checksum of all attributes."""

    def change(file):
        del file.attrs[name]
        file.attrs[name] = value
        texts = {k: v for k, v in file.attrs.items() if isinstance(v, bytes)}
        found = dict(file.attrs) | {k: v.decode(errors="replace") for k, v in texts.items()}
        del found["crc32"]
        file.attrs["crc32"] = layout._attributes_checksum(found)

    return change


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("layout", 1.0, "layout is of another type, expected whole number"),
        ("layout", [1, 1], "layout has shape 2, expected"),
        ("tau", 10.0, "tau has shape of a single number"),
        ("tau", np.array([1, 2, 3]), "tau is of another type, expected numbers"),
        ("tau", np.array([1, np.nan, 3]), "finite numbers"),
        ("tau", -TAU, "from 0 upwards"),
        ("tau", np.ones(3, complex), "tau is of another type"),
        ("tau", h5py.Empty("f8"), "tau is of another type"),
        ("protocol", 3, "protocol is of another type, expected text"),
        ("protocol", "p", "protocol is a text of variable length"),
        ("protocol", np.bytes_(b"\xff\xfe"), "protocol cannot be read"),
        ("index", -1, "its number is -1"),
        ("parameters", np.bytes_(b"{"), "parameters is no JSON"),
        ("units", np.bytes_(b"[1]"), "units is no list of names"),
        ("settings", np.bytes_(b"[" * 60_000), "settings is no JSON"),
        ("settings", np.bytes_(b"[]"), "settings is no JSON object"),
        ("settings", np.bytes_(b'{"seed": NaN}'), "NaN is no number"),
        ("settings", np.bytes_(b'{"noise": "x"}'), "setting noise is .x., expected gaussian"),
        ("settings", np.bytes_(b'{"sigma_range": [1]}'), "sigma_range is .1., expected two"),
        ("settings", np.bytes_(b'{"anatomies": [["a"]]}'), "expected a list of names"),
    ],
)
def test_attributes_of_another_type_or_meaning_are_refused(tmp_path, name, value, match):
    refused(read_shard, rewritten(write(tmp_path), attribute(name, value)), match)


def test_unknown_attributes_are_refused(tmp_path):
    path = rewritten(write(tmp_path), lambda file: file.attrs.create("more", 1))
    refused(read_shard, path, "has 11 attributes, expected 10")


def dataset(name, **options):
    """The shard with another dataset in the place of one."""

    def change(file):
        data = file[name][()]
        del file[name]
        file.create_dataset(name, **{"data": data, **options}).attrs["crc32"] = 0

    return change


def declared(name, **options):
    """The shard with a dataset whose values are not in the file."""

    def change(file):
        shape = file[name].shape
        del file[name]
        made = file.create_dataset(name, **{"shape": shape, "dtype": "f4", **options})
        made.attrs["crc32"] = 0

    return change


def link(name, target):
    def change(file):
        del file[name]
        file[name] = target

    return change


def virtual(name):
    def change(file):
        source = h5py.VirtualLayout((5, 6, 6, 3), "f4")
        source[...] = h5py.VirtualSource(".", name, (5, 6, 6, 3))
        del file[name]
        file.create_virtual_dataset(name, source)

    return change


def group(file):
    del file["S"]
    file.create_group("S")


RAW = [("raw", 0, h5py.h5f.UNLIMITED)]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (dataset("sigma", data=np.ones(5, complex)), "sigma holds another type"),
        (dataset("sigma", data=np.ones(5, ">f4")), "sigma holds >f4, expected float32"),
        (dataset("sigma", data=np.ones(5)), "sigma holds float64, expected float32"),
        (dataset("labels", data=np.ones((5, 6, 6), bool)), "labels holds another type"),
        (dataset("sigma", data=np.ones(5, [("a", "f4")])), "sigma holds another type"),
        (dataset("sigma", data=["a"] * 5), "sigma holds another type"),
        (dataset("sigma", data=np.float32(1)), "sigma is no array"),
        (dataset("sigma", data=np.zeros(0, "f4")), "sigma is empty"),
        (dataset("S", compression="gzip"), "S is packed by a filter"),
        (dataset("S", chunks=(5, 6, 6, 3)), "S lies in chunks of 5 x 6 x 6 x 3"),
        (declared("S"), "S is not whole"),
        (declared("S", shape=(10**9, 6, 6, 3), chunks=(1, 6, 6, 3)), "S is not whole"),
        (declared("sigma", external=RAW), "sigma lies in other files"),
        (declared("sigma", dtype=h5py.ref_dtype), "sigma holds another type"),
        (declared("sigma", dtype=h5py.vlen_dtype("f4")), "sigma holds another type"),
        (virtual("S"), "S lies in other files"),
        (link("S", h5py.SoftLink("/kappa")), "S is a link"),
        (link("S", h5py.SoftLink("/S")), "S is a link"),
        (link("S", h5py.ExternalLink("/dev/zero", "/S")), "S is a link"),
        (link("S", np.dtype("f4")), "S is no array"),
        (group, "S is no array"),
    ],
)
def test_datasets_that_are_not_as_written_are_refused_unread(tmp_path, change, match):
    refused(read_info, rewritten(write(tmp_path), change), match)


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("S", 1e30, "S holds values beyond 1e"),
        ("kappa", np.inf, "kappa holds values beyond|kappa holds values that are not finite"),
        ("labels", 12, "a label is above 11"),
        ("purity", 1.5, "a purity is not between 0 and 1"),
    ],
)
def test_values_that_no_simulation_gives_are_found(tmp_path, name, value, match):
    content = arrays()
    content[name].flat[0] = value
    refused(verify_shard, write(tmp_path, content), match)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no pipes")
def test_a_pipe_is_refused_at_once(tmp_path):
    path = shard_path(tmp_path, 0)
    os.mkfifo(path)
    refused(read_info, path, "is a folder, pipe or device")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="reads in copies of the process")
def test_a_flipped_bit_anywhere_is_read_or_refused_in_seconds(tmp_path):
    """Sizes and addresses that are wrong by a bit lead HDF5 into no endless reading."""
    path = write(tmp_path)
    sound = path.read_bytes()
    for place in np.random.default_rng(0).integers(0, 8 * len(sound), 300):
        damaged = bytearray(sound)
        damaged[place // 8] ^= 1 << (place % 8)
        path.write_bytes(damaged)
        assert _read_in_a_copy(path, seconds=10) in (0, 2), f"bit {place}"


def _read_in_a_copy(path, seconds):
    """Exit code of a copy of this process that reads a shard: 0, 2 refused, negative a signal."""
    child = os.fork()
    if not child:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(seconds)
        try:
            verify_shard(path)
            os._exit(0)
        except ShardError:
            os._exit(2)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
