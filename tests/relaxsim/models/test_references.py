"""Papers, and the inverse of corrections."""

import numpy as np
import pytest

from relaxsim.models.references import SABIDUSSI, Reference
from relaxsim.models.registry import MODELS

#: Models whose main parameter can be corrected, at parameters that have a correction.
CORRECTED = [model for model in MODELS.values() if model.border.correction is not None]


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


@pytest.mark.parametrize("model", CORRECTED, ids=lambda model: model.name)
def test_apparent_undoes_the_correction(model):
    kappa = np.array([[1.0, 2.4, 800.0], [3.0, 1.2, 1500.0]])
    corrected = kappa.copy()
    corrected[..., -1] = model.border.correction.value(kappa)[0]
    np.testing.assert_allclose(model.border.correction.apparent(corrected), kappa, rtol=1e-12)
