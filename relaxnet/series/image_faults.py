"""Images of a series that are not what the protocol says: empty, repeated, out of line.

One such image among good ones moves the estimates of every voxel, and does so silently where the
noise is found from the residuals. Empty and repeated images are found by themselves, an image of
another gain by what a fit of the others says of it in all voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from hashlib import sha256
from itertools import combinations

import numpy as np

from relaxnet.fitting.result import NO_SIGNAL
from relaxnet.series.sample import Sample
from relaxnet.series.shared_course import COUNTED, SharedCourse, shared_course
from relaxsim.models.signal_model import SignalModel

#: Voxels that are fitted in the search for images out of line.
VOXELS = 600
#: Images are compared if residuals that voxels share have this excess power, and reach this part of
#: the signal.
LEAST_EXCESS, LEAST_COURSE = 0.15, 0.01
#: An image, or two, are out of line if without them the residuals are smaller by these factors:
#: than with them, and than without any other.
SMALLER, SMALLER_THAN_OTHERS = 1.25, 1.15
#: Share of an image's deviation from a fit of the others that one factor has to explain; of the
#: first and the last image of a decay, whose deviation may be that of the model.
ONE_FACTOR, ONE_FACTOR_AT_END = 0.5, 0.9
#: The first two echoes of a train may be off by less than this through stimulated echoes.
STIMULATED = 0.25
#: Pairs of images are tried for up to so many images.
PAIRS_UP_TO = 16
#: Residuals below this part of the largest signal are those of a series without noise.
NOISELESS = 1e-4


class Fault(Enum):
    """What is wrong with an image; the value goes into sidecars."""

    EMPTY = "empty"
    REPEATED = "repeated"
    OUT_OF_LINE = "out of line"


@dataclass(frozen=True)
class FaultyImage:
    """An image that is left out.

    Attributes
    ----------
    index : int
        From 0.
    fault : Fault
    other : int, optional
        Image that it repeats.
    factor : float, optional
        What it is times what the others say of it.
    """

    index: int
    fault: Fault
    other: int | None = None
    factor: float | None = None

    def sentence(self, protocol: np.ndarray, model: SignalModel) -> str:
        """One line; `protocol` (N, D) or (Z, N, D) of all images."""
        words = image_words(self.index, protocol, model)
        name = f"image {self.index + 1} of {protocol.shape[-2]} ({words})"
        if self.fault is Fault.EMPTY:
            return f"{name} is empty: it has one value everywhere; it is left out"
        if self.fault is Fault.REPEATED:
            assert self.other is not None
            return f"{name} is the same as image {self.other + 1}, noise included; it is left out"
        return (
            f"{name} is out of line: in all voxels {self.factor:.2f} times what the other images "
            "say (another gain or scaling?); it is left out"
        )


def image_words(index: int, protocol: np.ndarray, model: SignalModel) -> str:
    """What varies in the protocol, (N, D) or (Z, N, D), of an image: ``800 ms``."""
    table = protocol[0] if protocol.ndim == 3 else protocol
    columns = zip(table[index], model.columns, model.border.columns, strict=True)
    return ", ".join(
        f"{value:g} {column.unit}".strip()
        for d, (value, column, border) in enumerate(columns)
        if border.varies or np.ptp(table[:, d]) > 0
    )


def empty_images(S: np.ndarray) -> list[FaultyImage]:
    """Images (X, Y, Z, N) that have one value everywhere, or none that is finite."""
    found = []
    for n in range(S.shape[-1]):
        image = S[..., n]
        first = image.flat[0]
        empty = np.isnan(image).all() if np.isnan(first) else bool((image == first).all())
        if empty and image.size > 1:
            found.append(FaultyImage(n, Fault.EMPTY))
    return found if len(found) < S.shape[-1] else []


def same_images(S: np.ndarray) -> list[list[int]]:
    """Groups of images (X, Y, Z, N) that are equal in every voxel."""
    groups: dict[bytes, list[int]] = {}
    for n in range(S.shape[-1]):
        digest = sha256(np.ascontiguousarray(S[..., n]).tobytes()).digest()
        groups.setdefault(digest, []).append(n)
    return [group for group in groups.values() if len(group) > 1]


@dataclass(frozen=True)
class _Remains:
    """What a fit leaves: the root mean square per degree of freedom, its course, the estimates."""

    level: float
    course: SharedCourse
    kappa: np.ndarray


def _remains(sample: Sample, signed: bool) -> _Remains:
    """Residuals of a Gaussian fit of a sample."""
    fit = sample.fit(signed=signed and sample.model.magnitude)
    kappa = fit.kappa.astype(np.float64)
    with np.errstate(all="ignore"):
        signal = sample.signed(kappa) if signed else sample.forward(kappa)
        residuals = np.where((fit.status < NO_SIGNAL)[:, None], sample.S - signal, np.nan)
    dof = max(sample.num_images - sample.model.num_parameters, 1)
    squares = (residuals**2).sum(axis=1)
    squares = squares[np.isfinite(squares)]
    if not squares.size:
        return _Remains(0.0, shared_course(np.zeros((0, sample.num_images)), squares, dof), kappa)
    kept = squares[squares <= np.quantile(squares, COUNTED)]
    level = float(np.sqrt(kept.mean() / dof))
    unit = level or 1.0
    course = shared_course(residuals / unit, np.abs(sample.S).max(1) / unit, dof)
    return _Remains(level, course, kappa)


def of_images(sample: Sample, index: Sequence[int] | np.ndarray) -> Sample:
    """Some of the images of the same voxels."""
    order = np.asarray(index)
    return replace(sample, S=sample.S[:, order], protocol=sample.protocol[..., order, :])


def repeated_images(sample: Sample, groups: list[list[int]], signed: bool) -> list[FaultyImage]:
    """Images that are the same as another one, of which that is kept which fits best.

    Parameters
    ----------
    sample : Sample
    groups : list of lists of int
        `same_images`.
    signed : bool

    Raises
    ------
    ValueError
        If the other images are too few to say which one is right.
    """
    if not groups:
        return []
    N, Q = sample.num_images, sample.model.num_parameters
    out: list[FaultyImage] = []
    if N > Q and _remains(sample, signed).level < NOISELESS * float(np.abs(sample.S).max()):
        return []  # a simulation without noise, at the end of its recovery or decay
    for group in groups:
        gone = {image.index for image in out}
        rows = sample.protocol[..., group, :]
        same_time = bool((rows == rows[..., :1, :]).all())
        left = N - len(gone) - len(group) + 1
        if not same_time and left <= Q:
            names = " and ".join(str(n + 1) for n in group)
            raise ValueError(
                f"images {names} are the same, noise included, at different "
                f"{sample.model.border.columns[0].words}, and the other images are too few to say "
                "which one is right. Leave the wrong one out."
            )
        levels = []
        for kept in group if not same_time else group[:1]:
            index = [n for n in range(N) if n == kept or (n not in group and n not in gone)]
            levels.append(0.0 if same_time else _remains(of_images(sample, index), signed).level)
        kept = group[int(np.argmin(levels))]
        out += [FaultyImage(n, Fault.REPEATED, other=kept) for n in group if n != kept]
    return out


def images_out_of_line(sample: Sample, signed: bool) -> list[FaultyImage]:
    """Images without which the model describes all voxels, and that one factor explains.

    Parameters
    ----------
    sample : Sample
        Voxels of tissue.
    signed : bool
        The samples carry the signal's sign.

    Returns
    -------
    list of FaultyImage
        At most two; none where the residuals are those of noise, or no image stands out.
    """
    N, Q = sample.num_images, sample.model.num_parameters
    sample = sample.every(-(-len(sample.S) // VOXELS))
    if N < Q + 2:
        return []
    base = _remains(sample, signed)
    if not _shared(base.course):
        return []
    for size in (1, 2):
        if N - size < Q + 1 or (size == 2 and N > PAIRS_UP_TO):
            break
        sets = list(combinations(range(N), size))
        remains = [_remains(_without(sample, out), signed) for out in sets]
        levels = np.array([r.level for r in remains])
        order = np.argsort(levels)
        best, second = order[0], order[1]
        if levels[best] * SMALLER > base.level or _shared(remains[best].course):
            continue
        if levels[best] * SMALLER_THAN_OTHERS > levels[second]:
            continue
        found = [_out_of_line(sample, n, remains[best].kappa, signed) for n in sets[best]]
        if all(image is not None for image in found):
            return [image for image in found if image is not None]
    return []


def _shared(course: SharedCourse) -> bool:
    """Whether residuals have a course that an image out of line might make."""
    return course.excess > LEAST_EXCESS and np.abs(course.course).max() > LEAST_COURSE


def _without(sample: Sample, out: Sequence[int]) -> Sample:
    return of_images(sample, [n for n in range(sample.num_images) if n not in out])


def _out_of_line(sample: Sample, n: int, kappa: np.ndarray, signed: bool) -> FaultyImage | None:
    """Image as the estimates of the others say it is out of line, if one factor explains it."""
    with np.errstate(all="ignore"):
        signal = (sample.signed(kappa) if signed else sample.forward(kappa))[:, n]
    good = np.isfinite(signal)
    S, signal = sample.S[good, n].astype(np.float64), signal[good]
    if not (signal**2).sum() > 0:
        return None
    factor = float((S * signal).sum() / (signal**2).sum())
    explained = 1 - ((S - factor * signal) ** 2).sum() / ((S - signal) ** 2).sum()
    model, times = sample.model, sample.protocol[..., 0]
    times = times[0] if times.ndim == 2 else times
    at_end = not model.magnitude and times[n] in (times.min(), times.max())
    if explained < (ONE_FACTOR_AT_END if at_end else ONE_FACTOR):
        return None
    if model.border.echo_train and _evenly(times) and n < 2 and abs(factor - 1) < STIMULATED:
        return None
    return FaultyImage(n, Fault.OUT_OF_LINE, factor=factor)


def _evenly(times: np.ndarray) -> bool:
    """Whether times lie in even steps."""
    steps = np.diff(times)
    return len(steps) > 1 and bool(np.ptp(steps) < 0.05 * abs(float(np.median(steps))))
