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
