"""Part ``shards`` of `tools/torture.py`: HDF5 files that are damaged or hold something else."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from torture_files import Stock, flipped, write
from torture_run import EITHER, REFUSED, Try

DATASETS = ("S", "kappa", "sigma", "labels", "purity", "origin")
FIRST = "shard-00000.h5"
#: Commands that read shards, and how often.
COMMANDS: dict[str, tuple[tuple[str, ...], float]] = {
    "info": (("relaxsim", "info", "d"), 0.2),
    "verify": (("relaxsim", "verify", "d"), 0.27),
    "view": (("relaxsim", "view", f"d/{FIRST}", "--out", "x.png"), 0.2),
    "train": (
        tuple(
            "relaxnet train --data d --iterations 1 --batch-size 2 --features 2 --num-steps 1 "
            "--out r".split()
        ),
        0.2,
    ),
    "calibrate": (
        tuple(
            "relaxnet calibrate network.keras --data d --patches 2 --iterations 1 --out c".split()
        ),
        0.13,
    ),
}


def make(rng: np.random.Generator, folder: Path, stock: Stock) -> Try:
    """One try: a folder with a shard that is damaged, and a command that reads it."""
    stock.copy("small", folder).rename(folder / "d")
    command = str(rng.choice(list(COMMANDS), p=[share for _, share in COMMANDS.values()]))
    if command == "calibrate":
        stock.copy("network.keras", folder)
        stock.copy("network.json", folder)
    kinds = list(KINDS)
    weights = np.array([weight for _, weight in KINDS.values()], float)
    kind = kinds[rng.choice(len(kinds), p=weights / weights.sum())]
    what, expect = KINDS[kind][0](rng, folder / "d" / FIRST)
    expect = EITHER if command == "info" else expect
    return Try(
        f"{command}, {kind}: {what}", COMMANDS[command][0], expect, reports=command == "verify"
    )


Made = tuple[str, str]


def damage(rng: np.random.Generator, path: Path) -> Made:
    """Bytes changed anywhere, or cut."""
    return "anywhere", _rewrite(path, flipped(rng, path.read_bytes(), 30))


def head_damage(rng: np.random.Generator, path: Path) -> Made:
    """Bytes changed where the file's structure lies."""
    raw = path.read_bytes()
    return "in the head", _rewrite(path, flipped(rng, raw, 4, min(4000, len(raw)), 0))


def structure_damage(rng: np.random.Generator, path: Path) -> Made:
    """A byte changed beside a signature of HDF5's structures."""
    raw = bytearray(path.read_bytes())
    marks = (
        b"OHDR",
        b"OCHK",
        b"FRHP",
        b"FHDB",
        b"FADB",
        b"BTHD",
        b"BTLF",
        b"FAHD",
        b"TREE",
        b"SNOD",
    )
    places = [i for mark in marks for i in _found(raw, mark)] or [0]
    for _ in range(rng.integers(1, 4)):
        place = int(places[rng.integers(len(places))] + rng.integers(0, 120))
        raw[place % len(raw)] ^= 1 << int(rng.integers(8))
    return "beside a signature", _rewrite(path, bytes(raw))


def _found(raw: bytes, mark: bytes) -> list[int]:
    places, at = [], raw.find(mark)
    while at >= 0:
        places.append(at)
        at = raw.find(mark, at + 1)
    return places


def _rewrite(path: Path, raw: bytes) -> str:
    write(path, raw)
    return EITHER


def attribute(rng: np.random.Generator, path: Path) -> Made:
    """An attribute of another type, shape or meaning; the checksum of all is right."""
    name = str(rng.choice(_NAMES))
    values = {**_VALUES, **_MEANINGS.get(name, {})}
    pool = list(values) if rng.random() < 0.4 else list(_MEANINGS.get(name, values))
    what = str(rng.choice(pool))
    _change(path, attributes={name: values[what]})
    return f"{name} {what}", EITHER


_NAMES = ("layout", "signal_model", "parameters", "units", "tau", "protocol", "index", "settings")
_NAMES = (*_NAMES, "version", "crc32", "tau", "settings", "settings", "signal_model")
_VALUES: dict[str, Any] = {
    "an array": np.arange(5.0),
    "a matrix": np.ones((2, 2)),
    "bytes": np.bytes_(b"\xff\xfe"),
    "text": "text",
    "a compound": np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")])[0],
    "empty": h5py.Empty("f8"),
    "empty text": np.bytes_(b""),
    "no element": np.zeros(0),
    "many": np.zeros(7000),
    "NaN": np.nan,
    "infinity": np.inf,
    "minus one": -1,
    "2**63 - 1": np.int64(2**63 - 1),
    "2**64 - 1": np.uint64(2**64 - 1),
    "1.5": 1.5,
    "true": np.bool_(True),
    "complex": 1 + 2j,
    "texts": np.array(["a", "b"], h5py.string_dtype()),
    "opaque": np.void(b"\x01\x02\x03"),
    "float16": np.float16(1),
    "surrogates": np.bytes_("\ud800".encode("utf-8", "surrogatepass")),
    "with a line break": np.bytes_(b"a\nError: b\x1b[31m"),
    "missing": None,
}
_TEXTS = {
    **{
        f"JSON {t[:12]}": np.bytes_(t.encode())
        for t in ("{", "[]", "null", "3", '"x"', "{}", "NaN")
    },
    "deep JSON": np.bytes_(b"[" * 60_000),
    "JSON of a huge number": np.bytes_(b'{"seed": ' + b"1" * 5000 + b"}"),
}


def _settings(**changes: Any) -> Callable[[h5py.File], np.bytes_]:
    def changed(file: h5py.File) -> np.bytes_:
        return np.bytes_(json.dumps({**json.loads(file.attrs["settings"]), **changes}).encode())

    return changed


_MEANINGS: dict[str, dict[str, Any]] = {
    "settings": {
        **_TEXTS,
        **{
            f"{key} {value!r:.20}": _settings(**{key: value})
            for key in ("sigma_range", "noise", "tissues", "anatomies", "seed", "patches")
            for value in (None, [], "x", [1], {}, -1, [float("nan")] * 2, [["a"]])
        },
    },
    "parameters": _TEXTS,
    "units": _TEXTS,
    "signal_model": {n: np.bytes_(n.encode()) for n in ("t2_decay", "magic", "../x", "__class__")},
    "tau": {
        "shorter": np.arange(1.0, 4),
        "NaN": np.full(7, np.nan),
        "infinite": np.full(7, np.inf),
        "negative": -np.arange(7.0),
        "zeros": np.zeros(7),
        "whole numbers": np.arange(7),
        "texts": np.array(list("abcdefg"), h5py.string_dtype()),
        "complex": np.ones(7, complex),
        "a row": np.ones((1, 7)),
        "a column": np.ones((7, 1)),
        "huge": np.full(7, 1e308),
        "a number": 7.0,
    },
    "layout": {str(v): v for v in (0, 2, 1.0, "1", 10**9)},
    "index": {str(v): v for v in (5, -3, 2**62, "0", 0.5)},
}


def dataset(rng: np.random.Generator, path: Path) -> Made:
    """A dataset of another type, shape, storage or meaning; its checksum is right."""
    name = str(rng.choice(DATASETS))
    what = str(rng.choice(list(_DATASETS)))
    with h5py.File(path) as file:
        data = file[name][()]

    def put(file: h5py.File) -> None:
        _DATASETS[what](file, name, data)

    _change(path, datasets={name: put})
    return f"{name} {what}", REFUSED if what in _NEVER else EITHER


def _plain(change: Callable[[np.ndarray], Any], **options: Any) -> Callable[..., None]:
    def put(file: h5py.File, name: str, data: np.ndarray) -> None:
        with np.errstate(all="ignore"):
            value = change(data)
        made = file.create_dataset(name, data=value, **options)
        made.attrs["crc32"] = zlib.crc32(np.ascontiguousarray(value).tobytes())

    return put


def _declared(**options: Any) -> Callable[..., None]:
    """A dataset whose values are not in the file."""

    def put(file: h5py.File, name: str, data: np.ndarray) -> None:
        filled = {key: v(data) if callable(v) else v for key, v in options.items()}
        made = file.create_dataset(name, **{"shape": data.shape, "dtype": data.dtype, **filled})
        made.attrs["crc32"] = zlib.crc32(bytes(0))

    return put


def _link(target: Callable[[str], Any]) -> Callable[..., None]:
    def put(file: h5py.File, name: str, data: np.ndarray) -> None:
        file.create_dataset(f"other_{name}", data=data).attrs["crc32"] = zlib.crc32(data.tobytes())
        file[name] = target(name)

    return put


def _virtual(source: str) -> Callable[..., None]:
    def put(file: h5py.File, name: str, data: np.ndarray) -> None:
        layout = h5py.VirtualLayout(shape=data.shape, dtype=data.dtype)
        layout[...] = h5py.VirtualSource(source, name, shape=data.shape)
        file.create_virtual_dataset(name, layout).attrs["crc32"] = 0

    return put


def _packed(file: h5py.File, name: str, data: np.ndarray) -> None:
    """Two gigabytes of zeros in a few packed chunks."""
    shape = (500_000, *data.shape[1:])
    chunk = (max(1, 500_000 // 4), *data.shape[1:])
    made = file.create_dataset(
        name, shape, data.dtype, chunks=chunk, compression="gzip", compression_opts=1
    )
    made[:1] = 0
    made.attrs["crc32"] = 0


def _compound(data: np.ndarray) -> np.ndarray:
    out = np.zeros(data.shape, [("a", "f4"), ("b", "i4")])
    out["a"] = data
    return out


def _holed(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(data: np.ndarray) -> np.ndarray:
        out = data.astype(np.float32)
        out.flat[0] = value
        return out.astype(data.dtype) if data.dtype.kind == "f" else out

    return change


_DATASETS: dict[str, Callable[..., None]] = {
    "as float64": _plain(lambda d: d.astype(np.float64)),
    "as int32": _plain(lambda d: d.astype(np.int32)),
    "as complex": _plain(lambda d: d.astype(np.complex64)),
    "as bytes": _plain(lambda d: d.astype("S8")),
    "as compound": _plain(_compound),
    "as truth values": _plain(lambda d: d > 0),
    "as big-endian": _plain(lambda d: d.astype(d.dtype.newbyteorder(">"))),
    "as opaque": _plain(lambda d: d.astype(np.float32).view("V4")),
    "as a number": _plain(lambda d: np.float32(1)),
    "without patches": _plain(lambda d: d[:0]),
    "with an empty last axis": _plain(lambda d: d[..., :0]),
    "one patch short": _plain(lambda d: d[:-1]),
    "with an axis more": _plain(lambda d: d[..., None]),
    "all NaN": _plain(lambda d: (d * np.nan).astype(d.dtype if d.dtype.kind == "f" else "f4")),
    "one NaN": _plain(_holed(np.nan)),
    "one infinite": _plain(_holed(np.inf)),
    "negative": _plain(lambda d: -d),
    "zero": _plain(lambda d: 0 * d),
    "largest": _plain(lambda d: np.full(d.shape, _largest(d.dtype), d.dtype)),
    "smallest": _plain(lambda d: np.full(d.shape, 1e-45 if d.dtype.kind == "f" else 1, d.dtype)),
    "with shuffle and gzip": _plain(lambda d: d, compression="gzip", shuffle=True),
    "with fletcher32": _plain(lambda d: d, fletcher32=True),
    "with lzf": _plain(lambda d: d, compression="lzf"),
    "in one chunk": _plain(lambda d: d, chunks=True, maxshape=None),
    "declared alone": _declared(),
    "declared of 40 TB": _declared(
        shape=lambda d: (10**9, *d.shape[1:]), chunks=lambda d: (1, *d.shape[1:])
    ),
    "in chunks of 3 GB": _declared(
        shape=lambda d: (10**9, *d.shape[1:]),
        chunks=lambda d: (max(1, 3 * 10**9 // max(1, d[0].nbytes)), *d.shape[1:]),
    ),
    "in external storage": _declared(external=[("/dev/zero", 0, h5py.h5f.UNLIMITED)]),
    "in a storage that is missing": _declared(external=[("missing.raw", 0, h5py.h5f.UNLIMITED)]),
    "of packed zeros": _packed,
    "as a group": lambda f, n, d: f.create_group(n),
    "as a type": lambda f, n, d: f.__setitem__(n, np.dtype("f8")),
    "as nothing": lambda f, n, d: None,
    "as empty": lambda f, n, d: f.create_dataset(n, data=h5py.Empty("f4")),
    "as texts": lambda f, n, d: f.create_dataset(n, data=["a"] * len(d), dtype=h5py.string_dtype()),
    "as references": lambda f, n, d: f.create_dataset(n, d.shape, h5py.ref_dtype),
    "as lists": lambda f, n, d: f.create_dataset(n, d.shape, h5py.vlen_dtype(np.float32)),
    "as an enumeration": lambda f, n, d: f.create_dataset(n, d.shape, h5py.enum_dtype({"a": 1})),
    "by a soft link": _link(lambda n: h5py.SoftLink(f"/other_{n}")),
    "by a link to itself": _link(lambda n: h5py.SoftLink(f"/{n}")),
    "by a link to nothing": _link(lambda n: h5py.SoftLink("/missing")),
    "by an external link": _link(lambda n: h5py.ExternalLink(FIRST, f"/other_{n}")),
    "by a link to a missing file": _link(lambda n: h5py.ExternalLink("missing.h5", f"/{n}")),
    "by a link to /dev/zero": _link(lambda n: h5py.ExternalLink("/dev/zero", f"/{n}")),
    "virtual, of another file": _virtual("other.h5"),
    "virtual, of itself": _virtual("."),
}
#: What no command that reads the data may take.
_NEVER = (
    *("as compound", "as complex", "without patches", "as a group", "as a type", "as nothing"),
    *("declared of 40 TB", "in external storage", "in a storage that is missing", "as lists"),
    *("by an external link", "virtual, of another file", "virtual, of itself", "as references"),
    *("one patch short", "with an axis more", "with an empty last axis", "as texts"),
)


def _largest(dtype: np.dtype) -> float:
    return float(np.finfo(dtype).max) if dtype.kind == "f" else int(np.iinfo(dtype).max)


def both(rng: np.random.Generator, path: Path) -> Made:
    """All datasets empty or short at once, so that their shapes agree."""
    what = str(rng.choice(["no patch", "patches of width 0", "no times", "one voxel", "one patch"]))
    with h5py.File(path) as file:
        arrays = {name: file[name][()] for name in DATASETS}
    cut = {"no patch": slice(0), "one patch": slice(1)}.get(what, slice(None))
    wide = {"patches of width 0": slice(0), "one voxel": slice(1)}.get(what, slice(None))
    changed = {name: a[cut][:, wide, wide] if a.ndim > 2 else a[cut] for name, a in arrays.items()}
    attributes: dict[str, Any] = {}
    if what == "no times":
        changed["S"], attributes["tau"] = changed["S"][..., :0], np.zeros(0)
    _change(
        path,
        {n: _given(_plain(lambda d: d), n, data) for n, data in changed.items()},
        attributes,
    )
    return what, EITHER


def _given(put: Callable[..., None], name: str, data: np.ndarray) -> Callable[[h5py.File], None]:
    return lambda file: put(file, name, data)


def place(rng: np.random.Generator, path: Path) -> Made:
    """What stands in the place of the shard's file."""
    raw, other = path.read_bytes(), path.with_name("shard-00001.h5")
    what = str(rng.choice(list(_PLACES)))
    path.unlink()
    _PLACES[what](path, other, raw)
    return what, EITHER


def _userblock(path: Path, raw: bytes) -> None:
    write(path, bytes(512) + raw)


_PLACES: dict[str, Callable[[Path, Path, bytes], object]] = {
    "a folder": lambda p, o, r: p.mkdir(),
    "a pipe": lambda p, o, r: os.mkfifo(p),
    "/dev/zero": lambda p, o, r: p.symlink_to("/dev/zero"),
    "a link to itself": lambda p, o, r: p.symlink_to(p.name),
    "a link to nothing": lambda p, o, r: p.symlink_to("missing"),
    "an empty file": lambda p, o, r: write(p, b""),
    "text": lambda p, o, r: write(p, b"hello" * 999),
    "zeros": lambda p, o, r: write(p, bytes(10**6)),
    "an HDF5 file of nothing": lambda p, o, r: h5py.File(p, "w").close(),
    "a user block": lambda p, o, r: _userblock(p, r),
    "two of one number": lambda p, o, r: (write(p, r), write(o, r)),
    "a broken second": lambda p, o, r: (write(p, r), write(o, r[: len(r) // 2])),
    "a pipe as the second": lambda p, o, r: (write(p, r), os.mkfifo(o)),
    "a gap": lambda p, o, r: write(p.with_name("shard-00007.h5"), r),
    "a number of many digits": lambda p, o, r: write(p.with_name(f"shard-{'9' * 60}.h5"), r),
    "a name without a number": lambda p, o, r: write(p.with_name("shard-x.h5"), r),
}


def _change(
    path: Path,
    datasets: dict[str, Callable[[h5py.File], None]] | None = None,
    attributes: dict[str, Any] | None = None,
) -> None:
    """Write a shard anew with some of its datasets and attributes changed.

    Parameters
    ----------
    path : path
    datasets : dict of callable
        Write a dataset to the new file, by name.
    attributes : dict
        Values by name; None leaves one out, a callable is given the old file.
    """
    datasets, attributes = datasets or {}, attributes or {}
    new = path.with_name("new.h5")
    with h5py.File(path) as old, h5py.File(new, "w", libver=("v110", "v110")) as file:
        for name in DATASETS:
            if name in datasets:
                datasets[name](file)
            else:
                old.copy(name, file)
        items = dict(old.attrs)
        items.update({n: v(old) if callable(v) else v for n, v in attributes.items()})
        for name, value in items.items():
            if value is not None and name != "crc32":
                file.attrs[name] = value
        checksum = _checksum(file)
        file.attrs["crc32"] = attributes.get("crc32", checksum) if checksum is not None else 0
    new.replace(path)


def _checksum(file: h5py.File) -> int | None:
    """The checksum that a shard holds of its attributes; None if they have none."""
    try:
        found = {k: v.decode() if isinstance(v, bytes) else v for k, v in file.attrs.items()}
        found.pop("crc32", None)
        items = [(key, np.asarray(found[key]).tolist()) for key in sorted(found)]
        return zlib.crc32(json.dumps(items, default=str).encode())
    except Exception:
        return None


#: Kinds of shards and how often they are drawn.
KINDS: dict[str, tuple[Callable[[np.random.Generator, Path], Made], int]] = {
    "bytes": (damage, 14),
    "bytes of the head": (head_damage, 8),
    "bytes of structures": (structure_damage, 12),
    "attribute": (attribute, 28),
    "dataset": (dataset, 40),
    "shapes": (both, 6),
    "place": (place, 10),
}
