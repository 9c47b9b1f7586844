"""Signal models that only tests have, added as users add theirs: by one file."""

import importlib.util
import sys
from pathlib import Path

import relaxsim.models
from relaxsim.models import registry

TOYS = str(Path(__file__).resolve().parent / "toys")


def add_toys(monkeypatch):
    """Let the folder of toy models be one of the package's, for a test."""
    monkeypatch.setattr(relaxsim.models, "__path__", [*relaxsim.models.__path__, TOYS])
    known = dict(registry.MODELS)
    registry.find_models()
    return known


def remove_toys(known):
    """Undo `add_toys`."""
    registry.MODELS.clear()
    registry.MODELS.update(known)
    for name in ("saturation_recovery", "spoiled_echo"):
        sys.modules.pop(f"relaxsim.models.{name}", None)


def import_toy(name):
    """A toy model by itself, unknown to the registry."""
    spec = importlib.util.spec_from_file_location(f"toy_{name}", f"{TOYS}/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.MODEL
