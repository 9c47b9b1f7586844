"""Papers: what a signal model, or a method, is cited by."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote


@dataclass(frozen=True)
class Reference:
    """A paper.

    Attributes
    ----------
    key : str
        Of the BibTeX entry.
    authors : str
        As BibTeX separates them: ``Otsu, N. and Doe, J.``.
    title, journal, year : str
    volume, pages, doi : str
        Empty where there is none.
    short_journal : str
        Abbreviation of the journal's name; by default the name.
    """

    key: str
    authors: str
    title: str
    journal: str
    year: str
    volume: str = ""
    pages: str = ""
    doi: str = ""
    short_journal: str = ""

    @property
    def words(self) -> str:
        """Entry of a list of references, without the DOI.

        Examples
        --------
        >>> SABIDUSSI.words.partition(". Recurrent")[2]
        ' inference machines as inverse problem solvers for MR relaxometry. Medical Image Analysis \
74, 102220 (2021).'
        """
        names = self.authors.replace(" and ", ", ").removesuffix(".")
        place = ", ".join(part for part in (self.volume, self.pages.replace("--", "–")) if part)
        return (
            f"{names}. {self.title}. {' '.join(filter(None, (self.journal, place)))} ({self.year})."
        )

    @property
    def line(self) -> str:
        """Authors, year, journal and DOI in a line.

        Examples
        --------
        >>> SABIDUSSI.line
        'Sabidussi et al. 2021, Medical Image Analysis, doi:10.1016/j.media.2021.102220'
        """
        names = [author.split(",")[0] for author in self.authors.split(" and ")]
        words = " and ".join(names) if len(names) < 3 else f"{names[0]} et al."
        parts = [f"{words} {self.year}", self.short_journal or self.journal]
        return ", ".join([*parts, f"doi:{self.doi}"] if self.doi else parts)

    @property
    def url(self) -> str:
        """Address of the DOI; empty without one."""
        return f"https://doi.org/{quote(self.doi, safe='/()')}" if self.doi else ""

    @property
    def bibtex(self) -> str:
        """BibTeX entry."""
        fields = {
            "author": self.authors,
            "title": self.title,
            "journal": self.journal,
            "volume": self.volume,
            "pages": self.pages,
            "year": self.year,
            "doi": self.doi,
        }
        lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
        return "\n".join([f"@article{{{self.key},", *lines, "}"])


SABIDUSSI = Reference(
    key="sabidussi2021",
    authors=(
        "Sabidussi, E. R. and Klein, S. and Caan, M. W. A. and Bazrafkan, S. and "
        "den Dekker, A. J. and Sijbers, J. and Niessen, W. J. and Poot, D. H. J."
    ),
    title="Recurrent inference machines as inverse problem solvers for MR relaxometry",
    journal="Medical Image Analysis",
    year="2021",
    volume="74",
    pages="102220",
    doi="10.1016/j.media.2021.102220",
)
