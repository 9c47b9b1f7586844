"""Times and repetition times from sidecars."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from small_bids import TE, write_json, write_series
from small_series import TAU
from toy_models import add_toys, remove_toys

from relaxnet.io.bids_names import BidsError
from relaxnet.io.bids_times import read_acquisition, sequence_of_files, series_model
from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY
from relaxsim.models.protocols import Protocol
from relaxsim.models.registry import signal_model
from relaxsim.models.t2_decay import MODEL as T2_DECAY


@pytest.fixture
def files(tmp_path):
    """Seven images, inv-1 the one of the longest time."""
    return [str(path) for path in write_series(tmp_path, "sub-01")]


def card(path):
    return path.replace(".nii.gz", ".json")


def listed(tmp_path, **fields):
    """A 4-D file by name, and its sidecar."""
    write_json(tmp_path / "sub-01_IRT1.json", **fields)
    return [str(tmp_path / "sub-01_IRT1.nii.gz")]


def tis(*tau):
    return Protocol("mine", INVERSION_RECOVERY, np.array(tau, float)[:, None])


def test_seconds_become_ms_and_files_are_in_the_order_of_times(files):
    found = read_acquisition(files)
    np.testing.assert_allclose(found.protocol.tau, TAU)
    assert found.paths == tuple(reversed(files))
    assert found.protocol.model is INVERSION_RECOVERY
    assert found.protocol.name == "sub-01_IRT1"
    assert read_acquisition(sorted(files)).paths == found.paths


def test_echo_times_of_mese(tmp_path):
    files = [str(path) for path in write_series(tmp_path, "sub-01", "MESE")]
    found = read_acquisition(files)
    assert found.protocol.model is series_model(files) is T2_DECAY
    np.testing.assert_allclose(found.protocol.tau, TE)


def test_a_list_keeps_the_order_of_the_images(tmp_path):
    files = listed(tmp_path, InversionTime=[2.0, 0.1, 0.5])
    assert read_acquisition(files).protocol.tau.tolist() == [2000, 100, 500]


def test_names_that_say_nothing_are_known_by_the_field_that_varies(tmp_path):
    write_json(tmp_path / "rep-1_series.json", InversionTime=[0.1, 0.9], EchoTime=0.01)
    assert series_model([str(tmp_path / "rep-1_series.nii.gz")]) is INVERSION_RECOVERY
    for n in (1, 2):
        write_json(tmp_path / f"x_e{n}.json", EchoTime=0.02 * n, InversionTime=0.1)
    files = [str(tmp_path / f"x_e{n}.nii.gz") for n in (2, 1)]
    assert read_acquisition(files).protocol.tau.tolist() == [20, 40]


def test_repeated_times_are_taken(tmp_path):
    files = listed(tmp_path, InversionTime=[0.1, 0.1, 0.5])
    assert read_acquisition(files).protocol.tau.tolist() == [100, 100, 500]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([250, 500], "250, which looks like ms"),
        ([0.1, -0.5], "-0.5; expected a positive number"),
        ([0.1, 0], "is 0; expected a positive"),
        ([0.1, "x"], "'x'; expected"),
        ([0.1, True], "True; expected"),
        ([0.1, float("nan")], "nan; expected"),
        (0.1, "a single number; one 4-D file needs a list"),
        ([], "holds no inversion times"),
        ([0.0001, 0.0002], "below 20 ms"),
    ],
)
def test_values_that_are_no_times_are_refused_by_name(tmp_path, values, words):
    with pytest.raises(ValueError, match=rf"^sub-01_IRT1.json.*{words}"):
        read_acquisition(listed(tmp_path, InversionTime=values))


def test_a_missing_sidecar_or_field_is_named(files, tmp_path):
    write_json(tmp_path / card(files[2]), EchoTime=0.01)
    with pytest.raises(BidsError, match=r"sub-01_inv-3_IRT1.json has no InversionTime"):
        read_acquisition(files)
    (tmp_path / card(files[2])).unlink()
    with pytest.raises(BidsError, match=r"inv-3_IRT1.nii.gz has no sidecar \(sub-01_inv-3_IRT1"):
        read_acquisition(files)
    with pytest.raises(BidsError, match=r"`tis` or .* `tes`: series.nii.gz has no sidecar"):
        read_acquisition([str(tmp_path / "series.nii.gz")])


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["sub-01_inv-1_IRT1.nii", "sub-01_inv-1_IRT1.nii.gz"], "same index inv-1"),
        (["sub-01_inv-1_IRT1.nii", "sub-01_inv-01_IRT1.nii"], "same index inv-1"),
        (["sub-01_inv-1_IRT1.nii", "sub-02_inv-2_IRT1.nii"], "belong to different series"),
        (["sub-01_run-1_inv-1_IRT1.nii", "sub-01_run-2_inv-2_IRT1.nii"], "different series"),
        (["sub-01_inv-1_IRT1.nii", "sub-01_echo-2_MESE.nii"], "different series"),
        (["sub-01_inv-1_IRT1.nii", "sub-01_IRT1.nii"], "has no inv-<number>"),
        (["sub-01_inv-1_part-phase_IRT1.nii"], "the phase part"),
        (["sub-01_inv-1_part-mag_IRT1.nii", "sub-01_inv-1_part-imag_IRT1.nii"], "the imag part"),
        (["sub-01_echo-1_MEGRE.nii", "sub-01_echo-2_MEGRE.nii"], "MEGRE.json has no EchoTime"),
        (["sub-01_flip-1_VFA.nii", "sub-01_flip-2_VFA.nii"], "VFA.json has no FlipAngle"),
        (["sub-01_flip-1_MTS.nii", "sub-01_flip-2_MTS.nii"], "Mapped are: IRT1, MESE, VFA, MEGRE"),
    ],
)
def test_files_that_make_no_series_are_refused_by_name(tmp_path, names, words):
    for n, name in enumerate(names):
        write_json(tmp_path / name.replace(".nii", ".json"), InversionTime=0.1 * (n + 1))
    with pytest.raises(BidsError, match=words):
        read_acquisition([str(tmp_path / name) for name in names])


def echoes(tmp_path, pattern="x_e{}", **fields):
    """Six images with their sidecars; of a field given as a list each has its entry."""
    for n in range(6):
        own = {k: v[n] if isinstance(v, list) else v for k, v in fields.items()}
        write_json(tmp_path / f"{pattern.format(n + 1)}.json", **own)
    return [str(tmp_path / f"{pattern.format(n + 1)}.nii.gz") for n in range(6)]


ECHOES = [0.01 * (n + 1) for n in range(6)]
SIX = Protocol("mine", T2_DECAY, 1000 * np.array(ECHOES)[:, None])


def test_one_echo_time_in_all_sidecars_is_named_and_gives_way_to_the_list(tmp_path):
    files = echoes(tmp_path, EchoTime=0.01)
    with pytest.raises(BidsError, match=r"EchoTime is 0.01 in all 6 sidecars"):
        read_acquisition(files)
    found = read_acquisition(files, SIX)
    assert found.protocol is SIX
    assert [w.split(";")[0] for w in found.warnings] == ["EchoTime is 0.01 s in all 6 sidecars"]
    assert "EchoTime" not in found.constants


@pytest.mark.parametrize(
    ("pattern", "fields", "named"),
    [
        ("8_gre_me_e{}", {"ScanningSequence": "GR"}, "ScanningSequence GR"),
        ("x_e{}", {"ScanningSequence": [["GR"]] * 6}, "ScanningSequence GR"),
        ("x_e{}", {"SequenceName": "*fl3d12"}, r"SequenceName \*fl3d12"),
        ("x_e{}", {"ScanningSequence": "SE", "SequenceName": "*se2d6"}, ""),
        ("sub-01_echo-{}_MESE", {}, ""),
    ],
)
def test_gradient_echoes_are_called_so_with_and_without_a_list(tmp_path, pattern, fields, named):
    files = echoes(tmp_path, pattern, EchoTime=ECHOES, **fields)
    expected = "t2star" if named else "mese" if "MESE" in pattern else "t2"
    found = read_acquisition(files)
    np.testing.assert_allclose(found.protocol.tau, SIX.tau)
    assert found.protocol.model.border.sequence == expected
    assert len(found.warnings) == (expected == "mese")  # the refocusing angle is assumed
    if named:
        assert sequence_of_files(files, {"tes": SIX.tau}) == expected
    warnings = read_acquisition(files, SIX).warnings  # `--sequence t2` asks for T2
    assert len(warnings) == bool(named)
    for warning in warnings:
        assert re.search(rf"{named}.*T2\*.*`sequence` t2star", warning)


@pytest.mark.parametrize("suffix", ["MEGRE", "T2starw", "T2star"])
def test_gradient_echoes_by_name_decay_with_t2star(tmp_path, suffix):
    files = echoes(tmp_path, f"sub-01_echo-{{}}_{suffix}", EchoTime=ECHOES, ScanningSequence="GR")
    found = read_acquisition(files)
    assert found.protocol.model.border.sequence == series_model(files).border.sequence == "t2star"
    assert found.warnings == ()
    (warning,) = read_acquisition(files, SIX).warnings  # `--sequence t2` asks for T2
    assert re.search(rf"named {suffix}.*T2\*.*`sequence` t2star", warning)


@pytest.mark.parametrize(
    ("pattern", "fields"),
    [("sub-01_echo-{}_MESE", {}), ("x_e{}", {"ScanningSequence": ["SE"] * 6})],
)
def test_spin_echoes_are_no_t2star(tmp_path, pattern, fields):
    files = echoes(tmp_path, pattern, EchoTime=ECHOES, **fields)
    (warning,) = read_acquisition(files, model=signal_model("t2star_decay")).warnings
    assert re.search(r"spin echoes decay with T2,.*`sequence` t2\b", warning)


def test_what_varies_instead_is_named(tmp_path):
    files = echoes(tmp_path, FlipAngle=[2, 5, 8, 10, 15, 20], EchoTime=0.002)
    with pytest.raises(BidsError, match=r"FlipAngle varies \(2, 5, 8, 10, ...\)"):
        read_acquisition(files)


@pytest.mark.parametrize("content", [b'{"InstitutionName": "M\xfcnchen", "EchoTime": 0.01'])
def test_sidecars_that_cannot_be_read_are_not_needed_beside_a_list(tmp_path, content):
    files = echoes(tmp_path, EchoTime=ECHOES)
    (tmp_path / "x_e1.json").write_bytes(content + b"}")
    np.testing.assert_allclose(read_acquisition(files).protocol.tau, SIX.tau)  # Latin-1 is read
    (tmp_path / "x_e1.json").write_bytes(content)
    with pytest.raises(BidsError, match=r"x_e1.json is not readable JSON"):
        read_acquisition(files)
    found = read_acquisition(files, SIX)
    assert found.protocol is SIX
    assert [n.partition(":")[0] for n in found.notes] == ["sidecars are left out of account"]


def test_display_values_of_philips_are_brought_to_one_scale(tmp_path):
    slopes, scale = [1.3, 1.3, 1.625, 2.6, 2.6, 5.2], [0.5, 0.5, 0.5, 0.5, 0.25, 0.5]
    fields = {"PhilipsRescaleSlope": slopes, "PhilipsScaleSlope": scale, "EchoTime": ECHOES}
    files = echoes(tmp_path, **fields, UsePhilipsFloatNotDisplayScaling=0)
    found = read_acquisition(files[::-1])
    np.testing.assert_allclose(found.scaling, [1, 1, 0.8, 0.5, 1, 0.25])
    assert "display values of Philips" in found.notes[0]
    np.testing.assert_allclose(found.without_first(2).scaling, [0.8, 0.5, 1, 0.25])
    files = echoes(tmp_path, **fields, UsePhilipsFloatNotDisplayScaling=1)
    assert read_acquisition(files).scaling == ()
    files = echoes(tmp_path, **fields, UsePhilipsFloatNotDisplayScaling=[0, 0, 0, 1, 1, 1])
    with pytest.raises(BidsError, match="in some sidecars and not in others"):
        read_acquisition(files)
    fields["PhilipsScaleSlope"] = 0
    files = echoes(tmp_path, **fields, UsePhilipsFloatNotDisplayScaling=0)
    with pytest.raises(BidsError, match="PhilipsScaleSlope is 0; expected a positive number"):
        read_acquisition(files)


def test_slices_read_one_after_the_other_are_warned_of(tmp_path):
    times = [0.1, 0.3, 0.5, 0.9, 1.5, 3.0]
    for spread, warned in ((0.06, True), (0.0, False)):
        timing = [[spread * k for k in range(5)]] * 6
        files = echoes(tmp_path, InversionTime=times, SliceTiming=timing)
        assert len(read_acquisition(files).warnings) == warned
        files = echoes(tmp_path, InversionTime=times, SliceTiming=timing, MRAcquisitionType="3D")
        assert not read_acquisition(files).warnings


def test_real_parts_are_signed(tmp_path):
    for n, ti in enumerate([0.1, 0.5, 1.5]):
        write_json(tmp_path / f"sub-01_inv-{n + 1}_part-real_IRT1.json", InversionTime=ti)
    files = [str(tmp_path / f"sub-01_inv-{n}_part-real_IRT1.nii.gz") for n in (1, 2, 3)]
    assert read_acquisition(files).signed is True
    mixed = [*files[:2], files[2].replace("real", "mag")]
    with pytest.raises(BidsError, match=r"is a real part, .* is not"):
        read_acquisition(mixed)
    echo = [f.replace("inv", "echo").replace("IRT1", "MESE") for f in files]
    with pytest.raises(BidsError, match="T2 decay has no sign"):
        read_acquisition(echo, Protocol("mine", T2_DECAY, np.array([[10.0], [20], [30]])))


def test_times_given_are_checked_file_by_file(files):
    given = read_acquisition(files, tis(*TAU[::-1]))
    assert given.paths == tuple(files)  # the order of the list
    with pytest.raises(BidsError, match=r"inv-1_IRT1.json: InversionTime is 3.5 s, but time 1 of"):
        read_acquisition(files, tis(*TAU))
    rounded = np.round(TAU[::-1] * 1.003)
    assert read_acquisition(files, tis(*rounded)).protocol.num_images == 7


def test_given_times_contradict_a_list_by_number_too(tmp_path):
    files = listed(tmp_path, InversionTime=[0.1, 0.5])
    with pytest.raises(BidsError, match=r"sub-01_IRT1.json lists 2 times .*, mine 3"):
        read_acquisition(files, tis(100, 500, 900))
    with pytest.raises(BidsError, match="is IRT1: give its inversion times with `tis`, not `tes`"):
        read_acquisition(files, Protocol("mine", T2_DECAY, np.array([[10.0], [20.0]])))


def test_given_times_need_no_sidecar(tmp_path):
    assert read_acquisition([str(tmp_path / "x.nii")], tis(100, 900)).protocol.name == "mine"
    files = listed(tmp_path, InversionTime=0.1)  # a converter's, of the first image
    assert read_acquisition(files, tis(100, 900)).protocol.name == "mine"


def test_rising_times_refuse_files_in_the_shells_order(tmp_path):
    """The shell puts 10 before 2: without sidecars nothing else would tell."""
    rising = tis(*(100.0 * np.arange(1, 13)))
    for name in ("IR_{}.nii", "sub-01_inv-{}_IRT1.nii.gz"):
        numbered = [str(tmp_path / name.format(n)) for n in range(1, 13)]
        assert read_acquisition(numbered, rising).paths == tuple(numbered)
        with pytest.raises(
            BidsError, match=r"would be that of .*10.*, before .*: the files are in alpha"
        ):
            read_acquisition(sorted(numbered), rising)
        falling = tis(*(100.0 * np.arange(12, 0, -1)))
        assert read_acquisition(sorted(numbered), falling).paths == tuple(sorted(numbered))
        own = [numbered[n] for n in (11, 0, 3, 9)]  # an order that somebody chose
        assert read_acquisition(own, tis(50, 400, 900, 2000)).paths == tuple(own)
    for name in ("IR_0.05 IR_0.4 IR_1.1 IR_2.5", "ti_0p05s ti_0p1s ti_0p4s ti_1p0s", "t9 t10"):
        decimal = [str(tmp_path / f"{part}.nii") for part in name.split()]
        times = tis(*(100.0 * np.arange(1, len(decimal) + 1)))
        assert read_acquisition(decimal, times).paths == tuple(decimal)


def test_the_file_without_a_sidecar_is_named(files, tmp_path):
    names = [str(tmp_path / f"IR_{n}.nii.gz") for n in range(3)]
    for n in (0, 2):
        write_json(Path(card(names[n])), InversionTime=0.1 * (n + 1))
    with pytest.raises(BidsError, match=r"IR_1\.nii\.gz has no sidecar IR_1\.json"):
        read_acquisition(names)
    with pytest.raises(BidsError, match="is a folder; give its files"):
        read_acquisition([str(tmp_path)])


def test_sidecars_that_agree_say_the_order(tmp_path):
    """Images may be numbered otherwise than by their times."""
    numbered = [str(tmp_path / f"sub-01_inv-{n}_IRT1.nii.gz") for n in range(1, 12)]
    for n, path in enumerate(sorted(numbered)):
        write_json(Path(card(path)), InversionTime=0.1 * (n + 1))
    rising = tis(*(100.0 * np.arange(1, 12)))
    assert read_acquisition(sorted(numbered), rising).paths == tuple(sorted(numbered))


@pytest.mark.parametrize("field", ["InversionTime", "RepetitionTime", "FlipAngle"])
def test_numbers_too_large_for_a_float_are_none(files, field):
    huge = 10**400
    for path in files:
        fields = {"InversionTime": 0.5, **json.loads(Path(card(path)).read_text()), field: huge}
        write_json(Path(card(path)), **fields)
    if field == "InversionTime":
        with pytest.raises(BidsError, match="expected a positive number of seconds"):
            read_acquisition(files)
    else:
        assert read_acquisition(files, None, None, True).tr is None


class TestRepetitionTime:
    """The time between inversions, if the user wants it."""

    def files(self, tmp_path, **fields):
        return listed(tmp_path, InversionTime=[0.1, 2.0], **fields)

    def test_is_taken_when_asked_for(self, tmp_path):
        found = read_acquisition(self.files(tmp_path, RepetitionTime=5), None, "sidecar", True)
        assert found.tr == 5000
        assert found.notes == ("repetition time 5000 ms (RepetitionTime of the sidecars)",)

    def test_is_only_told_of_otherwise(self, tmp_path):
        files = self.files(tmp_path, RepetitionTime=5)
        found = read_acquisition(files, None, None, fitted=True)
        assert found.tr is None
        assert found.notes[0].startswith("RepetitionTime 5000 ms of the sidecars is not used")
        assert read_acquisition(files, None, None, fitted=False).notes == ()

    def test_of_the_preparation_comes_first(self, tmp_path):
        both = {"RepetitionTimePreparation": 6, "RepetitionTimeExcitation": 0.007}
        assert read_acquisition(self.files(tmp_path, **both), None, "sidecar").tr == 6000

    def test_between_readouts_is_none(self, tmp_path):
        files = self.files(tmp_path, RepetitionTime=0.007)
        with pytest.raises(BidsError, match="shorter than the longest of the inversion times"):
            read_acquisition(files, None, "sidecar")
        assert read_acquisition(files, None, 4000.0).tr == 4000  # no contradiction

    def test_that_is_missing_or_varies_is_refused(self, tmp_path, files):
        with pytest.raises(BidsError, match=r"IRT1.json has no RepetitionTimePreparation, "):
            read_acquisition(self.files(tmp_path), None, "sidecar")
        for n, path in enumerate(files):
            write_json(tmp_path / card(path), InversionTime=0.1 + n, RepetitionTime=9 + n)
        with pytest.raises(BidsError, match="RepetitionTime differs between the sidecars"):
            read_acquisition(files, None, "sidecar")

    def test_given_must_not_contradict(self, tmp_path):
        files = self.files(tmp_path, RepetitionTime=5)
        assert read_acquisition(files, None, 5010.0).tr == 5010
        with pytest.raises(BidsError, match=r"`tr` 4000 contradicts .*RepetitionTime is 5 s"):
            read_acquisition(files, None, 4000.0)

    def test_warns_of_another_readout(self, tmp_path):
        files = self.files(tmp_path, RepetitionTime=5, FlipAngle=8)
        assert "90-degree readout" in read_acquisition(files, None, "sidecar").notes[1]

    def test_goes_with_inversion_times(self, tmp_path):
        files = [str(path) for path in write_series(tmp_path, "sub-01", "MESE")]
        with pytest.raises(
            BidsError, match=r"`tr` sidecar: T2 decay takes no .* goes with inversion recovery"
        ):
            read_acquisition(files, None, "sidecar")


class TestSeveralColumns:
    """Protocols of two columns, each from its own field."""

    TABLE = np.array([[20.0, 500.0], [40.0, 500.0], [60.0, 500.0]])
    BOTH_VARY = np.array([[30.0, 200.0], [60.0, 200.0], [60.0, 600.0], [40.0, 3000.0]])

    @pytest.fixture(autouse=True)
    def model(self, monkeypatch):
        known = add_toys(monkeypatch)
        yield signal_model("spoiled_echo")
        remove_toys(known)

    def files(self, tmp_path, stem, table, field="RecoveryTime"):
        """One sidecar an image, the last row first."""
        paths = []
        for n, (angle, tr) in enumerate(table[::-1], start=1):
            path = tmp_path / f"{stem.format(n)}.json"
            write_json(path, ReadoutAngle=angle, **({field: tr / 1000} if tr else {}))
            paths.append(str(path).replace(".json", ".nii.gz"))
        return paths

    def test_one_sidecar_an_image(self, tmp_path, model):
        for table in (self.TABLE, self.BOTH_VARY):
            files = self.files(tmp_path, "sub-01_flip-{}_SET1", table)
            found = read_acquisition(files)
            assert found.protocol.model is model
            order = np.lexsort(table.T[::-1])
            np.testing.assert_allclose(found.protocol.table, table[order])
            assert found.paths == tuple(files[::-1][n] for n in order)
            assert found.fields["ReadoutAngle"] == table[order[0], 0]

    def test_lists_and_one_constant_in_the_only_sidecar(self, tmp_path):
        files = [str(tmp_path / "sub-01_SET1.nii.gz")]
        angles = {"ReadoutAngle": self.TABLE[:, 0].tolist()}
        write_json(tmp_path / "sub-01_SET1.json", **angles, RecoveryTime=0.5)
        found = read_acquisition(files)
        np.testing.assert_allclose(found.protocol.table, self.TABLE)
        assert found.constants == {"RecoveryTime": 0.5}
        write_json(tmp_path / "sub-01_SET1.json", **angles, RecoveryTime=[0.5, 0.6])
        with pytest.raises(BidsError, match="lists 2 repetition times, but there are 3 images"):
            read_acquisition(files)
        write_json(tmp_path / "sub-01_SET1.json", ReadoutAngle=20, RecoveryTime=0.5)
        with pytest.raises(BidsError, match="ReadoutAngle is a single number"):
            read_acquisition(files)

    def test_by_the_fields_where_the_names_say_nothing(self, tmp_path, model):
        assert series_model(self.files(tmp_path, "x_{}", self.TABLE)) is model
        with pytest.raises(
            BidsError, match="flip angles with `angles` and repetition times with `wai"
        ):
            series_model(self.files(tmp_path, "y_{}", self.TABLE, field="Gain"))
        write_json(tmp_path / "z.json", SaturationTime=[0.1, 0.5], ReadoutAngle=90)
        assert series_model([str(tmp_path / "z.nii")]).name == "saturation_recovery"
        write_json(tmp_path / "z.json", SaturationTime=[0.1, 0.5], InversionTime=[0.1, 0.5])
        with pytest.raises(BidsError, match="both InversionTime and SaturationTime vary"):
            series_model([str(tmp_path / "z.nii")])

    def test_each_column_is_checked(self, tmp_path, model):
        files = self.files(tmp_path, "sub-01_flip-{}_SET1", self.TABLE)
        given = Protocol("mine", model, self.TABLE[::-1])
        assert read_acquisition(files, given).protocol is given
        for d, words in enumerate(
            ["ReadoutAngle is 60, but FA 1 of", "0.5 s, but time 1 of mine is"]
        ):
            table = self.TABLE[::-1].copy()
            table[0, d] += 30
            with pytest.raises(BidsError, match=words):
                read_acquisition(files, Protocol("mine", model, table))
        path = Path(card(files[0]))
        write_json(path, ReadoutAngle=200, RecoveryTime=0.5)
        with pytest.raises(
            BidsError, match="ReadoutAngle is 200; expected flip angles from 0 to 180"
        ):
            read_acquisition(files)
        write_json(path, ReadoutAngle=60)
        with pytest.raises(BidsError, match="has no RecoveryTime"):
            read_acquisition(files)


class TestFlipAngles:
    """Variable flip angles: angles in degrees, the repetition time between excitations."""

    ANGLES = (2.0, 6.0, 12.0, 20.0, 30.0, 40.0)

    def files(self, tmp_path, pattern="sub-01_flip-{}_VFA", **fields):
        return echoes(tmp_path, pattern, **{"FlipAngle": list(self.ANGLES), **fields})

    @pytest.mark.parametrize("pattern", ["sub-01_flip-{}_VFA", "x_{}"])
    def test_by_name_and_by_the_fields(self, tmp_path, pattern):
        files = self.files(tmp_path, pattern, RepetitionTimeExcitation=0.015)
        found = read_acquisition(files[::-1])
        assert found.protocol.model.border.sequence == "vfa"
        assert found.paths == tuple(files)
        np.testing.assert_allclose(found.protocol.table, [[a, 15.0] for a in self.ANGLES])
        assert found.notes == ()

    def test_repetition_time_is_taken_for_that_of_excitations_and_said(self, tmp_path):
        found = read_acquisition(self.files(tmp_path, "x_{}", RepetitionTime=0.015))
        np.testing.assert_allclose(found.protocol.table[:, 1], 15.0)
        (note,) = found.notes
        assert "lack RepetitionTimeExcitation: RepetitionTime is taken" in note
        both = {"RepetitionTime": 2.3, "RepetitionTimeExcitation": 0.007}
        found = read_acquisition(self.files(tmp_path, **both))
        np.testing.assert_allclose(found.protocol.table[:, 1], 7.0)
        assert found.notes == ()

    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            ({"FlipAngle": None}, "sub-01_flip-1_VFA.json has no FlipAngle"),
            ({"RepetitionTimeExcitation": None}, "VFA.json has no RepetitionTimeExcitation"),
            ({"RepetitionTimeExcitation": 15.0}, "is 15, which looks like ms; expected seconds"),
            ({"RepetitionTimeExcitation": 5.0}, "is 5, which looks like ms; expected seconds"),
            ({"FlipAngle": 0.0}, "FlipAngle is 0.0; expected positive flip angles"),
            ({"FlipAngle": [0.15, 0.2, 0.3, 0.4, 0.5, 0.6]}, "looks like radians"),
            ({"FlipAngle": [0.03, 0.2, 0.3, 0.4, 0.5, 0.6]}, "looks like radians"),
        ],
    )
    def test_bad_sidecars(self, tmp_path, fields, words):
        fields = {"RepetitionTimeExcitation": 0.015, "FlipAngle": list(self.ANGLES)} | fields
        fields = {k: v for k, v in fields.items() if v is not None}
        files = echoes(tmp_path, "sub-01_flip-{}_VFA", **fields)
        with pytest.raises(ValueError, match=words):
            read_acquisition(files)
