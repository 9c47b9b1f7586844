"""Writing a network and its card, which appear together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from relaxnet.networks.network import TrainableNetwork
from relaxnet.networks.registry import card_path, checksum, next_card_path, with_policy
from relaxsim.core.files import temporary_files_in, temporary_folder, write_json, write_whole


def save_network(network: TrainableNetwork, path: Path, card: Mapping[str, Any]) -> None:
    """Write a network in float32 and its card, a JSON file beside it, as one.

    The card states the network's checksum. It is complete under the name
    `relaxnet.networks.registry.next_card_path` before the network is renamed, and
    `relaxnet.networks.registry.read_card` takes whichever card states the checksum of the network
    that is there. A killed run thus leaves the old pair or the new one.

    Parameters
    ----------
    network : TrainableNetwork
    path : pathlib.Path
        Ends in ``.keras``; a network of that name is replaced.
    card : mapping
        JSON-serialisable.

    Raises
    ------
    OSError
        If a file cannot be written; the old pair is then left.
    """
    saved = with_policy(network, "float32")

    def write(temporary: Path) -> None:
        # Keras leaves its temporary files behind where it fails.
        with temporary_folder(path) as place, temporary_files_in(place):
            saved.save(temporary)

    write_pair(path, card, write)


def write_pair(path: Path, card: Mapping[str, Any], write: Callable[[Path], object]) -> None:
    """Write a network's file and its card as `save_network` does.

    Parameters
    ----------
    path, card
        As `save_network`.
    write : callable
        ``write(temporary)`` writes the network to a path.

    Raises
    ------
    OSError
        If a file cannot be written; the old pair is then left.
    """
    following = next_card_path(path)
    with write_whole(path) as temporary:
        write(temporary)
        stated = {**card, "network_sha256": checksum(temporary)}
        write_json(following, stated)
    following.replace(card_path(path))
