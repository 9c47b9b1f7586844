"""Envelope of a network: the series and the tissue that it was trained for.

The envelope stands in the network's card. A series outside of it gets a warning; one far outside
is refused unless the user insists.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from relaxsim.core.snr import snr_of
from relaxsim.models.protocols import bundled_protocols, read_protocol
from relaxsim.models.signal_model import SignalModel

Range = tuple[float, float]
#: A series is far outside beyond this factor of a range.
FAR = 2.0
#: Values of the protocol may lie below the least of training by this part of the largest: the
#: signal at shorter times has hardly changed.
TOLERANCE = 0.02
#: Times of a list may differ from those of a bundled one by so much, ms.
SAME_TIME = 1.0
#: The card's rounding of the least sigma.
_ROUNDING = 0.999


@dataclass(frozen=True)
class Envelope:
    """Ranges of a network's training data.

    Attributes
    ----------
    model : SignalModel
    num_images : (int, int)
        Fewest and most weighted images.
    columns : tuple of (float, float)
        Least and largest value of each column of the protocol, in the column's unit.
    sigma : (float, float)
        Noise relative to the series' scale (`relaxsim.core.snr`).
    parameters : mapping of str to (float, float)
        Ranges of tissue parameters: always that of the main one, and what else the card names.
    protocols : tuple of str
        Names of the protocols; ``random`` stands for any.
    """

    model: SignalModel
    num_images: tuple[int, int]
    columns: tuple[Range, ...]
    sigma: Range
    parameters: Mapping[str, Range]
    protocols: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """How a series lies outside of an envelope: sentences, each without its full stop."""

    warnings: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()


def envelope_of(card: Mapping[str, Any], model: SignalModel) -> Envelope | None:
    """Envelope that a network's card states; None if it states none.

    The card holds ``num_images``, ``sigma`` and, of a model whose protocol is a list of times,
    ``tau_ms``, of another one ``columns``, a mapping from the columns' names. Ranges of parameters
    go by their names, that of a relaxation time also by ``T_ms``. Without one for the main
    parameter it is that of the tissue tables of the training data.

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
        if "T_ms" in stated and model.units[-1] == "ms":
            parameters[model.main] = _range(stated["T_ms"])
        if model.main not in parameters:
            parameters[model.main] = _of_tissues(card.get("tissues", ()), model)
        return Envelope(
            model,
            (int(low), int(high)),
            _columns_of(stated, model),
            _range(stated["sigma"]),
            parameters,
            tuple(map(str, card.get("protocols", ()))),
        )
    except (KeyError, TypeError, ValueError):
        raise ValueError(
            "the network's card holds an envelope that is not made of ranges "
            "(num_images, tau_ms or columns, sigma)."
        ) from None


def columns_on_card(tables: Iterable[np.ndarray], model: SignalModel) -> dict[str, Any]:
    """The protocols' part of a card's envelope, as `envelope_of` reads it.

    Parameters
    ----------
    tables : iterable of arrays, shape (N, D)
        Protocols of the training data.
    model : SignalModel
    """
    rows = np.concatenate(list(tables))
    ranges = {
        column.name: [float(rows[:, d].min()), float(rows[:, d].max())]
        for d, column in enumerate(model.columns)
    }
    return (
        {"tau_ms": ranges[model.columns[0].name]}
        if _is_list_of_times(model)
        else {"columns": ranges}
    )


def check_series(envelope: Envelope, protocol: np.ndarray, sigma: float) -> Verdict:
    """Whether a network was trained for such a series.

    Far outside are: fewer images than half the fewest of training; a value of the protocol beyond
    twice the largest of its column, or below half the least (unless by less than 2 % of the
    largest); an SNR below half the lowest.

    Parameters
    ----------
    envelope : Envelope
    protocol : array, shape (N, D) or (Z, N, D)
        (N,) of a model with one column.
    sigma : float
        Noise standard deviation divided by the series' scale.

    Returns
    -------
    verdict : Verdict

    Examples
    --------
    >>> from relaxsim.models.t2_decay import MODEL as T2_DECAY
    >>> ranges = ((5.0, 500.0),), (0.004, 0.25), {"T2": (5.0, 3000.0)}
    >>> trained = Envelope(T2_DECAY, (3, 40), *ranges, ("random",))
    >>> check_series(trained, np.array([10.0, 50.0, 700.0]), 0.02).warnings
    ('echo times of 10 to 700 ms, trained for 5 to 500 ms',)
    """
    warnings: list[str] = []
    refusals: list[str] = []
    table = np.asarray(envelope.model.table(np.asarray(protocol)))
    num_images = table.shape[-2]
    few, many = envelope.num_images
    if not few <= num_images <= many:
        bounds = f"{few}" if few == many else f"{few} to {many}"
        words = f"{num_images} images, trained for {bounds}"
        (refusals if num_images < few / FAR else warnings).append(words)
    outside = False
    for d, (low, high) in enumerate(envelope.columns):
        least, largest = float(table[..., d].min()), float(table[..., d].max())
        slack = TOLERANCE * high
        if least < low - slack or largest > high:
            outside = True
            column, unit = envelope.model.border.columns[d], envelope.model.columns[d].unit
            given = column.interval(least, largest, unit)
            words = f"{column.words} of {given}, trained for {column.interval(low, high, unit)}"
            far = not column.names and (largest > FAR * high or least < min(low / FAR, low - slack))
            (refusals if far else warnings).append(words)
    if not outside and _is_another_list(envelope, table):
        words = envelope.model.border.columns[0].words
        warnings.append(f"other {words} than those of {envelope.protocols[0]}, trained for these")
    if not envelope.sigma[0] * _ROUNDING <= sigma <= envelope.sigma[1]:
        best, worst = (snr_of(s) for s in envelope.sigma)
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


def _is_list_of_times(model: SignalModel) -> bool:
    """Whether the protocol is nothing but a list of times."""
    return len(model.columns) == 1 and model.border.columns[0].is_time


def _columns_of(stated: Mapping[str, Any], model: SignalModel) -> tuple[Range, ...]:
    if _is_list_of_times(model):
        return (_range(stated["tau_ms"]),)
    return tuple(_range(stated["columns"][column.name]) for column in model.columns)


def _is_another_list(envelope: Envelope, table: np.ndarray) -> bool:
    """Whether a network was trained for a single bundled list of times, and these are others."""
    model = envelope.model
    if len(envelope.protocols) != 1 or not _is_list_of_times(model):
        return False
    if envelope.protocols[0] not in bundled_protocols():
        return False
    bundled = read_protocol(bundled_protocols()[envelope.protocols[0]], model).table
    return table.shape[-2:] != bundled.shape or not np.allclose(bundled, table, atol=SAME_TIME)


def _range(pair: Any) -> Range:
    low, high = (float(v) for v in pair)
    if not low <= high:
        raise ValueError(f"{pair} is no range")
    return low, high


def _of_tissues(tables: Any, model: SignalModel) -> Range:
    """Range of the main parameter over tissue tables; the model's bounds for unknown ones."""
    by_table = model.border.maps[-1].trained or {}
    ranges = [by_table.get(str(table), model.bounds[-1]) for table in tables]
    ranges = ranges or [model.bounds[-1]]
    return min(low for low, _ in ranges), max(high for _, high in ranges)
