"""Put networks' figures, from the table of the accuracy experiment, into their cards.

Example:
    python tools/card_figures.py docs/results/accuracy_cine31.csv rim-cine31 rim-t1
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from row_files import read_rows

from relaxnet.networks.registry import shipped_models

TISSUES = ("GM", "WM")


def figures(rows: list[dict[str, str]], name: str) -> dict[str, Any]:
    """Bias, CV and RMSE of the relaxation time in grey and white matter, per cent, by SNR.

    B varies smoothly, as in a scanner, if the table has such rows.
    """
    of_network = [r for r in rows if r["method"] == name and r["parameter"] in ("T1", "T2")]
    fields = {r["b_field"] for r in of_network}
    field = "smooth" if "smooth" in fields else min(fields, default="")
    chosen = [r for r in of_network if r["tissue"] in TISSUES and r["b_field"] == field]
    if not chosen:
        raise click.ClickException(f"the table has no rows of {name}.")
    first = chosen[0]
    of_b = {"T1": f", B {first['b_field']}", "T2": ""}[first["parameter"]]
    what = (
        f"{first['parameter']} on slices of brains not trained on, {first['protocol']}{of_b}; "
        f"medians over voxels, per cent; {first['draws']} draws of kappa, "
        f"{first['repeats']} of noise"
    )
    columns = {"bias": "bias", "bias_error": "its error", "cv": "CV", "rmse": "RMSE"}
    found = [
        {
            "SNR": float(r["snr"]),
            "tissue": r["tissue"],
            **{title: round(float(r[key]), 2) for key, title in columns.items()},
        }
        for r in chosen
    ]
    return {"what": what, "rows": found}


@click.command()
@click.argument("table", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("names", nargs=-1, required=True)
def main(table: Path, names: tuple[str, ...]) -> None:
    """Put figures into cards."""
    rows = read_rows(table)
    for name in names:
        path = shipped_models()[name].with_suffix(".json")
        card = json.loads(path.read_text(encoding="utf-8"))
        card["figures"] = figures(rows, name)
        path.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
        click.echo(f"{path.name}: {len(card['figures']['rows'])} rows")


if __name__ == "__main__":
    main()
