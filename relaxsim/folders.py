"""Folders that results go to: where they lie, and whose files are there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def nearest_existing(path: str | Path) -> Path:
    """The path or its nearest parent that exists, absolute."""
    path = Path(path).absolute()
    while not path.exists():
        path = path.parent
    return path


def written_by(sidecar: Path) -> Any:
    """Program that a JSON sidecar names as its writer; None if it names none or is no sidecar."""
    try:
        return json.loads(sidecar.read_text(encoding="utf-8")).get("SoftwareName")
    except (OSError, ValueError, AttributeError, RecursionError):
        return None
