"""Envelope of a network: for which series and which tissue it was trained.

The envelope stands in the network's card. A series outside of it gets a warning; one far outside
is refused unless the user insists.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from relaxsim.core.snr import snr_of
from relaxsim.models.protocols import bundled_protocols
from relaxsim.models.signal_model import SignalModel

Range = tuple[float, float]
#: Relaxation times of training data by the name of the tissue table, where a card does not say.
_TISSUE_RANGES: dict[str, dict[str, Range]] = {
    "wide": {"T1": (50.0, 5000.0), "T2": (5.0, 3000.0)},
    "paper": {"T1": (100.0, 4500.0), "T2": (15.0, 3000.0)},
}
#: A series is far outside beyond this factor of a range.
FAR = 2.0
#: Times may lie below the shortest of training by this part of the longest one: there the signal
#: has hardly changed.
TOLERANCE = 0.02


@dataclass(frozen=True)
class Envelope:
    """Ranges of a network's training data.

    Attributes
    ----------
    num_images : (int, int)
        Fewest and most weighted images.
    tau_ms : (float, float)
        Shortest and longest time in ms.
    sigma : (float, float)
        Noise relative to the series' scale; SNR is 0.75 / sigma.
    parameters : mapping of str to (float, float)
        Ranges of tissue parameters: always the relaxation time (ms), and what else the card names.
    protocols : tuple of str
        Names of the lists of times; ``random`` stands for any.
    """

    num_images: tuple[int, int]
    tau_ms: Range
    sigma: Range
    parameters: Mapping[str, Range]
    protocols: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """What an envelope says of a series: sentences, each without its full stop."""

    warnings: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()


def envelope_of(card: Mapping[str, Any], model: SignalModel) -> Envelope | None:
    """Envelope that a network's card states; None if it states none.

    The range of the relaxation time is the card's ``"T_ms": [low, high]``; without it that of the
    tissue tables which the network saw. Ranges of other parameters go by their names.

    Parameters
    ----------
    card : mapping
        See `relaxnet.networks.registry.read_card`.
    model : SignalModel

    Raises
    ------
    ValueError
        If the card's envelope is not made of ranges.
    """
    stated = card.get("envelope")
    if not stated:
        return None
    try:
        low, high = stated["num_images"]
        parameters = {p: _range(stated[p]) for p in model.parameters if p in stated}
        T = model.parameters[-1]
        if "T_ms" in stated:
            parameters[T] = _range(stated["T_ms"])
        parameters.setdefault(T, _of_tissues(card.get("tissues", ()), T, model))
        return Envelope(
            (int(low), int(high)),
            _range(stated["tau_ms"]),
            _range(stated["sigma"]),
            parameters,
            tuple(map(str, card.get("protocols", ()))),
        )
    except (KeyError, TypeError, ValueError):
        raise ValueError(
            "the network's card holds an envelope that is not made of ranges "
            "(num_images, tau_ms, sigma)."
        ) from None


def check_series(envelope: Envelope, tau: np.ndarray, sigma: float) -> Verdict:
    """Whether a network was trained for such a series.

    Far outside are: fewer images than half the fewest of training; a time beyond twice the
    longest, or below half the shortest (unless by less than 2 % of the longest); an SNR below half
    the lowest.

    Parameters
    ----------
    envelope : Envelope
    tau : array, shape (N,)
        ms.
    sigma : float
        Noise standard deviation divided by the series' scale.

    Returns
    -------
    verdict : Verdict

    Examples
    --------
    >>> trained = Envelope((3, 40), (5.0, 500.0), (0.004, 0.25), {"T2": (5.0, 3000.0)}, ("random",))
    >>> check_series(trained, np.array([10.0, 50.0, 700.0]), 0.02).warnings
    ('times of 10 to 700 ms, trained for 5 to 500 ms',)
    """
    warnings: list[str] = []
    refusals: list[str] = []
    few, many = envelope.num_images
    if not few <= len(tau) <= many:
        bounds = f"{few}" if few == many else f"{few} to {many}"
        words = f"{len(tau)} images, trained for {bounds}"
        (refusals if len(tau) < few / FAR else warnings).append(words)
    low, high = envelope.tau_ms
    slack = TOLERANCE * high
    if tau.min() < low - slack or tau.max() > high:
        words = f"times of {tau.min():g} to {tau.max():g} ms, trained for {low:g} to {high:g} ms"
        far = tau.max() > FAR * high or tau.min() < min(low / FAR, low - slack)
        (refusals if far else warnings).append(words)
    elif _is_another_list(envelope, tau):
        warnings.append(f"other times than those of {envelope.protocols[0]}, trained for these")
    if not envelope.sigma[0] * 0.999 <= sigma <= envelope.sigma[1]:
        best, worst = map(snr_of, envelope.sigma)
        words = f"an SNR of about {snr_of(sigma):.3g}, trained for {worst:.0f} to {best:.0f}"
        (refusals if sigma > FAR * envelope.sigma[1] else warnings).append(words)
    return Verdict(tuple(warnings), tuple(refusals))


def outside_training(envelope: Envelope, kappa: np.ndarray, model: SignalModel) -> np.ndarray:
    """Whether an estimate leaves the range of the training data.

    Parameters
    ----------
    envelope : Envelope
    kappa : array, shape (..., Q)
    model : SignalModel

    Returns
    -------
    outside : bool array, shape (...)
    """
    outside = np.zeros(kappa.shape[:-1], bool)
    for name, (low, high) in envelope.parameters.items():
        values = kappa[..., model.parameters.index(name)]
        outside |= (values < low) | (values > high)
    return outside


def _is_another_list(envelope: Envelope, tau: np.ndarray) -> bool:
    """Whether a network knows a single bundled list of times, and these are others."""
    if len(envelope.protocols) != 1 or envelope.protocols[0] not in bundled_protocols():
        return False
    known = np.loadtxt(bundled_protocols()[envelope.protocols[0]], ndmin=1)
    return len(known) != len(tau) or not np.allclose(known, tau, atol=1.0)


def _range(pair: Any) -> Range:
    low, high = (float(v) for v in pair)
    if not low <= high:
        raise ValueError(f"{pair} is no range")
    return low, high


def _of_tissues(tables: Any, parameter: str, model: SignalModel) -> Range:
    """Range of the relaxation time over tissue tables; the model's bounds for unknown ones."""
    known = [_TISSUE_RANGES.get(str(t), {}).get(parameter, model.bounds[-1]) for t in tables]
    known = known or [model.bounds[-1]]
    return min(low for low, _ in known), max(high for _, high in known)
