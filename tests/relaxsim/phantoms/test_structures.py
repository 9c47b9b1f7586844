import numpy as np
import pytest
from scipy import ndimage

from relaxsim.anatomy.anatomy import load_anatomy
from relaxsim.models.finite_tr import apparent as apparent_at_tr
from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY
from relaxsim.models.t2_decay import MODEL as T2_DECAY
from relaxsim.phantoms.phantoms import brain_phantom, plate_phantom
from relaxsim.phantoms.structures import STRUCTURES, with_structures
from relaxsim.simulation.tissues import read_tissues

TIS = np.array([100.0, 400.0, 900.0, 2500.0])
TES = np.array([10.0, 40.0, 160.0])


def finite_tr(M0, e, T1, tr):
    """A and B of an inversion recovery with a 90-degree readout every TR."""
    kappa = np.stack(np.broadcast_arrays(M0, e, T1), axis=-1)
    A, B, _ = np.moveaxis(apparent_at_tr(kappa, tr), -1, 0)
    return A, B


def brain(head, model=INVERSION_RECOVERY, tau=TIS, **options):
    rng = np.random.default_rng(0)
    given = {"voxel_size": 0.9, "matrix": 120} | options
    return brain_phantom(load_anatomy(head), tau, model, read_tissues("paper"), rng, **given)


def test_the_papers_structures():
    found = {s.name: (s.tissue, s.shape, s.values["T1"]) for s in STRUCTURES}
    assert found == {
        "hypo-intense point": (2, (1, 1), 400.0),
        "hyper-intense point": (3, (1, 1), 1200.0),
        "hyper-intense vertical line": (3, (1, 7), 1200.0),
        "hyper-intense horizontal line": (3, (7, 1), 1200.0),
    }


@pytest.mark.parametrize(
    ("model", "tau"), [(INVERSION_RECOVERY, TIS), (T2_DECAY, TES)], ids=["T1", "T2"]
)
def test_structures_replace_the_relaxation_time_only(head, model, tau):
    e1 = brain(head, model, tau, num_slices=3)
    e2 = with_structures(e1)
    structure, around = e2.regions["structure"], e2.regions["neighborhood"]
    assert structure.sum() == 1 + 1 + 7 + 7
    assert around.sum() == 8 + 8 + 20 + 20
    assert not (structure & around).any()
    assert not structure[:, :, [0, 2]].any()
    for number, s in enumerate(STRUCTURES, start=1):
        inside = e2.regions[f"structure-{number}"]
        x, y, _ = (np.ptp(i) + 1 for i in np.nonzero(inside))
        assert (x, y) == s.shape
        assert (e2.kappa[inside][:, -1] == s.values[model.parameters[-1]]).all()
        near = e2.regions[f"neighborhood-{number}"] | inside
        assert (e1.labels[near] == s.tissue).all()
        assert (e1.purity[near] > 0.999).all()
    np.testing.assert_array_equal(e2.kappa[..., :-1], e1.kappa[..., :-1])
    np.testing.assert_array_equal(e2.kappa[~structure], e1.kappa[~structure])
    np.testing.assert_array_equal(e2.signal[~structure], e1.signal[~structure])
    expected = model.forward(e2.kappa[structure], tau.astype(np.float32))
    np.testing.assert_allclose(e2.signal[structure], expected, rtol=1e-5)


def test_structures_keep_their_distance(head):
    regions = with_structures(brain(head)).regions
    parts = [regions[f"structure-{k}"] for k in range(1, 5)]
    for i, one in enumerate(parts):
        for other in parts[i + 1 :]:
            assert ndimage.distance_transform_edt(~one)[other].min() > 4


def test_finite_tr_keeps_magnetisation_and_inversion(head):
    tr = 1500.0
    e1 = brain(head, tr=tr, spread=0.0)
    e2 = with_structures(e1)
    at = e2.regions["structure-2"]
    M0, e = e1_values(e1, at, tr)
    expected = finite_tr(M0, e, 1200.0, tr)
    assert e2.kappa[at][0, 0] == pytest.approx(expected[0], rel=1e-4)
    assert e2.kappa[at][0, 1] == pytest.approx(expected[1], rel=1e-4)


def e1_values(phantom, at, tr):
    """M0 and e of a voxel, from A and B by bisection of the forward formula."""
    A, B, T1 = (float(v) for v in phantom.kappa[at][0])
    low, high = 0.0, 1.1
    for _ in range(60):
        e = (low + high) / 2
        low, high = (e, high) if finite_tr(1.0, e, T1, tr)[1] < B else (low, e)
    return A / finite_tr(1.0, e, T1, tr)[0], e


def test_no_room_is_said(head):
    with pytest.raises(ValueError, match=r"no room for the .*another `slice`"):
        with_structures(brain(head, voxel_size=4.0, matrix=30))
    plate = plate_phantom("T1", TIS, INVERSION_RECOVERY, np.random.default_rng(0))
    with pytest.raises(ValueError, match="no room"):
        with_structures(plate)
