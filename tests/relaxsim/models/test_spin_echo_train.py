"""Echo trains: against closed forms and an independent simulation of isochromats."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from relaxsim.models.echo_table import echo_table
from relaxsim.models.phase_graph import Train, echo_amplitudes, train_of
from relaxsim.models.protocols import random_protocol, read_protocol
from relaxsim.models.registry import model_of
from relaxsim.models.slice_profiles import NAMES, angles_across
from relaxsim.models.spin_echo_train import MODEL


def table(num=16, spacing=10.0, refocusing=180.0, T1=1000.0, profile="none"):
    """Protocol of a train, (N, 5)."""
    others = [refocusing, 90.0, T1, float(NAMES.index(profile))]
    return np.column_stack([spacing * np.arange(1, num + 1), np.tile(others, (num, 1))])


def isochromats(T2, angle, excitation, num, spacing, T1, count=400):
    """Echoes of spins that are dephased by a whole turn in each half spacing, turned about x."""
    phases = 2 * np.pi * (np.arange(count) + 0.5) / count
    M = np.zeros((count, 3))
    M[:, 0] = np.sin(np.radians(excitation))
    half = np.exp(-0.5 * spacing / T2)
    turn = Rotation.from_rotvec([np.radians(angle), 0, 0])
    dephase = Rotation.from_rotvec(phases[:, None] * [0, 0, 1.0])
    echoes = []
    for _ in range(num):
        for step in range(2):
            M = dephase.apply(M)
            M[:, :2] *= half
            M[:, 2] *= np.exp(-0.5 * spacing / T1)
            if step == 0:
                M = turn.apply(M)
        echoes.append(M[:, 0].mean())
    return np.array(echoes)


@pytest.mark.parametrize("angle", [180.0, 150.0, 120.0, 75.0])
@pytest.mark.parametrize("T2", [30.0, 120.0])
def test_the_phase_graph_is_that_of_isochromats(angle, T2):
    train = Train(10.0, tuple(range(1, 13)), 180.0, 90.0, 800.0, "none")
    found = echo_amplitudes(
        np.array([[T2]]), np.array([np.sin(np.radians(70))]), np.radians([angle]), train
    )
    expected = isochromats(T2, angle, 70.0, 12, 10.0, 800.0)
    np.testing.assert_allclose(found[:, 0, 0], expected, atol=1e-12)


def test_perfect_refocusing_is_an_exponential():
    S = MODEL.forward(np.array([2.0, 1.0, 80.0]), table())
    np.testing.assert_allclose(S, 2.0 * np.exp(-table()[:, 0] / 80.0), rtol=1e-4)


@pytest.mark.parametrize("B1", [0.5, 0.8, 1.2])
def test_the_first_echo_is_refocused_by_half_the_angle(B1):
    S = MODEL.forward(np.array([1.0, B1, 80.0]), table(refocusing=160.0))
    half, first = np.radians(80.0 * B1), np.radians(90.0 * B1)
    expected = np.sin(half) ** 2 * np.sin(first) * np.exp(-10.0 / 80.0)
    assert S[0] == pytest.approx(expected, rel=1e-4)


def test_no_voxels_have_no_echoes():
    assert MODEL.forward(np.empty((0, 3)), table(4)).shape == (0, 4)
    assert MODEL.signed_jacobian(np.empty((2, 0, 3)), table(4)).shape == (2, 0, 4, 3)


@pytest.mark.parametrize("profile", NAMES)
def test_no_echo_exceeds_what_was_excited(profile):
    rng = np.random.default_rng(0)
    kappa = np.stack(
        [np.ones(200), rng.uniform(0.3, 1.5, 200), np.exp(rng.uniform(1, 8, 200))], axis=-1
    )
    S = MODEL.forward(kappa, table(40, profile=profile))
    assert (np.abs(S) <= 1.0).all()


@pytest.mark.parametrize("profile", NAMES)
@pytest.mark.parametrize("num", [3, 20, 48])
def test_interpolation_moves_no_echo_by_more_than_a_hundred_thousandth(profile, num):
    train = train_of(table(num, profile=profile))
    rng = np.random.default_rng(1)
    T2, B1 = np.exp(rng.uniform(np.log(5), np.log(1000), 60)), rng.uniform(0.3, 1.4, 60)
    found = echo_table(train).at(T2, B1)[0]
    excited, angle, weight = angles_across(profile, 90.0, 180.0, B1)
    exact = [
        (echo_amplitudes(T2[i : i + 1, None], excited[i], angle[i], train) @ weight)[:, 0]
        for i in range(60)
    ]
    np.testing.assert_allclose(found, exact, atol=1e-5)


def profile_file(folder, rows, name="profile.txt"):
    np.savetxt(folder / name, rows, header="excitation, refocusing (degrees)")
    return str(folder / name)


def test_a_profile_of_a_file_is_that_of_its_angles(tmp_path):
    file = profile_file(tmp_path, [[45.0, 100.0], [90.0, 180.0], [45.0, 100.0]])
    given = {"tes": "10,20,30,40", "slice_profile": file}
    protocol = read_protocol(given, "mese").table
    assert protocol[0, 4] >= len(NAMES)
    found = MODEL.forward(np.array([1.0, 0.9, 80.0]), protocol)
    train = Train(10.0, (1, 2, 3, 4), 180.0, 90.0, 1000.0, "none")
    parts = [
        echo_amplitudes(
            np.array([[80.0]]), np.sin(np.radians([0.9 * a])), np.radians([0.9 * b]), train
        )[:, 0, 0]
        for a, b in ((45.0, 100.0), (90.0, 180.0), (45.0, 100.0))
    ]
    np.testing.assert_allclose(found, np.mean(parts, axis=0), atol=1e-5)
    even = profile_file(tmp_path, np.tile([90.0, 180.0], (5, 1)), "even.txt")
    flat = read_protocol({**given, "slice_profile": even}, "mese").table
    plain = read_protocol({**given, "slice_profile": "none"}, "mese").table
    kappa = np.array([1.0, 0.8, 60.0])
    np.testing.assert_allclose(MODEL.forward(kappa, flat), MODEL.forward(kappa, plain), atol=1e-12)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([[1.57, 3.14]] * 4, "degrees"),
        ([[1.0, 1.0]] * 4, "degrees"),
        ([[90.0, 180.0]] * 2, "at least 3 lines"),
        ([[0.1, 90.0, 180.0]] * 4, "two numbers"),
        ([[90.0, np.nan]] * 4, "two numbers"),
        ([[-90.0, 180.0]] * 4, "degrees"),
    ],
)
def test_files_that_hold_no_profile_are_refused(tmp_path, rows, words):
    with pytest.raises(ValueError, match=words):
        read_protocol({"tes": "10,20,30", "slice_profile": profile_file(tmp_path, rows)}, "mese")


def test_profiles_are_thinner_at_their_edges():
    excited, angle, weight = angles_across("sinc", 90.0, 180.0, np.array([1.0]))
    assert excited[0, 0] == pytest.approx(1.0, abs=0.01)
    assert angle[0, 0] == pytest.approx(np.pi, abs=0.02)
    assert excited[0, -1] < 0.1
    assert angle[0, -1] < 0.2
    assert weight.sum() == pytest.approx(1.0)


@pytest.mark.parametrize(
    "times", [[10.0, 20, 45, 80], [10.0, 17, 30, 41], [0.0, 10, 20, 30], [10.0, 20, 30, 41.0]]
)
def test_times_of_no_train_are_refused(times):
    rows = np.tile(table(1)[0, 1:], (len(times), 1))
    with pytest.raises(ValueError, match="no echo train"):
        MODEL.forward(np.array([1.0, 1.0, 80.0]), np.column_stack([times, rows]))


@pytest.mark.parametrize("gone", [[0], [0, 1], [3], [2, 7]])
def test_trains_without_some_echoes_are_trains(gone):
    kept = np.delete(table(12, refocusing=140.0), gone, axis=0)
    whole = MODEL.forward(np.array([1.0, 0.9, 80.0]), table(12, refocusing=140.0))
    found = MODEL.forward(np.array([1.0, 0.9, 80.0]), kept)
    np.testing.assert_allclose(found, np.delete(whole, gone), rtol=1e-6)


def test_options_of_a_train(tmp_path):
    given = {"tes": "10,20,30,40", "refocusing": "150", "slice_profile": "sinc"}
    protocol = read_protocol(given, "mese")
    np.testing.assert_array_equal(protocol.table[0], [10, 150, 90, 1000, 1])
    with pytest.raises(ValueError, match="expected one of none, sinc, gauss or a file"):
        read_protocol({**given, "slice_profile": "box"}, "mese")
    with pytest.raises(ValueError, match="radians"):
        read_protocol({**given, "refocusing": "3.1"}, "mese")
    with pytest.raises(ValueError, match=r"between 3\.2 and 180"):
        read_protocol({**given, "refocusing": "200"}, "mese")


def test_random_trains():
    for seed in range(50):
        protocol = random_protocol(np.random.default_rng(seed), "mese").table
        train = train_of(protocol)
        assert train.echoes == tuple(range(1, len(protocol) + 1))
        assert 4 <= train.spacing <= 25
    assert model_of("mese") is MODEL
