"""Two runs in one folder, leftovers of killed runs, and names that are not UTF-8."""

import os
import platform
import subprocess
import sys
from contextlib import contextmanager

import nibabel as nib
import numpy as np
import pytest
import small_series

from relaxnet.api import predict_files
from relaxnet.bids.output import only_run_of
from relaxnet.io.bids_names import BidsError
from relaxnet.report.page import write_report
from relaxsim.core.only_run import InUseError

TIMES = list(small_series.TAU)


@pytest.fixture
def series(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.nii.gz")
    values = small_series.series(shape=(8, 8, 1))[0]
    nib.save(nib.Nifti1Image(values, np.eye(4)), path)
    return path


def run(series, out, **options):
    return predict_files(series, out, tis=TIMES, method="mle", mask="none", sigma=8.0, **options)


@contextmanager
def another_process(code):
    """Another process that runs this code, then waits."""
    code += "\n    print('begun', flush=True); input()"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe) as process:
        assert process.stdout.readline() == b"begun\n"
        yield
        process.communicate(b"\n")


def test_a_folder_takes_one_run_at_a_time(tmp_path, series):
    out = tmp_path / "maps"
    code = f"from relaxsim.core.only_run import only_run\nwith only_run({str(out)!r}):"
    with another_process(code), pytest.raises(InUseError, match="another run writes to"):
        run(series, out)
    assert not out.exists()
    run(series, out)
    assert not list(tmp_path.glob(".*"))
    assert not list(out.glob(".*"))


def test_a_folder_that_was_filled_meanwhile_is_left_alone(tmp_path, series):
    out = tmp_path / "maps"

    def fill(folder):
        (out / "T1map.nii.gz").write_text("of another run")

    from relaxnet.prediction import files

    with pytest.raises(ValueError, match="holds maps"):
        files.predict_files(
            series, out, tis=TIMES, method="mle", mask="none", sigma=8.0, complete=fill
        )
    assert [path.name for path in out.iterdir()] == ["T1map.nii.gz"]
    assert (out / "T1map.nii.gz").read_text() == "of another run"


def test_folders_of_dead_processes_go_and_those_of_living_ones_stay(tmp_path, series):
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], stdout=-1)
    host = platform.node() or "host"
    names = [f".maps.{host}.{number}.part.x" for number in (int(dead.stdout), os.getppid())]
    for name in names:
        (tmp_path / name / "maps").mkdir(parents=True)
    run(series, tmp_path / "maps")
    assert [(tmp_path / name).exists() for name in names] == [False, True]


def test_report_of_a_file_whose_name_is_not_utf_8(tmp_path, series):
    run(series, tmp_path / "maps")
    report = write_report(tmp_path / "maps")
    assert "caf?.nii.gz" in report.read_text(encoding="utf-8")


def test_a_dataset_takes_other_series_at_the_same_time(tmp_path):
    code = (
        "from pathlib import Path\nfrom relaxnet.bids.output import only_run_of\n"
        f"with only_run_of(Path({str(tmp_path)!r}), ['sub-01_IRT1']):"
    )
    with another_process(code):
        with only_run_of(tmp_path, ["sub-02_IRT1"]):
            pass
        with pytest.raises(BidsError, match="another run maps sub-01_IRT1"):
            only_run_of(tmp_path, ["sub-02_IRT1", "sub-01_IRT1"]).__enter__()
