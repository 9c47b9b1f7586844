"""Maps of a weighted series: estimates, their errors, and how far to trust them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from relaxnet.series.scale import knows_sign
from relaxsim.models.signal_model import SignalModel


@dataclass(frozen=True)
class Comparison:
    """How estimates compare with a voxel-wise fit, where that fit is well determined.

    Attributes
    ----------
    checked : float
        Share of the voxels with an estimate whose fit is well determined.
    difference : float
        Median of the relaxation time's difference from the fit there, relative to the fit; NaN if
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
    sigma_source : str
        How it was found.
    signed : bool
        The data carry the signal's sign.
    scale : float
        Scale of the series.
    method : str
    notes : tuple of str
        What a user should know, a line each.
    warnings : tuple of str
        What a user should worry about, a line each.
    predicted : array, shape (..., N), float32, or None
        Signal of the estimates, if asked for; 0 where there is none.
    comparison : Comparison or None
        With the voxel-wise fit, if asked for.
    look_locker : bool
        T1 is corrected for a Look-Locker readout.
    rician : bool
        Noise was taken for Rician, by a fit's likelihood or a network that tells it from Gaussian
        noise.
    lambda_b : float or None
        Weight of a fit's penalty on B, given or chosen.
    """

    kappa: np.ndarray
    std: np.ndarray | None
    residual: np.ndarray
    status: np.ndarray
    model: SignalModel
    sigma: float
    sigma_source: str
    signed: bool
    scale: float
    method: str
    notes: tuple[str, ...] = field(default=())
    warnings: tuple[str, ...] = field(default=())
    predicted: np.ndarray | None = None
    comparison: Comparison | None = None
    look_locker: bool = False
    rician: bool = False
    lambda_b: float | None = None

    @property
    def taken_as(self) -> str:
        """What the method took the data for, in words."""
        if self.signed and not knows_sign(self.method):
            return "the modulus of signed data"
        if self.signed:
            return "signed"
        return "magnitude with Rician noise" if self.rician else "magnitude"

    def __getitem__(self, parameter: str) -> np.ndarray:
        """Map of a parameter by its name, such as ``maps["T1"]``."""
        if parameter not in self.model.parameters:
            raise KeyError(f"{parameter}; there are: {', '.join(self.model.parameters)}")
        return self.kappa[..., self.model.parameters.index(parameter)]

    def named(self) -> dict[str, tuple[np.ndarray, str]]:
        """Maps by file name without ending: values and unit."""
        named = {}
        units = dict(zip(self.model.parameters, self.model.units, strict=True))
        for q, parameter in enumerate(self.model.parameters):
            named[f"{map_name(parameter)}map"] = self.kappa[..., q], units[parameter]
            if self.std is not None:
                named[f"{map_name(parameter)}std"] = self.std[..., q], units[parameter]
        named["residual"] = self.residual, "sigma"
        named["status"] = self.status, "1"
        return named

    def with_axis(self, source: int, target: int) -> Maps:
        """These maps with a spatial axis moved, as by `numpy.moveaxis`."""
        arrays = {
            name: np.moveaxis(value, source, target)
            for name, value in vars(self).items()
            if isinstance(value, np.ndarray)
        }
        return Maps(**{**vars(self), **arrays})


def map_name(parameter: str) -> str:
    """Stem of a parameter's file: A is M0 in files."""
    return "M0" if parameter == "A" else parameter
