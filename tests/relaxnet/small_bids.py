"""A small BIDS dataset of inversion-recovery and multi-echo series."""

import json

import nibabel as nib
import numpy as np
from small_series import TAU, series

from relaxsim.models.t2_decay import MODEL as T2_DECAY

TE = np.array([10.0, 20, 40, 80, 160])
SHAPE = (14, 12, 1)


def write_json(path, **fields):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(fields))
    return path


def save(path, volume):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(volume.astype(np.float32), np.diag([0.9, 0.9, 3, 1])), path)
    return path


def images(suffix, seed=0):
    """Weighted images (X, Y, Z, N) and their times in ms."""
    S, kappa, disc = series(SHAPE, seed=seed)
    if suffix == "IRT1":
        return S, TAU
    T2 = np.where(disc, 80.0, 1.0)
    clean = T2_DECAY.forward(np.stack([kappa[..., 0], T2], -1), TE)
    noise = 4 * np.random.default_rng(seed).standard_normal(clean.shape)
    return np.abs(clean + noise), TE


def write_series(root, prefix, suffix="IRT1", seed=0, part=""):
    """Write one image and sidecar a time, in an order that is not that of the times."""
    field, index = {"IRT1": ("InversionTime", "inv"), "MESE": ("EchoTime", "echo")}[suffix]
    parts = [p for p in prefix.split("_") if p.startswith(("sub-", "ses-"))]
    folder = root.joinpath(*parts, "anat")
    S, tau = images(suffix, seed)
    paths = []
    for number, n in enumerate(reversed(range(len(tau))), start=1):
        stem = f"{prefix}_{index}-{number}{part}_{suffix}"
        paths.append(save(folder / f"{stem}.nii.gz", S[..., n]))
        write_json(folder / f"{stem}.json", **{field: tau[n] / 1000})
    return paths


def write_dataset(root):
    """Two subjects, the second with two sessions, the first with a MESE series as well."""
    write_json(root / "dataset_description.json", Name="small", BIDSVersion="1.10.0")
    write_json(root / "IRT1.json", MagneticFieldStrength=3, RepetitionTime=9.0)
    write_series(root, "sub-01")
    write_series(root, "sub-01", "MESE")
    write_series(root, "sub-02_ses-a", seed=1)
    write_series(root, "sub-02_ses-b", seed=2)
    return root
