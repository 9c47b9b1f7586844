"""Sidecars: the JSON files beside maps."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from relaxnet.maps.maps import FitKind, Maps
from relaxnet.maps.status import shares
from relaxnet.series.foreground import MaskKind
from relaxsim.core.version import __version__
from relaxsim.models.protocols import Protocol

#: Method -> what its maps of standard deviations are.
STD_SOURCE = {"mle": "Cramer-Rao bound", "rim": "error head, calibrated"}


def sidecar_of(
    maps: Maps,
    protocol: Protocol,
    paths: Sequence[Path],
    command: str,
    extra: Mapping[str, Any],
) -> dict[str, Any]:
    """Fields of the JSON files of all maps of a run.

    How maps were made stands there twice: in sentences for people (``SigmaSource``,
    ``DataTakenAs``, ``Mask``, ``Fit``), and as records for programs (``Noise``, ``Data``,
    ``MaskKind``, ``FitOptions``).

    Parameters
    ----------
    maps : Maps
    protocol : Protocol
        Of the images that were used.
    paths : sequence of path
        Files of the series.
    command : str
    extra : mapping
        Of the method: fit, network, training domain.
    """
    model = maps.model
    fields = {
        "SignalModel": model.name,
        "Sequence": model.border.sequence,
        **_protocol_fields(protocol),
        "Protocol": protocol.name,
        "Method": maps.method,
        **extra,
        "Sigma": maps.sigma,
        "SigmaSource": maps.sigma_source,
        "Noise": _noise_fields(maps),
        "DataTakenAs": maps.taken_as,
        "Data": {
            "Signed": maps.data.signed,
            "Modulus": maps.data.modulus,
            "Rician": maps.data.rician,
        },
        "Mask": maps.mask.words,
        "MaskKind": _mask_fields(maps.mask),
        "ImagesLeftOut": [
            {"Image": image.index + 1, "Fault": image.fault.value} for image in maps.left_out
        ],
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
    if maps.fit is not None:
        fields["FitOptions"] = _fit_fields(maps.fit)
    if maps.std is not None:
        fields["StdSource"] = STD_SOURCE[maps.method]
    if maps.lambda_b is not None:
        fields["LambdaB"] = _number(maps.lambda_b)
    if maps.comparison is not None:
        numbers = {k: round(v, 6) for k, v in asdict(maps.comparison).items() if v == v}
        fields["Comparison"] = {"with": "mle, voxel-wise", **numbers}
    return fields


def _protocol_fields(protocol: Protocol) -> dict[str, Any]:
    """Lists of the protocol's columns; lists of lists where each slice has its own; or a name."""
    columns, table = protocol.model.border.columns, protocol.table
    return {
        c.sidecar_field: c.text(table.flat[d]) if c.names else table[..., d].tolist()
        for d, c in enumerate(columns)
    }


def _noise_fields(maps: Maps) -> dict[str, Any]:
    noise = maps.noise
    fields: dict[str, Any] = {"Sigma": maps.sigma, "Source": noise.source.value}
    if noise.reason is not None:
        fields["Reason"] = noise.reason.value
    if noise.air is not None:
        fields["AirSigma"] = noise.air.sigma
        if noise.air.unusable is None:
            fields |= {"AirKind": noise.air.kind, "AirVoxels": noise.air.voxels}
        else:
            fields["AirUnusable"] = noise.air.unusable.value
    if noise.residual_sigma is not None:
        fields["ResidualSigma"] = noise.residual_sigma
    if noise.given_sigma is not None:
        fields["GivenSigma"] = noise.given_sigma
    return fields


def _mask_fields(mask: MaskKind) -> dict[str, Any]:
    fields: dict[str, Any] = {"Kind": mask.source.value, "Share": round(mask.share, 6)}
    if mask.rule is not None:
        fields["Rule"] = mask.rule.value
    if mask.file:
        fields |= {"File": mask.file, "Probabilities": bool(mask.half)}
    if mask.half:
        fields["From"] = mask.half
    return fields


def _fit_fields(fit: FitKind) -> dict[str, Any]:
    options, bounds = fit.options, fit.options.bounds
    if isinstance(bounds, Mapping):
        listed: Any = {name: list(pair) for name, pair in bounds.items()}
    else:
        listed = None if bounds is None else [list(pair) for pair in bounds]
    return {
        "Likelihood": options.likelihood,
        "LambdaB": _number(options.lambda_b),
        "ChosenLambdaB": _number(fit.chosen_lambda_b),
        "FixB": options.fix_b,
        "ShareB": options.share_b,
        "TR": options.tr,
        "Bounds": listed,
    }


def _number(value: float | str | None) -> float | str | None:
    """A number as JSON knows it: "inf" for an infinite one."""
    return "inf" if isinstance(value, float) and np.isinf(value) else value
