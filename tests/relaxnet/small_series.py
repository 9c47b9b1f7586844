"""A small inversion-recovery series as a NIfTI file."""

import nibabel as nib
import numpy as np

from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY

TAU = np.array([50.0, 150, 400, 800, 1400, 2200, 3500])


def truth(shape=(14, 12, 2)):
    """Kappa of two tissues in a disc, 0 around it, and the disc."""
    x, y, _ = np.meshgrid(*map(np.arange, shape), indexing="ij")
    disc = (x - shape[0] / 2 + 0.5) ** 2 + (y - shape[1] / 2 + 0.5) ** 2 < 25
    kappa = np.zeros((*shape, 3))
    kappa[..., 0] = np.where(x < shape[0] / 2, 800.0, 1000.0)
    kappa[..., 1] = 1.95
    kappa[..., 2] = np.where(x < shape[0] / 2, 700.0, 1300.0)
    kappa[~disc] = 0
    return kappa, disc


def series(shape=(14, 12, 2), sigma=8.0, seed=0):
    """Weighted images (X, Y, Z, N) with noise, and their truth."""
    kappa, disc = truth(shape)
    safe = np.where(disc[..., None], kappa, [0.0, 2.0, 1000.0])
    S = INVERSION_RECOVERY.forward(safe, TAU)
    S = S + sigma * np.random.default_rng(seed).standard_normal(S.shape)
    return np.abs(S).astype(np.float32), kappa, disc


def write(path, S, affine=None, dtype=np.float32, slope=None):
    """Write a NIfTI file, of integers with a slope if given."""
    affine = np.diag([0.9, 0.9, 3.0, 1.0]) if affine is None else affine
    image = nib.Nifti1Image(S, affine, dtype=np.float32)
    if slope:
        image = nib.Nifti1Image(np.round(S / slope).astype(dtype), affine)
        image.header.set_slope_inter(slope, 0)
    nib.save(image, path)
    return path


def write_times(path, tau=TAU):
    """Write a list of times in ms."""
    path.write_text("\n".join(f"{t:g}" for t in tau))
    return path
