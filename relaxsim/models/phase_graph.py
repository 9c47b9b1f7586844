"""Echoes of a train of refocusing pulses by the extended phase graph, and their interpolation.

Between pulses of a train (Carr, Purcell, Meiboom, Gill) the magnetisation is a sum of coherences
that are dephased by an odd number k of half echo spacings when a pulse comes: ``F+_k``, ``F-_k``
and ``Z_k``. A pulse of angle a mixes the three; the spacing that follows moves ``F+`` up and
``F-`` down by two (Hennig 1988; Weigel 2015). Real numbers suffice: all pulses have one phase and
the excitation lies along it. What recovers along z between the pulses is left out: crushers, or the
phases of the pulses, take its signal away.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from relaxsim.models.slice_profiles import NAMES, angles_across

#: Ends of the table in T2 (ms) and B1; estimates lie within.
T2_ENDS, B1_ENDS = (1.0, 5000.0), (0.2, 1.6)
#: Step in log T2, and in B1 for one echo; the more echoes, the faster a signal changes with B1.
_LOG_STEP, _B1_STEP, _B1_STEPS = 0.2, 0.25, (1 / 120, 1 / 60)
#: Nodes beyond the ends, where the spline's own ends show.
_MARGIN = 4
#: Echo times are multiples of the spacing to within this share of it.
_EVENLY = 0.02
#: Most echoes of a train.
MAX_ECHOES = 512


@dataclass(frozen=True)
class Train:
    """What a table of echoes depends on.

    Attributes
    ----------
    spacing : float
        Between echoes, ms.
    echoes : tuple of int
        Numbers of the echoes that were taken, from 1.
    refocusing, excitation : float
        Nominal flip angles, degrees.
    T1 : float
        ms.
    profile : str
        Of `relaxsim.models.slice_profiles.NAMES`.
    """

    spacing: float
    echoes: tuple[int, ...]
    refocusing: float
    excitation: float
    T1: float
    profile: str


@dataclass(frozen=True)
class EchoTable:
    """Spline coefficients of the echoes over log T2 and B1.

    Attributes
    ----------
    coefficients : array, shape (U, V, N)
    origin, step : array, shape (2,)
        First node and step of log T2 and B1.
    """

    coefficients: np.ndarray
    origin: np.ndarray
    step: np.ndarray

    def at(self, T2: np.ndarray, B1: np.ndarray, slopes: bool = False) -> np.ndarray:
        """Echoes of A = 1; beyond the table's ends those of the ends.

        Parameters
        ----------
        T2, B1 : arrays, shape (n,)
        slopes : bool
            Also the derivatives with respect to T2 and B1.

        Returns
        -------
        echoes : array, shape (1, n, N); (3, n, N) with the slopes
        """
        x = [np.clip(np.log(T2), *np.log(T2_ENDS)), np.clip(B1, *B1_ENDS)]
        place = [(v - o) / s for v, o, s in zip(x, self.origin, self.step, strict=True)]
        cell = [np.floor(p).astype(np.intp) for p in place]
        weights = [_cubic(p - c) for p, c in zip(place, cell, strict=True)]
        (wu, du), (wv, dv) = weights
        pairs = [(wu, wv)]
        if slopes:
            pairs += [(du / (self.step[0] * T2[:, None]), wv), (wu, dv / self.step[1])]
        around = np.arange(-1, 3)
        V, N = self.coefficients.shape[1:]
        index = (cell[0][:, None, None] + around[:, None]) * V + cell[1][:, None, None] + around
        nodes = self.coefficients.reshape(-1, N)[index.reshape(len(T2), 16)]
        products = np.stack([(a[:, :, None] * b[:, None]).reshape(-1, 16) for a, b in pairs], 1)
        return np.moveaxis(products @ nodes, 1, 0)


def _cubic(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights (n, 4) of a cubic spline's coefficients, and their derivatives, at x in 0 to 1."""
    y = 1.0 - x
    w = [y**3, 4 - 3 * x**2 * (2 - x), 4 - 3 * y**2 * (2 - y), x**3]
    d = [-3 * y**2, 9 * x**2 - 12 * x, 12 * y - 9 * y**2, 3 * x**2]
    return np.stack(w, axis=-1) / 6, np.stack(d, axis=-1) / 6


def echo_amplitudes(
    T2: np.ndarray, excited: np.ndarray, angle: np.ndarray, train: Train
) -> np.ndarray:
    """Echoes 1 to N of a train, N the last one that was taken.

    Parameters
    ----------
    T2 : array, shape (n, 1)
        ms.
    excited, angle : arrays, shape (m,)
        Transverse magnetisation after the excitation, and refocusing angle in radians.
    train : Train

    Returns
    -------
    echoes : array, shape (N, n, m)
    """
    N = max(train.echoes)
    half, whole = np.exp(-0.5 * train.spacing / T2), np.exp(-train.spacing / T2)
    kept = np.exp(-train.spacing / train.T1)
    cosine, sine = np.cos(angle), np.sin(angle)
    turned = 0.5 * (1 - cosine)
    shape = (N // 2 + 2, len(T2), len(angle))
    up, down, along = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    up[0] = excited * half
    echoes = np.empty((N, *shape[1:]))
    for n in range(N):
        difference = up - down
        rise = turned * difference - sine * along
        along = kept * (cosine * along - 0.5 * sine * difference)
        up, down = up - rise, down + rise
        echoes[n] = half * down[0]
        up[1:], up[0] = whole * up[:-1], whole * down[0]
        down[:-1], down[-1] = whole * down[1:], 0.0
    return echoes


@lru_cache(maxsize=64)
def echo_table(train: Train) -> EchoTable:
    """Table of a train, made once."""
    from scipy.ndimage import spline_filter1d  # commands that only list the models do without

    step = np.array([_LOG_STEP, np.clip(_B1_STEP / max(train.echoes), *_B1_STEPS)])
    ends = np.array([np.log(T2_ENDS), B1_ENDS])
    num = np.ceil((ends[:, 1] - ends[:, 0]) / step).astype(int) + 2 * _MARGIN + 1
    origin = ends[:, 0] - _MARGIN * step
    T2 = np.exp(origin[0] + step[0] * np.arange(num[0]))
    B1 = origin[1] + step[1] * np.arange(num[1])
    excited, angle, weight = angles_across(train.profile, train.excitation, train.refocusing, B1)
    taken = [n - 1 for n in train.echoes]
    table = np.empty((num[0], num[1], len(taken)))
    for v in range(num[1]):
        echoes = echo_amplitudes(T2[:, None], excited[v], angle[v], train)
        table[:, v] = (echoes[taken] @ weight).T
    for axis in (0, 1):
        table = spline_filter1d(table, 3, axis, mode="mirror")
    return EchoTable(np.ascontiguousarray(table), origin, step)


def train_of(protocol: np.ndarray) -> Train:
    """Train of a protocol of columns TE, refocusing, excitation, T1 and slice profile, (N, 5).

    Raises
    ------
    ValueError
        If the echo times are no multiples of one spacing, or other columns vary.
    """
    TE, others = protocol[:, 0], protocol[:, 1:]
    if (others != others[0]).any():
        raise ValueError("angles, T1 and slice profile of an echo train hold for all its echoes.")
    spacing = float(min(np.diff(np.sort(TE), prepend=0.0)))
    number = TE / spacing if spacing > 0 else np.zeros(len(TE))
    echoes = np.round(number)
    if not spacing > 0 or (np.abs(number - echoes) > _EVENLY * np.maximum(echoes, 1)).any():
        times = " ".join(f"{t:g}" for t in TE[:6])
        raise ValueError(
            f"the echo times {times}{' ...' if len(TE) > 6 else ''} ms are those of no echo train: "
            "they are not 1, 2, 3 ... times the echo spacing. For images of separate spin echoes "
            "leave `sequence` mese out."
        )
    if echoes.max() > MAX_ECHOES:
        raise ValueError(f"echo {echoes.max():.0f} of a train; at most {MAX_ECHOES} are taken.")
    spacing = float((TE * echoes).sum() / (echoes**2).sum())
    refocusing, excitation, T1, profile = (float(v) for v in others[0])
    numbers = tuple(int(n) for n in echoes)
    return Train(round(spacing, 6), numbers, refocusing, excitation, T1, NAMES[int(profile)])
