"""Part ``predict`` of `tools/torture.py`: series, lists, masks and options that lie, one by one.

Here what has to come of a command is known: each case says whether it is refused or mapped.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from torture_files import AFFINE, SHAPE, TAU, Stock, flipped, phantom, save
from torture_run import EITHER, MAPPED, REFUSED, Try


@dataclass(frozen=True)
class Case:
    """Arguments of ``relaxnet predict`` besides --out, and the result that is expected."""

    what: str
    arguments: tuple[str, ...]
    expect: str = REFUSED


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


def damaged_nifti(rng: np.random.Generator, folder: Path) -> Case:
    """Bytes of the header, the data or the compressed stream are changed at random."""
    good = save(folder / "good.nii", phantom(rng)).read_bytes()
    if rng.random() < 0.5:
        raw, what = flipped(rng, good, 8, 352), "header"
        raw = gzip.compress(raw, 1, mtime=0) if rng.random() < 0.5 else raw
    else:
        raw, what = flipped(rng, gzip.compress(good, 1, mtime=0)), "gzip stream"
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
    ("semicolons and words", "50;150;400;800;1400;2200;end"),
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
        name = "UTF-16, cut"
        path.write_bytes("50 150 400 800 1400 2200 3500".encode("utf-16")[:-19])
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
        "damaged": lambda: path.write_bytes(gzip.compress(rng.bytes(500), mtime=0)),
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
    (twisted, 10),
)


def make(rng: np.random.Generator, folder: Path, stock: Stock) -> Try:
    """One case, of a kind by its frequency."""
    weights = np.array([weight for _, weight in KINDS], float)
    case = KINDS[rng.choice(len(KINDS), p=weights / weights.sum())][0](rng, folder)
    # Names without the folder, as a user would give them.
    arguments = tuple(a.replace(f"{folder}/", "") for a in case.arguments)
    return Try(case.what, ("relaxnet", "predict", *arguments, "--out", "maps"), case.expect)
