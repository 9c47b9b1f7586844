"""Networks by name or file: building, finding and loading them."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

PRETRAINED = Path(__file__).with_name("pretrained")
#: Network that a signal model gets when none is named.
DEFAULT_NETWORK = {"inversion_recovery": "rim-t1", "t2_decay": "rim-t2"}


class ModelError(ValueError):
    """A network cannot be found, read or used; one line."""


def shipped_models() -> dict[str, Path]:
    """Networks in the package: name -> file."""
    return {path.stem: path for path in sorted(PRETRAINED.glob("*.keras"))}


def card_path(path: Path) -> Path:
    """JSON file beside a network that says how it was made."""
    return path.with_suffix(".json")


def read_card(path: Path) -> dict[str, Any]:
    """How a network was made; empty if nobody wrote it down."""
    card = card_path(path)
    if not card.is_file():
        return {}
    try:
        return json.loads(card.read_text(encoding="utf-8"))
    except (ValueError, OSError):
        raise ModelError(f"{card} is not readable JSON.") from None


def find_model(name: str | Path) -> Path:
    """File of a network: a path or, if no such file exists, the name of a shipped one.

    Raises
    ------
    ModelError
        If there is neither; the message lists the names.
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = shipped_models()
    if str(name).removesuffix(".keras") in shipped:
        return shipped[str(name).removesuffix(".keras")]
    names = ", ".join(shipped) or "none"
    raise ModelError(f"{name}: no such file, and no shipped network of that name ({names}).")


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return (
            hashlib.file_digest(file, "sha256").hexdigest()
            if hasattr(hashlib, "file_digest")
            else hashlib.sha256(file.read()).hexdigest()
        )


def network_kind(name: str | Path) -> str:
    """``rim`` or ``resnet``, without loading the network; errors as `load_network`."""
    path = find_model(name)
    if not zipfile.is_zipfile(path):
        raise ModelError(f"{path} is not a .keras file (or is cut short).")
    kind = {"RIM": "rim", "ResNet": "resnet"}.get(_class_name(path))
    if kind is None:
        raise ModelError(f"{path} is a Keras model, but none that relaxnet train made.")
    return kind


def load_network(name: str | Path) -> Any:
    """Load a network: `find_model`, then Keras in safe mode.

    Returns
    -------
    network : keras.Model
        With ``kind``, ``signal_model``, ``parameters``, ``halo`` and ``num_images``.

    Raises
    ------
    ModelError
        If it is not found, is no ``.keras`` file, is damaged, or is no network of this package.
    """
    network_kind(name)
    path = find_model(name)
    import keras

    from relaxnet import resnet, rim  # noqa: F401  (registers the classes)

    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{path} cannot be loaded as a network: {reason}") from None


def build_network(settings: Any, info: Any) -> Any:
    """New network for the shards' signal model, by a run's settings."""
    from relaxnet.resnet import ResNet
    from relaxnet.rim import DEFAULT, PAPER, RIM

    if settings.model == "resnet":
        return ResNet(info.signal_model.name, num_images=len(info.tau))
    recipe = PAPER if settings.recipe == "paper" else DEFAULT
    return RIM(
        info.signal_model.name,
        features=settings.features,
        num_steps=settings.num_steps,
        **recipe,
    )


def _class_name(path: Path) -> str:
    """Class of the network in a .keras file, read without loading it."""
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
        if config.get("registered_name", "").startswith("relaxnet>"):
            return str(config["class_name"])
    except (KeyError, ValueError, zipfile.BadZipFile, OSError, AttributeError):
        pass
    return ""
