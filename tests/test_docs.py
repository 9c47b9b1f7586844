"""The pages: paths that they name exist, and the Python example of the README runs."""

import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
#: Paths of files and folders of the repository in a page's text.
PATH = re.compile(r"(?<![\w./-])(?:relaxnet|relaxsim|tools|tests|docs)/[\w./<>*-]*[\w/>]")
#: Targets of links to files, without the part of the page.
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)")
#: Files that commands write, named by a page as an example.
WRITTEN = ("relaxnet/participant",)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_paths_exist(page):
    text = page.read_text(encoding="utf-8")
    missing = [name for name in PATH.findall(text) if not _exists(name)]
    missing += [link for link in LINK.findall(text) if not (page.parent / link).exists()]
    assert not missing


def _exists(name):
    pattern = re.sub(r"<\w+>", "*", name)
    return any(True for _ in ROOT.glob(pattern)) or name in WRITTEN


def test_example_of_the_readme_runs(tmp_path, monkeypatch):
    example = re.search(r"```python\n(.*?)```", PAGES[0].read_text(encoding="utf-8"), re.S)[1]
    by_network = 'relaxnet.predict(series, tis, "tis", mask="auto")'
    assert by_network in example
    example = example.replace(by_network, by_network[:-1] + ', method="mle")')
    by_network = "save_fit=True)"
    assert by_network in example
    example = example.replace(by_network, 'save_fit=True, method="mle")')
    tis = np.array([100.0, 400, 800, 1500, 3000])
    rng = np.random.default_rng(0)
    S = 2 * rng.standard_normal((24, 24, 2, 5))
    S[6:18, 6:18] += 100 * (1 - 2 * np.exp(-tis / 900))
    nib.save(nib.Nifti1Image(np.abs(S).astype(np.float32), np.eye(4)), tmp_path / "series.nii.gz")
    np.savetxt(tmp_path / "inversion_times.txt", tis)
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {})
    T1 = nib.load("T1.nii.gz").get_fdata()
    assert np.median(T1[T1 > 0]) == pytest.approx(900, rel=0.02)
    assert (tmp_path / "maps" / "T1map.nii.gz").is_file()
    assert (tmp_path / "maps" / "fit.nii.gz").is_file()
