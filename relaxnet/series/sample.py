"""Some voxels of a series, with the protocol and the known maps that belong to them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from relaxnet.fitting.inputs import Measurement
from relaxnet.fitting.options import FitOptions
from relaxnet.fitting.result import Fit
from relaxnet.fitting.voxelwise import fit_voxelwise
from relaxsim.models.signal_model import SignalModel


@dataclass(frozen=True)
class Sample:
    """Voxels of a series.

    Attributes
    ----------
    S : array, shape (n, N)
    protocol : array, shape (N, D), or (Z, N, D) where each slice has its own
    model : SignalModel
    known : array, shape (n, K), optional
        Known maps there.
    slices : int array, shape (n,), optional
        Slice of each voxel; needed if slices have protocols of their own.
    """

    S: np.ndarray
    protocol: np.ndarray
    model: SignalModel
    known: np.ndarray | None = None
    slices: np.ndarray | None = None

    @classmethod
    def of(cls, series: Measurement, voxels: tuple[np.ndarray, ...]) -> Sample:
        """The voxels of a series (X, Y, Z, N) at some indices."""
        known = None if series.known is None else series.known[voxels]
        return cls(series.S[voxels], series.protocol, series.model, known, voxels[2])

    @property
    def num_images(self) -> int:
        """Number of images, N."""
        return self.S.shape[-1]

    def every(self, step: int) -> Sample:
        """Every so many voxels, from the first on; all for a step of 0."""
        return self.part(slice(None, None, step or 1))

    def part(self, index: Any) -> Sample:
        """Some of the voxels."""
        return replace(
            self,
            S=self.S[index],
            known=None if self.known is None else self.known[index],
            slices=None if self.slices is None else self.slices[index],
        )

    def of_other_images(self, S: np.ndarray) -> Sample:
        """The same voxels with other values, shape (n, N)."""
        return replace(self, S=S)

    def forward(self, kappa: np.ndarray) -> np.ndarray:
        """Signal of tissue parameters (n, Q), shape (n, N)."""
        return self.model.forward(kappa, self._protocols(), np, self.known)

    def signed(self, kappa: np.ndarray) -> np.ndarray:
        """Signal before the modulus of tissue parameters (n, Q), shape (n, N)."""
        return self.model.signed(kappa, self._protocols(), np, self.known)

    def fit(
        self, sigma: float | None = None, signed: bool = False, likelihood: str = "gaussian"
    ) -> Fit:
        """Voxel-wise fit (`relaxnet.fitting.voxelwise.fit_voxelwise`) of all voxels."""
        fits = []
        order = []
        for index, part in self._by_protocol():
            order.append(index)
            fits.append(_fit(part, sigma, signed, likelihood))
        if len(fits) == 1:
            return fits[0]
        back = np.argsort(np.concatenate(order), kind="stable")
        columns = zip(*(vars(fit).values() for fit in fits), strict=True)
        return Fit(*(np.concatenate(values)[back] for values in columns))

    def _protocols(self) -> np.ndarray:
        """Protocol of all voxels, (N, D), or of each, (n, N, D)."""
        return self.protocol if self.slices is None or self._shared else self.protocol[self.slices]

    @property
    def _shared(self) -> bool:
        return self.protocol.ndim < 3

    def _by_protocol(self) -> Iterator[tuple[np.ndarray, Sample]]:
        """Parts of the voxels that share a protocol, each with its indices."""
        if self._shared or self.slices is None:
            yield np.arange(len(self.S)), self
            return
        for z in np.unique(self.slices):
            index = np.flatnonzero(self.slices == z)
            part = self.part(index)
            yield index, replace(part, protocol=self.protocol[z], slices=None)


def _fit(sample: Sample, sigma: float | None, signed: bool, likelihood: str) -> Fit:
    """Fit of voxels with one protocol."""
    series = Measurement(
        sample.S, sample.protocol, sample.model, sigma, signed=signed, known=sample.known
    )
    return fit_voxelwise(series, FitOptions(likelihood=likelihood))
