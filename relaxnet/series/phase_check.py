"""Phase images: refused where name, sidecar or values leave no doubt that they are no magnitude.

A phase that is taken for a magnitude gives maps that look like maps. It is recognised by

- ``part-phase`` or ``part-imag`` in the file's name (BIDS),
- ``_imaginary`` at the end of its name (dcm2niix),
- ``P``, ``PHASE``, ``I`` or ``IMAGINARY`` in ``ImageType`` of the JSON file beside it,
- values from -pi to pi, or over the whole of a scanner's range of integers, that are all about
  equally frequent, as the phase of noise is and no magnitude is.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from relaxsim.core.files import image_stem, read_json

#: Ranges of phase that scanners and converters write: lowest and highest value, tolerance.
RANGES = (
    (-np.pi, np.pi, 0.01),
    (0.0, 2 * np.pi, 0.01),
    (-1.0, 1.0, 0.001),
    (0.0, 4095.0, 2.0),
    (-4096.0, 4095.0, 3.0),
    (-180.0, 180.0, 0.5),
    (-1000 * np.pi, 1000 * np.pi, 3.0),
)
#: Largest distance of the values' distribution from a uniform one.
UNIFORM = 0.12
#: Most values that are compared, and fewest that decide.
MOST_VALUES, LEAST_VALUES = 50_000, 1_000

#: Words of ImageType for parts that are no magnitude, some with the kind of sequence behind them.
_PHASE = re.compile(r"PHASE|PHASE MAP|IMAGINARY|(P|I)(_(SE|FFE|IR|TSE|M|B1))?")
#: End of the name that dcm2niix gives to the imaginary part, a letter behind it for a repeat.
_IMAGINARY = re.compile(r"_imag(inary)?[a-z]?$", re.IGNORECASE)


def phase_by_name(path: Path) -> str:
    """Why a file's name or sidecar says that it is no magnitude; empty if they do not.

    Parameters
    ----------
    path : pathlib.Path
        NIfTI file.

    Examples
    --------
    >>> phase_by_name(Path("sub-01_inv-1_part-phase_IRT1.nii.gz"))
    'part-phase in its name'
    """
    for part in ("part-phase", "part-imag"):
        if f"_{part}_" in f"_{path.name}":
            return f"{part} in its name"
    stem = image_stem(path.name)
    if _IMAGINARY.search(stem):
        return f"{stem[stem.lower().rindex('_imag') :]} in its name"
    card = path.with_name(f"{stem}.json")
    try:
        kinds = read_json(card).get("ImageType", [])
    except (OSError, ValueError, AttributeError):
        return ""
    if isinstance(kinds, str) and "\\" in kinds:
        kinds = kinds.split("\\")
    if not isinstance(kinds, list):
        return ""
    found = [k for k in kinds if isinstance(k, str) and _PHASE.fullmatch(k.strip().upper())]
    return f"ImageType {found[0]} in {card.name}" if found else ""


def phase_by_values(image: np.ndarray) -> str:
    """Why an image's values say that it is a phase; empty if they do not.

    Parameters
    ----------
    image : array
        Values that are not finite or zero are left out.
    """
    low, high = _extremes(image)
    fits = [r for r in RANGES if abs(low - r[0]) <= r[2] and abs(high - r[1]) <= r[2]]
    if not fits:
        return ""
    values = image.reshape(-1)
    values = values[np.isfinite(values) & (values != 0)]
    values = np.sort(values[:: max(1, values.size // MOST_VALUES)].astype(np.float64))
    if values.size < LEAST_VALUES:
        return ""
    first, last, _ = fits[0]
    shares = (values - first) / (last - first)
    if np.abs(shares - np.linspace(0, 1, values.size)).max() > UNIFORM:
        return ""
    return f"values from {low:g} to {high:g}, all about equally frequent"


def _extremes(image: np.ndarray) -> tuple[float, float]:
    if image.size == 0:
        return 0.0, 0.0
    low, high = float(image.min()), float(image.max())
    if np.isfinite(low) and np.isfinite(high):
        return low, high
    finite = image[np.isfinite(image)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
