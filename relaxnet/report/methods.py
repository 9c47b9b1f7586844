"""Methods paragraph of a report, its references and their BibTeX entries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from relaxnet.maps.reader import Run
from relaxnet.maps.status import OK
from relaxnet.report.voxels import run_times
from relaxnet.series.foreground import RULES


@dataclass(frozen=True)
class Reference:
    """A paper.

    Attributes
    ----------
    key : str
        Of the BibTeX entry.
    authors, title, journal, volume, pages, year, doi : str
    """

    key: str
    authors: str
    title: str
    journal: str
    volume: str
    pages: str
    year: str
    doi: str

    @property
    def words(self) -> str:
        """Entry of a list of references, without the DOI."""
        names = self.authors.replace(" and ", ", ").removesuffix(".")
        pages = self.pages.replace("--", "–")
        return f"{names}. {self.title}. {self.journal} {self.volume}, {pages} ({self.year})."

    @property
    def bibtex(self) -> str:
        """BibTeX entry."""
        fields = ("title", "journal", "volume", "pages", "year", "doi")
        lines = [f"  author = {{{self.authors}}},"]
        lines += [f"  {name} = {{{getattr(self, name)}}}," for name in fields]
        return "\n".join([f"@article{{{self.key},", *lines, "}"])


SABIDUSSI = Reference(
    "sabidussi2021",
    "Sabidussi, E. R. and Klein, S. and Caan, M. W. A. and Bazrafkan, S. and den Dekker, A. J. "
    "and Sijbers, J. and Niessen, W. J. and Poot, D. H. J.",
    "Recurrent inference machines as inverse problem solvers for MR relaxometry",
    "Medical Image Analysis",
    "74",
    "102220",
    "2021",
    "10.1016/j.media.2021.102220",
)
BARRAL = Reference(
    "barral2010",
    "Barral, J. K. and Gudmundson, E. and Stikov, N. and Etezadi-Amoli, M. and Stoica, P. "
    "and Nishimura, D. G.",
    "A robust methodology for in vivo T1 mapping",
    "Magnetic Resonance in Medicine",
    "64",
    "1057--1067",
    "2010",
    "10.1002/mrm.22497",
)
GOLUB = Reference(
    "golub1973",
    "Golub, G. H. and Pereyra, V.",
    "The differentiation of pseudo-inverses and nonlinear least squares problems whose variables "
    "separate",
    "SIAM Journal on Numerical Analysis",
    "10",
    "413--432",
    "1973",
    "10.1137/0710036",
)
GUDBJARTSSON = Reference(
    "gudbjartsson1995",
    "Gudbjartsson, H. and Patz, S.",
    "The Rician distribution of noisy MRI data",
    "Magnetic Resonance in Medicine",
    "34",
    "910--914",
    "1995",
    "10.1002/mrm.1910340618",
)
OTSU = Reference(
    "otsu1979",
    "Otsu, N.",
    "A threshold selection method from gray-level histograms",
    "IEEE Transactions on Systems, Man, and Cybernetics",
    "9",
    "62--66",
    "1979",
    "10.1109/TSMC.1979.4310076",
)
DEICHMANN = Reference(
    "deichmann1992",
    "Deichmann, R. and Haase, A.",
    "Quantification of T1 values by SNAPSHOT-FLASH NMR imaging",
    "Journal of Magnetic Resonance",
    "96",
    "608--612",
    "1992",
    "10.1016/0022-2364(92)90347-A",
)
_EQUATIONS = {
    "inversion_recovery": "S(TI) = |A (1 - B exp(-TI / T1))|",
    "t2_decay": "S(TE) = A exp(-TE / T2)",
}
#: What A and B are in a fit with a repetition time.
_FINITE_TR = (
    " with A = M0 (1 + e exp(-TR / T1)) and B = (1 + e) / (1 + e exp(-TR / T1)) at an inversion "
    "efficiency e"
)
#: How sigma was found, by the beginning of the sidecar's words.
_NOISE = {
    "given": "was given",
    "none found": "is a floor, since no noise was found",
    "fit residuals": "was estimated from the residuals of a voxel-wise fit",
    "background": "was estimated from the background of the images",
}


class _Citations:
    """References in the order in which they are cited."""

    def __init__(self) -> None:
        self.cited: list[Reference] = []

    def __call__(self, *references: Reference) -> str:
        """Numbers in brackets."""
        for reference in references:
            if reference not in self.cited:
                self.cited.append(reference)
        return f"[{', '.join(str(self.cited.index(r) + 1) for r in references)}]"


def methods(run: Run) -> tuple[str, list[Reference]]:
    """Paragraph for a paper, and the references that it cites by number.

    Parameters
    ----------
    run : Run
        Whose sidecars say how it was made.

    Returns
    -------
    paragraph : str
    references : list of Reference
        In the order of their numbers.
    """
    cite = _Citations()
    sentences = [
        _estimated(run, cite),
        _std(run),
        _noise(run.sidecar),
        _mask(run.sidecar, cite),
        _correction(run.sidecar, cite),
        _comparison(run.sidecar),
        _flagged(run),
    ]
    return " ".join(s for s in sentences if s), cite.cited


def bibtex(run: Run) -> str:
    """BibTeX entries of the references and of the software."""
    entries = [reference.bibtex for reference in methods(run)[1]]
    software = [
        "@software{relaxnet,",
        "  author = {{The relaxsim and relaxnet developers}},",
        "  title = {relaxnet: T1 and T2 maps by recurrent inference machines},",
        f"  version = {{{run.sidecar.get('SoftwareVersion', '')}}},",
        "}",
    ]
    return "\n\n".join([*entries, "\n".join(software)])


def _estimated(run: Run, cite: _Citations) -> str:
    card, tau, model = run.sidecar, run_times(run), run.model
    names = [found.title for stem, found in run.maps.items() if stem.endswith("map")]
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    kind = "inversion" if "InversionTimesMs" in card else "echo"
    times = f"{tau.min():g} to {tau.max():g} ms" if tau.size else "times not recorded"
    equation = _equation(card, model.name) if model is not None else "not recorded"
    return (
        f"{listed} were estimated from {len(tau)} images at {kind} times of {times} with relaxnet "
        f"{card.get('SoftwareVersion', '')}, for the signal model {equation}, "
        f"{_method(card, model is not None and model.magnitude, cite)}."
    )


def _equation(card: dict[str, Any], model: str) -> str:
    """Signal model as it was estimated: with the sign or without, with a repetition time or not."""
    equation = _EQUATIONS.get(model, model)
    if card.get("DataTakenAs") == "signed":
        equation = equation.replace("|", "")
    return equation + (_FINITE_TR if ", TR " in str(card.get("Fit", "")) else "")


def _method(card: dict[str, Any], magnitude: bool, cite: _Citations) -> str:
    method, name = card.get("Method"), card.get("Network", "unnamed")
    digest = str(card.get("NetworkSHA256", ""))[:12]
    network = f"network {name}, SHA-256 {digest}..." if digest else f"network {name}"
    if method == "rim":
        return (
            f"by a recurrent inference machine {cite(SABIDUSSI)} ({network}), a recurrent "
            "convolutional network that refines the maps step by step from the likelihood of "
            "the data"
        )
    if method == "resnet":
        return f"by a residual convolutional network {cite(SABIDUSSI)} ({network})"
    fit = str(card.get("Fit", "maximum likelihood"))
    kind, _, field = fit.partition(", ")
    kind = kind.replace("gaussian", "Gaussian").replace("rician", "Rician")
    words = f"by {kind}{f' ({field})' if field else ''}, the linear parameters eliminated "
    words += cite(GOLUB)
    if magnitude and card.get("DataTakenAs") != "signed":
        words += f" and all polarities of the magnitude images tried {cite(BARRAL)}"
    if fit.startswith("rician"):
        words += f", for Rician noise {cite(GUDBJARTSSON)}"
    return words


def _std(run: Run) -> str:
    if not any(stem.endswith("std") for stem in run.maps):
        return ""
    if run.sidecar.get("Method") == "mle":
        return "Standard deviations are Cramér-Rao bounds at the estimates."
    return "Standard deviations are those of the network's calibrated error head."


def _noise(card: dict[str, Any]) -> str:
    if "Sigma" not in card:
        return ""
    source = str(card.get("SigmaSource", ""))
    how = next((words for start, words in _NOISE.items() if source.startswith(start)), "was found")
    return f"The noise standard deviation ({card['Sigma']:.4g} in image units) {how}."


def _mask(card: dict[str, Any], cite: _Citations) -> str:
    words = str(card.get("Mask", ""))
    if words.startswith("automatic") and RULES["both"] in words:
        return (
            f"Voxels were chosen by Otsu's threshold {cite(OTSU)} on the maximum over images, or "
            "by their power over the images, above that of the air's noise."
        )
    if words.startswith("automatic") and RULES["otsu"] in words:
        return f"Voxels were chosen by Otsu's threshold {cite(OTSU)} on the maximum over images."
    if words.startswith("automatic") and RULES["air"] in words:
        return "Voxels were chosen by their power over the images, above that of the air's noise."
    if words.startswith("automatic"):
        return "All voxels that are not zero were taken."
    return "Voxels were restricted to a given mask." if words.startswith("mask") else ""


def _correction(card: dict[str, Any], cite: _Citations) -> str:
    if str(card.get("T1Correction", "")).startswith("Look-Locker"):
        return f"T1 was corrected for the Look-Locker readout, T1 = T1* (B - 1) {cite(DEICHMANN)}."
    return ""


def _comparison(card: dict[str, Any]) -> str:
    found = card.get("Comparison")
    if not isinstance(found, dict) or "difference" not in found:
        return ""
    return (
        f"Where a voxel-wise fit was well determined ({100 * found['checked']:.0f} % of voxels), "
        f"the median difference from it was {100 * found['difference']:+.1f} %."
    )


def _flagged(run: Run) -> str:
    status, mask = run.status, run.mask
    if status is None or not mask.any():
        return ""
    flagged = 100 * float((status[mask] != OK).mean())
    return f"Of the mask's voxels {flagged:.1f} % were flagged and left out of summaries."
