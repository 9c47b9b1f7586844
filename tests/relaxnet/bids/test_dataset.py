"""Which series a BIDS dataset holds, and which masks belong to them."""

import numpy as np
import pytest
from small_bids import save, write_dataset, write_json, write_series

from relaxnet.bids.dataset import (
    check_dataset,
    chosen_subjects,
    find_collections,
    find_match,
    other_suffixes,
)
from relaxnet.io.bids_names import BidsError


@pytest.fixture
def root(tmp_path):
    return write_dataset(tmp_path / "ds")


def names(root, subject, **wanted):
    return [c.name for c in find_collections(root, subject, **wanted)]


def problem(root, subject="01", suffix="IRT1"):
    (found,) = find_collections(root, subject, suffixes=[suffix])
    return found.problem


def anat(root, name):
    return next(root.rglob(name))


def test_sessions_runs_and_suffixes(root):
    assert names(root, "01") == ["sub-01_IRT1", "sub-01_MESE"]
    assert names(root, "02") == ["sub-02_ses-a_IRT1", "sub-02_ses-b_IRT1"]
    assert names(root, "02", sessions=["ses-b"]) == ["sub-02_ses-b_IRT1"]
    assert names(root, "01", sessions=["b"]) == []
    assert names(root, "01", suffixes=["MESE"]) == ["sub-01_MESE"]
    write_series(root, "sub-01_acq-x_run-1")
    write_series(root, "sub-01_acq-x_run-2")
    more = ["sub-01_acq-x_run-1_IRT1", "sub-01_acq-x_run-2_IRT1"]
    assert names(root, "01", suffixes=["IRT1"]) == ["sub-01_IRT1", *more]
    for collection in find_collections(root, "01"):
        assert not collection.problem
        assert len(collection.images) == (5 if collection.suffix == "MESE" else 7)


def test_ten_and_more_images_count_by_number(root):
    folder = root / "sub-03/anat"
    for n in range(1, 13):
        save(folder / f"sub-03_inv-{n}_IRT1.nii.gz", np.zeros((2, 2, 2)))
    (found,) = find_collections(root, "03")
    assert [path.name.split("_")[1] for path in found.images] == [f"inv-{n}" for n in range(1, 13)]


def test_subjects_by_label(root):
    assert chosen_subjects(root, []) == ["01", "02"]
    assert chosen_subjects(root, ["sub-02", "02"]) == ["02"]
    with pytest.raises(BidsError, match=r"`participants` 9: .* no sub-9 \(01, 02\)"):
        chosen_subjects(root, ["9"])


def test_what_is_no_dataset_is_refused(tmp_path):
    with pytest.raises(BidsError, match="no such folder"):
        check_dataset(tmp_path / "none")
    with pytest.raises(BidsError, match=r"holds no folder sub-\*"):
        check_dataset(tmp_path)


def test_phase_is_left_out(root):
    for path in write_series(root, "sub-03", part="_part-mag"):
        phase = path.with_name(path.name.replace("part-mag", "part-phase"))
        phase.write_bytes(path.read_bytes())
    (found,) = find_collections(root, "03")
    assert found.name == "sub-03_IRT1"
    assert len(found.images) == 7
    assert not found.problem
    for path in (root / "sub-03/anat").glob("*part-mag*.nii.gz"):
        path.unlink()
    assert "no magnitude image" in problem(root, "03")


class TestHalfCopied:
    """Subjects of which something is missing."""

    def test_image_in_between(self, root):
        for ending in ("json", "nii.gz"):
            anat(root, f"sub-01_inv-3_IRT1.{ending}").unlink()
        assert problem(root) == "inv-3 missing among 6 images; the series is not complete"

    def test_image_of_a_sidecar(self, root):
        anat(root, "sub-01_inv-7_IRT1.nii.gz").unlink()
        assert "sub-01_inv-7_IRT1.json has no image" in problem(root)

    def test_all_images(self, root):
        for path in list(root.rglob("sub-01_inv-*.nii.gz")):
            path.unlink()
        assert "no image" in problem(root)

    def test_content_of_a_link(self, root):
        path = anat(root, "sub-01_inv-2_IRT1.nii.gz")
        path.unlink()
        path.symlink_to("gone")
        assert "sub-01_inv-2_IRT1.nii.gz is a link to nothing" in problem(root)

    def test_twice(self, root):
        first = anat(root, "sub-01_inv-1_IRT1.nii.gz")
        (first.parent / "sub-01_IRT1.nii").write_bytes(b"")
        assert "expected one 4-D file or inv-1 ..." in problem(root)

    def test_name_of_another(self, root):
        first = anat(root, "sub-01_inv-1_IRT1.nii.gz")
        for path in list(first.parent.glob("*IRT1*")):
            path.rename(path.with_name(path.name.replace("sub-01", "sub-02")))
        (found,) = find_collections(root, "01", suffixes=["IRT1"])
        assert found.subject == "01"
        assert found.problem == "sub-02_IRT1 lies in sub-01; mend its name or its place"


def test_suffixes_for_messages(root):
    save(root / "sub-01/func/sub-01_task-x_bold.nii", np.zeros((2, 2, 2)))
    assert other_suffixes(root) == ["IRT1", "MESE", "bold"]


class TestMasks:
    """A pattern, and the entities that pick from its matches."""

    pattern = "derivatives/brain/**/*_mask.nii.gz"

    def place(self, root, *names):
        for name in names:
            write_json(root / "derivatives/brain/x" / name)

    def of(self, root, subject, n=0):
        collection = find_collections(root, subject)[n]
        return find_match(self.pattern, root, collection, "mask").name

    def test_of_subject_and_session(self, root):
        self.place(
            root,
            "sub-01_desc-brain_mask.nii.gz",
            "sub-02_ses-a_mask.nii.gz",
            "sub-02_ses-b_mask.nii.gz",
            "sub-02_ses-b_run-2_mask.nii.gz",
        )
        assert self.of(root, "01") == "sub-01_desc-brain_mask.nii.gz"
        assert self.of(root, "02", 1) == "sub-02_ses-b_mask.nii.gz"

    def test_of_the_nearest_entities(self, root):
        self.place(root, "sub-02_mask.nii.gz", "sub-02_ses-a_mask.nii.gz")
        assert self.of(root, "02", 0) == "sub-02_ses-a_mask.nii.gz"
        assert self.of(root, "02", 1) == "sub-02_mask.nii.gz"

    def test_none_or_two_are_refused(self, root):
        with pytest.raises(BidsError, match="no match for sub-01_IRT1"):
            self.of(root, "01")
        self.place(root, "sub-01_desc-a_mask.nii.gz", "sub-01_desc-b_mask.nii.gz")
        with pytest.raises(BidsError, match="2 matches for sub-01_IRT1"):
            self.of(root, "01")

    def test_absolute_patterns(self, root):
        self.place(root, "sub-01_mask.nii.gz")
        (first, _) = find_collections(root, "01")
        found = find_match(f"{root}/{self.pattern}", root.parent, first, "mask")
        assert found.name == "sub-01_mask.nii.gz"
