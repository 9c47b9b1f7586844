from dataclasses import dataclass, replace

import cells
import numpy as np
import pytest
from slices import PLACES, Scene, place_of, slab

from relaxnet.evaluation.metrics import Moments
from relaxsim.anatomy.anatomy import builtin_head
from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY
from relaxsim.models.protocols import Protocol


@dataclass
class Noisy:
    """A method that returns the truth plus noise taken from the series, and counts its calls."""

    truth: np.ndarray
    name: str = "noisy"
    identity: str = "one"
    calls: int = 0
    stop_at: int = 10**9

    def estimate(self, S, tau, model, sigma, mask):
        if self.calls >= self.stop_at:
            raise KeyboardInterrupt
        self.calls += 1
        return self.truth * (1 + 0.1 * S[..., :1])


@pytest.fixture(scope="module")
def scene():
    tau = np.array([100.0, 400, 800, 1600, 3000])
    brain = builtin_head(1000, 2.0)
    return Scene(
        (brain,), Protocol("five", INVERSION_RECOVERY, tau[:, None]), voxel_size=4.0, matrix=48
    )


@pytest.fixture(scope="module")
def phantom(scene):
    return scene.slice(0, "smooth")


@pytest.fixture
def method(phantom):
    return Noisy(phantom.kappa[:, :, 0])


def cell_of(method, scene):
    return cells.Cell(method, scene, 0, "smooth", 10.0)


def run(method, scene, phantom, repeats, cache):
    return cells.run_cell(cell_of(method, scene), phantom, repeats, cache)


def equal(one, other):
    assert one.count == other.count
    for name in ("bias", "cv", "rmse", "outliers"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-5, atol=1e-4)


def test_a_longer_run_adds_to_a_shorter(method, scene, phantom, tmp_path):
    run(method, scene, phantom, 3, tmp_path / "a")
    longer = run(method, scene, phantom, 5, tmp_path / "a")
    assert method.calls == 5
    equal(longer, run(method, scene, phantom, 5, tmp_path / "b"))


def test_what_is_there_is_not_made_again(method, scene, phantom, tmp_path):
    first = run(method, scene, phantom, 3, tmp_path)
    again = run(method, scene, phantom, 2, tmp_path)
    assert method.calls == 3
    equal(first, again)


def test_an_interrupted_cell_goes_on(method, scene, phantom, tmp_path):
    method.stop_at = 2
    with pytest.raises(KeyboardInterrupt):
        run(method, scene, phantom, 4, tmp_path)
    method.stop_at = 10**9
    resumed = run(method, scene, phantom, 4, tmp_path)
    assert method.calls == 4
    equal(resumed, run(Noisy(method.truth), scene, phantom, 4, tmp_path / "other"))


def test_a_damaged_file_is_made_again(method, scene, phantom, tmp_path):
    whole = run(method, scene, phantom, 2, tmp_path)
    path = cell_of(method, scene).path(tmp_path)
    path.write_bytes(path.read_bytes()[:50])
    assert cells.load_moments(path) is None
    equal(run(method, scene, phantom, 2, tmp_path), whole)


@pytest.mark.parametrize(
    "change",
    [
        lambda cell: replace(cell, snr=5.0),
        lambda cell: replace(cell, b_field="patch"),
        lambda cell: replace(cell, draw=1),
        lambda cell: replace(cell, method=Noisy(None, identity="another network")),
        lambda cell: replace(cell, scene=replace(cell.scene, seed=1)),
        lambda cell: replace(cell, scene=replace(cell.scene, matrix=32)),
        lambda cell: replace(cell, scene=cell.scene.at_the_means()),
    ],
)
def test_another_setting_is_another_file(change, method, scene, tmp_path):
    cell = cell_of(method, scene)
    assert change(cell).path(tmp_path) != cell.path(tmp_path)


def test_methods_share_their_noise_and_repeats_do_not(scene):
    draws = [scene.noise(0, "smooth", 10.0, repeat).standard_normal(3) for repeat in (0, 0, 1)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0] != draws[2]).all()
    other = scene.noise(0, "patch", 10.0, 0).standard_normal(3)
    assert (other != draws[0]).all()


def test_cells_come_in_the_order_that_saves_slices(method, scene, tmp_path):
    found = list(
        cells.run_cells(
            scene, [method], (5.0, 10.0), ("smooth",), (0, 1), 1, tmp_path, lambda line: None
        )
    )
    assert [(cell.draw, cell.snr) for cell, _, _ in found] == [(0, 5), (0, 10), (1, 5), (1, 10)]
    assert all(isinstance(moments, Moments) for _, _, moments in found)


def test_tissue_values_do_not_depend_on_the_kind_of_b(scene):
    one, other = scene.slice(3, "patch"), scene.slice(3, "smooth")
    pure = one.mask & (one.purity > 0.999)
    for q in (0, 2):
        means = [
            [p.kappa[pure & (p.labels == label)][:, q].mean() for label in (1, 2, 3)]
            for p in (one, other)
        ]
        np.testing.assert_allclose(*means, rtol=0.06)  # the spread inside a tissue
    assert np.ptp(one.kappa[pure][:, 1]) < 1e-6 < np.ptp(other.kappa[pure][:, 1])


def test_means_of_the_table_are_drawn_without_spread(scene):
    phantom = scene.at_the_means().slice(0, "patch")
    white = (phantom.labels == 3) & (phantom.purity > 0.999)
    assert phantom.kappa[white][:, 2].mean() == pytest.approx(780, rel=0.02)


def test_draws_visit_every_subject_at_every_place():
    for num in (1, 2, 3):
        places = {place_of(draw, num) for draw in range(2 * num)}
        assert len(places) == num * len(PLACES)


def test_a_slab_holds_the_slice_of_the_volume(scene):
    brain = scene.brains[0]
    part, middle = slab(brain, 0.0)
    lower, low = slab(brain, -18.0)
    z = next(z for z in range(len(brain.labels)) if (brain.labels[z] == part.labels[middle]).all())
    np.testing.assert_array_equal(lower.labels[low], brain.labels[z - 9])
