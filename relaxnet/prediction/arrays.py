"""Prediction on arrays: a weighted series in, its maps out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from relaxnet.fitting.inputs import Measurement
from relaxnet.fitting.inputs import check_series as check_input
from relaxnet.fitting.options import VOXELWISE, FitOptions
from relaxnet.maps.maps import DataKind, FitKind, Maps
from relaxnet.maps.status import OK, input_status
from relaxnet.networks.registry import find_model, loaded, no_default, read_card
from relaxnet.networks.training_domain import Envelope, check_series, envelope_of
from relaxnet.prediction.estimators import by_fit, by_network, check_network
from relaxnet.prediction.inspection import (
    Inspected,
    Mask,
    checked_known,
    chosen_mask,
    inspect,
    known_stack,
    plain_array,
)
from relaxnet.prediction.own_information import flag_unknown
from relaxnet.prediction.quality import (
    compared,
    course_notes,
    fault_warnings,
    flag_poor_fit,
    flag_untrained,
    series_caution,
    with_bound_note,
    with_cautions,
    with_residual,
)
from relaxnet.prediction.repair import Repaired, repaired
from relaxnet.series.foreground import MaskKind, MaskSource
from relaxnet.series.images import Images
from relaxsim.models.protocols import check_column
from relaxsim.models.registry import model_of, sequence_flags
from relaxsim.models.signal_model import SignalModel

METHODS = ("rim", "resnet", "mle")
FIT = "mle"


@dataclass(frozen=True)
class Estimator:
    """What estimates the maps.

    Attributes
    ----------
    method : str
        ``rim``, ``resnet`` or ``mle``.
    network : network or None
        None of ``mle``.
    envelope : Envelope, optional
        What the network was trained for.
    fit : FitOptions
        Of the maximum-likelihood fit.
    """

    method: str
    network: Any = None
    envelope: Envelope | None = None
    fit: FitOptions = VOXELWISE


@dataclass(frozen=True)
class ArrayRequest:
    """A series in arrays, and the maps that are wanted of it.

    Attributes
    ----------
    series : Measurement
        Images (X, Y, Z, N), slices along the third axis; the protocol as a table (N, D) or
        (Z, N, D); sigma as given or None; the mask or None for every voxel; known maps with a value
        everywhere. Its `signed` has no meaning here.
    images : Images
        Those of the series, of floating point.
    mask : MaskKind
    estimator : Estimator
    signed : bool, optional
        As given by the user.
    compare, save_fit, force : bool
        See `predict`.
    warnings : tuple of str
        Of what was given.
    progress : callable, optional
    """

    series: Measurement
    images: Images
    mask: MaskKind
    estimator: Estimator
    signed: bool | None = None
    compare: bool = False
    save_fit: bool = False
    force: bool = False
    warnings: tuple[str, ...] = ()
    progress: Callable[[int], object] | None = None


def predict(
    S: np.ndarray,
    tau: np.ndarray,
    model: SignalModel | str,
    method: str | None = None,
    network: Any = None,
    sigma: float | np.ndarray | None = None,
    mask: Mask = None,
    signed: bool | None = None,
    fit: FitOptions = VOXELWISE,
    spacing: tuple[float, ...] | None = None,
    progress: Callable[[int], object] | None = None,
    *,
    known: np.ndarray | Mapping[str, np.ndarray] | None = None,
    envelope: Envelope | None = None,
    compare: bool = False,
    save_fit: bool = False,
    force: bool = False,
    **flags: bool,
) -> Maps:
    """Estimate maps of a series in arrays.

    Parameters
    ----------
    S : array, shape (X, Y, Z, N)
        Weighted images; the networks see slices along the third axis.
    tau : array, shape (N,), (N, D) or (Z, N, D)
        The protocol, in the order of the images: times in ms, or a row an image in the units of the
        model's columns; with three axes each slice has its own.
    model : SignalModel or str
        A signal model, its name, its sequence, or the option of its times: ``"tis"`` for inversion
        times, ``"tes"`` for echo times.
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
    mask : bool array, shape (X, Y, Z), "auto", "none" or None
        Voxels to map: those of an array; ``"auto"``: the foreground
        (`relaxnet.series.foreground.automatic_mask`); ``"none"`` or None, the default here: every
        voxel, of which scale and noise are those of the foreground.
    signed : bool, optional
        The data carry the signal's sign; default: if more than 1 % of the mask's samples lie
        below -5 sigma. A ResNet takes the modulus of inversion recovery in any case.
    fit : FitOptions
        Of the maximum-likelihood fit. Its likelihood is, if it names none, the Rician one for
        magnitudes whose scale is below `relaxnet.fitting.options.RICIAN_BELOW` sigma.
    spacing : (float, float, float), optional
        Voxel size, for a shared parameter that is regularised in three dimensions.
    progress : callable, optional
        Called with the number of slices (networks) or voxels (``mle``) done since the last call.
    known : array, shape (X, Y, Z, K), or mapping of str to array, shape (X, Y, Z), optional
        Known maps of the model, in the order of `SignalModel.known_maps` or by their names; a map
        that is not given has its default value everywhere, and a warning says so.
    envelope : Envelope, optional
        What a loaded network was trained for; of a named one its card says so.
    compare : bool
        Also fit voxel by voxel, and mark where a network disagrees with the fit.
    save_fit : bool
        Keep the signal of the estimates in `Maps.predicted`.
    force : bool
        Take a network far outside its envelope, and a sigma that the data contradict.
    **flags : bool
        Names that stand for a sequence: ``look_locker=True`` is the same as `model` look-locker.

    Returns
    -------
    Maps

    Raises
    ------
    ValueError
        If protocol, network, sigma, mask or known maps do not suit the series, or it lies far
        outside the network's envelope.

    Examples
    --------
    >>> from relaxsim.models.t2_decay import MODEL as T2_DECAY
    >>> tau = np.array([10.0, 30.0, 90.0, 200.0])
    >>> truth = np.broadcast_to([1000.0, 85.0], (4, 4, 1, 2))
    >>> maps = predict(T2_DECAY.forward(truth, tau), tau, "tes", method="mle", sigma=5.0)
    >>> float(maps["T2"][0, 0, 0].round(1)), int(maps.status.max())
    (85.0, 0)
    """
    S, model = plain_array(S, "S", np.nan), _model(model, flags)
    if mask is not None and not isinstance(mask, str):
        mask = plain_array(mask, "mask", False)
    if sigma is not None and not isinstance(sigma, int | float):
        sigma = plain_array(sigma, "sigma", np.nan)
    if isinstance(known, Mapping):
        known = {name: plain_array(values, name, np.nan) for name, values in known.items()}
    elif known is not None:
        known = plain_array(known, "known", np.nan)
    estimator = _estimator(method, network, envelope, model, compare)
    fit.check(model)
    num_free = fit.num_free(model) if estimator.method == FIT else None
    table = _checked_protocol(S, np.asarray(tau, np.float64), model, num_free)
    S = S if S.dtype.kind == "f" else S.astype(np.float32)
    images = Images(S)
    inside, kind = chosen_mask(mask, images)
    stack, warnings = known_stack(known, model, S.shape[:3])
    request = ArrayRequest(
        Measurement(S, table, model, sigma, inside, known=stack, spacing=spacing),
        images,
        kind,
        replace(estimator, fit=fit),
        signed,
        compare,
        save_fit,
        force,
        warnings,
        progress,
    )
    return estimate_maps(request)


def _model(model: SignalModel | str, flags: Mapping[str, bool]) -> SignalModel:
    """Signal model that is asked for, by itself or by a flag that stands for another sequence.

    Raises
    ------
    TypeError
        If there is no such flag.
    ValueError
        If the model has other columns than the flag's.
    """
    found, known = model_of(model), sequence_flags()
    for flag, wanted in flags.items():
        if flag not in known:
            raise TypeError(f"there is no argument {flag!r}.")
        border = known[flag].border
        if wanted and border.options != found.border.options:
            needs = " and ".join(f"{c.words} (`{c.option}`)" for c in border.columns)
            raise ValueError(f"`{flag}` needs {needs}; this is {found.name}.")
        found = known[flag] if wanted else found
    return found


def estimate_maps(request: ArrayRequest) -> Maps:
    """Estimate the maps of a request.

    Raises
    ------
    ValueError
        As `predict`.
    """
    _check_options(request)
    series, estimator, model = request.series, request.estimator, request.series.model
    network = estimator.network
    if network is not None:
        check_network(network, model, series.S.shape[-1], estimator.method)
    if model.known_maps:
        inside = input_status(request.images, series.mask) == OK
        known, said = checked_known(series.known, model, inside)
        series = replace(series, known=known)
        request = replace(request, series=series, warnings=(*request.warnings, *said))
    repair = repaired(series, request.images, request.signed)
    series = repair.series
    if repair.left_out:
        _check_remainder(repair, estimator)
        request = replace(request, series=series, images=repair.images)
    if request.mask.source is MaskSource.AUTO and (repair.left_out or repair.reversed_sign):
        inside, kind = chosen_mask("auto", repair.images)
        series = replace(series, mask=inside)
        request = replace(request, mask=kind)
    found = inspect(series, repair.images, request.signed, request.force)
    sigma = found.typical_sigma
    warnings = (
        *request.warnings,
        *repair.warnings,
        *_envelope_warnings(estimator.envelope, series, sigma / found.scale, request.force),
        *_series_warnings(found, request.signed),
    )
    fit = estimator.fit.for_noise(found.noise.rician, found.scale / sigma)
    if network is None:
        estimate = by_fit(found, fit, request.progress)
    else:
        estimate = by_network(found, network, request.progress)
    maps = Maps(
        kappa=estimate.kappa,
        std=estimate.std,
        residual=np.zeros(found.status.shape, np.float32),
        status=estimate.status,
        model=model,
        sigma=sigma,
        noise=found.noise.source,
        data=_data_kind(found, network, fit),
        scale=found.scale,
        method=estimator.method,
        mask=request.mask,
        fit=FitKind(fit, estimate.lambda_b) if network is None else None,
        equilibrium=estimate.equilibrium,
        notes=(*_notes(series), *course_notes(found)),
        warnings=warnings,
        left_out=repair.left_out,
    )
    maps = flag_untrained(maps, estimator.envelope)
    if maps.fit is None:
        maps = flag_unknown(maps, found)
    maps = with_residual(maps, found, request.save_fit)
    maps = flag_poor_fit(maps, found, fit)
    if request.compare:
        maps = compared(maps, by_fit(found, fit))
    maps = with_bound_note(maps, found)
    return with_cautions(maps, found)


def _checked_protocol(
    S: np.ndarray, protocol: np.ndarray, model: SignalModel, num_free: int | None = None
) -> np.ndarray:
    """Protocol as a table (N, D) or (Z, N, D), refused if no series can have it."""
    if S.ndim != 4:
        raise ValueError(f"the series has shape {S.shape}, expected (X, Y, Z, images).")
    table = np.asarray(model.table(protocol))
    if table.ndim == 3 and len(table) != S.shape[2]:
        raise ValueError(f"the protocol has {len(table)} slices, the series has {S.shape[2]}.")
    check_input(S, table, model, num_free)
    for rows in table if table.ndim == 3 else table[None]:
        for d, column in enumerate(model.border.columns):
            check_column(rows[:, d], column, "tau")
    return table


def _check_options(request: ArrayRequest) -> None:
    """Refuse options that do not go together."""
    model, fit = request.series.model, request.estimator.fit
    if fit.tr == "sidecar":
        raise ValueError("`tr` is 'sidecar', but arrays have no sidecars; give it in ms.")
    fit.check(model)
    if fit.tr is not None and model.finite_tr is not None:
        model.finite_tr.check(float(fit.tr), request.series.protocol)


def _check_remainder(repair: Repaired, estimator: Estimator) -> None:
    """Refuse a series of which too little is left without the images that are at fault.

    Raises
    ------
    ValueError
    """
    series = repair.series
    num_free = estimator.fit.num_free(series.model) if estimator.network is None else None
    try:
        check_input(series.S, series.protocol, series.model, num_free)
        if estimator.network is not None:
            num_images = series.S.shape[-1]
            check_network(estimator.network, series.model, num_images, estimator.method)
    except ValueError as error:
        raise ValueError(f"{'; '.join(repair.warnings)}; then {error}") from None


def _estimator(
    method: str | None, network: Any, envelope: Envelope | None, model: SignalModel, compare: bool
) -> Estimator:
    """Method, the network loaded, and its envelope."""
    if method not in (None, *METHODS):
        raise ValueError(f"method is {method!r}, expected one of {', '.join(METHODS)}")
    if method == FIT:
        if network is not None:
            raise ValueError("method mle takes no network.")
        if compare:
            raise ValueError("there is nothing to compare: the method is the fit itself.")
        return Estimator(FIT)
    if network is None and method in (None, "rim"):
        network = model.border.default_network or None
    if network is None:
        raise ValueError(no_default(method or "rim", model.name))
    if isinstance(network, str | Path):
        path = find_model(network)
        network = loaded(path)
        envelope = envelope or envelope_of(read_card(path), model)
    return Estimator(method or network.architecture, network, envelope)


def _data_kind(found: Inspected, network: Any, fit: FitOptions) -> DataKind:
    """What the method takes the images for."""
    signed = found.noise.signed
    if network is None:
        return DataKind(signed, rician=fit.likelihood == "rician")
    modulus = signed and not network.takes_sign
    return DataKind(signed, modulus, found.noise.rician and network.takes_rician)


def _envelope_warnings(
    envelope: Envelope | None, series: Measurement, sigma: float, force: bool
) -> tuple[str, ...]:
    """Warnings of a series outside the training range; `sigma` is relative to the scale."""
    if envelope is None:
        return ()
    verdict = check_series(envelope, series.protocol, sigma)
    if verdict.refusals and not force:
        raise ValueError(
            f"the series is far outside of what the network was trained for: "
            f"{'; '.join(verdict.refusals)}. Take another network or `method` mle, or insist with "
            "`force`."
        )
    outside = (*verdict.refusals, *verdict.warnings)
    if not outside:
        return ()
    return (f"outside of what the network was trained for: {'; '.join(outside)}",)


def _series_warnings(found: Inspected, signed: bool | None) -> Iterator[str]:
    """Warnings about the series: its model's, a sign that is none, a sigma contradicted."""
    yield from fault_warnings(found)
    caution = series_caution(found)
    if caution is not None:
        yield caution
    if signed and found.model.magnitude and not (found.series.S[found.counted] < 0).any():
        words = found.model.border.columns[0].words.removesuffix("s")
        yield (
            "the data are given as signed, and no sample is negative: of magnitudes "
            f"{found.model.main_label} is wrong wherever an {words} lies before the zero crossing"
        )
    if found.contradiction is not None:
        yield str(found.contradiction)


def _notes(series: Measurement) -> Iterator[str]:
    table = series.protocol
    if len(series.model.columns) == 1 and (np.diff(table[..., 0], axis=-1) < 0).any():
        yield "the times do not rise; they are taken in the order of the images"
