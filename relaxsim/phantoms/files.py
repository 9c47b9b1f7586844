"""Phantoms on disk: NIfTI series with sidecars, truth maps, masks and labels."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from relaxsim import __version__
from relaxsim.core.folders import written_by
from relaxsim.models.signal_model import SignalModel
from relaxsim.phantoms.phantoms import Phantom, noisy_series

#: Names of truth maps by parameter: A is M0 in files.
MAP_NAMES = {"A": "M0map"}
#: Mean A of grey and white matter: SNR = 0.75 / sigma.
SNR_SIGNAL = 0.75
#: Names of files that depend on the options, of which an overwritten phantom may have had more.
_OPTIONAL = re.compile(
    r"(rep-\d+_series|(M0|B|T1|T2)map|labels|mask|purity|pure|(structure|neighborhood)(-\d+)?)\.json"
)
_BIDS_TIMES = {"tis": "InversionTime", "tes": "EchoTime"}


def write_phantom(
    phantom: Phantom,
    folder: str | Path,
    snr: float,
    repeats: int,
    seed: int,
    noise: str,
    provenance: Mapping[str, Any],
    twin: Phantom | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Write a phantom's repeats and truth to a folder.

    Written first beside their place, then renamed: no file with a final name is incomplete.

    Parameters
    ----------
    phantom : Phantom
    folder : path
        Made if missing.
    snr : float
        0.75 / sigma, with sigma in the unit of A.
    repeats : int
        Series ``rep-1_series.nii.gz`` ..., each with noise of its own.
    seed : int
        Repeat r's noise is a function of (seed, r).
    noise : str
        ``gaussian`` or ``rician``.
    provenance : mapping
        Goes into the sidecars.
    twin : Phantom, optional
        Scenario E1 of a phantom with structures, written to the subfolder ``E1`` with the same
        noise.
    overwrite : bool

    Returns
    -------
    paths : list of path
        The series of `phantom`.

    Raises
    ------
    ValueError
        If a file is there and not `overwrite`.
    OSError
        If it cannot be written.
    """
    folder = Path(folder)
    if not overwrite:
        check_free(folder, phantom.model)
    parts = {"": phantom} | ({} if twin is None else {"E1": twin})
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".phantom-") as temporary:
        for name, part in parts.items():
            root = Path(temporary) / name
            root.mkdir(exist_ok=True)
            _write_truth(part, root)
            for repeat in range(1, repeats + 1):
                rng = np.random.default_rng([seed, repeat, 77])
                series = noisy_series(part, SNR_SIGNAL / snr, rng, noise)
                sidecar = _sidecar(part, snr, noise, seed, repeat) | dict(provenance)
                _save(root / f"rep-{repeat}_series.nii.gz", series, part, sidecar)
        _move(Path(temporary), folder, overwrite)
    return [folder / f"rep-{repeat}_series.nii.gz" for repeat in range(1, repeats + 1)]


def check_free(folder: str | Path, model: SignalModel) -> None:
    """Refuse a folder that holds a phantom.

    Raises
    ------
    ValueError
        If it does; the message names a file.
    """
    names = ["rep-*_series.*", "labels.*", "mask.*", "times.txt"]
    names += [f"{_map_name(parameter)}.*" for parameter in model.parameters]
    there = sorted(path for name in names for path in Path(folder).glob(name))
    if there:
        raise ValueError(f"{there[0]} exists. Give --overwrite or another --out.")


def _move(temporary: Path, folder: Path, overwrite: bool) -> None:
    """Give all files their place, the series last; with `overwrite` a former phantom's go."""
    sources = [path for path in temporary.rglob("*") if path.is_file()]
    targets = {path: folder / path.relative_to(temporary) for path in sources}
    there = sorted(target for target in targets.values() if target.exists())
    if there and not overwrite:
        raise ValueError(f"{there[0]} exists. Give --overwrite or another --out.")
    former = set(_former(folder)) if overwrite else set()
    for path in sorted(sources, key=lambda p: ("_series" in p.name, p)):
        targets[path].parent.mkdir(exist_ok=True)
        path.replace(targets[path])
    for path in former - set(targets.values()):
        path.unlink()


def _former(folder: Path) -> Iterator[Path]:
    """Files of a former phantom whose names depend on the options: theirs by name and sidecar."""
    for card in [*folder.glob("*.json"), *folder.glob("E1/*.json")]:
        image = card.with_suffix(".nii.gz")
        if _OPTIONAL.fullmatch(card.name) and image.is_file() and written_by(card) == "relaxsim":
            yield from (card, image)


def _write_truth(phantom: Phantom, root: Path) -> None:
    model = phantom.model
    for q, (parameter, unit) in enumerate(zip(model.parameters, model.units, strict=True)):
        _save(
            root / f"{_map_name(parameter)}.nii.gz", phantom.kappa[..., q], phantom, {"Units": unit}
        )
    levels = {str(label): name for label, name in sorted(phantom.label_names.items())}
    _save(root / "labels.nii.gz", phantom.labels, phantom, {"Levels": levels})
    meaning = {"Description": "Share of the voxel that its label fills", "Units": "1"}
    _save(root / "purity.nii.gz", phantom.purity, phantom, meaning)
    for name, region in ({"mask": phantom.mask} | phantom.regions).items():
        _save(root / f"{name}.nii.gz", region.astype(np.uint8), phantom, {"Type": "ROI"})
    times = "\n".join(f"{t:g}" for t in phantom.tau)
    (root / "times.txt").write_text(f"# {model.time_name}, ms\n{times}\n", encoding="utf-8")


def _map_name(parameter: str) -> str:
    return MAP_NAMES.get(parameter, f"{parameter}map")


def _sidecar(phantom: Phantom, snr: float, noise: str, seed: int, repeat: int) -> dict[str, Any]:
    sidecar: dict[str, Any] = {
        _BIDS_TIMES[phantom.model.times]: [float(t) / 1000 for t in phantom.tau]
    }
    if phantom.tr is not None:
        sidecar["RepetitionTime"] = phantom.tr / 1000
    return sidecar | {
        "SignalModel": phantom.model.name,
        "NoiseModel": noise,
        "Sigma": SNR_SIGNAL / snr,
        "SNR": snr,
        "Seed": seed,
        "Repeat": repeat,
    }


def _save(path: Path, values: np.ndarray, phantom: Phantom, sidecar: Mapping[str, Any]) -> None:
    size = np.array(phantom.voxel_size, float)
    affine = np.diag([*size, 1.0])
    affine[:3, 3] = -0.5 * size * (np.array(values.shape[:3]) - 1)
    image = nib.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    made_by = {"SoftwareName": "relaxsim", "SoftwareVersion": __version__}
    text = json.dumps({**sidecar, **made_by}, indent=1) + "\n"
    path.with_name(path.name.replace(".nii.gz", ".json")).write_text(text, encoding="utf-8")
