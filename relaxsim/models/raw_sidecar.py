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
