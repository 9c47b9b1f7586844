"""Networks compute the same under any settings of Keras."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ESTIMATE = """
import sys
import numpy as np
from relaxnet.networks.registry import load_network
S = np.random.default_rng(0).uniform(0.1, 1, (1, 8, 8, {N})).astype("f")
inputs = [S, np.array({times}, "f"), np.full(1, 0.02, "f")]
np.save(sys.argv[1], np.asarray(load_network("{network}").estimate(inputs)))
"""
RIM = ESTIMATE.format(N=5, times=[100, 300, 600, 1200, 2400], network="rim-t1")
RESNET = ESTIMATE.format(N=6, times=[10, 20, 40, 80, 160, 320], network="resnet-fse6")


def run(code: str, place: Path, **variables: str) -> str:
    """Run a program with its own home folder; returns its errors."""
    place.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", code, str(place / "kappa.npy")],
        env={**os.environ, "HOME": str(place), "KERAS_BACKEND": "", **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr if done.returncode else ""


def settings(place: Path, **content: object) -> None:
    (place / ".keras").mkdir(parents=True)
    (place / ".keras" / "keras.json").write_text(json.dumps(content))


@pytest.mark.parametrize("code", [RIM, RESNET], ids=["rim", "resnet"])
def test_settings_of_keras_do_not_matter(tmp_path, code):
    assert run(code, tmp_path / "plain") == ""
    unusual = tmp_path / "unusual"
    settings(unusual, backend="torch", floatx="float64", image_data_format="channels_first")
    kept = (unusual / ".keras" / "keras.json").read_bytes()
    assert run(code, unusual, KERAS_BACKEND="jax") == ""
    expected, found = (np.load(tmp_path / n / "kappa.npy") for n in ("plain", "unusual"))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert (unusual / ".keras" / "keras.json").read_bytes() == kept


def test_environment_is_as_before(tmp_path):
    code = (
        "import os, relaxnet.networks.frameworks\n"
        "assert os.environ['KERAS_BACKEND'] == 'jax'\n"
        "assert 'KERAS_HOME' not in os.environ"
    )
    assert run(code, tmp_path, KERAS_BACKEND="jax") == ""


def test_half_precision_of_the_calling_program_does_not_matter(tmp_path):
    assert run(RIM, tmp_path / "plain") == ""
    half = "import keras\nkeras.config.set_floatx('float16')\n"
    half += "keras.config.set_dtype_policy('mixed_float16')\n"
    assert run(half + RIM, tmp_path / "half") == ""
    expected, found = (np.load(tmp_path / n / "kappa.npy") for n in ("plain", "half"))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_program_that_has_imported_keras_with_another_backend():
    code = (
        "import sys, types\n"
        "keras = types.ModuleType('keras')\n"
        "keras.backend = types.SimpleNamespace(backend=lambda: 'jax')\n"
        "sys.modules['keras'] = keras\n"
        "from relaxnet.networks.registry import ModelError, load_network\n"
        "for _ in range(2):\n"
        "    try:\n        load_network('rim-t1')\n"
        "    except ModelError as error:\n        print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert all("runs on jax" in line and "KERAS_BACKEND=tensorflow" in line for line in lines)


@pytest.mark.parametrize("content", ["[]", '{"floatx": "float8"}', '{"backend": 3}'])
def test_command_does_not_read_settings(tmp_path, content):
    (tmp_path / ".keras").mkdir()
    (tmp_path / ".keras" / "keras.json").write_text(content)
    code = (
        "from relaxnet.cli.tensorflow_import import import_tensorflow\nimport_tensorflow()\n"
        "import keras\nassert keras.config.floatx() == 'float32'"
    )
    assert run(code, tmp_path) == ""
    assert (tmp_path / ".keras" / "keras.json").read_text() == content
