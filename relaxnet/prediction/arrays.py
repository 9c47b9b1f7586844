"""Prediction on arrays: a weighted series in, its maps out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from relaxnet.fitting.inputs import check_series as check_input
from relaxnet.fitting.options import VOXELWISE, FitOptions
from relaxnet.maps.look_locker import check_method, check_model
from relaxnet.maps.maps import Maps
from relaxnet.maps.status import OK, input_status
from relaxnet.networks.registry import (
    DEFAULT_NETWORK,
    find_model,
    load_network,
    no_default,
    read_card,
)
from relaxnet.networks.training_domain import Envelope, check_series, envelope_of
from relaxnet.prediction.estimators import by_fit, by_network, check_network
from relaxnet.prediction.quality import (
    compared,
    corrected,
    flag_poor_fit,
    flag_untrained,
    series_cautions,
    told_apparent,
    with_residual,
)
from relaxnet.series.foreground import automatic_mask
from relaxnet.series.noise import Noise, checked_sigma, find_noise, settle_sigma
from relaxnet.series.scale import series_scale
from relaxsim.models.protocols import check_times
from relaxsim.models.registry import MODELS, signal_model
from relaxsim.models.signal_model import SignalModel

METHODS = ("rim", "resnet", "mle")


def predict(
    S: np.ndarray,
    tau: np.ndarray,
    model: SignalModel | str,
    method: str | None = None,
    network: Any = None,
    sigma: float | np.ndarray | None = None,
    mask: np.ndarray | None = None,
    signed: bool | None = None,
    fit: FitOptions = VOXELWISE,
    spacing: tuple[float, ...] | None = None,
    progress: Callable[[int], object] | None = None,
    *,
    envelope: Envelope | None = None,
    compare: bool = False,
    look_locker: bool = False,
    save_fit: bool = False,
    force: bool = False,
) -> Maps:
    """Estimate maps of a series in arrays.

    Parameters
    ----------
    S : array, shape (X, Y, Z, N)
        Weighted images; the networks see slices along the third axis.
    tau : array, shape (N,)
        Times in ms, in the order of the images.
    model : SignalModel or str
        ``"tis"`` if `tau` are inversion times, ``"tes"`` if they are echo times; or a model or its
        name.
    method : str, optional
        ``rim``, ``resnet`` or ``mle``; default: the kind of `network`, else ``rim``.
    network : network, path or str, optional
        For ``rim`` and ``resnet``: loaded (`relaxnet.networks.registry.load_network`, once for many
        series), a file, or the name of a shipped one; default: the one shipped for `model`.
    sigma : float or array, shape (X, Y, Z), optional
        Noise standard deviation in the unit of S; default: found in the data
        (`relaxnet.series.noise.find_noise`). Of an array, fits and recurrent networks take each
        voxel's; a ResNet makes no use of it. One that the residuals of a fit contradict is scaled
        to them (`relaxnet.series.noise.settle_sigma`).
    mask : bool array, shape (X, Y, Z), optional
        Default: every voxel is mapped; scale and noise are those of the foreground
        (`relaxnet.series.foreground.automatic_mask`).
    signed : bool, optional
        The data carry the signal's sign; default: if more than 1 % of the mask's samples lie
        below -5 sigma. A ResNet takes the modulus of inversion recovery in any case.
    fit : FitOptions
        Of the maximum-likelihood fit. Its likelihood is, if it names none, the Rician one for
        magnitudes whose scale is below `relaxnet.fitting.options.RICIAN_BELOW` sigma.
    spacing : (float, float, float), optional
        Voxel size, for a B that is regularised in three dimensions.
    progress : callable, optional
        Called with the number of slices (networks) or voxels (``mle``) done since the last call.
    envelope : Envelope, optional
        What a loaded network was trained for; of a named one its card says so.
    compare : bool
        Also fit voxel by voxel, and mark where a network disagrees with the fit.
    look_locker : bool
        Correct T1 for a Look-Locker readout: ``T1 = T1* (B - 1)``.
    save_fit : bool
        Keep the signal of the estimates in `Maps.predicted`.
    force : bool
        Take a network far outside its envelope, and a sigma that the data contradict.

    Returns
    -------
    Maps

    Raises
    ------
    ValueError
        If times, network, sigma or mask do not suit the series, or it lies far outside the
        network's envelope.

    Examples
    --------
    >>> from relaxsim.models.t2_decay import MODEL as T2_DECAY
    >>> tau = np.array([10.0, 30.0, 90.0, 200.0])
    >>> truth = np.broadcast_to([1000.0, 85.0], (4, 4, 1, 2))
    >>> maps = predict(T2_DECAY.forward(truth, tau), tau, "tes", method="mle", sigma=5.0)
    >>> float(maps["T2"][0, 0, 0].round(1)), int(maps.status.max())
    (85.0, 0)
    """
    S, tau, model = np.asarray(S), np.asarray(tau, np.float64), _model(model)
    check_input(S, tau, model)
    _check_arguments(S, tau, model, look_locker, fit)
    method, network, envelope = _network(method, network, envelope, model, compare)
    if look_locker:
        check_method(method, force)
    if network is not None:
        check_network(network, model, len(tau), method)
    S = S if S.dtype.kind == "f" else S.astype(np.float32)
    status = input_status(S, mask)
    if not (status == OK).any():
        raise ValueError("no voxel of the mask holds finite values that are not zero.")
    counted = (status == OK) & (True if mask is not None else automatic_mask(S))
    scale = series_scale(S, counted)
    level = None if sigma is None else checked_sigma(sigma, status == OK)
    noise = find_noise(S, tau, model, counted, scale, level, signed)
    noise, contradiction = settle_sigma(S, tau, model, counted, noise, keep=force)
    typical = float(np.median(np.broadcast_to(noise.sigma, status.shape)[counted]))
    warnings = (
        *_envelope_warnings(envelope, tau, typical / scale, force),
        *series_cautions(S, tau, counted, typical, model),
        *_sign_warnings(S, counted, model, signed),
        *([contradiction] if contradiction else []),
    )
    fit = fit.for_noise(noise.rician, scale / typical)
    if network is None:
        estimate = by_fit(S, tau, model, noise, status, fit, spacing, progress)
    else:
        estimate = by_network(S, tau, model, noise, status, network, scale, progress)
    maps = Maps(
        kappa=estimate.kappa,
        std=estimate.std,
        residual=np.zeros(status.shape, np.float32),
        status=estimate.status,
        model=model,
        sigma=typical,
        sigma_source=noise.source,
        signed=noise.signed,
        rician=_taken_as_rician(noise, network, fit),
        scale=scale,
        method=method,
        lambda_b=estimate.lambda_b,
        notes=tuple(_notes(S, tau)),
        warnings=warnings,
    )
    maps = flag_untrained(maps, envelope)
    maps = with_residual(maps, S, tau, noise, save_fit)
    maps = flag_poor_fit(maps, S, tau, noise, fit)
    if compare:
        maps = compared(maps, by_fit(S, tau, model, noise, status, fit))
    return corrected(maps, tau) if look_locker else told_apparent(maps, tau, counted)


def _model(model: SignalModel | str) -> SignalModel:
    """Signal model by itself, its name, or the option of its times."""
    if isinstance(model, SignalModel):
        return model
    return next((m for m in MODELS.values() if m.times == model), None) or signal_model(model)


def _taken_as_rician(noise: Noise, network: Any, fit: FitOptions) -> bool:
    """Whether the method's likelihood is the Rician one."""
    if network is None:
        return fit.likelihood == "rician"
    return noise.rician and getattr(network, "knows_rician", False)


def _check_arguments(
    S: np.ndarray, tau: np.ndarray, model: SignalModel, correct: bool, fit: FitOptions
) -> None:
    if S.ndim != 4:
        raise ValueError(f"the series has shape {S.shape}, expected (X, Y, Z, images).")
    if model.times in ("tis", "tes"):
        check_times(tau, model.times, "tau")
    if correct:
        check_model(model)
    if fit.tr == "sidecar":
        raise ValueError("tr is 'sidecar', but arrays have no sidecars; give it in ms.")
    fit.check(model)
    if correct and fit.tr is not None:
        raise ValueError(
            "--look-locker and --tr exclude each other: during a train of readouts the "
            "magnetisation does not recover freely."
        )
    if fit.tr is not None and model.finite_tr is not None:
        model.finite_tr.check(float(fit.tr), tau[:, None])


def _network(
    method: str | None, network: Any, envelope: Envelope | None, model: SignalModel, compare: bool
) -> tuple[str, Any, Envelope | None]:
    """Method, the network loaded, and its envelope."""
    if method not in (None, *METHODS):
        raise ValueError(f"method is {method!r}, expected one of {', '.join(METHODS)}")
    if method == "mle":
        if network is not None:
            raise ValueError("method mle takes no network.")
        if compare:
            raise ValueError("there is nothing to compare: the method is the fit itself.")
        return "mle", None, None
    if network is None and method in (None, "rim") and model.name in DEFAULT_NETWORK:
        network = DEFAULT_NETWORK[model.name]
    if network is None:
        raise ValueError(no_default(method or "rim", model.name))
    if isinstance(network, str | Path):
        path = find_model(network)
        network = load_network(path)
        envelope = envelope or envelope_of(read_card(path), model)
    return method or network.kind, network, envelope


def _envelope_warnings(
    envelope: Envelope | None, tau: np.ndarray, sigma: float, force: bool
) -> tuple[str, ...]:
    """What to warn of; `sigma` is relative to the scale."""
    if envelope is None:
        return ()
    verdict = check_series(envelope, tau, sigma)
    if verdict.refusals and not force:
        raise ValueError(
            f"the series is far outside of what the network was trained for: "
            f"{'; '.join(verdict.refusals)}. Take another network or --method mle, or insist with "
            "--force."
        )
    said = (*verdict.refusals, *verdict.warnings)
    return (f"outside of what the network was trained for: {'; '.join(said)}",) if said else ()


def _sign_warnings(
    S: np.ndarray, mask: np.ndarray, model: SignalModel, signed: bool | None
) -> Iterator[str]:
    """What to say of magnitudes that may have been given as signed data."""
    if signed and model.magnitude and not (S[mask] < 0).any():
        yield (
            "the data are given as signed, and no sample is negative: of magnitudes T1 is wrong "
            "wherever an inversion time lies before the zero crossing"
        )


def _notes(S: np.ndarray, tau: np.ndarray) -> Iterator[str]:
    if (np.diff(tau) < 0).any():
        yield "the times do not rise; they are taken in the order of the images"
    zero = [str(n + 1) for n in range(S.shape[-1]) if not S[..., n].any()]
    if zero:
        yield f"zero everywhere: image {', '.join(zero)} of {S.shape[-1]}"
