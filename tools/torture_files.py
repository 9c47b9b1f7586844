"""Sound inputs of `tools/torture.py`: a series, lists, shards, networks, maps and a BIDS dataset.

All are made from seeds, with numpy and the commands themselves.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from torture_run import Ended, Try, run

#: Inversion times in ms.
TAU = np.array([50.0, 150, 400, 800, 1400, 2200, 3500])
SHAPE = (12, 10, 2)
AFFINE = np.diag([0.9, 0.9, 3.0, 1.0])
TIMES = " ".join(f"{t:g}" for t in TAU)


def phantom(rng: np.random.Generator) -> np.ndarray:
    """A disc of two tissues in air with Rician noise, (X, Y, Z, N) float32."""
    x, y, _ = np.meshgrid(*map(np.arange, SHAPE), indexing="ij")
    disc = (x - 5.5) ** 2 + (y - 4.5) ** 2 < 18
    T1 = np.where(x < 6, 700.0, 1300.0)[..., None]
    S = np.where(disc, 900.0, 0.0)[..., None] * (1 - 1.95 * np.exp(-TAU / T1))
    noise = 8 * rng.standard_normal((2, *S.shape))
    return np.hypot(S + noise[0], noise[1]).astype(np.float32)


def save(path: Path, data: np.ndarray, affine: np.ndarray = AFFINE, kind: type = nib.Nifti1Image):
    """Write an image and return its path."""
    nib.save(kind(data, affine), path)
    return path


def write(path: Path, content: str | bytes) -> Path:
    """Write a file and return its path; text is UTF-8, lone surrogates as they are."""
    raw = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    path.write_bytes(raw)
    return path


def flipped(
    rng: np.random.Generator, raw: bytes, most: int = 12, end: int | None = None, cut: float = 0.2
) -> bytes:
    """Bytes with some of the first `end` changed, and with a chance of `cut` cut short."""
    out = bytearray(raw)
    for _ in range(rng.integers(1, most)):
        place = rng.integers(min(end or len(out), len(out)))
        out[place] = rng.integers(256) if rng.random() < 0.5 else out[place] ^ 1 << rng.integers(8)
    return bytes(out[: rng.integers(len(out))] if rng.random() < cut else out)


def series(folder: Path, rng: np.random.Generator | None = None, name: str = "s.nii") -> Path:
    """A sound series and its times, ``tis.txt``."""
    write(folder / "tis.txt", TIMES)
    return save(folder / name, phantom(rng or np.random.default_rng(0)))


def mle(*inputs: str, out: str = "maps") -> tuple[str, ...]:
    """Arguments of a fit."""
    return ("relaxnet", "predict", *inputs, "--tis", "tis.txt", "--method", "mle", "--out", out)


def bids_dataset(root: Path, subjects: int = 2) -> Path:
    """A BIDS dataset of inversion recoveries, one 3-D file a time."""
    for subject in range(1, subjects + 1):
        rng = np.random.default_rng([7, subject])
        anat = root / f"sub-{subject:02d}" / "anat"
        anat.mkdir(parents=True)
        for i, image in enumerate(np.moveaxis(phantom(rng), -1, 0)):
            stem = f"sub-{subject:02d}_inv-{i + 1}_IRT1"
            save(anat / f"{stem}.nii.gz", image)
            card = {"InversionTime": TAU[i] / 1000, "RepetitionTime": 10.0}
            write(anat / f"{stem}.json", json.dumps(card))
    write(root / "dataset_description.json", '{"Name": "x", "BIDSVersion": "1.8.0"}')
    return root


def network_file(name: str = "rim-t1.keras") -> Path:
    """A network that ships with the package, wherever this version keeps them."""
    spec = importlib.util.find_spec("relaxnet")
    assert spec is not None
    assert spec.origin is not None
    return next(Path(spec.origin).parent.rglob(name))


@dataclass(frozen=True)
class Stock:
    """Sound inputs that tries copy: folders and files by name, and how commands made them.

    Attributes
    ----------
    folder : pathlib.Path
        Holds ``shards``, ``small`` (one shard), ``network.keras``, ``maps``, ``data`` (BIDS),
        ``s.nii`` and ``tis.txt``; of these what the parts need.
    runs : dict
        How the command of each sound input ended.
    """

    folder: Path
    runs: dict[str, Ended]

    def copy(self, name: str, folder: Path) -> Path:
        """Copy an input to the folder of a try; returns its place."""
        source, target = self.folder / name, folder / name
        if source.is_dir():
            return Path(shutil.copytree(source, target))
        return Path(shutil.copy(source, target))


#: Commands that make the stock, in order.
GENERATE = (
    "relaxsim generate --tis tis.txt --patches 480 --patch-size 4 --sigma-range 0.01 0.02"
).split()
MAKERS = {
    "shards": (*GENERATE, "--out", "shards"),
    "small": (*GENERATE[:5], "4", *GENERATE[6:], "--out", "small"),
    "maps": (*mle("s.nii"), "--save-fit"),
    "run": tuple(
        "relaxnet train --data shards --iterations 2 --batch-size 4 --features 4 --num-steps 2 "
        "--out run".split()
    ),
}


def make_stock(folder: Path, networks: bool) -> Stock:
    """Make the sound inputs; `networks`: also those that need TensorFlow.

    Raises
    ------
    RuntimeError
        If a command that makes them fails: then nothing else can be tried.
    """
    series(folder)
    bids_dataset(folder / "data")
    runs = {}
    for name, command in MAKERS.items():
        if name == "run" and not networks:
            continue
        ended, faults = run(Try("sound", command), folder)
        if ended.code != 0:
            raise RuntimeError(f"{' '.join(command)} failed: {faults} {ended.errors[-2000:]}")
        runs[name] = ended
    if networks:
        shutil.copy(folder / "run" / "last.keras", folder / "network.keras")
        shutil.copy(folder / "run" / "last.json", folder / "network.json")
    return Stock(folder, runs)
