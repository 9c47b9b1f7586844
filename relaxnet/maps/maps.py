"""Maps of a weighted series: estimates, their errors, and how they were made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from relaxnet.fitting.options import FitOptions
from relaxnet.series.foreground import NO_MASK, MaskKind
from relaxnet.series.image_faults import FaultyImage
from relaxnet.series.noise import NoiseSource
from relaxsim.models.border import DerivedMap
from relaxsim.models.signal_model import SignalModel


@dataclass(frozen=True)
class Comparison:
    """How estimates compare with a voxel-wise fit, where that fit is well determined.

    Attributes
    ----------
    checked : float
        Share of the voxels with an estimate whose fit is well determined.
    difference : float
        Median difference of the main parameter from the fit there, relative to the fit; NaN if
        there is no such voxel.
    disagree : float
        Share of these voxels in which the methods disagree (`relaxnet.maps.status.disagreement`).
    """

    checked: float
    difference: float
    disagree: float

    def __str__(self) -> str:
        """One line."""
        if not self.checked > 0:
            return "the voxel-wise fit is nowhere well determined; nothing to compare with"
        return (
            f"against the voxel-wise fit, well determined in {100 * self.checked:.0f} % of voxels: "
            f"median difference {100 * self.difference:+.1f} %, "
            f"{100 * self.disagree:.1f} % disagree"
        )


@dataclass(frozen=True)
class DataKind:
    """What the method took the images for.

    Attributes
    ----------
    signed : bool
        They carry the signal's sign.
    modulus : bool
        The method took the modulus of signed data.
    rician : bool
        Noise was taken for Rician: by a fit's likelihood, or by a network that makes a difference.
    """

    signed: bool
    modulus: bool = False
    rician: bool = False

    @property
    def words(self) -> str:
        """The same in words."""
        if self.modulus:
            return "the modulus of signed data"
        if self.signed:
            return "signed"
        return "magnitude with Rician noise" if self.rician else "magnitude"


@dataclass(frozen=True)
class FitKind:
    """Which maximum-likelihood fit was made.

    Attributes
    ----------
    options : FitOptions
        With the likelihood that was chosen.
    chosen_lambda_b : float, optional
        Weight of the penalty on the shared parameter, given or chosen.
    """

    options: FitOptions
    chosen_lambda_b: float | None = None


@dataclass(frozen=True)
class Equilibrium:
    """Amplitude of a fit with a finite repetition time: M0, which A is not then.

    Attributes
    ----------
    model : SignalModel
        Of the finite repetition time.
    amplitude : array, shape (...), float32
    std : array, shape (...), float32
    """

    model: SignalModel
    amplitude: np.ndarray
    std: np.ndarray

    def with_axis(self, source: int, target: int) -> Equilibrium:
        """The same with a spatial axis moved."""
        moved = (np.moveaxis(values, source, target) for values in (self.amplitude, self.std))
        return Equilibrium(self.model, *moved)


@dataclass(frozen=True)
class Quantity:
    """A quantity that has a map.

    Attributes
    ----------
    stem : str
        Of its files, ``<stem>map`` and ``<stem>std``.
    unit, meaning : str
    values : array, shape (...)
    std : array, shape (...), or None
    """

    stem: str
    unit: str
    meaning: str
    values: np.ndarray
    std: np.ndarray | None


@dataclass(frozen=True)
class Maps:
    """Estimated maps of a series.

    Attributes
    ----------
    kappa : array, shape (..., Q), float32
        Estimates in the model's units; 0 outside the mask and where nothing could be estimated.
    std : array, shape (..., Q), float32, or None
        Standard deviations: Cramer-Rao of a fit, calibrated ones of a network with an error head;
        inf where not identifiable.
    residual : array, shape (...), float32
        Root mean square of the residuals in units of sigma.
    status : array, shape (...), uint8
        See `relaxnet.maps.status.LEGEND`.
    model : SignalModel
    sigma : float
        Noise standard deviation that was used, in the unit of the series; of a map its median.
    noise : NoiseSource
        How it was found.
    data : DataKind
        What the method took the images for.
    scale : float
        Scale of the series.
    method : str
        ``rim``, ``resnet`` or ``mle``.
    mask : MaskKind
    fit : FitKind or None
        Of ``mle``.
    equilibrium : Equilibrium or None
        Of a fit with a repetition time.
    notes : tuple of str
        What a user should know, a line each.
    warnings : tuple of str
        What a user should worry about, a line each.
    predicted : array, shape (..., N), float32, or None
        Signal of the estimates, if asked for; 0 where there is none.
    comparison : Comparison or None
        With the voxel-wise fit, if asked for.
    left_out : tuple of FaultyImage
        Images that are at fault and were left out.
    """

    kappa: np.ndarray
    std: np.ndarray | None
    residual: np.ndarray
    status: np.ndarray
    model: SignalModel
    sigma: float
    noise: NoiseSource
    data: DataKind
    scale: float
    method: str
    mask: MaskKind = NO_MASK
    fit: FitKind | None = None
    equilibrium: Equilibrium | None = None
    notes: tuple[str, ...] = field(default=())
    warnings: tuple[str, ...] = field(default=())
    predicted: np.ndarray | None = None
    comparison: Comparison | None = None
    left_out: tuple[FaultyImage, ...] = ()

    @property
    def sigma_source(self) -> str:
        """How sigma was found, in words."""
        return str(self.noise)

    @property
    def taken_as(self) -> str:
        """What the method took the images for, in words."""
        return self.data.words

    @property
    def signed(self) -> bool:
        """Whether the images carry the signal's sign."""
        return self.data.signed

    @property
    def rician(self) -> bool:
        """Whether noise was taken for Rician."""
        return self.data.rician

    @property
    def lambda_b(self) -> float | None:
        """Weight of a fit's penalty on the shared parameter, given or chosen."""
        return None if self.fit is None else self.fit.chosen_lambda_b

    @property
    def main(self) -> np.ndarray:
        """Map of the parameter that the sequence measures."""
        return self.kappa[..., -1]

    def __getitem__(self, parameter: str) -> np.ndarray:
        """Map of a parameter by its name, such as ``maps["T1"]``."""
        if parameter not in self.model.parameters:
            raise KeyError(f"{parameter}; there are: {', '.join(self.model.parameters)}")
        return self.kappa[..., self.model.parameters.index(parameter)]

    def quantities(self) -> Iterator[Quantity]:
        """What has a map, in the order of kappa; with a repetition time M0 comes before A."""
        found = self.equilibrium
        if found is not None:
            border, unit = found.model.border.maps[0], self.model.units[0]
            yield Quantity(border.stem, unit, border.meaning, found.amplitude, found.std)
        stems = map_stems(self.model, found is not None)[-self.model.num_parameters :]
        for q, (stem, unit) in enumerate(zip(stems, self.model.units, strict=True)):
            std = None if self.std is None else self.std[..., q]
            meaning = self.model.border.maps[q].meaning
            yield Quantity(stem, unit, meaning, self.kappa[..., q], std)
        for entry in self.model.border.derived:
            yield self._derived(entry)

    def _derived(self, entry: DerivedMap) -> Quantity:
        """A map that follows from those of the parameters; 0 where there is no estimate."""
        estimated = self.main > 0
        values = np.where(estimated, entry.value(self.kappa), 0.0).astype(np.float32)
        std = None
        if self.std is not None and entry.slope is not None:
            with np.errstate(invalid="ignore"):
                spread = np.abs(entry.slope(self.kappa)) * self.std[..., -1]
            std = np.where(estimated, spread, 0.0).astype(np.float32)
        return Quantity(entry.border.stem, entry.unit, entry.border.meaning, values, std)

    def named(self) -> dict[str, tuple[np.ndarray, str]]:
        """Maps by file name without ending: values and unit."""
        named = {}
        for quantity in self.quantities():
            named[f"{quantity.stem}map"] = quantity.values, quantity.unit
            if quantity.std is not None:
                named[f"{quantity.stem}std"] = quantity.std, quantity.unit
        named["residual"] = self.residual, "sigma"
        named["status"] = self.status, "1"
        return named

    def descriptions(self) -> dict[str, str]:
        """What maps hold, by file name without ending."""
        found = {}
        for quantity in self.quantities():
            found[f"{quantity.stem}map"] = quantity.meaning
            found[f"{quantity.stem}std"] = f"Standard deviation of {quantity.stem}"
        return found

    def with_axis(self, source: int, target: int) -> Maps:
        """These maps with a spatial axis moved, as by `numpy.moveaxis`."""
        arrays = {
            name: np.moveaxis(value, source, target)
            for name, value in vars(self).items()
            if isinstance(value, np.ndarray)
        }
        found = self.equilibrium
        moved = None if found is None else found.with_axis(source, target)
        return Maps(**{**vars(self), **arrays, "equilibrium": moved})


def map_stems(model: SignalModel, finite_tr: bool = False) -> list[str]:
    """Stems of a model's maps.

    With a finite repetition time the stem of the amplitude is that of M0, and the amplitude A of
    the signal goes by its own name beside it.
    """
    stems = [border.stem for border in model.border.maps]
    return [stems[0], model.parameters[0], *stems[1:]] if finite_tr else stems
