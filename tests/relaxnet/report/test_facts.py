"""What a report takes from sidecars: typed facts decide, sentences are quoted, text stays text."""

import json
import os
import random
import re
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from small_run import SIGMA, make_run, set_said
from toy_models import add_toys, remove_toys

from relaxnet.maps.reader import read_run
from relaxnet.report import write_report
from relaxnet.report.facts import facts_of
from relaxnet.report.methods import methods
from relaxnet.report.panels import scale_of
from relaxnet.report.voxels import voxel_fits
from relaxsim.models.registry import signal_model

TIMES = np.array([100.0, 300.0, 700.0, 1500.0, 4000.0])
#: Flip angles (degrees) and repetition times (ms).
TABLE = np.array([[30.0, 200.0], [60.0, 200.0], [60.0, 600.0], [60.0, 1500.0], [40.0, 3000.0]])
#: Fields of sidecars that hold names, of which a report decides or which it shows as names.
NAMES = {"SignalModel", "Sequence", "Method", "Units", "Sources", "Protocol", "Network", "Date",
         "NetworkSHA256", "SoftwareName", "SoftwareVersion", "Levels"}  # fmt: skip
#: Records of typed facts.
RECORDS = {"Noise", "MaskKind", "Data", "FitOptions", "KnownMaps", "Comparison"}


@pytest.fixture
def _toys(monkeypatch):
    known = add_toys(monkeypatch)
    yield
    remove_toys(known)


def tags(text, *names):
    """Elements of a page with all their attributes."""
    return re.findall(rf"<(?:{'|'.join(names)})\b[^>]*>", text)


@pytest.mark.usefixtures("_toys")
def test_report_of_a_model_of_two_parameters(tmp_path):
    model = signal_model("saturation_recovery")
    folder = make_run(tmp_path / "maps", model, (14, 12, 1), protocol=TIMES)
    text = write_report(folder).read_text()
    assert "T1s report: series.nii.gz" in text
    assert "saturation time TS (ms)" in text
    assert "S(TS) = A (1 - exp(-TS / T1s)), by Gaussian maximum likelihood (voxel-wise) [1]" in text
    assert "Toy, A., Block, B., Car, C. Toy models. Journal of Toys (2026)." in text
    assert "Saturation times (ms)" in text
    assert "Look-Locker" not in text
    run = read_run(folder)
    assert (scale_of(run, "T1smap").high, scale_of(run, "T1sstd").high) == (3000.0, 300.0)
    for fit in voxel_fits(run):
        at = np.interp(TIMES, fit.grid, fit.curves[0])
        assert np.abs(at - fit.data).max() < 6 * SIGMA


@pytest.mark.usefixtures("_toys")
def test_report_of_a_protocol_of_two_columns_and_a_known_map(tmp_path):
    model = signal_model("spoiled_echo")
    folder = make_run(tmp_path / "maps", model, (14, 12, 1), protocol=TABLE)
    text = write_report(folder).read_text()
    paragraph = methods(read_run(folder))[0]
    assert "flip angles of 30 to 60 degrees and repetition times of 200 to 3000 ms" in paragraph
    assert "no map of the relative transmit field (B1)" in paragraph
    assert "linear parameters" not in paragraph
    assert "flip angle FA (degrees)" in text
    assert "TR 200 ms, TR 600 ms, TR 1500 ms and TR 3000 ms" in text
    for fit in voxel_fits(read_run(folder)):
        assert fit.settings == ("TR 200 ms", "TR 600 ms", "TR 1500 ms", "TR 3000 ms")
        assert fit.neighbours == ()
        rows = [0, 0, 1, 2, 3]  # curve of each image
        at = [
            np.interp(angle, fit.grid, fit.curves[row])
            for angle, row in zip(TABLE[:, 0], rows, strict=True)
        ]
        assert np.abs(at - fit.data).max() < 6 * SIGMA


@pytest.mark.usefixtures("_toys")
def test_curves_follow_the_known_map(tmp_path):
    model = signal_model("spoiled_echo")
    folder = make_run(tmp_path / "maps", model, (14, 12, 1), protocol=TABLE)
    without = voxel_fits(read_run(folder))[0]
    path = tmp_path / "b1.nii.gz"
    nib.save(nib.Nifti1Image(np.full((14, 12, 1), 0.5, np.float32), np.eye(4)), path)
    set_said(folder, KnownMaps={"b1": str(path)})
    assert (
        "A map of the relative transmit field (B1) entered the signal."
        in methods(read_run(folder))[0]
    )
    within = voxel_fits(read_run(folder))[0]
    kappa = np.array([within.values["M0"], within.values["T1v"]])
    protocol = np.column_stack([within.grid, np.full(len(within.grid), 200.0)])
    expected = model.forward(kappa, protocol, known=np.array([0.5]))
    np.testing.assert_allclose(within.curves[0], expected, rtol=1e-6)
    assert not np.allclose(without.curves[0], within.curves[0])
    path.unlink()
    assert voxel_fits(read_run(folder)) == []


@pytest.mark.usefixtures("_toys")
def test_each_slice_has_its_protocol(tmp_path):
    model = signal_model("saturation_recovery")
    folder = make_run(tmp_path / "maps", model, (14, 12, 2), protocol=TIMES)
    set_said(folder, SaturationTimesMs=[TIMES.tolist(), (TIMES + 10).tolist()])
    assert facts_of(read_run(folder)).protocol.shape == (2, 5, 1)
    for fit in voxel_fits(read_run(folder)):
        np.testing.assert_array_equal(fit.at, TIMES + 10 * fit.index[2])
    assert "Saturation times of slice 1 (ms)" in write_report(folder).read_text()


def test_rewording_changes_only_the_sentences_that_are_quoted(tmp_path):
    notes = {"Notes": ["a note"], "Warnings": ["a warning"]}
    folder = make_run(tmp_path / "maps", StdSource="Cramer-Rao bound", **notes)
    before = write_report(folder).read_text()
    rng = random.Random(0)
    words = ["signed", "modulus", "rician", "mask", "Look-Locker", "given", "TR", "voxel-wise"]

    def reworded(value):
        if isinstance(value, str):
            return " ".join(rng.choices(words, k=4))
        return [reworded(v) for v in value] if isinstance(value, list) else value

    for path in folder.glob("*.json"):
        card = json.loads(path.read_text())
        changed = {
            key: value if key in NAMES | RECORDS else reworded(value) for key, value in card.items()
        }
        assert changed != card
        path.write_text(json.dumps(changed))
    after = write_report(folder).read_text()
    shapes = ("svg", "rect", "path", "line", "circle", "text", "img")
    assert tags(before, *shapes) == tags(after, *shapes)
    tables = [re.findall(r"<table>.*?</table>", text, re.S) for text in (before, after)]
    assert tables[0] == tables[1]
    pairs = zip(before.splitlines(), after.splitlines(), strict=True)
    changed = [old for old, new in pairs if old != new]
    assert [re.sub(r"<[^>]*>", " ", line).split() for line in changed] == [
        ["Warnings", "a", "warning"],
        ["Notes", "a", "note"],
        "relaxnet predict series.nii.gz --tis times.txt".split(),
    ]


def test_folders_of_earlier_versions_show_their_sentences(tmp_path):
    folder = make_run(tmp_path / "maps", SigmaSource="fit residuals; no air")
    for path in folder.glob("*.json"):
        card = json.loads(path.read_text())
        kept = {k: v for k, v in card.items() if k not in {*RECORDS, "Corrected"}}
        path.write_text(json.dumps(kept))
    text = write_report(folder).read_text()
    for sentence in (
        "fit residuals; no air",
        "automatic mask, Otsu&#39;s threshold (30 % of voxels)",
        "magnitude",
        "gaussian maximum likelihood, voxel-wise",
    ):
        assert sentence in text
    assert "The noise standard deviation was 8 in image units" in text
    assert "[]" not in methods(read_run(folder))[0]
    facts = facts_of(read_run(folder))
    assert (facts.data.signed, facts.noise.source) == (None, "")


def test_negative_samples_of_earlier_versions_have_signed_curves(tmp_path):
    folder = make_run(tmp_path / "maps", Data=None)
    assert voxel_fits(read_run(folder))[0].curves[0].min() >= 0
    image = nib.load(tmp_path / "series.nii.gz")
    values = image.get_fdata().astype(np.float32)
    values[..., 0] *= -1
    nib.save(nib.Nifti1Image(values, image.affine), tmp_path / "series.nii.gz")
    assert voxel_fits(read_run(folder))[0].curves[0].min() < 0


@pytest.mark.parametrize("value", [None, 3, "words", [1, "x"], {"Sigma": "x", "Source": 3}])
def test_facts_of_another_type_count_as_not_recorded(value, tmp_path):
    folder = make_run(tmp_path / "maps")
    set_said(folder, **dict.fromkeys(RECORDS, value), Corrected=value, Sigma=value, Notes=value)
    facts = facts_of(read_run(folder))
    assert facts.noise.source == facts.mask.kind == facts.fit.likelihood == ""
    assert facts.data.signed is None
    write_report(folder)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "voxel-wise"),
        ({"ShareB": True}, "one B for the mask"),
        ({"FixB": 1.9}, "B fixed at 1.9"),
        ({"LambdaB": 500, "ChosenLambdaB": 500}, "B smooth in space, penalty of weight 500)"),
        (
            {"LambdaB": "auto", "ChosenLambdaB": 12.5},
            "B smooth in space, penalty of weight 12.5, chosen by the data",
        ),
        ({"LambdaB": "auto", "ChosenLambdaB": "inf"}, "penalty of weight infinite"),
        ({"TR": 2550.0}, "voxel-wise, repetition time 2550 ms"),
    ],
)
def test_fits_are_named_by_their_options(options, words, tmp_path):
    options = {"Likelihood": "rician", **options}
    paragraph = methods(read_run(make_run(tmp_path / "maps", FitOptions=options)))[0]
    assert "by Rician maximum likelihood (" in paragraph
    assert words in paragraph


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("given", "was given."),
        ("map", "was given as a map."),
        ("air", "from the background of the images."),
        ("residuals", "from the residuals of a voxel-wise fit."),
        ("floor", "is a floor, since no noise was found."),
    ],
)
def test_source_of_sigma_is_named(source, words, tmp_path):
    folder = make_run(tmp_path / "maps", Noise={"Sigma": 8.0, "Source": source})
    sentence = rf"The noise standard deviation \(8 in image units\) [^.]*{re.escape(words)}"
    assert re.search(sentence, methods(read_run(folder))[0])


def test_figures_of_the_noise_and_the_mask_stand_in_the_table(tmp_path):
    folder = make_run(
        tmp_path / "maps",
        Noise={"Sigma": 8.0, "Source": "residuals", "Reason": "air noisier than tissue",
               "AirSigma": 11.5, "AirKind": "Rayleigh", "AirVoxels": 900, "ResidualSigma": 8.0},
        MaskKind={"Kind": "file", "File": "m.nii.gz", "Probabilities": True, "Share": 0.281},
    )  # fmt: skip
    text = write_report(folder).read_text()
    for cell in (
        "residuals of a voxel-wise fit (air noisier than tissue)",
        "11.5 a.u. (Rayleigh, 900 voxels)",
        "mask m.nii.gz from 0.5 up (28 % of voxels)",
    ):
        assert f"<td>{cell}</td>" in text
    set_said(folder, Noise={"Sigma": 8.0, "Source": "residuals", "AirUnusable": "zeros"})
    assert "<td>not usable: zeros</td>" in write_report(folder).read_text()


def scaled(folder, stem, factor, unit, new_stem=""):
    """Replace a map by a multiple of it, or write that under another stem."""
    image = nib.load(folder / f"{stem}.nii.gz")
    card = json.loads((folder / f"{stem}.json").read_text())
    values = image.get_fdata().astype(np.float32) * np.float32(factor)
    nib.save(nib.Nifti1Image(values, image.affine), folder / f"{new_stem or stem}.nii.gz")
    (folder / f"{new_stem or stem}.json").write_text(json.dumps({**card, "Units": unit}))


def test_curves_of_maps_in_the_units_of_bids_are_the_same(tmp_path):
    folder = make_run(tmp_path / "maps")
    before = voxel_fits(read_run(folder))[0].curves[0]
    scaled(folder, "T1map", 1e-3, "s")
    scaled(folder, "M0map", 1.0, "arbitrary")
    np.testing.assert_allclose(voxel_fits(read_run(folder))[0].curves[0], before, rtol=1e-5)
    run = read_run(folder)
    assert scale_of(run, "T1map").high == pytest.approx(3.0)
    assert [scale_of(run, stem).label for stem in ("T1map", "M0map")] == ["T1 (s)", "M0 (a.u.)"]


def test_curves_of_a_fit_with_a_repetition_time_have_the_amplitude_of_the_signal(tmp_path):
    folder = make_run(tmp_path / "maps")
    before = voxel_fits(read_run(folder))[0].curves[0]
    scaled(folder, "M0map", 1.0, "a.u.", "Amap")
    scaled(folder, "M0map", 2.0, "a.u.")
    np.testing.assert_array_equal(voxel_fits(read_run(folder))[0].curves[0], before)


def test_comparison_with_a_fit_is_given_in_numbers(tmp_path):
    comparison = {"with": "mle, voxel-wise", "checked": 0.75, "difference": -0.0123}
    folder = make_run(tmp_path / "maps", std=False, Comparison=comparison)
    assert (
        "(75 % of voxels), the median difference from it was -1.2 %."
        in (methods(read_run(folder))[0])
    )


def test_text_of_any_kind_stays_text(tmp_path):
    bad = '"><script>alert(1)</script><a href="javascript:alert(2)" onload=\'x\'>&lt;'
    fields = {
        key: bad
        for key in ("Protocol", "Fit", "SigmaSource", "Mask", "CommandLine", "Network", "Date",
                    "DataTakenAs", "SoftwareVersion", "NetworkSHA256", "T1Correction")
    }  # fmt: skip
    folder = make_run(
        tmp_path / "maps",
        Sources=["javascript:alert(3)", bad],
        Notes=[bad],
        Warnings=[bad],
        Noise={"Sigma": 1.0, "Source": bad},
        MaskKind={"Kind": "file", "File": bad},
        Data=None,
        FitOptions={"Likelihood": bad},
        Corrected=None,
        KnownMaps={bad: bad},
        **fields,
    )
    (folder / "rois.csv").write_text("label,name\n1,\"<b>'javascript:alert(4)'</b>\"\n")
    status = folder / "status.json"
    levels = dict.fromkeys("012345678", bad)
    status.write_text(json.dumps({**json.loads(status.read_text()), "Levels": levels}))
    text = write_report(folder, title=f"{bad} javascript:alert(5)").read_text()
    assert text.count("&lt;script&gt;") > 10
    assert "<script" not in text
    assert "<b>" not in text
    for target in re.findall(r"""href=["']?([^"'> ]*)""", "".join(tags(text, "a"))):
        assert target.startswith(("#", "https://doi.org/"))
    assert not any("onload" in re.sub(r'"[^"]*"', "", tag) for tag in tags(text, r"\w+"))


def test_nothing_heavy_is_imported_before_a_report_is_written():
    code = (
        "import sys, relaxnet.report, relaxnet.report.mosaic\n"
        "print(sorted({'jinja2', 'matplotlib', 'PIL', 'tensorflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_home_that_cannot_be_written_to_makes_no_noise(tmp_path):
    folder = make_run(tmp_path / "maps")
    code = (
        "import os, sys\n"
        "from relaxnet.report import write_report\n"
        "from relaxnet.report.mosaic import draw_runs\n"
        "write_report(sys.argv[1]); draw_runs([sys.argv[1]], sys.argv[2], dpi=40)\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    hidden = ("MPLCONFIGDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "MPLBACKEND")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    done = subprocess.run(
        [sys.executable, "-c", code, folder, tmp_path / "x.png"],
        env={**environment, "HOME": os.devnull},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert done.stdout.strip() == "False"
