"""The names that `import relaxnet` offers."""

import json
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from fake_network import FakeNetwork
from small_series import TAU, series, write, write_times

import relaxnet
from relaxnet.prediction.estimators import check_network
from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY


def test_import_is_light():
    code = (
        "import sys, relaxnet; "
        "heavy = {'tensorflow', 'keras', 'scipy', 'nibabel', 'relaxnet.prediction.arrays'}; "
        "assert not heavy & set(sys.modules); "
        "relaxnet.predict; relaxnet.predict_files; "
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_names():
    assert set(relaxnet.__all__) <= set(dir(relaxnet))
    assert callable(relaxnet.predict)
    with pytest.raises(AttributeError, match="no attribute 'magic'"):
        relaxnet.magic  # noqa: B018


def test_arrays():
    S, kappa, disc = series(sigma=2.0)
    maps = relaxnet.predict(S, TAU, "tis", method="mle", mask=disc)
    assert isinstance(maps, relaxnet.Maps)
    np.testing.assert_allclose(maps["T1"][disc], kappa[disc][:, 2], rtol=0.1)
    named = relaxnet.predict(S, TAU, "inversion_recovery", method="mle", mask=disc)
    np.testing.assert_array_equal(named.kappa, maps.kappa)
    with pytest.raises(KeyError, match="there are: A, B, T1"):
        maps["T2"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"model": "magic"}, "no signal model is called 'magic'"),
        ({"method": "magic"}, "expected one of"),
        ({"method": "resnet"}, "no resnet network is the default"),
        ({"method": "mle", "network": "rim-t1"}, "method mle takes no network"),
        ({"network": "rim-t9"}, "no shipped network of that name"),
        ({"tau": TAU / 1000}, "looks like seconds"),
    ],
)
def test_bad_arguments(arguments, words):
    with pytest.raises(ValueError, match=words):
        relaxnet.predict(**{"S": series()[0], "tau": TAU, "model": "tis", **arguments})


def test_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    S, _, disc = series()
    write("series.nii.gz", S)
    write_times(tmp_path / "tis.txt")
    a = relaxnet.predict_files("series.nii.gz", "a", tis="tis.txt", method="mle")
    seconds = (TAU / 1000).tolist()
    b = relaxnet.predict_files("series.nii.gz", "b", tis=seconds, units="s", method="mle")
    np.testing.assert_array_equal(a.kappa, b.kappa)
    np.testing.assert_array_equal(nib.load("a/T1map.nii.gz").get_fdata(), a["T1"])
    write("sigma.nii.gz", np.full(disc.shape, 8.0, np.float32))
    default = {"mask": "auto", "sigma": "auto"}
    same = relaxnet.predict_files("series.nii.gz", "a2", tis="tis.txt", method="mle", **default)
    np.testing.assert_array_equal(a.kappa, same.kappa)
    sources = json.loads((tmp_path / "a/T1map.json").read_text())["Sources"]
    assert sources == [str(tmp_path / "series.nii.gz")]  # found from any folder
    with pytest.raises(ValueError, match="sigma"):
        relaxnet.predict_files("series.nii.gz", "d", tis="tis.txt", method="mle", sigma=[1.0, 2.0])
    everywhere = np.full(disc.shape, 8.0)
    d = relaxnet.predict_files("series.nii.gz", "a3", tis="tis.txt", method="mle", sigma=everywhere)
    assert d.sigma == 8
    c = relaxnet.predict_files(
        ["series.nii.gz"], "c", tis="tis.txt", method="mle", sigma="sigma.nii.gz"
    )
    assert c.sigma == 8
    with pytest.raises(ValueError, match="give inversion times"):
        relaxnet.predict_files("series.nii.gz", "d", method="mle")
    with pytest.raises(ValueError, match="looks like seconds"):
        relaxnet.predict_files("series.nii.gz", "d", tis=seconds, method="mle")
    with pytest.raises(TypeError, match="magic"):
        relaxnet.predict_files("series.nii.gz", "d", tis="tis.txt", magic=1)
    assert {p.name for p in tmp_path.iterdir() if p.is_dir()} == {"a", "a2", "a3", "b", "c"}


def test_network_with_an_error_head_gives_standard_deviations():
    """Its channels are kappa and then the standard deviations, both in units of the scale."""

    class Sure(FakeNetwork):
        model, has_std = INVERSION_RECOVERY, True

        def __call__(self, inputs, training):
            values = np.array([0.5, 1.9, 900.0, 0.05, 0.1, 30.0], np.float32)
            return np.broadcast_to(values, (1, *inputs[0].shape[:3], 6))

    S, _, disc = series()
    check_network(Sure(), INVERSION_RECOVERY, 7, "rim")
    maps = relaxnet.predict(S, TAU, "tis", network=Sure(), mask=disc)
    np.testing.assert_allclose(maps["A"][disc], 0.5 * maps.scale, rtol=1e-6)
    expected = np.broadcast_to([0.05 * maps.scale, 0.1, 30.0], maps.std[disc].shape)
    np.testing.assert_allclose(maps.std[disc], expected, rtol=1e-6)
    assert (maps.std[~disc] == 0).all()
    assert {"T1std", "M0std", "Bstd"} <= set(maps.named())
