"""Errors of the commands: one line for what a user can mend."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import click


def one_line_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """Turn what a user can mend into one line and exit code 2; Ctrl-C into 130."""

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except (ValueError, OSError, ModuleNotFoundError) as error:
            click.echo(f"Error: {' '.join(str(error).split())}", err=True)
            sys.exit(2)
        except MemoryError:
            click.echo("Error: the memory of this machine does not suffice.", err=True)
            sys.exit(2)
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            sys.exit(130)

    return wrapper
