import csv

import nibabel as nib
import numpy as np
import pytest

from relaxsim.anatomy.anatomy import Anatomy, load_anatomy
from relaxsim.models.finite_tr import apparent as apparent_at_tr
from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY
from relaxsim.models.t2_decay import MODEL as T2_DECAY
from relaxsim.phantoms.phantoms import (
    WATER,
    brain_phantom,
    middle_slice,
    noisy_series,
    plate_labels,
    plate_phantom,
)
from relaxsim.phantoms.tables import PLATES, read_plate
from relaxsim.simulation.tissues import read_tissues

TIS = np.array([100.0, 400.0, 900.0, 2500.0])
TES = np.array([10.0, 40.0, 160.0])
#: Nominal values of the first and last spheres (Stupic et al. 2021).
NIST = {"T1": ((1989, 1465), (21.719, 15.83)), "T2": ((2480, 581.3), (90.9, 5.592))}


def finite_tr(M0, e, T1, tr):
    """A and B of an inversion recovery with a 90-degree readout every TR."""
    kappa = np.stack(np.broadcast_arrays(M0, e, T1), axis=-1)
    A, B, _ = np.moveaxis(apparent_at_tr(kappa, tr), -1, 0)
    return A, B


def brain(head, seed=0, model=INVERSION_RECOVERY, tau=TIS, **options):
    given = {"voxel_size": 2.0, "matrix": 40} | options
    rng = np.random.default_rng(seed)
    return brain_phantom(load_anatomy(head), tau, model, read_tissues("paper"), rng, **given)


@pytest.mark.parametrize(
    ("model", "tau"), [(INVERSION_RECOVERY, TIS), (T2_DECAY, TES)], ids=lambda v: str(v)[:12]
)
def test_crisp_brain_is_its_kappas_signal(head, model, tau):
    phantom = brain(head, model=model, tau=tau, crisp=True, num_slices=3)
    assert phantom.signal.shape == (40, 40, 3, len(tau))
    assert phantom.kappa.shape == (40, 40, 3, model.num_parameters)
    inside = phantom.labels > 0
    expected = model.forward(phantom.kappa[inside], tau.astype(np.float32))
    np.testing.assert_allclose(phantom.signal[inside], expected, rtol=1e-4, atol=1e-5)
    assert not phantom.signal[~inside].any()
    assert not phantom.kappa[~inside].any()
    assert set(np.unique(phantom.purity)) == {0.0, 1.0}
    assert (phantom.labels[phantom.mask] > 0).all()


def _offset(labels):
    """Row and column of label 4's centre, from the head's."""
    return np.argwhere(labels == 4).mean(0) - np.argwhere(labels > 0).mean(0)


def test_native_voxels_are_the_anatomys(head, tmp_path):
    """At the anatomy's own voxel size, crisp, the phantom shows its labels the right way round."""
    image = nib.load(head)
    volume = np.asarray(image.dataobj).copy()
    volume[8:13, 26:33] = 4  # a block to the left and to the front
    nib.save(nib.Nifti1Image(volume, image.affine), tmp_path / "block.nii.gz")
    expected = load_anatomy(tmp_path / "block.nii.gz").labels[9]
    found = brain(tmp_path / "block.nii.gz", crisp=True, middle=9, matrix=44).labels[:, :, 0].T
    # half a voxel may be lost to the centring, so compare shares
    shares = [np.bincount(labels[labels > 0], minlength=12) for labels in (found, expected)]
    np.testing.assert_allclose(*shares, atol=0.05 * expected.size)
    assert np.abs(_offset(expected)).min() > 3
    np.testing.assert_allclose(_offset(found), _offset(expected), atol=1)


def test_one_draw_of_values_for_all_slices(head):
    phantom = brain(head, num_slices=4, spread=0.0, crisp=True)
    for label in (1, 2, 3):
        values = phantom.kappa[phantom.labels == label]
        assert np.ptp(values, axis=0).max() == 0
    again, other = brain(head, num_slices=4, spread=0.0, crisp=True), brain(head, seed=1)
    np.testing.assert_array_equal(again.signal, phantom.signal)
    assert not np.array_equal(other.kappa[..., :1, 2], phantom.kappa[..., :1, 2])


def test_partial_volumes_and_thick_slices(head):
    thin = brain(head, voxel_size=3.0, matrix=30)
    thick = brain(head, voxel_size=3.0, matrix=30, thickness=12.0)
    assert thick.voxel_size == (3.0, 3.0, 12.0)
    pure = [(p.purity[p.mask] > 0.99).mean() for p in (thin, thick)]
    assert pure[1] < pure[0] < 1


def _ramp():
    """A block of 30 rows that gets one column longer with each slice up, from 8 columns."""
    labels = np.zeros((40, 60, 60), np.uint8)
    for z, plane in enumerate(labels):
        plane[15:45, 8 : 16 + z] = 3
    return Anatomy(labels, 1.0, "ramp", 0, "", "builtin")


@pytest.mark.parametrize("middle", [19, 20])
@pytest.mark.parametrize("num", [1, 2, 3, 4])
@pytest.mark.parametrize("thickness", [0.5, 1.0, 1.7, 2.0, 3.0])
def test_slices_of_a_slab_are_evenly_spaced(thickness, num, middle):
    """The ramp's area tells where a slice lies."""
    rng, table = np.random.default_rng(0), read_tissues("paper")
    given = {"voxel_size": 1.0, "matrix": 58, "middle": middle, "num_slices": num}
    phantom = brain_phantom(_ramp(), TES, T2_DECAY, table, rng, thickness=thickness, **given)
    heights = phantom.purity.sum((0, 1)) / 30 - 8
    expected = middle + thickness * (np.arange(num) - (num - 1) / 2)
    # The ramp has steps: an end inside a voxel weighs it by its share, at its own height.
    step = 0.0 if thickness in (1.0, 2.0, 3.0) else 0.125 / thickness
    np.testing.assert_allclose(np.diff(heights), thickness, atol=2 * step + 0.01)
    # An even number of voxels holds some slabs; they lie half a voxel low.
    assert -0.51 - step <= (heights - expected).mean() <= step + 0.01


@pytest.mark.parametrize("b_field", ["patch", "wide", "smooth", "slow"])
def test_b_fields(head, b_field):
    B = brain(head, b_field=b_field, crisp=True).kappa[..., 1]
    B = B[B > 0]
    assert 1 <= B.min() <= B.max() <= 2.05
    assert (np.ptp(B) > 0) == (b_field in ("smooth", "slow"))


def test_finite_tr(head):
    long, short = (brain(head, tr=tr, crisp=True, spread=0.0) for tr in (1e9, 1000.0))
    assert short.tr == 1000.0
    inside = long.labels > 0
    A, B, T1 = long.kappa[inside].astype(float).T
    expected = finite_tr(A, B - 1, T1, 1000.0)
    np.testing.assert_allclose(short.kappa[inside][:, 0], expected[0], rtol=1e-4)
    np.testing.assert_allclose(short.kappa[inside][:, 1], expected[1], rtol=1e-4)


def test_repeats_differ_in_noise_only(head):
    phantom = brain(head)
    rng = np.random.default_rng(0)
    a, b = (noisy_series(phantom, 0.05, rng) for _ in range(2))
    assert ((a - b) / np.sqrt(2)).std() == pytest.approx(0.05, rel=0.03)
    rician = noisy_series(phantom, 0.05, rng, "rician")
    assert rician.min() >= 0 > a.min()


def test_middle_slice_has_the_ventricles():
    labels = np.zeros((30, 40, 40), np.uint8)
    labels[3:28, 5:35, 5:35] = 3
    labels[12:17, 17:23, 17:23] = 1  # ventricle
    labels[14, 16:24, 16:24] = 1
    labels[20:22, 5:35, 5:8] = 1  # more CSF, but at the rim
    assert middle_slice(labels) == 14


def test_slices_outside_are_refused(head):
    for options, message in (
        ({"middle": 99}, "leave"),
        ({"num_slices": 40}, "leave"),
        ({"middle": 0}, "empty"),
        ({"middle": 2}, "holds no brain"),
    ):
        with pytest.raises(ValueError, match=message):
            brain(head, **options)


@pytest.mark.parametrize("array", ["T1", "T2"])
def test_nominal_values(array):
    values = read_plate(array).spheres
    assert (values["T1"][0], values["T2"][0]) == NIST[array][0]
    assert (values["T1"][-1], values["T2"][-1]) == NIST[array][1]
    for column in values.values():
        assert len(column) == 14
        assert (np.diff(column) < 0).all()
    assert read_plate(array).water == {"T1": 3500.0, "T2": 2000.0}
    lines = (PLATES / "nist.csv").read_text().splitlines()
    assert "doi 10.1002/mrm.28779" in " ".join(lines[:2])
    assert len(list(csv.reader(lines[3:]))) == 31
    with pytest.raises(ValueError, match="one of T1, T2"):
        read_plate("PD")


@pytest.mark.data
@pytest.mark.parametrize(("array", "salt"), [("T1", "NiCl2"), ("T2", "MnCl2")])
def test_nominal_values_against_the_data(data_dir, array, salt):
    import json

    nominal = json.loads((data_dir / "nist_3t/nominal.json").read_text())[f"{array}_array_{salt}"]
    assert nominal == read_plate(array).spheres


@pytest.mark.parametrize(
    ("model", "tau", "array"), [(INVERSION_RECOVERY, TIS, "T1"), (T2_DECAY, TES, "T2")]
)
def test_plate_has_the_nominal_values(model, tau, array):
    phantom = plate_phantom(array, tau, model, np.random.default_rng(0))
    nominal = read_plate(array).spheres[model.parameters[-1]]
    pure = phantom.regions["pure"]
    assert (phantom.purity[pure] > 0.999).all()
    for sphere in range(1, 15):
        inside = pure & (phantom.labels == sphere)
        assert inside.sum() > 100
        np.testing.assert_allclose(phantom.kappa[inside][:, -1], nominal[sphere - 1], rtol=1e-5)
        np.testing.assert_allclose(phantom.kappa[inside][:, 0], 1.0, rtol=1e-5)
        S = model.forward(phantom.kappa[inside], tau.astype(np.float32))
        np.testing.assert_allclose(phantom.signal[inside], S, rtol=1e-4, atol=1e-6)
    area = phantom.mask.sum() / 14
    assert area == pytest.approx(np.pi * 7.5**2, rel=0.02)
    assert set(phantom.label_names) == set(range(1, 16))


def test_plate_that_would_be_cut_is_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="cut spheres off"):
        plate_phantom("T1", TIS, INVERSION_RECOVERY, rng, voxel_size=0.5)


def test_plate_options():
    rng = np.random.default_rng(0)
    smooth = plate_phantom("T2", TIS, INVERSION_RECOVERY, rng, b_field="smooth", spread=0.02)
    B = smooth.kappa[smooth.regions["pure"]][:, 1]
    assert np.ptp(B) > 0.02
    short = plate_phantom("T1", TIS, INVERSION_RECOVERY, rng, tr=1000.0)
    B = [np.median(short.kappa[short.labels == s][:, 1]) for s in (1, 14)]
    assert B[0] < B[1]  # long T1 recovers less


def test_plate_lies_as_the_phantom_does():
    """Ten spheres clockwise from the front at 50 mm, four inside at 28 mm, in water."""
    labels = plate_labels(1.0, 210)
    x = np.arange(210) - 104.5
    centres = {
        s: np.array([x[np.nonzero(labels == s)[axis]].mean() for axis in (0, 1)])
        for s in range(1, 15)
    }
    radius = {s: np.hypot(*c) for s, c in centres.items()}
    assert all(radius[s] == pytest.approx(50, abs=0.3) for s in range(1, 11))
    assert all(radius[s] == pytest.approx(28.3, abs=0.3) for s in range(11, 15))
    assert centres[1] == pytest.approx([50, 0], abs=0.3)  # front
    assert centres[3][1] > 40  # right
    assert centres[11][0] > 0 > centres[11][1]
    assert labels[105, 105] == WATER
    assert labels[0, 0] == 0
