"""Prediction for signal models that only tests have: tables of protocols and known maps."""

import numpy as np
import pytest
from small_networks import randomised
from toy_models import add_toys, remove_toys

from relaxnet.networks.rim import RIM
from relaxnet.prediction.arrays import predict
from relaxsim.models.registry import signal_model

TIMES = np.array([100.0, 300.0, 700.0, 1500.0, 4000.0])
TABLE = np.array([[30.0, 200.0], [60.0, 200.0], [60.0, 600.0], [60.0, 1500.0], [40.0, 3000.0]])


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    added = add_toys(monkeypatch)
    yield
    remove_toys(added)


def kappa_of(shape=(6, 5, 2)):
    kappa = np.zeros((*shape, 2))
    kappa[..., 0] = 300.0
    kappa[..., 1] = np.linspace(400, 1600, int(np.prod(shape))).reshape(shape)
    return kappa


def field(shape=(6, 5, 2)):
    return 1.0 + 0.2 * np.linspace(-1, 1, int(np.prod(shape))).reshape(shape)


@pytest.mark.parametrize("name", ["tss", "sr", "saturation_recovery"])
def test_list_of_times(name):
    model, kappa = signal_model("saturation_recovery"), kappa_of()
    maps = predict(model.forward(kappa, TIMES), TIMES, name, "mle", sigma=1.0)
    np.testing.assert_allclose(maps.kappa, kappa, rtol=1e-3)
    assert set(maps.named()) == {"M0map", "M0std", "T1smap", "T1sstd", "residual", "status"}


def test_a_list_for_each_slice():
    model, kappa = signal_model("saturation_recovery"), kappa_of()
    tables = np.stack([TIMES, 1.3 * TIMES])[..., None]
    S = np.stack([model.forward(kappa[:, :, z], tables[z]) for z in range(2)], axis=2)
    noise = 2.0 * np.random.default_rng(0).standard_normal(S.shape)
    maps = predict(S + noise, tables, model, "mle")
    np.testing.assert_allclose(maps.kappa, kappa, rtol=0.15)
    assert maps.residual.mean() < 1.5
    with pytest.raises(ValueError, match="has 3 slices, the series has 2"):
        predict(S, np.stack([TIMES] * 3)[..., None], model, "mle", sigma=1.0)


def test_known_map_and_two_columns():
    model, kappa, B1 = signal_model("spoiled_echo"), kappa_of(), field()
    S = model.forward(kappa, TABLE, np, B1[..., None])
    for known in (B1[..., None], {"B1": B1}):
        maps = predict(S, TABLE, model, "mle", sigma=1.0, known=known)
        np.testing.assert_allclose(maps.kappa, kappa, rtol=5e-3)
        assert not maps.warnings
    noisy = S + 2.0 * np.random.default_rng(0).standard_normal(S.shape)
    assert predict(noisy, TABLE, model, "mle", known={"B1": B1}).sigma == pytest.approx(2, rel=0.4)


def test_without_a_known_map_its_default_is_taken_and_said():
    model, kappa = signal_model("spoiled_echo"), kappa_of()
    S = model.forward(kappa, TABLE)
    maps = predict(S, TABLE, model, "mle", sigma=1.0)
    np.testing.assert_allclose(maps.kappa, kappa, rtol=5e-3)
    assert "no relative transmit field is given (`b1`): B1 is taken as 1" in maps.warnings[0]


def test_known_maps_that_cannot_be_such_maps_are_refused():
    model, B1 = signal_model("spoiled_echo"), field()
    S = model.forward(kappa_of(), TABLE)

    def refused(known, match):
        with pytest.raises(ValueError, match=match):
            predict(S, TABLE, model, "mle", sigma=1.0, known=known)

    refused(B1[:-1, ..., None], r"known maps have shape \(5, 5, 2, 1\), expected \(6, 5, 2, 1\)")
    refused({"B1": B1[:-1]}, r"`b1` has shape \(5, 5, 2\)")
    refused({"B2": B1}, "'B2' is no known map")
    refused({"B1": 100 * B1}, "divide per cent by 100")
    lost = B1.copy()
    lost[0, 0, 0] = np.nan
    refused({"B1": lost}, "`b1` is not finite in 1 of 60 voxels of the mask")
    inside = np.ones(B1.shape, bool)
    inside[0, 0, 0] = False
    assert predict(S, TABLE, model, "mle", sigma=1.0, known={"B1": lost}, mask=inside) is not None
    saturation = signal_model("saturation_recovery")
    S = saturation.forward(kappa_of(), TIMES)
    with pytest.raises(ValueError, match="has no known map"):
        predict(S, TIMES, saturation, "mle", sigma=1.0, known=B1[..., None])


@pytest.mark.parametrize("name", ["saturation_recovery", "spoiled_echo"])
def test_networks(name):
    model = signal_model(name)
    table = TIMES[:, None] if len(model.columns) == 1 else TABLE
    S = model.forward(kappa_of(), table)
    network = randomised(RIM(name, features=4, num_steps=2))
    maps = predict(S, table, model, network=network, sigma=1.0)
    assert maps.kappa.shape == (6, 5, 2, 2)
    assert (maps.kappa > 0).all()
    if model.known_maps:
        other = predict(S, table, model, network=network, sigma=1.0, known={"B1": field()})
        assert not np.allclose(maps.kappa, other.kappa)
