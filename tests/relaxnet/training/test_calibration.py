import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from small_networks import randomised
from small_shards import make_shards

from relaxnet.cli.group import main
from relaxnet.networks.registry import load_network, read_card
from relaxnet.networks.resnet import ResNet
from relaxnet.networks.rim import RIM
from relaxnet.training import calibration
from relaxnet.training.calibration import (
    NUM_GROUPS,
    SNR_EDGES,
    Errors,
    Settings,
    coverage_of,
    fit,
    groups,
    interval_loss,
    run,
)
from relaxnet.training.loop import initial_network
from relaxnet.training.settings import Settings as TrainingSettings
from relaxnet.training.settings import TrainingError
from relaxsim.models.t2_decay import MODEL as T2_DECAY
from relaxsim.shards.layout import list_shards, read_info


def small_rim(**options):
    return randomised(RIM(**{"model": "inversion_recovery", **options}, features=6, num_steps=2))


def drawn_errors(rng, num=40_000):
    """Normal errors whose spread, exp(x_0), the head can see; the bound knows nothing of it."""
    group = rng.integers(0, NUM_GROUPS, num).astype(np.int32)
    inputs = rng.normal(size=(num, 2 * 6 + 5 * 2 + 1)).astype(np.float32)
    error = np.exp(inputs[:, :1]) * rng.standard_normal((num, 2))
    log_bound = np.full((num, 2), -1.0, np.float32)
    return Errors(inputs, log_bound, np.log(np.abs(error)).astype(np.float32), group)


def test_head_learns_the_spread_of_errors():
    network = small_rim(model="t2_decay", uncertainty=True)
    settings = Settings("", (), iterations=300, batch_size=4096, learning_rate=0.02)
    losses = list(fit(network.error_head, drawn_errors(np.random.default_rng(0)), settings))
    assert np.mean(losses[-20:]) < 0.9 * losses[0]
    new = drawn_errors(np.random.default_rng(1))
    for levels in coverage_of(network, new).values():
        assert levels["68"] == pytest.approx(68.27, abs=1.5)
        assert levels["95"] == pytest.approx(95, abs=1)
    log_std = np.asarray(network.error_head(new.inputs, new.log_bound))
    assert np.abs(log_std - new.inputs[:, :1]).mean() < 0.15


def test_groups_share_what_the_head_cannot_see():
    """Two tissues that look alike but differ in spread: one number each, and both miss alike."""
    rng = np.random.default_rng(0)
    num = 40_000
    group = rng.choice([2, 7], num).astype(np.int32)
    seen = np.where(group == 2, 1.0, -1.0) + rng.normal(size=num)
    spread = np.where(group == 2, 1.0, 1.4)[:, None]
    inputs = np.zeros((num, 2 * 6 + 5 * 2 + 1), np.float32)
    inputs[:, 0] = seen
    error = spread * rng.standard_normal((num, 2))
    errors = Errors(inputs, np.zeros((num, 2), "f"), np.log(np.abs(error)).astype("f"), group)
    network = small_rim(model="t2_decay", uncertainty=True)
    settings = Settings("", (), iterations=500, batch_size=4096, learning_rate=0.02)
    list(fit(network.error_head, errors, settings))
    for which in (2, 7):
        part = Errors(*(x[group == which] for x in vars(errors).values()))
        for levels in coverage_of(network, part).values():
            assert levels["68"] == pytest.approx(68.27, abs=2)
            assert levels["95"] == pytest.approx(95, abs=1.5)


def test_factor_is_what_heavy_tails_need():
    """Errors of Student's t with 3 degrees of freedom: 95 % lie within 2.66 of the 68 % width."""
    rng = np.random.default_rng(0)
    drawn = drawn_errors(rng)
    error = np.log(np.abs(rng.standard_t(3, (len(drawn.group), 2)))).astype("f")
    network = small_rim(model="t2_decay", uncertainty=True)
    np.testing.assert_allclose(network.error_head.factors, 1.96, rtol=1e-6)
    settings = Settings("", (), iterations=600, batch_size=4096, learning_rate=0.01)
    list(
        fit(network.error_head, Errors(drawn.inputs, drawn.log_bound, error, drawn.group), settings)
    )
    np.testing.assert_allclose(network.error_head.factors, 2.66, rtol=0.07)


def test_loss_is_least_at_the_standard_deviation():
    error = np.log(np.abs(np.random.default_rng(0).standard_normal((100_000, 1)))).astype("f")
    spreads = np.exp(np.linspace(-0.4, 0.4, 17)).astype(np.float32)
    losses = [float(interval_loss(error - np.log(s), np.float32(0.6827))) for s in spreads]
    assert spreads[np.argmin(losses)] == pytest.approx(1.0, abs=0.06)


def test_groups_are_tissues_by_noise():
    labels = np.array([[[0, 2]], [[3, 5]]])
    found = groups(labels, np.array([0.75 / 5, 0.75 / 100]))
    last, levels = len(SNR_EDGES), len(SNR_EDGES) + 1
    np.testing.assert_array_equal(found, [[[3 * levels, 0]], [[levels + last, 3 * levels + last]]])
    assert found.max() < NUM_GROUPS


def test_stage_leaves_the_network_and_its_card(shards, tmp_path):
    bare = small_rim()
    bare.save(tmp_path / "mine.keras")
    (tmp_path / "mine.json").write_text('{"name": "mine", "weights": 1}')
    settings = Settings(str(tmp_path / "mine.keras"), (str(shards),), patches=8, iterations=3)
    steps = list(run(settings, tmp_path / "out"))
    assert [s.done for s in steps] == list(range(1, steps[-1].total + 1))
    network = load_network(tmp_path / "out" / "best.keras")
    for a, b in zip(network.cell.get_weights(), bare.cell.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    card = read_card(tmp_path / "out" / "best.keras")
    assert card["name"] == "mine"
    assert card["weights"] == network.count_params() > bare.count_params()
    assert card["error_head"]["network"] == "mine"
    assert set(card["error_head"]["coverage_of_held_back_patches"]) == {"A", "B", "T1"}
    with pytest.raises(TrainingError, match="holds a network"):
        next(run(settings, tmp_path / "out"))


def test_a_folder_that_cannot_be_is_refused_before_the_work(shards, tmp_path):
    network = tmp_path / "network.keras"
    RIM("inversion_recovery", features=4, num_steps=2).save(network)
    (tmp_path / "out").write_text("")
    with pytest.raises(TrainingError, match="is a file"):
        next(run(Settings(str(network), (str(shards),)), tmp_path / "out"))


def test_same_seed_gives_the_same_head(shards, tmp_path):
    small_rim().save(tmp_path / "net.keras")
    settings = Settings(str(tmp_path / "net.keras"), (str(shards),), patches=8, iterations=3)
    for name in ("a", "b"):
        list(run(settings, tmp_path / name))
    a, b = (load_network(tmp_path / name / "best.keras").get_weights() for name in ("a", "b"))
    for one, other in zip(a, b, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_head_is_judged_on_shards_that_it_is_not_fitted_to(tmp_path, monkeypatch):
    folder = make_shards(tmp_path / "shards", num_shards=3)
    small_rim().save(tmp_path / "net.keras")
    shards_of, used = {}, []
    original_collect, original_joined = calibration.collect, calibration._joined

    def collect(network, infos, *arguments):
        for errors in original_collect(network, infos, *arguments):
            shards_of[id(errors)] = {info.path.name for info in infos}
            yield errors

    def joined(parts):
        used.append(set.union(*(shards_of[id(part)] for part in parts)))
        return original_joined(parts)

    monkeypatch.setattr(calibration, "collect", collect)
    monkeypatch.setattr(calibration, "_joined", joined)
    settings = Settings(str(tmp_path / "net.keras"), (str(folder),), patches=240, iterations=2)
    steps = list(run(settings, tmp_path / "out"))
    assert [step.doing for step in steps] == ["errors"] * 10 + ["fit"] * 2
    assert used == [{"shard-00000.h5", "shard-00001.h5"}, {"shard-00002.h5"}]
    card = read_card(tmp_path / "out" / "best.keras")
    assert card["error_head"]["held_back_shards"] == ["shards/shard-00002.h5"]


def test_a_single_shard_is_refused(tmp_path):
    folder = make_shards(tmp_path / "shards", num_shards=1)
    small_rim().save(tmp_path / "net.keras")
    with pytest.raises(TrainingError, match=r"shard-00000\.h5 is the only shard"):
        next(run(Settings(str(tmp_path / "net.keras"), (str(folder),)), tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_killed_calibration_leaves_the_old_pair(shards, tmp_path, monkeypatch):
    small_rim().save(tmp_path / "net.keras")
    settings = Settings(str(tmp_path / "net.keras"), (str(shards),), patches=8, iterations=1)
    list(run(settings, tmp_path / "out"))
    path = tmp_path / "out" / "best.keras"
    old, old_card = path.read_bytes(), read_card(path)

    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("relaxnet.networks.saving.write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        list(run(replace(settings, seed=1), tmp_path / "out", overwrite=True))
    assert path.read_bytes() == old
    assert read_card(path) == old_card
    assert old_card["error_head"]["seed"] == 0


def test_wrong_networks_are_refused(shards, tmp_path):
    small_rim(model="t2_decay").save(tmp_path / "t2.keras")
    ResNet("inversion_recovery", num_images=4, widths=(4, 6)).save(tmp_path / "resnet.keras")
    for name, words in (("t2", "a rim for t2_decay"), ("resnet", "a resnet for inversion")):
        settings = Settings(str(tmp_path / f"{name}.keras"), (str(shards),))
        with pytest.raises(TrainingError, match=words):
            next(run(settings, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_training_on_drops_the_head(shards, tmp_path):
    """Its errors are then no longer those that the head was fitted to."""
    small_rim(uncertainty=True).save(tmp_path / "net.keras")
    settings = TrainingSettings((str(shards),), init=str(tmp_path / "net.keras"))
    assert not initial_network(settings, read_info(list_shards(shards)[0])).has_std


def test_command(tmp_path):
    make_shards(tmp_path / "t2", model=T2_DECAY, tau=np.array([10.0, 30.0, 60.0, 120.0]))
    small_rim(model="t2_decay").save(tmp_path / "net.keras")
    command = ["calibrate", str(tmp_path / "net.keras"), "--data", str(tmp_path / "t2")]
    command += ["--out", str(tmp_path / "out"), "--patches", "8", "--iterations", "2"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    card = json.loads((tmp_path / "out" / "best.json").read_text())
    assert card["error_head"]["data"] == ["t2"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 2
    assert "Give --overwrite" in result.output
