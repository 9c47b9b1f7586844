"""Processes of a pool: they end with the command, even if it is killed."""

import os
import subprocess
import sys
import time

import pytest

PROGRAM = """
import os, time
from relaxnet.bids.processes import worker_pool
if __name__ == "__main__":
    with worker_pool(1) as submit:
        print(submit(os.getpid).result(), flush=True)
        submit(time.sleep, 600).result()
"""


@pytest.mark.skipif(os.name != "posix", reason="asks for a process by signal 0")
def test_no_process_outlives_a_command_that_is_killed(tmp_path):
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    words = [sys.executable, script]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as parent:
        worker = int(parent.stdout.readline())
        parent.kill()
    until = time.monotonic() + 20
    while _lives(worker) and time.monotonic() < until:
        time.sleep(0.05)
    assert not _lives(worker)


def _lives(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    try:
        with open(f"/proc/{process}/stat") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
