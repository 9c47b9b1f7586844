"""Command line of relaxnet export."""

from __future__ import annotations

from pathlib import Path

import click

from relaxnet.cli.signal_model_options import protocol_options
from relaxnet.cli.tensorflow_import import import_tensorflow
from relaxsim.core.errors import in_flags, one_line_errors
from relaxsim.core.options import LateCommand


@click.command(cls=LateCommand, late_options=protocol_options)
@click.argument("model", metavar="MODEL")
@click.option(
    "--format",
    default="saved_model",
    type=click.Choice(["saved_model", "onnx"]),
    help="Folder for TensorFlow, or ONNX file (needs the extra onnx).",
)
@click.option("--units", default="ms", type=click.Choice(["ms", "s"]), help="Of the times' file.")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Folder, or file for onnx."
)
@click.option("--signed", is_flag=True, help="For inversion recovery with the signal's sign.")
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
@one_line_errors
def export(
    model: str,
    format: str,
    units: str,
    out: Path,
    signed: bool,
    overwrite: bool,
    sequence: str,
    **columns: str | None,
) -> None:
    """Export a network (FILE or NAME) for one fixed protocol.

    The export takes S (1, h, w, N), the moduli of a slice (with --signed its images) divided by the
    series' scale, and sigma (1,), the noise divided by it; it gives kappa (1, h, w, Q). A JSON file
    beside it says what the caller does around it.

    \b
    Examples:
      relaxnet export rim-t1 --tis cine31.txt --out rim-t1-cine31
      relaxnet export rim-t2 --format onnx --tes fse6 --out rim-t2-fse6.onnx
    """  # noqa: D301
    from relaxsim.models.protocols import read_protocol
    from relaxsim.models.registry import chosen_model

    signal_model = chosen_model(columns, sequence)
    protocol = read_protocol(columns, signal_model, units)
    import_tensorflow()
    from relaxnet.networks.export import export_network

    for warning in export_network(model, protocol, out, format, overwrite, signed):
        click.echo(f"warning: outside of what the network was trained for: {in_flags(warning)}")
    click.echo(f"{out}: {model} for {protocol.num_images} {protocol.words} of {protocol.name}")
