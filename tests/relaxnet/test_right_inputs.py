"""Inputs that are right, in the forms that people have them: each is mapped, and rightly."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner
from small_series import TAU, series

from relaxnet.cli.group import main

SIGMA = 8.0


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def images(dtype=np.float32, scale=1.0, signed=False):
    """Series of two tissues in a disc, and the disc."""
    S, kappa, disc = series(sigma=SIGMA)
    if signed:
        S = S * np.where(TAU < kappa[..., 2:] * np.log(1.95), -1, 1)
    S = S * scale
    if np.issubdtype(np.dtype(dtype), np.integer):
        S = np.round(S)
    return S.astype(dtype), kappa[..., 2], disc


def save(path, data, affine=None, image=nib.Nifti1Image, dtype=None):
    affine = np.diag([0.9, 0.9, 3.0, 1.0]) if affine is None else affine
    nib.save(image(data, affine, dtype=dtype or data.dtype), path)


def times(text=None, path="tis.txt", encoding="utf-8"):
    text = "\n".join(f"{t:g}" for t in TAU) if text is None else text
    Path(path).write_bytes(text.encode(encoding))


def mapped(*arguments):
    """T1 that the fit gives, after a run that ends well."""
    result = CliRunner().invoke(main, ["predict", *arguments, "--method", "mle"])
    assert result.exit_code == 0, result.output
    return nib.load("maps/T1map.nii.gz").get_fdata()


def check(T1, truth, disc):
    for value in np.unique(truth[disc]):
        here = disc & (truth == value)
        assert np.median(T1[here]) == pytest.approx(value, rel=0.03)


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [
        (np.uint8, 0.2),
        (np.int16, 1.0),
        (np.uint16, 30.0),
        (np.int32, 1e5),
        (np.float32, 1e-6),
        (np.float32, 1e9),
        (np.float64, 1.0),
        (">i2", 1.0),
        (">f4", 1.0),
    ],
)
def test_types_and_units_of_the_images(place, dtype, scale):
    S, truth, disc = images(dtype, scale)
    save("s.nii.gz", S)
    times()
    check(mapped("s.nii.gz", "--tis", "tis.txt"), truth, disc)


@pytest.mark.parametrize(
    "name", ["s.nii", "s.nii.gz", "S.NII.GZ", "a b (c).nii.gz", "s.1.nii.gz", "ü.nii"]
)
def test_names(place, name):
    S, truth, disc = images()
    save("plain.nii.gz" if name.lower().endswith("gz") else "plain.nii", S)
    (place / ("plain.nii.gz" if name.lower().endswith("gz") else "plain.nii")).rename(place / name)
    times()
    check(mapped(name, "--tis", "tis.txt"), truth, disc)


@pytest.mark.parametrize(
    "affine",
    [
        np.diag([-0.9, 0.9, 3.0, 1.0]),
        np.diag([0.9, -0.9, -3.0, 1.0]),
        np.array([[0, 0, 3.0, 10], [0.9, 0, 0, -5], [0, 0.9, 0, 2], [0, 0, 0, 1]]),
        np.array([[0.8, -0.3, 0.5, 1], [0.3, 0.85, 0, 2], [-0.4, 0.1, 2.9, 3], [0, 0, 0, 1.0]]),
        np.eye(4),
    ],
)
@pytest.mark.parametrize("image", [nib.Nifti1Image, nib.Nifti2Image])
def test_orientations(place, affine, image):
    S, truth, disc = images()
    save("s.nii.gz", S, affine, image)
    times()
    check(mapped("s.nii.gz", "--tis", "tis.txt"), truth, disc)
    np.testing.assert_allclose(nib.load("maps/T1map.nii.gz").affine, affine, atol=1e-4)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_along_any_axis(place, axis):
    S, truth, disc = images()
    zooms = [0.9, 0.9, 0.9]
    zooms[axis] = 3.0
    moved = [np.moveaxis(values, 2, axis) for values in (S, truth, disc)]
    save("s.nii.gz", moved[0], np.diag([*zooms, 1.0]))
    times()
    check(mapped("s.nii.gz", "--tis", "tis.txt"), *moved[1:])


@pytest.mark.parametrize(
    ("text", "options", "encoding"),
    [
        (" ".join(f"{t:g}" for t in TAU), (), "utf-8"),
        (",".join(f"{t:g}" for t in TAU), (), "utf-8"),
        ("; ".join(f"{t:.1f}" for t in TAU), (), "utf-8"),
        ("\r\n".join(f"{t:g}" for t in TAU) + "\r\n\r\n", (), "utf-8"),
        ("\n".join(f"{t:g}" for t in TAU), (), "utf-8-sig"),
        ("\n".join(f"{t:g}" for t in TAU), (), "utf-16"),
        ("# Köln\n" + "\n".join(f"{t:g} # ms" for t in TAU), (), "latin-1"),
        ("\n".join(f"{t / 1000:g}" for t in TAU), ("--units", "s"), "utf-8"),
        ("\t".join(f"{t:e}" for t in TAU), (), "utf-8"),
    ],
)
def test_forms_of_the_list(place, text, options, encoding):
    S, truth, disc = images()
    save("s.nii.gz", S)
    times(text, encoding=encoding)
    check(mapped("s.nii.gz", "--tis", "tis.txt", *options), truth, disc)


@pytest.mark.parametrize("order", [[6, 5, 4, 3, 2, 1, 0], [3, 0, 6, 1, 5, 2, 4]])
def test_images_in_any_order(place, order):
    S, truth, disc = images()
    save("s.nii.gz", S[..., order])
    times("\n".join(f"{t:g}" for t in TAU[order]))
    check(mapped("s.nii.gz", "--tis", "tis.txt"), truth, disc)


@pytest.mark.parametrize("sidecars", [False, True])
def test_a_file_a_time(place, sidecars):
    S, truth, disc = images()
    files = []
    for n, time in enumerate(TAU):
        files.append(f"s_{n + 1:02}.nii.gz")
        save(files[-1], S[..., n])
        if sidecars:
            (place / f"s_{n + 1:02}.json").write_text(json.dumps({"InversionTime": time / 1000}))
    times()
    options = () if sidecars else ("--tis", "tis.txt")
    check(mapped(*(files[::-1] if sidecars else files), *options), truth, disc)


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (lambda disc: disc.astype(np.uint8), ()),
        (lambda disc: disc.astype(np.float32), ()),
        (lambda disc: disc * np.float32(0.9), ()),
        (lambda disc: (disc * 255).astype(np.uint8), ()),
        (lambda disc: (disc * 100).astype(np.int16), ()),
        (lambda disc: np.ones(disc.shape, np.uint8), ("--sigma", "8")),
    ],
)
def test_masks(place, make, options):
    S, truth, disc = images()
    save("s.nii.gz", S)
    save("mask.nii.gz", make(disc))
    times()
    check(mapped("s.nii.gz", "--tis", "tis.txt", "--mask", "mask.nii.gz", *options), truth, disc)


@pytest.mark.parametrize("background", [0.0, np.nan, np.inf])
def test_nothing_outside_of_the_object(place, background):
    S, truth, disc = images()
    S[~disc] = background
    save("s.nii.gz", S)
    save("mask.nii.gz", disc.astype(np.uint8))
    times()
    options = () if background == 0 else ("--mask", "mask.nii.gz")
    check(mapped("s.nii.gz", "--tis", "tis.txt", *options), truth, disc)


def test_one_slice(place):
    S, truth, disc = images()
    save("s.nii.gz", S[:, :, :1])
    times()
    check(mapped("s.nii.gz", "--tis", "tis.txt"), truth[:, :, :1], disc[:, :, :1])


@pytest.mark.parametrize("options", [(), ("--signed",)])
def test_signed_images(place, options):
    S, truth, disc = images(signed=True)
    save("s.nii.gz", S)
    times()
    check(mapped("s.nii.gz", "--tis", "tis.txt", *options), truth, disc)


def test_a_time_that_was_measured_twice(place):
    S, truth, disc = images()
    rng = np.random.default_rng(1)
    again = np.abs(S[..., 3:4] + SIGMA * rng.standard_normal(S[..., 3:4].shape)).astype(np.float32)
    save("s.nii.gz", np.concatenate([S, again], axis=-1))
    times("\n".join(f"{t:g}" for t in [*TAU, TAU[3]]))
    check(mapped("s.nii.gz", "--tis", "tis.txt"), truth, disc)


def test_a_slope_and_an_intercept(place):
    S, truth, disc = images()
    image = nib.Nifti1Image(np.round(S / 0.25 - 100).astype(np.int16), np.diag([0.9, 0.9, 3, 1]))
    image.header.set_slope_inter(0.25, 25.0)
    nib.save(image, "s.nii.gz")
    times()
    check(mapped("s.nii.gz", "--tis", "tis.txt"), truth, disc)


def test_no_noise(place):
    S, truth, disc = series(sigma=0.0)[0], *images()[1:]
    save("s.nii.gz", S)
    times()
    check(mapped("s.nii.gz", "--tis", "tis.txt"), truth, disc)


@pytest.mark.parametrize("number", [4, 5])
def test_few_times(place, number):
    S, truth, disc = images()
    index = np.linspace(0, len(TAU) - 1, number).round().astype(int)
    save("s.nii.gz", S[..., index])
    times("\n".join(f"{t:g}" for t in TAU[index]))
    check(mapped("s.nii.gz", "--tis", "tis.txt"), truth, disc)
