import hashlib

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from relaxsim.anatomy.anatomy import (
    FROM_BRAINWEB1,
    brain_mask,
    builtin_head,
    fetched_brains_dir,
    file_checksum,
    find_fetched_brains,
    head_voxel,
    label_family,
    load_anatomy,
    subject_number,
)
from relaxsim.anatomy.label_files import BRAINWEB1_SHAPE


def save(path, labels, voxel=1.0):
    nib.save(nib.Nifti1Image(labels.transpose(2, 1, 0), np.diag([voxel] * 3 + [1])), path)
    return path


def test_load_anatomy(tmp_path):
    labels = np.random.default_rng(0).integers(0, 12, (4, 5, 6), np.uint8)
    path = save(tmp_path / "subject07_crisp.nii.gz", labels, 0.5)
    anatomy = load_anatomy(path)
    np.testing.assert_array_equal(anatomy.labels, labels)
    assert anatomy.voxel_size == 0.5
    assert anatomy.name == "subject07_crisp.nii.gz"
    assert anatomy.subject == 7
    assert anatomy.family == "brainweb20"
    assert anatomy.checksum == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_older_phantom_is_mapped(tmp_path):
    """181 x 217 x 181 at 1 mm without marrow: labels 5 to 10 mean something else."""
    labels = np.zeros(BRAINWEB1_SHAPE, np.uint8)
    labels[20:60, 30:190, 20:160] = np.arange(160)[:, None] % 11
    anatomy = load_anatomy(save(tmp_path / "phantom_1.0mm_normal_crisp.nii", labels))
    assert anatomy.family == "brainweb1"
    assert anatomy.subject == 0
    np.testing.assert_array_equal(anatomy.labels, FROM_BRAINWEB1[labels])
    assert set(np.unique(anatomy.labels)) == {0, 1, 2, 3, 4, 6, 7, 9}


def test_label_family():
    old = np.zeros(BRAINWEB1_SHAPE, np.uint8)
    old[0, 0, 0] = 10
    assert label_family(old, 1.0) == "brainweb1"
    assert label_family(old, 0.5) == "brainweb20"
    assert label_family(old[1:], 1.0) == "brainweb20"
    old[0, 0, 0] = 11
    assert label_family(old, 1.0) == "brainweb20"


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("subject04_crisp_v.mnc.gz", 4),
        ("brainweb_s54_crisp.nii.gz", 54),
        ("sub-12_labels.nii", 12),
        ("phantom_1.0mm_normal_crisp.rawb.gz", 0),
        ("head.nii", 0),
    ],
)
def test_subject_number(name, number):
    assert subject_number(name) == number


def test_builtin_anatomy():
    anatomy = builtin_head(3, 4.0)
    assert anatomy.name == "builtin-3"
    assert anatomy.subject == 3
    assert anatomy.family == "builtin"
    assert anatomy.voxel_size == 4.0
    assert anatomy.checksum == hashlib.sha256(anatomy.labels.tobytes()).hexdigest()
    assert anatomy.checksum != builtin_head(4, 4.0).checksum


def test_brain_mask_is_the_largest_part_with_its_holes_filled():
    labels = np.zeros((12, 14, 16), np.uint8)
    labels[2:9, 2:9, 2:9] = 2
    labels[4, 4, 4] = 6  # a hole
    labels[5:7, 5:7, 5:7] = 0  # another
    labels[2:9, 8, 2:9] = 8
    labels[0, 0, 0] = labels[11, 12:, 15] = 1  # loose voxels
    labels[2:9, 2:9, 9] = 10
    expected = np.zeros(labels.shape, bool)
    expected[2:9, 2:9, 2:9] = True
    np.testing.assert_array_equal(brain_mask(labels), expected)


def test_a_bay_is_not_a_hole():
    labels = np.full((5, 6, 7), 3, np.uint8)
    labels[0:3, 3, 3] = 0
    np.testing.assert_array_equal(brain_mask(labels), labels == 3)


def test_brain_mask_without_brain_is_empty():
    mask = brain_mask(np.full((3, 4, 5), 6, np.uint8))
    assert mask.shape == (3, 4, 5)
    assert mask.dtype == bool
    assert not mask.any()


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 0.9))
def test_brain_mask_is_one_part_without_holes(seed, share):
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random((6, 7, 8)) < share, rng.integers(0, 12, (6, 7, 8)), 0)
    labels = labels.astype(np.uint8)
    mask = brain_mask(labels)
    _, parts = ndimage.label(mask)
    assert parts == int(np.isin(labels, (1, 2, 3, 8)).any())
    np.testing.assert_array_equal(mask, ndimage.binary_fill_holes(mask))
    again = brain_mask(np.where(mask, 2, 0).astype(np.uint8))
    np.testing.assert_array_equal(again, mask)


def test_fetched_brains(tmp_path, monkeypatch):
    monkeypatch.setenv("RELAXSIM_DATA", str(tmp_path / "brains"))
    assert fetched_brains_dir() == tmp_path / "brains"
    assert find_fetched_brains() == []
    (tmp_path / "brains" / "folder_crisp.nii").mkdir(parents=True)
    for name in ("brainweb_s05_crisp.nii.gz", "brainweb_s04_crisp.nii.gz", "notes_crisp.txt"):
        (tmp_path / "brains" / name).touch()
    (tmp_path / "brains" / "subject04_t1w.nii.gz").touch()
    found = [path.name for path in find_fetched_brains()]
    assert found == ["brainweb_s04_crisp.nii.gz", "brainweb_s05_crisp.nii.gz"]


def test_fetched_brains_default_to_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.delenv("RELAXSIM_DATA", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert fetched_brains_dir() == tmp_path / ".cache/relaxsim/brainweb"


def test_file_checksum(tmp_path):
    data = bytes(range(256)) * 9000
    (tmp_path / "x").write_bytes(data)
    assert file_checksum(tmp_path / "x") == hashlib.sha256(data).hexdigest()


@pytest.mark.data
def test_brainweb_model(data_dir):
    anatomy = load_anatomy(data_dir / "brainweb20" / "subject04_crisp_v.mnc.gz")
    assert anatomy.labels.shape == (362, 434, 362)
    assert anatomy.labels.dtype == np.uint8
    assert (anatomy.voxel_size, anatomy.subject) == (0.5, 4)
    assert anatomy.family == "brainweb20"
    assert anatomy.labels.max() == 11
    top, bottom = (np.count_nonzero(part) for part in (anatomy.labels[-40:], anatomy.labels[:40]))
    assert top < bottom / 5
    mask = brain_mask(anatomy.labels)
    assert 1.7e6 < mask.sum() / 8 < 2.3e6
    assert np.isin(anatomy.labels[mask], (1, 2, 3, 8)).mean() > 0.999


def test_the_built_in_head_is_finer_than_mixed_voxels():
    assert head_voxel(None) == 1.0
    assert [head_voxel((size, 3.0)) for size in (0.4, 1.2, 2.0)] == pytest.approx([0.5, 0.8, 1.0])
