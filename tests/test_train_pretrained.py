"""tools/train_pretrained.py puts networks into the package that it loads."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from relaxnet.networks.registry import checksum, load_network, read_card
from relaxnet.networks.resnet import ResNet
from relaxnet.networks.rim import RIM
from relaxnet.networks.saving import save_network

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
from train_pretrained import ship

CARD = {"training": {"data": ["/data/b", "/data/a"], "validation": ["/data/v"], "init": ""}}
NETWORKS = {
    "rim-fse6": lambda: RIM("t2_decay", features=3, num_steps=1),
    "resnet-fse6": lambda: ResNet("t2_decay", num_images=6, widths=(4, 2)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_shipped_card_states_the_checksum_of_the_shipped_file(tmp_path, name):
    run = tmp_path / "run"
    run.mkdir()
    network = NETWORKS[name]()
    save_network(network, run / "last.keras", CARD)
    (run / "history.csv").write_text("iteration,validation_loss,seconds\n1,,1\n2,0.5,36\n")
    ship(name, run, "last", None, tmp_path)
    path = tmp_path / "relaxnet" / "networks" / "pretrained" / f"{name}.keras"
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["network_sha256"] == checksum(path)
    assert card["training"]["data"] == ["a", "b"]
    assert read_card(path) == card
    for shipped, weights in zip(
        load_network(path).get_weights(), network.get_weights(), strict=True
    ):
        np.testing.assert_allclose(shipped, weights, atol=1e-3)
    curve = tmp_path / "docs" / "results" / "training" / f"{name}.csv"
    assert curve.read_text() == "iteration,validation_loss,seconds\n2,0.5,36\n"
