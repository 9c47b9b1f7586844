"""Experiment: Rician noise at low SNR, with the Gaussian and with the Rician likelihood.

Magnitude images have Rician noise. Fits of either likelihood, voxel by voxel, and networks, which
were trained on Gaussian noise or on both.

Example:
    python tools/experiments/likelihood.py --brains subject45_crisp_v.mnc.gz
"""

from __future__ import annotations

from pathlib import Path

import click
from any_protocol import methods_of
from figures import PAGE, write_rows
from kept import Rows, cache_option, out_option
from methods import Method, fit_method, models_option, parse_files
from patches import QUICK_SIZE, SIZE, draw_places
from slices import PROTOCOLS, brains_option, quick_option, seed_option
from sweep import Panel, Setup, draw_panels, measured, score_table
from text_tables import write_markdown

from relaxnet.command import one_line_errors
from relaxsim.protocols import read_protocol
from relaxsim.signals import model_for_times

SNRS = (2.0, 3.0, 4.0, 5.0, 10.0)


def panels(rows: Rows) -> list[Panel]:
    """Bias and RMSE along the SNR, for each protocol."""
    out = []
    for protocol in dict.fromkeys(row["protocol"] for row in rows):
        own = [r for r in rows if r["protocol"] == protocol]
        for metric in ("bias", "rmse"):
            out.append(
                Panel(protocol, own, "snr", "SNR", metric, x_log=True, y_log=metric == "rmse")
            )
    return out


@click.command(help=__doc__)
@brains_option
@click.option("--patches", default=12, type=click.IntRange(1), help="Draws of kappa.")
@click.option("--repeats", default=4, type=click.IntRange(2), help="Draws of noise.")
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
    if quick:
        patches, repeats = min(patches, 2), 2
    places = draw_places(brains, patches, seed, QUICK_SIZE if quick else SIZE)
    files, stem = parse_files(models), f"{'quick_' if quick else ''}likelihood"
    rows: Rows = []
    methods: dict[str, Method] = {}
    for name in ("cine31", "fse6"):
        protocol = read_protocol(name, PROTOCOLS[name])
        chosen = [*methods_of(protocol, files), fit_method("mle-rician")]
        methods |= {method.name: method for method in chosen}
        for snr in SNRS[::3] if quick else SNRS:
            model = model_for_times(protocol.times)
            setup = Setup({"protocol": name}, tuple(protocol.tau), model, snr, noise="rician")
            for method in chosen:
                rows += measured("likelihood", setup, method, places, repeats, seed, cache)
    write_rows(out / f"{stem}.csv", rows)
    lines = score_table(rows, {"protocol": "protocol"})
    write_markdown(out / f"{stem}.md", "Rician noise at low SNR", [("", lines)])
    draw_panels(panels(rows), methods, out / f"{stem}.png", 2, PAGE)


if __name__ == "__main__":
    main()
