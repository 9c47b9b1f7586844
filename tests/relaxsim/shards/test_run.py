import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from relaxsim.core.files import temporary_path
from relaxsim.shards.layout import (
    DATASETS,
    ShardError,
    list_shards,
    read_info,
    read_shard,
    shard_path,
    verify_shard,
)
from relaxsim.shards.run import (
    _parts,
    check_number,
    check_space,
    differences,
    generate,
    pending_shards,
    remove_replaced,
    shard_bytes,
)


def write(settings, folder, indices=None, jobs=1):
    indices = range(settings.num_shards) if indices is None else indices
    return list(generate(settings, folder, indices, jobs))


def same_data(a, b):
    left, right = list_shards(a), list_shards(b)
    assert [p.name for p in left] == [p.name for p in right]
    for one, other in zip(left, right, strict=True):
        first, second = read_shard(one), read_shard(other)
        for name in DATASETS:
            np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    return True


@pytest.fixture(scope="module")
def run(small_settings, tmp_path_factory):
    """Settings of five shards, and a folder with all of them."""
    settings = small_settings(patches=100, patch_size=8, protocols=())
    folder = tmp_path_factory.mktemp("run")
    write(settings, folder)
    return settings, folder


def test_two_processes_write_what_one_does(run, tmp_path):
    settings, whole = run
    assert sorted(write(settings, tmp_path, jobs=2)) == list(range(5))
    assert same_data(whole, tmp_path)


def test_any_order_and_a_job_array_write_the_same(run, tmp_path):
    settings, whole = run
    for part in ([4], [2, 0], [1, 3]):
        write(settings, tmp_path, part)
    assert same_data(whole, tmp_path)


def test_a_resumed_run_writes_what_is_missing(run, tmp_path):
    settings, whole = run
    write(settings, tmp_path, [1, 2])
    before = shard_path(tmp_path, 1).stat().st_mtime_ns
    pending = pending_shards(settings, tmp_path, range(5))
    assert pending == [0, 3, 4]
    write(settings, tmp_path, pending)
    assert shard_path(tmp_path, 1).stat().st_mtime_ns == before
    assert same_data(whole, tmp_path)
    assert pending_shards(settings, tmp_path, range(5)) == []


def test_other_settings_are_not_mixed(run, small_settings):
    _, folder = run
    other = small_settings(patches=100, patch_size=8, protocols=(), seed=1, noise="rician")
    with pytest.raises(ShardError, match=r"other settings \(noise, seed\).*`overwrite`"):
        pending_shards(other, folder, range(5))
    assert pending_shards(other, folder, range(5), overwrite=True) == list(range(5))


def test_another_version_is_other_settings(run, monkeypatch):
    settings, folder = run
    monkeypatch.setattr("relaxsim.shards.run.__version__", "9.9")
    assert "9.9" in differences(read_info(shard_path(folder, 0)), settings)[0]


def test_overwriting_leaves_one_set_of_settings(run, small_settings, tmp_path):
    settings, _ = run
    write(settings, tmp_path)
    shard_path(tmp_path, 4).write_bytes(b"damaged")
    other = small_settings(patches=40, patch_size=8, protocols=(), seed=1)
    remove_replaced(other, tmp_path, range(2))
    write(other, tmp_path)
    assert [p.name for p in list_shards(tmp_path)] == ["shard-00000.h5", "shard-00001.h5"]
    assert all(not differences(read_info(p), other) for p in list_shards(tmp_path))


def test_overwriting_keeps_other_jobs_shards(run, tmp_path):
    settings, _ = run
    write(settings, tmp_path)
    remove_replaced(settings, tmp_path, [0, 1])
    assert pending_shards(settings, tmp_path, range(5)) == [0, 1]


def test_a_corrupt_shard_is_named_and_kept(run, tmp_path):
    settings, _ = run
    write(settings, tmp_path, [0, 1])
    damaged = shard_path(tmp_path, 1)
    damaged.write_bytes(damaged.read_bytes()[:3000])
    with pytest.raises(ShardError, match=r"shard-00001\.h5.*cut short"):
        pending_shards(settings, tmp_path, range(5))
    assert damaged.stat().st_size == 3000


def test_the_size_is_foretold(run):
    settings, folder = run
    for index in range(5):
        size = shard_path(folder, index).stat().st_size
        assert size <= shard_bytes(settings, index) <= 1.05 * size + 40_000


def test_a_disk_too_small_is_refused_before_writing(run, tmp_path, monkeypatch):
    settings, folder = run
    usage = type("usage", (), {"free": 50_000, "total": 10**9})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(OSError, match=r"0\.00 GB free\. Ask for fewer `patches`"):
        check_space(settings, tmp_path / "new/deep", range(5))
    assert not (tmp_path / "new").exists()
    huge = replace(settings, patches=10**12)
    with pytest.raises(OSError, match="more than the disk"):
        check_number(huge, tmp_path / "new", huge.num_shards)
    # what overwriting gives back counts as free
    free = check_space(settings, folder, [0])[1]
    assert free == 50_000 + shard_path(folder, 0).stat().st_size


def test_a_folder_that_cannot_be_written(run, tmp_path, monkeypatch):
    settings, _ = run
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a file; `out` takes a folder"):
        check_space(settings, tmp_path / "file", range(5))
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(ValueError, match="not a folder that takes files"):
        check_space(settings, tmp_path, range(5))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_a_read_only_folder(run, tmp_path):
    settings, _ = run
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ValueError, match="not a folder that takes files"):
            check_space(settings, tmp_path, range(5))
    finally:
        tmp_path.chmod(0o700)


def test_leftovers_of_the_dead_are_removed_and_of_the_living_kept(run, tmp_path):
    settings, _ = run
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    own = temporary_path(shard_path(tmp_path, 0))
    dead = own.with_name(own.name.replace(f".{os.getpid()}.", f".{ended.pid}."))
    elsewhere = tmp_path / ".shard-00000.h5.another-host.1.part.h5"
    former_version = dead.with_suffix("")
    for path in (own, dead, elsewhere, former_version):
        path.touch()
    write(settings, tmp_path, [3])
    assert not dead.exists()
    assert not former_version.exists()
    assert own.exists()
    assert elsewhere.exists()


def test_work_is_shared_by_anatomy(small_settings):
    anatomies = tuple((f"{k}.nii", "") for k in range(3))
    settings = small_settings(patches=240 * 30, anatomies=anatomies)
    for jobs in (1, 2, 7):
        parts = _parts(settings, range(30), jobs)
        assert sorted(i for part in parts for i in part) == list(range(30))
        assert all(len({settings.anatomy_of(i) for i in part}) == 1 for part in parts)
        assert len(parts) >= min(30, jobs)
    one = small_settings(patches=240 * 30)
    assert len(_parts(one, range(30), 2)) >= 2


def script(settings, folder, jobs):
    """Python program that makes a run, as the command line does."""
    return textwrap.dedent(f"""
        from relaxsim.shards.generate import Settings
        from relaxsim.shards.run import generate, pending_shards
        if __name__ == "__main__":
            settings = Settings(**{vars(settings)!r})
            pending = pending_shards(settings, {str(folder)!r}, range(settings.num_shards))
            for index in generate(settings, {str(folder)!r}, pending, {jobs}):
                pass
    """)


def start(program, path):
    path.write_text(program)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    return subprocess.Popen([sys.executable, str(path)], env=environment, stderr=subprocess.DEVNULL)


def children(pid):
    """Processes whose parent is `pid`."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rsplit(")", 1)[1].split()[1]) == pid:
                found.append(int(stat.parent.name))
        except (OSError, IndexError):
            continue
    return found


def killed_many_times(settings, folder, whole, times, jobs, seed):
    rng = np.random.default_rng(seed)
    program = script(settings, folder, jobs)
    for _ in range(times):
        process = start(program, folder.with_suffix(".py"))
        deadline, some = time.monotonic() + 60, len(list(folder.glob("*.h5")))
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)  # until it writes, then a random moment more
            if len(list(folder.glob("*.h5"))) > some or list(folder.glob(".*.part.h5")):
                time.sleep(rng.uniform(0, 0.15))
                break
        process.send_signal(signal.SIGKILL)
        process.wait()
        for path in folder.glob("shard-*.h5"):
            verify_shard(path)
    process = start(program, folder.with_suffix(".py"))
    assert process.wait(timeout=120) == 0
    assert same_data(folder, whole)
    assert not list(folder.glob(".shard-*"))


def long_run(small_settings, whole, shards):
    settings = small_settings(patches=240 * shards, patch_size=16, protocol="cine31")
    write(settings, whole)
    return settings


def test_killed_at_any_moment(small_settings, tmp_path):
    """No file with a final name is incomplete, and the same program goes on to the same data."""
    settings = long_run(small_settings, tmp_path / "whole", 12)
    killed_many_times(settings, tmp_path / "run", tmp_path / "whole", times=3, jobs=1, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_killed_many_times(small_settings, tmp_path, jobs):
    settings = long_run(small_settings, tmp_path / "whole", 60)
    killed_many_times(settings, tmp_path / "run", tmp_path / "whole", times=25, jobs=jobs, seed=1)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_processes_end_with_their_killed_parent(small_settings, tmp_path):
    settings = small_settings(patches=240 * 400, patch_size=16, protocol="cine31")
    process = start(script(settings, tmp_path / "run", 2), tmp_path / "run.py")
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("run/*.h5")) and time.monotonic() < deadline:
        time.sleep(0.02)
    workers = children(process.pid)
    assert workers
    process.send_signal(signal.SIGKILL)
    process.wait()
    alive = [Path(f"/proc/{pid}") for pid in workers]
    deadline = time.monotonic() + 10
    while any(p.exists() for p in alive) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [p for p in alive if p.exists()]


def test_a_killed_process_is_said(small_settings, tmp_path):
    settings = small_settings(patches=240 * 200, patch_size=16, protocol="cine31")
    shards = generate(settings, tmp_path, range(200), 2)
    next(shards)
    multiprocessing.active_children()[0].kill()
    with pytest.raises(OSError, match="process was killed"):
        list(shards)
    for path in list_shards(tmp_path):
        verify_shard(path)


def test_a_run_given_up_ends_soon(small_settings, tmp_path):
    settings = small_settings(patches=240 * 2000, patch_size=16, protocol="cine31")
    shards = generate(settings, tmp_path, range(2000), 2)
    next(shards)
    shards.close()
    assert not multiprocessing.active_children()
    assert 0 < len(list_shards(tmp_path)) < 1000


def test_shards_beyond_memory_are_refused(small_settings, tmp_path):
    settings = small_settings(patches=240, patch_size=512, protocol="cine31")
    with pytest.raises(ValueError, match="smaller `patch_size`"):
        check_space(settings, tmp_path, [0])


def test_a_disk_that_fills_leaves_complete_shards(run, tmp_path):
    """A limit on file sizes stands for the full disk: one clear error, no damaged file."""
    resource = pytest.importorskip("resource")
    settings, whole = run
    sizes = [shard_path(whole, i).stat().st_size for i in range(5)]
    limit = sorted(sizes)[2]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(OSError, match=r"shard-0000\d\.h5 cannot be written .*goes on"):
            write(settings, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.glob(".*"))
    for path in tmp_path.glob("shard-*.h5"):
        verify_shard(path)
    write(settings, tmp_path, pending_shards(settings, tmp_path, range(5)))
    assert same_data(tmp_path, whole)


def test_a_shard_is_compatible_with_plain_hdf5(run):
    folder = run[1]
    with h5py.File(shard_path(folder, 0)) as file:
        assert set(file) == set(DATASETS)
        assert file["S"].chunks == (1, *file["S"].shape[1:])
        assert file.attrs["protocol"] == b"random"
        assert len(file.attrs["tau"]) == file["S"].shape[-1]
