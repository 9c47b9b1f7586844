import json

import nibabel as nib
import numpy as np
import pytest
from small_series import series, write

from relaxnet.nifti import NiftiError, load_mask, load_series, save_map


@pytest.fixture
def data():
    return series()[0]


def oblique():
    """A left-handed, oblique affine."""
    a = np.deg2rad(17)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-0.9, 1.1, 3.0])
    affine[:3, 3] = [12, -30, 7]
    return affine


def test_one_file_and_one_file_a_time_are_the_same(tmp_path, data):
    whole = load_series([write(tmp_path / "s.nii.gz", data)])
    parts = [write(tmp_path / f"{n}.nii", data[..., n]) for n in range(data.shape[-1])]
    np.testing.assert_array_equal(load_series(parts).data, whole.data)


def test_integers_with_slope_are_scaled(tmp_path, data):
    path = write(tmp_path / "s.nii.gz", data, dtype=np.int16, slope=0.25)
    np.testing.assert_allclose(load_series([path]).data, data, atol=0.13)


def test_header_is_kept(tmp_path, data):
    image = nib.Nifti1Image(data, oblique())
    image.set_qform(oblique(), 1)
    image.set_sform(oblique() @ np.diag([1, 1, 1, 1.0]), 4)
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_slope_inter(2.0, 3.0)
    nib.save(image, tmp_path / "s.nii.gz")
    loaded = load_series([tmp_path / "s.nii.gz"])
    save_map(tmp_path / "T1map.nii.gz", data[..., 0], loaded, {"Units": "ms"})
    out = nib.load(tmp_path / "T1map.nii.gz")
    assert out.shape == data.shape[:3]
    assert out.get_data_dtype() == np.float32
    np.testing.assert_allclose(out.affine, oblique(), atol=1e-5)
    assert (int(out.header["qform_code"]), int(out.header["sform_code"])) == (1, 4)
    np.testing.assert_allclose(out.header.get_zooms(), (0.9, 1.1, 3.0), rtol=1e-5)
    assert out.header.get_xyzt_units() == ("mm", "unknown")
    np.testing.assert_array_equal(np.asarray(out.dataobj), data[..., 0])
    assert json.loads((tmp_path / "T1map.json").read_text()) == {"Units": "ms"}


def test_big_endian_files_are_read(tmp_path, data):
    image = nib.Nifti1Image(data, np.eye(4), nib.Nifti1Header(endianness=">"))
    nib.save(image, tmp_path / "s.nii")
    loaded = load_series([tmp_path / "s.nii"])
    np.testing.assert_array_equal(loaded.data, data)
    save_map(tmp_path / "map.nii.gz", data[..., 0], loaded, {})
    np.testing.assert_array_equal(
        np.asarray(nib.load(tmp_path / "map.nii.gz").dataobj), data[..., 0]
    )


def test_slices_lie_across_the_largest_zoom(tmp_path, data):
    sagittal = write(tmp_path / "s.nii", data, np.diag([4.0, 1, 1, 1]))
    assert load_series([sagittal]).slice_axis == 0
    isotropic = write(tmp_path / "i.nii", data, np.eye(4))
    assert load_series([isotropic]).slice_axis == 2


def refused(paths, match):
    with pytest.raises(NiftiError, match=match) as caught:
        load_series(paths)
    assert "\n" not in str(caught.value)


def test_what_is_no_series_is_refused(tmp_path, data):
    refused([tmp_path / "none.nii"], "no such file")
    refused([], "no series")
    refused([write(tmp_path / "one.nii", data[..., 0])], "holds a single image")
    refused([write(tmp_path / "two.nii", data[..., 0, 0])], "expected 3 or 4 dimensions")
    text = tmp_path / "text.nii"
    text.write_text("hello")
    refused([text], "not a NIfTI file")
    whole = write(tmp_path / "cut.nii.gz", data)
    whole.write_bytes(whole.read_bytes()[:-900])
    refused([whole], "damaged or cut short")
    plain = write(tmp_path / "cut.nii", data)
    plain.write_bytes(plain.read_bytes()[:-900])
    refused([plain], "damaged or cut short")
    nib.save(nib.Nifti1Image(data.astype(np.complex64), np.eye(4)), tmp_path / "c.nii")
    refused([tmp_path / "c.nii"], "expected real numbers")
    nib.save(nib.Spm2AnalyzeImage(data[..., 0], np.eye(4)), tmp_path / "a.img")
    refused([tmp_path / "a.img"], "expected NIfTI|not a NIfTI")


def test_files_that_differ_are_refused(tmp_path, data):
    first = write(tmp_path / "1.nii", data[..., 0])
    refused([first, write(tmp_path / "2.nii", data[:-1, ..., 1])], "share one grid")
    moved = np.diag([0.9, 0.9, 3.0, 1.0])
    moved[0, 3] = 5
    refused([first, write(tmp_path / "3.nii", data[..., 1], moved)], "affines differ")
    refused([first, write(tmp_path / "4.nii", data)], "each must be one 3-D image")


def test_mask(tmp_path, data):
    inside = np.zeros(data.shape[:3], np.float32)
    inside[2:5] = 1
    inside[0] = np.nan
    path = write(tmp_path / "mask.nii.gz", inside)
    np.testing.assert_array_equal(load_mask(path, data.shape[:3]), inside == 1)
    with pytest.raises(NiftiError, match="has shape"):
        load_mask(path, (3, 3, 3))
    with pytest.raises(NiftiError, match="no voxel above zero"):
        load_mask(write(tmp_path / "empty.nii", 0 * data[..., 0]), data.shape[:3])
