"""Command line of relaxsim phantom."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from relaxsim.cli.options import (
    SNR,
    VOXEL_SIZE,
    b_field,
    chosen_protocol,
    column_options,
    noise,
    tissues,
)
from relaxsim.core.errors import one_line_errors
from relaxsim.core.options import FILE, LateCommand, Number, Positive, options
from relaxsim.phantoms.tables import plate_arrays

#: Subject of the built-in head that phantoms take: none of those that generate takes.
SUBJECT = 1000

_series = options(
    click.option("--out", default="phantom", type=FILE, help="Folder, made if missing."),
    click.option("--snr", default=10.0, type=SNR, help="0.75 / sigma, in units of CSF's A."),
    click.option("--repeats", default=4, type=click.IntRange(1, 10000), help="Noise draws."),
    click.option(
        "--seed",
        default=0,
        type=click.IntRange(0, 2**32 - 1),
        help="Seed of tissue values, of the parameter that neighbours share, and of noise.",
    ),
    noise,
    b_field,
    click.option(
        "--tr",
        type=Positive(),
        help="Repetition time in ms, on which A and B of inversion recovery depend together with "
        "T1. Default: infinite.",
    ),
    click.option("--overwrite", is_flag=True, help="Replace files that are there."),
)
_head = options(
    click.option(
        "--brain",
        type=FILE,
        metavar="PATH",
        help="Label volume (.mnc .rawb .bin .nii, also .gz). Default: the built-in head.",
    ),
    click.option(
        "--subject",
        default=SUBJECT,
        type=click.IntRange(0, 2**32 - 1),
        help="Of the built-in head.",
    ),
    click.option(
        "--slice",
        "middle",
        type=click.IntRange(0),
        help="Middle slice, counted in the label volume. Default: through the lateral ventricles "
        "and the body of the corpus callosum.",
    ),
    click.option("--slices", "num_slices", default=1, type=click.IntRange(1, 500), help="Number."),
    click.option("--voxel-size", default=0.85, type=VOXEL_SIZE, help="In the plane, mm."),
    click.option(
        "--thickness",
        type=Number(0.2, 20),
        help="Of a slice, mm. Default: the voxel size.",
    ),
    click.option("--matrix", default=256, type=click.IntRange(8, 1024), help="Rows and columns."),
    click.option("--crisp", is_flag=True, help="One tissue a voxel instead of partial volumes."),
    click.option(
        "--spread",
        default=0.03,
        type=Number(0, 0.2),
        help="Voxel-wise variation inside a tissue, share of its value.",
    ),
    tissues,
)


@click.group()
def phantom() -> None:
    """Write evaluation series (NIfTI) with truth maps, masks and labels.

    \b
    Each folder holds
      rep-1_series.nii.gz ...    the weighted images with noise; protocol and noise in the .json
      times.txt                  the times in ms, for relaxnet predict --tis or --tes
                                 (of several columns a file each, named by its option)
      T1map (or T2map), M0map, Bmap   the truth, in ms; 0 in the background
      mask, labels, purity       brain or spheres; tissues or sphere numbers; share of the label

    The truth of a voxel with several tissues is the single compartment with the place's B that is
    nearest to its signal; in an evaluation, leave such voxels out by their purity.
    """  # noqa: D301


@phantom.command(cls=LateCommand, late_options=column_options)
@_series
@_head
@one_line_errors
def brain(**fields: Any) -> None:
    """Write a slice or slab of a head.

    \b
    Examples:
      relaxsim phantom brain --tis cine31 --snr 10 --repeats 4 --out brain
      relaxsim phantom brain --tes fse6 --brain subject45_crisp_v.mnc.gz --slices 10 --thickness 3
    """  # noqa: D301
    _write(_brain(fields), fields)


@phantom.command(cls=LateCommand, late_options=column_options)
@_series
@_head
@one_line_errors
def structures(**fields: Any) -> None:
    """Write a brain slice with four small structures, and its twin without.

    The structures: a point of 400 ms in grey matter; a point, a vertical and a horizontal line of
    1200 ms in white matter (T2: 31 and 123 ms, T2*: 19 and 82). The folder E1 holds the twin with
    the same noise; structure and neighborhood are masks of all four, structure-1 ... of each.
    """
    from relaxsim.phantoms.structures import with_structures

    twin = _brain(fields)
    _write(with_structures(twin), fields, twin)


@phantom.command(cls=LateCommand, late_options=column_options)
@_series
@click.option(
    "--array",
    type=click.Choice(plate_arrays()),
    help="T1: NiCl2, T2: MnCl2. Default: that of the parameter that the sequence measures.",
)
@click.option("--voxel-size", default=1.0, type=VOXEL_SIZE, help="In the plane, mm.")
@click.option("--matrix", default=210, type=click.IntRange(8, 1024), help="Rows and columns.")
@click.option(
    "--spread",
    default=0.0,
    type=Number(0, 0.2),
    help="Voxel-wise variation inside a sphere, share of its value.",
)
@one_line_errors
def plate(**fields: Any) -> None:
    """Write 14 spheres with the nominal T1 and T2 of the NIST/ISMRM phantom.

    Their A is 1. Labels 1 to 14 number the spheres, 15 is the water around them; pure is a mask
    of the spheres' voxels without partial volume.
    """
    from relaxsim.phantoms.phantoms import plate_phantom

    protocol, rng = _draws(fields)
    main, arrays = protocol.model.main, plate_arrays()
    array = fields["array"] or (main if main in arrays else arrays[0])
    names = ("voxel_size", "matrix", "b_field", "tr", "spread")
    options_of_plate = {name: fields[name] for name in names}
    _write(plate_phantom(array, protocol.table, protocol.model, rng, **options_of_plate), fields)


def _draws(fields: dict[str, Any]) -> tuple[Any, Any]:
    """Protocol and random generator of the options, checked."""
    import numpy as np

    from relaxsim.models.protocols import read_protocol
    from relaxsim.models.registry import finite_tr_of
    from relaxsim.phantoms.files import check_free

    model, columns = chosen_protocol(fields)
    protocol = read_protocol(columns, model)
    if fields["tr"] is not None:
        finite_tr_of(model).check(fields["tr"], protocol.table)
    if not fields["overwrite"]:
        check_free(fields["out"], model)
    return protocol, np.random.default_rng([fields["seed"], 0])


def _brain(fields: dict[str, Any]) -> Any:
    """Brain phantom of the options."""
    from relaxsim.anatomy.anatomy import builtin_head, head_voxel, load_anatomy
    from relaxsim.phantoms.phantoms import brain_phantom
    from relaxsim.simulation.tissues import read_tissues

    protocol, rng = _draws(fields)
    table = read_tissues(fields["tissues"] or protocol.model.border.tissues)
    if fields["brain"] is not None:
        anatomy = load_anatomy(fields["brain"])
    else:
        click.echo(f"Anatomy: the built-in head, subject {fields['subject']} (no --brain given)")
        size = fields["voxel_size"]
        anatomy = builtin_head(fields["subject"], head_voxel((size, size)))
    names = ("voxel_size", "matrix", "middle", "num_slices", "thickness", "crisp", "b_field")
    options_of_brain = {name: fields[name] for name in (*names, "tr", "spread")}
    return brain_phantom(anatomy, protocol.table, protocol.model, table, rng, **options_of_brain)


def _write(phantom: Any, fields: dict[str, Any], twin: Any = None) -> None:
    from relaxsim.phantoms.files import write_phantom

    out: Path = fields["out"]
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
    paths = write_phantom(
        phantom,
        out,
        fields["snr"],
        fields["repeats"],
        fields["seed"],
        fields["noise"],
        {"CommandLine": command},
        twin,
        fields["overwrite"],
    )
    shape = " x ".join(map(str, phantom.signal.shape))
    click.echo(f"{out}: {len(paths)} series of {shape} at SNR {fields['snr']:g}, and their truth")
