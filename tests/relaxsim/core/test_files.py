import pytest

from relaxsim.core.files import read_json, temporary_path, write_whole


def test_a_file_appears_whole(tmp_path):
    path = tmp_path / "T1map.nii.gz"
    with write_whole(path) as temporary:
        assert temporary == temporary_path(path)
        assert (temporary.parent, temporary.name.endswith(".part.nii.gz")) == (tmp_path, True)
        temporary.write_text("half")
        assert not path.exists()
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "half"


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_failure_leaves_the_former_file(tmp_path, error):
    path = tmp_path / "a.json"
    path.write_text("former")

    def write_a_part():
        with write_whole(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        write_a_part()
    assert [p.read_text() for p in tmp_path.iterdir()] == ["former"]


def test_json(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(path) == {"a": 1}
    for content in (b"{", b"[" * 10**5, b"\xff\xfe"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.json is no JSON file") as caught:
            read_json(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "none.json")
