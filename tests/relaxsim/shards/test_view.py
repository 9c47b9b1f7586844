import pytest

from relaxsim.shards.layout import ShardError, shard_path
from relaxsim.shards.run import generate
from relaxsim.shards.view import draw_shard


@pytest.mark.parametrize(
    ("times", "protocol", "fields"),
    [("tis", "cine23", {"voxel_size": (2.0, 4.0)}), ("tes", "fse6", {"shapes": 1.0})],
)
def test_pictures(small_settings, tmp_path, times, protocol, fields):
    list(generate(small_settings(times, protocol, **fields), tmp_path, [0]))
    path = tmp_path / {"tis": "x.png", "tes": "x.pdf"}[times]
    draw_shard(shard_path(tmp_path, 0), path, 2)
    assert path.stat().st_size > 3000
    assert not list(tmp_path.glob(".part*"))


def test_bad_input(small_settings, tmp_path):
    with pytest.raises(ShardError, match="no such file"):
        draw_shard(tmp_path / "none.h5", tmp_path / "x.png")
    list(generate(small_settings(patches=1), tmp_path, [0]))
    with pytest.raises(ValueError, match="xyz"):
        draw_shard(shard_path(tmp_path, 0), tmp_path / "x.xyz")
    assert not list(tmp_path.glob("*.xyz"))
