"""Part ``nifti`` of `tools/torture.py`: images that are damaged, lie, or are of another format."""

from __future__ import annotations

import bz2
import gzip
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
from torture_files import AFFINE, SHAPE, TAU, Stock, flipped, mle, phantom, save, series, write
from torture_run import EITHER, MAPPED, REFUSED, Try

#: How an image is used, and how often.
ROLES = {"series": 0.55, "mask": 0.15, "sigma": 0.15, "rois": 0.15}
#: Fields of the NIfTI-1 header: byte offset, type, number.
FIELDS = {
    "sizeof_hdr": (0, "i4", 1),
    "dim_info": (39, "u1", 1),
    "dim": (40, "i2", 8),
    "intent": (56, "f4", 3),
    "intent_code": (68, "i2", 1),
    "datatype": (70, "i2", 1),
    "bitpix": (72, "i2", 1),
    "pixdim": (76, "f4", 8),
    "vox_offset": (108, "f4", 1),
    "scl_slope": (112, "f4", 1),
    "scl_inter": (116, "f4", 1),
    "xyzt_units": (123, "u1", 1),
    "cal_max": (124, "f4", 2),
    "descrip": (148, "S80", 1),
    "qform_code": (252, "i2", 2),
    "quaternion": (256, "f4", 6),
    "srow": (280, "f4", 12),
    "magic": (344, "S4", 1),
    "extension": (348, "u1", 4),
}
FLOATS = (np.nan, np.inf, -np.inf, 0, -0.0, 1, -1, 1e-45, 3e38, -3e38, 1e9, 353, 351.9, 0.5)
WHOLE = (0, 1, -1, 2, 3, 4, 5, 7, 8, 16, 32, 64, 127, 128, 256, 512, 768, 1024, 1280, 1536, 2048)
WIDE = (*WHOLE, 1792, 2304, 32767, -32768, 999)


def make(rng: np.random.Generator, folder: Path, stock: Stock) -> Try:
    """One try: an image of some kind of damage in some role."""
    series(folder, np.random.default_rng(0))
    role = str(rng.choice(list(ROLES), p=list(ROLES.values())))
    kinds = list(KINDS)
    weights = np.array([weight for _, weight in KINDS.values()], float)
    kind = kinds[rng.choice(len(kinds), p=weights / weights.sum())]
    data = _content(role, rng)
    path, what, expect = KINDS[kind][0](rng, folder, data)
    options: tuple[str, ...] = (path.name,)
    if role != "series":
        options = ("s.nii", f"--{role}", path.name)
        expect = EITHER if expect == MAPPED and role == "rois" else expect
    return Try(f"{role}, {kind}: {what}", mle(*options), expect)


def _content(role: str, rng: np.random.Generator) -> np.ndarray:
    if role == "series":
        return phantom(rng)
    if role == "sigma":
        return np.full(SHAPE, 8, np.float32)
    x, y, _ = np.meshgrid(*map(np.arange, SHAPE), indexing="ij")
    return ((x - 5.5) ** 2 + (y - 4.5) ** 2 < 18).astype(np.int16)


Made = tuple[Path, str, str]


def _gz(raw: bytes) -> bytes:
    return gzip.compress(raw, 1, mtime=0)


def _raw(data: np.ndarray) -> bytearray:
    return bytearray(nib.Nifti1Image(data, AFFINE).to_bytes())


def _put(folder: Path, raw: bytes, packed: bool) -> Path:
    if packed:
        return write(folder / "x.nii.gz", _gz(raw))
    return write(folder / "x.nii", raw)


def header_bits(rng: np.random.Generator, folder: Path, data: np.ndarray) -> Made:
    """Bytes of the header changed."""
    raw = flipped(rng, _raw(data), 8, 352, 0)
    return _put(folder, raw, rng.random() < 0.5), "bytes", EITHER


def data_bits(rng: np.random.Generator, folder: Path, data: np.ndarray) -> Made:
    """Bytes of the data changed, at times cut short."""
    raw = _raw(data)
    raw[352:] = flipped(rng, raw[352:], 60)
    return _put(folder, raw, rng.random() < 0.5), "bytes", EITHER


def stream_bits(rng: np.random.Generator, folder: Path, data: np.ndarray) -> Made:
    """Bytes of the compressed stream changed, cut or appended."""
    raw = _gz(_raw(data))
    kind = rng.integers(3)
    if kind == 0:
        raw = flipped(rng, raw)
    elif kind == 1:
        raw = raw[: rng.integers(len(raw))]
    else:
        raw += rng.bytes(100)
    return write(folder / "x.nii.gz", raw), ("bytes", "cut", "appended")[kind], EITHER


def field(rng: np.random.Generator, folder: Path, data: np.ndarray) -> Made:
    """One or two fields of the header with values at the edge."""
    raw, changed = _raw(data), []
    for _ in range(rng.integers(1, 3)):
        name = str(rng.choice(list(FIELDS)))
        offset, kind, number = FIELDS[name]
        place = int(rng.integers(number))
        if kind[0] == "S":
            values: bytes = rng.bytes(int(kind[1:]))
        else:
            pool = FLOATS if kind[0] == "f" else WIDE if kind == "i2" else WHOLE[:17]
            value = pool[rng.integers(len(pool))]
            whole = np.array(value).astype(np.int64) if kind[0] != "f" else np.array(value)
            values = whole.astype(kind).tobytes()
            offset += place * len(values)
            name = f"{name}[{place}] = {value}"
        raw[offset : offset + len(values)] = values
        changed.append(name)
    return _put(folder, raw, rng.random() < 0.3), ", ".join(changed), EITHER


def _bomb_xml(root: str) -> bytes:
    """XML whose entities would unfold to some gigabytes."""
    lines = ["<!ENTITY a0 'lol'>"]
    lines += [f"<!ENTITY a{i + 1} '{f'&a{i};' * 10}'>" for i in range(9)]
    text = f"<?xml version='1.0'?><!DOCTYPE {root} [{''.join(lines)}]><{root}>&a9;</{root}>"
    return text.encode()


def extension(rng: np.random.Generator, folder: Path, data: np.ndarray) -> Made:
    """Header extensions: codes that mean formats, content that is none, sizes that lie."""
    code = int(rng.choice([0, 2, 4, 6, 8, 10, 18, 20, 22, 24, 30, 32, 34, 38, 40, 42, 44, 999, -3]))
    contents = {
        "random bytes": rng.bytes(int(rng.integers(8, 200))),
        "text that is no UTF-8": b"\xff\xfe\xe4\xf6 caf\xe9" * 3,
        "entity bomb": _bomb_xml("CIFTI"),
        "JSON that is none": b'{"a": [',
        "deep JSON": b"[" * 20_000,
        "empty": b"",
        "pixels of DICOM": b"\x08\x00\x05\x00CS\xff\xff" + rng.bytes(60),
        "zeros": bytes(120),
    }
    name = str(rng.choice(list(contents)))
    body = contents[name] + bytes(-(len(contents[name]) + 8) % 16)
    size, expect, lie = len(body) + 8, MAPPED, ""
    if rng.random() < 0.35:
        size = int(rng.choice([0, -16, 8, 17, 2**31 - 1, 10**6, size + 16]))
        lie, expect = f", of size {size}", EITHER
    raw = _raw(data)
    raw[348:352] = bytes([1, 0, 0, 0])
    raw[108:112] = struct.pack("<f", 352 + len(body) + 8)
    raw[352:352] = struct.pack("<ii", size, code) + body
    path = _put(folder, raw, rng.random() < 0.3)
    return path, f"code {code}, {name}{lie}", expect


def quaternion(rng: np.random.Generator, folder: Path, data: np.ndarray) -> Made:
    """A quaternion that is none beside an affine that is sound."""
    raw = _raw(data)
    values = rng.choice([np.nan, np.inf, 9.0, -3.0, 1e30], 3).astype("<f4")
    raw[252:256] = struct.pack("<hh", int(rng.integers(0, 3)), 2)
    raw[256:268] = values.tobytes()
    return _put(folder, raw, False), str(values.tolist()), MAPPED


def values(rng: np.random.Generator, folder: Path, data: np.ndarray) -> Made:
    """Values that are none, extreme, or the same everywhere."""
    some = rng.random(data.shape) < 10.0 ** -rng.integers(0, 4)
    edges = {
        "NaN": np.nan,
        "inf": np.inf,
        "-inf": -np.inf,
        "1e38": 1e38,
        "-1e38": -1e38,
        "1e300": 1e300,
        "1e-45": 1e-45,
        "1e-300": 1e-300,
        "0": 0.0,
        "-1": -1.0,
        "1": 1.0,
    }
    name = str(rng.choice(list(edges)))
    wide = data.astype(np.float64)
    wide[some] = edges[name]
    if rng.random() < 0.2:
        wide[..., rng.integers(wide.shape[-1])], name = edges[name], f"{name} in a whole slab"
    dtype = str(rng.choice(["f4", "f8", ">f4", ">f8"]))
    with np.errstate(all="ignore"):
        path = save(folder / "x.nii", wide.astype(dtype))
    return path, f"{name}, {some.mean():.0%}, {dtype}", EITHER


def datatype(rng: np.random.Generator, folder: Path, data: np.ndarray) -> Made:
    """Types that hold no magnitudes, or that few programs write; scale factors at the edge."""
    colour = np.dtype([(c, "u1") for c in "RGB"])
    kinds: dict[str, Callable[[], np.ndarray]] = {
        "complex64": lambda: data.astype(np.complex64),
        "complex128": lambda: data.astype(np.complex128),
        "RGB": lambda: np.zeros(data.shape, colour),
        "uint64": lambda: np.full(data.shape, 2**64 - 1, np.uint64),
        "int64": lambda: (data * 1e15).astype(np.int64),
        "int8": lambda: np.clip(data / 10, -127, 127).astype(np.int8),
        "float128": lambda: data.astype(np.longdouble),
        "saturated int16": lambda: np.clip(data * 60, 0, 32767).astype(np.int16),
        "scaled": lambda: data.astype(np.int16),
    }
    name = str(rng.choice(list(kinds)))
    array = kinds[name]()
    image = nib.Nifti1Image(array, AFFINE, dtype=array.dtype)
    raw = bytearray(image.to_bytes())
    if name in ("scaled", "uint64"):
        slope, inter = rng.choice([1e38, -1, 1e-45, np.nan, np.inf, 3e5, 0], 2)
        raw[112:120] = struct.pack("<ff", slope, inter)
        name += f", slope {slope:g}, inter {inter:g}"
    return _put(folder, raw, False), name, EITHER


def shape(rng: np.random.Generator, folder: Path, data: np.ndarray) -> Made:
    """Shapes of other numbers of axes, empty ones, and ones that the file does not hold."""
    forms: dict[str, np.ndarray] = {
        "1-D": data.ravel(),
        "2-D": data[:, :, 0] if data.ndim == 3 else data[:, :, 0, 0],
        "5-D of one": data[..., None],
        "7-D": data.reshape(data.shape + (1,) * (7 - data.ndim)),
        "5-D": np.stack([data, data], -1),
        "a row": data[:1, :1],
        "a voxel": data[:1, :1, :1],
        "one less": data[..., :-1],
        "transposed": data.T,
        "short of x": data[:-1],
    }
    name = str(rng.choice([*forms, "60 GB", "empty axis", "negative axis", "3.4 GB of zeros"]))
    if name in forms:
        return save(folder / "x.nii", np.ascontiguousarray(forms[name])), name, EITHER
    raw = _raw(data)
    dims = {
        "60 GB": (4, 1000, 1000, 2000, len(TAU)),
        "empty axis": (data.ndim, 0, *data.shape[1:]),
        "negative axis": (data.ndim, *data.shape[:-1], -7),
        "3.4 GB of zeros": (4, 1000, 1000, 850, 1),
    }[name]
    raw[40 : 40 + 2 * len(dims)] = struct.pack(f"<{len(dims)}h", *dims)
    if name != "3.4 GB of zeros":
        return _put(folder, raw, rng.random() < 0.5), name, REFUSED
    raw[70:74] = struct.pack("<hh", 16, 32)
    zeros = _gz(bytes(1 << 25))
    path = write(folder / "x.nii.gz", _gz(bytes(raw[:352])) + 102 * zeros)
    return path, name, REFUSED


def bombs(rng: np.random.Generator, folder: Path, data: np.ndarray) -> Made:
    """A sound image with gigabytes behind it, or one that never ends in a header."""
    zeros = _gz(bytes(1 << 25))
    kind = rng.integers(3)
    head = (_gz(_raw(data)), b"", _gz(bytes(_raw(data)[:200])))[kind]
    path = write(folder / "x.nii.gz", head + 120 * zeros)
    return path, ("3.8 GB behind an image", "3.8 GB of zeros", "zeros in a header")[kind], EITHER


def foreign(rng: np.random.Generator, folder: Path, data: np.ndarray) -> Made:
    """Another format, damaged at times, by its own name or that of NIfTI."""
    name = str(rng.choice(list(FORMATS)))
    raw, ending = FORMATS[name](data, folder)
    what = name
    if rng.random() < 0.3:
        raw, what = flipped(rng, raw), f"{name} with bytes changed"
    kind = int(rng.integers(4))
    if kind == 0:
        return write(folder / f"x{ending}", raw), what, EITHER
    if kind == 1:
        return write(folder / "x.nii.gz", _gz(raw)), f"{what} in x.nii.gz", EITHER
    place = ("x.nii", "x.nii.gz")[kind - 2]
    return write(folder / place, raw), f"{what} as {place}", EITHER


def _cifti(data: np.ndarray, folder: Path, xml: bytes) -> bytes:
    """A NIfTI-2 file with the intent of CIFTI and this XML as its extension."""
    image = nib.Nifti2Image(np.zeros((1, 1, 1, 1, 4, 5), np.float32), np.eye(4))
    image.header.set_intent(3002)
    body = xml + bytes(-(len(xml) + 8) % 16)
    raw = bytearray(image.to_bytes())
    raw[540:544] = bytes([1, 0, 0, 0])
    raw[168:176] = struct.pack("<q", 544 + len(body) + 8)
    raw[544:544] = struct.pack("<ii", len(body) + 8, 32) + body
    return bytes(raw)


_MATRIX = (
    b"<?xml version='1.0'?><CIFTI Version='2'><Matrix>"
    b"<MatrixIndicesMap AppliesToMatrixDimension='0' IndicesMapToDataType='CIFTI_INDEX_TYPE_SERIES'"
    b" NumberOfSeriesPoints='4' SeriesExponent='0' SeriesStart='x' SeriesStep='1'/>"
    b"</Matrix></CIFTI>"
)
_PAR = b"""# === DATA DESCRIPTION FILE ===
# CLINICAL TRYOUT             Research image export tool     V4.2
.    Patient name                       :   x
.    Max. number of slices/locations    :   2
.    Max. number of dynamics            :   7
.    FOV (ap,fh,rl) [mm]                :   10 10 10
# === IMAGE INFORMATION ===
1 1 1 1 0 2 0 16 100 12 10 0 1 1 1 1 0 0 0 0 0 0 0 0 0 0 0 0 1 1 2 0 1 1
"""


def _nib(kind: type, data: np.ndarray, folder: Path, ending: str) -> bytes:
    path = folder / f"foreign{ending}"
    nib.save(kind(data.astype(np.float32), AFFINE), path)
    raw = path.read_bytes()
    path.unlink()
    for other in folder.glob("foreign*"):
        other.replace(folder / f"x{other.suffix}")
    return raw


def _minc(data: np.ndarray, folder: Path) -> bytes:
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        image = file.create_dataset("minc-2.0/image/0/image", data=data)
        image.attrs["dimorder"] = "xspace,yspace,zspace"
        file.create_group("minc-2.0/dimensions")
    return out.getvalue()


def _zstd(raw: bytes) -> bytes:
    """A Zstandard frame of uncompressed blocks."""
    out = struct.pack("<IBI", 0xFD2FB528, 0xA0, len(raw))
    for begin in range(0, len(raw), 60_000):
        block = raw[begin : begin + 60_000]
        last = begin + 60_000 >= len(raw)
        out += ((len(block) << 3) | last).to_bytes(3, "little") + block
    return out


def _gifti(data: np.ndarray, folder: Path) -> bytes:
    return _bomb_xml("GIFTI")


#: Formats: name to a function of the data and the folder that gives bytes and an ending.
FORMATS: dict[str, Callable[[np.ndarray, Path], tuple[bytes, str]]] = {
    "CIFTI, entity bomb": lambda d, f: (_cifti(d, f, _bomb_xml("CIFTI")), ".dscalar.nii"),
    "CIFTI, bad matrix": lambda d, f: (_cifti(d, f, _MATRIX), ".dscalar.nii"),
    "CIFTI, empty": lambda d, f: (_cifti(d, f, b"<CIFTI Version='2'/>"), ".dtseries.nii"),
    "CIFTI, no XML": lambda d, f: (_cifti(d, f, b"\xff\xfe nothing"), ".dtseries.nii"),
    "GIFTI, entity bomb": lambda d, f: (_gifti(d, f), ".gii"),
    "PAR": lambda d, f: (_PAR, ".PAR"),
    "REC": lambda d, f: (d.tobytes(), ".REC"),
    "MGH": lambda d, f: (_nib(nib.MGHImage, d, f, ".mgh"), ".mgh"),
    "MGZ": lambda d, f: (_gz(_nib(nib.MGHImage, d, f, ".mgh")), ".mgz"),
    "Analyze header": lambda d, f: (_nib(nib.AnalyzeImage, d, f, ".hdr"), ".hdr"),
    "Analyze image": lambda d, f: (_nib(nib.AnalyzeImage, d, f, ".img"), ".img"),
    "SPM header": lambda d, f: (_nib(nib.Spm99AnalyzeImage, d, f, ".hdr"), ".hdr"),
    "NIfTI pair, header": lambda d, f: (_nib(nib.Nifti1Pair, d, f, ".hdr"), ".hdr"),
    "NIfTI pair, image": lambda d, f: (_nib(nib.Nifti1Pair, d, f, ".img"), ".img"),
    "Zstandard": lambda d, f: (_zstd(bytes(_raw(d))), ".nii.zst"),
    "bzip2": lambda d, f: (bz2.compress(bytes(_raw(d))), ".nii.bz2"),
    "zlib": lambda d, f: (zlib.compress(bytes(_raw(d))), ".nii.gz"),
    "MINC 2": lambda d, f: (_minc(d, f), ".mnc"),
    "MINC 1": lambda d, f: (b"CDF\x01" + bytes(200), ".mnc"),
    "AFNI header": lambda d, f: (b"type = integer-attribute\nname = x\ncount = 1\n1\n", ".HEAD"),
    "AFNI image": lambda d, f: (d.tobytes(), ".BRIK"),
    "TrackVis": lambda d, f: (b"TRACK\0" + bytes(994), ".trk"),
    "DICOM": lambda d, f: (bytes(128) + b"DICM" + bytes(500), ".dcm"),
    "NIfTI-2": lambda d, f: (bytes(nib.Nifti2Image(d, AFFINE).to_bytes()), ".nii"),
    "text": lambda d, f: (b"hello\n" * 200, ".nii"),
    "nothing": lambda d, f: (b"", ".nii"),
}
#: Kinds of images and how often they are drawn.
KINDS: dict[str, tuple[Callable[[np.random.Generator, Path, np.ndarray], Made], int]] = {
    "header": (header_bits, 14),
    "data": (data_bits, 8),
    "stream": (stream_bits, 8),
    "field": (field, 22),
    "extension": (extension, 12),
    "quaternion": (quaternion, 3),
    "values": (values, 12),
    "type": (datatype, 8),
    "shape": (shape, 10),
    "bomb": (bombs, 3),
    "format": (foreign, 24),
}
