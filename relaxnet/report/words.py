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
    return _NOISE_WORDS.get(noise.source, noise.source) if noise.source else noise.text


def mask_words(mask: MaskFacts) -> str:
    """How the mask was found; the words of the sidecars in earlier versions."""
    if mask.kind == "auto":
        return f"automatic mask, {RULES.get(mask.rule, mask.rule)}"
    if mask.kind == "file":
        return f"mask {mask.file}".rstrip()
    return {"none": "no mask", "array": "a given mask"}.get(mask.kind, mask.kind) or mask.text


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
