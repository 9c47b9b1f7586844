"""Part ``options`` of `tools/torture.py`: values at the edge, and pipes and devices as files.

Options are read from the commands themselves, so that a new one is tried without a word here.
"""

from __future__ import annotations

import importlib
import os
import socket
import stat
from pathlib import Path

import click
import numpy as np
from torture_files import SHAPE, Stock, bids_dataset, save, series, write
from torture_run import EITHER, Try

#: Sound arguments of each command.
COMMANDS: dict[str, str] = {
    "relaxnet predict": "s.nii --tis tis.txt --method mle --out maps",
    "relaxnet train": (
        "--data small --iterations 1 --batch-size 2 --features 2 --num-steps 1 --out r"
    ),
    "relaxnet calibrate": "network.keras --data shards --patches 2 --iterations 1 --out c",
    "relaxnet export": "network.keras --tis tis.txt --out e",
    "relaxnet bids": "data deriv participant --method mle",
    "relaxnet evaluate": (
        "--truth maps/T1map.nii.gz --maps maps/T1map.nii.gz --mask m.nii --out ev"
    ),
    "relaxnet view": "maps --out x.png",
    "relaxnet models": "network.keras",
    "relaxsim generate": "--tis tis.txt --patches 2 --patch-size 4 --out o",
    "relaxsim info": "small",
    "relaxsim verify": "small",
    "relaxsim view": "small/shard-00000.h5 --out x.png",
    "relaxsim phantom plate": "--tis tis.txt --matrix 32 --repeats 1 --out p",
    "relaxsim phantom brain": "--tis tis.txt --repeats 1 --out p",
    "relaxsim phantom structures": "--tis tis.txt --repeats 1 --out p",
}
#: How often a command is drawn, beside 2 for the others.
WEIGHTS = {
    "relaxnet predict": 8,
    "relaxsim generate": 5,
    "relaxnet models": 1,
    "relaxsim info": 0.5,
    "relaxsim verify": 0.5,
}
NUMBERS = (
    *("nan", "inf", "-inf", "1e999", "-1e999", "1e308", "-1e308", "1e-308", "5e-324", "1e-400"),
    *("0", "-0", "-0.0", "-1", "1", "2", "0.5", "1e9", "1e30", "2147483648", "-2147483649", "1e5"),
    *("9223372036854775808", "18446744073709551616", "1" * 40, "1" * 5000, "1_0", " 1", "1 ", "٣"),
    *("", "0x10", "1e", "1,5", "1j", "true", "None", "１", "+3", "1:2", "2:1", "nan:1", "0:inf"),
)
#: Amounts of work: options whose large values are lawful and take long, or much memory.
WORK = {
    *("iterations", "patches", "repeats", "jobs", "matrix", "features", "num_steps", "batch_size"),
    *("patch_size", "dpi", "slices", "voxel_size"),
}
MODEST = (
    "nan",
    "inf",
    "0",
    "-1",
    "1",
    "2",
    "0.5",
    "-0",
    "1e3",
    "1_0",
    "٣",
    "",
    "1" * 5000,
    "1e999",
)
TEXTS = (
    *(
        "",
        " ",
        "x",
        "auto",
        "none",
        "random",
        "-",
        "--",
        "..",
        "\ud8ff",
        "é\u202e",
        "a" * 5000,
        "%s",
    ),
    *("{}", "[", "*", "**/*", "a\nb", "\x1b[31m", "<script>", "=1+1", "0", "nan", "T1map=0:nan"),
    *("T1map=9:1", "T1map=x", "0:0", "5:1", "-1:3", "0:99999999999999999999", "1:1", "../x"),
)
PLACES = (
    *("fifo", "zero", "null", "full", "random", "folder", "socket", "loop", "dangling", "empty"),
    *(
        "",
        ".",
        "/",
        "missing",
        "a" * 300,
        "x/" * 3000,
        "s.nii/x",
        "name\udcff.nii",
        "-",
        "~",
        "tis.txt",
    ),
)


def make(rng: np.random.Generator, folder: Path, stock: Stock) -> Try:
    """One try: a command with one argument at the edge."""
    names = list(COMMANDS)
    weights = np.array([WEIGHTS.get(name, 2) for name in names], float)
    name = names[rng.choice(len(names), p=weights / weights.sum())]
    sound = COMMANDS[name].split()
    _inputs(name, folder, stock)
    parameters = [p for p in _command(name).params if not _is_help(p)]
    shares = np.array([_share(p) for p in parameters])
    parameter = parameters[rng.choice(len(parameters), p=shares / shares.sum())]
    values, what = _values(rng, parameter, folder)
    option = parameter.opts[0] if isinstance(parameter, click.Option) else None
    if option is None:
        places = [p.name for p in _command(name).params if isinstance(p, click.Argument)]
        at = places.index(parameter.name)
        stated = at < len(sound) and not any(word.startswith("--") for word in sound[: at + 1])
        arguments = [*sound[:at], *values, *sound[at + 1 :]] if stated else values + sound
    else:
        arguments = [*sound]
        for stated in {option, *(("--tis", "--tes") if option in ("--tis", "--tes") else ())}:
            if stated in arguments:
                at = arguments.index(stated)
                del arguments[at : at + 2]
        arguments += [option, *values]
    work = parameter.name in WORK
    codes = (0, 1, 2) if name == "relaxnet bids" else (0, 2)
    reports = name == "relaxsim verify"
    return Try(what, (*name.split(), *arguments), EITHER, codes, work, reports=reports)


def _command(name: str) -> click.Command:
    program, *rest = name.split()
    command: click.Command = importlib.import_module(f"{program}.cli").main
    for word in rest:
        assert isinstance(command, click.Group)
        command = command.commands[word]
    return command


def _share(parameter: click.Parameter) -> float:
    """How often a parameter is drawn, beside 1 for numbers and files."""
    if isinstance(parameter, click.Option) and parameter.is_flag:
        return 0.1
    return 0.2 if isinstance(parameter.type, click.Choice) else 1.0


def _limits(kind: click.ParamType) -> tuple[str, ...]:
    """The ends of a number's range, and values beside them."""
    found: list[str] = []
    for end in (getattr(kind, "min", None), getattr(kind, "max", None)):
        if isinstance(end, float):
            found += [repr(end), repr(float(np.nextafter(end, np.inf))), repr(-end)]
        elif isinstance(end, int):
            found += [str(end), str(end + 1), str(end - 1)]
    return tuple(found)


def _is_help(parameter: click.Parameter) -> bool:
    return parameter.name in ("help", "version")


def _inputs(name: str, folder: Path, stock: Stock) -> None:
    """Files of a command, and the files that are none."""
    sound = COMMANDS[name]
    series(folder)
    for item in ("small", "shards", "network.keras"):
        if item in sound:
            stock.copy(item, folder)
    if "maps/" in sound or "view maps" in f"{name} {sound}" or sound.startswith("maps"):
        stock.copy("maps", folder)
        save(folder / "m.nii", np.ones(SHAPE, np.uint8))
    if "data deriv" in sound:
        bids_dataset(folder / "data", 1)


def _strange(folder: Path) -> None:
    """Files that are none; devices are nodes of the folder, lest the system's are replaced."""
    os.mkfifo(folder / "fifo")
    for name, minor in (("zero", 5), ("null", 3), ("full", 7), ("random", 9)):
        try:
            os.mknod(folder / name, stat.S_IFCHR | 0o666, os.makedev(1, minor))
        except PermissionError:
            (folder / name).symlink_to(f"/dev/{name}")
    (folder / "folder").mkdir()
    (folder / "loop").symlink_to("loop")
    (folder / "dangling").symlink_to("nowhere")
    write(folder / "empty", b"")
    place = socket.socket(socket.AF_UNIX)
    current = Path.cwd()
    try:
        os.chdir(folder)
        place.bind("socket")
    finally:
        os.chdir(current)
        place.close()


def _values(
    rng: np.random.Generator, parameter: click.Parameter, folder: Path
) -> tuple[list[str], str]:
    """Values of one option or argument, and what they are."""
    kind, name = parameter.type, str(parameter.name)
    if isinstance(parameter, click.Option) and parameter.is_flag:
        return [], name
    number = isinstance(kind, click.types.FloatParamType | click.types.IntParamType)
    words = type(kind).__name__
    if number or words in ("Number", "Range", "IndexRange") or name in ("sigma", "tr", "lambda_b"):
        pool: tuple[str, ...] = MODEST if name in WORK else NUMBERS + 3 * _limits(kind)
        if name in ("sigma", "tr") and rng.random() < 0.3:
            pool = PLACES
    elif isinstance(kind, click.Choice):
        pool = TEXTS
    elif isinstance(kind, click.Path) or name in _FILES:
        pool = PLACES
    elif isinstance(kind, click.Tuple):
        pool = NUMBERS
    else:
        pool = (*TEXTS, *PLACES)
    if pool is PLACES or "fifo" in pool:
        _strange(folder)
        if name in _OUTPUTS:
            pool = tuple(p for p in pool if p not in ("/", "~"))
    chosen = [pool[rng.integers(len(pool))] for _ in range(max(1, abs(parameter.nargs)))]
    if parameter.nargs == -1:
        chosen = chosen[:1]
    return chosen, f"{name} {' '.join(c[:30] for c in chosen)!r}"


#: Parameters that take a file but do not say so by their type, and those that are written.
_FILES = {
    *(
        "series",
        "tis",
        "tes",
        "model",
        "mask",
        "rois",
        "roi_names",
        "bounds",
        "data",
        "init",
        "name",
    ),
    *("validation", "network", "truth", "maps", "labels", "brains", "tissues", "more_brains"),
    *("bids_dir", "output_dir", "folder", "shard", "maps_dirs", "out"),
}
_OUTPUTS = {"out", "output_dir"}
