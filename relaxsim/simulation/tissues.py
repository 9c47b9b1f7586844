"""Tissue tables: the distribution of A, T1 and T2 in each tissue (paper, Table 1)."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from relaxsim.core.files import read_text, why_not_regular
from relaxsim.core.labels import NUM_LABELS

BUNDLED = Path(__file__).with_name("tissues")


@dataclass(frozen=True)
class Tissue:
    """One row: the distribution of each parameter, and the labels that take it.

    Attributes
    ----------
    name : str
        Tissue.
    labels : tuple of int
        BrainWeb labels, 1 to 11.
    mean, sd : dict of str to float
        Mean and standard deviation by parameter: ``A`` relative to CSF, ``T1`` and ``T2`` in ms.
    wide_share : float
        Chance that a patch draws this tissue's relaxation times from `wide_range` instead.
    wide_range : dict of str to (float, float)
        Bounds of the log-uniform draw, ms.
    source : str
        Where the values come from.
    """

    name: str
    labels: tuple[int, ...]
    mean: dict[str, float]
    sd: dict[str, float]
    wide_share: float
    wide_range: dict[str, tuple[float, float]]
    source: str


@dataclass(frozen=True)
class TissueTable:
    """A checked table: `name`, its `tissues` and the `text` it was read from."""

    name: str
    tissues: tuple[Tissue, ...]
    text: str

    def draw(
        self,
        parameter: str,
        num: int,
        rng: np.random.Generator,
        otherwise: tuple[float, float] | None = None,
    ) -> np.ndarray:
        """Draw one value per patch and label.

        Normal draws are truncated: one that is below a tenth of its mean is drawn again, so that
        values are physical and do not pile up at a bound. Labels that share a row share its draw.

        Parameters
        ----------
        parameter : str
            A column of the table.
        num : int
            Number of patches.
        rng : numpy.random.Generator
        otherwise : (float, float), optional
            Range of a log-uniform draw where the table has no such column.

        Returns
        -------
        values : array, shape (num, 12), float64
            ``A`` is 0 in the background, where relaxation times mean nothing and are 1.

        Raises
        ------
        ValueError
            If the table has no such column, and there is no range instead.
        """
        if parameter not in self.tissues[0].mean and otherwise is not None:
            low, high = np.log(otherwise)
            values = np.ones((num, NUM_LABELS))
            for tissue in self.tissues:
                values[:, tissue.labels] = np.exp(rng.uniform(low, high, num))[:, None]
            return values
        if parameter not in self.tissues[0].mean:
            raise ValueError(
                f"tissue table {self.name} has no column {parameter}; "
                f"it has {', '.join(self.tissues[0].mean)}."
            )
        values = np.full((num, NUM_LABELS), 0.0 if parameter == "A" else 1.0)
        for tissue in self.tissues:
            draw = _truncated_normal(rng, tissue.mean[parameter], tissue.sd[parameter], num)
            if parameter in tissue.wide_range:
                low, high = np.log(tissue.wide_range[parameter])
                wide = np.exp(rng.uniform(low, high, num))
                draw = np.where(rng.random(num) < tissue.wide_share, wide, draw)
            values[:, tissue.labels] = draw[:, None]
        return values


def bundled_tables() -> dict[str, Path]:
    """Bundled tables: name -> file."""
    return {path.stem: path for path in sorted(BUNDLED.glob("*.csv"))}


def read_tissues(name: str | Path = "paper") -> TissueTable:
    """Read a tissue table: a CSV file or, if no such file exists, a bundled one.

    The columns are ``labels`` (BrainWeb labels separated by spaces), ``tissue``, ``A, A_sd, T1,
    T1_sd, T2, T2_sd`` (ms; A relative to CSF), ``source``, and optionally ``wide_share, T1_low,
    T1_high, T2_low, T2_high``. Further ``X, X_sd`` pairs are kept for signal models that use them.

    Raises
    ------
    ValueError
        If there is no such table, a column or a label is missing, doubled or unknown, or a value
        is not a positive number in the expected range.
    """
    path = Path(name)
    if not path.is_file():
        if path.exists() and (why := why_not_regular(path)):
            raise ValueError(f"{name}: {why}.")
        bundled = bundled_tables().get(path.name.removesuffix(".csv"))
        if bundled is None or path.name != str(name):
            raise ValueError(
                f"{name}: no such file, and no bundled tissue table of that name "
                f"(bundled: {', '.join(bundled_tables())})."
            )
        path = bundled
    try:
        text = read_text(path)
    except ValueError:
        raise ValueError(f"{path.name} is not a text file; expected a CSV table.") from None
    return parse_tissues(text, path.stem)


def parse_tissues(text: str, name: str) -> TissueTable:
    """Tissue table from the text of a CSV file; see `read_tissues`."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    try:
        rows = list(csv.DictReader(io.StringIO("\n".join(lines))))
    except csv.Error as error:
        raise ValueError(f"tissue table {name} is no CSV table ({error}).") from None
    columns = list(rows[0]) if rows else []
    for column in ("labels", "tissue", "A", "A_sd"):
        if column not in columns:
            raise ValueError(f"tissue table {name} has no column {column!r}.")
    parameters = [c for c in columns if f"{c}_sd" in columns]
    tissues = tuple(_tissue(row, parameters, name) for row in rows)
    _check_labels(tissues, name)
    return TissueTable(name, tissues, text)


def _tissue(row: dict[str, str], parameters: list[str], table: str) -> Tissue:
    where = f"tissue table {table}, {row['tissue']}"
    try:
        labels = tuple(int(word) for word in (row["labels"] or "").split())
    except ValueError:
        raise ValueError(f"{where}: labels {row['labels']!r} are no whole numbers.") from None
    mean = {p: _number(row, p, where) for p in parameters}
    sd = {p: _number(row, f"{p}_sd", where) for p in parameters}
    for p in parameters:
        if mean[p] <= 0 or not 0 <= sd[p] <= mean[p]:
            raise ValueError(
                f"{where}: {p} is {mean[p]:g} with spread {sd[p]:g}; expected a positive mean "
                "and a spread from 0 to the mean."
            )
        if p.startswith("T") and mean[p] < 1:
            raise ValueError(f"{where}: {p} = {mean[p]:g} looks like seconds; give ms.")
    wide = {p for p in parameters if row.get(f"{p}_low") or row.get(f"{p}_high")}
    share = _number(row, "wide_share", where) if wide else 0.0
    ranges = {p: (_number(row, f"{p}_low", where), _number(row, f"{p}_high", where)) for p in wide}
    if not 0 <= share <= 1 or any(not 0 < low < high for low, high in ranges.values()):
        raise ValueError(f"{where}: wide_share must be in 0 to 1 and 0 < low < high.")
    for p, (low, high) in ranges.items():
        if p.startswith("T") and low < 1:
            raise ValueError(f"{where}: {p} of {low:g} to {high:g} looks like seconds; give ms.")
    return Tissue(row["tissue"], labels, mean, sd, share, ranges, row.get("source") or "")


def _number(row: dict[str, str], column: str, where: str) -> float:
    try:
        value = float(row[column])
    except (TypeError, ValueError, KeyError):
        raise ValueError(f"{where}: {column} is {row.get(column)!r}, expected a number.") from None
    if not np.isfinite(value):
        raise ValueError(f"{where}: {column} is {value}, expected a finite number.")
    return value


def _check_labels(tissues: tuple[Tissue, ...], table: str) -> None:
    labels = [label for tissue in tissues for label in tissue.labels]
    expected = set(range(1, NUM_LABELS))
    if sorted(labels) != sorted(expected):
        missing, extra = sorted(expected - set(labels)), sorted(set(labels) - expected)
        double = sorted({label for label in labels if labels.count(label) > 1})
        raise ValueError(
            f"tissue table {table} must name each BrainWeb label 1 to 11 once "
            f"(missing {missing}, unknown {extra}, doubled {double})."
        )


def _truncated_normal(rng: np.random.Generator, mean: float, sd: float, num: int) -> np.ndarray:
    draw = rng.normal(mean, sd, num)
    while (low := draw < 0.1 * mean).any():
        draw[low] = rng.normal(mean, sd, low.sum())
    return draw
