import itertools

import methods as m
import numpy as np
import pytest

from relaxnet.networks.registry import shipped_models
from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY
from relaxsim.models.t2_decay import MODEL as T2_DECAY

TAU = np.array([100.0, 300, 600, 1000, 2000])


def linear_rgb(colour):
    """Linear RGB of a colour such as #D55E00."""
    c = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


#: Machado et al. 2009, severity 1: red-blind, green-blind; and normal vision.
VISIONS = {
    "protan": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deutan": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "normal": np.eye(3),
}


def lab(rgb):
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    t = np.clip(xyz @ rgb, 0, None) / [0.9505, 1.0, 1.089]
    f = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("vision", VISIONS)
def test_colours_differ_in_any_colour_vision(vision):
    kinds = (m.RIM, m.RIM_PAPER, m.RIM_ANY, m.RESNET)
    kinds += (m.MLE, m.MLE_LAMBDA, m.MLE_AUTO, m.MLE_SHARED)
    for (one, a), (other, b) in itertools.combinations(kinds, 2):
        colours = [lab(np.array(VISIONS[vision]) @ linear_rgb(c)) for c in (a, b)]
        assert np.linalg.norm(colours[0] - colours[1]) > 10, (one, other)


def test_missing_networks_are_reported_and_skipped():
    said = []
    found = m.networks_for(["rim-none", "rim-t1"], {}, said.append)
    assert [method.name for method in found] == ["rim-t1"]
    assert len(said) == 1
    assert "rim-none is skipped" in said[0]


def test_files_stand_for_names_and_are_added():
    path = shipped_models()["rim-t1"]
    found = m.methods_for(
        "cine31", INVERSION_RECOVERY, {"rim-cine31-paper": path, "mine": path}, say=lambda line: 0
    )
    by_name = {method.name: method for method in found}
    assert by_name["rim-cine31-paper"].network == path
    assert by_name["rim-cine31-paper"].colour == m.RIM_PAPER[1]
    assert by_name["mine"].colour == m.OTHER
    assert by_name["mine"].identity == by_name["rim-cine31-paper"].identity


def test_only_some_methods():
    found = m.methods_for("cine31", INVERSION_RECOVERY, only=["mle-auto"], say=lambda line: 0)
    assert [method.name for method in found] == ["mle-auto"]
    with pytest.raises(ValueError, match="rim-x is no method for cine31"):
        m.methods_for("cine31", INVERSION_RECOVERY, only=["rim-x"])


def test_a_model_without_b_has_one_fit():
    assert [fit.name for fit in m.fits_for(T2_DECAY)] == ["mle"]
    assert len(m.fits_for(INVERSION_RECOVERY)) == 4


def test_weights_of_the_fit():
    assert m.fit_method("mle-50").fit.lambda_b == 50
    assert m.fit_method("mle-500").fit.lambda_b == 500
    assert m.fit_method("mle-500").identity != m.fit_method("mle-50").identity


@pytest.mark.parametrize("text", ["rim", "rim=", "=file"])
def test_files_need_name_and_path(text):
    with pytest.raises(ValueError, match="expected NAME=PATH"):
        m.parse_files([text])


@pytest.mark.parametrize("name", ["mle", "mle-shared", pytest.param("rim", marks=pytest.mark.slow)])
def test_a_slice_is_estimated_inside_its_mask(name):
    kappa = np.broadcast_to([0.9, 1.9, 900.0], (12, 10, 3))
    rng = np.random.default_rng(0)
    S = INVERSION_RECOVERY.forward(kappa, TAU)
    S = (S + 0.005 * rng.standard_normal(S.shape)).astype(np.float32)
    mask = np.ones((12, 10), bool)
    mask[:3] = False
    if name == "rim":
        method = m.network_method(INVERSION_RECOVERY.border.default_network)
    else:
        method = m.fit_method(name)
    estimate = method.estimate(S, TAU, INVERSION_RECOVERY, 0.005, mask)
    assert estimate.shape == (12, 10, 3)
    assert not estimate[~mask].any()
    assert np.median(estimate[mask][:, 2]) == pytest.approx(900, rel=0.1)
