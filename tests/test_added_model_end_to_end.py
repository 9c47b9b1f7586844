"""A signal model added by one file goes through every command of both packages."""

import json

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner
from small_head import write_head
from toy_models import add_toys, remove_toys

import relaxnet.cli
import relaxsim.cli
from relaxsim.models.registry import signal_model

#: Columns of each model's protocol, as text files hold them.
COLUMNS = {
    "saturation_recovery": {"tss": [100, 300, 700, 1500, 4000]},
    "spoiled_echo": {"angles": [30, 60, 60, 60, 40], "waits": [200, 200, 600, 1500, 3000]},
}
#: Middle and spread of the relaxation times that toy tissues have, ms (`Parameter.drawn`).
LEAST_T, LARGEST_T = 200.0, 3000.0


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    known = add_toys(monkeypatch)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    remove_toys(known)


def call(package, *words):
    result = CliRunner().invoke(package.main, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def load(path):
    return nib.load(path).get_fdata()


def write_dataset(root, model, series, known):
    """A BIDS dataset of one subject: the series as a file for each image, and its known map."""
    anat = root / "sub-01" / "anat"
    anat.mkdir(parents=True)
    columns, border = COLUMNS[model.name], model.border
    image = nib.load(series)
    for n in range(image.shape[3]):
        stem = f"sub-01_{border.bids_entity}-{n + 1}_{border.bids_suffix}"
        nib.save(image.slicer[..., n], anat / f"{stem}.nii.gz")
        fields = {
            column.bids_field: columns[column.option][n] / column.bids_factor
            for column in border.columns
        }
        (anat / f"{stem}.json").write_text(json.dumps(fields))
    for names, path in zip(border.known, known, strict=True):
        nib.save(nib.load(path), anat / f"sub-01_{names.bids_suffix}.nii.gz")
    description = {"Name": "toy", "BIDSVersion": "1.9.0"}
    (root / "dataset_description.json").write_text(json.dumps(description))


@pytest.mark.parametrize("name", COLUMNS)
def test_every_command_knows_a_model_that_is_one_file(folder, name):
    model = signal_model(name)
    border, main = model.border, model.border.maps[-1].stem
    random, lists = [], []
    for option, values in COLUMNS[name].items():
        (folder / f"{option}.txt").write_text("\n".join(map(str, values)))
        random += [f"--{option}", "random"]
        lists += [f"--{option}", f"{option}.txt"]

    # relaxsim: shards of random protocols, and a phantom with its truth
    head = write_head(folder / "subject07_crisp.nii.gz")
    small = ("--brains", head, "--patch-size", 10, "--patches", 48)
    call(relaxsim.cli, "generate", *random, *small, "--out", "shards")
    assert name in call(relaxsim.cli, "info", "shards")
    call(relaxsim.cli, "verify", "shards")
    size = ("--brain", head, "--matrix", 36, "--voxel-size", 2.5)
    call(relaxsim.cli, "phantom", "brain", *lists, *size, "--snr", 50, "--out", "brain")
    known = [f"brain/{m.name}map.nii.gz" for m in model.known_maps]
    measured = [w for k, p in zip(border.known, known, strict=True) for w in (f"--{k.option}", p)]
    truth, mask = load(f"brain/{main}map.nii.gz"), load("brain/mask.nii.gz") > 0

    # relaxnet: a network of its own, with standard deviations
    brief = ("--iterations", 2, "--batch-size", 4, "--features", 4)
    call(relaxnet.cli, "train", "--data", "shards", *brief, "--out", "run")
    few = ("--patches", 24, "--iterations", 5)
    call(relaxnet.cli, "calibrate", "run/last.keras", "--data", "shards", *few, "--out", "mine")
    network = "mine/best.keras"
    call(relaxnet.cli, "models", network)

    # maps by the fit, by the network, and their page
    series = ("brain/rep-1_series.nii.gz", *lists, *measured, "--mask", "brain/mask.nii.gz")
    call(relaxnet.cli, "predict", *series, "--method", "mle", "--out", "fit", "--report")
    ratio = load(f"fit/{main}map.nii.gz")[mask] / truth[mask]
    assert np.median(np.abs(ratio - 1)) < 0.1
    assert border.equation.split("=")[0].strip() in (folder / "fit/report.html").read_text()
    page = ("--report", "--save-fit", "--compare", "mle", "--force")
    call(relaxnet.cli, "predict", *series, "--model", network, "--out", "maps", *page)
    assert np.isfinite(load(f"maps/{main}std.nii.gz")).any()
    card = json.loads((folder / f"maps/{main}map.json").read_text())
    assert card["SignalModel"] == name
    for column, values in zip(border.columns, COLUMNS[name].values(), strict=True):
        assert card[column.sidecar_field] == values

    # pictures, evaluation, export
    call(relaxnet.cli, "view", "fit", "maps", "--out", "maps.png")
    assert (folder / "maps.png").stat().st_size > 1000
    compared = ("--truth", f"brain/{main}map.nii.gz", "--maps", f"fit/{main}map.nii.gz")
    assert "RMSE" in call(relaxnet.cli, "evaluate", *compared, "--mask", "brain/mask.nii.gz")
    call(relaxnet.cli, "export", network, *lists, "--out", "exported")

    # the same maps from a BIDS dataset
    write_dataset(folder / "ds", model, "brain/rep-1_series.nii.gz", known)
    call(relaxnet.cli, "bids", "ds", "out", "participant", "--method", "mle", "--mask", "none")
    found = load(f"out/sub-01/anat/sub-01_{border.maps[-1].bids_suffix}.nii.gz")
    factor = border.maps[-1].bids_factor
    fitted = load(f"fit/{main}map.nii.gz")[mask] * factor
    # Without the mask the noise is found in air too; the likelihood is nearly the same.
    np.testing.assert_allclose(found[mask], fitted, rtol=0.02)
    assert LEAST_T * factor < np.median(found[mask]) < LARGEST_T * factor
