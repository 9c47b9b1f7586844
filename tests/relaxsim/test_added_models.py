"""Signal models that are added by one file: their shards and phantoms, by the commands."""

import json

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner

from relaxsim.cli.group import main
from relaxsim.models.registry import signal_model
from relaxsim.shards.layout import list_shards, read_shard, verify_shard

#: Columns of each model's protocol, as text files hold them.
COLUMNS = {
    "saturation_recovery": {"tss": [100, 300, 700, 1500, 4000]},
    "spoiled_echo": {"angles": [30, 60, 60, 60, 40], "waits": [200, 200, 600, 1500, 3000]},
}
MODELS = pytest.mark.parametrize("name", COLUMNS)


@pytest.fixture(autouse=True)
def _registered(toys):
    """Every test here knows the toy models."""


def call(*words):
    result = CliRunner().invoke(main, [str(w) for w in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def lists(folder, name):
    """Options of a model's columns, their numbers in files."""
    words = []
    for option, values in COLUMNS[name].items():
        path = folder / f"given_{option}.txt"
        path.write_text("\n".join(map(str, values)))
        words += [f"--{option}", path]
    return words


def generate(head, out, *words):
    common = ("--brains", head, "--out", out, "--patch-size", 8)
    return call("generate", *common, *words)


def signal_of(shard):
    """Noise-free signal of a shard's reference parameters where there is tissue."""
    inside, info = shard.labels > 0, shard.info
    known = None if shard.known is None else shard.known[inside]
    return inside, info.signal_model.forward(
        shard.kappa[inside], info.protocol_table.astype(np.float32), np, known
    )


@MODELS
def test_shards(head, tmp_path, name):
    out = tmp_path / "shards"
    sigma = ("--sigma-range", 1e-5, 1e-5)
    assert generate(head, out, *lists(tmp_path, name), "--patches", 300, *sigma)[0] == 0
    shards = [read_shard(path) for path in list_shards(out)]
    assert [len(shard.S) for shard in shards] == [240, 60]
    for shard in shards:
        assert verify_shard(shard.info.path).signal_model is signal_model(name)
        np.testing.assert_array_equal(
            shard.info.protocol_table, np.transpose(list(COLUMNS[name].values()))
        )
        np.testing.assert_array_equal(shard.info.tau, next(iter(COLUMNS[name].values())))
        inside, expected = signal_of(shard)
        np.testing.assert_allclose(shard.S[inside], expected, atol=1e-4)
    assert (shards[0].known is None) == (name == "saturation_recovery")
    code, words = call("verify", out)
    assert (code, "2 shards are sound" in words) == (0, True)
    code, words = call("info", out)
    assert code == 0
    assert f"{name}: A (a.u.), T1" in words
    assert {"saturation_recovery": "5 times, 100 to 4000 ms"}.get(
        name, "5 images, FA 30 to 60 degrees, TR 200 to 3000 ms"
    ) in words
    assert call("view", shards[0].info.path, "--out", tmp_path / "x.png")[0] == 0


@MODELS
def test_processes_know_the_models_and_write_the_same(head, tmp_path, name):
    random = [word for option in COLUMNS[name] for word in (f"--{option}", "random")]
    for jobs in (1, 2):
        words = (*random, "--patches", 90, "--jobs", jobs)
        code, output = generate(head, tmp_path / str(jobs), *words)
        assert code == 0, output
    one, two = (list_shards(tmp_path / jobs) for jobs in "12")
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    assert len({len(read_shard(path).info.tau) for path in one}) > 1
    assert generate(head, tmp_path / "1", *random, "--patches", 90)[1].startswith("0 of 4 shards")


def test_known_maps_vary_over_patches_and_mixed_voxels_have_those_of_the_place(head, tmp_path):
    out = tmp_path / "shards"
    words = ("--patches", 48, "--voxel-size", "2:4", "--sigma-range", 1e-5, 1e-5)
    assert generate(head, out, *lists(tmp_path, "spoiled_echo"), *words)[0] == 0
    shard = read_shard(list_shards(out)[0])
    assert shard.known.shape == (48, 8, 8, 1)
    assert np.median(np.ptp(shard.known, axis=(1, 2))) > 0.02
    low, high = shard.info.signal_model.known_maps[0].plausible
    assert low < shard.known.min() < shard.known.max() < high
    inside, nearest = signal_of(shard)
    pure = shard.purity[inside] > 0.999
    assert 0.1 < (~pure).mean()
    misfit = np.abs(shard.S[inside] - nearest).max(-1)
    assert misfit[pure].max() < 1e-4
    # Maps of other places would change all signals by a factor.
    assert np.median(misfit[~pure] / shard.S[inside][~pure].max(-1)) < 0.01


def test_a_list_for_each_column(head, tmp_path):
    angles, first, waits, second = lists(tmp_path, "spoiled_echo")
    several = [angles, first, angles, first, waits, second]
    assert generate(head, tmp_path / "a", *several, "--patches", 241)[0] == 0
    infos = [read_shard(path).info for path in list_shards(tmp_path / "a")]
    assert [info.protocol for info in infos] == ["given_angles", "given_angles"]
    for words, message in (
        ([angles, first], "--angles belong to no one signal model"),
        ([angles, first, "--sequence", "se"], "spoiled echo needs repetition times: give --waits"),
        ([angles, first, "--sequence", "ir"], "--angles does not belong to inversion recovery"),
        ([angles, "random", waits, second], "here not with --waits"),
        (
            [*several, waits, second, waits, second],
            "--angles is given 2 times, another column 3 times",
        ),
        ([angles, first, waits, second, "--tr", 4000], "--tr belongs to inversion recovery"),
    ):
        code, output = generate(head, tmp_path / "b", *words)
        assert (code, message in output) == (2, True), output


@MODELS
def test_brain_phantoms(head, tmp_path, name):
    size = ("--brain", head, "--voxel-size", 1.5, "--matrix", 60, "--slices", 2)
    command = ["phantom", "brain", *lists(tmp_path, name), "--out", tmp_path / "p", *size]
    code, output = call(*command, "--snr", 1e4, "--repeats", 1)
    assert code == 0, output
    folder, model = tmp_path / "p", signal_model(name)
    maps = {path.name.removesuffix(".nii.gz"): path for path in folder.glob("*map.nii.gz")}
    known = {"spoiled_echo": {"B1map"}}.get(name, set())
    assert set(maps) == {f"{border.stem}map" for border in model.border.maps} | known
    sidecar = json.loads((folder / "rep-1_series.json").read_text())
    for border, values in zip(model.border.columns, COLUMNS[name].values(), strict=True):
        assert np.multiply(sidecar[border.bids_field], border.bids_factor) == pytest.approx(values)
    kappa = np.stack([volume(maps[f"{m.stem}map"]) for m in model.border.maps], axis=-1)
    B1 = volume(maps["B1map"])[..., None] if known else None
    pure = volume(folder / "purity.nii.gz") > 0.999
    table = np.transpose(list(COLUMNS[name].values()))
    expected = model.forward(kappa[pure], table, np, None if B1 is None else B1[pure])
    series = volume(folder / "rep-1_series.nii.gz")[pure]
    np.testing.assert_allclose(series, expected, atol=6 * 0.75e-4)
    code, output = call(*command)
    assert (code, "exists. Give --overwrite or another --out" in output) == (2, True)


def test_protocol_files(head, tmp_path):
    size = ("--brain", head, "--voxel-size", 1.5, "--matrix", 60, "--repeats", 1)
    end = ("--out", tmp_path / "p", *size, "--overwrite")
    assert call("phantom", "brain", *lists(tmp_path, "spoiled_echo"), *end)[0] == 0
    text = (tmp_path / "p" / "angles.txt").read_text().splitlines()
    assert text == ["# flip angles, degrees", "30", "60", "60", "60", "40"]
    assert (tmp_path / "p" / "waits.txt").read_text().startswith("# repetition times, ms\n200\n")
    assert call("phantom", "brain", *lists(tmp_path, "saturation_recovery"), *end)[0] == 0
    text = {path.name for path in (tmp_path / "p").glob("*.txt")}
    assert text == {"times.txt"}
    assert not (tmp_path / "p" / "B1map.nii.gz").exists()


@MODELS
def test_structures_have_values_that_the_model_draws(head, tmp_path, name):
    size = ("--brain", head, "--voxel-size", 0.9, "--matrix", 120, "--repeats", 1)
    words = ("phantom", "structures", *lists(tmp_path, name), "--out", tmp_path / "p", *size)
    code, output = call(*words)
    assert code == 0, output
    T1 = volume(tmp_path / "p" / f"{signal_model(name).border.maps[-1].stem}map.nii.gz")
    low, high = (T1[volume(tmp_path / "p" / f"structure-{k}.nii.gz") > 0] for k in (1, 2))
    np.testing.assert_allclose(low, 200 * 15**0.1, rtol=1e-5)
    np.testing.assert_allclose(high, 200 * 15**0.9, rtol=1e-5)


@MODELS
def test_plates_have_no_values_of_other_parameters(tmp_path, name):
    words = ("phantom", "plate", *lists(tmp_path, name), "--out", tmp_path / "p")
    code, output = call(*words)
    main_parameter = signal_model(name).main
    assert (code, f"the NIST plates have no values of {main_parameter}" in output) == (2, True)
    assert not (tmp_path / "p").exists()


def volume(path):
    return nib.load(path).get_fdata()
