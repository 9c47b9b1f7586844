"""Report of a run: one HTML file that holds all it shows and asks the network for nothing."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from relaxnet.maps.reader import Run, in_model_units, read_run
from relaxnet.report.facts import Facts, facts_of, main_stem
from relaxnet.report.methods import bibtex, methods
from relaxnet.report.results import (
    distributions,
    fits_content,
    key_figures,
    maps_content,
    regions,
    status_content,
)
from relaxnet.report.words import (
    data_words,
    fit_words,
    mask_words,
    network_words,
    noise_rows,
    noise_words,
)
from relaxsim.core.files import write_whole
from relaxsim.core.version import __version__

_TEMPLATES = Path(__file__).with_name("templates")
_PACKAGES = ("numpy", "scipy", "nibabel", "keras", "tensorflow")


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
    run = in_model_units(read_run(maps_dir))
    if facts_of(run).protocol is None:
        raise ValueError(
            f"{run.folder}: the JSON files beside the maps name no signal model and protocol. "
            "Give a folder that relaxnet predict wrote."
        )
    out = run.folder / "report.html" if out is None else Path(out)
    text = report_page(run, _series_name(run) if title is None else title)
    with write_whole(out) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="replace")  # names of files
    return out


def report_page(run: Run, series: str) -> str:
    """The report's HTML; `series` stands in its title."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(_content(run, series)).strip() + "\n"


def _content(run: Run, series: str) -> dict[str, Any]:
    """What the template shows, by the names that it uses."""
    facts = facts_of(run)
    paragraph, references = methods(run)
    content: dict[str, Any] = {
        "version": __version__,
        "title": f"{run.maps[main_stem(run)].title} report: {series}",
        "subtitle": _subtitle(run, facts),
        "key_figures": key_figures(run),
        "warnings": _lines(run, "Warnings"),
        "notes": _lines(run, "Notes"),
        "maps": maps_content(run),
        "status": None if run.status is None else status_content(run),
        "distributions": distributions(run),
        "fits": fits_content(run),
        "regions": regions(run),
        "acquisition": _acquisition(run, facts),
        "methods": paragraph,
        "references": references,
        "bibtex": bibtex(run, references),
        "command": str(run.sidecar.get("CommandLine") or ""),
        "provenance": _provenance(run),
    }
    return {**content, "headings": dict(_headings(content))}


def _headings(content: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Key and heading of each section that has something to show."""
    yield "maps", "Maps"
    if content["status"] is not None:
        yield "status", "Status"
    yield "distributions", "Distributions"
    if content["fits"] is not None:
        yield "fits", "Fits in single voxels"
    if content["regions"]:
        yield "regions", "Regions"
    yield "acquisition", "Protocol and noise"
    yield "methods", "Methods and references"
    yield "provenance", "Command and versions"


def _series_name(run: Run) -> str:
    names = [Path(path).name for path in _lines(run, "Sources")]
    if len(names) > 1:
        return f"{names[0]} and {len(names) - 1} more"
    return names[0] if names else run.folder.name


def _subtitle(run: Run, facts: Facts) -> str:
    shape = " x ".join(map(str, run.shape))
    size = " x ".join(f"{z:.3g}" for z in run.zooms)
    date = str(run.sidecar.get("Date", ""))[:16].replace("T", " ")
    is_fit = run.sidecar.get("Method") == "mle"
    method = fit_words(run, facts) if is_fit else network_words(run)
    return f"{shape} voxels of {size} mm; {method}; {date}"


def _lines(run: Run, key: str) -> list[str]:
    """Texts that a sidecar lists."""
    lines = run.sidecar.get(key)
    return [str(line) for line in lines] if isinstance(lines, list) else []


def _acquisition(run: Run, facts: Facts) -> list[tuple[str, str]]:
    """Protocol and noise: quantity and value."""
    assert run.model is not None
    assert facts.protocol is not None
    rows = []
    for d, (column, border) in enumerate(
        zip(run.model.columns, run.model.border.columns, strict=True)
    ):
        name = border.words[0].upper() + border.words[1:]
        if facts.protocol.ndim == 2:
            rows.append((f"{name} ({column.unit})", _numbers(facts.protocol[:, d])))
        else:
            for z, table in enumerate(facts.protocol):
                rows.append((f"{name} of slice {z} ({column.unit})", _numbers(table[:, d])))
    sigma = facts.noise.sigma
    rows += [
        ("Protocol", str(run.sidecar.get("Protocol", ""))),
        ("Known maps", ", ".join(f"{name}: {file}" for name, file in facts.known.items())),
        ("Data taken as", data_words(facts.data)),
        ("Noise sigma", "" if sigma is None else f"{sigma:.5g} a.u."),
        ("Sigma from", noise_words(facts.noise)),
        *noise_rows(facts.noise),
        ("Mask", mask_words(facts.mask)),
    ]
    return [row for row in rows if row[1]]


def _provenance(run: Run) -> list[tuple[str, str]]:
    """Files and versions: what and value."""
    card = run.sidecar
    rows = [
        ("relaxnet", str(card.get("SoftwareVersion", ""))),
        ("Network", str(card.get("Network", ""))),
        ("SHA-256 of the network", str(card.get("NetworkSHA256", ""))),
        ("Series", ", ".join(_lines(run, "Sources"))),
        ("Date", str(card.get("Date", ""))),
        ("Versions where the report was made", _versions()),
    ]
    return [row for row in rows if row[1]]


def _versions() -> str:
    found = [f"Python {platform.python_version()}"]
    for name in _PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


def _numbers(values: Any) -> str:
    return " ".join(f"{value:g}" for value in values)
