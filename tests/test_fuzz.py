"""A part of the fuzz run of `relaxnet predict`; tools/fuzz.py runs more of it."""

from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[1] / "tools"


@pytest.fixture
def fuzz(monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)
    import fuzz

    return fuzz


def test_sixty_cases_end_as_they_have_to(fuzz):
    outcomes = list(fuzz.run(60, seed=1))
    assert [(o.number, o.case.what, o.faults) for o in outcomes if o.faults] == []
    codes = [o.exit_code for o in outcomes]
    assert codes.count(0) >= 5
    assert codes.count(2) >= 30


def test_faults_are_seen(fuzz, tmp_path, monkeypatch):
    """The run would notice a traceback, a file that is left, and what is wrongly taken."""
    import numpy as np
    from fuzz_cases import MAPPED, Case, mle

    good = mle(tmp_path, rng=np.random.default_rng(0))
    assert fuzz.attempt(0, Case("sound", good), tmp_path).faults == ("expected to be refused",)

    def broken(*_, **__):
        (tmp_path / "left").write_text("")
        raise KeyError("magic")

    monkeypatch.setattr("relaxnet.prediction.files.predict_files", broken)
    faults = fuzz.attempt(0, Case("sound", good, MAPPED), tmp_path).faults
    assert any("KeyError('magic')" in fault for fault in faults)
    assert "exit code 1" in faults
