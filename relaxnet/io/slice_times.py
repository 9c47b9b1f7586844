"""Times that differ from slice to slice: a table with a column a slice, and BIDS' SliceTiming."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from relaxnet.io.bids_names import BidsError, Sidecar
from relaxnet.io.nifti import slice_axis_of
from relaxsim.core.nifti_reader import open_image
from relaxsim.models.protocols import Protocol

#: Entries of SliceTiming lie within so many s: larger ones are in ms.
_LONGEST = 60.0


def with_slices_of(protocol: Protocol, series: Sequence[str | Path]) -> Protocol:
    """Protocol as a table of each slice, if its file has a column for each slice of a series.

    Parameters
    ----------
    protocol : Protocol
        As read from text.
    series : sequence of path
        One 4-D file, or one file for each image; only headers are read.

    Raises
    ------
    NiftiError
        If a file cannot be read.
    """
    if protocol.width == 1 or not series:
        return protocol
    image = open_image(series[0])
    images = len(series) if len(series) > 1 else image.shape[3] if len(image.shape) > 3 else 1
    shape = image.shape[:3]
    return protocol.for_slices(images, shape[slice_axis_of(image.header, shape)])


def with_slice_timing(protocol: Protocol, sidecars: Sequence[Sidecar]) -> Protocol:
    """Protocol whose times are later by each slice's own entry of SliceTiming.

    Parameters
    ----------
    protocol : Protocol
        One list for all slices, of times since a pulse that serves several slices.
    sidecars : sequence of Sidecar
        One for each image, or that of a 4-D file.

    Raises
    ------
    BidsError
        If SliceTiming is missing, no list of seconds, or of different lengths; if the times are of
        another kind, or given for each slice already.
    """
    first = protocol.model.border.columns[0]
    if not first.after_preparation:
        raise BidsError(f"`slice_timing` does not go with {first.words}.")
    if protocol.by_slice:
        raise BidsError(f"`slice_timing`: {protocol.name} has a list for each slice already.")
    later = [_slice_times(card) for card in sidecars]
    lengths = sorted({len(times) for times in later})
    if len(lengths) > 1:
        raise BidsError(
            f"SliceTiming has {lengths[0]} entries in one sidecar, {lengths[-1]} in another."
        )
    table = np.repeat(protocol.table[None], lengths[0], axis=0)
    table[..., 0] += np.stack(later, axis=-1)  # of a 4-D file the same for all images
    return replace(protocol, table=table)


def _slice_times(card: Sidecar) -> np.ndarray:
    """Entries of SliceTiming in ms, in the order of the slices in the file."""
    times: Any = card.fields.get("SliceTiming")
    if times is None:
        raise BidsError(f"`slice_timing`: {card.name} has no SliceTiming.")
    good = (
        isinstance(times, list)
        and times
        and all(
            isinstance(t, int | float) and not isinstance(t, bool) and 0 <= t <= _LONGEST
            for t in times
        )
    )
    if not good:
        raise BidsError(
            f"{card.name}: SliceTiming is no list of seconds between 0 and {_LONGEST:g}."
        )
    found = 1000.0 * np.asarray(times, np.float64)
    direction = str(card.fields.get("SliceEncodingDirection", "k"))
    return found[::-1] if direction.endswith("-") else found
