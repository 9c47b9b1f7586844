"""Sections of a report that say how a run was made: protocol, methods, command, versions."""

from __future__ import annotations

import platform
from importlib import metadata

from relaxnet.maps.reader import Run
from relaxnet.report.html import Html, element, joined, scrolling, table
from relaxnet.report.methods import bibtex, methods
from relaxnet.report.voxels import run_times

_PACKAGES = ("numpy", "scipy", "nibabel", "keras", "tensorflow")


def acquisition_section(run: Run) -> Html:
    """Protocol and noise as a table."""
    card, tau = run.sidecar, run_times(run)
    name = "Inversion times" if "InversionTimesMs" in card else "Echo times"
    rows = [
        (f"{name} (ms)", " ".join(f"{t:g}" for t in tau)),
        ("Protocol", str(card.get("Protocol", ""))),
        ("Data taken as", str(card.get("DataTakenAs", ""))),
        ("Noise sigma", f"{card.get('Sigma', float('nan')):.5g} a.u."),
        ("Sigma from", str(card.get("SigmaSource", ""))),
        ("Mask", str(card.get("Mask", ""))),
    ]
    if "T1Correction" in card:
        rows.append(("T1 correction", str(card["T1Correction"])))
    return table(("Quantity", "Value"), [r for r in rows if r[1]], "What was measured, and how")


def methods_section(run: Run) -> Html:
    """Paragraph for a paper, references and BibTeX entries."""
    paragraph, references = methods(run)
    items = (
        element("li", f"{r.words} ", element("a", f"doi:{r.doi}", href=f"https://doi.org/{r.doi}"))
        for r in references
    )
    return joined(
        [
            element("p", paragraph),
            element("h3", "References"),
            element("ol", items) if references else None,
            element("h3", "BibTeX"),
            scrolling(element("pre", bibtex(run)), "BibTeX entries"),
        ]
    )


def provenance_section(run: Run) -> Html:
    """Command, files and versions."""
    card = run.sidecar
    sources = card.get("Sources") or []
    rows = [
        ("relaxnet", str(card.get("SoftwareVersion", ""))),
        ("Network", str(card.get("Network", ""))),
        ("SHA-256 of the network", str(card.get("NetworkSHA256", ""))),
        ("Series", ", ".join(map(str, sources)) if isinstance(sources, list) else str(sources)),
        ("Date", str(card.get("Date", ""))),
        ("Where the report was made", _versions()),
    ]
    command = str(card.get("CommandLine") or "")
    return joined(
        [
            element("h3", "Command"),
            element("pre", command or "not recorded", class_="wrap"),
            table(("What", "Value"), [r for r in rows if r[1]], "Software and files"),
        ]
    )


def _versions() -> str:
    found = [f"Python {platform.python_version()}"]
    for name in _PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(found)
