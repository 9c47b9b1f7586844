"""Remake a shipped network: simulate its data, train it, and put it in the package with its card.

The same command continues an interrupted step. `--brains` is a folder of BrainWeb models
(``subjectNN_crisp_v.mnc.gz``); subjects 45 and 46 validate and are never trained on.

Example:
    python tools/train_pretrained.py rim-t1 --brains brainweb20 --work work --iterations 5000
    python tools/train_pretrained.py rim-t1 --brains brainweb20 --work work --ship
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import click
from row_files import read_rows, write_rows

TRAINING = ("04", "05", "06", "18", "20", "38", "41", "42", "43", "44")
VALIDATION = ("45", "46")
#: SNR 3 to 200; shapes for phantoms; partial volumes at 0.5 to 2 mm.
ANY = "--sigma-range 0.00375 0.25 --shapes 0.15 --voxel-size 0.5:2"
#: T1 from 50 to 5000 ms and T2 from 5 to 3000 ms without gaps.
WIDE = f"{ANY} --tissues wide"
#: Structures about a voxel wide, which networks must not smooth away.
SMALL = "--details 0.4"
ALL = "--details 1"
#: SNR 25 to 200: errors of a few per cent count there too.
FINE = f"--sigma-range 0.00375 0.03 --shapes 0.15 --voxel-size 0.5:2 {SMALL}"
#: SNR 50 to 200.
SHARP = f"--sigma-range 0.00375 0.015 --shapes 0.15 --voxel-size 0.5:2 {SMALL}"
KNOWN_TIS = (
    "--tis cine31 --tis cine23 --tis cine25 --tis tools/times/barral2010.txt "
    "--tis tools/times/nist3t.txt"
)
KNOWN_TES = "--tes fse6 --tes tools/times/mese32.txt --tes tools/times/santini_t2.txt"
FINE_VOXELS = "--voxel-size 0.5:1.2"
#: Patches in which the neighbourhood that B is estimated from is as large as in a slice.
LARGE = "--patch-size 80"


def one_protocol(times: str, seed: int, patches: int = 4800) -> dict[str, str]:
    """Data of a network for one list of inversion times, B constant or varying slowly."""
    small, half = f"{FINE_VOXELS} {SMALL}", patches // 2
    return {
        "slow": f"--tis {times} --b-field slow --seed {seed + 30} --patches {patches} {small}",
        "smooth": f"--tis {times} --b-field smooth --seed {seed} --patches {half} {small}",
        "patch": f"--tis {times} --b-field patch --seed {seed + 1} --patches {half} {small}",
        "rician": f"--tis {times} --b-field slow --noise rician --seed {seed + 60} "
        f"--patches {patches} {small}",
        "slow80": f"--tis {times} --b-field slow --seed {seed + 60} --patches {patches // 4} "
        f"{small} {LARGE}",
        "rician80": f"--tis {times} --b-field slow --noise rician --seed {seed + 61} "
        f"--patches {patches // 8} {small} {LARGE}",
        "dense": f"--tis {times} --b-field slow --seed {seed + 62} --patches {half} "
        f"{FINE_VOXELS} {ALL}",
        "val-slow": f"--tis {times} --b-field slow --seed 97 --patches 240 --voxel-size 0.85",
        "val-patch": f"--tis {times} --b-field patch --seed 94 --patches 240 --voxel-size 0.85",
    }


def any_protocol(
    lists: str, seed: int, tissues: str = "--tissues wide", sharp: bool = False
) -> dict[str, str]:
    """Data of a network for any list of a sequence, most of it with Rician noise.

    Parameters
    ----------
    lists : str
        Options that draw the lists.
    seed : int
    tissues : str
        Options of the tissues of most data.
    sharp : bool
        Also data of SNR 50 to 200, where the errors of a fit are far below those of others.
    """
    wide, rician = f"{ANY} {tissues}", "--noise rician"
    more = {"sharp": f"{lists} {rician} --seed {seed + 4} --patches 2400 {SHARP}"} if sharp else {}
    return more | {
        "any": f"{lists} --seed {seed} --patches 2400 {wide} {SMALL}",
        "rician": f"{lists} {rician} --seed {seed + 1} --patches 3600 {wide} {SMALL}",
        "tissue": f"{lists} {rician} --seed {seed + 2} --patches 2400 {ANY} {SMALL}",
        "fine": f"{lists} {rician} --seed {seed + 3} --patches 2400 {tissues} {FINE}",
        "val-any": f"{lists} {rician} --seed {seed + 10} --patches 240 {wide}",
        "val-tissue": f"{lists} {rician} --seed {seed + 11} --patches 240 {ANY}",
    }


def as_the_paper(times: str, seed: int) -> dict[str, str]:
    """The paper's data: one tissue a voxel, one B a patch, SNR 3 to 115."""
    noise = "--sigma-range 0.0065 0.255"
    return {
        "patch": f"{times} --b-field patch --seed {seed} --patches 7200 {noise}",
        "val-patch": f"{times} --b-field patch --seed 94 --patches 240 --voxel-size 0.85",
    }


FSE6 = {
    "tissue": f"--tes fse6 --seed 31 --patches 7200 {FINE_VOXELS} {SMALL}",
    "rician": f"--tes fse6 --noise rician --seed 33 --patches 3600 {FINE_VOXELS} {SMALL}",
    "val-tissue": "--tes fse6 --seed 93 --patches 240 --voxel-size 0.85",
}
#: Name of a shard folder -> options of ``relaxsim generate``. Those that begin with "val" validate.
RECIPES: dict[str, dict[str, str]] = {
    "rim-t1": {
        "wide": f"--tis random --b-field wide --seed 1 --patches 3600 {WIDE} {SMALL}",
        "smooth": f"--tis random --b-field smooth --seed 2 --patches 2400 {WIDE} {SMALL}",
        "slow": f"--tis random --b-field slow --seed 9 --patches 2400 {WIDE} {SMALL}",
        "tissue": f"--tis random --b-field slow --seed 6 --patches 4800 {ANY} {SMALL}",
        "tr": f"--tis random --b-field wide --tr 1000:10000 --seed 3 --patches 3600 {WIDE}",
        "patch": "--tis random --b-field patch --seed 4 --patches 2400 "
        "--sigma-range 0.00375 0.25 --shapes 0.15",
        "rician": f"--tis random --b-field wide --noise rician --seed 8 --patches 2400 {WIDE}",
        "rician-tissue": "--tis random --b-field slow --noise rician --seed 11 --patches 3600 "
        f"{ANY} {SMALL}",
        "known-rician": f"{KNOWN_TIS} --b-field slow --noise rician --seed 12 --patches 3600 "
        f"{WIDE}",
        "known": f"{KNOWN_TIS} --b-field slow --seed 5 --patches 2400 {WIDE}",
        "known-tissue": f"{KNOWN_TIS} --b-field slow --seed 7 --patches 4800 {ANY} {SMALL}",
        "known-tr": f"{KNOWN_TIS} --b-field wide --tr 800:4000 --seed 10 --patches 2400 "
        "--sigma-range 0.00375 0.1 --shapes 0.5 --voxel-size 0.5:2 --tissues wide",
        "tissue80": f"--tis random --b-field slow --seed 74 --patches 1200 {ANY} {SMALL} {LARGE}",
        "known80": f"{KNOWN_TIS} --b-field slow --seed 75 --patches 1200 {ANY} {SMALL} {LARGE}",
        "rician80": f"{KNOWN_TIS} --b-field slow --noise rician --seed 76 --patches 600 {WIDE} "
        f"{LARGE}",
        "wide80": f"--tis random --b-field wide --seed 77 --patches 600 {WIDE} {LARGE}",
        "fine": f"--tis random --b-field smooth --seed 78 --patches 2400 {FINE}",
        "dense": f"{KNOWN_TIS} --b-field slow --seed 79 --patches 2400 {ANY} {ALL}",
        "val-slow": f"--tis random --b-field slow --seed 91 --patches 240 {WIDE}",
        "val-tissue": f"--tis random --b-field slow --seed 95 --patches 240 {ANY}",
        "val-tr": f"--tis random --b-field wide --tr 1000:10000 --seed 92 --patches 120 {WIDE}",
    },
    "rim-t2": {
        "any": f"--tes random --seed 21 --patches 4800 {WIDE} {SMALL}",
        "tissue": f"--tes random --seed 23 --patches 2400 {ANY} {SMALL}",
        "rician": f"--tes random --noise rician --seed 24 --patches 1200 {WIDE}",
        "known": f"{KNOWN_TES} --seed 22 --patches 1200 {WIDE}",
        "known-rician": f"{KNOWN_TES} --noise rician --seed 27 --patches 1200 {WIDE}",
        "fine": f"--tes random --seed 26 --patches 2400 {FINE}",
        "known-tissue": f"{KNOWN_TES} --seed 25 --patches 4800 {ANY} {SMALL}",
        "val-any": f"--tes random --seed 94 --patches 240 {WIDE}",
        "val-tissue": f"--tes random --seed 96 --patches 240 {ANY}",
    },
    "rim-t2star": any_protocol("--sequence t2star --tes random", 100, tissues=""),
    "rim-vfa": any_protocol("--sequence vfa --fas random", 120),
    "rim-look-locker": any_protocol("--sequence look-locker --tis random", 140, sharp=True),
    "rim-mese": any_protocol("--sequence mese --tes random --b-field slow", 160, sharp=True)
    | {
        "wide": "--sequence mese --tes random --b-field wide --noise rician --seed 169 "
        f"--patches 2400 {WIDE} {SMALL}",
    },
    "rim-cine31": one_protocol("cine31", 12),
    "rim-cine25": one_protocol("cine25", 14, 2400),
    "rim-cine23": one_protocol("cine23", 16, 2400),
    "rim-fse6": FSE6,
    "rim-cine31-paper": as_the_paper("--tis cine31", 11),
    "rim-cine25-paper": as_the_paper("--tis cine25", 18),
    "rim-cine23-paper": as_the_paper("--tis cine23", 19),
    "rim-fse6-paper": as_the_paper("--tes fse6", 32),
    "resnet-cine31": one_protocol("cine31", 12),
    "resnet-fse6": FSE6,
}
#: Networks that are trained with a weight on the mean errors of tissues, which makes their bias at
#: low SNR smaller than that of a fit. For the others it costs more precision than it is worth.
BIAS_WEIGHT = {"rim-cine31": 1.0, "rim-cine25": 1.0, "rim-cine23": 1.0}
PAPERS = "the paper's recipe, for comparison"
SUMMARY = {
    "rim-t1": "T1, M0 and B from any list of inversion times",
    "rim-t2": "T2 and M0 from any list of echo times",
    "rim-fse6": "T2 and M0 from the six echo times of fse6",
    "rim-fse6-paper": f"{PAPERS}: T2 and M0 from the six echo times of fse6",
    "resnet-cine31": "baseline: T1, M0 and B from the 31 inversion times of cine31",
    "resnet-fse6": "baseline: T2 and M0 from the six echo times of fse6",
}
SUMMARY |= {
    "rim-t2star": "T2* and M0 from any list of echo times of gradient echoes",
    "rim-vfa": "T1 and M0 from any list of flip angles and repetition times, B1 given",
    "rim-mese": "T2, M0 and B1 from any train of spin echoes, stimulated echoes modelled",
    "rim-look-locker": "T1, M0 and B from any inversion times of a Look-Locker readout, MOLLI too",
}
SUMMARY |= {
    f"rim-{name}": f"T1, M0 and B from the inversion times of {name}, B constant or smooth"
    for name in ("cine23", "cine25", "cine31")
}
SUMMARY |= {
    f"rim-{name}-paper": f"{PAPERS}: T1, M0 and B from the inversion times of {name}"
    for name in ("cine23", "cine25", "cine31")
}


def call(module: str, *arguments: str) -> None:
    """Print a command of this package and run it."""
    click.secho(f"$ {module} {' '.join(arguments)}", bold=True)
    code = f"from {module}.cli import main; main()"
    subprocess.run([sys.executable, "-c", code, *arguments], check=True)


def make_data(name: str, brains: Path, work: Path) -> tuple[list[Path], list[Path]]:
    """Simulate the shards of a recipe; returns the folders to train on and to validate on."""
    training, validation = [], []
    for folder, options in RECIPES[name].items():
        validates = folder.startswith("val")
        subjects = VALIDATION if validates else TRAINING
        files = [str(brains / f"subject{s}_crisp_v.mnc.gz") for s in subjects]
        out = work / name / folder
        call("relaxsim", "generate", *options.split(), "--out", str(out), *files)
        (validation if validates else training).append(out)
    return training, validation


def ship(name: str, run: Path, weights: str, figures: Path | None, root: Path) -> None:
    """Put a network of a run, its card and its learning curve into the repository.

    The card states the checksum of the file, without which the package does not load it.
    """
    from relaxnet.networks.saving import write_pair
    from relaxsim.core.files import read_json

    target = root / "relaxnet" / "networks" / "pretrained" / f"{name}.keras"
    target.parent.mkdir(parents=True, exist_ok=True)
    card = read_json(run / f"{weights}.json")
    for key in ("data", "validation"):
        card["training"][key] = sorted(Path(p).name for p in card["training"][key])
    if card["training"]["init"]:
        card["training"]["init"] = Path(card["training"]["init"]).stem
    rows = read_rows(run / "history.csv")
    facts = {
        "name": name,
        "summary": SUMMARY[name],
        "license": "MIT",
        "made_by": f"python tools/train_pretrained.py {name}",
        "hours_of_this_run": round(float(rows[-1]["seconds"]) / 3600, 2),
        "subjects": {"training": list(TRAINING), "validation": list(VALIDATION)},
    }
    if figures is not None:
        facts["figures"] = read_json(figures)
    source = run / f"{weights}.keras"
    write_pair(target, {**facts, **card}, lambda path: copy_weights(source, path))
    curve = root / "docs" / "results" / "training" / f"{name}.csv"
    write_rows(curve, [row for row in rows if row["validation_loss"]])
    click.echo(f"{target} ({target.stat().st_size / 1e3:.0f} kB)")


def copy_weights(source: Path, target: Path) -> None:
    """Copy a network; a ResNet, which is large, with its weights in float16."""
    from relaxnet.networks.registry import architecture_of, load_network, with_policy

    if architecture_of(source) == "rim":
        shutil.copyfile(source, target)
    else:
        with_policy(load_network(source), "float16").save(target)


@click.command()
@click.argument("name", type=click.Choice(list(RECIPES)))
@click.option("--brains", required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--work", default="work", type=click.Path(path_type=Path), help="Folder.")
@click.option("--iterations", default=5000, type=click.IntRange(1))
@click.option("--batch-size", default=12, help="Patches a step (the paper: 24).")
@click.option("--learning-rate", default=1e-3)
@click.option("--init", default="", help="Network to start from, such as the shipped one.")
@click.option("--ship", "only_ship", is_flag=True, help="Put the run's best into the package.")
@click.option(
    "--weights",
    default="last",
    type=click.Choice(["last", "best"]),
    help="Of the run: the last (where the learning rate has come down) or those of least "
    "validation loss.",
)
@click.option("--figures", type=click.Path(path_type=Path), help="JSON of figures for the card.")
@click.option(
    "--root",
    default=Path(__file__).parents[1],
    type=click.Path(path_type=Path, file_okay=False),
    help="Repository that --ship puts the network into.  [default: this one]",
)
def main(
    name: str,
    brains: Path,
    work: Path,
    iterations: int,
    batch_size: int,
    learning_rate: float,
    init: str,
    only_ship: bool,
    weights: str,
    figures: Path | None,
    root: Path,
) -> None:
    """Remake a shipped network."""
    run = work / name / "run"
    if only_ship:
        ship(name, run, weights, figures, root)
        return
    training, validation = make_data(name, brains, work)
    options = [f"--data={p}" for p in training] + [f"--validation={p}" for p in validation]
    options += ["--out", str(run), "--iterations", str(iterations)]
    options += ["--batch-size", str(batch_size), "--learning-rate", str(learning_rate)]
    options += ["--init", init] if init else []
    options += ["--bias-weight", str(BIAS_WEIGHT.get(name, 0.0))]
    if name.endswith("-paper"):
        options += ["--recipe", "paper"]
    if name.startswith("resnet"):
        options += ["--model", "resnet", "--precision", "mixed_bfloat16"]
    options += ["--resume"] if (run / "checkpoint.npz").is_file() else []
    call("relaxnet", "train", *options)


if __name__ == "__main__":
    main()
