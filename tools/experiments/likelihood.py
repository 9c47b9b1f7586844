"""Experiment: Rician noise at low SNR, with the Gaussian and with the Rician likelihood.

Magnitude images have Rician noise. Compared are voxel-wise fits with either likelihood, and
networks that were trained on Gaussian noise or on both kinds.

Example:
    python tools/experiments/likelihood.py --brains subject45_crisp_v.mnc.gz
"""

from __future__ import annotations

from any_protocol import methods_of
from figures import PAGE, write_rows
from kept import Rows
from methods import fit_method
from slices import PROTOCOLS
from sweep import Panel, Setup, draw_panels, score_table
from sweep_command import Sweep, sweep_command
from text_tables import write_markdown

from relaxsim.models.protocols import read_protocol

SNRS = (2.0, 3.0, 4.0, 5.0, 10.0)


def panels(rows: Rows) -> list[Panel]:
    """Bias and RMSE along the SNR, for each protocol."""
    out = []
    for protocol in dict.fromkeys(row["protocol"] for row in rows):
        chosen = [r for r in rows if r["protocol"] == protocol]
        for metric in ("bias", "rmse"):
            out.append(
                Panel(protocol, chosen, "snr", "SNR", metric, x_log=True, y_log=metric == "rmse")
            )
    return out


@sweep_command("likelihood", __doc__, repeats=4)
def main(sweep: Sweep) -> None:
    """Run the experiment, write its table and draw its figure."""
    rows: Rows = []
    for name in ("cine31", "fse6"):
        protocol = read_protocol(name, PROTOCOLS[name])
        chosen = [*methods_of(protocol, sweep.files), fit_method("mle-rician")]
        for snr in SNRS[::3] if sweep.quick else SNRS:
            model = protocol.model
            setup = Setup({"protocol": name}, tuple(protocol.tau), model, snr, noise="rician")
            rows += sweep.rows(setup, chosen)
    write_rows(sweep.path(".csv"), rows)
    lines = score_table(rows, {"protocol": "protocol"})
    write_markdown(sweep.path(".md"), "Rician noise at low SNR", [("", lines)])
    draw_panels(panels(rows), sweep.methods, sweep.path(".png"), 2, PAGE)


if __name__ == "__main__":
    main()
