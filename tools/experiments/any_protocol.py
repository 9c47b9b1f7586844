"""Experiment: the networks for any times against networks for one list of times and the MLE.

Protocols are those that ship, those of real series, and random ones that no network was trained on.
Patches of subjects not trained on (96 voxels of 0.85 mm, the paper's tissues) have the same kappa
for all protocols. B varies as over a slice of 256 voxels; with ``--b-field smooth`` it varies over
the patch as much as over such a slice, as if voxels were 2 mm wide. RMSE and bias are relative to
the truth: medians over voxels of one tissue.

An interrupted run is continued by the same command.

Example:
    python tools/experiments/any_protocol.py \
        --brains subject45_crisp_v.mnc.gz --brains subject46_crisp_v.mnc.gz
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from figures import PAGE, legend_below, save_figure, subplots, write_rows
from methods import Method, fit_method, networks_for
from sweep import Setup
from sweep_command import Sweep, sweep_command
from text_tables import table, write_markdown

from relaxsim.models.protocols import Protocol, random_protocol, read_protocol

TIMES = Path(__file__).parents[1] / "times"
NAMED = {
    "tis": ("cine23", "cine25", "cine31", TIMES / "barral2010.txt", TIMES / "nist3t.txt"),
    "tes": ("fse6", TIMES / "mese32.txt", TIMES / "santini_t2.txt"),
}
ANY = {"tis": "rim-t1", "tes": "rim-t2"}
#: Seed of the random protocols; shards draw theirs from other generators.
RANDOM_SEED = 20210220
SNRS = (5.0, 10.0, 30.0, 100.0)
#: Table of `compared`: `single` is the network that was trained on the list alone.
COLUMNS = {
    "protocol": ("protocol", ""),
    "snr": ("SNR", "g"),
    "rmse_any": ("RMSE any (%)", ".1f"),
    "rmse_single": ("one list", ".1f"),
    "rmse_mle": ("MLE", ".1f"),
    "any_over_single": ("any / one list", ".2f"),
    "any_over_mle": ("any / MLE", ".2f"),
    "bias_GM_any": ("bias GM any (%)", "+.1f"),
    "bias_GM_single": ("one list", "+.1f"),
    "bias_GM_mle": ("MLE", "+.1f"),
    "bias_WM_any": ("bias WM any (%)", "+.1f"),
    "bias_WM_single": ("one list", "+.1f"),
    "bias_WM_mle": ("MLE", "+.1f"),
}


def protocols_of(times: str, random: int) -> list[Protocol]:
    """Named protocols and `random` random ones, called random-1 and so on."""
    named = [read_protocol(name, times) for name in NAMED[times]]
    drawn = []
    for i in range(1, random + 1):
        rng = np.random.default_rng([RANDOM_SEED, 9, i])
        drawn.append(replace(random_protocol(rng, times), name=f"random-{i}"))
    return named + drawn


def methods_of(protocol: Protocol, files: dict[str, Path]) -> list[Method]:
    """Network for any times, that for the list alone if there is one, and the voxel-wise fit."""
    has_none = protocol.name.startswith(("random", "geometric"))
    single = () if has_none else (f"rim-{protocol.name}",)
    wanted = (ANY[option_of(protocol)], *single)
    given = {name: path for name, path in files.items() if name in wanted}
    return [*networks_for(wanted, given), fit_method("mle")]


def option_of(protocol: Protocol) -> str:
    """Option that carries the times: ``tis`` or ``tes``."""
    return protocol.model.border.columns[0].option


def setup_of(protocol: Protocol, snr: float, b_field: str = "slow") -> Setup:
    """Set-up of a protocol."""
    columns = {
        "times": option_of(protocol),
        "protocol": protocol.name,
        "images": protocol.num_images,
        "first_ms": float(protocol.tau.min()),
        "last_ms": float(protocol.tau.max()),
    }
    model = protocol.model
    return Setup(columns, tuple(protocol.tau), model, snr, b_field)


def compared(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Table of the network for any times beside the others: ratios of RMSE, biases.

    One row for each protocol and SNR. RMSE is that of grey and white matter together.
    """
    by_key = {(r["times"], r["protocol"], r["snr"], r["method"], r["tissue"]): r for r in rows}
    compared_rows = []
    for times, protocol, snr in dict.fromkeys((r["times"], r["protocol"], r["snr"]) for r in rows):

        def value(method: str, tissue: str, metric: str, key=(times, protocol, snr)) -> float:
            return by_key.get((*key, method, tissue), {}).get(metric, float("nan"))

        out: dict[str, Any] = {"times": times, "protocol": protocol, "snr": snr}
        names = {"any": ANY[times], "single": f"rim-{protocol}", "mle": "mle"}
        for short, name in names.items():
            out[f"rmse_{short}"] = value(name, "GM and WM", "rmse")
        for short in ("single", "mle"):
            out[f"any_over_{short}"] = out["rmse_any"] / out[f"rmse_{short}"]
        for tissue in ("GM", "WM"):
            for short, name in names.items():
                out[f"bias_{tissue}_{short}"] = value(name, tissue, "bias")
        compared_rows.append(out)
    return compared_rows


def verdicts(ratios: Sequence[dict[str, Any]]) -> list[str]:
    """Summary of the table of `compared`, in lines."""
    lines = []
    for times in dict.fromkeys(row["times"] for row in ratios):
        rows = [row for row in ratios if row["times"] == times]
        with_single = [row for row in rows if np.isfinite(row["any_over_single"])]
        beaten = sum(row["any_over_mle"] < 1 for row in rows)
        worst = max(rows, key=lambda row: row["any_over_mle"])
        lines.append(
            f"{ANY[times]}: RMSE below the MLE's in {beaten} of {len(rows)} cases; worst ratio "
            f"{worst['any_over_mle']:.2f} ({worst['protocol']}, SNR {worst['snr']:g})"
        )
        if with_single:
            worst = max(with_single, key=lambda row: row["any_over_single"])
            close = sum(row["any_over_single"] <= 1.1 for row in with_single)
            lines.append(
                f"{ANY[times]}: RMSE at most 1.10 times that of the network for the list in "
                f"{close} of {len(with_single)} cases; worst {worst['any_over_single']:.2f} "
                f"({worst['protocol']}, SNR {worst['snr']:g})"
            )
            excess = [(bias_excess(row), row) for row in with_single]
            most, worst = max(excess, key=lambda pair: pair[0])
            lines.append(
                f"{ANY[times]}: |bias| in GM and WM at most 1 point above that of the network "
                f"for the list in {sum(e <= 1 for e, _ in excess)} of {len(excess)} cases; worst "
                f"{most:+.1f} ({worst['protocol']}, SNR {worst['snr']:g})"
            )
    return lines


def bias_excess(row: dict[str, Any]) -> float:
    """Excess of |bias| over that of the network for the list, in points: larger of GM and WM."""
    excess = [abs(row[f"bias_{t}_any"]) - abs(row[f"bias_{t}_single"]) for t in ("GM", "WM")]
    return float(np.nanmax([*excess, -np.inf]))


def draw(rows: Sequence[dict[str, Any]], methods: dict[str, Method], metric: str, path: Path):
    """Figure of one kind of times: protocols down, SNR across, a mark for each method."""
    tissue = "GM and WM" if metric == "rmse" else None
    protocols = list(dict.fromkeys(row["protocol"] for row in rows))[::-1]
    snrs = sorted({row["snr"] for row in rows})
    height = 0.9 + 0.14 * len(protocols)
    figure, axes = subplots(1, len(snrs), PAGE, height, sharey=True, sharex=True)
    labels = {
        r["protocol"]: f"{r['protocol']} ({r['images']}: {r['first_ms']:.0f} to {r['last_ms']:.0f})"
        for r in rows
    }
    markers = {"GM and WM": "o", "GM": "o", "WM": "s"}
    for axis, snr in zip(axes[0], snrs, strict=True):
        for row in rows:
            of_figure = row["tissue"] == tissue if tissue else row["tissue"] in ("GM", "WM")
            if row["snr"] != snr or not of_figure:
                continue
            method = methods[row["method"]]
            axis.plot(
                np.clip(row[metric], *WINDOWS[metric]),
                protocols.index(row["protocol"]),
                markers[row["tissue"]],
                color=method.colour,
                markersize=3.2,
                markeredgecolor="black",
                markeredgewidth=0.25,
            )
        axis.set_title(f"SNR {snr:g}")
        axis.set_xlabel("RMSE (%)" if metric == "rmse" else "bias (%)")
        _scale(axis, metric)
        axis.set_yticks(range(len(protocols)), [labels[p] for p in protocols])
        axis.set_ylim(-0.7, len(protocols) - 0.3)
    times = rows[0]["times"]
    entries = {m.title: m.colour for name, m in methods.items() if times in _times_of(name, m)}
    lines = [_mark(markers[name], name) for name in ("GM", "WM")] if tissue is None else []
    legend_below(figure, list(entries.items()), lines)
    save_figure(figure, path)


def _mark(marker: str, label: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color="black", marker=marker, markersize=3.2, linewidth=0, label=label)


#: Figures show values within these, per cent; others are drawn at the edge.
WINDOWS = {"rmse": (0.5, 200.0), "bias": (-40.0, 40.0)}


def _scale(axis: Any, metric: str) -> None:
    if metric == "rmse":
        axis.set_xscale("log")
        axis.set_xticks([1, 10, 100], ["1", "10", "100"])
        axis.minorticks_off()
    else:
        axis.set_xscale("symlog", linthresh=2.0)
        axis.set_xticks([-20, -2, 0, 2, 20], ["-20", "-2", "0", "2", "20"])
        axis.axvline(0.0, color="black", linewidth=0.5)
        axis.minorticks_off()
    low, high = WINDOWS[metric]
    axis.set_xlim(low * (0.8 if low > 0 else 1.2), high * 1.2)


def _times_of(name: str, method: Method) -> tuple[str, ...]:
    if method.kind == "mle":
        return "tis", "tes"
    return ("tes",) if name == "rim-t2" or "fse" in name or "t2" in name else ("tis",)


@sweep_command("any_protocol", __doc__)
@click.option("--times", "kinds", multiple=True, type=click.Choice(["tis", "tes"]))
@click.option("--random", default=20, type=click.IntRange(0), help="Random protocols of each kind.")
@click.option("--snr", "snrs", multiple=True, type=float, help="Default: 5 10 30 100.")
@click.option(
    "--b-field",
    default="slow",
    type=click.Choice(["slow", "smooth"]),
    show_default=True,
    help="B varies as over a slice of 256 voxels, or as over the patch.",
)
def main(
    sweep: Sweep, kinds: tuple[str, ...], random: int, snrs: tuple[float, ...], b_field: str
) -> None:
    """Run the experiment, write its tables and draw its figures."""
    if sweep.quick:
        random, snrs = min(random, 2), snrs or (10.0,)
    field = "" if b_field == "slow" else f"_{b_field}"
    rows: list[dict[str, Any]] = []
    for times in kinds or ("tis", "tes"):
        for protocol in protocols_of(times, random):
            chosen = methods_of(protocol, sweep.files)
            for snr in snrs or SNRS:
                rows += sweep.rows(setup_of(protocol, snr, b_field), chosen)
    write_rows(sweep.path(f"{field}.csv"), rows)
    ratios = compared(rows)
    write_rows(sweep.path(f"{field}_ratios.csv"), ratios)
    for times in dict.fromkeys(row["times"] for row in rows):
        some = [row for row in rows if row["times"] == times]
        for metric in WINDOWS:
            draw(some, sweep.methods, metric, sweep.path(f"{field}_{times}_{metric}.png"))
    lines = verdicts(ratios)
    parts = [("", [f"- {line}" for line in lines])]
    for times, parameter in (("tis", "T1"), ("tes", "T2")):
        parts.append((parameter, table([r for r in ratios if r["times"] == times], COLUMNS)))
    write_markdown(sweep.path(f"{field}.md"), "Networks for any times", parts)
    for line in lines:
        click.echo(line)


if __name__ == "__main__":
    main()
