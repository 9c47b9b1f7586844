"""Wings that load no framework, and a list of commands that is quick to print."""

import os
import subprocess
import sys

import pytest

LIGHT = ("fitting", "series", "io", "maps", "evaluation")
HEAVY = {"tensorflow", "keras"}


def loaded(program):
    """Names of the top-level modules that a program has loaded at its end."""
    program += "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules})"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True
    )
    return set(run.stdout.split("\n")[-2].split())


@pytest.mark.parametrize("wing", LIGHT)
def test_wing_loads_no_framework(wing):
    program = f"""
import importlib, pkgutil
import relaxnet.{wing} as wing
for module in pkgutil.iter_modules(wing.__path__):
    importlib.import_module(f"relaxnet.{wing}." + module.name)
"""
    assert not loaded(program) & HEAVY


def test_list_of_commands_loads_nothing_heavy():
    program = """
from relaxnet.cli import main
try:
    main(["--help"])
except SystemExit:
    pass
"""
    assert not loaded(program) & {*HEAVY, "numpy", "scipy", "h5py", "nibabel", "matplotlib"}
