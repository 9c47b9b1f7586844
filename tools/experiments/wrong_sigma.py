"""Experiment: what a wrong noise level costs.

Methods are told half and twice the true standard deviation. The voxel-wise fit does not use it;
networks and the fit with a regularised B do.

Example:
    python tools/experiments/wrong_sigma.py --brains subject45_crisp_v.mnc.gz
"""

from __future__ import annotations

from pathlib import Path

import click
from any_protocol import methods_of
from figures import COLUMN, PAGE, write_rows
from kept import Rows, cache_option, out_option
from methods import Method, fit_method, models_option, parse_files
from patches import QUICK_SIZE, SIZE, draw_places
from slices import PROTOCOLS, brains_option, quick_option, seed_option
from sweep import Panel, Setup, draw_panels, measured, score_table
from text_tables import write_markdown

from relaxnet.command import one_line_errors
from relaxsim.protocols import read_protocol
from relaxsim.signals import model_for_times

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
SNRS = (5.0, 30.0, 100.0)


def panels(rows: Rows) -> list[Panel]:
    """RMSE along the factor, a panel for each protocol and SNR."""
    out = []
    for protocol, snr in dict.fromkeys((row["protocol"], row["snr"]) for row in rows):
        own = [r for r in rows if (r["protocol"], r["snr"]) == (protocol, snr)]
        title, label = f"{protocol}, SNR {snr:g}", "sigma told / true sigma"
        out.append(Panel(title, own, "factor", label, "rmse", x_log=True, y_log=True))
    return out


def growth(rows: Rows) -> list[str]:
    """Lines: the most that RMSE grows between half and twice the true sigma."""
    key = ("protocol", "snr", "method", "tissue")
    right = {tuple(r[k] for k in key): r["rmse"] for r in rows if r["factor"] == 1.0}
    lines = []
    for name in dict.fromkeys(row["method"] for row in rows):
        grown = {
            (r["protocol"], r["snr"], r["tissue"], r["factor"]): r["rmse"]
            / right[tuple(r[k] for k in key)]
            for r in rows
            if r["method"] == name and 0.5 <= r["factor"] <= 2 and r["tissue"] in ("GM", "WM")
        }
        where = max(grown, key=grown.__getitem__)
        protocol, snr, tissue, factor = where
        lines.append(
            f"{name}: RMSE grows by at most {100 * (grown[where] - 1):.0f} % between half and "
            f"twice the true sigma ({protocol}, SNR {snr:g}, {tissue}, factor {factor:g})"
        )
    return lines


@click.command(help=__doc__)
@brains_option
@click.option("--patches", default=12, type=click.IntRange(1), help="Draws of kappa.")
@click.option("--repeats", default=2, type=click.IntRange(2), help="Draws of noise.")
@models_option
@seed_option
@quick_option
@cache_option
@out_option
@one_line_errors
def main(
    brains: tuple[Path, ...],
    patches: int,
    repeats: int,
    models: tuple[str, ...],
    seed: int,
    quick: bool,
    cache: Path,
    out: Path,
) -> None:
    """Run the experiment, write its table and draw its figure."""
    patches, size = (min(patches, 2), QUICK_SIZE) if quick else (patches, SIZE)
    places = draw_places(brains, patches, seed, size)
    files, stem = parse_files(models), f"{'quick_' if quick else ''}wrong_sigma"
    rows: Rows = []
    methods: dict[str, Method] = {}
    for name in ("cine31", "fse6"):
        protocol = read_protocol(name, PROTOCOLS[name])
        model = model_for_times(protocol.times)
        chosen = [m for m in methods_of(protocol, files) if m.kind != "mle"]
        chosen += [fit_method("mle-500")] if "B" in model.parameters else []
        methods |= {method.name: method for method in chosen}
        for snr in SNRS[1:2] if quick else SNRS:
            for factor in FACTORS[1:4] if quick else FACTORS:
                columns = {"protocol": name, "factor": factor}
                setup = Setup(columns, tuple(protocol.tau), model, snr, wrong=factor)
                for method in chosen:
                    rows += measured("wrong_sigma", setup, method, places, repeats, seed, cache)
    write_rows(out / f"{stem}.csv", rows)
    draw_panels(
        panels(rows), methods, out / f"{stem}.png", 1 if quick else 3, COLUMN if quick else PAGE
    )
    lines = growth(rows)
    keys = {"protocol": "protocol", "factor": "sigma told / true"}
    parts = [("", [f"- {line}" for line in lines]), ("", score_table(rows, keys))]
    write_markdown(out / f"{stem}.md", "A wrong noise level", parts)
    for line in lines:
        click.echo(line)


if __name__ == "__main__":
    main()
