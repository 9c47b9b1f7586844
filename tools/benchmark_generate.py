"""What limits the speed of relaxsim generate.

Measured are the exponential, the random numbers and the disk, each alone; then shards and runs.

Times of one process are CPU times, so that other work on the machine disturbs them little; those of
whole commands are wall times, with the peak memory of all their processes together (Linux).

Example:
    python tools/benchmark_generate.py --quick
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

# ruff: noqa: E402  (before numpy is imported)
for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

import click
import numpy as np

from relaxsim.anatomy.anatomy import BUILTIN, file_checksum
from relaxsim.models.protocols import read_protocol
from relaxsim.shards.generate import Settings, make_shard
from relaxsim.shards.layout import write_shard
from relaxsim.simulation.noise import standard_normal
from relaxsim.simulation.tissues import read_tissues

SAMPLES = 40 * 40 * 31  # of a patch


def cpu_seconds(work: Callable[[], object], repeats: int) -> float:
    """CPU seconds of one call: the smallest of several."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def samples(seconds: float, number: int) -> str:
    """Rate in words, in samples and in patches of 40 x 40 x 31."""
    rate = number / seconds
    return f"{rate / 1e6:7.0f} M/s  = {rate / SAMPLES:6.0f} patches/s"


def alone(repeats: int) -> None:
    """Exponential and random numbers, in blocks that stay in a core's cache."""
    rng = np.random.Generator(np.random.SFC64(0))
    x = -rng.random(2**16, dtype=np.float32)
    out = np.empty_like(x)
    seconds = cpu_seconds(lambda: [np.exp(x, out=out) for _ in range(100)], repeats)
    click.echo(f"exponential alone, float32        {samples(seconds, 100 * x.size)}")
    seconds = cpu_seconds(
        lambda: [rng.standard_normal(out=out, dtype=np.float32) for _ in range(30)], repeats
    )
    click.echo(f"numpy's normals alone, float32    {samples(seconds, 30 * x.size)}")
    shape = (30, x.size)
    seconds = cpu_seconds(lambda: standard_normal(rng, shape), repeats)
    click.echo(f"relaxsim's normals alone          {samples(seconds, 30 * x.size)}")


def disk(folder: Path, repeats: int) -> None:
    """Plain writes of a shard's size, flushed to the disk."""
    data = os.urandom(50_000_000)
    path = folder / "plain"
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        with path.open("wb") as file:
            file.write(data)
            os.fsync(file.fileno())
        times.append(time.perf_counter() - start)
    path.unlink()
    rate = len(data) / min(times)
    click.echo(
        f"disk alone, flushed, wall time    {rate / 1e6:7.0f} MB/s = "
        f"{rate / SAMPLES / 4:6.0f} patches/s"
    )


def settings(brains: tuple[Path, ...], **fields: object) -> Settings:
    """A run on cine31."""
    protocol, table = read_protocol("cine31", "tis"), read_tissues("paper")
    anatomies = [(str(path), file_checksum(path)) for path in brains] or [(BUILTIN, "0")]
    return Settings(
        sequence="tis",
        protocols=((protocol.name, tuple(protocol.tau.tolist())),),
        anatomies=tuple(anatomies),
        tissues=(table.name, table.text),
        patches=240 * 1000,
        **fields,  # type: ignore[arg-type]
    )


def shards(brains: tuple[Path, ...], folder: Path, repeats: int) -> None:
    """One process: simulation and writing of a shard."""
    start = time.process_time()
    plain = settings(brains[:1])
    arrays, protocol = make_shard(plain, 0)
    first = time.process_time() - start
    kinds = {
        "shard, crisp labels": {},
        "shard, Rician noise": {"noise": "rician"},
        "shard, smooth B and finite TR": {"b_field": "smooth", "tr_range": (1000.0, 3000.0)},
        "shard, partial volumes 1 to 2 mm": {"voxel_size": (1.0, 2.0)},
        "shard, half of it drawn shapes": {"shapes": 0.5},
    }
    for name, fields in kinds.items():
        run = settings(brains[:1], **fields)
        make_shard(run, 0)
        seconds = cpu_seconds(lambda run=run: make_shard(run, 1), repeats)
        click.echo(f"{name:<34}{240 / seconds:7.0f} patches/s")
        if name == "shard, crisp labels":
            click.echo(f"{'  its anatomy, once a process':<34}{first - seconds:7.1f} s")
    path = folder / "shard-00000.h5"
    seconds = cpu_seconds(
        lambda: write_shard(path, arrays, plain.model, protocol.tau, "x", 0, plain.to_json()),
        repeats,
    )
    path.unlink()
    click.echo(f"{'shard, writing alone':<34}{240 / seconds:7.0f} patches/s")


def runs(brains: tuple[Path, ...], folder: Path, sizes: tuple[int, ...]) -> None:
    """Whole commands."""
    words = [word for path in brains for word in ("--brains", str(path))]
    for patches in sizes:
        for jobs in (1, 2):
            out = folder / f"run-{patches}-{jobs}"
            program = "from relaxsim.cli.group import main; main()"
            command = [sys.executable, "-c", program, "generate", "--tis", "cine31", *words]
            command += ["--patches", str(patches), "--jobs", str(jobs), "--out", str(out)]
            seconds, memory = watched(command)
            click.echo(
                f"command, {patches:5} patches, {jobs} processes {patches / seconds:7.0f} "
                f"patches/s ({seconds:.1f} s, {memory:.0f} MB)"
            )
            for path in out.iterdir():
                path.unlink()


def watched(command: list[str]) -> tuple[float, float]:
    """Wall time in s and peak memory in MB of a command and its children."""
    start, peak = time.perf_counter(), 0.0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak = max(peak, resident(process.pid))
            time.sleep(0.05)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed")
    return time.perf_counter() - start, peak


def resident(pid: int) -> float:
    """Memory of a process and its children, MB; 0 where there is no /proc."""
    pages, parents = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int(
                (folder / "stat").read_text().rsplit(")", 1)[1].split()[1]
            )
            pages[int(folder.name)] = int((folder / "statm").read_text().split()[1])
        except (OSError, IndexError):
            continue
    family = [p for p in pages if pid in (p, parents.get(p))]
    return sum(pages[p] for p in family) * os.sysconf("SC_PAGESIZE") / 1e6


@click.command()
@click.option("--quick", is_flag=True, help="Few repeats and small runs.")
@click.option("--brains", multiple=True, type=click.Path(path_type=Path), help="Label volumes.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where to write. Default: /tmp.")
def main(quick: bool, brains: tuple[Path, ...], folder: Path | None) -> None:
    """Measure all rates and print them."""
    repeats = 3 if quick else 8
    click.echo(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, numpy {np.__version__}")
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        alone(repeats)
        disk(Path(temporary), repeats)
        shards(brains, Path(temporary), repeats)
        runs(brains, Path(temporary), (960,) if quick else (7200, 21600))


if __name__ == "__main__":
    main()
