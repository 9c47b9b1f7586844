"""A small part of the campaign of hostile inputs; tools/torture.py runs more of it."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="copies of the process, and /proc")


@pytest.fixture(scope="module")
def torture():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "tools")
        import torture

        yield torture


@pytest.fixture(scope="module")
def stock(torture, tmp_path_factory):
    from torture_files import make_stock
    from torture_run import preload

    preload(heavy=False)
    return make_stock(tmp_path_factory.mktemp("stock"), networks=False)


def faults(outcomes):
    return [(o.part, o.number, o.what, o.faults) for o in outcomes if o.faults]


@pytest.mark.parametrize(
    ("part", "numbers"),
    [
        ("predict", range(60)),
        ("nifti", range(25)),
        ("sidecars", range(12)),
    ],
)
def test_hostile_inputs_end_as_they_have_to(torture, stock, part, numbers):
    outcomes = [torture.attempt(part, number, 1, stock) for number in numbers]
    assert faults(outcomes) == []
    codes = [outcome.code for outcome in outcomes]
    assert codes.count(2) >= len(numbers) // 4
    if part == "predict":
        assert codes.count(0) >= 5
        assert codes.count(2) >= 30


def test_killed_predict_goes_on(torture, stock):
    from torture_kills import JOBS

    number = list(JOBS).index("predict")
    outcomes = [torture.attempt("kills", number + i * len(JOBS), 0, stock) for i in range(2)]
    assert faults(outcomes) == []


def test_faults_are_seen(stock, tmp_path):
    """The run would notice a wrong result, a traceback, a word of a library, and what is left."""
    from torture_files import mle, series
    from torture_run import MAPPED, REFUSED, Ended, Try, faults_of, listing, run

    series(tmp_path)
    sound = mle("s.nii")
    assert run(Try("sound", sound, REFUSED), tmp_path)[1] == ["expected to be refused"]
    assert run(Try("again", sound, MAPPED), tmp_path)[1] == ["expected to be mapped"]

    before = listing(tmp_path)
    (tmp_path / "left").write_text("")
    text = (
        "a.py:3: RuntimeWarning: overflow\n"
        'Traceback (most recent call last):\n  File "/x/relaxnet/a.py", line 3, in fit\n'
        "KeyError: 'magic'\n"
    )
    broken = Ended(1, "", text, 0.1, 0.1, 10**6)
    found = faults_of(Try("broken", sound), broken, tmp_path, before)
    assert "exit code 1" in found
    assert "traceback: KeyError in relaxnet/a.py:fit" in found
    assert any(kind.startswith("noise: ") for kind in found)

    refused = Ended(2, "", "Error: a\nError: b\n", 50.0, 50.0, 3 * 10**9)
    found = faults_of(Try("refused", sound), refused, tmp_path, before)
    assert "2 error lines" in found
    assert "takes more than 10 s to refuse" in found
    assert "takes more than 2 GB" in found
    assert any(kind.startswith("refused, and leaves") for kind in found)


def test_half_written_files_are_seen(stock, tmp_path):
    from torture_compare import Reference, UnreadableError, leaves

    stock.copy("maps", tmp_path)
    whole = leaves(tmp_path, "maps")
    reference = Reference(whole, whole, 1.0, 1)
    assert reference.differences(leaves(tmp_path, "maps")) == []
    (tmp_path / "maps" / "status.json").unlink()
    assert reference.differences(leaves(tmp_path, "maps")) == ["lacks maps/status.json"]
    path = tmp_path / "maps" / "T1map.nii.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UnreadableError, match="half written"):
        leaves(tmp_path, "maps")


def test_shards_are_rewritten_with_their_checksums(stock, tmp_path):
    """What is changed in a shard is no fault of its checksum: unchanged, it is sound."""
    import torture_shards
    from torture_run import MAPPED, Try, run

    path = stock.copy("small", tmp_path) / torture_shards.FIRST
    torture_shards._change(path)
    assert run(Try("sound", ("relaxsim", "verify", "small"), MAPPED), tmp_path)[1] == []


def test_options_of_every_command_are_tried(stock, tmp_path):
    import click
    import torture_options

    from relaxnet.cli import main as relaxnet
    from relaxsim.cli import main as relaxsim

    listed = {name.split()[1] for name in torture_options.COMMANDS}
    commands = {*relaxnet.commands, *relaxsim.commands} - {"fetch-brainweb"}
    assert listed == commands
    for name, arguments in torture_options.COMMANDS.items():
        command = torture_options._command(name)
        assert isinstance(command, click.Command)
        command.make_context(name, arguments.split())


def test_a_number_draws_one_try(torture, stock, tmp_path):
    from torture_nifti import make

    drawn = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        drawn.append(make(torture.generator(3, "nifti", 8), tmp_path / name, stock))
    assert drawn[0] == drawn[1]
    raw = [sorted((p.name, p.read_bytes()) for p in (tmp_path / n).iterdir()) for n in ("a", "b")]
    assert raw[0] == raw[1]
