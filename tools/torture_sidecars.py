"""Part ``sidecars`` of `tools/torture.py`: JSON, lists and tables that are none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torture_files import (
    AFFINE,
    SHAPE,
    TAU,
    TIMES,
    Stock,
    bids_dataset,
    flipped,
    mle,
    phantom,
    save,
    series,
    write,
)
from torture_run import Try

DEEP = "[" * 100_000 + "]" * 100_000
#: Values of a JSON field, as its text.
VALUES = (
    *(
        "null",
        "true",
        "false",
        '""',
        '"x"',
        '"0.05"',
        "[]",
        "[[]]",
        "{}",
        "[0.05]",
        "[[0.05, 0.1]]",
    ),
    *("NaN", "Infinity", "-Infinity", "-1", "0", "-0.0", "1e308", "1e-320", "1e999", "1" * 400),
    *(
        "1" * 5000,
        '{"a": 1}',
        r'"\ud800"',
        r'"\u0000"',
        '"<b>&\\"x"',
        DEEP,
        "[" + "1," * 9**5 + "1]",
    ),
    *('["P"]', '["ORIGINAL", 3, null]', '"=1+1"', "50", "0.5", "1e5"),
)
KEYS = (
    *("InversionTime", "InversionTime", "InversionTime", "EchoTime", "RepetitionTime"),
    *("RepetitionTimeExcitation", "MagneticFieldStrength", "ImageType", "ScanningSequence"),
    *(
        "SliceTiming",
        "FlipAngle",
        "Manufacturer",
        "PhilipsScaleSlope",
        "PulseSequenceType",
        "Units",
    ),
    *("MRAcquisitionType", "SequenceVariant", "SoftwareName", "ComplexImageComponent"),
)
LISTS = (
    *("", "# times\n", "fast slow", "50 150 400 eight 1400 2200 3500", "50 150 400", "nan " * 7),
    *(
        "-50 150 400 800 1400 2200 3500",
        "50 150 400 800 1400 2200 inf",
        "0 0 0 0 0 0 0",
        "400 " * 7,
    ),
    *("50 150 400 800 1400 2200 1e999", "1e-320 150 400 800 1400 2200 3500", "50," * 7, "50;" * 7),
    *("50,5 150,5 400,5 800,5 1400,5 2200,5 3500,5", '{"InversionTime": [0.05]}', "50 " * 200_000),
    *("9" * 500_000, "5_0 150 400 800 1400 2200 3500", "٥٠ 150 400 800 1400 2200 3500", "50\0" * 7),
    *("\ud800 50 150", "50 150 400 800 1400 2200 3500\u2028", "0x32 150 400 800 1400 2200 3500"),
    *("50ms 150ms 400ms 800ms 1400ms 2200ms 3500ms", "1e308 1e307 1e306 1e305 1e304 1e303 1e302"),
)
TABLE = """labels,tissue,A,A_sd,T1,T1_sd,T2,T2_sd,source
1,CSF,1.0,0.3,3500,300,2000,300,x
2 9,grey matter,0.85,0.3,1400,300,110,30,x
3,white matter,0.65,0.3,780,250,80,20,x
4 5 6 7 8 10 11,rest,0.9,0.3,420,100,70,20,x
"""


def make(rng: np.random.Generator, folder: Path, stock: Stock) -> Try:
    """One try: a text file of some kind that is none."""
    kinds = list(KINDS)
    weights = np.array([weight for _, weight in KINDS.values()], float)
    kind = kinds[rng.choice(len(kinds), p=weights / weights.sum())]
    what, arguments, codes = KINDS[kind][0](rng, folder, stock)
    return Try(f"{kind}: {what}", arguments, codes=codes)


Made = tuple[str, tuple[str, ...], tuple[int, ...]]
USUAL = (0, 2)


def hostile_json(rng: np.random.Generator, sound: dict[str, Any], keys: tuple[str, ...] = KEYS):
    """Text or bytes of a JSON file with a wrong value, another encoding, or damage."""
    key, value = str(rng.choice(keys)), VALUES[rng.integers(len(VALUES))]
    items = {k: json.dumps(v) for k, v in sound.items()}
    items[key] = value
    text = "{" + ", ".join(f"{json.dumps(k)}: {v}" for k, v in items.items()) + "}"
    what = f"{key} {value[:30]}"
    kind = int(rng.integers(14))
    plain = json.dumps(sound).encode()
    others: dict[int, tuple[str, bytes]] = {
        0: ("UTF-16", text.encode("utf-16", "surrogatepass")),
        1: ("a byte order mark", b"\xef\xbb\xbf" + plain),
        2: ("Latin-1", plain[:-1] + ', "Name": "K\xf6ln"}'.encode("latin-1")),
        3: ("bytes changed", flipped(rng, plain)),
        4: ("NUL", plain.replace(b" ", b"\0")),
        5: ("of another kind", (b"[]", b"3", b"null", b'"x"', b"", b"{")[rng.integers(6)]),
        6: ("twice the key", plain[:-1] + b", " + plain[1:]),
        7: ("a surrogate as bytes", plain[:-1] + b', "Name": "\xed\xa0\x80"}'),
    }
    return others.get(kind, (what, text.encode("utf-8", "surrogatepass")))


def sidecar(rng: np.random.Generator, folder: Path, stock: Stock) -> Made:
    """Sidecars of a series whose times they hold; one of them is wrong."""
    names, odd = [], int(rng.integers(len(TAU)))
    for i, image in enumerate(np.moveaxis(phantom(np.random.default_rng(0)), -1, 0)):
        names.append(save(folder / f"s{i}.nii.gz", image).name)
        card: dict[str, Any] = {"InversionTime": TAU[i] / 1000, "RepetitionTime": 10.0}
        content: str | bytes = json.dumps(card)
        if i == odd:
            what, content = hostile_json(rng, card)
        write(folder / f"s{i}.json", content)
    tr = ("--tr", "sidecar") if rng.random() < 0.3 else ()
    return what, ("relaxnet", "predict", *names, "--method", "mle", *tr, "--out", "maps"), USUAL


def unneeded(rng: np.random.Generator, folder: Path, stock: Stock) -> Made:
    """A sidecar beside a series whose times are given."""
    series(folder)
    what, content = hostile_json(rng, {"RepetitionTime": 10.0})
    write(folder / "s.json", content)
    return what, mle("s.nii"), USUAL


def times(rng: np.random.Generator, folder: Path, stock: Stock) -> Made:
    """A list of times that is none."""
    series(folder)
    kind = int(rng.integers(len(LISTS) + 6))
    raw: dict[int, tuple[str, bytes]] = {
        0: ("UTF-16", TIMES.encode("utf-16")),
        1: ("random bytes", rng.bytes(300)),
        2: ("bytes changed", flipped(rng, TIMES.encode())),
        3: ("a byte order mark", b"\xef\xbb\xbf" + TIMES.encode()),
        4: ("Latin-1", b"# R\xf6hre\n" + TIMES.encode()),
        5: ("a binary file", bytes(10**6)),
    }
    if kind in raw:
        what, content = raw[kind]
    else:
        what = LISTS[kind - 6][:40]
        content = LISTS[kind - 6].encode("utf-8", "surrogatepass")
    write(folder / "tis.txt", content)
    if rng.random() < 0.25:
        return what, ("relaxsim", "generate", "--tis", "tis.txt", *SMALL), USUAL
    return what, mle("s.nii"), USUAL


SMALL = ("--patches", "2", "--patch-size", "4", "--out", "o")


def bounds(rng: np.random.Generator, folder: Path, stock: Stock) -> Made:
    """Bounds of the fit that are none."""
    series(folder)
    what, content = hostile_json(rng, {"T1": [50, 5000]}, ("T1", "B", "A", "T9", "", "T1"))
    pairs = ("[1, 2]", "[5000, 50]", "[NaN, 2]", "[-5, 100]", "[0, 0]", "[1e-300, 1e300]", "[1]")
    if rng.random() < 0.5:
        key, value = rng.choice(["T1", "B", "A"]), pairs[rng.integers(len(pairs))]
        what, content = f"{key} {value}", f'{{"{key}": {value}}}'.encode()
    write(folder / "bounds.json", content)
    return what, (*mle("s.nii"), "--bounds", "bounds.json"), USUAL


def table(rng: np.random.Generator, folder: Path, stock: Stock) -> Made:
    """A tissue table that is none."""
    rows = [line.split(",") for line in TABLE.strip().splitlines()]
    kind = int(rng.integers(16))
    what = f"kind {kind}"
    content: bytes | None = None
    if kind < 7:
        row, column = int(rng.integers(len(rows))), int(rng.integers(len(rows[0])))
        pool = (
            *(
                "",
                "x",
                "nan",
                "inf",
                "-1",
                "0",
                "1e308",
                "1e999",
                "-5",
                "1_0",
                "٣",
                "\0",
                "9" * 9999,
            ),
            *("x" * 200_000, '"', '"open', "1 2 3", "0", "12", "256", "-1", "1.5", "2 2", "\ud800"),
        )
        value = pool[rng.integers(len(pool))]
        rows[row][column] = value
        what = f"row {row}, column {column}: {value[:20]!r}"
    elif kind == 7:
        column = int(rng.integers(len(rows[0])))
        rows, what = [row[:column] + row[column + 1 :] for row in rows], f"no column {column}"
    elif kind == 8:
        rows, what = [row[: rng.integers(1, 9)] for row in rows], "rows cut"
    elif kind == 9:
        content, what = TABLE.encode("utf-16"), "UTF-16"
    elif kind == 10:
        content, what = flipped(rng, TABLE.encode()), "bytes changed"
    elif kind == 11:
        content, what = TABLE.replace(",", ";").encode(), "semicolons"
    elif kind == 12:
        content, what = b"", "empty"
    elif kind == 13:
        content, what = rng.bytes(2000), "random bytes"
    elif kind == 14:
        rows, what = rows + rows[1:] * 2000, "rows many times"
    else:
        rows, what = rows[:1], "header alone"
    text = "\n".join(",".join(row) for row in rows)
    write(folder / "t.csv", text if content is None else content)
    write(folder / "tis.txt", TIMES)
    arguments = ("relaxsim", "generate", "--tis", "tis.txt", "--tissues", "t.csv", *SMALL)
    return what, arguments, USUAL


def names(rng: np.random.Generator, folder: Path, stock: Stock) -> Made:
    """Names of regions that are none."""
    series(folder)
    labels = np.zeros(SHAPE, np.int16)
    labels[4:6, 3:6], labels[6:8, 3:6] = 1, 2
    save(folder / "rois.nii", labels)
    texts = (
        *("", "1", "1,a\n1,b", "x,a", "nan,a", "1.5,a", "-1,a", "1," + "x" * 200_000, '1,"open'),
        *("label,name\n1,=1+1\n2,<script>", "1,\0", "1,\ud800", "1;a", "1\ta", "99999999999999,a"),
        *(
            "1,a,b,c",
            ",",
            "\n\n",
            "1,é",
            "1," + '""' * 70_000,
            "1e0,a",
            "9" * 5000 + ",a",
            "1,a\r2,b",
        ),
    )
    text = texts[rng.integers(len(texts))]
    raw = text.encode("utf-8", "surrogatepass")
    kind, what = int(rng.integers(6)), repr(text[:30])
    if kind == 0:
        raw, what = "1,a\n2,b".encode("utf-16"), "UTF-16"
    elif kind == 1:
        raw, what = rng.bytes(500), "random bytes"
    write(folder / "names.csv", raw)
    report = ("--report",) if rng.random() < 0.3 else ()
    return what, (*mle("s.nii"), "--rois", "rois.nii", "--roi-names", "names.csv", *report), USUAL


def dataset(rng: np.random.Generator, folder: Path, stock: Stock) -> Made:
    """A BIDS dataset with a file of it that is none; a series that fails is exit code 1."""
    root = bids_dataset(folder / "data", 1)
    sound = {"InversionTime": 0.05, "RepetitionTime": 10.0}
    what, content = hostile_json(rng, sound)
    places = (
        *("dataset_description.json", "sub-01/anat/sub-01_inv-2_IRT1.json", "IRT1.json"),
        *("participants.tsv", "sub-01/sub-01_IRT1.json", ".bidsignore", "task-x_IRT1.json"),
    )
    place = str(rng.choice(places))
    if place.endswith(".tsv"):
        content = rng.bytes(300)
    write(root / place, content)
    arguments = ("relaxnet", "bids", "data", "deriv", "participant", "--method", "mle")
    return f"{place}: {what}", arguments, (0, 1, 2)


def maps(rng: np.random.Generator, folder: Path, stock: Stock) -> Made:
    """A folder of maps with a sidecar that is none, viewed or mapped into again."""
    series(folder)
    stock.copy("maps", folder)
    cards = sorted((folder / "maps").glob("*.json"))
    card = cards[rng.integers(len(cards))]
    keys = ("Units", "Levels", "SoftwareName", "SoftwareVersion", "SignalModel", "Sources", "Mask")
    what, content = hostile_json(rng, json.loads(card.read_text()), keys)
    write(card, content)
    commands: tuple[tuple[str, ...], ...] = (
        ("relaxnet", "view", "maps", "--out", "x.png"),
        (*mle("s.nii"), "--overwrite"),
        ("relaxnet", "view", "maps", "maps", "--map", card.stem, "--out", "x.png"),
    )
    return f"{card.name}: {what}", commands[rng.integers(len(commands))], USUAL


def labels(rng: np.random.Generator, folder: Path, stock: Stock) -> Made:
    """A label volume for the simulator that is damaged or none."""
    write(folder / "tis.txt", TIMES)
    volume = rng.integers(0, 12, (20, 20, 6)).astype(np.uint8)
    ending = str(rng.choice([".nii", ".nii.gz", ".mnc", ".mnc.gz", ".rawb", ".rawb.gz", ".bin"]))
    path = folder / f"b{ending}"
    good = save(folder / "good.nii.gz" if ending.endswith("gz") else folder / "good.nii", volume)
    raw = good.read_bytes()
    good.unlink()
    kind = int(rng.integers(5))
    contents = (
        flipped(rng, raw),
        rng.bytes(3000),
        b"",
        raw[: rng.integers(len(raw))],
        bytes(10**6),
    )
    write(path, contents[kind])
    if kind == 0 and ending.startswith(".nii"):
        odd = (volume + 200, volume * np.float32(np.nan), volume - 0.5, volume[:3, :3], 0 * volume)
        choice = int(rng.integers(6))
        if choice < 5:
            save(path, odd[choice].astype(np.float32), AFFINE)
    arguments = ("relaxsim", "generate", "--tis", "tis.txt", "--brains", path.name, *SMALL)
    return f"{path.name}, kind {kind}", arguments, USUAL


#: Kinds of text files and how often they are drawn.
KINDS: dict[str, tuple[Callable[[np.random.Generator, Path, Stock], Made], int]] = {
    "sidecar": (sidecar, 20),
    "unneeded sidecar": (unneeded, 6),
    "times": (times, 16),
    "bounds": (bounds, 10),
    "tissue table": (table, 14),
    "names of regions": (names, 12),
    "BIDS": (dataset, 10),
    "map folder": (maps, 10),
    "label volume": (labels, 8),
}
