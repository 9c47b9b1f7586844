"""Exported networks: they give what predict gives, and say what a caller has to do."""

import json
from unittest import mock

import numpy as np
import pytest
from click.testing import CliRunner
from small_series import TAU, series, write_times

from relaxnet.cli.group import main
from relaxnet.networks.rim import RIM
from relaxnet.networks.tiling import filled
from relaxnet.prediction.arrays import predict
from relaxnet.series.scale import series_scale
from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY
from relaxsim.models.t2_decay import MODEL as T2_DECAY


def small_rim(**options):
    """A network whose last layer does something."""
    network = RIM(**{"model": "inversion_recovery", **options}, features=4, num_steps=2)
    kernel = network.cell.conv_4.kernel
    kernel.assign(0.1 * np.random.default_rng(0).standard_normal(kernel.shape))
    return network


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "net.keras"
    small_rim().save(path)
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_times(tmp_path / "tis.txt")
    (tmp_path / "tes.txt").write_text("10 20 40 80")
    return tmp_path


def call(*arguments):
    return CliRunner().invoke(main, ["export", *map(str, arguments)])


def expected(network):
    """What predict gives, and what the export has to be given and multiplied with for it.

    Without the second look at voxels on the wrong side of the zero crossing, which is predict's.
    """
    S, _, disc = series()
    S = np.abs(S)  # magnitudes, as an export takes them
    with mock.patch("relaxnet.prediction.estimators.restored", return_value=None):
        maps = predict(S, TAU, INVERSION_RECOVERY, network=network, sigma=8.0, mask=disc)
    scale = series_scale(S, disc)
    slices = [filled(S[:, :, z] / scale) for z in range(S.shape[2])]
    return maps.kappa, disc, slices, 8.0 / scale, scale


def check(estimate, network):
    kappa, disc, slices, sigma, scale = expected(network)
    for z, images in enumerate(slices):
        found = estimate(images[None].astype(np.float32), np.array([sigma], np.float32))[0]
        found = found * [scale, 1, 1]
        inside = disc[:, :, z]
        np.testing.assert_allclose(found[inside], kappa[:, :, z][inside], rtol=2e-5)


def test_saved_model_equals_predict(folder, network):
    import tensorflow as tf

    result = call(network, "--tis", "tis.txt", "--out", "saved")
    assert result.exit_code == 0, result.output
    serve = tf.saved_model.load("saved").signatures["serving_default"]
    check(lambda S, sigma: serve(S=tf.constant(S), sigma=tf.constant(sigma))["kappa"], network)
    card = json.loads((folder / "saved/relaxnet.json").read_text())
    assert card["InversionTimesMs"] == TAU.tolist()
    assert card["Parameters"] == ["A", "B", "T1"]
    assert card["Units"]["T1"] == "ms"
    assert card["Halo"] == 6
    assert "95th percentile" in card["Scale"]
    assert len(list(folder.iterdir())) == 3


def test_an_export_for_signed_data_equals_predict(folder, tmp_path):
    import tensorflow as tf

    network = small_rim(fit_steps=True)
    network.save(tmp_path / "steps.keras")
    assert call("steps.keras", "--tis", "tis.txt", "--signed", "--out", "saved").exit_code == 0
    _, kappa, disc = series()
    safe = np.where(disc[..., None], kappa, [0.0, 2.0, 1000.0])
    S = INVERSION_RECOVERY.signed(safe, TAU, np)
    maps = predict(S, TAU, INVERSION_RECOVERY, network=network, sigma=8.0, mask=disc, signed=True)
    scale = series_scale(S, disc)
    serve = tf.saved_model.load("saved").signatures["serving_default"]
    images, sigma = tf.constant(S[None, :, :, 0] / scale, tf.float32), tf.constant([8.0 / scale])
    found = serve(S=images, sigma=tf.cast(sigma, tf.float32))["kappa"].numpy()[0] * [scale, 1, 1]
    inside = disc[:, :, 0]
    np.testing.assert_allclose(found[inside], maps.kappa[:, :, 0][inside], rtol=1e-3)
    recipe = json.loads((folder / "saved/relaxnet.json").read_text())
    assert "with its sign" in recipe["Inputs"]["S"]


def test_signed_is_for_inversion_recovery(folder, tmp_path):
    small_rim(model="t2_decay").save(tmp_path / "t2.keras")
    result = call("t2.keras", "--tes", "tes.txt", "--signed", "--out", "saved")
    assert result.exit_code == 2
    assert "--signed is for" in result.output


def test_an_error_head_is_exported(folder, tmp_path):
    import tensorflow as tf

    small_rim(uncertainty=True).save(tmp_path / "head.keras")
    assert call("head.keras", "--tis", "tis.txt", "--out", "saved").exit_code == 0
    found = tf.saved_model.load("saved").signatures["serving_default"](
        S=tf.fill((1, 9, 8, len(TAU)), 0.5), sigma=tf.constant([0.05])
    )
    assert found["std"].shape == found["kappa"].shape == (1, 9, 8, 3)
    assert "std" in json.loads((folder / "saved/relaxnet.json").read_text())["Outputs"]


def test_onnx_equals_predict(folder, network):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("tf2onnx")
    result = call(network, "--format", "onnx", "--tis", "tis.txt", "--out", "net.onnx")
    assert result.exit_code == 0, result.output
    session = runtime.InferenceSession("net.onnx", providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["S", "sigma"]
    check(lambda S, sigma: session.run(["kappa"], {"S": S, "sigma": sigma})[0], network)
    assert json.loads((folder / "net.json").read_text())["Network"] == "net"


def test_onnx_spares_a_file_that_is_no_recipe(folder, network, monkeypatch):
    """Such as the card of the network itself, best.json beside best.keras."""
    monkeypatch.setattr("relaxnet.networks.export.find_spec", lambda _: True)
    card = folder / "net.json"
    card.write_text('{"kind": "rim"}')
    options = "--format", "onnx", "--tis", "tis.txt", "--out", "net.onnx", "--overwrite"
    result = call(network, *options)
    assert result.exit_code == 2
    assert "net.json, where the recipe would go, holds something else" in result.output
    assert card.read_text() == '{"kind": "rim"}'


def test_onnx_without_its_packages_is_refused(folder, network, monkeypatch):
    monkeypatch.setattr("relaxnet.networks.export.find_spec", lambda name: None)
    result = call(network, "--format", "onnx", "--tis", "tis.txt", "--out", "net.onnx")
    assert result.exit_code == 2
    assert 'pip install "relaxnet[onnx]"' in result.output
    assert not (folder / "net.onnx").exists()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--out", "saved"], "give inversion times with --tis"),
        (["--tes", "tes.txt", "--out", "saved"], "give its inversion times with --tis"),
        (["--tis", "tis.txt", "--out", "there"], "there is there"),
        (["--tis", "tis.txt", "--out", "tis.txt", "--overwrite"], "is a file"),
        (["--tis", "tis.txt", "--out", "there", "--overwrite"], "other things than a SavedModel"),
    ],
)
def test_refusals_are_one_line_and_leave_things_alone(folder, network, arguments, match):
    (folder / "there").mkdir()
    (folder / "there/thesis.txt").write_text("years")
    before = sorted(folder.rglob("*"))
    result = call(network, *arguments)
    assert result.exit_code == 2
    assert match in result.output
    assert len(result.output.strip().splitlines()) == 1
    assert sorted(folder.rglob("*")) == before


def test_a_resnet_wants_its_number_of_images(folder, tmp_path):
    from relaxnet.networks.resnet import ResNet

    ResNet(T2_DECAY.name, num_images=6, widths=(4, 4)).save(tmp_path / "res.keras")
    result = call("res.keras", "--tes", "tes.txt", "--out", "saved")
    assert result.exit_code == 2
    assert "takes 6 images" in result.output
    assert call("res.keras", "--tes", "fse6", "--out", "saved").exit_code == 0


def test_a_card_that_is_none_leaves_nothing(folder, tmp_path):
    small_rim().save(tmp_path / "net.keras")
    (tmp_path / "net.json").write_text('{"envelope": {"num_images": [7, 7], "sigma": [-1, "a"]}}')
    before = sorted(folder.rglob("*"))
    result = call("net.keras", "--tis", "tis.txt", "--out", "saved")
    assert result.exit_code == 2
    assert "envelope" in result.output
    assert sorted(folder.rglob("*")) == before


def test_overwrite_replaces_an_earlier_export(folder, network):
    assert call(network, "--tis", "tis.txt", "--out", "saved").exit_code == 0
    assert call(network, "--tis", "tis.txt", "--out", "saved", "--overwrite").exit_code == 0
    assert (folder / "saved/saved_model.pb").is_file()


def test_times_outside_the_training_are_told(folder):
    result = call("rim-cine31", "--tis", "tis.txt", "--out", "saved")
    if "no shipped network" in result.output:
        pytest.skip("rim-cine31 does not ship")
    assert result.exit_code == 0, result.output
    assert "warning: outside of what the network was trained for" in result.output
