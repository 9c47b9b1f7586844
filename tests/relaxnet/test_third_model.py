"""A new signal model is one file, simulated, trained, fitted and predicted as the others."""

import numpy as np
import pytest
from small_shards import make_shards
from toy_models import add_toys, remove_toys

from relaxnet.networks.registry import load_network
from relaxnet.prediction.arrays import predict
from relaxnet.training.loop import run
from relaxnet.training.settings import Settings
from relaxsim.models.registry import signal_model

TAU = np.array([100.0, 300.0, 700.0, 1500.0, 4000.0])


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    known = add_toys(monkeypatch)
    yield
    remove_toys(known)


def test_file_is_all_that_a_model_needs(tmp_path):
    model = signal_model("saturation_recovery")
    shards = make_shards(tmp_path / "shards", model=model, tau=TAU)
    settings = Settings((str(shards),), iterations=4, batch_size=4, features=6, num_steps=2)
    losses = [p.loss for p in run(settings, tmp_path / "run")]
    assert np.isfinite(losses).all()
    network = load_network(tmp_path / "run" / "last.keras")
    kappa = np.zeros((6, 5, 1, 2))
    kappa[..., 0], kappa[..., 1] = 300.0, np.linspace(400, 1600, 30).reshape(6, 5, 1)
    S = model.forward(kappa, TAU)
    fit = predict(S, TAU, model, "mle", sigma=1.0)
    np.testing.assert_allclose(fit.kappa, kappa, rtol=1e-3)
    maps = predict(S, TAU, model, "rim", network, sigma=1.0)
    assert maps.kappa.shape == kappa.shape
    assert (maps.kappa > 0).all()
    assert set(maps.named()) == {"M0map", "T1smap", "residual", "status"}
