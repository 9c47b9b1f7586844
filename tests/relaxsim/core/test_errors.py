"""Errors of the commands."""

import os
import signal

import pytest

from relaxsim.core.errors import one_line_errors, sigterm_as_interrupt


@pytest.mark.skipif(os.name != "posix", reason="has no SIGTERM")
@pytest.mark.parametrize(("words", "line"), [((), ""), (("Go on without `x`.",), " Go on")])
def test_sigterm_ends_a_command_as_an_interrupt_does(capsys, words, line):
    @one_line_errors
    def command():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(*words) from None

    with pytest.raises(SystemExit) as end:
        command()
    assert end.value.code == 130
    assert capsys.readouterr().err.startswith(f"Interrupted.{line}")
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_handler_of_the_program_that_calls_stays():
    previous = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with sigterm_as_interrupt():
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, previous)
