import sys
import types

import pytest

from relaxsim.anatomy.brainweb import SUBJECTS, fetch_subjects


def package(monkeypatch, get):
    """Stand in for brainweb-dl."""
    module = types.ModuleType("brainweb_dl")
    module.get_brainweb20 = get
    monkeypatch.setitem(sys.modules, "brainweb_dl", module)


def test_files_take_their_names_when_complete(tmp_path, monkeypatch):
    asked = []

    def get(subject, brainweb_dir):
        asked.append(subject)
        path = brainweb_dir / "anything.nii.gz"
        path.write_bytes(b"labels")
        assert not list(tmp_path.glob("*.nii.gz"))[len(asked) - 1 :]
        return path

    package(monkeypatch, get)
    found = list(fetch_subjects([4, 45], tmp_path))
    assert [p.name for p in found] == ["brainweb_s04_crisp.nii.gz", "brainweb_s45_crisp.nii.gz"]
    assert all(p.read_bytes() == b"labels" for p in found)
    assert list(fetch_subjects([45], tmp_path)) == found[1:]
    assert asked == [4, 45]
    assert sorted(p.name for p in tmp_path.iterdir()) == [p.name for p in found]


def test_generate_finds_what_was_fetched(tmp_path, monkeypatch):
    from relaxsim.anatomy.anatomy import find_fetched_brains, subject_number

    package(monkeypatch, lambda s, brainweb_dir: _touch(brainweb_dir / "x.nii.gz"))
    monkeypatch.setenv("RELAXSIM_DATA", str(tmp_path))
    paths = list(fetch_subjects((), tmp_path))
    assert find_fetched_brains() == paths
    assert tuple(subject_number(p.name) for p in paths) == SUBJECTS


def _touch(path):
    path.touch()
    return path


def test_without_a_network(tmp_path, monkeypatch):
    def get(subject, brainweb_dir):
        (brainweb_dir / "half.nii.gz").write_bytes(b"ha")
        raise ConnectionError("HTTPConnectionPool(...)\nmore")

    package(monkeypatch, get)
    with pytest.raises(OSError, match=r"subject 4 cannot be fetched.*network") as raised:
        list(fetch_subjects([4], tmp_path))
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_without_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "brainweb_dl", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'relaxnet\[brainweb\]'"):
        list(fetch_subjects([4], tmp_path))


def test_unknown_subjects(tmp_path):
    with pytest.raises(ValueError, match="no subject 7; it has 4, 5, 6, 18"):
        list(fetch_subjects([4, 7], tmp_path))
