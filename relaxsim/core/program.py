"""A program with commands, whose work goes on where nobody reads what it prints."""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import suppress
from typing import Any, TextIO

import click

#: Errors of a stream whose other end is gone: a pipe without a reader, a terminal that was closed.
_NOBODY_READS = (errno.EPIPE, errno.EIO)
#: Standard output and error.
_OUT, _ERR = 1, 2


class Program(click.Group):
    """The group of a program's commands.

    Standard streams that are closed are opened on the null device, so that no file of results gets
    their numbers. Once the reader of a pipe is gone (``relaxnet predict ... | head -1``) output is
    dropped and the work goes on. Characters that the output cannot hold, such as those of file
    names that are not UTF-8, are written as escapes.
    """

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program; see `click.Group.main`."""
        open_missing_streams()
        sys.stdout = _tolerant(sys.stdout, _OUT)
        sys.stderr = _tolerant(sys.stderr, _ERR)
        try:
            return super().main(*args, **kwargs)
        except OSError as error:  # of options that print, such as --version
            with suppress(OSError):
                click.echo(f"Error: the output cannot be written ({error.strerror}).", err=True)
            sys.exit(2)


def open_missing_streams() -> None:
    """Open each closed one of standard input, output and error on the null device."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
        if getattr(sys, name) is None:
            mode = "w" if descriptor else "r"
            setattr(sys, name, open(descriptor, mode, closefd=False, encoding="utf-8"))


class _Output(io.FileIO):
    """A stream that drops what is written once it cannot be written to."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or 0
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            if error.errno not in _NOBODY_READS:  # such as a full disk: raised once
                raise
        return memoryview(data).nbytes


def _tolerant(stream: TextIO, descriptor: int) -> TextIO:
    """The same stream, which drops what nobody reads and escapes what it cannot encode.

    Streams that are not those of the process, as in tests, stay as they are.
    """
    with suppress(OSError, ValueError, AttributeError):
        raw = getattr(stream.buffer, "raw", None)
        if stream.fileno() == descriptor and not isinstance(raw, _Output):
            stream.flush()
            return io.TextIOWrapper(
                io.BufferedWriter(_Output(descriptor, "w", closefd=False)),
                encoding=stream.encoding,
                errors="backslashreplace",
                line_buffering=True,
            )
    return stream
