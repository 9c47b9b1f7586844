"""Which maximum-likelihood fit is made: the options of ``relaxnet predict --method mle``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from relaxnet.fitting.finite_tr import finite_tr_model
from relaxnet.fitting.inputs import Bounds, fit_bounds
from relaxnet.fitting.regularised import check_weight, fit_fixed, fit_regularised, fit_shared
from relaxnet.fitting.result import Fit
from relaxnet.fitting.voxelwise import fit_voxelwise
from relaxsim.models.signal_model import SignalModel

#: Below this signal-to-noise ratio (of the series' scale) Rician noise is told from Gaussian: at
#: 30 the wrong likelihood costs some per cent of T1, at 100 tenths of one.
RICIAN_BELOW = 100.0


@dataclass(frozen=True)
class FitOptions:
    """Options of a fit; the default is the voxel-wise one.

    Attributes
    ----------
    bounds : mapping or sequence, optional
        See `relaxnet.fitting.voxelwise.fit_bounds`.
    likelihood : str, optional
        ``gaussian`` or ``rician``; default: as the noise asks for (`for_noise`).
    lambda_b : float or "auto", optional
        Weight of the Laplacian penalty on B (or the efficiency); see
        `relaxnet.fitting.regularised`.
    fix_b : float, optional
        B (with `tr` the efficiency) is known.
    share_b : bool
        One B (or efficiency) for the mask.
    tr : float or "sidecar", optional
        Repetition time in ms, or the wish for that of a series' sidecars, which
        `relaxnet.prediction.files` puts in its place.

    Raises
    ------
    ValueError
        If options exclude each other or are out of range.
    """

    bounds: Bounds | None = None
    likelihood: str | None = None
    lambda_b: float | str | None = None
    fix_b: float | None = None
    share_b: bool = False
    tr: float | Literal["sidecar"] | None = None

    def __post_init__(self) -> None:
        named = [self.lambda_b is not None, self.fix_b is not None, self.share_b]
        if sum(named) > 1:
            raise ValueError("--lambda-b, --fix-b and --share-b exclude each other; give one.")
        if self.lambda_b is not None:
            check_weight(self.lambda_b)
        low, high = (0.0, 1.0) if self.tr is not None else (0.5, 2.5)
        if self.fix_b is not None and not low <= self.fix_b <= high:
            what = (
                "B (2: a perfect inversion)"
                if self.tr is None
                else "an efficiency, as --tr is given,"
            )
            raise ValueError(f"--fix-b {self.fix_b:g}: expected {what} from {low:g} to {high:g}.")
        if isinstance(self.tr, float | int) and not (np.isfinite(self.tr) and self.tr > 0):
            raise ValueError(f"--tr {self.tr:g}: expected a positive repetition time in ms.")

    @property
    def is_joint(self) -> bool:
        """Whether B is regularised, shared or known, or depends on a repetition time."""
        return self.share_b or any(v is not None for v in (self.lambda_b, self.fix_b, self.tr))

    @property
    def words(self) -> str:
        """What is fitted, for the log and the sidecars."""
        if self.fix_b is not None:
            field = f"B fixed at {self.fix_b:g}"
        elif self.share_b:
            field = "one B for the mask"
        elif self.lambda_b is not None:
            field = f"B regularised, lambda {self.lambda_b}"
        else:
            field = "voxel-wise"
        if self.tr is not None:
            field = f"{field.replace('B ', 'efficiency ')}, TR {_ms(self.tr)}"
        return f"{self.likelihood or ''} maximum likelihood, {field}".lstrip()

    def for_noise(self, rician: bool, snr: float) -> FitOptions:
        """These options with a likelihood, chosen by the noise if none is given.

        Parameters
        ----------
        rician : bool
            The images are magnitudes of complex noise.
        snr : float
            Scale of the series over sigma.
        """
        if self.likelihood is not None:
            return self
        return replace(self, likelihood="rician" if rician and snr < RICIAN_BELOW else "gaussian")

    def num_fitted(self, model: SignalModel) -> int:
        """Parameters that are found from a voxel's own data: neither shared, smooth nor known."""
        fitted = model if self.tr is None else finite_tr_model(model, float(self.tr))
        limits = fit_bounds(fitted, self.bounds)
        known = limits[:, 0] == limits[:, 1]
        if self.fix_b is not None or self.share_b or self.lambda_b is not None:
            known[1] = True  # B, or with a repetition time the efficiency
        return model.num_parameters - int(known.sum())

    def fit(
        self,
        S: np.ndarray,
        tau: np.ndarray,
        model: SignalModel,
        sigma: np.ndarray,
        mask: np.ndarray,
        signed: bool,
        spacing: tuple[float, ...] | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> Fit:
        """Fit a series; arguments and errors as `relaxnet.fitting.voxelwise.fit_voxelwise`.

        Without a likelihood it is the Gaussian one.
        """
        common: dict[str, Any] = {"signed": signed, "bounds": self.bounds, "progress": progress}
        common["likelihood"] = self.likelihood or "gaussian"
        if not self.is_joint:
            return fit_voxelwise(S, tau, model, sigma, mask, **common)
        common["tr"] = self.tr
        if self.fix_b is not None:
            return fit_fixed(S, tau, model, self.fix_b, sigma, mask, **common)
        if self.share_b:
            return fit_shared(S, tau, model, sigma, mask, **common)
        weight = 0.0 if self.lambda_b is None else self.lambda_b
        return fit_regularised(
            S, tau, model, sigma, mask, lambda_b=weight, spacing=spacing, **common
        )


def _ms(tr: float | str) -> str:
    return f"of the {tr}s" if isinstance(tr, str) else f"{tr:g} ms"


#: The default: every voxel alone, the model's bounds.
VOXELWISE = FitOptions()


def weight_of(text: str | None) -> float | str | None:
    """Weight of ``--lambda-b``: a number, ``auto``, or None where it is not given.

    Raises
    ------
    ValueError
        If it is neither.
    """
    if text is None or text == "auto":
        return text
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"--lambda-b {text}: expected a number or auto.") from None
