"""Report of a run: one HTML file that holds all it shows and asks the network for nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from relaxnet import __version__
from relaxnet.maps.reader import Run, read_run
from relaxnet.report.html import Html, element, joined
from relaxnet.report.records import acquisition_section, methods_section, provenance_section
from relaxnet.report.results import (
    distributions_section,
    facts,
    maps_section,
    regions_section,
    status_section,
    voxels_section,
)
from relaxnet.report.voxels import run_times

_STYLE = Path(__file__).with_name("report.css")


def write_report(
    maps_dir: str | Path, out: str | Path | None = None, title: str | None = None
) -> Path:
    """Write the report of a run, made from the files in its folder and the series they name.

    Parameters
    ----------
    maps_dir : path
        Folder that `relaxnet predict` wrote. Its sidecars name the series; where that is not to be
        found any more, fitted curves are shown without samples.
    out : path, optional
        HTML file; default: ``report.html`` in the folder.
    title : str, optional
        Of the series; default: the names of its files.

    Returns
    -------
    out : pathlib.Path

    Raises
    ------
    ValueError
        If there are no maps, or their sidecars are not of `relaxnet predict`.
    OSError
        If the report cannot be written.
    """
    run = read_run(maps_dir)
    if run.model is None or not run_times(run).size:
        raise ValueError(
            f"{run.folder}: the JSON files beside the maps name no signal model and times. "
            "Give a folder that relaxnet predict wrote."
        )
    out = run.folder / "report.html" if out is None else Path(out)
    text = report_page(run, _series_name(run) if title is None else title)
    temporary = out.with_name(f".part-{out.name}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)
    return out


def report_page(run: Run, title: str) -> str:
    """The report's HTML."""
    sections = list(_sections(run))
    heading = f"{run.maps[next(iter(run.maps))].title} report: {title}"
    links = (element("li", element("a", name, href=f"#{key}")) for key, name, _ in sections)
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="generator", content=f"relaxnet {__version__}"),
        element("title", heading),
        element("style", Html(_STYLE.read_text(encoding="utf-8"))),
    )
    body = element(
        "body",
        element("a", "Skip to the maps", href="#maps", class_="skip"),
        element(
            "header",
            element("h1", heading),
            element("p", _subtitle(run), class_="quiet"),
            element("nav", element("ul", links), aria_label="Sections"),
        ),
        element("main", facts(run), _told(run), (_section(*section) for section in sections)),
        element("footer", element("p", _made_words(), class_="quiet")),
    )
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def _sections(run: Run) -> Iterator[tuple[str, str, Html]]:
    """Key, heading and content of each section that has something to say."""
    yield "maps", "Maps", maps_section(run)
    if run.status is not None:
        yield "status", "Status", status_section(run)
    yield "distributions", "Distributions", distributions_section(run)
    if content := voxels_section(run):
        yield "fits", "Fits in single voxels", content
    if content := regions_section(run):
        yield "regions", "Regions", content
    yield "acquisition", "Protocol and noise", acquisition_section(run)
    yield "methods", "Methods and references", methods_section(run)
    yield "provenance", "Command and versions", provenance_section(run)


def _section(key: str, name: str, content: Html) -> Html:
    return element("section", element("h2", name, id=f"{key}-h"), content, id=key)


def _series_name(run: Run) -> str:
    sources = run.sidecar.get("Sources") or []
    names = [Path(str(path)).name for path in sources] if isinstance(sources, list) else []
    if len(names) > 1:
        return f"{names[0]} and {len(names) - 1} more"
    return names[0] if names else run.folder.name


def _subtitle(run: Run) -> str:
    shape = " x ".join(map(str, run.shape))
    size = " x ".join(f"{z:.3g}" for z in run.zooms)
    date = str(run.sidecar.get("Date", ""))[:16].replace("T", " ")
    return f"{shape} voxels of {size} mm; {_method_words(run)}; {date}"


def _method_words(run: Run) -> str:
    card = run.sidecar
    if card.get("Method") == "mle":
        return str(card.get("Fit", "maximum likelihood"))
    kind = {"rim": "recurrent inference machine", "resnet": "residual network"}
    return f"{kind.get(str(card.get('Method')), 'network')} {card.get('Network', '')}".strip()


def _told(run: Run) -> Html:
    """Warnings and notes of the run."""
    parts = []
    for key, name, kind in (("Warnings", "Warnings", "told warning"), ("Notes", "Notes", "told")):
        lines = run.sidecar.get(key) or []
        if isinstance(lines, list) and lines:
            items = (element("li", str(line)) for line in lines)
            parts.append(element("section", element("h2", name), element("ul", items), class_=kind))
    return joined(parts)


def _made_words() -> str:
    return f"Made by relaxnet {__version__} from the files of the run. Not a medical device."
