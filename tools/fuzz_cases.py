"""Cases of `tools/fuzz.py`: files that are damaged, whose headers are wrong, or of another kind.

A case writes its files to a folder and gives the arguments of ``relaxnet predict`` with the result
that is expected of them. Everything is drawn from one generator, so that a seed repeats a run.
"""

from __future__ import annotations

import gzip
import io
import json
import marshal
import pickle
import zipfile
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from relaxnet.networks.registry import PRETRAINED
from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY

TAU = np.array([50.0, 150, 400, 800, 1400, 2200, 3500])
SHAPE = (12, 10, 2)
AFFINE = np.diag([0.9, 0.9, 3.0, 1.0])
#: Name of the file that hostile code would write.
BREACH = "breach"
#: Results that a case may have.
REFUSED, MAPPED, EITHER = "refused", "mapped", "either"


@dataclass(frozen=True)
class Case:
    """Arguments of ``relaxnet predict`` besides --out, and the result that is expected."""

    what: str
    arguments: tuple[str, ...]
    expect: str = REFUSED


def phantom(rng: np.random.Generator) -> np.ndarray:
    """A disc of two tissues in air with Rician noise, (X, Y, Z, N) float32."""
    x, y, _ = np.meshgrid(*map(np.arange, SHAPE), indexing="ij")
    disc = (x - 5.5) ** 2 + (y - 4.5) ** 2 < 18
    T1 = np.where(x < 6, 700.0, 1300.0)
    kappa = np.stack([np.where(disc, 900.0, 0.0), np.full(SHAPE, 1.95), T1], -1)
    noise = 8 * rng.standard_normal((2, *SHAPE, len(TAU)))
    return np.hypot(INVERSION_RECOVERY.forward(kappa, TAU) + noise[0], noise[1]).astype(np.float32)


def save(path: Path, data: np.ndarray, affine: np.ndarray = AFFINE, kind: type = nib.Nifti1Image):
    """Write an image and return its path."""
    nib.save(kind(data, affine), path)
    return path


def times(folder: Path, text: str | None = None) -> tuple[str, str]:
    """Option with a list of times."""
    path = folder / "tis.txt"
    path.write_text("\n".join(f"{t:g}" for t in TAU) if text is None else text)
    return "--tis", str(path)


def mle(folder: Path, series: Path | None = None, rng: np.random.Generator | None = None):
    """Arguments of a fit of a series, by default a good one."""
    if series is None:
        series = save(folder / "s.nii", phantom(rng or np.random.default_rng(0)))
    return str(series), *times(folder), "--method", "mle"


def flipped(rng: np.random.Generator, raw: bytes, most: int = 12, end: int | None = None) -> bytes:
    """Bytes with some of the first `end` changed, and at times cut short."""
    out = bytearray(raw)
    for _ in range(rng.integers(1, most)):
        out[rng.integers(min(end or len(out), len(out)))] = rng.integers(256)
    return bytes(out[: rng.integers(len(out))] if rng.random() < 0.2 else out)


def damaged_nifti(rng: np.random.Generator, folder: Path) -> Case:
    """Bytes of the header, the data or the compressed stream are changed at random."""
    good = save(folder / "good.nii", phantom(rng)).read_bytes()
    if rng.random() < 0.5:
        raw, what = flipped(rng, good, 8, 352), "header"
        raw = gzip.compress(raw, 1) if rng.random() < 0.5 else raw
    else:
        raw, what = flipped(rng, gzip.compress(good, 1)), "gzip stream"
    path = folder / ("s.nii.gz" if raw[:2] == b"\x1f\x8b" or what != "header" else "s.nii")
    path.write_bytes(raw)
    return Case(f"NIfTI, {what} at random", mle(folder, path), EITHER)


#: Fields of the header with values that lie, by byte offset and type.
_LIES: tuple[tuple[str, int, str, tuple[float, ...], str], ...] = (
    ("dim", 40, "<i2", (4, 30000, 30000, 30000, 30000), REFUSED),
    ("dim", 40, "<i2", (4, -5, 10, 2, 7), REFUSED),
    ("dim", 40, "<i2", (0, 12, 10, 2, 7), REFUSED),
    ("dim", 40, "<i2", (7, 12, 10, 2, 7, 3, 3, 3), REFUSED),
    ("dim", 40, "<i2", (4, 12, 10, 2, 0), REFUSED),
    ("datatype", 70, "<i2", (32,), REFUSED),
    ("datatype", 70, "<i2", (128,), REFUSED),
    ("datatype", 70, "<i2", (999,), REFUSED),
    ("datatype", 70, "<i2", (1536,), REFUSED),
    ("offset", 108, "<f4", (np.nan,), REFUSED),
    ("offset", 108, "<f4", (1e9,), REFUSED),
    ("offset", 108, "<f4", (-4e8,), REFUSED),
    ("slope", 112, "<f4", (np.nan, 3.0), EITHER),
    ("slope", 112, "<f4", (np.inf, 0.0), EITHER),
    ("slope", 112, "<f4", (1e38, 1e38), REFUSED),
    ("slope", 112, "<f4", (0.0, 5.0), MAPPED),
    ("pixdim", 76, "<f4", (1.0, np.nan, 1.0, 1.0), EITHER),
    ("pixdim", 76, "<f4", (1.0, 0.0, -1.0, 0.0), EITHER),
    ("sform", 280, "<f4", (np.nan, 0, 0, 0), REFUSED),
    ("sform", 280, "<f4", (0,) * 12, EITHER),
    ("qform", 256, "<f4", (9.0, 9.0, 9.0), EITHER),
    ("magic", 344, "<i4", (0,), REFUSED),
    ("size", 0, "<i4", (7,), EITHER),
    ("codes", 252, "<i2", (99, 99), EITHER),
    ("units", 123, "<u1", (255,), EITHER),
    ("extension", 348, "<u1", (1, 0, 0, 0), EITHER),
)


def lying_header(rng: np.random.Generator, folder: Path) -> Case:
    """A header that does not agree with the data of the file."""
    name, offset, dtype, values, expect = _LIES[rng.integers(len(_LIES))]
    raw = bytearray(save(folder / "good.nii", phantom(rng)).read_bytes())
    patch = np.array(values, dtype).tobytes()
    raw[offset : offset + len(patch)] = patch
    path = folder / "s.nii"
    path.write_bytes(raw)
    return Case(f"NIfTI, {name} {values}", mle(folder, path), expect)


def other_image(rng: np.random.Generator, folder: Path) -> Case:
    """A sound file of another kind, or with values that are not finite."""
    S, path = phantom(rng), folder / "s.nii"
    wrong = {
        "empty file": lambda: path.write_bytes(b""),
        "text": lambda: path.write_text("hello\n" * 200),
        "folder": path.mkdir,
        "nothing": lambda: None,
        "one image": lambda: save(path, S[..., 0]),
        "two dimensions": lambda: save(path, S[..., 0, 0]),
        "five dimensions": lambda: save(path, np.stack([S, S], -1)),
        "six images": lambda: save(path, S[..., 1:]),
        "complex": lambda: save(path, S.astype(np.complex64)),
        "colours": lambda: save(path, np.zeros(S.shape, np.dtype([(c, "u1") for c in "RGB"]))),
        "Analyze": lambda: _analyze(path, S),
        "all zero": lambda: save(path, 0 * S),
        "all NaN": lambda: save(path, S * np.nan),
        "all infinite": lambda: save(path, S + np.inf),
        "phase": lambda: save(path, rng.uniform(-np.pi, np.pi, (40, 40, 2, 7)).astype("f4")),
        "integer phase": lambda: save(path, rng.integers(0, 4096, (40, 40, 2, 7)).astype("i2")),
        "noise alone": lambda: save(path, np.abs(rng.normal(size=(40, 40, 1, 7))).astype("f4")),
    }
    name = list(wrong)[rng.integers(len(wrong))]
    wrong[name]()
    return Case(f"NIfTI, {name}", mle(folder, path))


def _analyze(path: Path, S: np.ndarray) -> None:
    nib.save(nib.AnalyzeImage(S, AFFINE), path.with_suffix(".img"))
    path.write_bytes(path.with_suffix(".img").read_bytes())


def mixed_files(rng: np.random.Generator, folder: Path) -> Case:
    """Several files that do not make a series: shapes, affines, kinds or their number differ."""
    S = phantom(rng)
    paths = [folder / f"{n}.nii.gz" for n in range(len(TAU))]
    for n, path in enumerate(paths):
        save(path, S[..., n])
    odd = int(rng.integers(1, len(TAU)))
    moved = AFFINE.copy()
    moved[0, 3] = 4
    phase = folder / f"sub-1_inv-{odd}_part-phase_IRT1.nii.gz"
    wrong: dict[str, Callable[[], object]] = {
        "other shape": lambda: save(paths[odd], S[:-1, ..., odd]),
        "other place": lambda: save(paths[odd], S[..., odd], moved),
        "mirrored": lambda: save(paths[odd], S[..., odd], AFFINE @ np.diag([-1, 1, 1, 1])),
        "4-D among 3-D": lambda: save(paths[odd], S),
        "one missing": lambda: paths[odd].unlink(),
        "one too few": lambda: paths.pop(odd),
        "one too many": lambda: paths.append(paths[0]),
        "one cut short": lambda: paths[odd].write_bytes(paths[odd].read_bytes()[:200]),
        "phase by name": lambda: paths.__setitem__(odd, save(phase, S[..., odd])),
        "phase by sidecar": lambda: (folder / f"{odd}.json").write_text('{"ImageType": ["P"]}'),
    }
    name = list(wrong)[rng.integers(len(wrong))]
    wrong[name]()
    options = (*times(folder), "--method", "mle")
    return Case(f"files, {name}", (*map(str, paths), *options))


_LISTS: tuple[tuple[str, str], ...] = (
    ("empty", ""),
    ("comment alone", "# times\n"),
    ("words", "fast slow"),
    ("a word", "50 150 400 eight 1400 2200 3500"),
    ("too few", "50 150 400"),
    ("too many", "50 150 400 800 1400 2200 3500 5000"),
    ("negative", "-50 150 400 800 1400 2200 3500"),
    ("NaN", "nan 150 400 800 1400 2200 3500"),
    ("infinite", "50 150 400 800 1400 2200 inf"),
    ("overflow", "50 150 400 800 1400 2200 1e999"),
    ("seconds", "0.05 0.15 0.4 0.8 1.4 2.2 3.5"),
    ("all equal", "400 " * 7),
    ("two distinct", "400 800 400 800 400 800 400"),
    ("semicolons", "50;150;400;800;1400;2200;3500"),
    ("decimal commas", "50,5 150,5 400,5 800,5 1400,5 2200,5 3500,5"),
    ("JSON", '{"InversionTime": [0.05, 0.15]}'),
    ("long", "50 " * 5000),
    ("underscores", "5_0_ 150 400 800 1400 2200 3500"),
)


def bad_times(rng: np.random.Generator, folder: Path) -> Case:
    """A list that cannot be the times of the series."""
    arguments = list(mle(folder, rng=rng))
    path, kind = folder / "tis.txt", rng.integers(len(_LISTS) + 5)
    if kind < len(_LISTS):
        name, text = _LISTS[kind]
        path.write_text(text)
    elif kind == len(_LISTS):
        name = "random bytes"
        path.write_bytes(rng.bytes(300))
    elif kind == len(_LISTS) + 1:
        name = "UTF-16"
        path.write_bytes("50 150 400 800 1400 2200 3500".encode("utf-16"))
    elif kind == len(_LISTS) + 2:
        name = "a folder"
        path.unlink()
        path.mkdir()
    elif kind == len(_LISTS) + 3:
        name = "missing"
        path.unlink()
    else:
        name, arguments[1] = "echo times", "--tes"
        path.write_text("0.01 0.02 0.03 0.04 0.05 0.06 0.07")
    return Case(f"times, {name}", tuple(arguments))


def bad_sigma(rng: np.random.Generator, folder: Path) -> Case:
    """A noise level, or a map of it, that is not one."""
    good = np.full(SHAPE, 8.0, np.float32)
    path = folder / "sigma.nii"
    texts = ("0", "-1", "nan", "inf", "-inf", "1e999", "eight", "", "8,5", str(folder), "none.nii")
    hole = good.copy()
    hole[4:8, 3:6] = rng.choice([np.nan, 0.0, -1.0, np.inf])
    maps: dict[str, Callable[[], object]] = {
        "other shape": lambda: save(path, good[:-1]),
        "transposed": lambda: save(path, np.moveaxis(good, 0, 2)),
        "other place": lambda: save(path, good, AFFINE @ np.diag([-1, 1, 1, 1])),
        "bad inside": lambda: save(path, hole),
        "all zero": lambda: save(path, 0 * good),
        "4-D": lambda: save(path, np.stack([good, good], -1)),
        "damaged": lambda: path.write_bytes(rng.bytes(500)),
        "text": lambda: path.write_text("8.0"),
    }
    kind = int(rng.integers(len(texts) + len(maps)))
    if kind < len(texts):
        return Case(f"sigma {texts[kind]!r}", (*mle(folder, rng=rng), "--sigma", texts[kind]))
    name = list(maps)[kind - len(texts)]
    maps[name]()
    return Case(f"sigma map, {name}", (*mle(folder, rng=rng), "--sigma", str(path)))


def bad_mask(rng: np.random.Generator, folder: Path) -> Case:
    """A mask, or a label map, that does not fit the series."""
    good = np.ones(SHAPE, np.int16)
    path = folder / "labels.nii.gz"
    option = ("--mask", "--rois")[rng.integers(2)]
    wrong: dict[str, Callable[[], object]] = {
        "other shape": lambda: save(path, good[:-1]),
        "other place": lambda: save(path, good, AFFINE @ np.diag([-1, 1, 1, 1])),
        "empty": lambda: save(path, 0 * good),
        "all NaN": lambda: save(path, good * np.float32(np.nan)),
        "negative": lambda: save(path, -good),
        "4-D": lambda: save(path, np.stack([good, good], -1)),
        "damaged": lambda: path.write_bytes(gzip.compress(rng.bytes(500))),
        "cut short": lambda: path.write_bytes(save(path, good).read_bytes()[:90]),
        "missing": lambda: None,
        "a folder": path.mkdir,
        "complex": lambda: save(path, good.astype(np.complex64)),
    }
    if option == "--rois":
        wrong["no whole numbers"] = lambda: save(path, good * np.float32(0.5))
        wrong["huge"] = lambda: save(path, good * 1e12)
    name = list(wrong)[rng.integers(len(wrong))]
    wrong[name]()
    return Case(f"{option[2:]}, {name}", (*mle(folder, rng=rng), option, str(path)))


_OPTIONS: tuple[tuple[str, ...], ...] = (
    ("--fix-b", "nan"),
    ("--fix-b", "inf"),
    ("--lambda-b", "-1"),
    ("--lambda-b", "much"),
    ("--tr", "0"),
    ("--tr", "-5"),
    ("--tr", "nan"),
    ("--tr", "sidecar"),
    ("--skip-first", "7"),
    ("--skip-first", "99"),
    ("--skip-first", "-1"),
    ("--units", "h"),
    ("--units", "s"),
    ("--likelihood", "cauchy"),
    ("--likelihood", "rician", "--signed"),
    ("--model", "rim-t1"),
    ("--mask", ""),
    ("--mask", "atuo"),
    ("--compare", "mle"),
    ("--roi-names", "names.csv"),
    ("--unknown",),
)
_BOUNDS = (
    "",
    "[1, 2]",
    '{"T1": [5000, 50]}',
    '{"T9": [1, 2]}',
    '{"T1": [NaN, 2]}',
    '{"T1": [-5, 100]}',
    '{"T1": "wide"}',
    "[" * 100_000,
    '{"A": [-1, -2]}',
)


def bad_options(rng: np.random.Generator, folder: Path) -> Case:
    """Options that mean nothing, or do not go together."""
    kind = int(rng.integers(len(_OPTIONS) + len(_BOUNDS)))
    if kind < len(_OPTIONS):
        chosen = _OPTIONS[kind]
        return Case(f"options {' '.join(chosen)}", (*mle(folder, rng=rng), *chosen))
    path = folder / "bounds.json"
    path.write_text(_BOUNDS[kind - len(_OPTIONS)])
    return Case(f"bounds {path.read_text()[:30]}", (*mle(folder, rng=rng), "--bounds", str(path)))


def _hostile(folder: Path) -> dict[str, object]:
    """A Lambda layer that writes a file, as Keras stores it."""
    code = compile(f"open({str(folder / BREACH)!r}, 'w').close()", "layer", "exec")
    code = b64encode(marshal.dumps(code)).decode()
    function = {"class_name": "__lambda__", "config": {"code": code, "defaults": None}}
    return {
        "module": "keras.layers",
        "class_name": "Lambda",
        "config": {"name": "lambda", "function": function},
        "registered_name": None,
    }


class _Pickled:
    """An object that runs code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (self.path, "w")


def _archive(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def bad_network(rng: np.random.Generator, folder: Path) -> Case:
    """A .keras file that is hostile, foreign or damaged."""
    good = (PRETRAINED / "rim-t1.keras").read_bytes()
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    ours = json.loads(members["config.json"])
    hostile = _hostile(folder)
    sequential = {"name": "s", "layers": [hostile]}

    def config(**changes: object) -> bytes:
        return _archive({**members, "config.json": json.dumps({**ours, **changes}).encode()})

    def settings(**changes: object) -> bytes:
        return config(config={**ours["config"], **changes})

    def text(content: bytes) -> bytes:
        return _archive({**members, "config.json": content})

    def without(name: str) -> bytes:
        return _archive({key: value for key, value in members.items() if key != name})

    wrong: dict[str, Callable[[], bytes]] = {
        "empty": lambda: b"",
        "random bytes": lambda: rng.bytes(2000),
        "text": lambda: b"network",
        "pickle": lambda: pickle.dumps(_Pickled(folder / BREACH)),
        "cut short": lambda: good[: rng.integers(len(good) - 30)],
        "bytes at random": lambda: flipped(rng, good, 40)[: len(good) - 40],
        "Lambda layer": lambda: config(
            module="keras", class_name="Sequential", registered_name=None, config=sequential
        ),
        "Lambda under our name": lambda: config(config=sequential),
        "Lambda as a setting": lambda: settings(features=hostile),
        "Lambda as dtype": lambda: settings(dtype=hostile),
        "Lambda as build settings": lambda: config(build_config=hostile, compile_config=hostile),
        "other class": lambda: config(module="os", class_name="system", registered_name=None),
        "other module": lambda: config(module="subprocess", class_name="Popen"),
        "foreign network": lambda: config(
            module="keras",
            class_name="Sequential",
            registered_name="Sequential",
            config={"name": "s", "layers": []},
        ),
        "invalid JSON": lambda: text(b"{"),
        "JSON of a list": lambda: text(b"[1, 2]"),
        "JSON of null": lambda: text(b"null"),
        "deep JSON": lambda: text(b"[" * 200_000),
        "bomb": lambda: text(b" " * 300_000_000),
        "no configuration": lambda: without("config.json"),
        "no weights": lambda: without("model.weights.h5"),
        "no metadata": lambda: without("metadata.json"),
        "weights that are no HDF5 file": lambda: _archive(
            {**members, "model.weights.h5": b"weights"}
        ),
        "weights cut short": lambda: _archive(
            {**members, "model.weights.h5": members["model.weights.h5"][:30_000]}
        ),
        "other width": lambda: settings(features=int(rng.integers(1, 30))),
        "giant": lambda: settings(features=10**7),
        "endless": lambda: settings(num_steps=10**9),
        "width that is no number": lambda: settings(features="wide"),
        "negative width": lambda: settings(features=-4),
        "other signal model": lambda: settings(model="magic"),
        "setting that is unknown": lambda: settings(magic=1),
        "settings that are a list": lambda: config(config=[1, 2]),
    }
    name = list(wrong)[rng.integers(len(wrong))]
    path = folder / "net.keras"
    path.write_bytes(wrong[name]())
    series = save(folder / "s.nii", phantom(rng))
    expect = EITHER if name in _MAY_LOAD else REFUSED
    return Case(f"network, {name}", (str(series), *times(folder), "--model", str(path)), expect)


#: Damage that Keras may not see, or need not mind.
_MAY_LOAD = ("bytes at random", "no metadata", "Lambda as build settings")


def twisted(rng: np.random.Generator, folder: Path) -> Case:
    """A sound series in an unusual file: it has to be mapped."""
    S = phantom(rng)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]  # left-handed as often as not
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(rng.uniform(0.5, 4, 3))
    affine[:3, 3] = rng.uniform(-200, 200, 3)
    endian = "<>"[rng.integers(2)]
    kind = (nib.Nifti1Image, nib.Nifti2Image)[rng.integers(2)]
    dtype = rng.choice(["<f4", ">f4", "<f8", "<i2", ">i2", "<u2", "<i4"])
    factor = 10.0 ** rng.integers(-6, 7) if dtype[1] == "f" else 1.0
    header = kind.header_class(endianness=endian)
    image = kind((np.round(S) if dtype[1] in "iu" else S * factor).astype(dtype), affine, header)
    image.set_data_dtype(np.dtype(dtype))
    for put in (image.set_qform, image.set_sform):
        put(affine, int(rng.integers(1, 5)))
    if rng.random() < 0.5 and dtype[1] in "iu":
        image.header.set_slope_inter(*rng.uniform(0.1, 5, 2))
    image.header.set_xyzt_units(*rng.choice([["mm", "sec"], ["micron", "msec"], ["meter", "sec"]]))
    path = folder / ("s.nii" if rng.random() < 0.5 else "s.nii.gz")
    nib.save(image, path)
    return Case(f"sound series, {dtype} {endian} {kind.__name__}", mle(folder, path), MAPPED)


#: Kinds of cases and how often they are drawn.
KINDS: tuple[tuple[Callable[[np.random.Generator, Path], Case], int], ...] = (
    (damaged_nifti, 24),
    (lying_header, 14),
    (other_image, 12),
    (mixed_files, 10),
    (bad_times, 12),
    (bad_sigma, 10),
    (bad_mask, 12),
    (bad_options, 10),
    (bad_network, 16),
    (twisted, 10),
)


def draw(rng: np.random.Generator, folder: Path) -> Case:
    """One case, of a kind by its frequency."""
    weights = np.array([weight for _, weight in KINDS], float)
    make = KINDS[rng.choice(len(KINDS), p=weights / weights.sum())][0]
    return make(rng, folder)
