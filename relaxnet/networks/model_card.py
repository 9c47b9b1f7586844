"""Cards of networks in readable form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from relaxnet.networks.registry import (
    ModelError,
    NetworkFile,
    card_path,
    network_file,
    read_card,
    shipped_models,
)
from relaxnet.networks.training_domain import Envelope, envelope_of
from relaxsim.core.snr import snr_of
from relaxsim.models.registry import MODELS


def overview() -> str:
    """Table of the networks that ship: name, size, kind, signal model, summary."""
    lines = []
    for name, path in shipped_models().items():
        card = read_card(path)
        kind, signal = card.get("kind", ""), card.get("signal_model", "")
        size = f"{path.stat().st_size / 1e3:.0f} kB"
        lines.append(f"{name:18} {size:>7}  {kind:6} {signal:18}  {card.get('summary', '')}")
    return "\n".join(lines) or "no network ships with this version"


def card_text(name: str | Path) -> str:
    """All that is known of a network, in lines.

    Parameters
    ----------
    name : str or path
        Shipped name or file.

    Raises
    ------
    relaxnet.networks.registry.ModelError
        If there is no such network.
    """
    file = network_file(name)
    card = file.card
    lines = [f"{file.path.stem}: {card.get('summary', 'no card says what it is for')}"]
    try:
        rows, figures = list(_rows(file)), list(_figures(card.get("figures")))
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ModelError(
            f"{card_path(file.path)} is not a card that relaxnet train writes."
        ) from None
    width = max(len(key) for key, _ in rows) + 2
    lines += [f"  {key + ':':{width}} {value}" for key, value in rows]
    return "\n".join([*lines, *figures])


def _rows(file: NetworkFile) -> Iterator[tuple[str, str]]:
    """Topics of the card and their values; topics that it lacks are left out."""
    path, card = file.path, file.card
    yield "file", f"{path} ({path.stat().st_size / 1e3:.0f} kB)"
    yield "SHA-256", file.sha256
    weights = f", {card['weights']:,} weights" if "weights" in card else ""
    yield "kind", f"{file.architecture}{weights}"
    signal = str(file.config.get("model", card.get("signal_model", "unknown")))
    parameters = MODELS[signal].parameters if signal in MODELS else card.get("parameters", ())
    yield "signal model", f"{signal} ({', '.join(parameters)})"
    yield from _envelope_rows(card, signal)
    for key, words in (("protocols", "protocols"), ("tissues", "tissues")):
        if card.get(key):
            yield words, ", ".join(map(str, card[key]))
    if isinstance(card.get("data"), str):
        yield "data", card["data"]
    for use, subjects in card.get("subjects", {}).items():
        yield f"{use} subjects", " ".join(map(str, subjects))
    training = card.get("training", {})
    chosen = (
        "recipe",
        "init",
        "batch_size",
        "learning_rate",
        "features",
        "num_steps",
        "times",
        "seed",
    )
    settings = [f"{k} {training[k]}" for k in chosen if training.get(k) not in (None, "")]
    if settings:
        yield "settings", ", ".join(settings)
    for key, words in (("iterations_done", "iterations"), ("hours", "hours")):
        if key in card:
            yield words, f"{card[key]:g}"
    yield from ((f"stage {n}", words) for n, words in enumerate(card.get("stages", ()), 1))
    if isinstance(card.get("best_validation_loss"), float):
        yield "validation loss", f"{card['best_validation_loss']:.4f}"
    if card.get("versions"):
        yield "versions", ", ".join(f"{k} {v}" for k, v in card["versions"].items())
    for key in ("made_by", "license"):
        if key in card:
            yield key.replace("_", " "), str(card[key])


def _envelope_rows(card: Mapping[str, Any], signal: str) -> Iterator[tuple[str, str]]:
    envelope = envelope_of(card, MODELS[signal]) if signal in MODELS else None
    if envelope is not None:
        yield "trained for", _envelope_words(envelope)


def _envelope_words(envelope: Envelope) -> str:
    few, many = envelope.num_images
    best, worst = (snr_of(s) for s in envelope.sigma)
    model = envelope.model
    words = [f"{few} images" if few == many else f"{few} to {many} images"]
    for column, names, (low, high) in zip(
        model.columns, model.border.columns, envelope.columns, strict=True
    ):
        words.append(f"{names.words} of {names.interval(low, high, column.unit)}")
    words.append(f"SNR {worst:.0f} to {best:.0f}")
    for parameter in model.parameter_table:
        if parameter.name in envelope.parameters:
            low, high = envelope.parameters[parameter.name]
            unit = f" {parameter.unit}" if parameter.unit not in ("1", "a.u.") else ""
            words.append(f"{parameter.name} {low:g} to {high:g}{unit}")
    return ", ".join(words)


def _figures(figures: Any) -> Iterator[str]:
    """Table of the card's figures; nothing where it has none of this form."""
    if not isinstance(figures, Mapping) or not figures.get("rows"):
        return
    rows = figures["rows"]
    yield f"  figures: {figures.get('what', '')}"
    columns = list(rows[0])
    table = [columns, *([str(row.get(c, "")) for c in columns] for row in rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(columns))]
    for row in table:
        yield "    " + "  ".join(f"{v:>{w}}" for v, w in zip(row, widths, strict=True))
