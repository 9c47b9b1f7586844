"""Remake a shipped network: simulate its data, train it, and put it in the package with its card.

Each step goes on where it was interrupted. `--brains` is a folder of BrainWeb models
(``subjectNN_crisp_v.mnc.gz``); subjects 45 and 46 validate and are never trained on.

Example:
    python tools/train_pretrained.py rim-t1 --brains brainweb20 --work work --iterations 5000
    python tools/train_pretrained.py rim-t1 --brains brainweb20 --work work --ship
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import click

TRAINING = ("04", "05", "06", "18", "20", "38", "41", "42", "43", "44")
VALIDATION = ("45", "46")
#: SNR 3 to 200; T1 from 50 to 5000 ms and T2 from 5 to 3000 ms without gaps; shapes for phantoms.
ANY = "--tissues wide --sigma-range 0.00375 0.25 --shapes 0.15 --voxel-size 0.5:2"
CRISP = "--tissues wide --sigma-range 0.00375 0.25 --shapes 0.15"
#: Name of a shard folder -> options of ``relaxsim generate``. Those that begin with "val" validate.
RECIPES: dict[str, dict[str, str]] = {
    "rim-t1": {
        "wide": f"--tis random --b-field wide --seed 1 --patches 4800 {ANY}",
        "smooth": f"--tis random --b-field smooth --seed 2 --patches 4800 {ANY}",
        "tr": f"--tis random --b-field wide --tr 1000:10000 --seed 3 --patches 3600 {ANY}",
        "patch": f"--tis random --b-field patch --seed 4 --patches 2400 {CRISP}",
        "known": "--tis cine31 --tis cine23 --tis cine25 --tis tools/times/barral2010.txt "
        f"--tis tools/times/nist3t.txt --b-field smooth --seed 5 --patches 2400 {ANY}",
        "val-smooth": f"--tis random --b-field smooth --seed 91 --patches 384 {ANY}",
        "val-tr": f"--tis random --b-field wide --tr 1000:10000 --seed 92 --patches 192 {ANY}",
    },
    "rim-cine31": {
        "smooth": "--tis cine31 --b-field smooth --seed 12 --patches 4800",
        "val-smooth": "--tis cine31 --b-field smooth --seed 93 --patches 240",
    },
    "rim-t2": {
        "any": f"--tes random --seed 21 --patches 3600 {ANY}",
        "known": "--tes fse6 --tes tools/times/mese32.txt --tes tools/times/santini_t2.txt "
        f"--seed 22 --patches 1200 {ANY}",
        "val-any": f"--tes random --seed 94 --patches 384 {ANY}",
    },
}
SUMMARY = {
    "rim-t1": "T1, M0 and B from any list of inversion times",
    "rim-cine31": "T1, M0 and B from the 31 inversion times of cine31, B varying slowly",
    "rim-t2": "T2 and M0 from any list of echo times",
}


def call(module: str, *arguments: str) -> None:
    """Run a command of this package, shown first."""
    click.secho(f"$ {module} {' '.join(arguments)}", bold=True)
    code = f"from {module}.cli import main; main()"
    subprocess.run([sys.executable, "-c", code, *arguments], check=True)


def make_data(name: str, brains: Path, work: Path) -> tuple[list[Path], list[Path]]:
    """Simulate the shards of a recipe; folders to train on and to validate on."""
    training, validation = [], []
    for folder, options in RECIPES[name].items():
        held_out = folder.startswith("val")
        subjects = VALIDATION if held_out else TRAINING
        files = [str(brains / f"subject{s}_crisp_v.mnc.gz") for s in subjects]
        out = work / name / folder
        call("relaxsim", "generate", *options.split(), "--out", str(out), *files)
        (validation if held_out else training).append(out)
    return training, validation


def ship(name: str, run: Path, figures: Path | None) -> None:
    """Copy the best network of a run into the package, and write its card."""
    target = Path(__file__).parents[1] / "relaxnet" / "pretrained" / f"{name}.keras"
    card = json.loads((run / "best.json").read_text(encoding="utf-8"))
    for key in ("data", "validation"):
        card["training"][key] = sorted(Path(p).name for p in card["training"][key])
    if card["training"]["init"]:
        card["training"]["init"] = Path(card["training"]["init"]).stem
    own = {"name": name, "summary": SUMMARY[name], "license": "MIT"}
    own["made_by"] = f"python tools/train_pretrained.py {name}"
    own["subjects"] = {"training": list(TRAINING), "validation": list(VALIDATION)}
    if figures is not None:
        own["figures"] = json.loads(figures.read_text(encoding="utf-8"))
    shutil.copyfile(run / "best.keras", target)
    text = json.dumps({**own, **card}, indent=1) + "\n"
    target.with_suffix(".json").write_text(text, encoding="utf-8")
    click.echo(f"{target} ({target.stat().st_size / 1e3:.0f} kB)")


@click.command()
@click.argument("name", type=click.Choice(list(RECIPES)))
@click.option("--brains", required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--work", default="work", type=click.Path(path_type=Path), help="Folder.")
@click.option("--iterations", default=5000, type=click.IntRange(1))
@click.option("--learning-rate", default=1e-3)
@click.option("--init", default="", help="Network to start from, such as the shipped one.")
@click.option("--ship", "only_ship", is_flag=True, help="Put the run's best into the package.")
@click.option("--figures", type=click.Path(path_type=Path), help="JSON of figures for the card.")
def main(
    name: str,
    brains: Path,
    work: Path,
    iterations: int,
    learning_rate: float,
    init: str,
    only_ship: bool,
    figures: Path | None,
) -> None:
    """Remake a shipped network."""
    run = work / name / "run"
    if only_ship:
        ship(name, run, figures)
        return
    training, validation = make_data(name, brains, work)
    options = [f"--data={p}" for p in training] + [f"--validation={p}" for p in validation]
    options += ["--out", str(run), "--iterations", str(iterations)]
    options += ["--learning-rate", str(learning_rate)]
    options += ["--init", init] if init else []
    options += ["--resume"] if (run / "checkpoint.npz").is_file() else []
    call("relaxnet", "train", *options)


if __name__ == "__main__":
    main()
