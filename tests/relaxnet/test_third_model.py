"""A new signal model is one record, simulated, trained, fitted and predicted as the others."""

import numpy as np
import pytest
from small_shards import make_shards

from relaxnet.networks.registry import load_network
from relaxnet.prediction.arrays import predict
from relaxnet.training.loop import Settings, run
from relaxsim.models.signals import MODELS, SignalModel


def _signed(kappa, tau, xp):
    return kappa[..., 0:1] * (1.0 - xp.exp(-tau / kappa[..., 1:2]))


def _jacobian(kappa, tau, xp):
    A, T1 = kappa[..., 0:1], kappa[..., 1:2]
    E = xp.exp(-tau / T1)
    return xp.stack([1.0 - E, -A * E * tau / T1**2], axis=-1)


SATURATION_RECOVERY = SignalModel(
    name="saturation_recovery",
    parameters=("A", "T1"),
    units=("a.u.", "ms"),
    times="tss",
    time_name="saturation times",
    magnitude=False,
    start=(None, 1000.0),
    bounds=((0.0, 20.0), (10.0, 6000.0)),
    signed=_signed,
    signed_jacobian=_jacobian,
    basis=lambda T, tau, xp: (1.0 - xp.exp(-tau / T[..., None]))[..., None],
    from_linear=lambda c, T, xp: xp.stack([c[..., 0], T], axis=-1),
)
TAU = np.array([100.0, 300.0, 700.0, 1500.0, 4000.0])


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    monkeypatch.setitem(MODELS, SATURATION_RECOVERY.name, SATURATION_RECOVERY)


def test_record_is_all_that_a_model_needs(tmp_path):
    shards = make_shards(tmp_path / "shards", model=SATURATION_RECOVERY, tau=TAU)
    settings = Settings((str(shards),), iterations=4, batch_size=4, features=6, num_steps=2)
    losses = [p.loss for p in run(settings, tmp_path / "run")]
    assert np.isfinite(losses).all()
    network = load_network(tmp_path / "run" / "last.keras")
    kappa = np.zeros((6, 5, 1, 2))
    kappa[..., 0], kappa[..., 1] = 300.0, np.linspace(400, 1600, 30).reshape(6, 5, 1)
    S = SATURATION_RECOVERY.forward(kappa, TAU)
    fit = predict(S, TAU, SATURATION_RECOVERY, "mle", sigma=1.0)
    np.testing.assert_allclose(fit.kappa, kappa, rtol=1e-3)
    maps = predict(S, TAU, SATURATION_RECOVERY, "rim", network, sigma=1.0)
    assert maps.kappa.shape == kappa.shape
    assert (maps.kappa > 0).all()
    assert set(maps.named()) == {"M0map", "T1map", "residual", "status"}
