"""Variables of the environment that a library reads once, while it is imported."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Variables that have these values within the block, and those from before it afterwards.

    Examples
    --------
    >>> with environment({"RELAXNET_EXAMPLE": "1"}):
    ...     os.environ["RELAXNET_EXAMPLE"]
    '1'
    >>> "RELAXNET_EXAMPLE" in os.environ
    False
    """
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
