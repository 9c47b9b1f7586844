"""Processes that share a machine: each starts as many threads as there are cores for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

from relaxnet.fitting.parallel import limit_threads
from relaxsim.core.environment import environment
from relaxsim.core.processes import end_with_parent

#: Variables that libraries read once, when they are imported.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)


def _prepare(threads: int) -> None:
    """In a new process of the pool."""
    limit_threads(threads)
    end_with_parent()


@contextmanager
def worker_pool(jobs: int) -> Iterator[Callable[..., Future[Any]]]:
    """Processes that take work, each with its share of the machine's cores.

    The environment is set before a process starts, since numpy and TensorFlow read it as they are
    imported. Variables that the user has set stay.
    The processes end with this one, even if it is killed.

    Parameters
    ----------
    jobs : int
        Processes.

    Yields
    ------
    submit : callable
        ``submit(function, *arguments)``: a future, as that of an executor.
    """
    threads = max(1, (os.cpu_count() or 1) // jobs)
    pool = ProcessPoolExecutor(jobs, get_context("spawn"), _prepare, (threads,))

    def submit(function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        missing = [name for name in THREAD_VARIABLES if name not in os.environ]
        with environment(dict.fromkeys(missing, str(threads))):  # a process may start here
            return pool.submit(function, *arguments)

    try:
        yield submit
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
