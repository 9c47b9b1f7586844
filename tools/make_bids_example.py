"""Write a simulated BIDS dataset: series of every suffix that relaxnet maps, of a few subjects.

Heads are the built-in one's; nothing is downloaded. sub-01 has one session without a label and
series of all suffixes: inversion recovery, multi-echo spin and gradient echoes, and variable flip
angles with a B1 map. sub-02 has inversion recovery and spin echoes in two sessions that differ in
their noise, sub-03 two runs of its inversion recovery. Truth maps in seconds and brain masks are in
derivatives/truth.

Example:
    python tools/make_bids_example.py example-bids
    relaxnet bids example-bids example-bids/derivatives/relaxnet participant
    python tools/make_bids_example.py example-bids --compare example-bids/derivatives/relaxnet
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import nibabel as nib
import numpy as np

from relaxsim.anatomy.anatomy import Anatomy, builtin_head
from relaxsim.core.snr import sigma_of
from relaxsim.core.version import __version__
from relaxsim.models.registry import model_of_suffix
from relaxsim.phantoms.phantoms import Phantom, brain_phantom, noisy_series
from relaxsim.simulation.tissues import read_tissues

#: Times in ms and repetition times in s; an inversion every TR and a 90-degree readout.
TIS = (50.0, 100.0, 200.0, 400.0, 700.0, 1100.0, 1700.0, 2500.0)
TES = (12.0, 24.0, 36.0, 48.0, 60.0, 80.0, 110.0, 150.0)
GRADIENT_TES = (2.3, 4.6, 9.2, 13.8, 18.4, 25.3, 34.5, 46.0)
ANGLES = (2.0, 4.0, 8.0, 14.0, 22.0)
TR = {"IRT1": 10.0, "MESE": 3.0, "MEGRE": 0.055, "VFA": 0.015}
PROTOCOLS = {
    "IRT1": np.array(TIS)[:, None],
    "MESE": np.array(TES)[:, None],
    "MEGRE": np.array(GRADIENT_TES)[:, None],
    "VFA": np.stack([np.array(ANGLES), np.full(len(ANGLES), 1000 * TR["VFA"])], axis=-1),
}
#: Of each suffix' draws.
SEEDS = {"IRT1": 1, "MESE": 0, "MEGRE": 2, "VFA": 3}
#: Suffixes of the maps whose errors are printed.
STEMS = ("T1map", "T2map", "T2starmap")
#: Signal of CSF in the images, which hold whole numbers.
UNIT = 1000.0
#: Fields of the sidecar that holds for all images of a suffix, beside its repetition time.
SHARED = {
    "IRT1": {"FlipAngle": 90},
    "MESE": {"FlipAngle": 90},
    "MEGRE": {"FlipAngle": 15, "ScanningSequence": "GR"},
    "VFA": {"EchoTime": 0.003, "ScanningSequence": "GR", "PulseSequenceType": "FLASH"},
}
README = """# Simulated relaxometry

Inversion recovery (IRT1), multi-echo spin echo (MESE), multi-echo gradient echo (MEGRE) and
variable flip angle (VFA) series of three simulated heads, made by relaxsim {version}. There is no
person behind these data.
"""


@dataclass(frozen=True)
class Visit:
    """One subject's series on one day: entities, its suffixes, and the runs of the first."""

    subject: str
    head: int
    session: str = ""
    runs: tuple[str, ...] = ("",)
    suffixes: tuple[str, ...] = ("IRT1", "MESE")

    @property
    def folder(self) -> Path:
        """Place of its images below a dataset's root."""
        parts = [f"sub-{self.subject}", *([f"ses-{self.session}"] if self.session else []), "anat"]
        return Path(*parts)

    def prefix(self, run: str = "") -> str:
        """Start of its file names."""
        pairs = {"sub": self.subject, "ses": self.session, "run": run}
        return "_".join(f"{key}-{value}" for key, value in pairs.items() if value)


VISITS = (
    Visit("01", 1000, suffixes=("IRT1", "MESE", "MEGRE", "VFA")),
    Visit("02", 1001, "1"),
    Visit("02", 1001, "2"),
    Visit("03", 1002, runs=("1", "2")),
)


def phantom(visit: Visit, suffix: str, anatomy: Anatomy, matrix: int, slices: int) -> Phantom:
    """Noise-free series of a visit; the same for all visits of a subject."""
    model = model_of_suffix(suffix)
    assert model is not None
    return brain_phantom(
        anatomy,
        PROTOCOLS[suffix],
        model,
        read_tissues(model.border.tissues),
        np.random.default_rng([visit.head, SEEDS[suffix]]),
        voxel_size=224.0 / matrix,
        matrix=matrix,
        num_slices=slices,
        thickness=5.0,
        tr=1000 * TR["IRT1"] if suffix == "IRT1" else None,
    )


def save(path: Path, values: np.ndarray, voxel: tuple[float, float, float]) -> None:
    """Write an image around the origin, in scanner coordinates."""
    path.parent.mkdir(parents=True, exist_ok=True)
    size = np.array(voxel)
    affine = np.diag([*size, 1.0])
    affine[:3, 3] = -0.5 * size * (np.array(values.shape) - 1)
    image = nib.Nifti1Image(values, affine)
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, path)


def write_json(path: Path, fields: dict[str, Any]) -> None:
    """Write a sidecar."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(fields, indent=1) + "\n", encoding="utf-8")


def write_series(out: Path, visit: Visit, suffix: str, clean: Phantom, snr: float) -> None:
    """Write the images of all runs of a visit, with the sidecar of each image."""
    border = clean.model.border
    for run in visit.runs if suffix == "IRT1" else visit.runs[:1]:
        prefix = visit.prefix(run if suffix == "IRT1" else "")
        seed = [visit.head, SEEDS[suffix], int(visit.session or 0), int(run or 0)]
        series = noisy_series(clean, sigma_of(snr), np.random.default_rng(seed), "rician")
        images = np.clip(np.round(UNIT * series), 0, 32767).astype(np.int16)
        for n, row in enumerate(clean.protocol):
            name = f"{prefix}_{border.bids_entity}-{n + 1}_{suffix}"
            save(out / visit.folder / f"{name}.nii.gz", images[..., n], clean.voxel_size)
            columns = zip(border.columns, row, strict=True)
            card = {c.bids_field: value / c.bids_factor for c, value in columns}
            write_json(out / visit.folder / f"{name}.json", card)
    if clean.known is not None:
        write_known(out, visit, suffix, clean)


def write_known(out: Path, visit: Visit, suffix: str, clean: Phantom) -> None:
    """Write the maps that are measured beside a series, which say what they are for."""
    assert clean.known is not None
    folder = out / visit.folder.parent / "fmap"
    session = f"ses-{visit.session}/" if visit.session else ""
    index = clean.model.border.bids_entity
    for k, known in enumerate(clean.model.border.known):
        path = folder / f"{visit.prefix()}_{known.bids_suffix}"
        save(path.parent / f"{path.name}.nii.gz", clean.known[..., k], clean.voxel_size)
        images = [
            f"bids::sub-{visit.subject}/{session}anat/"
            f"{visit.prefix()}_{index}-{n + 1}_{suffix}.nii.gz"
            for n in range(len(clean.protocol))
        ]
        card = {"Description": known.words, "Units": "arbitrary", "IntendedFor": images}
        write_json(path.parent / f"{path.name}.json", card)


def write_truth(out: Path, visit: Visit, suffix: str, clean: Phantom) -> None:
    """Write the relaxation times in seconds, and the brain."""
    stem = clean.model.border.maps[-1].derivative_suffix
    # Two series give a T1map: that of flip angles is another draw of the tissues.
    desc = "_desc-VFA" if suffix == "VFA" else ""
    name = f"{visit.prefix()}{desc}_{stem}"
    seconds = (clean.kappa[..., -1] / 1000).astype(np.float32)
    save(out / visit.folder / f"{name}.nii.gz", seconds, clean.voxel_size)
    card = {"Description": "Truth of the simulation", "Units": "s", "SkullStripped": False}
    write_json(out / visit.folder / f"{name}.json", card)
    name = f"{visit.prefix()}_desc-brain_mask"
    save(out / visit.folder / f"{name}.nii.gz", clean.mask.astype(np.uint8), clean.voxel_size)
    card = {"Description": "Brain of the simulation", "Type": "Brain"}
    write_json(out / visit.folder / f"{name}.json", card)


def write_dataset(out: Path) -> None:
    """Write the files of the whole dataset, and sidecars that hold for all subjects."""
    generated = [{"Name": "relaxsim", "Version": __version__}]
    common = {
        "BIDSVersion": "1.10.0",
        "License": "CC0",
        "Authors": ["relaxsim", "relaxnet"],
        "GeneratedBy": generated,
    }
    name = "Simulated relaxometry"
    write_json(out / "dataset_description.json", {"Name": name, "DatasetType": "raw", **common})
    truth = out / "derivatives" / "truth"
    described = {"Name": f"{name}: truth", "DatasetType": "derivative", **common}
    source = {"SourceDatasets": [{"URL": "../.."}]}
    write_json(truth / "dataset_description.json", described | source)
    for folder in (out, truth):
        (folder / "README.md").write_text(README.format(version=__version__), encoding="utf-8")
    for suffix, tr in TR.items():
        shared = {"MagneticFieldStrength": 3, "RepetitionTime": tr, **SHARED[suffix]}
        if suffix == "VFA":
            del shared["RepetitionTime"]  # that of the excitations is in each sidecar
        write_json(out / f"{suffix}.json", shared)
    subjects = sorted({visit.subject for visit in VISITS})
    rows = "".join(f"sub-{subject}\n" for subject in subjects)
    (out / "participants.tsv").write_text(f"participant_id\n{rows}", encoding="utf-8")


def visits(out: Path, matrix: int, slices: int, snr: float) -> Iterator[str]:
    """Write all images; yields the name of each visit."""
    write_dataset(out)
    heads: dict[int, Anatomy] = {}
    for visit in VISITS:
        if visit.head not in heads:
            heads = {visit.head: builtin_head(visit.head, 1.0)}
        for suffix in visit.suffixes:
            clean = phantom(visit, suffix, heads[visit.head], matrix, slices)
            write_series(out, visit, suffix, clean, snr)
            write_truth(out / "derivatives" / "truth", visit, suffix, clean)
        yield visit.prefix()


def errors(out: Path, maps: Path) -> Iterator[str]:
    """Error of each relaxation-time map in the brain, in words."""
    for path in sorted(p for stem in STEMS for p in maps.rglob(f"*_{stem}.nii.gz")):
        place = out / "derivatives" / "truth" / path.relative_to(maps).parent
        parts = path.name.split("_")
        visit = "_".join(part for part in parts[:-1] if not part.startswith("run-"))
        person = "_".join(part for part in visit.split("_") if not part.startswith("desc-"))
        files = (path, place / f"{visit}_{parts[-1]}", place / f"{person}_desc-brain_mask.nii.gz")
        found, truth, brain = (np.asarray(nib.load(file).dataobj) for file in files)
        inside = (brain > 0) & (truth > 0)
        relative = 100 * (found[inside] / truth[inside] - 1)
        yield (
            f"{path.name.removesuffix('.nii.gz')}: median {np.median(found[inside]):.3f} s, truth "
            f"{np.median(truth[inside]):.3f} s; error {np.median(relative):+.1f} % (median), "
            f"{np.median(abs(relative)):.1f} % (median of its size)"
        )


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--matrix", default=128, type=click.IntRange(16, 512), help="Rows and columns.")
@click.option("--slices", default=3, type=click.IntRange(1, 20), help="Of 5 mm.")
@click.option("--snr", default=30.0, type=click.FloatRange(1, 1000), help="0.75 / sigma.")
@click.option("--quick", is_flag=True, help="One slice of 32 x 32 voxels.")
@click.option(
    "--compare",
    type=click.Path(path_type=Path, exists=True),
    help="Derivative dataset: print its errors in the brain, and write nothing.",
)
def main(
    out: Path, matrix: int, slices: int, snr: float, quick: bool, compare: Path | None
) -> None:
    """Write a simulated BIDS dataset to OUT, a new folder."""
    if compare is not None:
        for line in errors(out, compare):
            click.echo(line)
        return
    if out.exists():
        raise click.UsageError(f"{out} exists; give a new folder.")
    for name in visits(out, 32 if quick else matrix, 1 if quick else slices, snr):
        click.echo(f"{out}: {name}")


if __name__ == "__main__":
    main()
