"""A series in arrays as a method takes it: checked, with its mask, scale and noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from relaxnet.fitting.inputs import Measurement
from relaxnet.maps.status import INVALID, OK, input_status
from relaxnet.series.cut_samples import Cut, cut_samples
from relaxnet.series.foreground import NO_MASK, MaskKind, MaskSource, mask_and_rule
from relaxnet.series.images import Images
from relaxnet.series.noise import Contradiction, Noise, checked_sigma, find_noise, settle_sigma
from relaxnet.series.sample import Sample
from relaxnet.series.scale import scale_of
from relaxsim.models.signal_model import SignalModel

#: Voxels with samples that were cut do not count unless fewer than this share would be left.
MANY_SOUND = 0.2

Mask = np.ndarray | Literal["auto", "none"] | None


@dataclass(frozen=True)
class Inspected:
    """A checked series and what was found in it.

    Attributes
    ----------
    series : Measurement
        Images (X, Y, Z, N) of floating point, slices along the third axis; the protocol as a table;
        sigma and sign as found; the mask holds the voxels that are estimated.
    images : Images
    status : array, shape (X, Y, Z)
        Of the input (`relaxnet.maps.status.input_status`).
    counted : bool array, shape (X, Y, Z)
        Voxels that scale and noise were found from.
    scale : float
    noise : Noise
    contradiction : Contradiction, optional
        Of a sigma that was given.
    cuts : tuple of Cut
        Samples that were clipped or set to zero; their voxels are not `counted`.
    """

    series: Measurement
    images: Images
    status: np.ndarray
    counted: np.ndarray
    scale: float
    noise: Noise
    contradiction: Contradiction | None = None
    cuts: tuple[Cut, ...] = ()

    @property
    def model(self) -> SignalModel:
        """Signal model of the series."""
        return self.series.model

    @property
    def inside(self) -> np.ndarray:
        """Voxels that are estimated, shape (X, Y, Z)."""
        return self.status == OK

    @property
    def typical_sigma(self) -> float:
        """Noise standard deviation, of a map its median."""
        sigma = np.broadcast_to(self.noise.sigma, self.status.shape)
        return float(np.median(sigma[self.counted]))

    def of_slice(self, z: int, where: np.ndarray) -> Sample:
        """Voxels of a slice, `where` of shape (X, Y)."""
        series = self.series
        known = None if series.known is None else series.known[:, :, z][where]
        return Sample(series.S[:, :, z][where], self.protocol_of(z), series.model, known)

    def protocol_of(self, z: int) -> np.ndarray:
        """Protocol of a slice, shape (N, D)."""
        table = self.series.protocol
        return table[z] if table.ndim == 3 else table


def plain_array(values: object, name: str, masked: float) -> np.ndarray:
    """Real numbers as a plain array; masked entries of a masked array become `masked`.

    Raises
    ------
    ValueError
        If it is no array of real numbers, such as an image of nibabel.
    """
    if hasattr(values, "get_fdata"):
        kind = type(values).__name__
        raise ValueError(f"`{name}` is a {kind}; expected its array: `{name}.get_fdata()`.")
    if isinstance(values, np.ma.MaskedArray):
        hidden = np.ma.getmaskarray(values)
        data = np.asarray(values.data)
        if hidden.any() and np.isnan(masked) and data.dtype.kind in "iub":
            data = data.astype(np.float32)
        values = np.where(hidden, np.asarray(masked, data.dtype), data) if hidden.any() else data
    found = np.asarray(values)
    if found.dtype.kind not in "iufb":
        what = "an object" if found.ndim == 0 else f"an array of {found.dtype}"
        raise ValueError(
            f"`{name}` is {what} ({type(values).__name__}); expected an array of real numbers."
        )
    return found


def chosen_mask(
    mask: np.ndarray | str | None, images: Images
) -> tuple[np.ndarray | None, MaskKind]:
    """Voxels to map, and how they were chosen.

    Parameters
    ----------
    mask : bool array, shape (X, Y, Z), "auto", "none" or None
        None is as ``"none"``: every voxel.
    images : Images

    Returns
    -------
    mask : bool array, shape (X, Y, Z), or None
        None for every voxel.
    kind : MaskKind

    Raises
    ------
    ValueError
        If it is another word, or an automatic mask finds nothing.
    """
    if mask is None or (isinstance(mask, str) and mask == "none"):
        return None, NO_MASK
    if isinstance(mask, str):
        if mask != "auto":
            raise ValueError(f"`mask` is {mask!r}, expected an array, 'auto' or 'none'.")
        found, rule = mask_and_rule(images)
        return found, MaskKind(MaskSource.AUTO, rule, share=float(found.mean()))
    mask = np.asarray(mask)
    return mask, MaskKind(MaskSource.ARRAY, share=float(mask.astype(bool).mean()))


def inspect(
    series: Measurement, images: Images, signed: bool | None = None, force: bool = False
) -> Inspected:
    """Find scale, noise and sign of a series.

    Parameters
    ----------
    series : Measurement
        As the user gave it, without a sigma or with one; known maps as of `checked_known`.
    images : Images
        Those of `series`.
    signed : bool, optional
        As given by the user.
    force : bool
        Keep a sigma that the data contradict.

    Returns
    -------
    Inspected

    Raises
    ------
    ValueError
        If no voxel can be estimated, or as `relaxnet.series.noise.find_noise`.
    """
    status = input_status(images, series.mask)
    if series.known is not None and series.model.known_maps:
        lost = np.isnan(series.known)
        status[(status == OK) & lost.any(axis=-1)] = INVALID
        defaults = np.array([entry.default for entry in series.model.known_maps])
        series = replace(series, known=np.where(lost, defaults, series.known))
    inside = status == OK
    if not inside.any():
        raise ValueError("no voxel of the mask holds finite values that are not zero.")
    counted = inside if series.mask is not None else inside & mask_and_rule(images)[0]
    scale = scale_of(images.largest, counted)
    cuts = cut_samples(series.S, counted)
    for cut in cuts:
        sound = counted & ~cut.voxels
        counted = sound if sound.sum() >= MANY_SOUND * counted.sum() else counted
    given = None if series.sigma is None else checked_sigma(series.sigma, inside)
    counting = replace(series, sigma=given, mask=counted)
    noise = find_noise(counting, scale, signed, images)
    noise, contradiction = settle_sigma(counting, noise, keep=force)
    found = replace(
        series, sigma=np.where(inside, noise.sigma, 1.0), mask=inside, signed=noise.signed
    )
    return Inspected(found, images, status, counted, scale, noise, contradiction, cuts)


def known_stack(
    known: np.ndarray | Mapping[str, np.ndarray] | None,
    model: SignalModel,
    shape: tuple[int, ...],
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Known maps of a series as one array, and a warning for each that takes its default.

    Parameters
    ----------
    known : array, shape (X, Y, Z, K), or mapping of str to array, shape (X, Y, Z), optional
        By the names of `SignalModel.known_maps`.
    model : SignalModel
    shape : tuple of int
        (X, Y, Z).

    Returns
    -------
    known : array, shape (X, Y, Z, K), or None
        None if the model has no known map.
    warnings : tuple of str

    Raises
    ------
    ValueError
        If a map has another shape, or the model none of that name.
    """
    if not model.known_maps:
        if known is not None and len(known):
            raise ValueError(f"{model.name} has no known map; leave `known` out.")
        return None, ()
    expected = (*shape, len(model.known_maps))
    if known is not None and not isinstance(known, Mapping):
        known = np.asarray(known, np.float64)
        if known.shape != expected:
            raise ValueError(f"known maps have shape {known.shape}, expected {expected}.")
        known = {m.name: known[..., k] for k, m in enumerate(model.known_maps)}
    given = dict(known or {})
    stack = np.empty(expected)
    warnings = []
    for k, (entry, border) in enumerate(zip(model.known_maps, model.border.known, strict=True)):
        values = given.pop(entry.name, None)
        if values is None:
            stack[..., k] = entry.default
            warnings.append(
                f"no {border.words} is given (`{border.option}`): {entry.name} is taken as "
                f"{entry.default:g} everywhere"
            )
            continue
        if np.shape(values) != shape:
            raise ValueError(f"`{border.option}` has shape {np.shape(values)}, the images {shape}.")
        stack[..., k] = values
    if given:
        names = ", ".join(m.name for m in model.known_maps)
        raise ValueError(f"{next(iter(given))!r} is no known map of {model.name} ({names}).")
    return stack, tuple(warnings)


def checked_known(
    known: np.ndarray | None, model: SignalModel, inside: np.ndarray
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Known maps, refused if they cannot be what they should.

    Parameters
    ----------
    known : array, shape (X, Y, Z, K)
    model : SignalModel
    inside : bool array, shape (X, Y, Z)
        Voxels that are to be estimated.

    Returns
    -------
    known : array, shape (X, Y, Z, K), float64
        With the default outside of `inside`, and NaN inside where a map was not measured: where it
        is 0 or far from what such maps hold.
    warnings : tuple of str
        One for each map that has such voxels.

    Raises
    ------
    ValueError
        If a value inside is not finite, none was measured, or the typical one is implausible, as in
        another unit.
    """
    assert known is not None
    known, warnings = np.array(known, np.float64), list[str]()
    for k, (entry, border) in enumerate(zip(model.known_maps, model.border.known, strict=True)):
        values = known[inside][:, k]
        lost = int((~np.isfinite(values)).sum())
        if lost:
            raise ValueError(
                f"`{border.option}` is not finite in {lost} of {values.size} voxels of the mask; "
                "give a mask that leaves them out, or 0 there."
            )
        low, high = entry.plausible
        there = values[values != 0] if low > 0 else values
        if not there.size:
            raise ValueError(f"`{border.option}` is 0 everywhere in the mask.")
        if not low <= np.median(there) <= high:
            raise ValueError(
                f"`{border.option}` has a median of {np.median(there):g} in the mask, expected "
                f"{low:g} to {high:g} for a {border.words}: {border.unit_hint}."
            )
        wrong = (values < low) | (values > high)
        if wrong.any():
            warnings.append(
                f"`{border.option}` is not within {low:g} to {high:g} in {int(wrong.sum())} of "
                f"{wrong.size} voxels of the mask ({int((values == 0).sum())} of them are 0): they "
                "are not mapped (status invalid input)"
            )
        known[inside, k] = np.where(wrong, np.nan, values)
        known[~inside, k] = entry.default
    return known, tuple(warnings)
