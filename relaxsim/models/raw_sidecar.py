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
