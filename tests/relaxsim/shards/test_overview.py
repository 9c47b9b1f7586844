import shutil

import pytest
from click.testing import CliRunner

from relaxsim.cli.group import main
from relaxsim.shards.layout import ShardError, shard_path
from relaxsim.shards.overview import describe, problems
from relaxsim.shards.run import generate


@pytest.fixture
def folder(small_settings, tmp_path):
    settings = small_settings(patches=100, patch_size=8, protocols=())
    list(generate(settings, tmp_path, range(5)))
    return tmp_path


def test_description(folder, head):
    lines = describe(folder)
    assert lines["shards"].startswith("5, ")
    assert lines["patches"] == "100 of 8 x 8 voxels, of a run of 100"
    assert lines["signal model"] == "inversion_recovery: A (a.u.), B (1), T1 (ms)"
    assert lines["protocols"].startswith("5 different")
    assert lines["anatomies"] == head.name
    assert (lines["seed"], lines["augment"], lines["tr_range"]) == ("0", "yes", "none")
    assert lines["sigma_range"] == "0.0065 to 0.255"


def test_few_protocols_are_listed(small_settings, tmp_path):
    list(generate(small_settings(), tmp_path, [0]))
    assert describe(tmp_path)["protocols"] == "cine23 (23 times, 172 to 893 ms) in 1"


def test_sound_folders_have_no_problems(folder):
    assert list(problems(folder)) == []


def test_an_unfinished_run_is_told_of(folder):
    """Shards of a job array whose last tasks died are sound, but not all there."""

    def verified():
        result = CliRunner().invoke(main, ["verify", str(folder)])
        assert result.exit_code == 0, result.output
        return result.output.strip()

    assert verified().endswith(": 5 shards are sound")
    shard_path(folder, 4).unlink()
    assert verified().endswith(": 4 of the run's 5 shards are sound")


def test_every_problem_is_one_line(folder, small_settings):
    other = small_settings(patches=100, patch_size=8, protocols=(), seed=1)
    shard_path(folder, 1).unlink()
    list(generate(other, folder, [2]))
    shutil.copy(shard_path(folder, 0), shard_path(folder, 3))
    shard_path(folder, 4).write_bytes(b"nothing")
    found = list(problems(folder))
    assert len(found) == 4
    for word in ("shard-00004.h5 is not an HDF5", "other settings", "renamed", "lacks shard 1"):
        assert sum(word in line for line in found) == 1
    assert not any("\n" in line for line in found)


def test_no_folder_and_no_shards(tmp_path):
    with pytest.raises(ShardError, match="no such folder"):
        describe(tmp_path / "none")
    with pytest.raises(ShardError, match="holds no shard"):
        list(problems(tmp_path))
