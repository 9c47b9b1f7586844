"""A network and its card appear together, whenever a run is killed."""

import json

import numpy as np
import pytest

from relaxnet.networks import saving
from relaxnet.networks.registry import ModelError, card_path, checksum, read_card
from relaxnet.networks.rim import RIM
from relaxnet.networks.saving import save_network


class KilledError(BaseException):
    pass


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "best.keras"
    save_network(RIM("inversion_recovery", features=3, num_steps=1), path, {"number": 1})
    return path


def test_card_states_the_networks_checksum(path):
    assert read_card(path) == {"number": 1, "network_sha256": checksum(path)}
    assert sorted(p.name for p in path.parent.iterdir()) == ["best.json", "best.keras"]


def test_a_card_larger_than_any_is_refused_unread(path):
    with path.with_suffix(".json").open("ab") as file:
        file.truncate(1_500_000)
    with pytest.raises(ModelError, match=r"best\.json is larger than 1 MB"):
        read_card(path)


@pytest.mark.parametrize("moment", ["before the card", "before the network", "between the two"])
def test_a_killed_run_leaves_a_pair(path, monkeypatch, moment):
    old = path.read_bytes()

    def killed(*_, **__):
        raise KilledError

    place = {
        "before the card": (saving, "write_json"),
        "before the network": ("relaxsim.core.files.os.fsync", None),
        "between the two": (saving, "card_path"),
    }[moment]
    if moment == "before the network":
        real = saving.write_json
        monkeypatch.setattr(
            saving,
            "write_json",
            lambda *a, **k: (real(*a, **k), monkeypatch.setattr(place[0], killed)),
        )
    else:
        monkeypatch.setattr(*place, killed)
    with pytest.raises(KilledError):
        save_network(RIM("inversion_recovery", features=4, num_steps=1), path, {"number": 2})
    monkeypatch.undo()
    is_new = moment == "between the two"
    assert (path.read_bytes() != old) == is_new
    assert read_card(path)["number"] == (2 if is_new else 1)
    save_network(RIM("inversion_recovery", features=5, num_steps=1), path, {"number": 3})
    assert read_card(path)["number"] == 3
    assert sorted(p.name for p in path.parent.iterdir()) == ["best.json", "best.keras"]


def test_a_card_of_another_network_is_refused(path):
    RIM("inversion_recovery", features=4, num_steps=1).save(path)
    with pytest.raises(ModelError, match="the card of another network"):
        read_card(path)


def test_cards_without_a_checksum_are_read(path):
    card_path(path).write_text(json.dumps({"number": 7}))
    assert read_card(path) == {"number": 7}
    assert np.size(path.read_bytes()) > 0
