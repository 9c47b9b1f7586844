"""The commands in-process: options arrive, errors are one line, help suffices."""

import json
import subprocess
import sys
import time

import click
import numpy as np
import pytest
from click.testing import CliRunner

from relaxsim.cli.group import main
from relaxsim.cli.options import IndexRange
from relaxsim.core.options import Range
from relaxsim.shards.layout import list_shards, read_shard, shard_path, verify_shard


def call(*words):
    result = CliRunner().invoke(main, [str(w) for w in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def generate(head, out, *words):
    common = ("--brains", head, "--out", out, "--patch-size", 8, "--jobs", 1)
    return call("generate", *common, *words)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--tes", "fse6"], {"times": "tes"}),
        (["--tis", "cine23", "--tis", "cine31"], {"patches": 48}),
        (["--tis", "cine31", "--noise", "rician"], {"noise": "rician"}),
        (["--tis", "cine31", "--b-field", "smooth"], {"b_field": "smooth"}),
        (["--tis", "cine31", "--b-field", "wide"], {"b_field": "wide"}),
        (["--tis", "cine31", "--tr", "1000:3000"], {"tr_range": [1000, 3000]}),
        (["--tis", "cine31", "--voxel-size", "2"], {"voxel_size": [2, 2]}),
        (["--tis", "cine31", "--sigma-range", "0.1", "0.2"], {"sigma_range": [0.1, 0.2]}),
        (["--tis", "cine31", "--no-augment"], {"augment": False}),
        (["--tis", "cine31", "--spread", "0"], {"spread": 0.0}),
        (["--tis", "random", "--tissues", "wide"], {"protocols": []}),
        (["--tes", "random", "--shapes", "0.5", "--dtype", "float16"], {"dtype": "float16"}),
    ],
    ids=lambda value: "-".join(value)[2:] if isinstance(value, list) else None,
)
def test_options_reach_the_data(head, tmp_path, words, expected):
    code, output = generate(head, tmp_path, *words, "--patches", 48, "--seed", 3)
    assert code == 0, output
    infos = [verify_shard(path) for path in list_shards(tmp_path)]
    assert sum(info.num_patches for info in infos) == 48
    settings = infos[0].settings
    assert settings["seed"] == 3
    assert settings["anatomies"][0][0] == head.name
    assert {key: settings[key] for key in expected} == expected


def test_two_protocols_are_spread_over_the_shards(head, tmp_path):
    words = ["--tis", "cine23", "--tis", "cine25", "--patches", 480]
    assert generate(head, tmp_path, *words)[0] == 0
    assert [read_shard(p).S.shape[-1] for p in list_shards(tmp_path)] == [23, 25]


def test_the_run_says_its_size_and_its_end(head, tmp_path):
    code, output = generate(head, tmp_path, "--tis", "cine23", "--patches", 300)
    assert code == 0
    assert "2 of 2 shards to write" in output
    assert "GB free" in output
    assert "2 shards complete" in output
    code, output = generate(head, tmp_path, "--tis", "cine23", "--patches", 300)
    assert code == 0
    assert "0 of 2 shards to write" in output


def test_a_job_array(head, tmp_path):
    for part in ("1:2", "0:1"):
        words = ["--tis", "cine23", "--patches", 300, "--shards", part]
        assert generate(head, tmp_path / "array", *words)[0] == 0
    assert generate(head, tmp_path / "one", "--tis", "cine23", "--patches", 300)[0] == 0
    for index in range(2):
        one, other = (read_shard(shard_path(tmp_path / n, index)) for n in ("array", "one"))
        np.testing.assert_array_equal(one.S, other.S)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            [],
            "--tis, or flip angles with --fas and repetition times with --trs, or echo "
            "times with --tes",
        ),
        (["--tis", "cine31", "--tes", "fse6"], "belong to no one signal model"),
        (["--tis", "random", "--tis", "cine31"], "stands alone"),
        (["--tis", "fse6"], "list of echo times"),
        (["--tes", "fse6", "--tr", "2000"], "belongs to inversion recovery"),
        (["--tis", "nowhere.txt"], "no such file"),
        (["--tis", "cine31", "--tissues", "none"], "no bundled tissue table"),
        (["--tis", "cine31", "--sigma-range", "0.2", "0.1"], "expected LO <= HI"),
        (["--tis", "cine31", "--sigma-range", "nan", "0.1"], "expected LO <= HI"),
        (["--tis", "cine31", "--sigma-range", "1e300", "1e305"], "within 1e-06 to 1000"),
        (["--tis", "cine31", "--patches", "1000000000000"], "Ask for fewer --patches"),
        (["--tis", "cine31", "--spread", "nan"], "is no number"),
        (["--tis", "cine31", "--tr", "300"], "shorter than the longest inversion time"),
        (["--tis", "random", "--tr", "1000:4000"], "the longest inversion time, 5000 ms"),
        (["--tis", "cine31", "--shards", "²:5"], "expected I:J"),
        (["--tis", "cine31", "--shards", "0:900"], "goes beyond"),
        (["--tis", "cine31", "--shards", "3:3"], "expected I:J"),
        (["--tis", "cine31", "--voxel-size", "2:1"], "LOW <= HIGH"),
        (["--tis", "cine31", "--voxel-size", "small"], "neither a number"),
        (["--tis", "cine31", "--voxel-size", "0.5:50"], "expected 0.2 to 5 mm"),
        (["--tis", "cine31", "--tr", "-5"], "0 < LOW"),
        (["--tis", "cine31", "--brains", "nowhere.mnc.gz"], "nowhere.mnc.gz"),
    ],
    ids=lambda value: "-".join(value)[2:] if isinstance(value, list) else None,
)
def test_bad_input_is_one_line(head, tmp_path, words, message):
    code, output = generate(head, tmp_path / "out", *words)
    assert code == 2, output
    assert message in output
    assert output.count("Error:") == 1
    assert not (tmp_path / "out").exists()


def test_other_settings_and_overwriting(head, tmp_path):
    words = ["--tis", "cine23", "--patches", 6]
    assert generate(head, tmp_path, *words)[0] == 0
    code, output = generate(head, tmp_path, *words, "--seed", 5)
    assert (code, "other settings (seed)" in output) == (2, True)
    assert generate(head, tmp_path, *words, "--seed", 5, "--overwrite")[0] == 0
    assert read_shard(shard_path(tmp_path, 0)).info.settings["seed"] == 5


def test_without_brains_the_built_in_head_is_announced(tmp_path, monkeypatch):
    monkeypatch.setenv("RELAXSIM_DATA", str(tmp_path / "none"))
    out = tmp_path / "shards"
    code, output = call(
        "generate", "--tis", "cine31", "--patches", 4, "--patch-size", 8, "--out", out, "--jobs", 1
    )
    assert code == 0, output
    assert "the built-in head, 10 subjects" in output
    assert verify_shard(shard_path(out, 0)).settings["anatomies"][0] == ["builtin", "0"]


def test_fetched_brains_are_used(head, tmp_path, monkeypatch):
    monkeypatch.setenv("RELAXSIM_DATA", str(head.parent))
    words = ("--tis", "cine31", "--patches", 4, "--patch-size", 8, "--jobs", 1)
    code, output = call("generate", *words, "--out", tmp_path)
    assert code == 0, output
    assert "1 BrainWeb models" in output


def test_info_verify_and_view(head, tmp_path):
    out = tmp_path / "shards"
    generate(head, out, "--tis", "cine23", "--patches", 300)
    code, output = call("info", out)
    assert code == 0
    for word in ("2, 0.0", "300 of 8 x 8", "inversion_recovery", "cine23 (23 times", head.name):
        assert word in output
    assert call("verify", out) == (0, f"{out}: 2 shards are sound\n")
    picture = tmp_path / "x.png"
    assert call("view", shard_path(out, 0), "--out", picture)[0] == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    code, output = call("view", shard_path(out, 0), "--out", picture)
    assert (code, "--overwrite" in output) == (2, True)
    shard_path(out, 1).write_bytes(b"")
    code, output = call("verify", out)
    assert (code, output.count("\n"), "shard-00001.h5" in output) == (2, 1, True)
    assert call("info", tmp_path / "none")[0] == 2


@pytest.mark.parametrize("kind", ["brain", "plate", "structures"])
def test_phantoms(head, tmp_path, kind):
    head_options = [] if kind == "plate" else ["--brain", head, "--voxel-size", 1, "--matrix", 64]
    command = ["phantom", kind, "--tis", "cine23", "--out", tmp_path, "--repeats", 2, *head_options]
    code, output = call(*command)
    assert code == 0, output
    sidecar = json.loads((tmp_path / "rep-2_series.json").read_text())
    assert (sidecar["SNR"], sidecar["Repeat"], len(sidecar["InversionTime"])) == (10.0, 2, 23)
    code, output = call(*command)
    assert (code, "--overwrite" in output) == (2, True)
    assert call(*command, "--overwrite", "--snr", 30)[0] == 0
    assert json.loads((tmp_path / "rep-1_series.json").read_text())["SNR"] == 30


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--tis, or flip angles with --fas and repetition times with --trs, or echo times"),
        (["--tis", "random"], "no such file"),
        (["--tis", "cine31", "--slice", "900"], "leave"),
        (["--tis", "cine31", "--slice", "0"], "empty"),
        (["--tis", "cine31", "--snr", "0"], "--snr"),
        (["--tis", "cine31", "--brain", "nowhere.mnc"], "nowhere.mnc"),
    ],
)
def test_bad_phantoms_are_one_line(head, tmp_path, words, message):
    out = ["--brain", head, "--out", tmp_path / "out"]
    code, output = call("phantom", "brain", *out, *words)
    assert code == 2
    assert message in output
    assert not (tmp_path / "out").exists()


def commands(group=main, name="relaxsim"):
    yield name, group
    for child in getattr(group, "commands", {}).values():
        yield from commands(child, f"{name} {child.name}")


@pytest.mark.parametrize("name", [name for name, _ in commands()])
def test_help_says_what_and_how(name):
    code, output = call(*name.split()[1:], "--help")
    assert code == 0
    assert "Usage" in output
    command = dict(commands())[name]
    assert command.help
    for option in (
        p for p in command.get_params(click.Context(command)) if isinstance(p, click.Option)
    ):
        assert option.help, f"{name} {option.name}"


def test_overwriting_removes_nothing_if_the_inputs_are_bad(head, tmp_path):
    words = ("--tis", "cine31", "--patches", 4)
    assert generate(head, tmp_path, *words)[0] == 0
    (tmp_path / "bad.nii").write_text("junk")
    before = sorted(tmp_path.rglob("shard-*.h5"))
    code, output = generate(tmp_path / "bad.nii", tmp_path, *words, "--overwrite")
    assert (code, "bad.nii" in output) == (2, True)
    assert before
    assert sorted(tmp_path.rglob("shard-*.h5")) == before


def test_option_types():
    assert Range().convert("0.5:2", None, None) == (0.5, 2.0)
    assert Range().convert("3", None, None) == (3.0, 3.0)
    assert IndexRange().convert("0:10", None, None) == (0, 10)


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [(KeyboardInterrupt, 130, "the same command goes on"), (MemoryError, 2, "Error: the memory")],
)
def test_runs_that_end_early_say_so_in_a_line(head, tmp_path, monkeypatch, error, status, words):
    def end(*args):
        raise error

    monkeypatch.setattr("relaxsim.shards.run.generate", end)
    code, output = generate(head, tmp_path, "--tis", "cine31", "--patches", 4)
    assert code == status
    assert words in output
    assert "Traceback" not in output


def test_importing_the_command_line_loads_no_network_code():
    program = (
        "import sys, relaxsim.cli.group, relaxsim.shards.run, relaxsim.phantoms.files\n"
        "import relaxsim.shards.view\n"
        "heavy = {'tensorflow', 'keras', 'relaxnet', 'matplotlib'} & set(sys.modules)\n"
        "print(sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_help_loads_no_numerics():
    """What makes ``relaxsim --help`` quick."""
    program = (
        "import sys, relaxsim.cli.group\n"
        "print(sorted({'numpy', 'scipy', 'h5py', 'nibabel'} & set(sys.modules)))"
    )
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
    assert time.monotonic() - started < 30


def test_a_refused_run_leaves_no_folder(tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("tissue,labels,A\nCSF,1,1\n")
    words = ("--tis", "cine31", "--patches", 4, "--tissues", table)
    code, output = call("generate", *words, "--out", tmp_path / "a" / "o")
    assert code == 2
    assert "Error: tissue table table" in output
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]


@pytest.mark.parametrize("number", [10**30, int("9" * 400)])
def test_numbers_beyond_all_disks_are_refused(tmp_path, number):
    code, output = call("generate", "--tis", "cine31", "--patches", number, "--out", tmp_path / "o")
    assert code == 2
    assert "is not in the range" in output
    assert not (tmp_path / "o").exists()


def test_a_log_gets_no_progress_bar(head, tmp_path):
    code, output = call(
        "generate",
        "--tis",
        "cine23",
        "--patches",
        8,
        "--patch-size",
        8,
        "--brains",
        head,
        "--jobs",
        1,
        "--out",
        tmp_path / "o",
    )
    assert code == 0, output
    assert "shard/s" not in output
