"""Phantoms on disk: NIfTI series with sidecars, truth maps, masks and labels."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from relaxsim.core.files import temporary_folder
from relaxsim.core.folders import written_by
from relaxsim.core.only_run import only_run
from relaxsim.core.replacing import replace_files
from relaxsim.core.snr import sigma_of
from relaxsim.core.version import __version__
from relaxsim.models.registry import MODELS
from relaxsim.models.signal_model import SignalModel
from relaxsim.phantoms.phantoms import Phantom, noisy_series


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

    Written first beside their place, then moved together (`replace_files`): no file with a final
    name is incomplete, and none lies beside those of another phantom.

    Parameters
    ----------
    phantom : Phantom
    folder : path
        Made if missing.
    snr : float
        0.75 / sigma, with sigma in the unit of A.
    repeats : int
        Series ``rep-1_series.nii.gz`` ..., each with another draw of noise.
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
        If a file is there and not `overwrite`, or the folder cannot be written to.
    relaxsim.core.only_run.InUseError
        If another run writes to the folder.
    OSError
        If it cannot be written.
    """
    folder = Path(folder)
    if not overwrite:
        check_free(folder, phantom.model)
    parts = {"": phantom} | ({} if twin is None else {"E1": twin})
    with only_run(folder), temporary_folder(folder / "phantom") as temporary:
        for name, part in parts.items():
            root = temporary / "new" / name
            root.mkdir(parents=True)
            _write_truth(part, root)
            for repeat in range(1, repeats + 1):
                rng = np.random.default_rng([seed, repeat, 77])
                series = noisy_series(part, sigma_of(snr), rng, noise)
                sidecar = _sidecar(part, snr, noise, seed, repeat) | dict(provenance)
                _save(root / f"rep-{repeat}_series.nii.gz", series, part, sidecar)
        _move(temporary, folder, overwrite)
    return [folder / f"rep-{repeat}_series.nii.gz" for repeat in range(1, repeats + 1)]


def check_free(folder: str | Path, model: SignalModel) -> None:
    """Refuse a folder that holds a phantom.

    Raises
    ------
    ValueError
        If it does; the message names a file.
    """
    names = ["rep-*_series.*", "labels.*", "mask.*", *_protocol_files(model)]
    names += [f"{name}.*" for name in _map_names([model])]
    for name in names:
        _check_absent(sorted(Path(folder).glob(name)))


def _check_absent(paths: Iterable[Path]) -> None:
    there = next((path for path in paths if path.exists()), None)
    if there is not None:
        raise ValueError(f"{there} exists. Give `overwrite` or another `out`.")


def _move(temporary: Path, folder: Path, overwrite: bool) -> None:
    """Give all files their place, the series last; with `overwrite` a former phantom's go."""
    new = temporary / "new"
    sources = sorted(
        (path for path in new.rglob("*") if path.is_file()), key=lambda p: ("_series" in p.name, p)
    )
    targets = {path: folder / path.relative_to(new) for path in sources}
    if not overwrite:
        _check_absent(sorted(targets.values()))
    replace_files(targets, _former(folder) if overwrite else (), temporary / "earlier")


def _former(folder: Path) -> Iterator[Path]:
    """Files of a former phantom whose names depend on the options.

    Images are known by name and sidecar, protocols by name and first line.
    """
    maps = "|".join(re.escape(name) for name in _map_names(MODELS.values()))
    card_name = re.compile(
        rf"(rep-\d+_series|{maps}|labels|mask|purity|pure|(structure|neighborhood)(-\d+)?)\.json"
    )
    for part in (folder, folder / "E1"):
        for card in part.glob("*.json"):
            image = card.with_suffix(".nii.gz")
            if card_name.fullmatch(card.name) and image.is_file():
                if written_by(card) == "relaxsim":
                    yield from (card, image)
        for model in MODELS.values():
            for name, (heading, _) in _protocol_files(model).items():
                if _first_line(part / name) == heading:
                    yield part / name


def _first_line(path: Path) -> str:
    """First line of a text file; empty if there is none."""
    try:
        return path.read_text(encoding="utf-8").partition("\n")[0]
    except (OSError, ValueError):
        return ""


def _protocol_files(model: SignalModel) -> dict[str, tuple[str, int]]:
    """Files of a protocol's columns: heading and index of each column by the file's name."""
    columns = list(zip(model.columns, model.border.columns, strict=True))
    alone = len(columns) == 1
    return {
        "times.txt" if alone else f"{border.option}.txt": (
            f"# {border.words}, {column.unit}".rstrip(", "),
            d,
        )
        for d, (column, border) in enumerate(columns)
    }


def _map_names(models: Iterable[SignalModel]) -> list[str]:
    """Names of truth maps and known maps without ending, each once."""
    names = [f"{border.stem}map" for model in models for border in model.border.maps]
    return list(dict.fromkeys([*names, *(n for model in models for n in _known_names(model))]))


def _known_names(model: SignalModel) -> list[str]:
    return [f"{known.name}map" for known in model.known_maps]


def _write_truth(phantom: Phantom, root: Path) -> None:
    model = phantom.model
    for q, (border, unit) in enumerate(zip(model.border.maps, model.units, strict=True)):
        path = root / f"{border.stem}map.nii.gz"
        _save(path, phantom.kappa[..., q], phantom, {"Units": unit})
    for k, (name, known) in enumerate(zip(_known_names(model), model.known_maps, strict=True)):
        assert phantom.known is not None
        _save(root / f"{name}.nii.gz", phantom.known[..., k], phantom, {"Units": known.unit})
    levels = {str(label): name for label, name in sorted(phantom.label_names.items())}
    _save(root / "labels.nii.gz", phantom.labels, phantom, {"Levels": levels})
    meaning = {"Description": "Share of the voxel that its label fills", "Units": "1"}
    _save(root / "purity.nii.gz", phantom.purity, phantom, meaning)
    for name, region in ({"mask": phantom.mask} | phantom.regions).items():
        _save(root / f"{name}.nii.gz", region.astype(np.uint8), phantom, {"Type": "ROI"})
    for name, (heading, d) in _protocol_files(model).items():
        column, values = model.border.columns[d], phantom.protocol[:, d]
        lines = "\n".join(column.text(value) for value in values[: 1 if column.names else None])
        (root / name).write_text(f"{heading}\n{lines}\n", encoding="utf-8")


def _sidecar(phantom: Phantom, snr: float, noise: str, seed: int, repeat: int) -> dict[str, Any]:
    sidecar: dict[str, Any] = {
        border.bids_field: [float(value) / border.bids_factor for value in values]
        for border, values in zip(phantom.model.border.columns, phantom.protocol.T, strict=True)
    }
    if phantom.tr is not None:
        sidecar["RepetitionTime"] = phantom.tr / 1000
    return sidecar | {
        "SignalModel": phantom.model.name,
        "NoiseModel": noise,
        "Sigma": sigma_of(snr),
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
