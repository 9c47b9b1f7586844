"""Network files in the spirit of known holes of Keras' loaders, of HDF5 and of archives.

The payloads are harmless: where one ran it would leave a file, `MARKER`, in the folder. Each file
stands beside a part of the message with which it is refused.
"""

import base64
import io
import json
import lzma
import marshal
import os
import pickle
import struct
import zipfile
import zlib

import h5py
import numpy as np

from relaxnet.networks.network_file import CONFIG, WEIGHTS
from relaxnet.networks.rim import RIM

MARKER = "marker"
FOREIGN = "none that relaxnet train made"
FEATURES = 4


class Pickled:
    """Writes the marker when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def lambda_layer(marker):
    """A Lambda layer whose byte code writes the marker."""
    code = compile(f"lambda x: open({str(marker)!r}, 'w').close()", "layer", "eval")
    function = next(c for c in code.co_consts if hasattr(c, "co_code"))
    text = base64.b64encode(marshal.dumps(function)).decode()
    packed = {"code": text, "defaults": None, "closure": None}
    return keras_object("keras.layers", "Lambda", {
        "name": "lambda", "function": {"class_name": "__lambda__", "config": packed}
    })  # fmt: skip


def keras_object(module, class_name, config, registered_name=None):
    """An object as Keras writes it."""
    return {
        "module": module,
        "class_name": class_name,
        "config": config,
        "registered_name": registered_name,
    }


def sequential(*layers):
    """A Sequential model of some layers."""
    start = keras_object("keras.layers", "InputLayer", {"batch_shape": [None, 1]})
    return keras_object("keras", "Sequential", {"name": "s", "layers": [start, *layers]})


def functional(*layers):
    """A functional model of some layers, each called as its ``inbound_nodes`` say."""
    start = {**keras_object("keras.layers", "InputLayer", {"batch_shape": [None, 1], "name": "x"}),
             "name": "x", "inbound_nodes": []}  # fmt: skip
    config = {"name": "f", "layers": [start, *layers]}
    config |= {"input_layers": [["x", 0, 0]], "output_layers": [["x", 0, 0]]}
    return keras_object("keras.src.models.functional", "Functional", config, "Functional")


def call(module, name, *args, **kwargs):
    """A layer that is no layer: a function that is called while the model is built."""
    return {**function(module, name), "name": name,
            "inbound_nodes": [{"args": list(args), "kwargs": kwargs}]}  # fmt: skip


def function(module, name):
    """A reference to any function, which Keras before 3.9 imported."""
    return keras_object(module, "function", name, name)


def legacy_model(marker):
    """A model in the HDF5 format of Keras 2, with a Lambda layer that writes the marker."""
    start = {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 1], "name": "x"}}
    code = lambda_layer(marker)["config"]["function"]["config"]["code"]
    config = {"name": "lambda", "function": [code, None, None], "function_type": "lambda"}
    config |= {"output_shape": None, "output_shape_type": "raw", "arguments": {}}
    layers = [start, {"class_name": "Lambda", "config": config}]
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        model = {"class_name": "Sequential", "config": {"name": "s", "layers": layers}}
        file.attrs["model_config"] = json.dumps(model)
        file.attrs["keras_version"] = "2.15.0"
        file.attrs["backend"] = "tensorflow"
        weights = file.create_group("model_weights")
        weights.attrs["layer_names"] = np.array([b"lambda"])
        weights.create_group("lambda").attrs["weight_names"] = np.array([], "S1")
    return out.getvalue()


class Writer:
    """Writes files that differ in one thing each from the file of a small RIM."""

    def __init__(self, folder):
        self.folder = folder
        self.marker = folder / MARKER
        RIM("inversion_recovery", features=FEATURES, num_steps=2, name="rim").save(
            folder / "good.keras"
        )
        with zipfile.ZipFile(folder / "good.keras") as archive:
            self.members = {name: archive.read(name) for name in archive.namelist()}
        self.config = json.loads(self.members[CONFIG])

    def archive(self, changes=None, compression=zipfile.ZIP_DEFLATED):
        """The file with other members by their names; None leaves one out."""
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", compression) as archive:
            for name, content in {**self.members, **(changes or {})}.items():
                if content is not None:
                    archive.writestr(name, content)
        return out.getvalue()

    def with_config(self, config):
        """The file with another configuration."""
        return self.archive({CONFIG: json.dumps(config).encode()})

    def with_arguments(self, **arguments):
        """The file with other arguments of the constructor."""
        return self.with_config({**self.config, "config": {**self.config["config"], **arguments}})

    def resnet(self, widths, num_images=4):
        """A file that is said to hold a ResNet."""
        arguments = {"model": "inversion_recovery", "num_images": num_images, "widths": widths}
        return self.with_config(
            keras_object("relaxnet.networks.resnet", "ResNet", arguments, "relaxnet>ResNet")
        )

    def layer(self, class_name, **arguments):
        """A file of a layer of this package in place of a network."""
        return self.with_config(
            keras_object("relaxnet.networks.rim", class_name, arguments, f"relaxnet>{class_name}")
        )

    def with_weights(self, change):
        """The file with its HDF5 file changed."""
        path = self.folder / "weights.h5"
        path.write_bytes(self.members[WEIGHTS])
        with h5py.File(path, "r+") as file:
            change(file)
        content = path.read_bytes()
        path.unlink()
        return self.archive({WEIGHTS: content})

    def with_array(self, make, name="cell/conv_2/vars/0"):
        """The file with one array replaced by what `make` makes of (group, name, shape)."""

        def change(file):
            group, _, last = name.rpartition("/")
            shape = file[name].shape
            del file[name]
            make(file[group], last, shape)

        return self.with_weights(change)


def hostile_configurations(writer):
    """Files whose configuration names what is no network of the package."""
    marker, good = writer.marker, writer.config
    code = lambda_layer(marker)
    wrapped = keras_object("keras.layers", "TimeDistributed", {"name": "t", "layer": code})
    source = f"file://{writer.folder}/good.keras"
    download = call("keras.utils", "get_file", MARKER, source, cache_dir=str(writer.folder))
    unsafe = call("keras.config", "enable_unsafe_deserialization")
    system = call("builtins", "open", str(marker), "w")
    tensor = keras_object("keras", "__keras_tensor__", {
        "shape": [None, 1], "dtype": "float32", "keras_history": ["x", 0, 0]
    })  # fmt: skip
    called = {**code, "name": "lambda", "inbound_nodes": [{"args": [tensor], "kwargs": {}}]}
    pickled = base64.b64encode(pickle.dumps(Pickled(marker))).decode()
    torch = keras_object("keras.layers", "TorchModuleWrapper", {"name": "t", "module": pickled})
    saved = keras_object("keras.layers", "TFSMLayer", {"name": "t", "filepath": str(marker)})
    inside = {**good["config"], "cell": code}
    return {
        "CVE-2025-1550 any function": (writer.with_config(functional(system)), FOREIGN),
        "CVE-2025-1550 any class": (
            writer.with_config(keras_object("subprocess", "Popen", {"args": ["touch", "x"]})),
            FOREIGN,
        ),
        "CVE-2025-1550 our name": (writer.with_config({**good, "module": "subprocess"}), FOREIGN),
        "CVE-2025-8747 get_file": (writer.with_config(functional(download)), FOREIGN),
        "CVE-2025-9906 unsafe": (writer.with_config(functional(unsafe, called)), FOREIGN),
        "CVE-2025-49655 torch": (writer.with_config(sequential(torch)), FOREIGN),
        "CVE-2026-1462 SavedModel": (writer.with_config(sequential(saved)), FOREIGN),
        "CVE-2026-12481 Lambda": (writer.with_config(sequential(code)), FOREIGN),
        "CVE-2026-12481 wrapped Lambda": (writer.with_config(sequential(wrapped)), FOREIGN),
        "Lambda beside the arguments": (
            writer.with_config({**good, "config": inside}),
            "no argument of a RIM",
        ),
        "Lambda as an argument": (writer.with_arguments(features=code), "expected 1 to 512"),
        "Lambda as dtype": (writer.with_arguments(dtype=code), "its dtype is none of"),
        "function as dtype": (writer.with_arguments(dtype=system), "its dtype is none of"),
        "Lambda as name": (writer.with_arguments(name=code), "its name is not"),
        "Lambda as build_config": (
            writer.with_config({**good, "build_config": {"a": [code]}}),
            "other classes beside its network",
        ),
        "Lambda as compile_config": (
            writer.with_config({**good, "compile_config": {"loss": unsafe}}),
            "other classes beside its network",
        ),
        "our layer RNNCell": (writer.layer("RNNCell", num_outputs=3), FOREIGN),
        "our layer ErrorHead": (writer.layer("ErrorHead", num_parameters=3), FOREIGN),
        "nested JSON": (writer.archive({CONFIG: b"[" * 90_000}), FOREIGN),
        "long number": (writer.archive({CONFIG: b"1" * 90_000}), FOREIGN),
        "endless RIM": (writer.with_arguments(num_steps=10**9), "expected 1 to 64"),
        "number as a truth": (writer.with_arguments(features=True), "expected 1 to 512"),
        "other signal model": (writer.with_arguments(model="magic"), "for the signal model"),
        "arguments at odds": (
            writer.with_arguments(gradient="raw", fit_steps=True),
            "cannot be built",
        ),
        "wide ResNet": (writer.resnet([4096] * 64), "million weights"),
        "wider ResNet": (writer.resnet([10**9]), "whole numbers from 1"),
        "ResNet of no widths": (writer.resnet([]), "whole numbers from 1"),
        "long ResNet": (writer.resnet([90] * 64), "weights in it are not the network's"),
    }


def hostile_weights(writer):
    """Files whose arrays are not those of the network, or lie elsewhere."""
    outside = writer.folder / "outside.h5"
    shape = h5py.File(io.BytesIO(writer.members[WEIGHTS]))["cell/conv_2/vars/0"].shape
    with h5py.File(outside, "w") as file:
        file["0"] = np.ones(shape, "f")
    raw = writer.folder / "outside.raw"
    raw.write_bytes(bytes(4 * int(np.prod(shape))))

    def replaced(make):
        return writer.with_array(make)

    def external(group, name, shape):
        group.create_dataset(name, shape, "f", external=[(str(raw), 0, h5py.h5f.UNLIMITED)])

    def virtual(group, name, shape):
        layout = h5py.VirtualLayout(shape, "f")
        layout[...] = h5py.VirtualSource(str(outside), "0", shape)
        group.create_virtual_dataset(name, layout)

    def link(target):
        return lambda group, name, shape: group.__setitem__(name, target)

    def array(shape=None, dtype="f", **options):
        def make(group, name, own):
            group.create_dataset(name, own if shape is None else shape, dtype, **options)

        return replaced(make)

    def deep(file):
        group = file
        for _ in range(5000):
            group = group.create_group("g")

    def loop(file):
        file["cell/conv_1/cell"] = file["cell"]

    def many(file):
        for n in range(20_000):
            file.create_group(f"g{n}")

    def not_finite(group, name, shape):
        group[name] = np.full(shape, np.nan, "f")

    compound = np.dtype([("a", "f"), ("b", "f")])
    wrong = {
        "CVE-2026-0897 declared 3 GB": (array((800, 1000, 1000), chunks=(1, 1000, 1000)), "shape"),
        "CVE-2026-0897 declared 10 PB": (array((10**5, 10**5, 10**6), chunks=(1, 9, 9)), "shape"),
        "own shape in huge chunks": (
            array(chunks=(1000, 1000, 10, 10), maxshape=(None,) * 4),
            "lies in chunks",
        ),
        "own shape, compressed": (array(compression="gzip"), "lies in chunks"),
        "deflated bomb": (
            array((500, 1000, 1000), chunks=(5, 1000, 1000), compression="gzip", fillvalue=1.0),
            "has shape",
        ),
        "CVE-2026-1669 external storage": (replaced(external), "in other files"),
        "virtual dataset": (replaced(virtual), "in chunks or in other files"),
        "external link": (replaced(link(h5py.ExternalLink(str(outside), "0"))), "a link"),
        "soft link": (replaced(link(h5py.SoftLink("/cell/conv_3/vars/0"))), "a link"),
        "compound": (array(dtype=compound), "no numbers of type"),
        "objects": (array(dtype=h5py.string_dtype()), "no numbers of type"),
        "references": (array(dtype=h5py.ref_dtype), "no numbers of type"),
        "bytes": (array(dtype="S100000"), "no numbers of type"),
        "whole numbers": (array(dtype="i4"), "no numbers of type"),
        "float64": (array(dtype="f8"), "expected float16 or float32"),
        "scalar": (array(()), "has shape"),
        "not finite": (replaced(not_finite), "no finite numbers"),
        "a folder for an array": (
            replaced(lambda group, name, _: group.create_group(name)),
            "has shape none",
        ),
        "a type for an array": (
            replaced(lambda group, name, _: group.__setitem__(name, np.dtype("f"))),
            "has shape none",
        ),
        "array lacks": (replaced(lambda *_: None), "lacks 0"),
        "one array more": (
            writer.with_weights(lambda file: file.__setitem__("cell/conv_1/vars/2", 1.0)),
            "holds more than",
        ),
        "nested groups": (writer.with_weights(deep), "the network's does not"),
        "a few nested groups": (
            writer.with_weights(lambda file: file.create_group("a/b/c/d/e/f")),
            "holds more than",
        ),
        "groups in a circle": (writer.with_weights(loop), "holds more than"),
        "many groups": (writer.with_weights(many), "the network's does not"),
    }
    whole = writer.members[WEIGHTS]
    legacy = legacy_model(writer.marker)
    wrong |= {
        "weights cut short": (writer.archive({WEIGHTS: whole[:20_000]}), "weights in it"),
        "weights that are none": (writer.archive({WEIGHTS: b"no HDF5"}), "weights in it"),
        "weights of zeros": (writer.archive({WEIGHTS: bytes(5000)}), "weights in it"),
        "legacy model as weights": (
            writer.archive({WEIGHTS: legacy}),
            "weights in it",
        ),
        "no weights": (writer.archive({WEIGHTS: None}), "cannot be read"),
    }
    return wrong


def hostile_archives(writer):
    """Files that are no archive of a network, or one that unpacks to more than it may."""
    good = (writer.folder / "good.keras").read_bytes()

    def crowded():
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for name, content in writer.members.items():
                archive.writestr(name, content)
            for n in range(5000):
                archive.writestr(f"assets/{n}", b"")
        return out.getvalue()

    def twice():
        other = CONFIG.upper()
        content = writer.archive({other: writer.members[CONFIG]})
        return content.replace(other.encode(), CONFIG.encode())

    def locked():
        data = bytearray(writer.archive())
        for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            place = -1
            while (place := data.find(signature, place + 1)) >= 0:
                data[place + at] |= 1
        return bytes(data)

    pickled = pickle.dumps(Pickled(writer.marker))
    array = io.BytesIO()
    np.save(array, np.array([Pickled(writer.marker)], dtype=object), allow_pickle=True)
    end = len(good) - 22
    zip64 = struct.pack("<4sIQI", b"PK\x06\x07", 0, end, 1)
    blank = b" " * 100_000_000
    return {
        "CVE-2025-9905 legacy HDF5": (legacy_model(writer.marker), "not a .keras file"),
        "pickle": (pickled, "not a .keras file"),
        "pickled array in the archive": (
            writer.archive({WEIGHTS: None, "model.weights.npz": array.getvalue()}),
            "which no network's file does",
        ),
        "pickled array as weights": (
            writer.archive({WEIGHTS: array.getvalue()}),
            "weights in it",
        ),
        "asset outside": (
            writer.archive({f"../{writer.marker.name}": b""}),
            "which no network's file does",
        ),
        "bomb in the configuration": (writer.archive({CONFIG: blank}), "takes more than"),
        "bomb in the weights": (writer.archive({WEIGHTS: blank}), "takes more than"),
        "LZMA": (writer.archive(compression=zipfile.ZIP_LZMA), "cannot be read"),
        "BZIP2": (writer.archive(compression=zipfile.ZIP_BZIP2), "cannot be read"),
        "many members": (crowded(), "more members"),
        "members twice": (twice(), "which no network's file does"),
        "password": (locked(), "cannot be read"),
        "ZIP64": (good[:end] + zip64 + good[end:], "more members"),
        "no configuration": (writer.archive({CONFIG: None}), "cannot be read"),
        "empty": (b"", "not a .keras file"),
        "text": (b"network", "not a .keras file"),
        "cut short": (good[: len(good) // 2], "not a .keras file"),
        "gzip": (zlib.compress(good), "not a .keras file"),
        "xz": (lzma.compress(good), "not a .keras file"),
    }


def write_hostile_networks(folder):
    """Write all files into a folder; path -> name of the case and part of its message."""
    writer = Writer(folder)
    cases = {
        **hostile_configurations(writer),
        **hostile_weights(writer),
        **hostile_archives(writer),
    }
    written = {}
    for number, (name, (content, message)) in enumerate(cases.items()):
        path = folder / f"hostile{number}.keras"
        path.write_bytes(content)
        written[path] = (name, message)
    (folder / "folder.keras").mkdir()
    os.mkfifo(folder / "pipe.keras")
    (folder / "device.keras").symlink_to("/dev/zero")
    with (folder / "sparse.keras").open("wb") as file:
        file.truncate(10**10)
    written[folder / "folder.keras"] = ("folder", "is not a file")
    written[folder / "pipe.keras"] = ("pipe", "is not a file")
    written[folder / "device.keras"] = ("device", "is not a file")
    written[folder / "sparse.keras"] = ("10 GB", "more than")
    return written
