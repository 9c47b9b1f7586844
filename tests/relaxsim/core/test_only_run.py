"""One run at a time in a folder."""

import errno

import pytest
from other_process import Other

from relaxsim.core.only_run import LOCK, InUseError, only_run

pytest.importorskip("fcntl")


def fail_in(folder):
    with only_run(folder):
        assert (folder / LOCK).is_file()
        raise ValueError("no")


def test_a_folder_is_made_and_goes_if_nothing_came_of_it(tmp_path):
    folder = tmp_path / "a" / "b"
    with pytest.raises(ValueError, match="no"):
        fail_in(folder)
    assert list(tmp_path.iterdir()) == []
    with only_run(folder):
        (folder / "file").touch()
    assert [path.name for path in folder.iterdir()] == ["file"]


def test_a_folder_that_was_there_stays(tmp_path):
    with only_run(tmp_path):
        pass
    assert tmp_path.is_dir()


def test_one_of_two_runs_wins(tmp_path):
    with Other(tmp_path):
        with pytest.raises(InUseError, match=r"another run writes to .*another `out`"):
            with only_run(tmp_path):
                pass
        assert (tmp_path / LOCK).is_file()
    with only_run(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_killed_run_frees_the_folder(tmp_path):
    with Other(tmp_path) as process:
        process.kill()
        process.wait()
    with only_run(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_other_parts_of_the_same_settings_may_be_written_at_once(tmp_path):
    with Other(tmp_path, "0:3", "a"):
        with only_run(tmp_path, range(3, 5), "a"):
            pass
        with pytest.raises(InUseError, match="the same files"):
            with only_run(tmp_path, range(2, 5), "a"):
                pass
        with pytest.raises(InUseError, match="other settings"):
            with only_run(tmp_path, range(3, 5), "b"):
                pass
        with pytest.raises(InUseError):
            with only_run(tmp_path):
                pass


def test_all_that_a_killed_run_left_half_written_goes(tmp_path):
    left = [".last.keras.another-host.1.part.keras", ".history.csv.another-host.1.part.csv"]
    for name in (*left, ".hidden", "x.part"):
        (tmp_path / name).touch()
    with only_run(tmp_path, range(2)):  # the other host may be at work
        assert all((tmp_path / name).exists() for name in left)
    with only_run(tmp_path):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "x.part"]


def test_without_locks_runs_are_not_kept_apart(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.lockf", no_locks)
    with only_run(tmp_path / "o"), only_run(tmp_path / "o", range(2), "a"):
        pass
    assert list(tmp_path.iterdir()) == []
