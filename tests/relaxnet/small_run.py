"""A folder of maps as `relaxnet predict` writes it, made from known truth."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np

from relaxnet.io.inputs import load_series
from relaxnet.io.nifti import save_map
from relaxnet.maps.status import AT_BOUND, OK, OUTSIDE, POOR_FIT, levels
from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY
from relaxsim.models.t2_decay import MODEL as T2_DECAY

TAUS = {
    "inversion_recovery": np.array([50.0, 150, 400, 800, 1400, 2200, 3500]),
    "t2_decay": np.array([10.0, 20, 40, 80, 160]),
}
SIGMA = 8.0


def kappa_of(model, shape):
    """Two tissues in an off-centre ellipsoid, and where it is."""
    grids = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    radii = [max(n * 0.35, 0.6) for n in shape]
    centre = [(n - 1) / 2 for n in shape]
    distance = sum(((g - c) / r) ** 2 for g, c, r in zip(grids, centre, radii, strict=True))
    inside = distance < 1
    left = grids[0] < centre[0]
    times = (70.0, 120.0) if model.start[-1] == 100.0 else (700.0, 1300.0)
    kappa = np.zeros((*shape, model.num_parameters))
    kappa[..., 0] = np.where(left, 800.0, 1000.0)
    kappa[..., -1] = np.where(left, times[0], times[1])
    if model.num_parameters == 3:
        kappa[..., 1] = 1.95
    return kappa, inside


def make_run(
    folder,
    model=INVERSION_RECOVERY,
    shape=(14, 12, 2),
    std=True,
    affine=None,
    series_name="series.nii.gz",
    protocol=None,
    **said,
):
    """Write a series and maps of it; `said` replaces what the sidecars say.

    A model that is not the package's needs a `protocol`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    kappa, inside = kappa_of(model, shape)
    tau = TAUS[model.name] if protocol is None else protocol
    S = model.forward(kappa, tau)
    S = np.abs(S + SIGMA * np.random.default_rng(0).standard_normal(S.shape)).astype(np.float32)
    S[~inside] = 0
    affine = np.diag([0.9, 0.9, 3.0, 1.0]) if affine is None else affine
    source = folder.parent / series_name
    nib.save(nib.Nifti1Image(S, affine), source)
    series = load_series([source])
    status = np.where(inside, OK, OUTSIDE).astype(np.uint8)
    first, *_, last = np.argwhere(inside)
    status[tuple(first)], status[tuple(last)] = AT_BOUND, POOR_FIT
    kappa[~inside] = 0
    columns = zip(model.border.columns, np.moveaxis(model.table(tau), -1, 0), strict=True)
    shared = {
        "SignalModel": model.name,
        **{border.sidecar_field: values.tolist() for border, values in columns},
        "Protocol": "times.txt",
        "Method": "mle" if std else "rim",
        "Fit": "gaussian maximum likelihood, voxel-wise",
        "Sigma": SIGMA,
        "SigmaSource": "fit residuals",
        "Noise": {"Sigma": SIGMA, "Source": "residuals"},
        "DataTakenAs": "magnitude",
        "Data": {"Signed": False, "Modulus": False, "Rician": False},
        "FitOptions": {"Likelihood": "gaussian"},
        "Mask": "automatic mask, Otsu's threshold (30 % of voxels)",
        "MaskKind": {"Kind": "auto", "Rule": "otsu"},
        "OutsideMask": 0,
        "Sources": [str(source)],
        "SoftwareName": "relaxnet",
        "SoftwareVersion": "0.1.0",
        "CommandLine": "relaxnet predict series.nii.gz --tis times.txt",
        "Date": "2026-01-01T00:00:00+0000",
        "Notes": [],
        "Warnings": [],
        **({} if std else {"Network": "net", "NetworkSHA256": "0" * 64}),
        **said,
    }
    residual = np.where(inside, np.random.default_rng(1).uniform(0.5, 1.5, shape), 0)
    maps = {"residual": (residual, "sigma"), "status": (status, "1")}
    for q, (border, unit) in enumerate(zip(model.border.maps, model.units, strict=True)):
        stem = border.stem
        maps[f"{stem}map"] = kappa[..., q], unit
        if std:
            maps[f"{stem}std"] = 0.05 * kappa[..., q], unit
    for stem, (values, unit) in maps.items():
        card = {"Units": unit, **shared}
        if stem == "status":
            card["Levels"] = levels()
        save_map(folder / f"{stem}.nii.gz", values, series, card)
    return folder


def set_said(folder, **said):
    """Change what all sidecars of a run say."""
    for path in Path(folder).glob("*.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), **said}))


MODELS = {"t1": INVERSION_RECOVERY, "t2": T2_DECAY}
