"""Part ``networks`` of `tools/torture.py`: .keras files and run folders that are hostile or none.

Code in them would do no more than write an empty file, which counts as a fault.
"""

from __future__ import annotations

import io
import json
import marshal
import pickle
import zipfile
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from torture_files import Stock, flipped, network_file, series, write
from torture_run import BREACH, EITHER, REFUSED, Try
from torture_sidecars import hostile_json

TRAIN = tuple(
    "relaxnet train --data small --iterations 1 --batch-size 2 --features 2 --num-steps 1 "
    "--out r".split()
)
#: Commands that take a network, and how often.
COMMANDS: dict[str, tuple[str, float]] = {
    "predict": ("relaxnet predict s.nii --tis tis.txt --model {} --out maps", 0.4),
    "models": ("relaxnet models {}", 0.2),
    "export": ("relaxnet export {} --tis tis.txt --out e", 0.15),
    "train --init": (f"{' '.join(TRAIN)} --init {{}}", 0.15),
    "calibrate": ("relaxnet calibrate {} --data shards --patches 2 --iterations 1 --out c", 0.1),
}


def make(rng: np.random.Generator, folder: Path, stock: Stock) -> Try:
    """One try: a network or run folder that is none, and a command that reads it."""
    series(folder)
    kind = rng.random()
    if kind < 0.1:
        return _run_folder(rng, folder, stock)
    if kind < 0.2:
        return _card(rng, folder, stock)
    command = str(rng.choice(list(COMMANDS), p=[share for _, share in COMMANDS.values()]))
    if command in ("train --init", "calibrate"):
        stock.copy("small", folder)
        stock.copy("shards", folder)
    good = _Good((stock.folder / "network.keras").read_bytes(), folder, rng)
    if rng.random() < 0.3:
        name = str(rng.choice(["rim-t1.keras", "resnet-cine31.keras"]))
        good = _Good(network_file(name).read_bytes(), folder, rng)
    what = str(rng.choice(list(NETWORKS)))
    content = NETWORKS[what](good)
    ending = ".h5" if what in _LEGACY and rng.random() < 0.5 else ".keras"
    if content is not None:
        write(folder / f"net{ending}", content)
    arguments = tuple(COMMANDS[command][0].format(f"net{ending}").split())
    expect = EITHER if what in _MAY_LOAD or command == "models" else REFUSED
    return Try(f"{command}, {what}", arguments, expect)


class _Good:
    """A sound network's members, and ways to change them."""

    def __init__(self, raw: bytes, folder: Path, rng: np.random.Generator) -> None:
        self.raw, self.folder, self.rng = raw, folder, rng
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            self.members = {name: archive.read(name) for name in archive.namelist()}
        self.ours = json.loads(self.members["config.json"])
        self.breach = str(folder / BREACH)

    def config(self, **changes: Any) -> bytes:
        return self.text(json.dumps({**self.ours, **changes}).encode())

    def settings(self, **changes: Any) -> bytes:
        return self.config(config={**self.ours["config"], **changes})

    def text(self, content: bytes) -> bytes:
        return archive({**self.members, "config.json": content})

    def without(self, name: str) -> bytes:
        return archive({k: v for k, v in self.members.items() if k != name})

    def weights(self, change: Callable[[h5py.File], object]) -> bytes:
        """The network with its weights' file changed."""
        stream = io.BytesIO(self.members["model.weights.h5"])
        with h5py.File(stream, "r+") as file:
            change(file)
        return archive({**self.members, "model.weights.h5": stream.getvalue()})

    def sequential(self, *layers: Any) -> bytes:
        """A network of Keras' own, of these layers."""
        config = {"name": "s", "layers": list(layers)}
        return self.config(
            module="keras", class_name="Sequential", registered_name="Sequential", config=config
        )

    def layer(self, name: str, module: str = "keras.layers", **config: Any) -> dict[str, Any]:
        return {
            "module": module,
            "class_name": name,
            "config": {"name": name.lower(), **config},
            "registered_name": None,
        }

    @property
    def function(self) -> dict[str, Any]:
        """A function that writes a file, as Keras stores it."""
        code = compile(f"open({self.breach!r}, 'w').close()", "layer", "exec")
        text = b64encode(marshal.dumps(code)).decode()
        return {"class_name": "__lambda__", "config": {"code": text, "defaults": None}}

    @property
    def hostile(self) -> dict[str, Any]:
        return self.layer("Lambda", function=self.function)

    @property
    def opener(self) -> dict[str, Any]:
        """A function of Python's that would write a file when it is called as an activation."""
        return {
            "module": "builtins",
            "class_name": "function",
            "config": "open",
            "registered_name": "function",
        }


class _Pickled:
    """What runs code when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (self.path, "w")


def archive(members: dict[str, bytes], twice: dict[str, bytes] | None = None) -> bytes:
    """A zip file of members, some of them a second time."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
        for name, content in (twice or {}).items():
            file.NameToInfo.pop(name, None)  # else the module warns
            file.writestr(name, content)
    return out.getvalue()


def _huge_weight(file: h5py.File) -> None:
    """Replace a weight by one that claims 3 GB and holds nothing."""
    path = _some_weight(file)
    del file[path]
    file.create_dataset(path, (750_000_000,), "f4", chunks=(1 << 20,), fillvalue=0)


def _some_weight(file: h5py.File) -> str:
    found: list[str] = []
    file.visititems(lambda n, o: found.append(n) if isinstance(o, h5py.Dataset) else None)
    return found[0]


def _replaced(make: Callable[[h5py.File, str, np.ndarray], object]) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        path = _some_weight(file)
        data = file[path][()]
        del file[path]
        make(file, path, data)

    return change


def _external(file: h5py.File, path: str, data: np.ndarray) -> None:
    file.create_dataset(
        path, data.shape, data.dtype, external=[("/dev/zero", 0, h5py.h5f.UNLIMITED)]
    )


def _nest(file: h5py.File) -> None:
    group = file
    for _ in range(3000):
        group = group.create_group("a")


def _legacy(good: _Good, layer: dict[str, Any]) -> bytes:
    """An HDF5 file that claims to be of the format before .keras."""
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        config = {"class_name": "Sequential", "config": {"name": "s", "layers": [layer]}}
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"] = "2.15.0"
        file.attrs["backend"] = "tensorflow"
        file.create_group("model_weights").attrs["layer_names"] = np.array([], "S")
    return stream.getvalue()


def _pickled_weights(good: _Good) -> bytes:
    """Weights as a NumPy archive whose arrays are pickles."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        body = io.BytesIO()
        np.lib.format.write_array(body, np.array([_Pickled(good.breach)], object))
        file.writestr("__root__.npy", body.getvalue())
    members = {k: v for k, v in good.members.items() if k != "model.weights.h5"}
    return archive({**members, "model.weights.npz": out.getvalue()})


def _folder(good: _Good) -> None:
    (good.folder / "net.keras").mkdir()


def _deep_layers(good: _Good) -> bytes:
    layer = good.hostile
    for _ in range(150):
        layer = good.layer("TimeDistributed", layer=layer)
    return good.sequential(layer)


#: Networks: what is wrong, and its file; None: it has been put in its place.
NETWORKS: dict[str, Callable[[_Good], bytes | None]] = {
    "empty": lambda g: b"",
    "random bytes": lambda g: g.rng.bytes(2000),
    "text": lambda g: b"network",
    "a folder": _folder,
    "pickle": lambda g: pickle.dumps(_Pickled(g.breach)),
    "cut short": lambda g: g.raw[: g.rng.integers(len(g.raw) - 30)],
    "bytes at random": lambda g: flipped(g.rng, g.raw, 40),
    "bytes at random ": lambda g: flipped(g.rng, g.raw, 5, None, 0),
    "weights' bytes at random": lambda g: archive(
        {**g.members, "model.weights.h5": flipped(g.rng, g.members["model.weights.h5"], 9, 4000, 0)}
    ),
    "weights' bytes anywhere": lambda g: archive(
        {**g.members, "model.weights.h5": flipped(g.rng, g.members["model.weights.h5"])}
    ),
    "configuration at random": lambda g: g.text(flipped(g.rng, g.members["config.json"], 4)),
    "Lambda layer": lambda g: g.sequential(g.hostile),
    "Lambda in a wrapper": lambda g: g.sequential(g.layer("TimeDistributed", layer=g.hostile)),
    "Lambda under 150 wrappers": _deep_layers,
    "Lambda under our name": lambda g: g.config(config={"name": "s", "layers": [g.hostile]}),
    "Lambda as a setting": lambda g: g.settings(features=g.hostile),
    "Lambda as dtype": lambda g: g.settings(dtype=g.hostile),
    "Lambda as build settings": lambda g: g.config(
        build_config=g.hostile, compile_config=g.hostile
    ),
    "Python's open as an activation": lambda g: g.sequential(
        g.layer("Activation", activation=g.opener)
    ),
    "Keras' get_file": lambda g: g.sequential(
        g.layer(
            "Activation",
            activation={
                "module": "keras.utils",
                "class_name": "function",
                "config": "get_file",
                "registered_name": "get_file",
            },
        )
    ),
    "a vocabulary that is a file": lambda g: g.sequential(
        g.layer("StringLookup", vocabulary="/etc/passwd")
    ),
    "Torch module": lambda g: g.sequential(
        g.layer("TorchModuleWrapper", module="x" * 50, output_shape=None)
    ),
    "SavedModel layer": lambda g: g.sequential(
        g.layer("TFSMLayer", module="keras.export", filepath="/tmp", call_endpoint="serve")
    ),
    "class of os": lambda g: g.config(module="os", class_name="system", registered_name=None),
    "class of subprocess": lambda g: g.config(
        module="subprocess", class_name="Popen", config={"args": ["touch", g.breach]}
    ),
    "class of subprocess without a name": lambda g: g.config(
        module="subprocess",
        class_name="Popen",
        registered_name=None,
        config={"args": ["touch", g.breach]},
    ),
    "foreign network": lambda g: g.sequential(),
    "legacy, Lambda": lambda g: _legacy(g, g.hostile),
    "legacy, old Lambda": lambda g: _legacy(
        g,
        {
            "class_name": "Lambda",
            "config": {
                "name": "l",
                "function": [g.function["config"]["code"], None, None],
                "function_type": "lambda",
                "batch_input_shape": [None, 1],
            },
        },
    ),
    "legacy, nothing": lambda g: _legacy(g, {"class_name": "Dense", "config": {"units": 10**9}}),
    "our layer in place of a network": lambda g: g.config(
        class_name="ConvGRUCell", registered_name="relaxnet>ConvGRUCell", config={"features": 3}
    ),
    "our layers in place of a network": lambda g: g.config(
        class_name="ConvGRU",
        registered_name=f"relaxnet>{g.rng.choice(['ConvGRU', 'ErrorHead', 'Stem', 'Block'])}",
        config={"features": 3, "channels": 3},
    ),
    "pickled weights": _pickled_weights,
    "weights of 3 GB that are declared": lambda g: g.weights(_huge_weight),
    "a weight by an external link": lambda g: g.weights(
        _replaced(lambda f, p, d: f.__setitem__(p, h5py.ExternalLink("/dev/zero", "/a")))
    ),
    "a weight by a soft link": lambda g: g.weights(
        _replaced(lambda f, p, d: f.__setitem__(p, h5py.SoftLink("/missing")))
    ),
    "a weight in external storage": lambda g: g.weights(_replaced(_external)),
    "a weight as text": lambda g: g.weights(
        _replaced(lambda f, p, d: f.create_dataset(p, data=["a", "b"], dtype=h5py.string_dtype()))
    ),
    "a weight as a group": lambda g: g.weights(_replaced(lambda f, p, d: f.create_group(p))),
    "a weight of NaN": lambda g: g.weights(
        _replaced(lambda f, p, d: f.create_dataset(p, data=d * np.nan))
    ),
    "a weight of another shape": lambda g: g.weights(
        _replaced(lambda f, p, d: f.create_dataset(p, data=d.ravel()))
    ),
    "a weight of no element": lambda g: g.weights(
        _replaced(lambda f, p, d: f.create_dataset(p, data=d[:0]))
    ),
    "nested groups": lambda g: g.weights(_nest),
    "JSON that is none": lambda g: g.text(b"{"),
    "JSON of a list": lambda g: g.text(b"[1, 2]"),
    "JSON of null": lambda g: g.text(b"null"),
    "deep JSON": lambda g: g.text(b"[" * 200_000),
    "JSON that is no UTF-8": lambda g: g.text(b"\xff\xfe" * 50),
    "JSON bomb": lambda g: g.text(b" " * 300_000_000),
    "weights bomb": lambda g: archive({**g.members, "model.weights.h5": bytes(4 * 10**8)}),
    "no configuration": lambda g: g.without("config.json"),
    "no weights": lambda g: g.without("model.weights.h5"),
    "no metadata": lambda g: g.without("metadata.json"),
    "metadata that is none": lambda g: archive({**g.members, "metadata.json": b"[" * 9}),
    "two configurations": lambda g: archive(
        g.members, {"config.json": json.dumps({**g.ours, "config": {"features": 1}}).encode()}
    ),
    "members outside": lambda g: archive({**g.members, "../breach": b"x", g.breach: b"x"}),
    "many members": lambda g: archive({**g.members, **{f"assets/{i}": b"" for i in range(20_000)}}),
    "weights that are none": lambda g: archive({**g.members, "model.weights.h5": b"weights"}),
    "weights cut short": lambda g: archive(
        {**g.members, "model.weights.h5": g.members["model.weights.h5"][:9_000]}
    ),
    "other width": lambda g: g.settings(features=int(g.rng.integers(5, 30)), widths=[4, 6]),
    "giant": lambda g: g.settings(features=10**7, widths=[10**5] * 4),
    "wide": lambda g: g.settings(features=4000, widths=[9000] * 11),
    "endless": lambda g: g.settings(num_steps=10**9, widths=[2] * 10**5),
    "width that is no number": lambda g: g.settings(features="wide", widths="wide"),
    "width that is not whole": lambda g: g.settings(features=4.5, widths=[4.5, 6]),
    "negative width": lambda g: g.settings(features=-4, widths=[-4, 6]),
    "no width": lambda g: g.settings(features=0, num_steps=0, widths=[]),
    "infinite width": lambda g: g.settings(features=float("inf"), widths=[float("nan")]),
    "other signal model": lambda g: g.settings(model="magic"),
    "signal model of another kind": lambda g: g.settings(model=["t2_decay"]),
    "setting that is unknown": lambda g: g.settings(magic=1),
    "dtype that is unknown": lambda g: g.settings(dtype="float3"),
    "name that is none": lambda g: g.settings(name="a/../b\n\x1b[31m"),
    "settings that are none": lambda g: g.config(config=[1, 2]),
}
_LEGACY = ("legacy, Lambda", "legacy, old Lambda", "legacy, nothing")
#: Damage that may go unseen, or need not be minded.
_MAY_LOAD = (
    *("bytes at random", "bytes at random ", "weights' bytes at random", "weights' bytes anywhere"),
    *("configuration at random", "no metadata", "Lambda as build settings", "two configurations"),
    *(
        "members outside",
        "many members",
        "name that is none",
        "nested groups",
        "metadata that is none",
    ),
)


def _card(rng: np.random.Generator, folder: Path, stock: Stock) -> Try:
    """The card beside a network, a JSON file, is none."""
    stock.copy("network.keras", folder).rename(folder / "net.keras")
    card = json.loads((stock.folder / "network.json").read_text())
    keys = ("kind", "signal_model", "parameters", "envelope", "training", "protocols", "versions")
    what, content = hostile_json(rng, card, (*keys, "data", "best_validation_loss", "weights"))
    if rng.random() < 0.3:
        pool = ({"num_images": "x"}, {"tau_ms": [1]}, {"sigma": [None, 3]}, {"sigma": [-1, "a"]})
        card["envelope"] = {**card.get("envelope", {}), **pool[rng.integers(len(pool))]}
        what, content = f"envelope {card['envelope']}", json.dumps(card).encode()
    write(folder / "net.json", content)
    name = str(rng.choice(["predict", "models", "export"]))
    arguments = tuple(COMMANDS[name][0].format("net.keras").split())
    return Try(f"{name}, card: {what}", arguments)


def _run_folder(rng: np.random.Generator, folder: Path, stock: Stock) -> Try:
    """A run folder to resume in which the checkpoint, settings or history are none."""
    stock.copy("shards", folder)
    stock.copy("run", folder)
    name = str(rng.choice(["checkpoint.npz", "settings.json", "history.csv", "last.keras"]))
    path = folder / "run" / name
    kind = int(rng.integers(6))
    what = ("bytes", "cut", "empty", "pickled", "an array more", "random")[kind]
    raw = path.read_bytes() if path.is_file() else b""
    if name == "settings.json" and kind > 2:
        what, content = hostile_json(
            rng, json.loads(raw), ("features", "seed", "data", "iterations")
        )
    elif kind == 3:
        stream = io.BytesIO()
        hostile = np.array([_Pickled(str(folder / BREACH))], object)
        np.savez(stream, iteration=hostile, best=hostile, weight_0=hostile)
        content = stream.getvalue()
    elif kind == 4:
        stream = io.BytesIO()
        np.savez(stream, iteration=np.arange(3), best="x", weight_0=np.ones((2, 2)))
        content = stream.getvalue()
    else:
        content = (flipped(rng, raw or b"\0"), raw[: len(raw) // 2], b"", b"", b"", rng.bytes(900))[
            kind
        ]
    write(path, content)
    command = (
        *("relaxnet train --data shards --iterations 3 --batch-size 4 --features 4").split(),
        *("--num-steps 2 --out run --resume").split(),
    )
    return Try(f"train --resume, {name}: {what}", tuple(command), keep=("run",))
