"""Values of phantoms, from the CSV files beside: the plates' spheres and the small structures."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

PLATES = Path(__file__).with_name("plates")
#: Row of a plate's table that is the water around the spheres.
WATER_ROW = "water"


@dataclass(frozen=True)
class Plate:
    """An array of spheres.

    Attributes
    ----------
    spheres : dict of str to list of float
        Nominal values of the spheres 1 to 14 by parameter, ms.
    water : dict of str to float
        Those of the water around them.
    """

    spheres: dict[str, list[float]]
    water: dict[str, float]


@dataclass(frozen=True)
class Structure:
    """One small structure.

    Attributes
    ----------
    name : str
    tissue : int
        Label of the tissue that it lies in.
    shape : (int, int)
        Width (X) and height (Y) in voxels.
    values : dict of str to float
        Its relaxation time by parameter, ms.
    drawn : float
        Share of the way, in the logarithm, from the lowest to the highest value that a signal
        model draws for tissues; of parameters that `values` lacks.
    """

    name: str
    tissue: int
    shape: tuple[int, int]
    values: dict[str, float]
    drawn: float

    def value_of(self, parameter: str, drawn: tuple[float, float] | None) -> float:
        """Value of a parameter, whose tissues a model draws from the range `drawn`.

        Raises
        ------
        ValueError
            If there is neither a value nor a range.
        """
        if parameter in self.values:
            return self.values[parameter]
        if drawn is None:
            raise ValueError(f"the small structures have no value of {parameter}.")
        low, high = drawn
        return low * (high / low) ** self.drawn


def plate_arrays() -> tuple[str, ...]:
    """Names of the arrays of the NIST/ISMRM phantom: the parameter that each varies."""
    return tuple(dict.fromkeys(row["array"] for row in _rows(PLATES / "nist.csv")))


def read_plate(array: str) -> Plate:
    """Nominal values of an array of the NIST/ISMRM phantom.

    Raises
    ------
    ValueError
        If there is no such array.
    """
    if array not in plate_arrays():
        raise ValueError(f"`array` is {array!r}, expected one of {', '.join(plate_arrays())}")
    rows = [row for row in _rows(PLATES / "nist.csv") if row["array"] == array]
    parameters = [name for name in rows[0] if name not in ("array", "sphere")]
    spheres = [row for row in rows if row["sphere"] != WATER_ROW]
    water = next(row for row in rows if row["sphere"] == WATER_ROW)
    return Plate(
        {name: [float(row[name]) for row in spheres] for name in parameters},
        {name: float(water[name]) for name in parameters},
    )


def read_structures() -> tuple[Structure, ...]:
    """The paper's small structures (section 5.1.2)."""
    texts = {"structure", "tissue", "width", "height", "drawn"}
    return tuple(
        Structure(
            row["structure"],
            int(row["tissue"]),
            (int(row["width"]), int(row["height"])),
            {name: float(value) for name, value in row.items() if name not in texts},
            float(row["drawn"]),
        )
        for row in _rows(Path(__file__).with_name("structures.csv"))
    )


def _rows(path: Path) -> list[dict[str, str]]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))
