"""Forms in which people have NIfTI files, and files that are something else."""

import bz2
import gzip
import os
import struct
import warnings
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from small_series import series, write

from relaxnet.io.inputs import load_labels, load_maps, load_mask, load_series, load_sigma
from relaxnet.io.nifti import load_voxels, save_map
from relaxsim.core.nifti_reader import NiftiError, open_image

PLACE = np.diag([1.0, 2.0, 3.0, 1.0])


@pytest.fixture
def data():
    return series()[0]


def raw(tmp_path, data, kind=nib.Nifti1Image, **fields):
    """Bytes of a file whose header has fields of one's own."""
    image = kind(np.asarray(data, np.float32), PLACE)
    image.set_qform(PLACE, 1)
    nib.save(image, tmp_path / "raw.nii")
    content = bytearray((tmp_path / "raw.nii").read_bytes())
    size = 348 if kind is nib.Nifti1Image else 540
    header = type(image.header)(bytes(content[:size]), check=False)
    for key, value in fields.items():
        header[key] = value
    content[:size] = header.binaryblock
    return bytes(content)


def put(path, content):
    path.write_bytes(content)
    return path


def refused(path, words, load=open_image):
    with pytest.raises(NiftiError, match=words) as caught:
        load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["S.NII", "s.Nii.GZ", "s.nii", "s.nii.gz", "s.nii.bz2"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress])
def test_bytes_tell_of_compression_not_names(tmp_path, data, name, pack):
    path = put(tmp_path / name, pack(raw(tmp_path, data)))
    np.testing.assert_array_equal(load_series([path]).data, data)


@pytest.mark.parametrize("asked", ["p.img", "p.hdr"])
def test_pairs_are_read_by_either_name(tmp_path, data, asked):
    nib.save(nib.Nifti1Pair(data, PLACE), tmp_path / "p.img")
    loaded = load_series([tmp_path / asked])
    np.testing.assert_array_equal(loaded.data, data)
    save_map(tmp_path / "m.nii.gz", data[..., 0], loaded, {})
    np.testing.assert_allclose(nib.load(tmp_path / "m.nii.gz").affine, PLACE)
    (tmp_path / ("p.hdr" if asked == "p.img" else "p.img")).unlink()
    refused(tmp_path / asked, r"one of a pair, and the file of its .* is not there")


def test_axes_of_one_entry_are_dropped(tmp_path, data):
    for shape in (data[..., None, :], data[..., None], data[..., None, :, None, None]):
        path = write(tmp_path / "s.nii", shape)
        np.testing.assert_array_equal(load_series([path]).data, data)
    path = write(tmp_path / "s.nii", np.stack([data, data], axis=3))
    refused(path, "expected 3 or 4 dimensions")


def test_one_slice_needs_no_third_axis(tmp_path, data):
    one = data[:, :, :1]
    path = write(tmp_path / "xyn.nii.gz", one[:, :, 0])
    loaded = load_series([path], data.shape[-1])
    np.testing.assert_array_equal(loaded.data, one)
    assert loaded.slice_axis == 2
    files = [write(tmp_path / f"{n}.nii", one[:, :, 0, n]) for n in range(data.shape[-1])]
    np.testing.assert_array_equal(load_series(files).data, one)
    found = load_voxels([path], loaded.shape, [(1, 2, 0), (3, 4, 0)])
    np.testing.assert_array_equal(found, one[[1, 3], [2, 4], 0])
    flat = write(tmp_path / "m.nii", (one[:, :, 0, 0] > 0).astype(np.uint8))
    assert load_mask(flat, loaded.shape, loaded)[0].shape == loaded.shape
    assert load_labels(flat, loaded).shape == loaded.shape
    assert load_sigma(flat, loaded.shape, loaded).shape == loaded.shape
    assert load_maps([flat]).shape == loaded.shape
    refused(
        path, r"single image .*; of one slice 9 along the third axis", lambda p: load_series([p], 9)
    )


def test_a_file_that_does_not_say_where_it_lies_goes_with_the_others(tmp_path, data):
    files = [write(tmp_path / f"{n}.nii", data[..., n], PLACE) for n in range(3)]
    image = nib.Nifti1Image(data[..., 0], None)
    image.header.set_zooms((1, 2, 3))
    nib.save(image, files[0])
    loaded = load_series(files)
    np.testing.assert_array_equal(loaded.data, data[..., :3])
    np.testing.assert_allclose(loaded.affine, PLACE)
    image.header.set_zooms((1, 2, 2))
    nib.save(image, files[1])
    refused(files, "voxel sizes", load_series)


@pytest.mark.parametrize("length", [1 + 4e-7, 1.001, 1.5, np.nan])
@pytest.mark.parametrize("code", [0, 1])
def test_the_affine_counts_where_quaternions_say_nothing(tmp_path, data, length, code):
    fields = {"qform_code": code, "sform_code": 1, "quatern_b": length, "quatern_c": 0}
    loaded = load_series([put(tmp_path / "s.nii", raw(tmp_path, data, **fields))])
    np.testing.assert_allclose(loaded.affine, PLACE)
    save_map(tmp_path / "m.nii.gz", data[..., 0], loaded, {})
    np.testing.assert_allclose(nib.load(tmp_path / "m.nii.gz").affine, PLACE)


def test_quaternions_count_where_the_affine_says_nothing(tmp_path, data):
    for row in (np.nan, 0):
        fields = {"sform_code": 1, "srow_x": row}
        loaded = load_series([put(tmp_path / "s.nii", raw(tmp_path, data, **fields))])
        np.testing.assert_allclose(loaded.affine, PLACE)
    fields |= {"quatern_b": 3}
    refused(put(tmp_path / "s.nii", raw(tmp_path, data, **fields)), "says nothing")


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_odd_headers_make_no_noise(tmp_path, data, kind, capfd):
    content = raw(tmp_path, data, kind, pixdim=0, bitpix=7, qform_code=99)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = load_series([put(tmp_path / "s.nii", content)])
        save_map(tmp_path / "m.nii.gz", data[..., 0], loaded, {})
    np.testing.assert_array_equal(loaded.data, data)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("offset", [0, 16, 351, -352])
def test_voxels_begin_behind_the_header(tmp_path, data, kind, offset):
    content = raw(tmp_path, data, kind, vox_offset=offset)
    refused(put(tmp_path / "s.nii.gz", gzip.compress(content)), "vox_offset")


def test_extensions_are_skipped(tmp_path, data):
    content = bytearray(raw(tmp_path, data, vox_offset=352 + 64))
    bad = struct.pack("<ii", 64, 4) + b"\xff\xfe" * 28
    content[348:352] = b"\1\0\0\0"
    content[352:352] = bad
    np.testing.assert_array_equal(load_series([put(tmp_path / "s.nii", content)]).data, data)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b"hello", "5 bytes hold no header"),
        (b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]><CIFTI/>' * 20, "XML"),
        (b"CDF\x01" + bytes(600), "MINC"),
        (b"\x00\x00\x00\x01" + bytes(600), "MGH"),
        (b"\x28\xb5\x2f\xfd" + bytes(600), "zstd"),
        (b"# === DATA DESCRIPTION FILE ===" + bytes(600), "PAR/REC"),
        (bytes(128) + b"DICM" + bytes(600), "DICOM"),
        (struct.pack("<i", 348) + bytes(600), "Analyze"),
        (bytes(10_000), "no header of NIfTI"),
    ],
)
@pytest.mark.parametrize("name", ["s.nii", "s.nii.gz", "s.mgz", "s.zst", "s"])
def test_other_formats_are_named(tmp_path, content, words, name):
    refused(put(tmp_path / name, content), f"not a NIfTI file .*{words}")


def test_what_is_no_file_is_not_opened(tmp_path, data):
    os.mkfifo(tmp_path / "s.nii")
    refused(tmp_path / "s.nii", "is a pipe; expected a file")
    refused(tmp_path, "is a folder; expected a file")
    refused("/dev/zero", "is a device; expected a file")
    place = SimpleNamespace(affine=PLACE, header=nib.Nifti1Header())
    for load in (load_labels, lambda p, s: load_mask(p, (1, 1, 1)), lambda p, s: load_maps([p])):
        with pytest.raises(NiftiError, match="is a pipe"):
            load(tmp_path / "s.nii", SimpleNamespace(shape=(1, 1, 1), **vars(place)))


def test_few_bytes_do_not_claim_much_memory(tmp_path, data):
    """A megabyte of zeros that unpacks to a gigabyte is counted before it is read."""
    content = raw(tmp_path, data, dim=[4, 1000, 1000, 100, 10, 1, 1, 1])
    packed = gzip.compress(content + bytes(30_000_000), 9)
    refused(put(tmp_path / "s.nii.gz", packed), "which the file cannot hold")
    refused(put(tmp_path / "s.nii.bz2", bz2.compress(content)), "which the file cannot hold")
    content = raw(tmp_path, data, nib.Nifti2Image, dim=[4, 2**40, 2**40, 2**40, 2**40, 1, 1, 1])
    refused(put(tmp_path / "s.nii.gz", gzip.compress(content)), "which the file cannot hold")
