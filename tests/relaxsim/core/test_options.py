import click
from click.testing import CliRunner

from relaxsim.core.errors import in_flags, one_line_errors
from relaxsim.core.options import LateCommand


def late_options():
    return [click.Option(["--tis", "times"], multiple=True, help="Times.")]


@click.command(cls=LateCommand, late_options=late_options)
@click.option("--out", default="x")
@one_line_errors
def command(times, out):
    """An example."""
    raise ValueError(f"`tis` and `times` {' '.join(times)}: give another `out`, not `other`")


def test_options_that_are_found_late_come_first():
    text = CliRunner().invoke(command, ["--help"]).output
    assert 0 < text.index("--tis") < text.index("--out")
    result = CliRunner().invoke(command, ["--tis", "1", "--tis", "2"])
    assert result.exit_code == 2
    assert "Error: --tis and --tis 1 2: give another --out, not other" in result.output


def test_arguments_are_flags_by_both_of_their_names():
    assert in_flags("`tis` `times` `out`", command) == "--tis --tis --out"
