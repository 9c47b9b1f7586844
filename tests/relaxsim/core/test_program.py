"""Programs whose streams are closed, full, or read by nobody."""

import os
import subprocess
import sys

import pytest

VERSION = f"{sys.executable} -m relaxsim --version"


def shell(line: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", line],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("line", [f"{VERSION} <&- >&- 2>&-", f"{VERSION} | (exec <&-; sleep 1)"])
def test_work_goes_on_where_nobody_reads(line):
    done = shell(f"{line}; exit ${{PIPESTATUS[0]}}")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux")  # noqa: PTH110
def test_output_that_is_full_is_one_line():
    done = shell(f"{VERSION} > /dev/full")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("Error: the output cannot be written")


def test_name_that_is_not_utf_8_is_shown_with_escapes(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    done = shell(f"{sys.executable} -m relaxsim info {tmp_path}/{name}")
    assert done.returncode == 2
    assert "caf\\udce9" in done.stderr
