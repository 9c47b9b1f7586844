"""What the sidecars of raw images say of the sequence, for the cautions of signal models."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any


def sequence_parts(fields: Mapping[str, Any]) -> tuple[str, ...]:
    r"""Entries of DICOM's ScanningSequence, such as ``GR`` and ``IR``; none where it is not there.

    Examples
    --------
    >>> sequence_parts({"ScanningSequence": "GR\\IR"})
    ('GR', 'IR')
    """
    said = fields.get("ScanningSequence") or ()
    words = said if isinstance(said, list | tuple) else re.split(r"[\\_/, ]+", str(said))
    return tuple(str(word) for word in words if word)


#: Siemens' names of spoiled gradient echoes, such as ``*fl3d12``.
_GRADIENT_NAMES = re.compile(r"\*?t?fl[23]d")


def why_gradient_echoes(fields: Mapping[str, Any]) -> str:
    """Words of a sidecar that tell of gradient echoes; empty if there are none.

    Examples
    --------
    >>> why_gradient_echoes({"ScanningSequence": "GR"})
    'ScanningSequence GR'
    """
    parts, name = sequence_parts(fields), str(fields.get("SequenceName", ""))
    if "GR" in parts and "SE" not in parts:
        return "ScanningSequence GR"
    return f"SequenceName {name[:40]}" if not parts and _GRADIENT_NAMES.match(name) else ""


#: BIDS suffixes of gradient echoes.
_GRADIENT_SUFFIXES = ("MEGRE", "T2starw", "T2star")


def why_not_t2(fields: Mapping[str, Any], suffix: str) -> str | None:
    """Warning if names or sidecars tell of gradient echoes, which decay with T2*."""
    if suffix in _GRADIENT_SUFFIXES:
        why = f"the files are named {suffix}"
    elif said := why_gradient_echoes(fields):
        why = f"the sidecars say {said}"
    else:
        return None
    return (
        f"{why}: gradient echoes decay with T2*, so that the maps named T2 hold T2*; give "
        "`sequence` t2star (unless the times are those of T2 preparations)"
    )


#: Names of trains with gradient echoes between the refocusing pulses, and of radial ones.
_OTHER_TRAINS = re.compile(r"grase|tgse|gse|radial|radtse", re.IGNORECASE)


def other_train(fields: Mapping[str, Any]) -> str | None:
    """Note if a sidecar tells of a train whose echoes are no plain spin echoes.

    Examples
    --------
    >>> other_train({"SequenceName": "tgse3d1"}).split(":")[0]
    'SequenceName tgse3d1 is no plain train of spin echoes'
    >>> other_train({"ScanningSequence": "SE"})
    """
    found = ""
    if {"SE", "EP"} <= set(sequence_parts(fields)):
        found = "ScanningSequence SE and EP"
    for key in ("SequenceName", "PulseSequenceName", "PulseSequenceType", "SequenceVariant"):
        value = str(fields.get(key, ""))
        if _OTHER_TRAINS.search(value):
            found = f"{key} {value[:40]}"
    if not found:
        return None
    return (
        f"{found} is no plain train of spin echoes: each image is taken for the spin echo at its "
        "time, as of GRASE if its centre of k-space is that echo, and of a radial train if its "
        "images are made of the spokes of one echo"
    )
