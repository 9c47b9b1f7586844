"""Networks by name or file: finding, building and loading them."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relaxnet.networks.network import TrainableNetwork
from relaxnet.networks.network_file import ModelError, read_construction, read_network
from relaxnet.networks.precision import use_full_precision
from relaxsim.core.files import read_json
from relaxsim.models.signal_model import SignalModel

PRETRAINED = Path(__file__).with_name("pretrained")
#: Architecture by the name of its class.
ARCHITECTURES = {"RIM": "rim", "ResNet": "resnet"}
#: Loaded networks that are kept, with what TensorFlow compiled for them.
MOST_LOADED = 4
#: Largest card that is read, bytes; those that are written have some 10 kB.
_MOST_CARD = 1_000_000


@dataclass(frozen=True)
class NetworkFile:
    """A network's file, read without loading the network.

    Attributes
    ----------
    path : pathlib.Path
    architecture : str
        ``rim`` or ``resnet``.
    config : mapping
        Constructor arguments.
    """

    path: Path
    architecture: str
    config: Mapping[str, Any]

    @functools.cached_property
    def card(self) -> dict[str, Any]:
        """How the network was made; see `read_card`."""
        return read_card(self.path)

    @functools.cached_property
    def sha256(self) -> str:
        """Checksum of the file."""
        return checksum(self.path)


def shipped_models() -> dict[str, Path]:
    """Networks in the package: name -> file."""
    return {path.stem: path for path in sorted(PRETRAINED.glob("*.keras"))}


def find_model(name: str | Path) -> Path:
    """File of a network: a path or, if no such file exists, the name of a shipped one.

    Raises
    ------
    ModelError
        If there is neither; the message lists the names. Also if it is a folder or a pipe.
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = shipped_models()
    if str(name).removesuffix(".keras") in shipped:
        return shipped[str(name).removesuffix(".keras")]
    if path.exists():
        raise ModelError(f"{name} is not a file; a network is a .keras file.")
    names = ", ".join(shipped) or "none"
    raise ModelError(f"{name}: no such file, and no shipped network of that name ({names}).")


def no_default(architecture: str, model: str) -> str:
    """Message where an architecture has no default network for a signal model."""
    names = [
        name
        for name, file in shipped_models().items()
        if name.startswith(architecture) and read_card(file).get("signal_model") == model
    ]
    which = f" ({', '.join(names)})" if names else ""
    return (
        f"no {architecture} network is the default for {model}: name one with `network`{which}, "
        "or take `method` mle."
    )


def card_path(path: Path) -> Path:
    """JSON file beside a network that says how it was made."""
    return path.with_suffix(".json")


def next_card_path(path: Path) -> Path:
    """Card of the network that is about to be renamed to `path` (`relaxnet.networks.saving`)."""
    return path.with_name(f".{path.stem}.next.json")


def read_card(path: Path) -> dict[str, Any]:
    """How a network was made; empty if there is no card.

    A card that states the checksum of its network belongs to that file alone.

    Parameters
    ----------
    path : pathlib.Path
        Of the network.

    Raises
    ------
    ModelError
        If the card is not readable, or belongs to another network.
    """
    following = next_card_path(path)
    if following.is_file():  # a run was killed after it had renamed its network, or before
        card = _json_object(following)
        if card.get("network_sha256") == checksum(path):
            return card
    if not card_path(path).is_file():
        return {}
    card = _json_object(card_path(path))
    if card.get("network_sha256", "") not in ("", checksum(path)):
        raise ModelError(
            f"{card_path(path)} is the card of another network than {path.name}: their checksums "
            "differ. Put its network back, or delete the card."
        )
    return card


def _json_object(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MOST_CARD:
            raise ModelError(f"{path} is larger than {_MOST_CARD // 10**6} MB; cards are not.")
        content = read_json(path)
    except ModelError:
        raise
    except (ValueError, OSError):
        raise ModelError(f"{path} is not readable JSON.") from None
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds no card; expected a JSON object.")
    return content


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def network_file(name: str | Path) -> NetworkFile:
    """A network's file, read without loading the network.

    Raises
    ------
    ModelError
        If it is not found, is no ``.keras`` file, or holds no network of this package.
    """
    path = find_model(name)
    construction = read_construction(path)
    return NetworkFile(path, ARCHITECTURES[construction.class_name], construction.arguments)


def architecture_of(name: str | Path) -> str:
    """``rim`` or ``resnet``, without loading the network; errors as `network_file`."""
    return network_file(name).architecture


def network_config(path: Path) -> Mapping[str, Any]:
    """Constructor arguments in a network's file, read without loading it; as `network_file`."""
    return read_construction(path).arguments


def load_network(name: str | Path) -> TrainableNetwork:
    """Load a network from its file, of which nothing is assumed (`relaxnet.networks.network_file`).

    Raises
    ------
    ModelError
        As `network_file`; also if the weights are not the network's, or the file is one of the
        package and not the one that its card states.
    """
    path = find_model(name)
    _check_shipped(path)
    use_full_precision()
    network: TrainableNetwork = read_network(path)
    return network


def loaded(name: str | Path) -> TrainableNetwork:
    """A loaded network, the same object each time while its file stays as it is.

    The last `MOST_LOADED` networks are kept. Callers share them and must not change their weights;
    errors as `load_network`.
    """
    path = find_model(name).absolute()
    status = path.stat()
    return _kept(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=MOST_LOADED)
def _kept(path: Path, _changed: int, _size: int) -> TrainableNetwork:
    return load_network(path)


def with_policy(network: TrainableNetwork, policy: str) -> TrainableNetwork:
    """A network with the same weights that computes, or is stored, in another precision.

    Parameters
    ----------
    network : TrainableNetwork
    policy : str
        Keras dtype policy: ``float32``, ``mixed_bfloat16`` (training), ``float16`` (storage).

    Returns
    -------
    network : TrainableNetwork
        The same object if it has that policy.
    """
    if network.dtype_policy.name == policy:
        return network
    architecture: Any = type(network)
    twin: TrainableNetwork = architecture.from_config({**network.get_config(), "dtype": policy})
    twin.set_weights(network.get_weights())
    return twin


def build_network(
    architecture: str,
    model: SignalModel,
    num_images: int,
    recipe: str = "default",
    features: int = 36,
    num_steps: int = 6,
    times: str = "absolute",
) -> TrainableNetwork:
    """New network of an architecture for a signal model.

    Parameters
    ----------
    architecture : str
        ``rim`` or ``resnet``.
    model : SignalModel
    num_images : int
        Of a ResNet.
    recipe : str
        ``default`` or ``paper``, of a RIM.
    features, num_steps : int
        Of a RIM.
    times : str
        ``absolute`` or ``relative``, of a RIM.

    Raises
    ------
    ValueError
        If there is no such architecture.
    """
    from relaxnet.networks.resnet import ResNet
    from relaxnet.networks.rim import DEFAULT, PAPER, RIM

    if architecture == ResNet.architecture:
        return ResNet(model.name, num_images=num_images)
    if architecture != RIM.architecture:
        names = ", ".join(ARCHITECTURES.values())
        raise ValueError(f"no architecture is called {architecture!r}; there are: {names}")
    options: dict[str, Any] = {**(PAPER if recipe == "paper" else DEFAULT)}
    return RIM(model.name, features=features, num_steps=num_steps, times=times, **options)


def _check_shipped(path: Path) -> None:
    """Refuse a network in the package's folder that is not the one that its card states."""
    if path.absolute().parent == PRETRAINED and "network_sha256" not in read_card(path):
        raise ModelError(f"{card_path(path)} lacks the network's checksum; install relaxnet anew.")
