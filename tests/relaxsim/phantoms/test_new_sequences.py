"""Phantoms of T2*, flip angles and Look-Locker readouts, by the command."""

import json

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner

from relaxsim.cli.group import main
from relaxsim.models.registry import model_of

COLUMNS = {
    "t2star": {"tes": [2.5, 5, 10, 20, 40]},
    "vfa": {"fas": [2, 5, 10, 18, 28], "trs": [15]},
    "look-locker": {"tis": [100, 1000, 1900, 2800, 180, 1080]},
}


def call(*words):
    result = CliRunner().invoke(main, [str(w) for w in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def options(sequence):
    lists = COLUMNS[sequence].items()
    return ["--sequence", sequence, *(w for k, v in lists for w in (f"--{k}", f"{v}"[1:-1]))]


def load(path):
    return nib.load(path).get_fdata()


@pytest.mark.parametrize("sequence", COLUMNS)
@pytest.mark.parametrize("kind", ["brain", "plate", "structures"])
def test_series_are_those_of_the_truth(tmp_path, head, kind, sequence):
    out, model = tmp_path / "p", model_of(sequence)
    place = [] if kind == "plate" else ["--brain", head, "--voxel-size", 0.9, "--matrix", 120]
    words = [*options(sequence), *place, "--snr", 1e5, "--repeats", 1, "--out", out]
    code, said = call("phantom", kind, *words)
    if (kind, sequence) == ("plate", "t2star"):
        assert (code, "the NIST plates have no values of T2*" in said) == (2, True)
        assert not out.exists()
        return
    assert code == 0, said
    stems = [border.stem for border in model.border.maps]
    kappa = np.stack([load(out / f"{stem}map.nii.gz") for stem in stems], axis=-1)
    known = load(out / "B1map.nii.gz")[..., None] if model.known_maps else None
    pure = (load(out / "purity.nii.gz") > 0.999) & (kappa[..., -1] > 0)
    card = json.loads((out / "rep-1_series.json").read_text())
    columns = [np.multiply(card[c.bids_field], c.bids_factor) for c in model.border.columns]
    np.testing.assert_allclose(columns[0], next(iter(COLUMNS[sequence].values())))
    expected = model.forward(
        kappa[pure], np.stack(columns, axis=-1), np, None if known is None else known[pure]
    )
    series = load(out / "rep-1_series.nii.gz")[pure]
    np.testing.assert_allclose(series, expected, atol=6 * 0.75e-5 * max(1, expected.max()))
    assert 0.2 < np.median(series.max(axis=1)) < 2.0
