"""How maps were made is carried as records; sentences are rendered from them and decide nothing."""

import json

import nibabel as nib
import numpy as np
import pytest
from small_series import TAU, series, write, write_times

from relaxnet.fitting.options import FitOptions
from relaxnet.maps import maps as maps_module
from relaxnet.prediction.arrays import predict
from relaxnet.prediction.files import predict_files
from relaxnet.series.air_noise import AirNoise
from relaxnet.series.foreground import MaskKind, MaskRule, MaskSource
from relaxnet.series.noise import Contradiction, NoiseSource, SigmaReason, SigmaSource
from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    S, _, disc = series()
    write("series.nii.gz", S)
    write("mask.nii.gz", disc.astype(np.uint8))
    write_times(tmp_path / "tis.txt")
    return tmp_path


def card(out):
    return json.loads((out / "T1map.json").read_text())


def test_sidecars_hold_records_beside_sentences(folder):
    options = {"tis": "tis.txt", "method": "mle", "mask": "mask.nii.gz"}
    maps = predict_files("series.nii.gz", "a", sigma=8.0, **options)
    fields = card(folder / "a")
    assert fields["Sequence"] == "ir"
    assert fields["InversionTimesMs"] == TAU.tolist()
    assert fields["Noise"] == {"Sigma": 8.0, "Source": "given"}
    inside = float((maps.status != 1).mean())
    assert fields["MaskKind"] == {
        "Kind": "file",
        "Share": pytest.approx(inside, abs=1e-6),
        "File": "mask.nii.gz",
        "Probabilities": False,
    }
    assert fields["Mask"].startswith("mask mask.nii.gz (")
    assert fields["Data"] == {"Signed": False, "Modulus": False, "Rician": False}
    assert fields["FitOptions"] == {
        "Likelihood": "gaussian",
        "LambdaB": None,
        "ChosenLambdaB": None,
        "FixB": None,
        "ShareB": False,
        "TR": None,
        "Bounds": None,
    }


def test_records_of_a_penalty_bounds_and_a_sigma_that_was_contradicted(folder):
    fit = FitOptions(lambda_b="auto", bounds={"T1": (50.0, 5000.0)}, likelihood="gaussian")
    options = {"tis": "tis.txt", "method": "mle", "mask": "auto", "fit": fit}
    maps = predict_files("series.nii.gz", "b", sigma=24.0, **options)
    fields = card(folder / "b")
    assert fields["FitOptions"]["LambdaB"] == "auto"
    assert fields["FitOptions"]["ChosenLambdaB"] == fields["LambdaB"] == maps.lambda_b
    assert fields["FitOptions"]["Bounds"] == {"T1": [50.0, 5000.0]}
    noise = fields["Noise"]
    assert (noise["Source"], noise["Reason"]) == ("residuals", "given sigma contradicted")
    assert noise["GivenSigma"] == 24.0
    assert noise["ResidualSigma"] == pytest.approx(maps.sigma)
    assert (fields["MaskKind"]["Kind"], fields["MaskKind"]["Rule"]) == (
        "auto",
        maps.mask.rule.value,
    )


def test_records_of_the_air(folder):
    maps = predict_files("series.nii.gz", "c", tis="tis.txt", method="mle")
    noise = card(folder / "c")["Noise"]
    assert maps.noise.source is SigmaSource.RESIDUALS
    assert maps.noise.reason is SigmaReason.AIR_UNUSABLE
    assert noise["AirUnusable"] == maps.noise.air.unusable.value
    assert noise["AirSigma"] is None


def test_rewording_every_sentence_changes_no_decision(monkeypatch):
    S, _, disc = series()
    options = {"method": "mle", "mask": disc, "compare": False}

    def made():
        return [
            predict(S, TAU, "tis", **options),
            predict(S, TAU, "tis", sigma=24.0, **options),
            predict(S, TAU, "tis", sigma=8.0, look_locker=True, **options),
        ]

    before = made()
    for record in (NoiseSource, Contradiction):
        monkeypatch.setattr(record, "__str__", lambda self: "reworded")
    for record in (AirNoise, MaskKind, maps_module.DataKind):
        monkeypatch.setattr(record, "words", property(lambda self: "reworded"))
    after = made()
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(new.kappa, old.kappa)
        np.testing.assert_array_equal(new.status, old.status)
        assert (new.noise, new.data, new.sigma) == (old.noise, old.data, old.sigma)
        assert new.sigma_source == new.taken_as == "reworded"


def test_words_of_masks():
    assert MaskKind(MaskSource.NONE).words == "no mask"
    found = MaskKind(MaskSource.AUTO, MaskRule.OTSU, share=0.3)
    assert found.words == "automatic mask, Otsu's threshold (30 % of voxels)"
    found = MaskKind(MaskSource.FILE, file="p.nii", half=0.5, share=0.25)
    assert found.words == "mask p.nii from 0.5 up (25 % of voxels)"


def test_masks_mean_the_same_on_arrays_and_files(folder):
    S, _, _ = series()
    fitted = {"method": "mle", "sigma": 8.0}
    for mask in (None, "none", "auto"):
        on_arrays = predict(S, TAU, "tis", mask=mask, **fitted)
        on_files = predict_files(
            "series.nii.gz", "same", tis="tis.txt", mask=mask, overwrite=True, **fitted
        )
        np.testing.assert_array_equal(on_arrays.status, on_files.status)
        np.testing.assert_array_equal(on_arrays.kappa, on_files.kappa)
        assert on_arrays.mask == on_files.mask
    default = predict_files("series.nii.gz", "d", tis="tis.txt", **fitted)
    np.testing.assert_array_equal(default.status, on_files.status)
    assert (predict(S, TAU, "tis", **fitted).status != 1).all()
    with pytest.raises(ValueError, match="expected an array, 'auto' or 'none'"):
        predict(S, TAU, "tis", mask="all", **fitted)


def test_steps_leave_the_maps_before_them_as_they_were():
    """Arrays of maps may be locked."""
    S, _, disc = series()
    maps = predict(S, TAU, "tis", method="mle", mask=disc, sigma=8.0, save_fit=True)
    moved = maps.with_axis(2, 0)
    assert moved.status.shape == (2, 14, 12)
    assert moved.predicted.shape == (2, 14, 12, len(TAU))


def test_m0_of_a_fit_with_a_repetition_time(folder):
    """A = M0 (1 + e exp(-TR / T1)); M0 is what BIDS calls M0map."""
    tr, truth = 4000.0, np.array([1000.0, 0.95, 1400.0])
    finite = INVERSION_RECOVERY.finite_tr.model(tr)
    rng = np.random.default_rng(0)
    clean = finite.signed(np.broadcast_to(truth, (12, 12, 2, 3)), TAU, np)
    S = np.abs(clean + 4.0 * rng.standard_normal(clean.shape))
    write("finite.nii.gz", S.astype(np.float32))
    options = {"tis": "tis.txt", "method": "mle", "mask": None, "sigma": 4.0}
    maps = predict_files("finite.nii.gz", "tr", fit=FitOptions(tr=tr), **options)
    named = maps.named()
    M0, std = named["M0map"][0], named["M0std"][0]
    assert np.median(M0) == pytest.approx(1000.0, rel=2e-3)
    amplitude = 1000.0 * (1 + 0.95 * np.exp(-tr / 1400.0))
    assert np.median(named["Amap"][0]) == pytest.approx(amplitude, rel=2e-3)
    np.testing.assert_array_equal(named["Amap"][0], maps["A"])
    assert np.median(std) == pytest.approx(M0.std(), rel=0.15)
    assert np.median(named["Astd"][0]) == pytest.approx(maps["A"].std(), rel=0.15)
    described = {
        stem: json.loads((folder / f"tr/{stem}.json").read_text())["Description"]
        for stem in ("M0map", "Amap")
    }
    assert described["M0map"].startswith("Equilibrium magnetisation M0")
    assert described["Amap"].startswith("Amplitude A of the signal model")
    # Without a repetition time, or with one that is as good as infinite, M0 is A.
    plain = predict_files("finite.nii.gz", "plain", **options)
    assert "Amap" not in plain.named()
    np.testing.assert_array_equal(plain.named()["M0map"][0], plain["A"])
    late = predict_files("finite.nii.gz", "late", fit=FitOptions(tr=1e6), **options)
    np.testing.assert_allclose(late.named()["M0map"][0], late["A"], rtol=1e-6)
    assert late.named()["M0std"][0] == pytest.approx(late.named()["Astd"][0], rel=1e-3)


def test_m0_of_a_shared_or_known_efficiency():
    tr, truth = 4000.0, np.array([1000.0, 0.95, 1400.0])
    finite = INVERSION_RECOVERY.finite_tr.model(tr)
    rng = np.random.default_rng(0)
    clean = finite.signed(np.broadcast_to(truth, (12, 12, 2, 3)), TAU, np)
    S = np.abs(clean + 4.0 * rng.standard_normal(clean.shape))
    for fit in (FitOptions(tr=tr, fix_b=0.95), FitOptions(tr=tr, share_b=True)):
        maps = predict(S, TAU, "tis", "mle", sigma=4.0, fit=fit)
        found = maps.equilibrium
        assert np.median(found.amplitude) == pytest.approx(1000.0, rel=1e-3)
        assert np.median(found.std) == pytest.approx(found.amplitude.std(), rel=0.15)


def test_air_and_largest_modulus_are_found_once_a_run(folder, monkeypatch):
    from relaxnet.series import images

    calls = []
    for name in ("air_noise", "largest_modulus"):
        found = getattr(images, name)
        monkeypatch.setattr(images, name, lambda S, n=name, f=found: (calls.append(n), f(S))[1])
    predict_files("series.nii.gz", "once", tis="tis.txt", method="mle")
    assert sorted(calls) == ["air_noise", "largest_modulus"]
    calls.clear()
    predict(series()[0], TAU, "tis", method="mle")
    assert sorted(calls) == ["air_noise", "largest_modulus"]


def test_images_of_nibabel_and_objects_are_named():
    S, _, _ = series()
    image = nib.Nifti1Image(S, np.eye(4))
    with pytest.raises(ValueError, match=r"`S` is a Nifti1Image; expected its array: `S.get_fdata"):
        predict(image, TAU, "tis", method="mle")
    inside = nib.Nifti1Image(np.ones(S.shape[:3], np.uint8), np.eye(4))
    for name in ("mask", "sigma"):
        with pytest.raises(ValueError, match=f"`{name}` is a Nifti1Image"):
            predict(S, TAU, "tis", method="mle", **{name: inside})
    with pytest.raises(ValueError, match=r"`S` is an array of complex64"):
        predict(S.astype(np.complex64), TAU, "tis", method="mle")


@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_masked_voxels_are_not_mapped(dtype):
    S, _, _ = series()
    hidden = np.zeros(S.shape, bool)
    hidden[:4] = True
    S = np.round(S).astype(dtype)
    plain = predict(S, TAU, "tis", method="mle", sigma=8.0)
    masked = predict(np.ma.array(S, mask=hidden), TAU, "tis", method="mle", sigma=8.0)
    assert (masked.status[:4] != 0).all()
    assert (masked.main[:4] == 0).all()
    np.testing.assert_allclose(masked.main[4:], plain.main[4:], rtol=1e-4)
    inside = np.ma.array(np.ones(S.shape[:3], bool), mask=hidden[..., 0])
    found = predict(S, TAU, "tis", method="mle", sigma=8.0, mask=inside)
    np.testing.assert_array_equal(found.status == 1, hidden[..., 0])
