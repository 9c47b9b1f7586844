"""Echoes of a train of refocusing pulses by the extended phase graph.

Between pulses of a train (Carr, Purcell, Meiboom, Gill) the magnetisation is a sum of coherences
that are dephased by an odd number k of half echo spacings when a pulse comes: ``F+_k``, ``F-_k``
and ``Z_k``. A pulse of angle a mixes the three; the spacing that follows moves ``F+`` up and
``F-`` down by two (Hennig 1988; Weigel 2015). Real numbers suffice: all pulses have one phase and
the excitation lies along it. What recovers along z between the pulses is left out: crushers, or the
phases of the pulses, take its signal away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from relaxsim.models.slice_profiles import name_of

#: Echo times are multiples of the spacing to within this share of it.
_EVENLY = 0.02
#: Fewest echoes by whose times alone a train is recognised, and most echoes of one.
LEAST_ECHOES, MAX_ECHOES = 4, 512


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
        Of `relaxsim.models.slice_profiles.name_of`.
    """

    spacing: float
    echoes: tuple[int, ...]
    refocusing: float
    excitation: float
    T1: float
    profile: str


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


def is_train(times: np.ndarray) -> bool:
    """Whether echo times (N,), in ms, are those of the echoes 1, 2, ... N of a train, in order."""
    numbers = np.arange(1, len(times) + 1)
    spacing = float(times[-1]) / len(times) if len(times) else 0.0
    if not (LEAST_ECHOES <= len(times) <= MAX_ECHOES and spacing > 0):
        return False
    return bool((np.abs(times / spacing - numbers) <= _EVENLY * numbers).all())


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
    return Train(round(spacing, 6), numbers, refocusing, excitation, T1, name_of(profile))
