"""How often a progress bar is drawn."""

import io

from tqdm import tqdm

from relaxsim.core.progress import refresh_seconds


def test_a_log_gets_few_lines(monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr("sys.stderr", log)
    for _ in tqdm(range(2000), file=log, mininterval=refresh_seconds()):
        pass
    assert 1 <= log.getvalue().count("\r") <= 3


def test_a_terminal_is_kept_up_to_date(monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert refresh_seconds() <= 0.5
