import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.io import netcdf_file

from relaxsim.anatomy.label_files import (
    BRAINWEB1_SHAPE,
    BRAINWEB20_SHAPE,
    is_label_file,
    read_labels,
)


@pytest.fixture
def labels():
    return np.random.default_rng(0).integers(0, 12, (5, 6, 7), np.uint8)


def save_nifti(path, labels, codes="RAS", voxel=1.0, dtype=np.uint8):
    """Labels (slice, row, column) as NIfTI whose axes point to `codes`."""
    ras = nib.Nifti1Image(labels.transpose(2, 1, 0).astype(dtype), np.diag([voxel] * 3 + [1]))
    turn = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(codes)
    )
    nib.save(ras.as_reoriented(turn), path)
    return path


def save_minc(path, labels, voxel=0.5):
    """Labels as a minimal MINC1 file: bytes, scaled to real values slice by slice."""
    with netcdf_file(path, "w") as file:
        for name, size in zip(("zspace", "yspace", "xspace"), labels.shape, strict=True):
            file.createDimension(name, size)
            axis = file.createVariable(name, "i", ())
            axis.step, axis.start, axis.spacing, axis.length = voxel, -10.0, b"regular__", size
        image = file.createVariable("image", "b", ("zspace", "yspace", "xspace"))
        image.signtype, image.valid_range = b"unsigned", np.array([0.0, 255.0])
        image[:] = (labels * 20).astype(np.int8)
        for name, value in (("image-max", 255 / 20), ("image-min", 0.0)):
            scale = file.createVariable(name, "d", ("zspace",))
            scale[:] = np.full(labels.shape[0], value)
    return path


def head_like(shape):
    """A left-right symmetric volume of labels 0 to 10 that is lopsided otherwise."""
    labels = np.zeros(shape, np.uint8)
    depth, rows, columns = shape
    labels[depth // 4 :, 20 : rows // 2, 20 : columns - 20] = 2
    labels[depth // 2 : -5, 30:-9, 40 : columns - 40] = 10
    return labels


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "ASL", "SLA"])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_nifti_in_any_orientation(tmp_path, labels, codes, ending):
    path = save_nifti(tmp_path / f"head{ending}", labels, codes, voxel=0.75)
    found, voxel_size = read_labels(path)
    np.testing.assert_array_equal(found, labels)
    assert found.dtype == np.uint8
    assert voxel_size == pytest.approx(0.75)


@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.float64])
def test_nifti_types_that_hold_whole_numbers(tmp_path, labels, dtype):
    path = save_nifti(tmp_path / "head.nii.gz", labels, dtype=dtype)
    np.testing.assert_array_equal(read_labels(path)[0], labels)


@pytest.mark.parametrize("slope", [0.1, 0.01])
def test_scaled_integers_are_rounded(tmp_path, labels, slope):
    stored = np.rint(labels.transpose(2, 1, 0) / slope).astype(np.int16)
    image = nib.Nifti1Image(stored, np.eye(4))
    image.header.set_slope_inter(slope, 0)
    nib.save(image, tmp_path / "head.nii")
    assert (np.asanyarray(nib.load(tmp_path / "head.nii").dataobj) % 1).any()
    np.testing.assert_array_equal(read_labels(tmp_path / "head.nii")[0], labels)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16])
def test_floats_that_nibabel_scaled_to_integers_are_rounded(tmp_path, labels, dtype):
    header = nib.Nifti1Header()
    header.set_data_dtype(dtype)
    floats = labels.transpose(2, 1, 0).astype(np.float64)
    nib.save(nib.Nifti1Image(floats, np.eye(4), header), tmp_path / "head.nii")
    assert (np.asanyarray(nib.load(tmp_path / "head.nii").dataobj) % 1).any()
    np.testing.assert_array_equal(read_labels(tmp_path / "head.nii")[0], labels)


@pytest.mark.parametrize("ending", [".mnc", ".mnc.gz"])
def test_minc_comes_in_its_own_order(tmp_path, ending):
    labels = np.random.default_rng(1).integers(0, 12, (37, 6, 7), np.uint8)
    path = save_minc(tmp_path / "head.mnc", labels)
    if ending == ".mnc.gz":
        path = tmp_path / "head.mnc.gz"
        path.write_bytes(gzip.compress((tmp_path / "head.mnc").read_bytes()))
    found, voxel_size = read_labels(path)
    np.testing.assert_array_equal(found, labels)
    assert voxel_size == 0.5


@pytest.mark.parametrize(
    ("shape", "name", "voxel"),
    [(BRAINWEB1_SHAPE, "p.rawb", 1.0), (BRAINWEB20_SHAPE, "subject04_crisp.bin.gz", 0.5)],
)
def test_raw_grid_is_told_by_the_number_of_bytes(tmp_path, shape, name, voxel):
    labels = np.zeros(shape, np.uint8)
    labels[3, 40, 70], labels[-1, -1, -1] = 9, 2
    data = labels.tobytes()
    (tmp_path / name).write_bytes(gzip.compress(data, 1) if name.endswith("gz") else data)
    found, voxel_size = read_labels(tmp_path / name)
    np.testing.assert_array_equal(found, labels)
    assert voxel_size == voxel


def test_raw_words_carry_the_label_in_their_upper_bits(tmp_path):
    labels = head_like(BRAINWEB1_SHAPE)
    words = labels.astype("<u2") * 16
    words[40, 60, 60] += 3
    path = tmp_path / "phantom.BIN.GZ"
    path.write_bytes(gzip.compress(words.tobytes(), 1))
    np.testing.assert_array_equal(read_labels(path)[0], labels)


def test_nifti_of_brainweb_words_is_scaled_back(tmp_path, labels):
    path = save_nifti(tmp_path / "head.nii", labels * 16, dtype=np.uint16)
    np.testing.assert_array_equal(read_labels(path)[0], labels)


def test_brainweb_grid_under_wrong_axis_names_is_turned_back(tmp_path):
    """As brainweb-dl saves it: slices first, called columns."""
    labels = head_like(BRAINWEB1_SHAPE)
    nib.save(nib.Nifti1Image(labels, np.eye(4)), tmp_path / "wrong.nii")
    save_nifti(tmp_path / "right.nii", labels)
    np.testing.assert_array_equal(read_labels(tmp_path / "wrong.nii")[0], labels)
    np.testing.assert_array_equal(read_labels(tmp_path / "right.nii")[0], labels)


@pytest.mark.parametrize("zoom", [0.001, 1000.0])
def test_voxels_in_another_unit_are_refused(tmp_path, labels, zoom):
    nib.save(nib.Nifti1Image(labels, np.diag([zoom] * 3 + [1])), tmp_path / "head.nii")
    with pytest.raises(ValueError, match="header in another unit"):
        read_labels(tmp_path / "head.nii")


def test_anisotropic_voxels_are_refused(tmp_path, labels):
    nib.save(nib.Nifti1Image(labels, np.diag([1, 1, 1.2, 1])), tmp_path / "head.nii")
    with pytest.raises(ValueError, match=r"voxels of 1 x 1 x 1\.2 mm; expected cubes"):
        read_labels(tmp_path / "head.nii")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (12, "the label 12; expected BrainWeb's 0 to 11"),
        (-1, "the label -1"),
        (2.5, "the value 2.5; labels are whole numbers"),
        (2.03, "the value 2.03; labels are whole numbers"),
        (123456.5, "the value 123456.5; labels are whole numbers"),
        (np.nan, "the value nan"),
        (np.inf, "the label inf"),
    ],
)
def test_odd_values_are_refused(tmp_path, labels, value, message):
    odd = labels.astype(np.float32)
    odd[2, 2, 2] = value
    save_nifti(tmp_path / "head.nii", odd, dtype=np.float32)
    with pytest.raises(ValueError, match=message):
        read_labels(tmp_path / "head.nii")


def test_other_volumes_are_refused(tmp_path, labels):
    nib.save(nib.Nifti1Image(np.stack([labels] * 3, -1), np.eye(4)), tmp_path / "four.nii")
    with pytest.raises(ValueError, match="5 x 6 x 7 x 3; expected one three-dimensional"):
        read_labels(tmp_path / "four.nii")
    save_nifti(tmp_path / "empty.nii", 0 * labels)
    with pytest.raises(ValueError, match="background only"):
        read_labels(tmp_path / "empty.nii")
    nib.save(nib.Nifti1Image(labels.astype(np.complex64), np.eye(4)), tmp_path / "complex.nii")
    with pytest.raises(ValueError, match="complex64 voxels"):
        read_labels(tmp_path / "complex.nii")


def test_missing_and_foreign_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist; give a label volume"):
        read_labels(tmp_path / "none.mnc")
    with pytest.raises(ValueError, match="is not a file"):
        read_labels(tmp_path)
    (tmp_path / "head.png").write_bytes(b"x")
    with pytest.raises(ValueError, match="no label volume by its name"):
        read_labels(tmp_path / "head.png")
    assert not is_label_file("head.png")
    assert is_label_file("Head.MNC.gz")


@pytest.mark.parametrize(
    "name", ["a.nii", "a.nii.gz", "a.mnc", "a.mnc.gz", "a.rawb", "a.rawb.gz", "a.bin.gz"]
)
def test_damaged_files_give_one_line(tmp_path, labels, name):
    """Cut short, rubbish, or rubbish in a good gzip: a ValueError that names the file."""
    whole = tmp_path / "whole.nii"
    if ".nii" in name:
        save_nifti(whole, np.tile(labels, (9, 9, 9)))
    elif ".mnc" in name:
        save_minc(whole, np.tile(labels, (9, 9, 9)))
    else:
        whole.write_bytes(bytes(range(12)) * 1000)
    data = whole.read_bytes()
    packed = gzip.compress(data)
    contents = [b"", b"rubbish" * 50, packed[: len(packed) // 2], data[: len(data) // 2]]
    if name.endswith("gz"):
        contents += [gzip.compress(b"rubbish"), gzip.compress(data[: len(data) // 2])]
    path: Path = tmp_path / name
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=name) as caught:
            read_labels(path)
        assert "\n" not in str(caught.value)


def test_other_formats_under_the_name_of_nifti_are_refused(tmp_path, labels):
    """Each by its first bytes; nothing of it is handed to a reader of that format."""
    bomb = (
        b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">'
        b'<!ENTITY b "&a;&a;&a;&a;">]><GIFTI>&b;</GIFTI>'
    )
    nib.save(nib.MGHImage(labels.astype(np.int32), np.eye(4)), tmp_path / "head.mgh")
    contents = {
        "XML": bomb,
        "MGH": (tmp_path / "head.mgh").read_bytes(),
        "MINC": save_minc(tmp_path / "head.mnc", labels).read_bytes(),
        "zstd": b"\x28\xb5\x2f\xfd" + bytes(400),
    }
    for words, content in contents.items():
        path = tmp_path / "a.nii"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"a\.nii cannot be read .*it is .*{words}"):
            read_labels(path)
    save_nifti(tmp_path / "b.nii", labels).rename(tmp_path / "b.mnc")
    with pytest.raises(ValueError, match=r"b\.mnc cannot be read .*no header of MINC"):
        read_labels(tmp_path / "b.mnc")


def test_more_than_any_label_volume_is_refused_in_little_memory(tmp_path, labels):
    """A header that speaks of much, and small files that unpack to much."""
    path = save_nifti(tmp_path / "a.nii", labels)
    raw = bytearray(path.read_bytes())
    raw[42:48] = np.array([30000] * 3, "<i2").tobytes()
    path.write_bytes(raw)
    with pytest.raises(ValueError, match="which the file cannot hold"):
        read_labels(path)
    packed = tmp_path / "a.rawb.gz"
    with gzip.open(packed, "wb", compresslevel=1) as file:
        for _ in range(12):
            file.write(bytes(10**7))
    with pytest.raises(ValueError, match=r"a\.rawb\.gz holds more than \d+ bytes"):
        read_labels(packed)


def test_scaled_labels_and_those_of_other_types(tmp_path, labels):
    for dtype in (np.int16, np.int32, np.float32, np.float64):
        image = nib.Nifti1Image(labels.astype(dtype), np.diag([1, 1, 1, 1.0]))
        nib.save(image, tmp_path / "a.nii.gz")
        expected = labels.transpose(2, 1, 0)
        np.testing.assert_array_equal(read_labels(tmp_path / "a.nii.gz")[0], expected)
