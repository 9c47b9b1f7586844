"""Columns and maps that several signal models have; each replaces what is its own.

``replace(ECHO_TIMES, plausible=...)`` keeps the names by which options, sidecars and BIDS know a
quantity the same in all sequences.
"""

from __future__ import annotations

from relaxsim.models.border import ColumnBorder, KnownBorder, MapBorder

#: Of a model that says no more, up to 20 s.
INVERSION_TIMES = ColumnBorder(
    option="tis",
    words="inversion times",
    symbol="TI",
    plausible=(0.0, 20_000.0),
    plausible_largest=(20.0, 20_000.0),
    bids_field="InversionTime",
    bids_factor=1000.0,
    sidecar_field="InversionTimesMs",
    # The specification recommends an array under the raw field's name, but its schema takes one
    # number for InversionTime, and the validator refuses a list there.
    derivative_field="InversionTimes",
    after_preparation=True,
)
#: B1, a measured map.
TRANSMIT_FIELD = KnownBorder(
    "b1",
    "relative transmit field",
    "TB1map",
    "a map in per cent is divided by 100, one in degrees by its nominal angle",
)
#: Of a model that says no more, up to 5 s.
ECHO_TIMES = ColumnBorder(
    option="tes",
    words="echo times",
    symbol="TE",
    plausible=(0.0, 5_000.0),
    plausible_largest=(3.0, 5_000.0),
    bids_field="EchoTime",
    bids_factor=1000.0,
    sidecar_field="EchoTimesMs",
    derivative_field="EchoTime",
)
AMPLITUDE_MAP = MapBorder(
    "M0",
    "Amplitude A of the signal model, in the unit of the images",
    bids_suffix="M0map",
    bids_unit="arbitrary",
)
T1_MAP = MapBorder(
    "T1",
    "Longitudinal relaxation time",
    range=(0.0, 3000.0),
    std_range=(0.0, 300.0),
    bids_suffix="T1map",
    bids_unit="s",
    bids_factor=1e-3,
)
#: Of models that have a range of training data, that is added.
T2_MAP = MapBorder(
    "T2",
    "Transverse relaxation time",
    range=(0.0, 250.0),
    std_range=(0.0, 25.0),
    bids_suffix="T2map",
    bids_unit="s",
    bids_factor=1e-3,
)
#: What a list of angles in another unit looks like.
RADIANS_HINT = "which looks like radians: angles are degrees (times 180 / pi)"
