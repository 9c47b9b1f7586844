import csv
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from small_shards import TAU, make_shards

from relaxnet.cli.group import main
from relaxnet.networks.registry import load_network
from relaxnet.networks.rim import RIM
from relaxnet.training.dataset import (
    VALIDATION_BATCHES,
    batch_sizes,
    batches,
    check_batches,
    load_batch,
    read_infos,
    schedule,
    validation_batches,
)
from relaxnet.training.history import COLUMNS
from relaxnet.training.loop import learning_rate_of, make_optimizer, make_steps, run
from relaxnet.training.loss import (
    LEAST_ERROR,
    patch_loss,
    squared_loss,
    tissue_bias,
    tissues_of,
)
from relaxnet.training.settings import Settings, TrainingError
from relaxnet.training.split import held_back
from relaxsim.models.t2_decay import MODEL as T2_DECAY
from relaxsim.shards.layout import DATASETS, ShardError, read_shard, shard_path, write_shard

SMALL = {"features": 8, "num_steps": 2, "batch_size": 4}


def test_batches_follow_seed_and_number(shards):
    infos = read_infos([shards])
    a, b = (load_batch(infos, 4, seed=3, iteration=5) for _ in range(2))
    np.testing.assert_array_equal(a.S, b.S)
    other = load_batch(infos, 4, seed=4, iteration=5)
    assert a.S.shape != other.S.shape or np.abs(a.S - other.S).max() > 0


def test_an_epoch_holds_every_patch_once(shards):
    infos = read_infos([shards])
    order = schedule((2, 2), 0, 0)
    assert sorted(map(tuple, order)) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    sigmas = np.concatenate(
        [load_batch(infos, 4, 0, k, jitter=False).S.sum(axis=(1, 2, 3)) for k in range(4)]
    )
    assert len(np.unique(sigmas)) == 16


def test_batches_resume_in_the_middle(shards):
    infos = read_infos([shards])
    whole = [batch[0].numpy() for batch in batches(infos, 4, 0, 0, 6)]
    tail = [batch[0].numpy() for batch in batches(infos, 4, 0, 3, 6)]
    for a, b in zip(whole[3:], tail, strict=True):
        np.testing.assert_array_equal(a, b)


def test_some_patches_are_told_a_wrong_sigma(shards):
    infos = read_infos([shards])
    pairs = [
        [load_batch(infos, 4, 0, k, sigma_error=error) for error in (1.0, 2.0)] for k in range(24)
    ]
    ratio = np.concatenate([wrong.sigma / true.sigma for true, wrong in pairs])
    assert 0.1 < (ratio != 1).mean() < 0.4
    assert 0.5 <= ratio.min() < 0.8
    assert 1.25 < ratio.max() <= 2
    for true, wrong in pairs:
        np.testing.assert_array_equal(true.S, wrong.S)


def test_batch_is_in_units_of_its_scale(shards):
    infos = read_infos([shards])
    batch = load_batch(infos, 4, 0, 0, jitter=False)
    model = infos[0].signal_model
    clean = model.forward(np.maximum(batch.kappa, 1e-3), batch.tau)
    inside = batch.weight > 0
    residual = (batch.S - np.abs(clean)) / batch.sigma[:, None, None, None]
    assert residual[inside].std() == pytest.approx(1.0, rel=0.1)
    assert 0.9 < np.percentile(batch.S.max(-1)[0][inside[0]], 95) < 1.1


def test_losses_are_zero_at_the_truth_and_leave_out_the_background():
    target = tf.random.stateless_normal((2, 4, 4, 3), (0, 1))
    weight = np.ones((2, 4, 4), np.float32)
    weight[:, 0] = 0
    wrong = target + tf.constant((weight == 0)[..., None].astype(np.float32)) * 5.0
    assert float(squared_loss([wrong], target, weight)) < 1e-9
    assert float(patch_loss([wrong], target, weight)) == pytest.approx(LEAST_ERROR, rel=1e-3)
    assert float(squared_loss([target + 0.5], target, weight)) == pytest.approx(0.75, rel=1e-3)
    assert float(patch_loss([target + 0.5], target, weight)) == pytest.approx(0.5, rel=1e-2)


def test_a_share_of_a_patchs_error_counts_the_same_in_any_patch():
    target = np.zeros((2, 3, 3, 3), np.float32)
    errors = np.array([0.2, 2.0], np.float32)[:, None, None, None]
    weight = np.ones((2, 3, 3), np.float32)

    def loss(factors):
        factors = np.array(factors, np.float32)[:, None, None, None]
        return float(patch_loss([target + factors * errors], target, weight))

    assert loss([0.5, 1.0]) == pytest.approx(loss([1.0, 0.5]), rel=0.02)
    assert loss([0.5, 1.0]) == pytest.approx(loss([1.0, 1.0]) / np.sqrt(2), rel=0.02)
    # A patch without a voxel that counts is no patch.
    weight[1] = 0
    assert loss([1.0, 1.0]) == pytest.approx(0.2, rel=0.02)


def test_the_mean_error_of_a_tissue_counts_beside_its_voxels():
    target = np.zeros((1, 4, 4, 3), np.float32)
    target[:, :2, :, 2] = 1.0  # two tissues
    weight = np.ones((1, 4, 4), np.float32)
    alternating = np.where(np.arange(4) % 2, -0.3, 0.3).astype(np.float32)[None, None, :, None]
    noise = np.broadcast_to(alternating, target.shape)
    bias = np.where(target[..., 2:] > 0, 0.3, -0.3).astype(np.float32)

    def loss(error):
        return float(patch_loss([target + error], target, weight, bias_weight=3.0))

    assert loss(noise) == pytest.approx(0.3, rel=0.01)
    assert loss(bias) == pytest.approx(0.6, rel=0.01)
    # What does not count belongs to no tissue.
    tissues = weight[..., None] * tissues_of(target[..., -1])
    np.testing.assert_allclose(tissue_bias(noise, 0 * tissues), 0.0, atol=1e-9)
    np.testing.assert_allclose(tissue_bias(bias, tissues), 0.09, rtol=1e-4)


def test_the_papers_loss_takes_no_bias_weight():
    with pytest.raises(ValueError, match="not for `recipe` paper"):
        Settings(("",), recipe="paper", bias_weight=1.0)


@pytest.mark.parametrize("recipe", ["default", "paper"])
def test_rim_overfits_one_batch(shards, recipe):
    tf.keras.utils.set_random_seed(0)
    infos = read_infos([shards])
    batch = load_batch(infos, 4, 0, 0, jitter=False)
    settings = Settings(("",), recipe=recipe, iterations=80, learning_rate=3e-3)
    kind = {"gradient": "raw", "coordinates": "linear"} if recipe == "paper" else {}
    network = RIM("inversion_recovery", features=16, num_steps=4, **kind)
    step, _ = make_steps(network, make_optimizer(network, settings), squared_loss)
    data = (batch.S, batch.kappa, batch.sigma, batch.weight, batch.tau, batch.rician)
    losses = [float(step(*data)) for _ in range(80)]
    assert losses[-1] < 0.5 * losses[0]


def test_run_writes_model_history_and_settings(shards, tmp_path):
    settings = Settings((str(shards),), iterations=3, **SMALL)
    steps = list(run(settings, tmp_path / "run"))
    assert [p.iteration for p in steps] == [1, 2, 3]
    names = {p.name for p in (tmp_path / "run").iterdir()}
    assert names >= {
        "last.keras",
        "best.keras",
        "last.json",
        "checkpoint.npz",
        "history.csv",
        "settings.json",
    }
    with (tmp_path / "run" / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(r["iteration"]) for r in rows] == [1, 2, 3]
    assert rows[-1]["validation_loss"]
    card = json.loads((tmp_path / "run" / "last.json").read_text())
    assert card["iterations_done"] == 3
    assert load_network(tmp_path / "run" / "last.keras").features == 8


def events(folder):
    """(Step, curve) -> value, of the TensorBoard events in a folder."""
    found = {}
    for path in folder.glob("events.out.tfevents.*"):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                assert value.metadata.plugin_data.plugin_name == "scalars"
                found[event.step, value.tag] = float(tf.make_ndarray(value.tensor))
    return found


def history(folder):
    with (folder / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_events_hold_what_the_history_holds_also_of_a_resumed_run(shards, tmp_path):
    folder, settings = tmp_path / "run", Settings((str(shards),), iterations=4, **SMALL)
    steps = run(settings, folder)
    for _ in range(2):
        next(steps)
    steps.close()
    assert len(history(folder)) == 2
    list(run(settings, folder, resume=True))
    rows = history(folder)
    assert [row["iteration"] for row in rows] == ["1", "2", "3", "4"]
    drawn = events(folder)
    for row in rows:
        for curve in ("loss", "validation_loss", "learning_rate"):
            if row[curve]:
                value = drawn.pop((int(row["iteration"]), curve))
                assert value == pytest.approx(float(row[curve]), rel=1e-5)
    assert not drawn
    assert len(list(folder.glob("events.*"))) == 1


def test_same_seed_gives_the_same_curve(shards, tmp_path):
    def losses(seed, name):
        settings = Settings((str(shards),), iterations=3, seed=seed, **SMALL)
        return [p.loss for p in run(settings, tmp_path / name)]

    first = losses(0, "a")
    np.testing.assert_allclose(losses(0, "b"), first, rtol=1e-4)
    assert abs(losses(1, "c")[0] / first[0] - 1) > 1e-3


def test_validation_takes_every_shard_evenly_and_repeats_itself(tmp_path):
    make_shards(tmp_path / "v", num_shards=3, num=8, size=6)
    infos = read_infos([tmp_path / "v"])
    first, second = (validation_batches(infos, 2) for _ in range(2))
    assert [batch.shard for batch in first] == [0] * 4 + [1] * 4 + [2] * 4
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.S, b.S)
    of_shard = [batch.S for batch in first if batch.shard == 0]
    assert len(np.unique(np.concatenate(of_shard).sum(axis=(1, 2, 3)))) == 8
    few = validation_batches(infos, 1)
    assert [batch.shard for batch in few] == [0] * 5 + [1] * 5 + [2] * 5
    assert len(few) <= VALIDATION_BATCHES
    large = validation_batches(infos, 999)
    assert [len(batch.S) for batch in large] == [8, 8, 8]
    many = validation_batches(infos * 40, 8)
    assert len(many) == 2 * VALIDATION_BATCHES
    assert {many[0].shard, many[-1].shard} == {0, 119}


def poison(path, destination):
    """A copy of a shard that has a NaN in every patch."""
    shard = read_shard(path)
    arrays = {name: getattr(shard, name) for name in DATASETS}
    arrays["S"] = arrays["S"].copy()
    arrays["S"][:, 3, 3, 0] = np.nan
    info = shard.info
    settings = dict(info.settings)
    write_shard(
        destination, arrays, info.signal_model, info.tau, info.protocol, info.index, settings
    )


@pytest.mark.parametrize("model", ["rim", "resnet"])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_poisoned_shard_is_named_and_the_good_model_kept(tmp_path, model):
    folder = make_shards(tmp_path / "shards", num_shards=1)
    poison(shard_path(folder, 0), shard_path(folder, 1))
    infos = read_infos([folder])
    per_shard = (2, 2)
    seed = next(s for s in range(99) if [x for x, _ in schedule(per_shard, s, 0)][:2] == [0, 0])
    held_out = (str(make_shards(tmp_path / "held-out", num_shards=1, seed=1)),)
    settings = Settings(
        (str(folder),), validation=held_out, model=model, iterations=4, seed=seed, **SMALL
    )
    good = []
    with pytest.raises(TrainingError, match="not finite at iteration 3") as error:
        good.extend(run(settings, tmp_path / "run"))
    message = str(error.value)
    assert str(infos[1].path) in message
    assert "iteration 2 is kept" in message
    assert "\n" not in message
    assert len(history(tmp_path / "run")) == 2
    network = load_network(tmp_path / "run" / "last.keras")
    for variable in network.variables:
        assert np.isfinite(np.asarray(variable)).all(), variable.path
    batch = load_batch(infos[:1], 4, 0, 0)
    assert np.isfinite(network([batch.S, batch.tau, batch.sigma])).all()


def test_a_step_whose_gradient_alone_is_not_finite_changes_nothing(shards):
    network = RIM("inversion_recovery", features=4, num_steps=1)
    before = [np.array(v) for v in network.trainable_variables]

    def edge(estimates, target, weight):
        return tf.sqrt(0.0 * tf.reduce_sum(estimates[0] ** 2))

    step, _ = make_steps(network, make_optimizer(network, Settings(("",))), edge)
    batch = load_batch(read_infos([shards]), 4, 0, 0)
    data = (batch.S, batch.kappa, batch.sigma, batch.weight, batch.tau, batch.rician)
    assert np.isnan(float(step(*data)))
    for old, variable in zip(before, network.trainable_variables, strict=True):
        np.testing.assert_array_equal(old, variable)


def test_interrupt_waits_for_the_end_of_a_step(shards, tmp_path):
    settings = Settings((str(shards),), iterations=5, **SMALL)
    seen = []

    def go():
        for progress in run(settings, tmp_path / "run"):
            seen.append(progress.iteration)
            if progress.iteration == 2:
                os.kill(os.getpid(), signal.SIGINT)

    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            go()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, previous)
    assert seen == [1, 2]
    with np.load(tmp_path / "run" / "checkpoint.npz") as stored:
        assert int(stored["iteration"]) == int(stored["optimizer_0"]) == 2
    rest = [p.iteration for p in run(settings, tmp_path / "run", resume=True)]
    assert rest == [3, 4, 5]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("history.csv", "iteration,loss\n1," + "9" * 200_000 + "\n", "field larger than"),
        ("history.csv", "iteration,loss\n1,0.5\n", "a row has other columns"),
        ("history.csv", ",".join(COLUMNS) + "\n1,a,,0.1,2\n", "could not convert"),
        ("history.csv", "a\0b", "is not a text file"),
        ("settings.json", "[1]", "holds no settings"),
    ],
)
def test_files_of_a_run_that_are_damaged_are_named(shards, tmp_path, name, content, words):
    folder, settings = tmp_path / "run", Settings((str(shards),), iterations=3, **SMALL)
    steps = run(settings, folder)
    next(steps)
    steps.close()
    (folder / name).write_text(content)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(TrainingError, match=words) as caught:
        list(run(settings, folder, resume=True))
    assert name in str(caught.value)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_settings_of_an_older_version_can_be_resumed(shards, tmp_path):
    settings = Settings((str(shards),), iterations=2, **SMALL)
    steps = run(settings, tmp_path / "run")
    next(steps)
    steps.close()
    path = tmp_path / "run" / "settings.json"
    stored = json.loads(path.read_text())
    del stored["deterministic"]
    path.write_text(json.dumps(stored))
    assert [p.iteration for p in run(settings, tmp_path / "run", resume=True)] == [2]


def test_run_refuses_to_mix_runs(shards, tmp_path):
    settings = Settings((str(shards),), iterations=1, **SMALL)
    list(run(settings, tmp_path / "run"))
    with pytest.raises(TrainingError, match="holds a run"):
        list(run(settings, tmp_path / "run"))
    with pytest.raises(TrainingError, match="has done its 1 iterations"):
        list(run(settings, tmp_path / "run", resume=True))
    other = Settings((str(shards),), iterations=1, seed=5, **SMALL)
    with pytest.raises(TrainingError, match=r"other settings \(seed\)"):
        list(run(other, tmp_path / "run", resume=True))
    assert [p.iteration for p in run(settings, tmp_path / "none", resume=True)] == [1]


def test_a_start_that_fails_leaves_the_old_run(shards, tmp_path):
    folder, init = tmp_path / "run", tmp_path / "t2.keras"
    list(run(Settings((str(shards),), iterations=1, **SMALL), folder))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    RIM("t2_decay", features=4).save(init)
    with pytest.raises(TrainingError, match="is a rim for"):
        list(run(Settings((str(shards),), init=str(init), **SMALL), folder, overwrite=True))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    with pytest.raises(TrainingError, match="is a rim for"):
        list(run(Settings((str(shards),), init=str(init), **SMALL), tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_a_run_does_not_replace_the_network_that_it_starts_from(shards, tmp_path):
    """Stopped before its first minute, neither would be left."""
    folder = tmp_path / "run"
    list(run(Settings((str(shards),), iterations=1, **SMALL), folder))
    settings = Settings((str(shards),), iterations=2, init=str(folder / "best.keras"), **SMALL)
    with pytest.raises(TrainingError, match=r"would be deleted with its run\. Give another `out`"):
        list(run(settings, folder, overwrite=True))
    assert [p.iteration for p in run(settings, tmp_path / "other")] == [1, 2]


def test_a_network_without_a_run_is_not_deleted_unasked(shards, tmp_path):
    """As `relaxnet calibrate` leaves it."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "best.keras").write_bytes(b"weights")
    with pytest.raises(TrainingError, match=r"holds a run \(best.keras\)"):
        list(run(Settings((str(shards),), iterations=1, **SMALL), folder))
    assert (folder / "best.keras").read_bytes() == b"weights"


def test_a_folder_whose_name_tensorflow_does_not_take(shards, tmp_path):
    folder = tmp_path / "name\udcff"
    with pytest.raises(TrainingError, match=r"name\? is not UTF-8"):
        list(run(Settings((str(shards),), iterations=1, **SMALL), folder))
    assert not list(tmp_path.iterdir())


def test_half_a_checkpoint_is_said(shards, tmp_path):
    folder, settings = tmp_path / "run", Settings((str(shards),), iterations=3, **SMALL)
    steps = run(settings, folder)
    next(steps)
    steps.close()
    path = folder / "checkpoint.npz"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(TrainingError, match="is damaged"):
        list(run(settings, folder, resume=True))


@pytest.mark.parametrize("options", [{}, {"gradient": "raw", "coordinates": "linear"}])
def test_init_by_an_older_network(shards, tmp_path, options):
    """A network of before the steps of fits gets them; one of the paper's recipe stays as it is."""
    RIM("inversion_recovery", features=4, num_steps=2, **options).save(tmp_path / "old.keras")
    settings = Settings((str(shards),), iterations=1, init=str(tmp_path / "old.keras"), **SMALL)
    list(run(settings, tmp_path / "run"))
    network = load_network(tmp_path / "run" / "last.keras")
    assert network.fit_steps == (not options)
    assert network.gradient == options.get("gradient", "whitened")
    said = json.loads((tmp_path / "run" / "last.json").read_text())["training"]
    assert (said["features"], said["num_steps"]) == (4, 2)  # the network's, not the settings'


def test_init_of_another_signal_model_is_refused(shards, tmp_path):
    RIM("t2_decay", features=4).save(tmp_path / "t2.keras")
    settings = Settings((str(shards),), iterations=1, init=str(tmp_path / "t2.keras"), **SMALL)
    with pytest.raises(TrainingError, match="is a rim for t2_decay"):
        list(run(settings, tmp_path / "run"))


def test_shards_of_two_models_are_refused(shards, tmp_path):
    other = make_shards(tmp_path / "t2", model=T2_DECAY, tau=TAU / 10)
    with pytest.raises(ShardError, match="Train on one kind"):
        read_infos([shards, other])


def test_a_batch_of_larger_patches_has_fewer_of_them(shards, tmp_path):
    large = make_shards(tmp_path / "large", size=24)
    infos = read_infos([shards, large])
    assert batch_sizes(infos, 4) == [4, 4, 1, 1]
    found = list(batches(infos, 4, seed=0, start=0, stop=20))  # an epoch: 2 + 2 and 8 + 8
    assert {tuple(batch[0].shape[:3]) for batch in found} == {(4, 12, 12), (1, 24, 24)}
    assert sum(len(batch[0]) for batch in found) == 32
    settings = Settings((str(shards), str(large)), iterations=4, **SMALL)
    losses = [progress.loss for progress in run(settings, tmp_path / "run")]
    assert np.isfinite(losses).all()


def test_too_large_a_batch_is_refused(shards):
    with pytest.raises(ShardError, match="no shard holds a batch of 999"):
        load_batch(read_infos([shards]), 999, 0, 0)


def test_shards_that_do_not_suit_leave_nothing(shards, tmp_path):
    small = {**SMALL, "batch_size": 999}
    with pytest.raises(ShardError, match="Lower `batch_size`"):
        list(run(Settings((str(shards),), **small), tmp_path / "run"))
    several = Settings((str(shards),), model="resnet", **SMALL)
    with pytest.raises(TrainingError, match="the shards have 5, 6 images"):
        list(run(several, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_shard_that_breaks_in_training_is_named_in_a_line(tmp_path):
    folder = make_shards(tmp_path / "shards")
    read = read_infos([folder])
    shard_path(folder, 1).write_bytes(b"broken")
    with pytest.raises(ShardError, match="shard-00001"):
        list(batches(read, 4, seed=0, start=0, stop=8))


def test_validation_shards_with_the_patches_of_training_are_refused(tmp_path):
    folder = make_shards(tmp_path / "shards")
    again = make_shards(tmp_path / "again", num_shards=3)
    settings = Settings((str(folder),), validation=(str(again),), iterations=1, **SMALL)
    with pytest.raises(TrainingError, match=r"which would be trained on; .* another `seed`"):
        list(run(settings, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_validation_shards_of_another_model_are_refused(shards, tmp_path):
    tau = np.array([10.0, 30.0, 60.0, 90.0, 120.0, 200.0])
    other = make_shards(tmp_path / "t2", model=T2_DECAY, tau=tau, seed=1)
    settings = Settings((str(shards),), validation=(str(other),), iterations=1, **SMALL)
    with pytest.raises(TrainingError, match="are for inversion_recovery, those to validate for t2"):
        list(run(settings, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_validation_shards_that_are_not_finite_are_named(tmp_path):
    """NaN is below no loss: there would be no best network, and no word."""
    folder, held_out = make_shards(tmp_path / "a"), make_shards(tmp_path / "b", seed=1)
    poison(shard_path(held_out, 0), shard_path(held_out, 1))
    settings = Settings((str(folder),), validation=(str(held_out),), iterations=1, **SMALL)
    with pytest.raises(ShardError, match=r"b/shard-00001\.h5 holds values that are not finite"):
        list(run(settings, tmp_path / "run"))


def infos_of(*folders):
    """Shards as (folder, protocol, seed, index)."""
    kind = namedtuple("Info", "path protocol settings index")
    return [kind(Path(f) / f"{i}.h5", p, {"seed": s}, i) for f, p, s, i in folders]


def test_every_list_of_times_is_held_back():
    lists = ("cine23", "cine25", "cine31")
    infos = infos_of(*(("a", lists[i % 3], 0, i) for i in range(30)))
    assert {infos[i].protocol for i in held_back(infos)} == set(lists)
    ten_subjects = infos_of(*(("a", "cine31", 0, i) for i in range(300)))
    held = held_back(ten_subjects)
    assert 10 <= len(held) <= 11
    assert len({i % 10 for i in held}) == 10  # anatomies take turns
    assert held_back(infos_of(("a", "x", 0, 0), ("a", "y", 0, 1))) == {1}
    assert held_back(infos_of(("a", "x", 0, 0))) == set()


def test_every_folder_is_held_back_but_no_more_than_a_tenth():
    two = infos_of(*((f, "x", seed, i) for seed, f in enumerate("ab") for i in range(12)))
    assert _positions(two) == {("a", 11), ("b", 11)}
    lists = infos_of(*(("a", f"list{i % 25}", 0, i) for i in range(50)))
    assert len(held_back(lists)) == 5


def _positions(infos):
    return {(infos[i].path.parent.name, infos[i].index) for i in held_back(infos)}


def test_folders_of_equal_draws_leave_something_to_train_on(tmp_path):
    data = tuple(str(make_shards(tmp_path / name, num_shards=1)) for name in "ab")
    with pytest.raises(TrainingError, match="make the folders with a `seed` each"):
        list(run(Settings(data, iterations=1, **SMALL), tmp_path / "run"))


def test_a_folder_given_twice_does_not_validate_on_what_it_trains_on():
    infos = infos_of(*((f, "x", 0, i) for f in "ab" for i in range(4)))
    assert held_back(infos) == {3, 7}


def test_a_folder_that_gives_no_batch_is_refused(tmp_path):
    """The network's card would name times that it never saw."""
    large, small = make_shards(tmp_path / "a", num=8), make_shards(tmp_path / "b", num=2)
    infos = read_infos([large, small])
    with pytest.raises(ShardError, match=r"no shard of .*b holds a batch of 4 patches .*has 2"):
        check_batches(infos, 4)


@pytest.mark.parametrize("iterations", [100, 500, 3000])
def test_the_learning_rate_ends_at_one_per_cent(iterations):
    rate = learning_rate_of(Settings(("x",), iterations=iterations, learning_rate=1.0))
    rates = [float(rate(i)) for i in range(iterations)]
    assert rates[-1] == pytest.approx(0.01, rel=0.05)
    assert max(rates) == pytest.approx(1.0, rel=0.01)


def test_card_tells_folders_of_one_name_apart(tmp_path):
    folders = [make_shards(tmp_path / name / "shards", num_shards=1) for name in "ab"]
    run_folder = tmp_path / "run"
    data = tuple(map(str, folders))
    held_out = (str(make_shards(tmp_path / "held-out", seed=1)),)
    list(run(Settings(data, validation=held_out, iterations=1, **SMALL), run_folder))
    card = json.loads((run_folder / "last.json").read_text())
    assert sorted(card["data"]) == sorted(map(str, folders))


def test_interrupted_before_the_first_step_says_that_nothing_is_saved(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("relaxnet.training.loop.run", interrupt)
    result = CliRunner().invoke(main, ["train", "--out", str(tmp_path / "run")])
    assert result.exit_code == 130
    assert "nothing was saved" in result.output


RUN = """
    import sys
    from relaxnet.training.loop import run
    from relaxnet.training.settings import Settings
    settings = Settings((sys.argv[1],), iterations=24, batch_size=4, features=8, num_steps=2,
                        deterministic=True)
    import relaxnet.training.loop as t
    t.SAVE_SECONDS = 0.0
    for p in run(settings, sys.argv[2], resume=sys.argv[3] == "resume"):
        print(p.iteration, flush=True)
"""


def _start(shards, folder, how):
    code = [sys.executable, "-c", textwrap.dedent(RUN), str(shards), str(folder), how]
    env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.Popen(code, stdout=subprocess.PIPE, text=True, env=env)


@pytest.mark.slow
def test_killed_run_ends_as_the_unbroken_one(shards, tmp_path):
    with _start(shards, tmp_path / "whole", "new") as whole:
        assert whole.wait(900) == 0
    moment = np.random.default_rng()
    last, later = int(moment.integers(2, 18)), moment.uniform(0, 0.05)
    with _start(shards, tmp_path / "broken", "new") as broken:
        while int(broken.stdout.readline()) < last:
            pass
        time.sleep(later)
        broken.send_signal(signal.SIGKILL)
    said = f"killed {later:.4f} s after iteration {last}"
    with _start(shards, tmp_path / "broken", "resume") as resumed:
        assert resumed.wait(900) == 0
    with (
        np.load(tmp_path / "whole/checkpoint.npz") as a,
        np.load(tmp_path / "broken/checkpoint.npz") as b,
    ):
        for name in a.files:
            np.testing.assert_array_equal(a[name], b[name], err_msg=f"{name}, {said}")
    curves = [
        [(row["loss"], row["validation_loss"]) for row in history(tmp_path / name)]
        for name in ("whole", "broken")
    ]
    assert curves[0] == curves[1], said
    assert len(curves[0]) == 24


def _heed_interrupts():
    """Processes in the background of a script ignore Ctrl-C, and so do their children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "terminate"])
def test_interrupted_command_saves_and_goes_on(shards, tmp_path, sent):
    code = "from relaxnet.cli.group import main; main()"
    options = ["--data", str(shards), "--out", str(tmp_path / "run"), "--iterations", "400"]
    small = ["--batch-size", "4", "--features", "4", "--num-steps", "1"]
    command = [sys.executable, "-c", code, "train", *options, *small]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, preexec_fn=_heed_interrupts
    ) as process:
        text = ""
        while "loss=" not in text:
            text += process.stderr.read(1)
        process.send_signal(sent)
        text += process.stderr.read()
    assert process.returncode == 130, text
    assert "--resume" in text
    with (tmp_path / "run" / "history.csv").open() as file:
        done = len(list(csv.DictReader(file)))
    assert 0 < done < 400
    subprocess.run([*command, "--resume"], check=True, stderr=subprocess.DEVNULL)
    with (tmp_path / "run" / "history.csv").open() as file:
        assert [int(r["iteration"]) for r in csv.DictReader(file)] == list(range(1, 401))


def test_shards_of_one_name_in_another_folder_are_read_anew(tmp_path, monkeypatch):
    first = make_shards(tmp_path / "a" / "shards", num_shards=1, seed=1)
    second = make_shards(tmp_path / "b" / "shards", num_shards=1, seed=2)
    found = []
    for folder in (first, second):
        monkeypatch.chdir(folder.parent)
        batch = next(batches(read_infos(["shards"]), 4, seed=0, start=0, stop=1, jitter=False))
        found.append(batch[0].numpy())
    assert not np.array_equal(*found)
