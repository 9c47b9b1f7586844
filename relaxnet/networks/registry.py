"""Networks by name or file: building, finding and loading them."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

PRETRAINED = Path(__file__).with_name("pretrained")
#: Network that a signal model gets when none is named.
DEFAULT_NETWORK = {"inversion_recovery": "rim-t1", "t2_decay": "rim-t2"}

#: Bytes of a network's configuration at most.
_LARGEST_CONFIG = 1_000_000
#: Bytes of all that a network's file unpacks to, at most.
_LARGEST_FILE = 1_000_000_000
#: Largest settings that a network may have: beyond, its file lies, or would take all memory.
_LARGEST = {"features": 512, "num_steps": 64, "num_images": 4096}


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
        content = json.loads(card.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError):
        raise ModelError(f"{card} is not readable JSON.") from None
    if not isinstance(content, dict):
        raise ModelError(f"{card} holds no card; expected a JSON object.")
    return content


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


def no_default(kind: str, model: str) -> str:
    """What to say where a kind of network has no default for a signal model."""
    own = {name: file for name, file in shipped_models().items() if name.startswith(kind)}
    names = [name for name, file in own.items() if read_card(file).get("signal_model") == model]
    which = f" ({', '.join(names)})" if names else ""
    return (
        f"no {kind} network is the default for {model}: name one with --model{which}, or take "
        "--method mle."
    )


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
    _check_size(path)
    import keras

    from relaxnet.networks import resnet, rim  # noqa: F401  (registers the classes)

    try:
        network = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{path} cannot be loaded as a network: {reason}") from None
    return with_policy(network, "float32")


def with_policy(network: Any, policy: str) -> Any:
    """A network with the same weights that computes, or is stored, in another precision.

    Parameters
    ----------
    network : keras.Model
    policy : str
        Keras dtype policy: ``float32``, ``mixed_bfloat16`` (training), ``float16`` (storage).

    Returns
    -------
    network : keras.Model
        The same object if it has that policy.
    """
    if network.dtype_policy.name == policy:
        return network
    twin = type(network).from_config({**network.get_config(), "dtype": policy})
    twin.set_weights(network.get_weights())
    return twin


def build_network(settings: Any, info: Any) -> Any:
    """New network for the shards' signal model, by a run's settings."""
    from relaxnet.networks.resnet import ResNet
    from relaxnet.networks.rim import DEFAULT, PAPER, RIM

    if settings.model == "resnet":
        return ResNet(info.signal_model.name, num_images=len(info.tau))
    recipe: dict[str, Any] = {**(PAPER if settings.recipe == "paper" else DEFAULT)}
    return RIM(
        info.signal_model.name,
        features=settings.features,
        num_steps=settings.num_steps,
        **recipe,
    )


def network_config(path: Path) -> dict[str, Any]:
    """Constructor arguments in a network's file, read without loading it; empty if unreadable."""
    config = _config(path).get("config")
    return config if isinstance(config, dict) else {}


def _check_size(path: Path) -> None:
    """Refuse a file whose network would take all memory, or never end."""
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > _LARGEST_FILE:
        raise ModelError(f"{path} unpacks to {size / 1e9:.1f} GB; no network is as large.")
    config = network_config(path)
    for name, most in _LARGEST.items():
        value = config.get(name, 1)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise ModelError(f"{path}: its {name} is {str(value)[:40]}, expected 1 to {most}.")
    widths = config.get("widths", [])
    if not isinstance(widths, list) or len(widths) > 64:
        raise ModelError(f"{path}: its widths are no list of at most 64 numbers.")
    if not all(isinstance(width, int) and 1 <= width <= 4096 for width in widths):
        raise ModelError(f"{path}: its widths are no whole numbers from 1 to 4096.")


def _class_name(path: Path) -> str:
    """Class of the network in a .keras file, read without loading it."""
    config = _config(path)
    ours = str(config.get("registered_name", "")).startswith("relaxnet>")
    return str(config.get("class_name", "")) if ours else ""


def _config(path: Path) -> dict[str, Any]:
    """Configuration in a .keras file; empty if it is damaged, locked or too large to be one."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo("config.json").file_size > _LARGEST_CONFIG:
                return {}
            config = json.loads(archive.read("config.json"))
    except (KeyError, ValueError, zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError):
        return {}
    return config if isinstance(config, dict) else {}
