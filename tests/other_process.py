"""Processes beside that of a test: one that is at work in a folder, one that is killed."""

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
from relaxsim.core.only_run import only_run
parts = range(*map(int, sys.argv[2].split(":"))) if sys.argv[2] else None
with only_run(sys.argv[1], parts, sys.argv[3]):
    print("in", flush=True)
    sys.stdin.read()
"""


class Other:
    """Another process that is in a folder until the block ends."""

    def __init__(self, folder, parts="", settings=""):
        words = [sys.executable, "-c", PROGRAM, str(folder), parts, settings]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True)

    def __enter__(self):
        assert self.process.stdout.readline() == "in\n"
        return self.process

    def __exit__(self, *_):
        self.process.communicate()


def killed_at_move(number, work):
    """Run `work` in a copy of this process that dies before its move `number`."""
    child = os.fork()
    if not child:
        replace, count = Path.replace, iter(range(100))

        def dying(self, target):
            if next(count) == number:
                os._exit(9)
            return replace(self, target)

        try:
            Path.replace = dying
            work()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
