"""Experiment: T1 where B is far from most of the training data.

First B varies from 1.2 to 2.0 with infinite TR, one value for a patch; then the inversion is
perfect and TR varies from 1000 ms on (where it is longer than the longest inversion time), so that
B depends on T1. Measured are the relative bias and RMSE of T1 in grey and white matter. With times
that end early (cine31, nist3t) no method can well distinguish a low B from a long T1; with
"geometric", ten times from 50 to 4000 ms, methods can.

Example:
    python tools/experiments/inversion.py --brains subject45_crisp_v.mnc.gz
"""

from __future__ import annotations

import click
import numpy as np
from any_protocol import NAMED, methods_of
from figures import PAGE, write_rows
from kept import Rows
from sweep import Panel, Setup, draw_panels, score_table
from sweep_command import Sweep, sweep_command
from text_tables import write_markdown

from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY
from relaxsim.models.protocols import Protocol, read_protocol

B_VALUES = (1.2, 1.4, 1.6, 1.8, 2.0)
#: ms; 0 means infinite.
REPETITION_TIMES = (1000.0, 1500.0, 2500.0, 5000.0, 0.0)
#: Protocols by name, and files of times; besides them there is `GEOMETRIC`.
PROTOCOLS = ("cine31", *NAMED["tis"][3:])
GEOMETRIC = Protocol(
    "geometric", INVERSION_RECOVERY, np.geomspace(50.0, 4000.0, 10).round(1)[:, None]
)
SNRS = (30.0, 100.0)
#: Largest bias that is aimed at, per cent.
ASKED = 3.0


def setups(protocol: Protocol, snr: float, quick: bool) -> list[Setup]:
    """Set-ups: one for each B, then one for each TR."""
    step = 2 if quick else 1
    common = {"tau": tuple(protocol.tau), "model": INVERSION_RECOVERY, "snr": snr}
    out = []
    for B in B_VALUES[::step]:
        columns = {"protocol": protocol.name, "varied": "B", "value": B}
        out.append(Setup(columns, b_field=B, **common))
    longest = float(protocol.tau.max())
    for tr in [t for t in REPETITION_TIMES[::step] if not 0 < t < longest]:
        columns = {"protocol": protocol.name, "varied": "TR", "value": tr}
        out.append(Setup(columns, b_field=2.0, tr=tr or None, **common))
    return out


def panels(rows: Rows, metric: str) -> list[Panel]:
    """Two panels for each protocol: along B, along TR."""
    out = []
    band = (-ASKED, ASKED) if metric == "bias" else None
    for protocol in dict.fromkeys(row["protocol"] for row in rows):
        for varied, label in (("B", "B"), ("TR", "TR (ms), B = 2 without saturation")):
            chosen = [
                {
                    **r,
                    "value": (
                        "infinite" if varied == "TR" and not r["value"] else f"{r['value']:g}"
                    ),
                }
                for r in rows
                if (r["protocol"], r["varied"]) == (protocol, varied)
            ]
            out.append(
                Panel(protocol, chosen, "value", label, metric, y_log=metric == "rmse", band=band)
            )
    return out


@sweep_command("inversion", __doc__)
@click.option("--snr", "snrs", multiple=True, type=float, help="Default: 30 100.")
def main(sweep: Sweep, snrs: tuple[float, ...]) -> None:
    """Run the experiment, write its table and draw its figures."""
    rows: Rows = []
    protocols = [GEOMETRIC, *(read_protocol(name, "tis") for name in PROTOCOLS)]
    for protocol in protocols[:1] if sweep.quick else protocols:
        chosen = methods_of(protocol, sweep.files)
        for snr in snrs or (SNRS[1:] if sweep.quick else SNRS):
            for setup in setups(protocol, snr, sweep.quick):
                rows += sweep.rows(setup, chosen)
    write_rows(sweep.path(".csv"), rows)
    for snr in dict.fromkeys(row["snr"] for row in rows):
        some = [row for row in rows if row["snr"] == snr]
        for metric in ("bias", "rmse"):
            path = sweep.path(f"_snr{snr:g}_{metric}.png")
            draw_panels(panels(some, metric), sweep.methods, path, 2, PAGE)
    lines = verdicts(rows)
    keys = {"protocol": "protocol", "varied": "varied", "value": "B or TR (ms; 0: infinite)"}
    parts = [("", [f"- {line}" for line in lines]), ("", score_table(rows, keys))]
    write_markdown(sweep.path(".md"), "B far from 2, and short TR", parts)
    for line in lines:
        click.echo(line)


def verdicts(rows: Rows) -> list[str]:
    """Lines: in how many cases the bias of each method is small enough, and its worst case."""
    lines = []
    for name in dict.fromkeys(row["method"] for row in rows):
        chosen = [r for r in rows if r["method"] == name and r["tissue"] in ("GM", "WM")]
        worst = max(chosen, key=lambda r: abs(r["bias"]))
        small = sum(abs(r["bias"]) <= ASKED for r in chosen)
        lines.append(
            f"{name}: |bias| within {ASKED:g} % in {small} of {len(chosen)} cases; worst "
            f"{worst['bias']:+.1f} % ({worst['protocol']}, SNR {worst['snr']:g}, "
            f"{worst['tissue']}, {worst['varied']} {worst['value']:g})"
        )
    return lines


if __name__ == "__main__":
    main()
