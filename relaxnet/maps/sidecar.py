"""Sidecars: what the JSON files beside maps say."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from relaxnet.maps.maps import Maps
from relaxnet.maps.status import shares
from relaxsim.core.version import __version__

#: Method -> what its maps of standard deviations are.
STD_SOURCE = {"mle": "Cramer-Rao bound", "rim": "error head, calibrated"}


def sidecar_of(
    maps: Maps,
    tau: np.ndarray,
    protocol: str,
    paths: Sequence[Path],
    mask: str,
    command: str,
    extra: Mapping[str, Any],
) -> dict[str, Any]:
    """What the JSON files of all maps of a run say.

    Parameters
    ----------
    maps : Maps
    tau : array, shape (N,)
        ms.
    protocol, mask, command : str
        Names or words.
    paths : sequence of path
        Files of the series.
    extra : mapping
        Of the method: fit, network, envelope.
    """
    said = {
        "SignalModel": maps.model.name,
        f"{'Inversion' if maps.model.times == 'tis' else 'Echo'}TimesMs": [float(t) for t in tau],
        "Protocol": protocol,
        "Method": maps.method,
        **extra,
        "Sigma": maps.sigma,
        "SigmaSource": maps.sigma_source,
        "DataTakenAs": maps.taken_as,
        "Mask": mask,
        "OutsideMask": 0,  # but for the status, whose levels say so
        "StatusShares": {words: round(share, 6) for words, share in shares(maps.status).items()},
        "Sources": [str(Path(p).absolute()) for p in paths],
        "SoftwareName": "relaxnet",
        "SoftwareVersion": __version__,
        "CommandLine": command,
        "Date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "Notes": list(maps.notes),
        "Warnings": list(maps.warnings),
    }
    if maps.std is not None:
        said["StdSource"] = STD_SOURCE[maps.method]
    if maps.lambda_b is not None:
        said["LambdaB"] = maps.lambda_b if np.isfinite(maps.lambda_b) else "inf"
    if maps.comparison is not None:
        numbers = {k: round(v, 6) for k, v in asdict(maps.comparison).items() if v == v}
        said["Comparison"] = {"with": "mle, voxel-wise", **numbers}
    if maps.model.times == "tis":
        said["T1Correction"] = (
            "Look-Locker: T1 = T1* (B - 1)"
            if maps.look_locker
            else "none: for Look-Locker readouts this is the apparent T1*"
        )
    return said
