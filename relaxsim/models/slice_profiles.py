"""Flip angles across a slice, of the excitation and refocusing pulses of a spin-echo train.

A selective pulse turns the magnetisation of the slice's edges less than that of its middle. The
profiles are those of a simulation without relaxation: each pulse as a train of short rotations
under the slice gradient, whose product is a rotation with Cayley-Klein parameters (a, b). What the
excitation leaves in the transverse plane is ``2 |a b|``, and the share of a coherence that a
refocusing pulse, with crushers on either side, turns round is ``|b|^2 = sin(angle / 2)^2``
(Pauly et al. 1991).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

#: Short rotations of a pulse.
_STEPS = 64
#: Files: fewest positions, least of the largest angles in degrees, and most bytes.
_LEAST_ROWS, _LEAST_ANGLE, _MOST_BYTES = 3, 10.0, 1_000_000
#: Positions from the middle to this multiple of half the nominal thickness.
_POSITIONS, _EDGE = 9, 2.0


@dataclass(frozen=True)
class PulsePair:
    """Shapes of the two pulses.

    Attributes
    ----------
    shape : str
        ``sinc`` (with a Hann window) or ``gauss``.
    bandwidth_time : float
        Product of the nominal bandwidth, which selects the slice, and the duration.
    thicker : float
        Thickness that the refocusing pulse selects, relative to that of the excitation.
    """

    shape: str
    bandwidth_time: float
    thicker: float


#: Named profiles, in the order of their numbers in a protocol; the first has none.
NAMES = ("none", "sinc", "gauss")
#: Largest number of a profile: of named ones and of 20 bits of a file's checksum.
MOST_PROFILES = float(len(NAMES) + (1 << 20))
PULSES: dict[str, PulsePair | None] = {
    "none": None,
    "sinc": PulsePair("sinc", 4.0, 1.2),
    "gauss": PulsePair("gauss", 2.0, 1.2),
}


#: Angles of files that were read, by their numbers: excitation and refocusing, radians, (P,) each.
_READ: dict[int, tuple[np.ndarray, np.ndarray]] = {}


def read_profile(path: Path) -> float:
    """Number of a slice profile from a file, for protocols of this process.

    Parameters
    ----------
    path : pathlib.Path
        A line a position, at even distances across the slice: the angle of the excitation and that
        of the refocusing pulse, degrees, at B1 = 1. Lines that begin with # do not count.

    Returns
    -------
    number : float
        Beyond the places of `NAMES`; the same for the same content.

    Raises
    ------
    ValueError
        If the file holds no such lines, or angles that are not in degrees.
    """
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(f"{path.name} is larger than 1 MB: no slice profile.")
    content = path.read_bytes()
    try:
        rows = np.loadtxt(content.decode().splitlines(), ndmin=2, delimiter=None)
    except (ValueError, UnicodeDecodeError):
        rows = np.empty((0, 0))
    if rows.shape[0] < _LEAST_ROWS or rows.shape[1] != 2 or not np.isfinite(rows).all():
        raise ValueError(
            f"{path.name}: expected at least {_LEAST_ROWS} lines of two numbers, the angles of "
            "excitation and refocusing in degrees at positions across the slice."
        )
    low, high = rows.min(), rows.max(axis=0)
    if low < 0 or not (_LEAST_ANGLE < high).all() or high.max() > 2 * 180.0:
        raise ValueError(
            f"{path.name}: angles of {low:g} to {high.max():g}; expected degrees, such as 90 and "
            "180 in the middle of the slice (not radians, nor parts of the nominal angles)."
        )
    number = len(NAMES) + int(hashlib.sha256(content).hexdigest()[:5], 16)
    _READ[number] = tuple(np.radians(rows).T)
    return float(number)


def name_of(number: float) -> str:
    """Name of a profile by its number in a protocol.

    Raises
    ------
    ValueError
        If it is that of a file that this process has not read.
    """
    place = int(number)
    if place < len(NAMES):
        return NAMES[place]
    if place not in _READ:
        raise ValueError("the slice profile of this protocol is a file; give it again.")
    return f"file {place}"


def angles_across(
    name: str, excitation: float, refocusing: float, B1: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Excited signal and refocusing angle at positions across the slice.

    Parameters
    ----------
    name : str
        Of `name_of`. The angles of a file take the place of the nominal ones.
    excitation, refocusing : float
        Nominal flip angles, degrees.
    B1 : array, shape (n,)
        Relative transmit field.

    Returns
    -------
    excited : array, shape (n, P)
        Transverse magnetisation after the excitation, of 1 before.
    angle : array, shape (n, P)
        Of the refocusing pulse, radians, 0 to pi: that which turns round the same share.
    weight : array, shape (P,)
        Of each position in the slice; the sum is 1.
    """
    if name.startswith("file"):
        read = _READ[int(name.split()[1])]
        first, second = (np.asarray(B1)[:, None] * angle for angle in read)
        turned = 2 * np.arcsin(np.abs(np.sin(second / 2)))
        return np.abs(np.sin(first)), turned, np.full(len(read[0]), 1.0 / len(read[0]))
    pulses = PULSES[name]
    first, second = (np.radians(angle) * np.asarray(B1) for angle in (excitation, refocusing))
    if pulses is None:
        half = np.abs(np.sin(second / 2))[:, None]
        return np.abs(np.sin(first))[:, None], 2 * np.arcsin(half), np.ones(1)
    place = np.linspace(0.0, _EDGE, _POSITIONS)
    weight = np.ones(_POSITIONS)
    weight[[0, -1]] = 0.5  # trapezoidal rule over half of a symmetric slice
    a, b = _rotation(pulses, first, place)
    excited = 2 * np.abs(a * b)
    _, b = _rotation(pulses, second, place / pulses.thicker)
    angle = 2 * np.arcsin(np.minimum(np.abs(b), 1.0))
    # Of 1 in the middle: the slice's nominal thickness is its unit.
    return excited, angle, weight / weight.sum()


def _rotation(
    pulses: PulsePair, angle: np.ndarray, place: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Cayley-Klein parameters (n, P) of a pulse whose whole angle on resonance is `angle` (n,)."""
    t = (np.arange(_STEPS) + 0.5) / _STEPS - 0.5
    if pulses.shape == "sinc":
        shape = np.sinc(pulses.bandwidth_time * t) * np.cos(np.pi * t) ** 2
    else:
        # Of a Gaussian, the full width at half maximum of whose spectrum is the bandwidth.
        shape = np.exp(-((np.pi * pulses.bandwidth_time * t) ** 2) / (4 * np.log(2)))
    steps = angle[:, None, None] * shape / shape.sum()  # (n, 1, steps), of a rotation about x
    phase = np.pi * pulses.bandwidth_time * place[:, None] / _STEPS  # of the gradient, about z
    total = np.sqrt(steps**2 + phase**2)
    cosine, sine = np.cos(total / 2), np.sinc(total / (2 * np.pi)) / 2
    alpha, beta = cosine - 1j * phase * sine, -1j * steps * sine
    a = np.ones(total.shape[:-1], complex)
    b = np.zeros_like(a)
    for k in range(_STEPS):
        u, v = alpha[..., k], beta[..., k]
        a, b = u * a - np.conj(v) * b, v * a + np.conj(u) * b
    return a, b
