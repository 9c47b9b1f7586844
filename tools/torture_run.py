"""How `tools/torture.py` runs a command and judges how it ended.

A command runs in a forked copy of this process, which has imported the packages once, or in a
process of its own where the environment, streams or signals of a real one matter. Both run with a
limit of time and memory, and leave what they printed, the processor time, and the peak memory.
"""

from __future__ import annotations

import atexit
import importlib
import logging
import os
import re
import resource
import signal
import sys
import tempfile
import threading
import time
import traceback
import types
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import nibabel as nib
import numpy as np

#: Seconds of processor time that a refusal may take beyond that of a good run of its command.
REFUSAL_SECONDS = 10.0
#: A command that has run for this many seconds hangs if it has worked for as many, or if it does
#: nothing for `IDLE_SECONDS`; other work on the machine may slow it down.
HANG_SECONDS = 60.0
IDLE_SECONDS = 20.0
#: Peak memory that a command may take, and that at which it is ended, in bytes.
PEAK_BYTES = 2e9
END_BYTES = 6e9
#: Largest file that a command can write, in bytes.
FILE_BYTES = 4 << 30
#: Seconds for processes of a command to end after it.
ORPHAN_SECONDS = 10.0
#: Name of the file that code out of a hostile file would write.
BREACH = "breach"
#: What may come of a try.
REFUSED, MAPPED, EITHER = "refused", "mapped", "either"
#: Lines on standard error that come from libraries and tell a user nothing.
NOISE = re.compile(
    r"\w*Warning:|pixdim|sizeof_hdr|HDF5-DIAG|Exception ignored|\.py:\d+|\.cc:\d+|I0000|W0000|E0000"
    r"|nibabel|oneDNN|cuda|absl::|resource_tracker|Fatal Python|leaked|\bdtype\('|quaternion matrix"
)
#: Modules that commands import, loaded once before the copies are made. The names differ between
#: versions of the packages; those that are missing are left out.
LIGHT = (
    "scipy.optimize",
    "scipy.ndimage",
    "scipy.special",
    "h5py",
    "nibabel",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
    "relaxsim.shards",
    "relaxsim.shards.run",
    "relaxsim.anatomy",
    "relaxsim.phantoms",
    "relaxnet.prediction.files",
    "relaxnet.file_prediction",
    "relaxnet.mle",
    "relaxnet.fitting.voxelwise",
    "relaxnet.report",
    "relaxnet.bids_run",
    "relaxnet.bids.run",
)
HEAVY = (
    "relaxnet.training",
    "relaxnet.training.loop",
    "relaxnet.training.calibration",
    "relaxnet.calibration",
    "relaxnet.export",
    "relaxnet.networks.export",
    "relaxnet.rim",
    "relaxnet.networks.rim",
    "relaxnet.resnet",
    "relaxnet.networks.resnet",
)


@dataclass(frozen=True)
class Try:
    """One command and what has to come of it.

    Attributes
    ----------
    what : str
        What is wrong with its input.
    arguments : tuple of str
        The program, ``relaxnet`` or ``relaxsim``, and its arguments.
    expect : str
        REFUSED, MAPPED or EITHER.
    codes : tuple of int
        Exit codes that are in order.
    work : bool
        It asks for more work than the limit allows: running on is no fault.
    keep : tuple of str
        Names of files and folders that may change although the command is refused.
    reports : bool
        With exit code 2 it reports what it has found, in lines of its own.
    """

    what: str
    arguments: tuple[str, ...]
    expect: str = EITHER
    codes: tuple[int, ...] = (0, 2)
    work: bool = False
    keep: tuple[str, ...] = ()
    reports: bool = False


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes
    ----------
    code : int
        Exit code; negative: the signal that ended it.
    output, errors : str
        What it printed.
    seconds : float
        Processor time of it and its processes.
    wall : float
        Seconds until its end.
    peak : int
        Peak memory in bytes.
    stopped : str
        ``time`` or ``memory`` if a limit ended it, ``orphans`` if processes of it outlived it.
    """

    code: int
    output: str
    errors: str
    seconds: float
    wall: float
    peak: int
    stopped: str = ""

    @property
    def lines(self) -> list[str]:
        """Error lines."""
        text = f"{self.output}\n{self.errors}".replace("\r", "\n")
        return [line for line in text.splitlines() if line.startswith("Error:")]


@dataclass
class Outcome:
    """What came of a try: `faults` are kinds, and are empty if all is well."""

    part: str
    number: int
    what: str
    arguments: tuple[str, ...] = ()
    code: int | None = None
    line: str = ""
    faults: list[str] = field(default_factory=list)
    skipped: bool = False


def preload(heavy: bool) -> None:
    """Import what the commands import, `heavy` with TensorFlow."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)  # TensorFlow's C++ part talks while it is imported
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name in ("relaxsim.cli", "relaxnet.cli", *LIGHT, *(HEAVY if heavy else ())):
                _import(name)
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _import(name: str) -> None:
    """Import a module; one of ours only from where its package lies, and if it is there."""
    package, *rest = name.split(".")
    if package in ("relaxnet", "relaxsim"):
        origin = importlib.import_module(package).__file__
        place = Path(str(origin)).parent.joinpath(*rest)
        if not (place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()):
            return
    importlib.import_module(name)


def fork(
    arguments: Sequence[str],
    folder: Path,
    log: Path,
    prepare: Callable[[], object] | None = None,
    environment: Mapping[str, str] | None = None,
) -> int:
    """Start a command in a copy of this process; returns its process number.

    Parameters
    ----------
    arguments : sequence of str
        Program and arguments.
    folder : path
        Working folder.
    log : path
        Where output and errors go: files of this name with ``.out`` and ``.err``.
    prepare : callable, optional
        Called in the copy before the command.
    environment : mapping, optional
        Variables that are set for it.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    number = os.fork()
    if number == 0:
        _command(arguments, folder, log, prepare, environment or {})
    return number


def _command(
    arguments: Sequence[str],
    folder: Path,
    log: Path,
    prepare: Callable[[], object] | None,
    environment: Mapping[str, str],
) -> NoReturn:
    """Run a command as its console script would, and end this process."""
    code = 1
    try:
        os.setsid()
        os.chdir(folder)
        os.environ.update(environment)
        _streams(log)
        resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        tempfile.tempdir = None
        weakref.finalize._registry.clear()  # type: ignore[attr-defined]  # folders of this script
        warnings.resetwarnings()
        for quiet in (DeprecationWarning, PendingDeprecationWarning, ImportWarning):
            warnings.simplefilter("ignore", quiet)
        warnings.simplefilter("ignore", ResourceWarning)
        # Processes that the command spawns import its main module again: it has none of ours.
        sys.modules["__main__"] = types.ModuleType("__main__")
        sys.argv = list(arguments)
        main = importlib.import_module(f"{arguments[0]}.cli").main
        if prepare is not None:
            prepare()
        try:
            main()
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
        except KeyboardInterrupt:
            traceback.print_exc()
            code = 130
        except BaseException:
            traceback.print_exc()
            code = 1
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _streams(log: Path) -> None:
    """Send the streams of this process to files; loggers that wrote to the old ones follow."""
    previous = {sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__}
    for descriptor, target in ((0, os.devnull), (1, f"{log}.out"), (2, f"{log}.err")):
        opened = os.open(target, os.O_RDWR if descriptor == 0 else os.O_CREAT | os.O_WRONLY, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.stdin = os.fdopen(0, "r", closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False, errors="backslashreplace")
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False, errors="backslashreplace")
    loggers = [logging.getLogger(name) for name in logging.root.manager.loggerDict]
    for logger in (*loggers, logging.root):
        for handler in logger.handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream in previous:
                handler.stream = sys.stderr


def wait(
    number: int,
    log: Path,
    limit: float = HANG_SECONDS,
    watch: Callable[[float], int | None] | None = None,
) -> Ended:
    """Wait for a process that leads a session of its own, within limits of time and memory.

    Parameters
    ----------
    number : int
    log : path
        As given to `fork`.
    limit : float
        Seconds.
    watch : callable, optional
        Called with the seconds since the start until it returns the number of a signal, which is
        sent to the process.
    """
    begin, stopped, sent = time.monotonic(), "", False
    patience = _Patience(number, limit)
    while True:
        done, status, used = os.wait4(number, os.WNOHANG)
        wall = time.monotonic() - begin
        if done:
            break
        if watch is not None and not sent and (wanted := watch(wall)) is not None:
            os.kill(number, wanted)
            sent = True
        if _resident(number) > END_BYTES:
            stopped = "memory"
        elif wall > limit and patience.ends(wall):
            stopped = "time"
        if stopped:
            _kill_group(number)
        time.sleep(0.002 if watch is not None else 0.01)
    if not stopped and not _group_ends(number):
        stopped = "orphans"
    _kill_group(number)
    output, errors = (_text(Path(f"{log}.{end}")) for end in ("out", "err"))
    return Ended(
        os.waitstatus_to_exitcode(status),
        output,
        errors,
        used.ru_utime + used.ru_stime,
        wall,
        used.ru_maxrss * 1024,
        stopped,
    )


class _Patience:
    """Tells a command that hangs from one that other work slows down."""

    def __init__(self, number: int, limit: float) -> None:
        self.number, self.limit = number, limit
        self.looked = self.moved = 0.0
        self.work = -1.0

    def ends(self, wall: float) -> bool:
        """Whether it has worked for too long, or has not done so for a while."""
        if wall - self.looked < 1:
            return False
        self.looked = wall
        work = _group_seconds(self.number)
        if work > self.work + 0.05:
            self.work, self.moved = work, wall
        return work > self.limit or wall - self.moved > IDLE_SECONDS


def _group_seconds(number: int) -> float:
    """Processor time of the processes of a session that are alive, and those they waited for."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except (OSError, IndexError):
            continue
        if int(fields[3]) == number:
            ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _text(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return file.read(4_000_000).decode("utf-8", "backslashreplace")


def _resident(number: int) -> int:
    try:
        return int(Path(f"/proc/{number}/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, IndexError):
        return 0


def _kill_group(number: int) -> None:
    try:
        os.killpg(number, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _group_ends(number: int) -> bool:
    """Whether all processes of a group end within some seconds."""
    begin = time.monotonic()
    while time.monotonic() - begin < ORPHAN_SECONDS:
        try:
            os.killpg(number, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def surroundings(folder: Path, cache: Path) -> dict[str, str]:
    """Variables of a command whose home and temporary folder are looked at after it."""
    for name in ("home", "tmp"):
        (folder / name).mkdir(exist_ok=True)
    return {
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
        "MPLCONFIGDIR": str(cache),
        "OMP_NUM_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }


def run(attempt: Try, folder: Path, good: Ended | None = None) -> tuple[Ended, list[str]]:
    """Run a try in a copy of this process and return how it ended, with its faults."""
    with tempfile.TemporaryDirectory(prefix="torture-log-") as place:
        log = Path(place) / "log"
        variables = surroundings(folder, Path(place))
        before = listing(folder)
        number = fork(attempt.arguments, folder, log, environment=variables)
        ended = wait(number, log)
    return ended, faults_of(attempt, ended, folder, before, good)


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Every path below a folder, with size and time of its last change if it is a file."""
    found = {}
    for place, folders, files in os.walk(os.fsencode(folder)):
        for name in folders:
            found[os.fsdecode(os.path.join(place, name))] = (0, 0)  # noqa: PTH118
        for name in files:
            path = os.path.join(place, name)  # noqa: PTH118
            status = os.lstat(path)
            found[os.fsdecode(path)] = (status.st_size, status.st_mtime_ns)
    return found


def faults_of(
    attempt: Try,
    ended: Ended,
    folder: Path,
    before: Mapping[str, tuple[int, int]],
    good: Ended | None = None,
) -> list[str]:
    """Kinds of faults of a command that has ended."""
    faults = []
    if ended.stopped == "time" and not attempt.work:
        faults.append("hangs")
    elif ended.stopped == "memory":
        faults.append(f"takes more than {END_BYTES / 1e9:g} GB")
    elif ended.stopped == "orphans":
        faults.append("its processes outlive it")
    elif ended.code < 0 and not ended.stopped:
        faults.append(f"ended by {signal.Signals(-ended.code).name}")
    elif ended.code not in attempt.codes and not ended.stopped:
        faults.append(f"exit code {ended.code}")
    faults += traces(ended.errors)
    faults += noise(ended)
    if ended.stopped != "memory" and ended.peak > PEAK_BYTES:
        faults.append(f"takes more than {PEAK_BYTES / 1e9:g} GB")
    if (folder / BREACH).exists():
        faults.append("code of the file was run")
    if ended.code == 2:
        faults += _refusal(attempt, ended, folder, before, good)
    if ended.code == 0:
        faults += sorted(set(unsound(folder, before)))
    if (attempt.expect, ended.code) in ((REFUSED, 0), (MAPPED, 2)):
        faults.append(f"expected to be {attempt.expect}")
    return faults


def _refusal(
    attempt: Try,
    ended: Ended,
    folder: Path,
    before: Mapping[str, tuple[int, int]],
    good: Ended | None,
) -> list[str]:
    faults = []
    if len(ended.lines) != 1 and not attempt.reports:
        faults.append(f"{len(ended.lines) or 'no'} error lines")
    longest = max(map(len, attempt.arguments))
    if any(len(line) > 2000 + 2 * longest for line in ended.lines):
        faults.append("an error line of more than 2000 letters")
    after = listing(folder)
    changed = {p for p in {*after, *before} if after.get(p) != before.get(p)}
    kept = tuple(str(folder / name) for name in attempt.keep)
    left = [p for p in changed if not (kept and p.startswith(kept))]
    if left:
        home = any(p.startswith(str(folder / "home")) for p in left)
        kind = "in HOME" if home else "temporary" if _is_temporary(left[0]) else "folder or file"
        faults.append(f"refused, and leaves something ({kind})")
    start = good.seconds if good is not None else 0
    if ended.seconds > start + REFUSAL_SECONDS:
        faults.append(f"takes more than {REFUSAL_SECONDS:g} s to refuse")
    return faults


def _is_temporary(path: str) -> bool:
    return is_temporary(Path(path).name) or "/tmp/" in path.split("torture-")[-1]


def is_lock(name: str) -> bool:
    """Whether a file is the lock of a run; it holds nothing, and the next run takes it."""
    return name.startswith(".") and name.endswith("lock")


def is_temporary(name: str) -> bool:
    """Whether a file or folder has a name of unfinished work."""
    if name == ".bidsignore" or is_lock(name):
        return False
    return name.startswith(".") or ".part" in name or name.endswith((".tmp", "~"))


def traces(errors: str) -> list[str]:
    """Kinds of tracebacks: the exception, and the last place in our packages that it came by."""
    if "Traceback (most recent call last)" not in errors:
        return []
    last = errors.rsplit("Traceback (most recent call last)", 1)[-1]
    places = re.findall(r'File "([^"]+)", line (\d+), in (\S+)', last)
    ours = [p for p in places if re.search(r"/relax(net|sim)/", p[0])] or places or [("?", "", "?")]
    path, _, function = ours[-1]
    names = re.findall(r"^([\w.]*(?:Error|Exception|Exit|Interrupt|Warning|Bomb)\w*)\b", last, re.M)
    short = re.sub(r"^.*/(relax(?:net|sim)/)", r"\1", path)
    return [f"traceback: {names[-1] if names else 'exception'} in {short}:{function}"]


def noise(ended: Ended) -> list[str]:
    """Kinds of lines that libraries print."""
    text = ended.errors.split("Traceback (most recent call last)")[0].replace("\r", "\n")
    kinds = []
    for line in text.splitlines():
        if line.startswith(("Error:", "Warning:", "Usage:", "Note:")) or not NOISE.search(line):
            continue
        short = re.sub(r"^.*?/(relax(?:net|sim)|site-packages|lib/python[\d.]+)/", r"\1/", line)
        short = re.sub(r"\d[\d.e+-]*", "#", re.sub(r"torture-\w+", "", short))
        kinds.append(f"noise: {short.strip()[:110]}")
    return sorted(set(kinds))[:2]


def unsound(folder: Path, before: Mapping[str, tuple[int, int]]) -> list[str]:
    """What is wrong with the files that a command which succeeded has left."""
    faults = []
    for path, state in listing(folder).items():
        if before.get(path) == state:
            continue
        name, inside = Path(path).name, path.replace(str(folder), "")
        if inside.startswith("/home/"):
            continue
        if inside.startswith("/tmp/"):
            faults.append("succeeds, and leaves something in TMPDIR")
        elif is_temporary(name):
            faults.append("succeeds, and leaves something temporary")
        elif name.endswith("map.nii.gz") or name in ("status.nii.gz", "residual.nii.gz"):
            faults += _map_faults(Path(path))
    return faults


def _map_faults(path: Path) -> list[str]:
    try:
        image = nib.load(path)
        values = np.asarray(image.dataobj)
    except Exception:
        return ["a map cannot be read"]
    if image.get_data_dtype() != np.float32 or image.ndim != 3:
        return ["a map is not three-dimensional float32"]
    return [] if np.isfinite(values).all() else ["a map is not finite"]
