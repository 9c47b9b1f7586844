"""The table of accuracy as Markdown, with a comparison to the figures that were aimed at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from relaxsim.models.signal_model import SignalModel

Rows = Sequence[dict[str, Any]]
B_WORDS = {"patch": "B constant", "smooth": "B smooth"}
#: Largest |median relative bias| of T in GM and WM that is aimed at, per cent, by SNR.
AIM_HIGH, AIM_LOW, HIGH_SNR = 1.0, 3.0, 10.0
TISSUES = ("GM", "WM", "CSF", "brain")


def markdown(rows: Rows, model: SignalModel) -> str:
    """Tables of the relaxation time by tissue, of the slopes, of the other parameters, and aims."""
    T = model.main
    lines = [
        f"{len({r['method'] for r in rows if r['repeats']})} methods, {_draws(rows)}, at least "
        f"{_least_repeats(rows)} draws of noise each. Cells are median relative bias ± its "
        "Monte Carlo error / median CV / median RMSE, per cent of the truth. Bounds are of "
        "unbiased voxel-wise estimators (CV).",
    ]
    for b_field in _unique(rows, "b_field"):
        some = [row for row in rows if row["b_field"] == b_field]
        words = f", {B_WORDS[b_field]}" if model.shared else ""
        for tissue in TISSUES:
            lines += ["", f"### {T}, {tissue}{words}", "", *_table(some, T, tissue, _cell)]
        for tissue in TISSUES[:3]:
            lines += [
                "",
                f"### Slope of the estimated on the true {T} inside {tissue}{words}",
                "",
                *_table(some, T, tissue, _slope, last=_optimal(some, T, tissue)),
            ]
        for parameter in model.parameters[:-1]:
            lines += ["", f"### {parameter}, brain{words}", ""]
            lines += _table(some, parameter, "brain", _cell)
        lines += ["", f"### Against the aims{words}", "", *_aims(some, T)]
    return "\n".join(lines) + "\n"


def _table(rows: Rows, parameter: str, tissue: str, cell: Any, last: str = "") -> Iterator[str]:
    """One table: methods down, SNR across."""
    snrs = _unique(rows, "snr")
    yield f"| method | {' | '.join(f'SNR {snr:g}' for snr in snrs)} |"
    yield f"|---|{'---|' * len(snrs)}"
    for method in _unique(rows, "method"):
        found = {
            row["snr"]: row
            for row in rows
            if (row["method"], row["parameter"], row["tissue"]) == (method, parameter, tissue)
        }
        if cell is _slope and not any(row["repeats"] for row in found.values()):
            continue
        cells = [cell(found[snr]) if snr in found else "" for snr in snrs]
        if any(cells):
            yield f"| {method} | {' | '.join(cells)} |"
    if last:
        yield last


def _cell(row: dict[str, Any]) -> str:
    if not row["repeats"]:
        return _number(row["cv"])
    error = f" ± {_number(row['bias_error'])}" if np.isfinite(row["bias_error"]) else ""
    return f"{row['bias']:+.2f}{error} / {_number(row['cv'])} / {_number(row['rmse'])}"


def _slope(row: dict[str, Any]) -> str:
    if not np.isfinite(row["slope"]):
        return ""
    error = f" ± {row['slope_error']:.2f}" if np.isfinite(row["slope_error"]) else ""
    return f"{row['slope']:.2f}{error}"


def _optimal(rows: Rows, parameter: str, tissue: str) -> str:
    cells = []
    for snr in _unique(rows, "snr"):
        values = [
            row["slope_optimal"]
            for row in rows
            if (row["snr"], row["parameter"], row["tissue"]) == (snr, parameter, tissue)
            and np.isfinite(row["slope_optimal"])
        ]
        cells.append(f"{values[0]:.2f}" if values else "")
    return f"| Bayes-optimal | {' | '.join(cells)} |"


def _aims(rows: Rows, T: str) -> Iterator[str]:
    """The largest |bias| in GM and WM, and whether RMSE and CV are below the fits' at every SNR."""
    methods = [m for m in _unique(rows, "method") if not m.startswith("bound")]
    fits = [m for m in methods if m.startswith("mle")]
    others = [m for m in methods if m.startswith("resnet")]
    yield (
        f"| method | largest bias GM, WM, SNR >= {HIGH_SNR:g} (aim {AIM_HIGH:g}) | "
        f"SNR < {HIGH_SNR:g} (aim {AIM_LOW:g}) | RMSE below all fits' | RMSE below ResNet's | "
        "CV below mle-500's |"
    )
    yield "|---|---|---|---|---|---|"
    for method in methods:
        if method in fits:
            continue
        biases = [
            (row["snr"], abs(row["bias"]))
            for row in rows
            if row["method"] == method and row["parameter"] == T and row["tissue"] in ("GM", "WM")
        ]
        high = [b for snr, b in biases if snr >= HIGH_SNR]
        low = [b for snr, b in biases if snr < HIGH_SNR]
        cells = [
            f"{max(high):.2f}" if high else "",
            f"{max(low):.2f}" if low else "",
            _below(rows, T, method, fits, "rmse"),
            _below(rows, T, method, others, "rmse") if method not in others else "",
            _below(rows, T, method, [f for f in fits if f == "mle-500"], "cv"),
        ]
        yield f"| {method} | {' | '.join(cells)} |"


def _below(rows: Rows, T: str, method: str, others: Sequence[str], metric: str) -> str:
    """Yes, or the SNR and tissues where a method's median is not below all of the others'."""
    values = {
        (row["method"], row["snr"], row["tissue"]): row[metric]
        for row in rows
        if row["parameter"] == T
    }
    if not others:
        return ""
    misses = [
        f"{tissue} {snr:g}"
        for snr in _unique(rows, "snr")
        for tissue in ("GM", "WM", "brain")
        for least in [min(values.get((o, snr, tissue), np.inf) for o in others)]
        if not values.get((method, snr, tissue), np.inf) < least
    ]
    return f"not {', '.join(misses)}" if misses else "yes"


def _draws(rows: Rows) -> str:
    """Draws of kappa, and methods that have fewer somewhere."""
    least = {m: min(r["draws"] for r in rows if r["method"] == m) for m in _unique(rows, "method")}
    most = max(least.values())
    fewer = [f"{n} of {m}" for m, n in least.items() if n < most and not m.startswith("bound")]
    return f"{most} draws of kappa" + (f" (at least {', '.join(fewer)})" if fewer else "")


def _least_repeats(rows: Rows) -> int:
    return min((row["repeats"] for row in rows if row["repeats"]), default=0)


def _unique(rows: Rows, key: str) -> list[Any]:
    return list(dict.fromkeys(row[key] for row in rows))


def _number(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"
