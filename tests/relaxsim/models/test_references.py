"""Papers."""

from relaxsim.models.references import SABIDUSSI, Reference
from relaxsim.models.registry import MODELS


def test_every_model_cites_papers():
    for model in MODELS.values():
        cited = [*model.border.papers, *model.border.fit_papers]
        assert cited
        assert all(isinstance(reference, Reference) for reference in cited)


def test_lines_of_the_papers():
    border = MODELS["inversion_recovery"].border
    assert border.references == (SABIDUSSI.line,)
    assert border.fit_reference == (
        "Barral et al. 2010, Magn Reson Med, doi:10.1002/mrm.22497; "
        "Sabidussi et al. 2021, Medical Image Analysis, doi:10.1016/j.media.2021.102220"
    )


def test_fields_that_are_empty_stand_nowhere():
    book = Reference("a2026", "Doe, J.", "A title", "A Journal", "2026")
    assert book.words == "Doe, J. A title. A Journal (2026)."
    assert book.url == ""
    assert "doi" not in book.bibtex
    assert "volume" not in book.bibtex
    assert book.line == "Doe 2026, A Journal"
    assert SABIDUSSI.url == "https://doi.org/10.1016/j.media.2021.102220"
