import gzip
import json

import nibabel as nib
import numpy as np
import pytest
from small_series import series, write

from relaxnet.io.inputs import (
    load_mask,
    load_series,
    load_sigma,
    mask_of,
    whole_labels,
)
from relaxnet.io.nifti import save_map
from relaxsim.core.nifti_reader import NiftiError


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
    parts = [write(tmp_path / f"{n}.nii", data[..., n : n + 1]) for n in range(data.shape[-1])]
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


@pytest.mark.parametrize("codes", [(0, 0), (1, 0), (0, 2), (2, 3)])
def test_codes_of_space_are_kept(tmp_path, data, codes):
    image = nib.Nifti1Image(data, None)
    image.header.set_zooms((0.9, 1.1, 3.0, 1.0))
    for code, put in zip(codes, (image.set_qform, image.set_sform), strict=True):
        if code:
            put(oblique(), code)
    nib.save(image, tmp_path / "s.nii")
    save_map(tmp_path / "m.nii.gz", data[..., 0], load_series([tmp_path / "s.nii"]), {})
    out, before = nib.load(tmp_path / "m.nii.gz"), nib.load(tmp_path / "s.nii")
    assert (int(out.header["qform_code"]), int(out.header["sform_code"])) == codes
    np.testing.assert_allclose(out.affine, before.affine, atol=1e-5)
    np.testing.assert_allclose(out.header.get_zooms(), (0.9, 1.1, 3.0), rtol=1e-5)


def test_what_speaks_of_the_series_alone_is_dropped(tmp_path, data):
    image = nib.Nifti2Image(data, oblique())
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"four dimensions"))
    image.header.set_intent("t test", (3,), name="t")
    image.header["toffset"] = 7
    nib.save(image, tmp_path / "s.nii")
    save_map(tmp_path / "m.nii.gz", data[..., 0], load_series([tmp_path / "s.nii"]), {})
    out = nib.load(tmp_path / "m.nii.gz")
    assert not out.header.extensions
    assert out.header.get_intent()[0] == "none"
    assert out.header["toffset"] == 0


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
    single = write(tmp_path / "1.nii", data[:, :, :1], np.diag([1.9, 1.9, 1, 1]))
    assert load_series([single]).slice_axis == 2
    sagittal = write(tmp_path / "2.nii", data[:1], np.diag([1, 1.9, 1.9, 1]))
    assert load_series([sagittal]).slice_axis == 0


def refused(paths, match):
    with pytest.raises(NiftiError, match=match) as caught:
        load_series(paths)
    assert "\n" not in str(caught.value)


def test_what_is_no_series_is_refused(tmp_path, data):
    refused([tmp_path / "none.nii"], "no such file")
    refused([], "no series")
    refused([write(tmp_path / "one.nii", data[..., 0])], "holds a single image")
    refused([write(tmp_path / "two.nii", data[..., 0, 0])], "holds a single image")
    refused([write(tmp_path / "one.nii", data[:, 0, 0, 0])], "expected 3 or 4 dimensions")
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


def test_header_that_speaks_of_more_than_the_file_holds_is_refused(tmp_path, data):
    for name in ("s.nii", "s.nii.gz"):
        path = write(tmp_path / name, data)
        raw = gzip.decompress(path.read_bytes()) if name.endswith("gz") else path.read_bytes()
        raw = bytearray(raw)
        raw[40:50] = np.array([4, 30000, 30000, 30000, 30000], "<i2").tobytes()
        path.write_bytes(gzip.compress(bytes(raw)) if name.endswith("gz") else bytes(raw))
        refused([path], "which the file cannot hold")


def test_colours_are_refused(tmp_path):
    rgb = np.zeros((3, 3, 2, 4), np.dtype([(c, "u1") for c in "RGB"]))
    nib.save(nib.Nifti1Image(rgb, np.eye(4)), tmp_path / "rgb.nii")
    refused([tmp_path / "rgb.nii"], "expected real numbers")


def test_damaged_files_are_refused_or_read_but_nothing_else(tmp_path, data):
    """Bytes of the header, of the data and of the gzip stream are changed at random."""
    rng = np.random.default_rng(0)
    good = write(tmp_path / "good.nii", data).read_bytes()
    outcomes = set()
    for n in range(120):
        raw = bytearray(good if n % 2 else gzip.compress(good, 1))
        for _ in range(rng.integers(1, 6)):
            raw[rng.integers(352 if n % 4 else len(raw))] = rng.integers(256)
        raw = raw[: rng.integers(len(raw))] if n % 5 == 0 else raw
        if n % 3 == 0 and n % 2:
            raw = gzip.compress(bytes(raw), 1)
        path = tmp_path / ("f.nii.gz" if raw[:2] == b"\x1f\x8b" else "f.nii")
        path.write_bytes(bytes(raw))
        try:
            series = load_series([path])
            save_map(tmp_path / "map.nii.gz", series.data[..., 0], series, {})
            outcomes.add("read")
        except NiftiError as error:
            outcomes.add("refused" if "\n" not in str(error) else "refused in more than a line")
    assert outcomes == {"read", "refused"}


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
    np.testing.assert_array_equal(load_mask(path, data.shape[:3])[0], inside == 1)
    with pytest.raises(NiftiError, match="has shape"):
        load_mask(path, (3, 3, 3))
    with pytest.raises(NiftiError, match="no voxel above zero"):
        load_mask(write(tmp_path / "empty.nii", 0 * data[..., 0]), data.shape[:3])


def test_mask_of_probabilities(tmp_path, data):
    """Tails of smoothing and of priors are small, but above zero."""
    shape = data.shape[:3]
    share = np.zeros(shape, np.float32)
    share[1], share[2], share[3] = 0.01, 0.5, 1.0
    for full in (1, 100, 255):
        found, half = load_mask(write(tmp_path / "p.nii", full * share), shape)
        assert (found == (share >= 0.5)).all()
        assert half == full / 2
    share[2, 0], share[3, 0] = -0.02, 1.02  # as a spline leaves them
    found, _ = load_mask(write(tmp_path / "s.nii", share), shape)
    assert (found == (share >= 0.5)).all()
    binary = (share > 0.1) / 255  # one value that is not zero, whatever it is
    assert load_mask(write(tmp_path / "b.nii", binary.astype(np.float32)), shape)[0].any()
    with pytest.raises(NiftiError, match=r"no voxel of 0\.5 or more"):
        load_mask(write(tmp_path / "low.nii", share * 0.4), shape)


@pytest.mark.parametrize(
    "values",
    [
        [1],
        [255],
        [127, 255],
        [1, 2, 3],
        [2, 3, 4, 41, 42, 43, 251, 252, 253],
        [10, 50, 99],
        list(range(1, 101)),
        list(range(4, 4000, 7)),
    ],
)
def test_labels_and_pictures_as_masks_count_above_zero(values):
    """A label map, a stripped head and a mask of one value are no soft masks."""
    filled = np.zeros((10, 10, 20))
    filled[:, :, 4:] = np.resize(values, (10, 10, 16))
    found, half = mask_of(filled, "m")
    np.testing.assert_array_equal(found, filled > 0)
    assert half == 0


@pytest.mark.parametrize("full", [100, 255])
def test_soft_masks_of_bytes_count_from_half_their_range(full):
    x = np.linspace(-12, 12, 60)
    share = np.broadcast_to(1 / (1 + np.exp(-x)), (9, 4, 60))
    found, half = mask_of(np.rint(full * share), "m")
    np.testing.assert_array_equal(found, np.rint(full * share) >= full / 2)
    assert half == full / 2


def test_mask_must_lie_where_the_series_lies(tmp_path, data):
    loaded = load_series([write(tmp_path / "s.nii", data, oblique())])
    inside = np.ones((*data.shape[:3], 1), np.float32)
    same, flipped = oblique(), oblique() @ np.diag([-1, 1, 1, 1])
    assert load_mask(write(tmp_path / "a.nii", inside, same), data.shape[:3], loaded)[0].all()
    with pytest.raises(NiftiError, match="lies elsewhere in space"):
        load_mask(write(tmp_path / "b.nii", inside, flipped), data.shape[:3], loaded)
    nowhere = nib.Nifti1Image(inside, None)  # no code: it does not say where it lies
    nib.save(nowhere, tmp_path / "c.nii")
    assert load_mask(tmp_path / "c.nii", data.shape[:3], loaded)[0].all()


@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("dtype", ["i2", "u2", "f4", "f8"])
def test_round_trip_of_twisted_headers(tmp_path, data, ending, endian, dtype):
    """Oblique, left-handed, other codes and units, other bytes; maps say the same of space."""
    image = nib.Nifti1Image(
        np.round(data).astype(endian + dtype), oblique(), nib.Nifti1Header(endianness=endian)
    )
    image.set_data_dtype(np.dtype(endian + dtype))
    other = oblique()
    other[:3, 3] += 5
    image.set_qform(other, 2)
    image.set_sform(oblique(), 3)
    image.header.set_xyzt_units("micron", "msec")
    if dtype[0] in "iu":
        image.header.set_slope_inter(0.5, 20)
    path = tmp_path / f"s.{ending}"
    nib.save(image, path)
    loaded = load_series([path])
    expected = np.round(data) * (0.5 if dtype[0] in "iu" else 1) + 20 * (dtype[0] in "iu")
    np.testing.assert_allclose(loaded.data, expected, rtol=1e-6)
    save_map(tmp_path / "m.nii.gz", loaded.data[..., 0], loaded, {})
    before, out = nib.load(path), nib.load(tmp_path / "m.nii.gz")
    assert nib.aff2axcodes(out.affine) == nib.aff2axcodes(before.affine)
    assert np.linalg.det(out.affine[:3, :3]) < 0
    for get in ("get_qform", "get_sform"):
        (a, code_a), (b, code_b) = (getattr(i.header, get)(coded=True) for i in (before, out))
        np.testing.assert_allclose(b, a, atol=1e-4)
        assert code_a == code_b
    np.testing.assert_allclose(out.header.get_zooms(), before.header.get_zooms()[:3], rtol=1e-6)
    assert out.header.get_xyzt_units() == ("micron", "unknown")
    assert out.get_data_dtype() == np.dtype("<f4")
    assert out.ndim == 3
    slope, inter = out.header.get_slope_inter()
    assert (slope, inter) in ((None, None), (1.0, 0.0))
    np.testing.assert_array_equal(np.asarray(out.dataobj), loaded.data[..., 0])


def test_sigma_map(tmp_path, data):
    loaded = load_series([write(tmp_path / "s.nii", data, oblique())])
    sigma = np.full(data.shape[:3], 8.0, np.float32)
    sigma[0] = np.nan  # outside a mask, which is not known here
    shape = data.shape[:3]
    path = write(tmp_path / "sigma.nii.gz", sigma, oblique())
    np.testing.assert_array_equal(load_sigma(path, shape, loaded), sigma)
    np.testing.assert_array_equal(load_sigma(path, shape), sigma)
    with pytest.raises(NiftiError, match=r"sigma map sigma.nii.gz has shape 14 x 12 x 2"):
        load_sigma(path, (3, 3, 3))
    moved = write(tmp_path / "moved.nii", sigma, oblique() @ np.diag([-1, 1, 1, 1]))
    with pytest.raises(NiftiError, match=r"sigma map moved\.nii lies elsewhere in space"):
        load_sigma(moved, shape, loaded)
    for bad in (0 * sigma, -sigma, np.nan * sigma):
        with pytest.raises(NiftiError, match="holds no positive number"):
            load_sigma(write(tmp_path / "bad.nii", bad, oblique()), shape, loaded)


def test_odd_headers_are_read_in_silence(tmp_path, data, capfd):
    raw = bytearray(write(tmp_path / "s.nii", data).read_bytes())
    raw[0:4] = (7).to_bytes(4, "little")  # sizeof_hdr
    (tmp_path / "odd.nii").write_bytes(raw)
    try:
        load_series([tmp_path / "odd.nii"])
    except NiftiError:
        pass
    raw = bytearray(write(tmp_path / "s.nii", data).read_bytes())
    raw[80:84] = np.float32(-0.9).tobytes()  # pixdim[1]
    (tmp_path / "odd.nii").write_bytes(raw)
    load_series([tmp_path / "odd.nii"])
    assert capfd.readouterr() == ("", "")


def test_labels_off_by_rounding_are_whole():
    values = np.array([0, 2.02, np.nan, 2.99])
    np.testing.assert_array_equal(whole_labels(values, "l"), [0, 2, 0, 3])
    for odd, words in ((123456.5, "holds 123456.5;"), (2.03, "holds 2.03;"), (np.inf, "inf;")):
        with pytest.raises(NiftiError, match=words):
            whole_labels(np.array([1.0, odd], np.float32), "l")
