"""The installed commands in an empty folder, as a new user calls them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY
from relaxsim.models.protocols import read_protocol


def script(name):
    """Console script of this Python's environment."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.is_file() else shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not installed")
    return found


def call(folder, *command):
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    env |= {"RELAXSIM_DATA": str(folder / "none"), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [script(command[0]), *command[1:]],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("name", ["relaxsim", "relaxnet"])
def test_help_and_version(tmp_path, name):
    assert "Usage" in call(tmp_path, name, "--help")
    assert "version" in call(tmp_path, name, "--version")


def test_three_commands_in_an_empty_folder(tmp_path):
    """generate, train, predict with their defaults; only sizes are small."""
    said = call(
        tmp_path,
        "relaxsim",
        "generate",
        "--tis",
        "cine31.txt",
        "--patches",
        "480",
        "--patch-size",
        "16",
    )
    assert "built-in head" in said
    call(tmp_path, "relaxnet", "train", "--iterations", "3", "--features", "4")
    tau = read_protocol("cine31", "tis").tau
    kappa = np.stack(
        [np.full((10, 9, 1), 500.0), np.full((10, 9, 1), 1.9), np.full((10, 9, 1), 900.0)], -1
    )
    noise = np.random.default_rng(0).standard_normal((10, 9, 1, 31))
    S = (INVERSION_RECOVERY.forward(kappa, tau) + 5 * noise).astype(np.float32)
    nib.save(nib.Nifti1Image(S, np.eye(4)), tmp_path / "series.nii.gz")
    said = call(
        tmp_path,
        "relaxnet",
        "predict",
        "series.nii.gz",
        "--tis",
        "cine31.txt",
        "--model",
        "runs/rim/last.keras",
        "--mask",
        "none",
    )
    assert "cine31" in (tmp_path / "maps/T1map.json").read_text()
    assert nib.load(tmp_path / "maps/T1map.nii.gz").shape == (10, 9, 1)


def test_shipped_network_maps_any_protocol(tmp_path):
    """rim-t1 without training: within a fifth of the truth in a uniform phantom."""
    tau = np.array([60.0, 180, 420, 800, 1300, 2100, 3200])
    T1 = np.where(np.arange(40)[:, None, None] < 20, 700.0, 1400.0) * np.ones((40, 40, 1))
    kappa = np.stack([np.full(T1.shape, 900.0), np.full(T1.shape, 1.9), T1], -1)
    noise = np.random.default_rng(0).standard_normal((40, 40, 1, 7))
    S = (INVERSION_RECOVERY.forward(kappa, tau) + 15 * noise).astype(np.float32)
    nib.save(nib.Nifti1Image(S, np.eye(4)), tmp_path / "series.nii.gz")
    (tmp_path / "times.txt").write_text(" ".join(f"{t:g}" for t in tau))
    call(tmp_path, "relaxnet", "predict", "series.nii.gz", "--tis", "times.txt", "--mask", "none")
    found = nib.load(tmp_path / "maps/T1map.nii.gz").get_fdata()
    for value in (700.0, 1400.0):
        assert np.median(found[T1 == value]) == pytest.approx(value, rel=0.2)
