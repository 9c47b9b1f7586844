"""Threads of the processes of ``relaxnet bids --jobs``."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

#: Run as a file of its own: its processes must start as those of the command do.
_SCRIPT = """
import json, os, sys
import numpy  # the parent has it, as the command does

from relaxnet.bids.processes import THREAD_VARIABLES, worker_pool


def threads():
    from relaxnet.fitting import parallel

    try:
        from threadpoolctl import threadpool_info
    except ModuleNotFoundError:
        libraries = []
    else:
        numpy.ones((2, 2)) @ numpy.ones((2, 2))
        libraries = [found["num_threads"] for found in threadpool_info()]
    variables = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    return {"libraries": libraries, "fit": parallel.num_threads(), "variables": variables}


if __name__ == "__main__":
    with worker_pool(int(sys.argv[1])) as submit:
        found = submit(threads).result()
    left = [name for name in THREAD_VARIABLES if name in os.environ]
    print(json.dumps({**found, "left": left}))
"""


def threads_of(tmp_path, jobs, **environment):
    """What a process of a pool finds, with an environment that sets nothing but what is given."""
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT)
    kept = {k: v for k, v in os.environ.items() if not k.endswith("_THREADS")}
    kept["PYTHONPATH"] = str(Path(__file__).resolve().parents[3])
    run = subprocess.run(
        [sys.executable, str(script), str(jobs)],
        env={**kept, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return json.loads(run.stdout)


@pytest.mark.parametrize("jobs", [2 * (os.cpu_count() or 1), os.cpu_count() or 1])
def test_as_many_processes_as_cores_have_one_thread_each(tmp_path, jobs):
    found = threads_of(tmp_path, jobs)
    assert set(found["libraries"]) <= {1}
    assert found["fit"] == 1
    assert set(found["variables"].values()) == {"1"}
    assert found["left"] == []


def test_one_process_has_all_cores(tmp_path):
    found = threads_of(tmp_path, 1)
    assert found["fit"] == os.cpu_count()
    assert set(found["variables"].values()) == {str(os.cpu_count())}


def test_what_the_user_has_set_stays(tmp_path):
    found = threads_of(tmp_path, os.cpu_count() or 1, OMP_NUM_THREADS="3")
    assert found["variables"]["OMP_NUM_THREADS"] == "3"
    assert found["variables"]["TF_NUM_INTRAOP_THREADS"] == "1"
    assert found["left"] == ["OMP_NUM_THREADS"]
