"""Facts of a run in a few words, for tables and headings."""

from __future__ import annotations

import math
from collections.abc import Sequence

from relaxnet.maps.reader import Run
from relaxnet.report.facts import DataFacts, Facts, FitFacts, MaskFacts, NoiseFacts
from relaxnet.series.foreground import RULES
from relaxsim.models.signal_model import SignalModel

#: Ways in which sigma is found.
_NOISE_WORDS = {
    "given": "given",
    "map": "a given map, of which this is the median",
    "air": "background of the images",
    "residuals": "residuals of a voxel-wise fit",
    "floor": "no noise found; this is a floor",
}
_NETWORKS = {"rim": "recurrent inference machine", "resnet": "residual network"}


def fit_words(run: Run, facts: Facts) -> str:
    """The maximum-likelihood fit in a few words; those of the sidecars in earlier versions."""
    fit = facts.fit
    if not fit.likelihood:
        return fit.text or "maximum likelihood"
    return f"{fit.likelihood.capitalize()} maximum likelihood, {way_words(run.model, fit)}"


def network_words(run: Run) -> str:
    """The network in a few words."""
    kind = _NETWORKS.get(str(run.sidecar.get("Method")), "network")
    return f"{kind} {run.sidecar.get('Network', '')}".strip()


def data_words(data: DataFacts) -> str:
    """What the samples were taken for; the words of the sidecars in earlier versions."""
    if data.signed is None:
        return data.text
    if data.modulus:
        return "the modulus of signed data"
    if data.signed:
        return "signed"
    return "magnitude with Rician noise" if data.rician else "magnitude"


def noise_words(noise: NoiseFacts) -> str:
    """How sigma was found; the words of the sidecars in earlier versions."""
    if not noise.source:
        return noise.text
    words = _NOISE_WORDS.get(noise.source, noise.source)
    return f"{words} ({noise.reason})" if noise.reason else words


def noise_rows(noise: NoiseFacts) -> list[tuple[str, str]]:
    """Other figures of the noise, by their names; a figure that is not recorded is empty."""
    air = f"not usable: {noise.air_unusable}" if noise.air_unusable else _figure(noise.air_sigma)
    if noise.air_kind and noise.air_voxels is not None:
        air += f" ({noise.air_kind}, {noise.air_voxels:.0f} voxels)"
    return [
        ("Noise of the background", air),
        ("Noise of fit residuals", _figure(noise.residual_sigma)),
        ("Sigma given, but not used", _figure(noise.given_sigma)),
    ]


def mask_words(mask: MaskFacts) -> str:
    """How the mask was found; the words of the sidecars in earlier versions."""
    if mask.kind in ("", "none"):
        return "no mask" if mask.kind else mask.text
    words = {"array": "a given mask"}.get(mask.kind, mask.kind)
    if mask.kind == "auto":
        words = f"automatic mask, {RULES.get(mask.rule, mask.rule)}"
    if mask.kind == "file":
        words = f"mask {mask.file}{f' from {mask.half:g} up' if mask.half else ''}"
    return words if mask.share is None else f"{words} ({100 * mask.share:.0f} % of voxels)"


def _figure(sigma: float | None) -> str:
    return "" if sigma is None else f"{sigma:.5g} a.u."


def way_words(model: SignalModel | None, fit: FitFacts) -> str:
    """What a fit does with the shared parameter, and its repetition time."""
    shared = "the shared parameter"
    if model is not None and model.shared is not None:
        shared = model.shared.name
    if fit.fixed is not None:
        words = f"{shared} fixed at {fit.fixed:g}"
    elif fit.shared:
        words = f"one {shared} for the mask"
    elif fit.weight is not None:
        weight = "infinite" if math.isinf(fit.weight) else f"{fit.weight:.3g}"
        chosen = ", chosen by the data" if fit.weight_chosen else ""
        words = f"{shared} smooth in space, penalty of weight {weight}{chosen}"
    else:
        words = "voxel-wise"
    if fit.repetition_time is not None:
        words += f", repetition time {fit.repetition_time:g} ms"
    return words


def listed(names: Sequence[str]) -> str:
    """Names as a list in a sentence.

    Examples
    --------
    >>> listed(["A", "B", "T1"])
    'A, B and T1'
    """
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
