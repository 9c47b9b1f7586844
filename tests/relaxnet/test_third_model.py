"""A new signal model is one file, simulated, trained, fitted and predicted as the others."""

import numpy as np
import pytest
import tensorflow as tf
from small_shards import make_shards
from toy_models import add_toys, remove_toys

from relaxnet.networks.export import export_network
from relaxnet.networks.registry import card_path, load_network, read_card
from relaxnet.networks.tiling import run_network
from relaxnet.networks.training_domain import check_series, envelope_of
from relaxnet.prediction.arrays import predict
from relaxnet.training import calibration
from relaxnet.training.loop import run
from relaxnet.training.settings import Settings
from relaxsim.models.protocols import given_protocol
from relaxsim.models.registry import signal_model

TAU = np.array([100.0, 300.0, 700.0, 1500.0, 4000.0])
#: Rows of flip angle (degrees) and repetition time (ms).
TABLE = np.array([[30.0, 200.0], [60.0, 200.0], [60.0, 600.0], [60.0, 1500.0], [40.0, 3000.0]])
SMALL = {"iterations": 4, "batch_size": 4, "features": 6, "num_steps": 2}


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    known = add_toys(monkeypatch)
    yield
    remove_toys(known)


def trained(folder, model, protocol, **options):
    """Folder of a short run on small shards of a model."""
    shards = make_shards(folder / "shards", model=model, tau=protocol)
    losses = [p.loss for p in run(Settings((str(shards),), **{**SMALL, **options}), folder / "run")]
    assert np.isfinite(losses).all()
    return folder / "run" / "last.keras"


def test_file_is_all_that_a_model_needs(tmp_path):
    model = signal_model("saturation_recovery")
    network = load_network(trained(tmp_path, model, TAU))
    kappa = np.zeros((6, 5, 1, 2))
    kappa[..., 0], kappa[..., 1] = 300.0, np.linspace(400, 1600, 30).reshape(6, 5, 1)
    S = model.forward(kappa, TAU)
    fit = predict(S, TAU, model, "mle", sigma=1.0)
    np.testing.assert_allclose(fit.kappa, kappa, rtol=1e-3)
    maps = predict(S, TAU, model, "rim", network, sigma=1.0)
    assert maps.kappa.shape == kappa.shape
    assert (maps.kappa > 0).all()
    assert set(maps.named()) == {"M0map", "T1smap", "residual", "status"}


def test_card_of_a_model_with_one_list_of_times(tmp_path):
    model = signal_model("saturation_recovery")
    card = read_card(trained(tmp_path, model, TAU))
    assert card["envelope"]["tau_ms"] == [100.0, 4000.0]
    envelope = envelope_of(card, model)
    assert envelope.parameters == {"T1s": (10.0, 6000.0)}
    assert (
        "saturation times of 900 to 9000 ms"
        in check_series(envelope, np.array([900.0, 2000, 3000, 4000, 9000]), 0.05).refusals[0]
    )


@pytest.mark.parametrize("architecture", ["rim", "resnet"])
def test_two_columns_and_a_known_map(tmp_path, architecture):
    model = signal_model("spoiled_echo")
    if architecture == "resnet":  # it takes one number of images
        shards = make_shards(tmp_path / "shards", model=model, tau=TABLE, num_shards=1)
        settings = Settings((str(shards),), model="resnet", **SMALL)
        list(run(settings, tmp_path / "run"))
        path = tmp_path / "run" / "last.keras"
    else:
        path = trained(tmp_path, model, TABLE)
    network = load_network(path)
    rng = np.random.default_rng(0)
    S = rng.uniform(0.1, 1, (2, 8, 9, 5)).astype(np.float32)
    B1 = rng.uniform(0.8, 1.2, (2, 8, 9, 1)).astype(np.float32)
    kappa = run_network(network, S, TABLE, [0.05, 0.05], known=B1)
    assert kappa.shape == (2, 8, 9, 2)
    assert (kappa > 0).all()
    columns = read_card(path)["envelope"]["columns"]
    assert columns == {"flip_angle": [30.0, 60.0], "repetition_time": [200.0, 3000.0]}
    envelope = envelope_of(read_card(path), model)
    far = check_series(envelope, TABLE * [1.0, 3.0], 0.05).refusals
    assert far == ("repetition times of 600 to 9000 ms, trained for 200 to 3000 ms",)
    export_network(path, given_protocol(TABLE, model), tmp_path / "saved")
    serve = tf.saved_model.load(str(tmp_path / "saved")).signatures["serving_default"]
    sigma = tf.constant([0.05])
    found = serve(S=tf.constant(S[:1]), sigma=sigma, known=tf.constant(B1[:1]))["kappa"]
    expected = run_network(network, S[:1], TABLE, [0.05], known=B1[:1], rician=True)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_an_error_head_of_a_model_with_a_known_map(tmp_path):
    path = trained(tmp_path, signal_model("spoiled_echo"), TABLE)
    settings = calibration.Settings(
        str(path), (str(tmp_path / "shards"),), patches=8, iterations=2, voxels=16
    )
    list(calibration.run(settings, tmp_path / "head"))
    network = load_network(tmp_path / "head" / "best.keras")
    assert network.has_std
    assert card_path(tmp_path / "head" / "best.keras").is_file()
    values = run_network(network, np.full((1, 4, 5, 5), 0.5), TABLE, [0.05])
    assert (values > 0).all()
