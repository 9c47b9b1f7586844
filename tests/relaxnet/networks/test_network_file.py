"""Networks from elsewhere: what is refused, at what cost, and that all of one's own load."""

import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hostile_networks import MARKER, Writer, write_hostile_networks
from small_series import series, write, write_times

from relaxnet.networks import registry
from relaxnet.networks.network_file import (
    MOST_WEIGHTS,
    ModelError,
    count_resnet_weights,
    layout,
    read_construction,
    read_network,
)
from relaxnet.networks.registry import load_network, read_card, shipped_models, with_policy
from relaxnet.networks.resnet import WIDTHS, ResNet
from relaxnet.networks.rim import RIM

#: Memory above that of the imports, and processor time of each file.
MOST_BYTES, MOST_SECONDS = 500e6, 10
#: Reads files by the command, in one process: exit code, message, seconds and memory of each.
_READ = """
import json, sys, time
from pathlib import Path
from click.testing import CliRunner
import relaxnet.networks.resnet, relaxnet.networks.rim
from relaxnet.cli import main

def memory():
    # the largest so far, of this program alone: ru_maxrss has that of the parent process too
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

options = ["series.nii.gz", "--tis", "tis.txt", "--out", "o", "--model"]
start = memory()
for name in sys.argv[1:]:
    since = time.process_time()
    result = CliRunner().invoke(main, ["predict", *options, name, "--overwrite"])
    spent = time.process_time() - since
    print(json.dumps([name, result.exit_code, result.output, spent, memory() - start]))
"""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """What the command makes of each hostile file, and the folder after it."""
    folder = tmp_path_factory.mktemp("hostile")
    cases = write_hostile_networks(folder)
    write(folder / "series.nii.gz", series()[0])
    write_times(folder / "tis.txt")
    names = [path.name for path in cases]
    result = subprocess.run(
        [sys.executable, "-c", _READ, *names, "good.keras"],
        cwd=folder,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    rows = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("[")]
    return folder, {folder / name: rest for name, *rest in rows}, cases


def test_hostile_networks_are_refused_in_one_line(hostile):
    folder, results, cases = hostile
    assert results[folder / "good.keras"][0] == 0, results[folder / "good.keras"][1]
    wrong = []
    for path, (name, message) in cases.items():
        code, output, *_ = results[path]
        lines = [line for line in output.splitlines() if not line.startswith("series: ")]
        one_line = len(lines) == 1 and lines[0].startswith("Error: ") and len(lines[0]) < 600
        if code != 2 or not one_line or message not in output:
            wrong.append((name, code, output[-400:]))
    assert not wrong, "\n".join(map(str, wrong))


def test_hostile_networks_run_nothing_and_write_nothing(hostile):
    folder, _, _ = hostile
    assert not list(folder.glob(f"**/{MARKER}*"))


def test_hostile_networks_take_little_memory_and_time(hostile):
    _, results, cases = hostile
    costs = [(*results[path][2:], name) for path, (name, _) in cases.items()]
    dear = [cost for cost in costs if cost[0] > MOST_SECONDS or cost[1] > MOST_BYTES]
    assert not dear


def test_hostile_networks_are_refused_when_their_card_is_shown(tmp_path):
    path = tmp_path / "lambda.keras"
    writer = Writer(tmp_path)
    path.write_bytes(writer.layer("RNNCell", num_outputs=3))
    with pytest.raises(ModelError, match="none that relaxnet train made"):
        registry.network_file(path)


def stored(path):
    """Arrays in a file, by their paths."""
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        content = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(content) as file:
        file.visititems(
            lambda name, node: arrays.update({name: node[()]} if hasattr(node, "shape") else {})
        )
    return arrays


def variables(folders, prefix=""):
    """Arrays of a layout, by their paths."""
    found = {}
    for name, inner in folders.items():
        if isinstance(inner, dict):
            found |= variables(inner, f"{prefix}{name}/")
        else:
            found[prefix + name] = np.asarray(inner)
    return found


@pytest.mark.parametrize("name", shipped_models())
def test_shipped_networks_have_the_arrays_of_their_files(name):
    path = shipped_models()[name]
    arrays, read = stored(path), variables(layout(load_network(name)))
    assert read.keys() == arrays.keys()
    for key, array in arrays.items():
        np.testing.assert_array_equal(read[key], array.astype(np.float32), key)


@pytest.mark.parametrize("policy", ["float32", "float16", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize(
    "network",
    [
        lambda: RIM("inversion_recovery", features=5, fit_steps=True, uncertainty=True),
        lambda: RIM("t2_decay", features=3, num_steps=2, gradient="raw", coordinates="linear"),
        lambda: ResNet("inversion_recovery", num_images=4, widths=(4, 6, 6)),
    ],
    ids=["rim", "paper", "resnet"],
)
def test_networks_load_as_the_installed_keras_saves_them(network, policy, tmp_path):
    rng = np.random.default_rng(0)
    saved = with_policy(network(), policy)
    saved.set_weights([rng.normal(size=w.shape).astype(w.dtype) for w in saved.get_weights()])
    saved.save(tmp_path / "n.keras")
    read = read_network(tmp_path / "n.keras")
    assert read.dtype_policy.name == "float32"
    assert {**read.get_config(), "dtype": None} == {**saved.get_config(), "dtype": None}
    for a, b in zip(read.get_weights(), saved.get_weights(), strict=True):
        np.testing.assert_array_equal(a, np.asarray(b, np.float32))


@pytest.mark.parametrize(
    "config",
    [
        {"dtype": "float32"},
        {"dtype": None},
        {"signed": False},
        {"signed": True, "trainable": False},
        {"name": "rim_17"},
    ],
)
def test_configurations_of_other_versions_load(config, tmp_path):
    writer = Writer(tmp_path)
    path = tmp_path / "old.keras"
    path.write_bytes(writer.with_arguments(**config))
    a, b = read_network(path).get_weights(), read_network(tmp_path / "good.keras").get_weights()
    assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
    assert "signed" not in read_construction(path).arguments


def test_parts_that_keras_adds_to_the_configuration_are_left_out(tmp_path):
    writer = Writer(tmp_path)
    path = tmp_path / "old.keras"
    added = {"build_config": {"input_shape": [None, 3]}, "compile_config": {"loss": "mse"}}
    path.write_bytes(writer.with_config({**writer.config, "module": "relaxnet.rim", **added}))
    assert read_network(path).num_steps == 2


@pytest.mark.parametrize(
    ("num_images", "widths", "model"),
    [(31, WIDTHS, "inversion_recovery"), (4, (4, 6, 6, 5), "t2_decay"), (1, (1,), "t2_decay")],
)
def test_weights_of_a_resnet_are_counted(num_images, widths, model):
    network = ResNet(model, num_images=num_images, widths=widths)
    Q = network.model.num_parameters
    assert count_resnet_weights(num_images, widths, Q) == network.count_params()


def test_widest_rim_has_no_more_weights_than_are_read():
    network = RIM(
        "inversion_recovery", features=512, num_steps=64, fit_steps=True, uncertainty=True
    )
    assert network.count_params() < MOST_WEIGHTS


def test_bytes_changed_at_random_give_a_network_or_one_error(tmp_path):
    rng = np.random.default_rng(0)
    RIM("inversion_recovery", features=3, num_steps=1).save(tmp_path / "n.keras")
    with zipfile.ZipFile(tmp_path / "n.keras") as archive:
        members = {name: bytearray(archive.read(name)) for name in archive.namelist()}
    refused = 0
    for n in range(60):
        changed = {name: content[:] for name, content in members.items()}
        bad = changed["model.weights.h5" if n % 2 else "config.json"]
        for place in rng.integers(0, len(bad), 20 if n % 2 else 2):
            bad[place] = rng.integers(0, 256)
        with zipfile.ZipFile(tmp_path / "bad.keras", "w") as archive:
            for name, content in changed.items():
                archive.writestr(name, bytes(content))
        try:
            read_network(tmp_path / "bad.keras")
        except ModelError:
            refused += 1
    assert refused > 10


@pytest.mark.parametrize("name", shipped_models())
def test_shipped_networks_are_those_that_their_cards_state(name):
    path = shipped_models()[name]
    assert read_card(path)["network_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_shipped_network_of_another_checksum_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "PRETRAINED", tmp_path)
    for end in (".keras", ".json"):
        content = Path(shipped_models_of_package()["rim-t1"]).with_suffix(end).read_bytes()
        (tmp_path / f"rim-t1{end}").write_bytes(content)
    assert load_network("rim-t1").num_steps == 6
    RIM("inversion_recovery", features=4).save(tmp_path / "rim-t1.keras")
    with pytest.raises(ModelError, match="checksums differ"):
        load_network("rim-t1")
    card = json.loads((tmp_path / "rim-t1.json").read_text())
    del card["network_sha256"]
    (tmp_path / "rim-t1.json").write_text(json.dumps(card))
    with pytest.raises(ModelError, match="lacks the network's checksum"):
        load_network("rim-t1")


def shipped_models_of_package():
    """Files of shipped networks, wherever the registry looks for them."""
    folder = Path(registry.__file__).with_name("pretrained")
    return {path.stem: path for path in folder.glob("*.keras")}


def test_names_with_odd_characters_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a\nb", "\udcff.keras", "x" * 5000, "-", "", "~"):
        with pytest.raises((ModelError, OSError)):
            load_network(name)
