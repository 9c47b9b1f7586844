"""Options of a maximum-likelihood fit (those of ``relaxnet predict --method mle``)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from relaxnet.fitting.inputs import Bounds, Measurement, fit_bounds
from relaxnet.fitting.nonlinear import suits
from relaxnet.fitting.result import Fit
from relaxsim.models.signal_model import SignalModel

LIKELIHOODS = ("gaussian", "rician")
#: Below this signal-to-noise ratio (of the series' scale) the Rician likelihood is chosen for
#: magnitudes: at 30 the wrong likelihood costs some per cent of T1, at 100 tenths of one.
RICIAN_BELOW = 100.0
#: Repetition time in ms where only the names and bounds of a model with a finite one are asked for.
ANY_TR = 1000.0


@dataclass(frozen=True)
class FitOptions:
    """Options of a fit; the default is the voxel-wise one.

    Fields are named by the options of the commands. Their letter b stands for the model's shared
    parameter: B of inversion recovery, with `tr` the efficiency.

    Attributes
    ----------
    bounds : mapping or sequence, optional
        See `relaxnet.fitting.inputs.fit_bounds`.
    likelihood : str, optional
        ``gaussian`` or ``rician``; default: chosen by the noise (`for_noise`), else Gaussian.
    lambda_b : float or "auto", optional
        Weight of the Laplacian penalty on the shared parameter; see `relaxnet.fitting.regularised`.
    fix_b : float, optional
        Value of the shared parameter, which is known.
    share_b : bool
        The shared parameter has one value in the whole mask.
    tr : float or "sidecar", optional
        Repetition time in ms, or the request for that of a series' sidecars, which
        `relaxnet.prediction.files` puts in its place.

    Raises
    ------
    ValueError
        If options exclude each other or are out of range whatever the signal model.
    """

    bounds: Bounds | None = None
    likelihood: str | None = None
    lambda_b: float | str | None = None
    fix_b: float | None = None
    share_b: bool = False
    tr: float | Literal["sidecar"] | None = None

    def __post_init__(self) -> None:
        if self.likelihood is not None and self.likelihood not in LIKELIHOODS:
            raise ValueError(
                f"no likelihood is called {self.likelihood!r}; there are: {', '.join(LIKELIHOODS)}."
            )
        if sum([self.lambda_b is not None, self.fix_b is not None, self.share_b]) > 1:
            raise ValueError("`lambda_b`, `fix_b` and `share_b` exclude each other; give one.")
        if self.lambda_b is not None:
            check_weight(self.lambda_b)
        if isinstance(self.tr, float | int) and not (np.isfinite(self.tr) and self.tr > 0):
            raise ValueError(f"`tr` {self.tr:g}: expected a positive repetition time in ms.")

    @property
    def is_joint(self) -> bool:
        """Whether the shared parameter is regularised, shared or known, or a `tr` is given."""
        return self.share_b or any(v is not None for v in (self.lambda_b, self.fix_b, self.tr))

    @property
    def is_rician(self) -> bool:
        """Whether the likelihood is the Rician one."""
        return self.likelihood == "rician"

    @property
    def weight(self) -> float | None:
        """Weight of the penalty: 0 where no `lambda_b` is given, None for an automatic one."""
        return 0.0 if self.lambda_b is None else check_weight(self.lambda_b)

    def fitted_model(self, model: SignalModel) -> SignalModel:
        """Signal model whose parameters are fitted and bounded: with `tr` that of a finite TR.

        Without it that is `SignalModel.fitted`.

        Raises
        ------
        ValueError
            If `tr` is given and the model knows no finite repetition time.
        """
        if self.tr is None:
            return model.fitted
        if model.finite_tr is None:
            raise ValueError(f"a repetition time (`tr`) does not go with {model.name}.")
        return model.finite_tr.model(ANY_TR if isinstance(self.tr, str) else float(self.tr))

    def check(self, model: SignalModel) -> None:
        """Refuse options that a signal model cannot serve.

        Raises
        ------
        ValueError
            For bounds that are none, a repetition time that the model does not know, a weight, a
            known or a shared value of a model without a shared parameter or that is fitted voxel
            by voxel alone, or a known value outside the model's bounds of that parameter.
        """
        fitted = self.fitted_model(model)
        fit_bounds(fitted, self.bounds)
        if not self.is_joint:
            return
        if fitted.shared is None or fitted.shared_index is None:
            raise ValueError(
                f"{model.name} has no shared parameter, which `lambda_b`, `fix_b` and `share_b` "
                f"are about (its parameters: {', '.join(model.parameters)})."
            )
        is_nonlinear = suits(fitted) and self.tr is None
        if not is_nonlinear and (fitted.separable is None or fitted.known_maps):
            raise ValueError(
                f"{model.name} has no separable form: it is fitted voxel by voxel; leave "
                "`lambda_b`, `fix_b`, `share_b` and `tr` out."
            )
        low, high = fitted.bounds[fitted.shared_index]
        if self.fix_b is not None and not low <= self.fix_b <= high:
            raise ValueError(
                f"`fix_b` {self.fix_b:g}: expected {shared_words(fitted)} from {low:g} to {high:g}"
                + (f", as `tr` {_tr_words(self.tr)} is given." if self.tr is not None else ".")
            )

    def words(self, model: SignalModel) -> str:
        """Sentence part for logs and sidecars: the likelihood and what is shared or known."""
        name = shared_words(self.fitted_model(model))
        if self.fix_b is not None:
            way = f"{name} fixed at {self.fix_b:g}"
        elif self.share_b:
            way = f"one {name} for the mask"
        elif self.lambda_b is not None:
            way = f"{name} regularised, lambda {self.lambda_b}"
        else:
            way = "voxel-wise"
        if self.tr is not None:
            way = f"{way}, TR {_tr_words(self.tr)}"
        return f"{self.likelihood or ''} maximum likelihood, {way}".lstrip()

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

    def num_free(self, model: SignalModel) -> int:
        """Parameters that are not known: neither given as `fix_b` nor fixed by equal bounds."""
        fitted = self.fitted_model(model)
        limits = fit_bounds(fitted, self.bounds)
        free = limits[:, 1] > limits[:, 0]
        if self.fix_b is not None and fitted.shared_index is not None:
            free[fitted.shared_index] = False
        return int(free.sum())

    def num_fitted(self, model: SignalModel) -> int:
        """Parameters that are found from a voxel's own data: neither shared, smooth nor known.

        A penalty of weight 0 is none: its fit is the voxel-wise one.
        """
        fitted = self.fitted_model(model)
        limits = fit_bounds(fitted, self.bounds)
        free = limits[:, 1] > limits[:, 0]
        if (self.fix_b is not None or self.share_b or self.weight != 0) and (
            fitted.shared_index is not None
        ):
            free[fitted.shared_index] = False
        return int(free.sum())

    def fit(self, measurement: Measurement, progress: Callable[[int], object] | None = None) -> Fit:
        """Fit a series.

        Parameters
        ----------
        measurement : Measurement
            With its signal model; with `tr` still the one at infinite TR.
        progress : callable, optional
            Called with the number of voxels done since the last call.

        Returns
        -------
        fit : Fit
            A `relaxnet.fitting.regularised.RegularisedFit` if `is_joint`.

        Raises
        ------
        ValueError
            As `check`, and `relaxnet.fitting.voxelwise.fit_voxelwise`.
        """
        # The fits take these options, so that their modules cannot be imported above.
        from relaxnet.fitting import regularised, voxelwise

        self.check(measurement.model)
        if not self.is_joint:
            return voxelwise.fit_voxelwise(measurement, self, progress)
        if self.fix_b is not None:
            return regularised.fit_fixed(measurement, self.fix_b, self, progress)
        if self.share_b:
            return regularised.fit_shared(measurement, self, progress)
        return regularised.fit_regularised(measurement, self, progress)


#: The default: every voxel alone, the model's bounds.
VOXELWISE = FitOptions()


def check_weight(lambda_b: float | str) -> float | None:
    """Weight of a penalty, or None for an automatic one.

    Raises
    ------
    ValueError
        If it is neither a number >= 0 nor ``auto``.
    """
    if lambda_b == "auto":
        return None
    try:
        weight = float(lambda_b)
    except ValueError:
        raise ValueError(f"`lambda_b` {lambda_b}: expected a number or auto.") from None
    if not weight >= 0:
        raise ValueError(f"`lambda_b` must be a number >= 0 or auto, received {lambda_b!r}.")
    return weight


def shared_words(model: SignalModel) -> str:
    """What messages call the model's shared parameter; "no parameter" if it has none."""
    shared = model.shared
    return "no parameter" if shared is None else shared.label or shared.name


def _tr_words(tr: float | str) -> str:
    return f"of the {tr}s" if isinstance(tr, str) else f"{tr:g} ms"
