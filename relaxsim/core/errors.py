"""Errors of the commands: one line that a user can act on, in the flags of the command."""

from __future__ import annotations

import functools
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import click

#: Arguments of the library whose options have another name.
_OPTIONS = {"network": "model"}
_ARGUMENT = re.compile(r"`([a-z_][a-z0-9_]*)`")


def one_line_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """Turn errors that a user can mend into one line and exit code 2; Ctrl-C and SIGTERM into 130.

    Messages of the library name arguments in backquotes; the line names the command's flags.
    """

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            with sigterm_as_interrupt():
                return command(*args, **kwargs)
        except (ValueError, OSError, ModuleNotFoundError) as error:
            click.echo(f"Error: {in_flags(' '.join(str(error).split()))}", err=True)
            sys.exit(2)
        except MemoryError:
            click.echo("Error: the memory of this machine does not suffice.", err=True)
            sys.exit(2)
        except KeyboardInterrupt as interrupt:
            click.echo(in_flags(" ".join(["Interrupted.", *map(str, interrupt.args)])), err=True)
            sys.exit(130)

    return wrapper


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Within this block SIGTERM raises `KeyboardInterrupt`, as Ctrl-C does.

    Batch systems send it before they kill. It stays as it is where the program that calls has a
    handler of its own or ignores it, and outside the main thread.
    """

    def interrupt(*_: Any) -> NoReturn:
        raise KeyboardInterrupt

    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def in_flags(text: str, command: click.Command | None = None) -> str:
    """Text in which the names of arguments in backquotes are a command's flags.

    Parameters
    ----------
    text : str
        Of the library: ``give `skip_first` 1``.
    command : click.Command, optional
        Whose flags; by default that of the current click context.

    Returns
    -------
    text : str
        Names that the command has no option for stand without their backquotes.

    Examples
    --------
    >>> @click.command()
    ... @click.option("--skip-first", type=int)
    ... def example(skip_first): ...
    >>> in_flags("give `skip_first` 1 or another `sigma`", example)
    'give --skip-first 1 or another sigma'
    """
    context = click.get_current_context(silent=True) if command is None else click.Context(command)
    flags = {}
    for parameter in () if context is None else context.command.get_params(context):
        if isinstance(parameter, click.Option) and parameter.name:
            flag = max(parameter.opts, key=len)
            flags[parameter.name] = flag
            flags.setdefault(flag.removeprefix("--").replace("-", "_"), flag)

    def flag_of(match: re.Match[str]) -> str:
        name = match[1]
        return flags.get(name) or flags.get(_OPTIONS.get(name, "")) or name

    return _ARGUMENT.sub(flag_of, text)
