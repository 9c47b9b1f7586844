"""Experiment: what a wrong noise level costs.

Methods are told half and twice the true standard deviation. The voxel-wise fit does not use it;
networks and the fit with a regularised B do.

Example:
    python tools/experiments/wrong_sigma.py --brains subject45_crisp_v.mnc.gz
"""

from __future__ import annotations

import click
from any_protocol import methods_of
from figures import COLUMN, PAGE, write_rows
from kept import Rows
from methods import fit_method
from slices import PROTOCOLS
from sweep import Panel, Setup, draw_panels, score_table
from sweep_command import Sweep, sweep_command
from text_tables import write_markdown

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


@sweep_command("wrong_sigma", __doc__)
def main(sweep: Sweep) -> None:
    """Run the experiment, write its table and draw its figure."""
    rows: Rows = []
    for name in ("cine31", "fse6"):
        protocol = read_protocol(name, PROTOCOLS[name])
        model = model_for_times(protocol.times)
        chosen = [m for m in methods_of(protocol, sweep.files) if m.kind != "mle"]
        chosen += [fit_method("mle-500")] if "B" in model.parameters else []
        for snr in SNRS[1:2] if sweep.quick else SNRS:
            for factor in FACTORS[1:4] if sweep.quick else FACTORS:
                columns = {"protocol": name, "factor": factor}
                setup = Setup(columns, tuple(protocol.tau), model, snr, wrong=factor)
                rows += sweep.rows(setup, chosen)
    write_rows(sweep.path(".csv"), rows)
    columns, width = (1, COLUMN) if sweep.quick else (3, PAGE)
    draw_panels(panels(rows), sweep.methods, sweep.path(".png"), columns, width)
    lines = growth(rows)
    keys = {"protocol": "protocol", "factor": "sigma told / true"}
    parts = [("", [f"- {line}" for line in lines]), ("", score_table(rows, keys))]
    write_markdown(sweep.path(".md"), "A wrong noise level", parts)
    for line in lines:
        click.echo(line)


if __name__ == "__main__":
    main()
