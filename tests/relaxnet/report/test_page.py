"""The report: its structure, what it says, and that nothing in it escapes or is fetched."""

import itertools
import json
import re
import shutil
import subprocess
from html import escape
from html.parser import HTMLParser

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner
from small_run import MODELS, SIGMA, TAUS, make_run, set_said
from small_series import series, write, write_times

from relaxnet.cli.group import main
from relaxnet.maps.reader import read_run
from relaxnet.maps.status import OK
from relaxnet.report import write_report
from relaxnet.report.methods import bibtex, methods
from relaxnet.report.pictures import png
from relaxnet.report.plots import ticks
from relaxnet.report.voxels import example_voxels, samples, voxel_fits

VOID = {"meta", "img", "br", "hr", "col", "link", "input"}
CASES = {
    "t1-mle-3d": {"model": "t1", "shape": (14, 12, 9), "std": True},
    "t1-rim-2d": {"model": "t1", "shape": (14, 12, 1), "std": False},
    "t2-mle-2d": {"model": "t2", "shape": (14, 12, 1), "std": True},
    "t2-rim-3d": {"model": "t2", "shape": (14, 12, 9), "std": False},
}


class Page(HTMLParser):
    """Elements of a page in order, its text, and whether they close as they open."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.words = [], [], []
        self.feed(text)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Reports of all kinds of runs: file, page."""
    found = {}
    for name, case in CASES.items():
        folder = make_run(
            tmp_path_factory.mktemp(name) / "maps",
            MODELS[case["model"]],
            case["shape"],
            case["std"],
        )
        path = write_report(folder)
        found[name] = path, Page(path.read_text(encoding="utf-8"))
    return found


@pytest.fixture(params=CASES)
def report(request, pages):
    return pages[request.param]


def test_one_small_file_that_fetches_nothing(report):
    path, page = report
    assert path.name == "report.html"
    assert path.stat().st_size < 400_000
    text = path.read_text(encoding="utf-8")
    assert not page.all("script") + page.all("link") + page.all("iframe")
    for _, attributes in page.elements:
        if source := attributes.get("src"):
            assert source.startswith("data:image/png;base64,")
        if target := attributes.get("href"):
            assert target.startswith(("#", "https://doi.org/"))
        assert not any(key.startswith("on") for key in attributes)
    assert not re.search(r"url\(|@import", text)


def test_headings_are_in_order(report):
    levels = [int(tag[1]) for tag, _ in report[1].elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_pictures_have_words(report):
    page = report[1]
    pictures = [a for a in page.all("img") if a.get("class") == "voxels"]
    assert len(pictures) >= 4
    assert all(len(a["alt"]) > 20 for a in pictures)
    assert all("alt" in a for a in page.all("img"))
    assert all(len(a["aria-label"]) > 20 and a["role"] == "img" for a in page.all("svg"))
    assert len(page.all("title")) == 1 + len(page.all("svg"))


def test_structure_serves_screen_readers(report):
    page = report[1]
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("main")) == len(page.all("header")) == len(page.all("nav")) == 1
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    links = [a["href"][1:] for a in page.all("a") if a["href"].startswith("#")]
    assert set(links) <= set(ids)
    assert all(a.get("scope") in ("col", "row") for a in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert all("aria-label" in a for _, a in page.elements if a.get("tabindex") == "0")
    assert "width=device-width" in [a.get("content", "") for a in page.all("meta")][1]


def test_says_what_was_done(pages):
    words = pages["t1-mle-3d"][1].text
    for said in ("Median T1", "at a bound", "poor fit", "50 150 400 800 1400 2200 3500"):
        assert said in words
    assert "relaxnet predict series.nii.gz --tis times.txt" in words
    assert "Cramér-Rao" in words
    assert "T1 std" in words
    assert "numpy " in words
    words = pages["t2-rim-3d"][1].text
    assert "recurrent inference machine" in words
    assert "echo time" in words
    assert "std" not in words
    assert "slices" in words


def test_fitted_curves_go_with_their_samples(report):
    circles = report[1].all("circle")
    card = json.loads((report[0].parent / "status.json").read_text())
    times = card.get("InversionTimesMs") or card["EchoTimesMs"]
    assert circles
    assert len(circles) % len(times) == 0
    paths = [a["class"] for a in report[1].all("path")]
    assert 2 <= paths.count("curve") <= 4
    assert paths.count("neighbour") > paths.count("curve")


def test_hostile_names_stay_text(tmp_path):
    bad = '<script>alert(1)</script> & "x".nii.gz'.replace("/", "")
    folder = make_run(
        tmp_path / "maps<i>",
        series_name=bad,
        Notes=["<img src=x onerror=alert(2)>"],
        Warnings=["</style><script>alert(3)</script>"],
        CommandLine="relaxnet predict '</pre><script>'",
        Mask="mask <b>m</b>",
        Network="<u>net</u>",
    )
    (folder / "rois.csv").write_text('label,name\n1,"<script>alert(4)</script>"\n')
    page = Page(write_report(folder).read_text(encoding="utf-8"))
    assert not page.all("script") + page.all("i") + page.all("b") + page.all("u")
    assert all("onerror" not in attributes for _, attributes in page.elements)
    assert bad in page.text
    assert "<script>alert(4)</script>" in page.text
    assert "<img src=x onerror=alert(2)>" in page.text


def test_regions_are_shown(tmp_path):
    folder = make_run(tmp_path / "maps")
    (folder / "rois.csv").write_text(
        "label,name,M0_median,M0_std,T1_median\n1,grey,0.912345,,812.3\n2,white,0.7,,\n"
    )
    page = Page(write_report(folder, out=tmp_path / "x.html", title="One").read_text())
    assert "label name T1_median M0_median 1 grey 812.3 0.9123 2 white 0.7" in page.text
    assert "T1 report: One" in page.text
    assert not (folder / "report.html").exists()


def test_a_series_that_is_gone_leaves_the_curves(tmp_path):
    folder = make_run(tmp_path / "maps")
    (tmp_path / "series.nii.gz").unlink()
    page = Page(write_report(folder).read_text())
    assert "no longer where it was" in page.text
    assert not page.all("circle")
    assert "curve" in [a["class"] for a in page.all("path")]


def test_folders_that_are_no_run_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no such folder"):
        write_report(tmp_path / "nowhere")
    folder = make_run(tmp_path / "maps")
    for path in folder.glob("*.json"):
        path.unlink()
    with pytest.raises(ValueError, match="name no signal model"):
        write_report(folder)
    assert not (folder / "report.html").exists()


def test_example_voxels_are_those(tmp_path):
    run = read_run(make_run(tmp_path / "maps", shape=(14, 12, 3)))
    chosen = dict(example_voxels(run))
    T, sound = run.maps["T1map"].values, run.status == OK
    residual = np.where(run.mask, run.maps["residual"].values, 0)
    assert residual[chosen["largest residual"]] == residual.max()
    for words, share in (("median T1", 0.5), ("95th percentile of T1", 0.95)):
        place = next(index for why, index in chosen.items() if words in why)
        distance = np.abs(T - np.quantile(T[sound], share))
        assert distance[place] == distance[sound].min()
    assert all(run.mask[index] for index in chosen.values())


def test_curves_follow_the_samples(tmp_path):
    run = read_run(make_run(tmp_path / "maps"))
    tau = TAUS["inversion_recovery"]
    for fit in voxel_fits(run):
        at = np.interp(tau, fit.grid, fit.curves[0])
        assert np.abs(at - fit.data).max() < 6 * SIGMA
        assert 1 <= len(fit.neighbours) <= 8


def test_curves_of_a_corrected_map_of_an_earlier_version_are_of_the_apparent_time(tmp_path):
    folder = make_run(tmp_path / "maps")
    before = voxel_fits(read_run(folder))[0].curves[0]
    image = nib.load(folder / "T1map.nii.gz")
    corrected = image.get_fdata().astype(np.float32) * np.float32(0.95)  # B - 1
    nib.save(nib.Nifti1Image(corrected, image.affine, image.header), folder / "T1map.nii.gz")
    set_said(folder, Corrected=True)
    fit = voxel_fits(read_run(folder))[0]
    np.testing.assert_allclose(fit.curves[0], before, rtol=1e-4, atol=0.1)
    assert "[2]" in methods(read_run(folder))[0]


def test_signed_data_have_signed_curves(tmp_path):
    folder = make_run(tmp_path / "maps", Data={"Signed": True, "Modulus": False})
    assert voxel_fits(read_run(folder))[0].curves[0].min() < 0


def test_samples_are_those_of_the_series(tmp_path):
    folder = make_run(tmp_path / "maps")
    whole = nib.load(tmp_path / "series.nii.gz").get_fdata()
    places = [(3, 4, 0), (7, 7, 1)]
    at = tuple(np.transpose(places))
    np.testing.assert_allclose(samples(read_run(folder), places), whole[at], rtol=1e-6)
    set_said(folder, InversionTimesMs=TAUS["inversion_recovery"][2:].tolist())
    skipped = samples(read_run(folder), places)
    np.testing.assert_allclose(skipped, whole[at][:, 2:], rtol=1e-6)


def test_samples_come_from_one_file_for_each_time_too(tmp_path):
    folder = make_run(tmp_path / "maps")
    image = nib.load(tmp_path / "series.nii.gz")
    names = []
    for n in range(image.shape[3]):
        names.append(str(tmp_path / f"inv-{n}.nii.gz"))
        nib.save(nib.Nifti1Image(image.get_fdata()[..., n] / 2, image.affine), names[-1])
    whole = samples(read_run(folder), [(3, 4, 0)])
    set_said(folder, Sources=names)
    np.testing.assert_allclose(samples(read_run(folder), [(3, 4, 0)]), whole / 2, rtol=1e-6)


def test_another_series_in_its_place_is_not_taken(tmp_path):
    folder = make_run(tmp_path / "maps")
    make_run(tmp_path / "other", shape=(9, 9, 2))
    assert samples(read_run(folder), [(3, 4, 0)]) is None


def test_large_slices_stay_small_files():
    from relaxnet.report.panels import Plane
    from relaxnet.report.pictures import _PIXELS, picture

    plane = Plane(2, False, (False, False), slice(None), slice(None), None, 1.0)
    noise = np.random.default_rng(0).integers(0, 256, (1500, 1200)).astype(np.uint8)
    image = picture(noise, np.zeros((256, 3), np.uint8), plane, "noise")
    assert len(image.src) < 1.5 * _PIXELS
    assert (image.width, image.height) == (1200, 1500)


@pytest.mark.parametrize("name", CASES)
def test_every_citation_has_its_reference(name, tmp_path):
    case = CASES[name]
    run = read_run(make_run(tmp_path / "maps", MODELS[case["model"]], (9, 9, 1), case["std"]))
    paragraph, references = methods(run)
    cited = [int(n) for n in re.findall(r"\[(\d+)\]", paragraph)]
    assert sorted(set(cited)) == list(range(1, len(references) + 1))
    entries = bibtex(run, references)
    assert entries.count("@article{") == len(references)
    assert all(f"doi = {{{r.doi}}}" in entries for r in references)
    assert entries.count("{") == entries.count("}")


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("otsu", (True, False)),
        ("both", (True, True)),
        ("air", (False, True)),
        ("all", (False, False)),
    ],
)
def test_rule_of_the_automatic_mask_is_named(rule, said, tmp_path):
    folder = make_run(tmp_path / "maps")
    set_said(folder, MaskKind={"Kind": "auto", "Rule": rule})
    paragraph = methods(read_run(folder))[0]
    assert ("Otsu's threshold" in paragraph, "above that of the air" in paragraph) == said


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({}, "S(TI) = |A (1 - B exp(-TI / T1))|, by"),
        ({"Data": {"Signed": True}}, "S(TI) = A (1 - B exp(-TI / T1)), by"),
        (
            {"FitOptions": {"Likelihood": "gaussian", "TR": 6000.0}},
            "|A (1 - B exp(-TI / T1))| with A = M0 (1 + e exp(-TR / T1)) and B = ",
        ),
    ],
)
def test_the_signal_model_is_the_one_that_was_used(said, words, tmp_path):
    folder = make_run(tmp_path / "maps")
    set_said(folder, **said)
    assert words in methods(read_run(folder))[0]


def test_png_is_read_back():
    from io import BytesIO

    from matplotlib.image import imread

    index = np.array([[0, 1], [255, 2], [3, 0]], np.uint8)
    palette = np.arange(768, dtype=np.uint32).reshape(256, 3).astype(np.uint8)
    picture = np.round(imread(BytesIO(png(index, palette))) * 255).astype(np.uint8)
    assert (picture[index == 0, 3] == 0).all()
    np.testing.assert_array_equal(picture[index > 0, :3], palette[index[index > 0]])


@pytest.mark.parametrize(("low", "high"), [(0, 3000), (1, 2.5), (-40, 90), (0, 1e-6), (5, 5)])
def test_ticks_are_few_and_within(low, high):
    found = ticks(low, high)
    assert 1 <= len(found) <= 9
    assert all(low - 1e-9 <= value <= high * (1 + 1e-9) + 1e-12 for value in found)


def contrast(first, second):
    """WCAG contrast of two colours ``#rrggbb``."""

    def luminance(colour):
        rgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def test_colours_have_contrast(pages):
    style = re.search("<style>(.*?)</style>", pages["t1-mle-3d"][0].read_text(), re.S)[1]
    schemes = [dict(re.findall(r"--([\w-]+): (#\w{6})", part)) for part in style.split(":root")[1:]]
    assert len(schemes) == 3
    for scheme in schemes:
        for ground in ("page", "box"):
            for text in ("text", "quiet", "link"):
                assert contrast(scheme[text], scheme[ground]) >= 4.5, (text, ground)
        assert contrast(scheme["text"], scheme["warn"]) >= 4.5
        for mark in ("data", "curve", "near", "bars"):
            assert contrast(scheme[mark], scheme["page"]) >= 3, mark


def test_predict_writes_the_report_with_the_maps(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "series.nii.gz", series()[0])
    write_times(tmp_path / "tis.txt")
    arguments = ["predict", "series.nii.gz", "--tis", "tis.txt", "--method", "mle", "--report"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    page = Page((tmp_path / "maps/report.html").read_text(encoding="utf-8"))
    assert "T1 report: series.nii.gz" in page.text
    assert page.all("circle")
    assert "was estimated from" in page.text
    assert {p.suffix for p in (tmp_path / "maps").iterdir()} == {".gz", ".json", ".html"}


BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
#: Measures the page in the frame and leaves the figures as the title.
PROBE = """<script>onload = () => {
  const page = document.querySelector("iframe").contentDocument;
  const narrow = i => i.getBoundingClientRect().width < 200;
  document.title = JSON.stringify({
    overflow: page.documentElement.scrollWidth - page.documentElement.clientWidth,
    broken: [...page.images].filter(i => !i.naturalWidth).length,
    narrow: [...page.querySelectorAll("img.voxels, svg.plot")].filter(narrow).length,
    text: Math.min(...[...page.querySelectorAll("svg.plot")].map(
      i => 11.5 * i.getBoundingClientRect().width / i.viewBox.baseVal.width)) >= 9,
  });
}</script>"""


@pytest.mark.skipif(not BROWSER, reason="no Chromium here")
@pytest.mark.parametrize("width", [390, 1280])
def test_fits_the_window_in_a_browser(tmp_path, pages, width):
    """Frames can be as narrow as a phone, windows of a headless browser cannot."""
    page = escape(pages["t1-mle-3d"][0].read_text(encoding="utf-8"))
    frame = f'<iframe style="border: 0" width="{width}" height="900" srcdoc="{page}"></iframe>'
    path = tmp_path / "frame.html"
    path.write_text(f"<!DOCTYPE html><title>none</title>{frame}{PROBE}", encoding="utf-8")
    dom = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
         f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1400,1000", "--dump-dom",
         path.as_uri()],
        capture_output=True, text=True, timeout=300, check=True,
    ).stdout  # fmt: skip
    found = json.loads(re.search(r"<title>(\{.*?\})</title>", dom)[1])
    assert found == {"overflow": 0, "broken": 0, "narrow": 0, "text": True}
