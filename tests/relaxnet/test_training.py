import csv
import json
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import tensorflow as tf
from small_shards import TAU, make_shards

from relaxnet.dataset import batches, load_batch, read_infos, schedule
from relaxnet.models import load_network
from relaxnet.rim import RIM
from relaxnet.training import (
    Settings,
    TrainingError,
    make_optimizer,
    make_steps,
    patch_loss,
    run,
    squared_loss,
)
from relaxsim.shards import ShardError
from relaxsim.signals import T2_DECAY

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
    assert float(patch_loss([wrong], target, weight)) == pytest.approx(0.01, rel=1e-3)
    assert float(squared_loss([target + 0.5], target, weight)) == pytest.approx(0.75, rel=1e-3)
    assert float(patch_loss([target + 0.5], target, weight)) == pytest.approx(0.5, rel=1e-2)


@pytest.mark.parametrize("recipe", ["default", "paper"])
def test_rim_overfits_one_batch(shards, recipe):
    tf.keras.utils.set_random_seed(0)
    infos = read_infos([shards])
    batch = load_batch(infos, 4, 0, 0)
    settings = Settings(("",), recipe=recipe, iterations=80, learning_rate=3e-3)
    kind = {"gradient": "raw", "coordinates": "linear"} if recipe == "paper" else {}
    network = RIM(features=16, num_steps=4, **kind)
    step, _ = make_steps(network, make_optimizer(network, settings), squared_loss)
    data = (batch.S, batch.kappa, batch.sigma, batch.weight, batch.tau)
    losses = [float(step(*data)) for _ in range(80)]
    assert losses[-1] < 0.35 * losses[0]


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
    with pytest.raises(TrainingError, match="nothing to resume"):
        list(run(settings, tmp_path / "none", resume=True))


def test_init_of_another_signal_model_is_refused(shards, tmp_path):
    RIM("t2_decay", features=4).save(tmp_path / "t2.keras")
    settings = Settings((str(shards),), iterations=1, init=str(tmp_path / "t2.keras"), **SMALL)
    with pytest.raises(TrainingError, match="is a rim for t2_decay"):
        list(run(settings, tmp_path / "run"))


def test_shards_of_two_models_are_refused(shards, tmp_path):
    other = make_shards(tmp_path / "t2", model=T2_DECAY, tau=TAU / 10)
    with pytest.raises(ShardError, match="Train on one kind"):
        read_infos([shards, other])


def test_too_large_a_batch_is_refused(shards):
    with pytest.raises(ShardError, match=r"no shard holds a batch of 999"):
        load_batch(read_infos([shards]), 999, 0, 0)


RUN = """
    import sys
    from relaxnet.training import Settings, run
    settings = Settings((sys.argv[1],), iterations=40, batch_size=4, features=8, num_steps=2,
                        deterministic=True)
    import relaxnet.training as t
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
        assert whole.wait(120) == 0
    with _start(shards, tmp_path / "broken", "new") as broken:
        while int(broken.stdout.readline()) < 13:
            pass
        broken.send_signal(signal.SIGKILL)
    with _start(shards, tmp_path / "broken", "resume") as resumed:
        assert resumed.wait(120) == 0
    with (
        np.load(tmp_path / "whole/checkpoint.npz") as a,
        np.load(tmp_path / "broken/checkpoint.npz") as b,
    ):
        for name in a.files:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "terminate"])
def test_interrupted_command_saves_and_goes_on(shards, tmp_path, sent):
    code = "from relaxnet.cli import main; main()"
    options = ["--data", str(shards), "--out", str(tmp_path / "run"), "--iterations", "400"]
    small = ["--batch-size", "4", "--features", "4", "--num-steps", "1"]
    command = [sys.executable, "-c", code, "train", *options, *small]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
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
