"""Part ``surroundings`` of `tools/torture.py`: real processes in environments that lack something.

Every case is a command in one of the settings; their product is gone through in a fixed order.
"""

from __future__ import annotations

import itertools
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torture_files import Stock, bids_dataset, series, write
from torture_run import EITHER, MAPPED, Outcome, Try, faults_of, listing, wait

#: Seconds for one command.
LIMIT = 120.0
TRAIN = "--data small --iterations 1 --batch-size 2 --features 2 --num-steps 1"
#: Commands; OUT is where results go.
COMMANDS: dict[str, str] = {
    "predict mle": "relaxnet predict s.nii --tis tis.txt --method mle --report --out OUT",
    "generate": "relaxsim generate --tis tis.txt --patches 24 --patch-size 8 --out OUT",
    "predict": "relaxnet predict s.nii --tis tis.txt --model network.keras --out OUT",
    "bids": "relaxnet bids data OUT participant --method mle",
    "train": f"relaxnet train {TRAIN} --out OUT",
    "info": "relaxsim info small",
    "export": "relaxnet export network.keras --tis tis.txt --out OUT",
    "models": "relaxnet models",
    "generate, 2 jobs": (
        "relaxsim generate --tis random --patches 48 --patch-size 8 --jobs 2 --out OUT"
    ),
    "view": "relaxnet view maps --out OUT.png",
}
#: The other commands; their cases come last, so that numbers of cases stay what they are.
MORE_COMMANDS: dict[str, str] = {
    "calibrate": (
        "relaxnet calibrate network.keras --data shards --patches 8 --iterations 4 --out OUT"
    ),
    "evaluate": (
        "relaxnet evaluate --maps maps/T1map.nii.gz --truth maps/T1map.nii.gz "
        "--mask maps/T1map.nii.gz --out OUT"
    ),
    "phantom": (
        "relaxsim phantom plate --tis tis.txt --matrix 40 --voxel-size 5 --repeats 1 --out OUT"
    ),
    "verify": "relaxsim verify small",
    "view a shard": "relaxsim view small/shard-00000.h5 --out OUT.png",
}


@dataclass(frozen=True)
class Setting:
    """What is unusual around a command.

    Attributes
    ----------
    shell : str
        A line of bash in which COMMAND stands for the command.
    expect : str
    variables : tuple of pairs
        Of the environment; None: unset. FOLDER stands for the folder of the try.
    out : str
        Where results go.
    files : tuple of pairs
        Files below the folder and their content.
    mount : str
        Options of a small file system at ``FOLDER/disk``; needs root.
    place : str
        Working folder, below the folder of the try.
    silent : bool
        Its streams are closed: no error line can be asked for.
    """

    shell: str = "COMMAND"
    expect: str = EITHER
    variables: tuple[tuple[str, str | None], ...] = ()
    out: str = "o"
    files: tuple[tuple[str, str], ...] = ()
    mount: str = ""
    place: str = ""
    silent: bool = False


def _keras(text: str) -> tuple[tuple[str, str], ...]:
    return (("home/.keras/keras.json", text),)


SETTINGS: dict[str, Setting] = {
    "nothing unusual": Setting(expect=MAPPED),
    "full disk": Setting(out="disk/o", mount="size=24k"),
    "fuller disk": Setting(out="disk/o", mount="size=100k"),
    "full TMPDIR": Setting(out="disk/o", mount="size=24k", variables=(("TMPDIR", "FOLDER/disk"),)),
    "files of 8 kB at most": Setting("ulimit -f 8; COMMAND"),
    "read-only folder": Setting(out="disk/o", mount="ro"),
    "read-only working folder": Setting(mount="ro", place="disk"),
    "no HOME": Setting(expect=MAPPED, variables=(("HOME", None),)),
    "HOME that is missing": Setting(expect=MAPPED, variables=(("HOME", "/nonexistent"),)),
    "HOME that is read-only": Setting(
        expect=MAPPED, mount="ro", variables=(("HOME", "FOLDER/disk"), ("MPLCONFIGDIR", None))
    ),
    "TMPDIR that is missing": Setting(expect=MAPPED, variables=(("TMPDIR", "/nonexistent"),)),
    "16 file handles": Setting("ulimit -n 16; COMMAND"),
    "40 file handles": Setting("ulimit -n 40; COMMAND"),
    "3 GB of address space": Setting("ulimit -v 3000000; COMMAND"),
    "1 GB of address space": Setting("ulimit -v 1000000; COMMAND"),
    "closed standard input": Setting("COMMAND <&-", MAPPED),
    "closed standard output": Setting("COMMAND >&-", MAPPED),
    "closed standard error": Setting("COMMAND 2>&-", MAPPED, silent=True),
    "all streams closed": Setting("COMMAND <&- >&- 2>&-", MAPPED, silent=True),
    "output to a full device": Setting("COMMAND >/dev/full"),
    "errors to a full device": Setting("COMMAND 2>/dev/full", silent=True),
    "head -1": Setting("COMMAND | head -1; exit ${PIPESTATUS[0]}", silent=True),
    "a reader that has gone": Setting("COMMAND | true; exit ${PIPESTATUS[0]}", silent=True),
    "keras.json for torch": Setting(expect=MAPPED, files=_keras('{"backend": "torch"}')),
    "keras.json for jax": Setting(expect=MAPPED, files=_keras('{"backend": "jax"}')),
    "keras.json of float16": Setting(
        expect=MAPPED,
        files=_keras('{"backend": "tensorflow", "floatx": "float16", "epsilon": 0.1}'),
    ),
    "keras.json of channels first": Setting(
        expect=MAPPED, files=_keras('{"image_data_format": "channels_first"}')
    ),
    "keras.json that is none": Setting(expect=MAPPED, files=_keras("{")),
    "KERAS_BACKEND=torch": Setting(expect=MAPPED, variables=(("KERAS_BACKEND", "torch"),)),
    "a locale of ASCII": Setting(
        expect=MAPPED,
        variables=(("LC_ALL", "C"), ("PYTHONCOERCECLOCALE", "0"), ("PYTHONUTF8", "0")),
        out="Köln-\udcff",
    ),
    "output in ASCII": Setting(
        expect=MAPPED, variables=(("PYTHONIOENCODING", "ascii"),), out="Köln"
    ),
    "a folder that is gone": Setting("mkdir g; cd g; rmdir ../g; COMMAND", out="FOLDER/o"),
    "a terminal of one column": Setting(
        expect=MAPPED, variables=(("COLUMNS", "1"), ("LINES", "1"), ("TERM", "dumb"))
    ),
    "another backend of Matplotlib": Setting(expect=MAPPED, variables=(("MPLBACKEND", "TkAgg"),)),
    "threads that are no number": Setting(expect=MAPPED, variables=(("OMP_NUM_THREADS", "many"),)),
    "umask 777": Setting("umask 777; COMMAND"),
    "asserts left out": Setting("COMMAND", MAPPED, variables=(("PYTHONOPTIMIZE", "2"),)),
    "python -m": Setting("MODULE", MAPPED),
}
#: Settings that concern TensorFlow alone, and commands that need it.
_KERAS = ("keras.json", "KERAS_BACKEND")
_NETWORKS = ("predict", "train", "export")


def cases() -> list[tuple[str, str]]:
    """Pairs of setting and command, in an order that mixes them by a fixed seed."""
    mixed = []
    for commands in (COMMANDS, MORE_COMMANDS):
        found = []
        for setting, command in itertools.product(SETTINGS, commands):
            if setting.startswith(_KERAS) and command not in _NETWORKS:
                continue
            if SETTINGS[setting].out != "o" and "OUT" not in commands[command]:
                continue
            found.append((setting, command))
        order = np.random.default_rng(0).permutation(len(found))
        mixed += [found[i] for i in order]
    return mixed


def number_of_cases() -> int:
    """How many tries there are."""
    return len(cases())


def attempt(number: int, rng: np.random.Generator, folder: Path, stock: Stock) -> Outcome:
    """Run one command in one setting."""
    name, command = cases()[number % number_of_cases()]
    setting = SETTINGS[name]
    what = f"{command}, {name}"
    if setting.mount and (os.geteuid() != 0 or shutil.which("mount") is None):
        return Outcome("surroundings", number, what, skipped=True)
    with ExitStack() as stack:
        if setting.mount:
            stack.enter_context(_disk(folder / "disk", setting.mount))
        return _run(number, what, command, setting, folder, stock)


@contextmanager
def _disk(place: Path, options: str) -> Iterator[None]:
    """A small file system in memory."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def _run(
    number: int, what: str, command: str, setting: Setting, folder: Path, stock: Stock
) -> Outcome:
    series(folder)
    bids_dataset(folder / "data", 1)
    for item in ("small", "shards", "maps", "network.keras", "network.json"):
        stock.copy(item, folder)
    for name in ("home", "tmp"):
        (folder / name).mkdir()
    for name, text in setting.files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write(folder / name, text)
    away = bool(setting.place) or "rmdir" in setting.shell
    program, *arguments = _arguments(command, setting, folder, away)
    environment = _environment(setting, folder, stock)
    with tempfile.TemporaryDirectory(prefix="torture-log-") as place:
        script = write(
            Path(place) / program,
            f"from {program}.cli import main\n\nif __name__ == '__main__':\n"
            f"    main(prog_name='{program}')\n",
        )
        words = {
            "COMMAND": [sys.executable, str(script), *arguments],
            "MODULE": [sys.executable, "-m", program, *arguments],
        }
        line = setting.shell
        for key, value in words.items():
            line = line.replace(key, shlex.join(value))
        before = listing(folder)
        log = Path(place) / "log"
        with Path(f"{log}.out").open("w") as out, Path(f"{log}.err").open("w") as err:
            process = subprocess.Popen(
                [b"bash", b"-c", os.fsencode(line)],
                cwd=folder / setting.place,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        ended = wait(process.pid, log, LIMIT)
        process.returncode = ended.code
    codes = (0, 1, 2) if command == "bids" else (0, 2)
    codes = (*codes, 1, 141, -13) if "PIPESTATUS" in setting.shell else codes
    # The maps of a series are whole, and the next run of bids goes on from them.
    keep = ("home", "o/") if command == "bids" and "/dev/full" in setting.shell else ("home",)
    drawn = Try(
        what, (program, *arguments), setting.expect, codes, keep=keep, reports=setting.silent
    )
    faults = faults_of(drawn, ended, folder, before)
    faults += _settings_faults(setting, folder)
    kinds = [f"{what.split(', ')[-1]}: {fault}" for fault in faults]
    message = ended.lines[0] if ended.lines else ""
    return Outcome("surroundings", number, what, (line,), ended.code, message, kinds)


def _arguments(command: str, setting: Setting, folder: Path, away: bool) -> list[str]:
    """Words of a command; with absolute inputs where it does not run in the folder of the try."""
    out = setting.out.replace("FOLDER", str(folder))
    words = [word.replace("OUT", out) for word in {**COMMANDS, **MORE_COMMANDS}[command].split()]
    inputs = ("s.nii", "tis.txt", "small", "shards", "network.keras", "maps", "data")
    return [str(folder / word) if away and word.split("/")[0] in inputs else word for word in words]


def _environment(setting: Setting, folder: Path, stock: Stock) -> dict[str, str]:
    environment = {
        **os.environ,
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
        "MPLCONFIGDIR": str(stock.folder / "matplotlib"),
        "PYTHONPATH": os.pathsep.join(os.path.abspath(p) for p in _path() if p),  # noqa: PTH100
    }
    for name in ("TF_CPP_MIN_LOG_LEVEL", "KERAS_BACKEND", "KERAS_HOME", "OMP_NUM_THREADS"):
        environment.pop(name, None)
    for name, value in setting.variables:
        if value is None:
            environment.pop(name, None)
        else:
            environment[name] = value.replace("FOLDER", str(folder))
    return environment


def _path() -> list[str]:
    """Where the packages under test lie."""
    import relaxnet
    import relaxsim

    return [str(Path(str(m.__file__)).parents[1]) for m in (relaxnet, relaxsim)]


def _settings_faults(setting: Setting, folder: Path) -> list[str]:
    """Whether a file of the user's settings was changed."""
    return [
        f"changes {Path(name).name}"
        for name, text in setting.files
        if not (folder / name).is_file() or (folder / name).read_text() != text
    ]
