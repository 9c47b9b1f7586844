import contextlib
import json
import zipfile

import numpy as np
import pytest

from relaxnet.networks.model_card import card_text, overview
from relaxnet.networks.registry import (
    ModelError,
    architecture_of,
    network_config,
    read_card,
    shipped_models,
)


@pytest.fixture
def network(tmp_path):
    """A copy of a shipped network without its card."""
    path = tmp_path / "net.keras"
    path.write_bytes(shipped_models()["rim-t1"].read_bytes())
    return path


@pytest.mark.parametrize("name", sorted(shipped_models()))
def test_shipped_cards_say_all(name):
    text, card = card_text(name), read_card(shipped_models()[name])
    for words in (
        "SHA-256:",
        "trained for:",
        "protocols:",
        "subjects:",
        "iterations:",
        "versions:",
    ):
        assert words in text
    assert card["summary"] in text
    assert card["signal_model"] in text
    if "figures" in card:
        assert text.count("\n    ") == 1 + len(card["figures"]["rows"])


@pytest.mark.parametrize("name", sorted(n for n in shipped_models() if n.startswith("rim-")))
def test_shipped_recurrent_networks_have_an_error_head(name):
    assert network_config(shipped_models()[name])["uncertainty"] == (not name.endswith("-paper"))


def test_overview_has_a_line_for_each():
    lines = overview().splitlines()
    assert len(lines) == len(shipped_models())
    for line, (name, path) in zip(lines, shipped_models().items(), strict=True):
        card = read_card(path)
        assert line.split()[0] == name
        assert f"{path.stat().st_size / 1e3:.0f} kB" in line
        assert all(str(card[key]) in line for key in ("kind", "signal_model", "summary"))


def test_network_without_a_card_is_shown(network):
    assert "no card says what it is for" in card_text(network)
    assert network_config(network)["model"] in card_text(network)


@pytest.mark.parametrize(
    "card",
    ["[1]", "{", '{"envelope": 3}', '{"versions": [1]}', '{"subjects": 1}', '{"hours": "x"}'],
)
def test_cards_that_are_none_are_refused(network, card):
    network.with_suffix(".json").write_text(card)
    with pytest.raises(ModelError, match=r"card|JSON"):
        card_text(network)


def test_damaged_and_hostile_files_are_refused(network):
    """Bytes changed at random, cut short, a huge or foreign configuration: one line each."""
    rng = np.random.default_rng(0)
    whole = np.frombuffer(network.read_bytes(), np.uint8)
    accepted = 0
    for _ in range(150):
        bad = whole.copy()
        bad[rng.integers(0, len(bad), 200)] = rng.integers(0, 256, 200)
        bad = bad[: rng.integers(1, len(bad) + 1)] if rng.random() < 0.3 else bad
        network.write_bytes(bad.tobytes())
        with contextlib.suppress(ModelError):
            architecture_of(network)
            accepted += 1
    assert accepted < 100
    for config, reason in (
        (b"[" * 10_000, "none that relaxnet train made"),
        (b'{"config": 3}', "none that relaxnet train made"),
        (b" " * 2_000_000 + b"{}", "takes more than"),
        (json.dumps([1]).encode(), "none that relaxnet train made"),
    ):
        with zipfile.ZipFile(network, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("config.json", config)
        with pytest.raises(ModelError, match=reason):
            architecture_of(network)
