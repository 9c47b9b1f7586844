"""Experiment: the networks for any protocol of a sequence against the voxel-wise fit.

Random protocols that no network was trained on, patches of subjects not trained on (96 voxels of
0.85 mm, the tissue table of the sequence), Rician noise. SNR is that of the brightest image: its
median over grey and white matter, divided by sigma. RMSE and bias are relative to the truth and
medians over the voxels of one tissue; coverage is the share of all brain voxels of one tissue whose
interval holds the truth. Known maps (B1) are given as they are, or off by ``--known-error``.

An interrupted run is continued by the same command.

Example:
    python tools/experiments/sequences.py \
        --brains subject45_crisp_v.mnc.gz --brains subject46_crisp_v.mnc.gz
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from figures import write_rows
from kept import Rows, kept_rows
from methods import Method, fit_method, networks_for
from patches import Patches, simulate
from sweep_command import Sweep, sweep_command
from text_tables import table, write_markdown

from relaxnet.evaluation.metrics import by_tissue
from relaxnet.fitting.options import VOXELWISE
from relaxnet.maps.maps import Maps
from relaxnet.prediction.arrays import predict
from relaxsim.models.protocols import Protocol, random_protocol
from relaxsim.models.registry import model_of
from relaxsim.simulation.noise import add_noise

#: Network of each sequence.
NETWORKS = {
    "t2star": "rim-t2star",
    "vfa": "rim-vfa",
    "look-locker": "rim-look-locker",
    "ir": "rim-t1",
    "t2": "rim-t2",
    "mese": "rim-mese",
}
#: Seed of the random protocols; shards draw theirs from other generators.
RANDOM_SEED = 20261201
SNRS = (5.0, 10.0, 30.0, 100.0)
TISSUES = {"GM": (2,), "WM": (3,), "GM and WM": (2, 3)}
COLUMNS = {
    "protocol": ("protocol", ""),
    "images": ("images", "g"),
    "snr": ("SNR", "g"),
    "rmse_network": ("RMSE network (%)", ".1f"),
    "rmse_fit": ("fit", ".1f"),
    "ratio": ("network / fit", ".2f"),
    "bias_GM": ("bias GM (%)", "+.1f"),
    "bias_WM": ("bias WM (%)", "+.1f"),
    "within_68": ("in 68 % (%)", ".0f"),
    "within_95": ("in 95 % (%)", ".0f"),
}


def sigma_of(brains: Patches, snr: float) -> float:
    """Noise at an SNR of the brightest image."""
    inside = brains.pure & np.isin(brains.labels, TISSUES["GM and WM"])
    return float(np.median(brains.clean[inside], axis=0).max()) / snr


def protocols_of(sequence: str, number: int) -> list[Protocol]:
    """Random protocols, called random-1 and so on."""
    model = model_of(sequence)
    drawn = []
    for i in range(1, number + 1):
        rng = np.random.default_rng([RANDOM_SEED, 9, i])
        drawn.append(replace(random_protocol(rng, model), name=f"random-{i}"))
    return drawn


def mapped(
    method: Method, brains: Patches, S: np.ndarray, protocol: Protocol, sigma: float, factor: float
) -> Iterator[Maps]:
    """Maps of each patch; its known maps times `factor`."""
    network = method.network
    for i, (series, labels) in enumerate(zip(S, brains.labels, strict=True)):
        known = None if brains.known is None else factor * brains.known[i][:, :, None]
        yield predict(
            *(series[:, :, None], protocol.table, protocol.model, method.kind, network),
            sigma=sigma,
            mask=(labels > 0)[:, :, None],
            signed=False,
            fit=method.fit,
            known=known,
        )


def measured(
    method: Method,
    brains: Patches,
    protocol: Protocol,
    snr: float,
    repeats: int,
    seed: int,
    factor: float,
) -> Rows:
    """Rows of a method: RMSE, bias and coverage of each tissue."""
    sigma, T, std, status, shared = sigma_of(brains, snr), [], [], [], []
    factor_95 = method.interval_factor
    for repeat in range(repeats):
        rng = np.random.default_rng([seed, round(100 * snr), repeat])
        S = add_noise(brains.clean, sigma, rng, "rician")
        all_maps = list(mapped(method, brains, S, protocol, sigma, factor))
        T.append(np.stack([maps.main[:, :, 0] for maps in all_maps]))
        std.append(np.stack([_std(maps) for maps in all_maps]))
        status.append(np.stack([maps.status[:, :, 0] for maps in all_maps]))
        if (q := protocol.model.shared_index) is not None:
            found = np.stack([maps.kappa[:, :, 0, q] for maps in all_maps])
            shared.append(100.0 * (found / brains.kappa[..., q] - 1))
    estimates, deviations = np.stack(T), np.stack(std)
    truth, pure = brains.kappa[..., -1], brains.pure
    patch = np.broadcast_to(np.arange(len(pure))[:, None, None], pure.shape)[pure]
    scores = by_tissue(estimates[:, pure], truth[pure], brains.labels[pure], patch, TISSUES)
    error = np.abs(estimates - truth)
    rows = []
    for tissue, metrics in scores.items():
        here = pure & np.isin(brains.labels, TISSUES[tissue])
        rows.append(
            {
                "tissue": tissue,
                "bias": metrics["bias"].median,
                "rmse": metrics["rmse"].median,
                "within_68": _share_within(error[:, here], deviations[:, here]),
                "within_95": _share_within(error[:, here], factor_95 * deviations[:, here]),
                "ok": 100.0 * float((np.stack(status) == 0)[:, here].mean()),
            }
        )
        if shared:
            rows[-1]["shared_bias"] = float(np.median(np.stack(shared)[:, here]))
            rows[-1]["shared_off"] = float(np.median(np.abs(np.stack(shared)[:, here])))
    return rows


def _std(maps: Maps) -> np.ndarray:
    """Standard deviations of the main parameter, (P, P); NaN of a network without an error head."""
    return np.full(maps.status.shape[:2], np.nan) if maps.std is None else maps.std[:, :, 0, -1]


def _share_within(error: np.ndarray, half: np.ndarray) -> float:
    """Share of errors within half an interval, per cent; NaN where there are no intervals."""
    return float("nan") if np.isnan(half).all() else 100.0 * float((error <= half).mean())


def compared(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each protocol and SNR: the network beside the fit."""
    by_key = {(r["sequence"], r["protocol"], r["snr"], r["method"], r["tissue"]): r for r in rows}
    out = []
    for sequence, protocol, snr, images in dict.fromkeys(
        (r["sequence"], r["protocol"], r["snr"], r["images"]) for r in rows
    ):

        def of(method: str, tissue: str, key: tuple = (sequence, protocol, snr)) -> dict[str, Any]:
            return by_key[(*key, method, tissue)]

        name = NETWORKS[sequence]
        both, fit = of(name, "GM and WM"), of("mle", "GM and WM")
        out.append(
            {
                "sequence": sequence,
                "protocol": protocol,
                "images": images,
                "snr": snr,
                "rmse_network": both["rmse"],
                "rmse_fit": fit["rmse"],
                "ratio": both["rmse"] / fit["rmse"],
                "bias_GM": of(name, "GM")["bias"],
                "bias_WM": of(name, "WM")["bias"],
                "bias_GM_fit": of("mle", "GM")["bias"],
                "bias_WM_fit": of("mle", "WM")["bias"],
                "within_68": both["within_68"],
                "within_95": both["within_95"],
                "ok": both["ok"],
            }
        )
        if "shared_off" in both:
            out[-1] |= {"shared_off": both["shared_off"], "shared_off_fit": fit["shared_off"]}
    return out


def verdicts(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Summary of the table of `compared`, in lines."""
    lines = []
    for sequence in dict.fromkeys(row["sequence"] for row in rows):
        some = [row for row in rows if row["sequence"] == sequence]
        name, worst = NETWORKS[sequence], max(some, key=lambda row: row["ratio"])
        below = sum(row["ratio"] < 1 for row in some)
        lines.append(
            f"{name}: RMSE below the fit's in {below} of {len(some)} cases; worst ratio "
            f"{worst['ratio']:.2f} ({worst['protocol']}, SNR {worst['snr']:g})"
        )
        for low, high, limit in ((30.0, np.inf, 1.0), (10.0, 10.0, 3.0)):
            chosen = [row for row in some if low <= row["snr"] <= high]
            if not chosen:
                continue
            biases = [max(abs(r["bias_GM"]), abs(r["bias_WM"])) for r in chosen]
            met = sum(bias <= limit for bias in biases)
            snr = f"from {low:g} up" if high > low else f"{low:g}"
            lines.append(
                f"{name}: |median bias| of GM and WM at most {limit:g} % in {met} of "
                f"{len(chosen)} cases at SNR {snr}; largest {max(biases):.1f} %"
            )
        off = [row["shared_off"] for row in some if row["snr"] == 30 and "shared_off" in row]
        if off:
            label = model_of(sequence).shared.name
            lines.append(
                f"{name}: median |error| of {label} in GM and WM at SNR 30 {min(off):.1f} to "
                f"{max(off):.1f} %; at most 2 % in {sum(x <= 2 for x in off)} of {len(off)} cases"
            )
        for share, low, high in (("within_68", 63, 73), ("within_95", 92, 98)):
            values = [row[share] for row in some]
            inside = sum(low <= value <= high for value in values)
            lines.append(
                f"{name}: {share[-2:]} % intervals hold {min(values):.0f} to {max(values):.0f} %; "
                f"{low} to {high} % in {inside} of {len(some)} cases"
            )
    return lines


@sweep_command("sequences", __doc__, patches=6)
@click.option("--sequence", "wanted", multiple=True, type=click.Choice(list(NETWORKS)))
@click.option("--random", default=20, type=click.IntRange(1), help="Random protocols of each.")
@click.option("--snr", "snrs", multiple=True, type=float, help="Default: 5 10 30 100.")
@click.option(
    "--known-error", default=0.0, type=float, help="Error of known maps (B1), as a share: 0.05."
)
def main(
    sweep: Sweep,
    wanted: tuple[str, ...],
    random: int,
    snrs: tuple[float, ...],
    known_error: float,
) -> None:
    """Run the experiment and write its tables."""
    if sweep.quick:
        random, snrs = min(random, 2), snrs or (10.0,)
    rows: Rows = []
    for sequence in wanted or ("t2star", "vfa", "look-locker"):
        networks = networks_for([NETWORKS[sequence]], _of(sweep, sequence))
        if not networks:
            continue
        methods = [*networks, replace(fit_method("mle"), fit=VOXELWISE)]
        for protocol in protocols_of(sequence, random):
            rows += _rows(sweep, sequence, protocol, methods, snrs or SNRS, 1.0 + known_error)
    if not rows:
        raise ValueError("there is no network to measure; give one with `models` NAME=PATH.")
    ending = f"_known{100 * known_error:+g}" if known_error else ""
    write_rows(sweep.path(f"{ending}.csv"), rows)
    ratios = compared(rows)
    write_rows(sweep.path(f"{ending}_ratios.csv"), ratios)
    lines = verdicts(ratios)
    parts = [("", [f"- {line}" for line in lines])]
    for sequence in dict.fromkeys(row["sequence"] for row in ratios):
        some = [row for row in ratios if row["sequence"] == sequence]
        parts.append((model_of(sequence).border.title, table(some, COLUMNS)))
    write_markdown(sweep.path(f"{ending}.md"), "Networks for any protocol of a sequence", parts)
    for line in lines:
        click.echo(line)


def _of(sweep: Sweep, sequence: str) -> dict[str, Path]:
    name = NETWORKS[sequence]
    return {name: sweep.files[name]} if name in sweep.files else {}


def _rows(
    sweep: Sweep,
    sequence: str,
    protocol: Protocol,
    methods: Sequence[Method],
    snrs: Sequence[float],
    factor: float,
) -> Rows:
    """Rows of a protocol; kept."""
    rows: Rows = []
    brains = None
    for snr in snrs:
        for method in methods:
            sweep.methods[method.name] = method
            settings = {
                **sweep.places.settings,
                "sequence": sequence,
                "protocol": protocol.table.tolist(),
                "snr": snr,
                "method": method.identity,
                "known": factor,
                "repeats": sweep.repeats,
                "seed": sweep.seed,
            }

            def make(snr: float = snr, method: Method = method) -> Rows:
                nonlocal brains
                if brains is None:
                    brains = simulate(sweep.places, protocol.table, protocol.model, sweep.seed)
                head = {
                    "sequence": sequence,
                    "protocol": protocol.name,
                    "images": protocol.num_images,
                    "snr": snr,
                    "method": method.name,
                }
                found = measured(method, brains, protocol, snr, sweep.repeats, sweep.seed, factor)
                return [{**head, **row} for row in found]

            name = f"{sequence} {protocol.name} SNR {snr:g} {method.name}"
            rows += kept_rows(sweep.cache / "sequences", name, settings, make)
    return rows


if __name__ == "__main__":
    main()
