"""Methods paragraph of a report, and the references that it cites."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from relaxnet.maps.reader import Run
from relaxnet.maps.status import OK
from relaxnet.report.facts import (
    Facts,
    MaskFacts,
    NoiseFacts,
    facts_of,
    parameter_stems,
)
from relaxnet.report.words import listed, way_words
from relaxsim.models.references import SABIDUSSI, Reference
from relaxsim.models.signal_model import SignalModel

GOLUB = Reference(
    key="golub1973",
    authors="Golub, G. H. and Pereyra, V.",
    title=(
        "The differentiation of pseudo-inverses and nonlinear least squares problems whose "
        "variables separate"
    ),
    journal="SIAM Journal on Numerical Analysis",
    year="1973",
    volume="10",
    pages="413--432",
    doi="10.1137/0710036",
)
GUDBJARTSSON = Reference(
    key="gudbjartsson1995",
    authors="Gudbjartsson, H. and Patz, S.",
    title="The Rician distribution of noisy MRI data",
    journal="Magnetic Resonance in Medicine",
    year="1995",
    volume="34",
    pages="910--914",
    doi="10.1002/mrm.1910340618",
)
OTSU = Reference(
    key="otsu1979",
    authors="Otsu, N.",
    title="A threshold selection method from gray-level histograms",
    journal="IEEE Transactions on Systems, Man, and Cybernetics",
    year="1979",
    volume="9",
    pages="62--66",
    doi="10.1109/TSMC.1979.4310076",
)
#: Ways in which sigma is found, to follow "The noise standard deviation".
_NOISE_SOURCES = {
    "given": "was given",
    "map": "was given as a map",
    "air": "was estimated from the background of the images",
    "residuals": "was estimated from the residuals of a voxel-wise fit",
    "floor": "is a floor, since no noise was found",
}
#: Rules of the automatic mask as sentences; {} is the reference to Otsu's method.
_MASK_RULES = {
    "otsu": "Voxels were chosen by Otsu's threshold {} on the maximum over images.",
    "both": (
        "Voxels were chosen by Otsu's threshold {} on the maximum over images, or by their power "
        "over the images, above that of the air's noise."
    ),
    "air": "Voxels were chosen by their power over the images, above that of the air's noise.",
    "all": "All voxels that are not zero were taken.",
}


class _Citations:
    """References in the order in which they are cited."""

    def __init__(self) -> None:
        self.cited: list[Reference] = []

    def __call__(self, *references: Reference) -> str:
        """Numbers in brackets, after a space; empty without references."""
        for reference in references:
            if reference not in self.cited:
                self.cited.append(reference)
        numbers = ", ".join(f"[{self.cited.index(reference) + 1}]" for reference in references)
        return f" {numbers}" if numbers else ""


def methods(run: Run) -> tuple[str, list[Reference]]:
    """Paragraph for a paper, and the references that it cites by number.

    Parameters
    ----------
    run : Run
        Of a known signal model, whose sidecars list the protocol.

    Returns
    -------
    paragraph : str
    references : list of Reference
        In the order of their numbers.
    """
    cite, facts = _Citations(), facts_of(run)
    sentences = [
        _estimated(run, facts, cite),
        _known(run, facts),
        _std(run),
        _noise(facts.noise),
        _mask(facts.mask, cite),
        _comparison(facts),
        _flagged(run),
    ]
    return " ".join(sentence for sentence in sentences if sentence), cite.cited


def bibtex(run: Run, references: Sequence[Reference]) -> str:
    """BibTeX entries of references and of the software."""
    software = [
        "@software{relaxnet,",
        "  author = {{The relaxsim and relaxnet developers}},",
        "  title = {relaxnet: T1 and T2 maps by recurrent inference machines},",
        f"  version = {{{run.sidecar.get('SoftwareVersion', '')}}},",
        "}",
    ]
    return "\n\n".join([*(reference.bibtex for reference in references), "\n".join(software)])


def _estimated(run: Run, facts: Facts, cite: _Citations) -> str:
    model, table = run.model, facts.protocol
    assert model is not None
    assert table is not None
    names = listed([run.maps[stem].title for stem in parameter_stems(run)])
    columns = [
        f"{border.words} of {_span(table[..., d])} {column.unit}"
        for d, (border, column) in enumerate(zip(model.border.columns, model.columns, strict=True))
    ]
    return (
        f"{names} were estimated from {table.shape[-2]} images at {listed(columns)} with relaxnet "
        f"{run.sidecar.get('SoftwareVersion', '')}, for the signal model"
        f"{cite(*model.border.papers)} {_equation(model, facts)}, "
        f"{_method(run, model, facts, cite)}."
    )


def _equation(model: SignalModel, facts: Facts) -> str:
    """Signal model as it was estimated: with the sign or without, with a repetition time or not."""
    border = model.border
    equation = border.signed_equation if facts.data.signed else border.equation
    if facts.fit.repetition_time is not None and border.finite_tr_words:
        equation += f" with {border.finite_tr_words}"
    return equation


def _method(run: Run, model: SignalModel, facts: Facts, cite: _Citations) -> str:
    card = run.sidecar
    if card.get("Method") == "mle":
        return _fit(model, facts, cite)
    digest = str(card.get("NetworkSHA256", ""))[:12]
    network = f"network {card.get('Network', 'unnamed')}"
    network += f", SHA-256 {digest}..." if digest else ""
    if card.get("Method") == "rim":
        return (
            f"by a recurrent inference machine{cite(SABIDUSSI)} ({network}), a recurrent "
            "convolutional network that refines the maps step by step from the likelihood of "
            "the data"
        )
    return f"by a residual convolutional network{cite(SABIDUSSI)} ({network})"


def _fit(model: SignalModel, facts: Facts, cite: _Citations) -> str:
    fit = facts.fit
    if fit.likelihood:
        words = f"by {fit.likelihood.capitalize()} maximum likelihood ({way_words(model, fit)})"
    else:
        words = f'by a fit that its sidecars call "{fit.text}"' if fit.text else "by a fit"
    words += cite(*model.border.fit_papers)
    details = []
    if model.separable is not None:
        details.append(f"the linear parameters eliminated{cite(GOLUB)}")
    if model.magnitude and facts.data.signed is False:
        details.append("all polarities of the magnitude images tried")
    if fit.likelihood == "rician":
        details.append(f"the noise taken for Rician{cite(GUDBJARTSSON)}")
    return f"{words}, with {listed(details)}" if details else words


def _known(run: Run, facts: Facts) -> str:
    """Known maps that entered the signal."""
    assert run.model is not None
    sentences = []
    for known, border in zip(run.model.known_maps, run.model.border.known, strict=True):
        if facts.known.get(known.name):
            sentences.append(f"A map of the {border.words} ({known.name}) entered the signal.")
        else:
            sentences.append(
                f"The sidecars name no map of the {border.words} ({known.name}); without one it "
                f"is taken as {known.default:g}."
            )
    return " ".join(sentences)


def _std(run: Run) -> str:
    if not any(stem.endswith("std") for stem in run.maps):
        return ""
    if run.sidecar.get("Method") == "mle":
        return "Standard deviations are Cramér-Rao bounds at the estimates."
    return "Standard deviations are those of the network's calibrated error head."


def _noise(noise: NoiseFacts) -> str:
    if noise.sigma is None:
        return ""
    value = f"{noise.sigma:.4g} in image units"
    if noise.source in _NOISE_SOURCES:
        return f"The noise standard deviation ({value}) {_NOISE_SOURCES[noise.source]}."
    words = f"The noise standard deviation was {value}"
    return (
        f'{words}; the sidecars name as its source "{noise.text}".' if noise.text else f"{words}."
    )


def _mask(mask: MaskFacts, cite: _Citations) -> str:
    if mask.kind == "auto" and mask.rule in _MASK_RULES:
        sentence = _MASK_RULES[mask.rule]
        return sentence.replace(" {}", cite(OTSU)) if "{}" in sentence else sentence
    if mask.kind in ("file", "array"):
        return "Voxels were restricted to a given mask."
    return (
        f'The sidecars describe the mask as "{mask.text}".' if mask.text and not mask.kind else ""
    )


def _comparison(facts: Facts) -> str:
    if facts.checked is None or facts.difference is None:
        return ""
    return (
        f"Where a voxel-wise fit was well determined ({100 * facts.checked:.0f} % of voxels), "
        f"the median difference from it was {100 * facts.difference:+.1f} %."
    )


def _flagged(run: Run) -> str:
    status, mask = run.status, run.mask
    if status is None or not mask.any():
        return ""
    flagged = 100 * float((status[mask] != OK).mean())
    return f"Of the mask's voxels {flagged:.1f} % were flagged and left out of summaries."


def _span(values: np.ndarray) -> str:
    low, high = float(values.min()), float(values.max())
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
