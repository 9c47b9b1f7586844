"""Files that are replaced together: all or none, old never beside new, also after a kill."""

import os
from pathlib import Path

import pytest
from other_process import killed_at_move

from relaxsim.core.replacing import MARK, BeingReplacedError, check_settled, replace_files

OLD = {"a": "old", "b": "old", "stale": "old"}
NEW = {"a": "new", "b": "new", "c": "new"}


@pytest.fixture
def place(tmp_path):
    for folder, content in (("out", OLD), ("temporary/new", NEW)):
        (tmp_path / folder).mkdir(parents=True)
        for name, text in content.items():
            (tmp_path / folder / name).write_text(text)
    (tmp_path / "out" / "mine").write_text("mine")
    return tmp_path


def content(folder):
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


def moved(place):
    new, out = place / "temporary" / "new", place / "out"
    moves = {path: out / path.name for path in sorted(new.iterdir())}
    replace_files(moves, [out / "a", out / "stale"], place / "temporary" / "earlier")


def test_files_are_replaced_and_others_stay(place):
    moved(place)
    assert content(place / "out") == {**NEW, "mine": "mine"}
    assert not list((place / "temporary").rglob("*.*"))
    check_settled(place / "out" / "a")


#: Two old files and a stale one go, three new ones come.
MOVES = range(6)


@pytest.mark.parametrize("number", MOVES)
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_what_fails_on_the_way_is_taken_back(place, monkeypatch, number, error):
    replace, count = Path.replace, iter(range(100))

    def failing(self, target):
        if next(count) == number:
            raise error
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(type(error)):
        moved(place)
    assert content(place / "out") == {**OLD, "mine": "mine"}
    assert content(place / "temporary" / "new") == NEW
    check_settled(place / "out" / "a")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a copy of the process")
@pytest.mark.parametrize("number", MOVES)
def test_a_killed_process_mixes_nothing_and_leaves_a_mark(place, number):
    killed_at_move(number, lambda: moved(place))
    found = content(place / "out")
    assert found.pop("mine") == "mine"
    assert found.pop(MARK)
    assert len(set(found.values())) <= 1
    with pytest.raises(BeingReplacedError, match=r"broken off .* run it again with `overwrite`"):
        check_settled(place / "out" / "a")
    for name, text in NEW.items():  # the run again
        (place / "temporary" / "new" / name).write_text(text)
    moved(place)
    assert content(place / "out") == {**NEW, "mine": "mine"}


def test_a_folder_in_the_way_of_a_file(place):
    (place / "out" / "c").mkdir()
    with pytest.raises(IsADirectoryError):
        moved(place)
    assert content(place / "out") == {**OLD, "mine": "mine"}


def test_folders_that_were_made_for_nothing_go(place):
    moves = {place / "temporary/new/a": place / "deep/er/a", place / "missing": place / "b"}
    with pytest.raises(FileNotFoundError):
        replace_files(moves, (), place / "earlier")
    assert not (place / "deep/er").exists()
    assert content(place / "temporary/new") == NEW


def test_whole_folders(place):
    replace_files({place / "temporary": place / "out"}, (), place / "earlier", marked=False)
    assert content(place / "out" / "new") == NEW
    assert not (place / "earlier").exists()
