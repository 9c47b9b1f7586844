"""Speed and memory of the main jobs, with the machine's own peak beside them, in one run.

Run it on a quiet machine: a second busy process slows two-thread TensorFlow many times over.

Example:
    python tools/benchmark.py --out docs/benchmark.md
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np

PEAK = """
import time, numpy as np, tensorflow as tf
def best(f, n=5):
    f(); times = []
    for _ in range(n):
        t = time.perf_counter(); f(); times.append(time.perf_counter() - t)
    return min(times)
a = tf.random.normal((2048, 2048))
x = tf.random.normal((24, 40, 40, 36)); k = tf.random.normal((3, 3, 36, 36))
conv = tf.function(lambda: tf.nn.conv2d(x, k, 1, "SAME"))
print(2 * 2048**3 / best(lambda: (a @ a).numpy()) / 1e9,
      2 * 24 * 1600 * 9 * 36 * 36 / best(lambda: conv().numpy()) / 1e9)
"""
STEP = """
import sys, time, numpy as np, keras, tensorflow as tf
from relaxnet.rim import RIM
from relaxnet.resnet import ResNet
from relaxnet.training import Settings, make_optimizer, make_steps, patch_loss
N = 31
network = RIM() if sys.argv[1] == "rim" else ResNet(num_images=N)
step, _ = make_steps(network, make_optimizer(network, Settings(("",))), patch_loss)
rng = np.random.default_rng(0)
batch = [rng.random((24, 40, 40, N)), np.ones((24, 40, 40, 3)) * [1, 1.9, 900],
         np.full(24, 0.03), np.ones((24, 40, 40)), np.linspace(139, 937, N)]
batch = [tf.constant(x, tf.float32) for x in batch]
step(*batch); times = []
for _ in range(int(sys.argv[2])):
    t = time.perf_counter(); float(step(*batch)); times.append(time.perf_counter() - t)
print(np.median(times))
"""
PREDICT = """
import sys, time, numpy as np, tensorflow as tf
from relaxnet.models import load_network
network = load_network(sys.argv[1])
f = tf.function(lambda S, tau, sigma: network([S, tau, sigma])[-1], reduce_retracing=True)
rng = np.random.default_rng(0)
S = tf.constant(rng.random((1, 256, 256, 31)), tf.float32)
args = S, tf.constant(np.linspace(139, 937, 31), tf.float32), tf.constant([0.03])
f(*args); times = []
for _ in range(5):
    t = time.perf_counter(); f(*args).numpy(); times.append(time.perf_counter() - t)
print(np.median(times))
"""


def measure(command: list[str]) -> tuple[str, float, float]:
    """Standard output, wall seconds and peak memory (MB) of a command."""
    env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    begin = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=out, stderr=log, env=env)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - begin
        out.seek(0)
        text = out.read()
        if process.returncode:
            log.seek(0)
            raise SystemExit(f"{' '.join(command[:4])} failed:\n{log.read()[-2000:]}")
    return text, seconds, usage.ru_maxrss / 1024


def inline(code: str, *args: str) -> list[str]:
    """Command that runs a piece of Python in a process of its own."""
    return [sys.executable, "-c", code, *args]


def script(name: str) -> list[str]:
    """Command of a console script, run by this Python."""
    return inline(f"from {name}.cli import main; main()")


def rows(folder: Path, quick: bool) -> list[tuple[str, str, str]]:
    """(What, figure, peak memory) of each job."""
    table = []

    def add(what: str, figure: str, memory: float) -> None:
        table.append((what, figure, f"{memory:.0f} MB"))
        click.echo(" | ".join(table[-1]))

    text, _, memory = measure(inline(PEAK))
    matmul, conv = map(float, text.split())
    add("machine: float32 matrix product", f"{matmul:.0f} GFLOP/s", memory)
    add("machine: float32 3x3 convolution, 36 channels", f"{conv:.0f} GFLOP/s", memory)
    patches = 960 if quick else 7200
    data = folder / "shards"
    command = [*script("relaxsim"), "generate", "--tis", "cine31", "--patches", str(patches)]
    _, seconds, memory = measure([*command, "--out", str(data)])
    figure = f"{patches / seconds:.0f} patches/s ({seconds:.1f} s, whole command)"
    add(f"generate {patches} patches of 40 x 40 x 31", figure, memory)
    for kind, steps in (("rim", 10), ("resnet", 3)):
        text, _, memory = measure(inline(STEP, kind, str(3 if quick else steps)))
        figure = f"{float(text):.2f} s"
        if kind == "rim":
            figure += f" ({57 / float(text):.0f} GFLOP/s of 57 GFLOP)"
        add(f"{kind} training step, 24 x 40 x 40 x 31", figure, memory)
    text, _, memory = measure(inline(PREDICT, "rim-t1"))
    add("rim-t1, 256 x 256 x 31, warm", f"{float(text):.2f} s", memory)
    series = write_series(folder)
    for method in ("rim", "mle"):
        command = [*script("relaxnet"), "predict", str(series), "--tis", "cine31", "--mask", "none"]
        command += ["--method", method, "--out", str(folder / f"maps-{method}")]
        _, seconds, memory = measure(command)
        add(f"predict --method {method}, 256 x 256 x 31, whole command", f"{seconds:.1f} s", memory)
    return table


def write_series(folder: Path) -> Path:
    """A 256 x 256 x 1 x 31 series of noisy inversion recoveries."""
    import nibabel as nib

    from relaxsim.protocols import read_protocol
    from relaxsim.signals import INVERSION_RECOVERY

    rng = np.random.default_rng(0)
    kappa = np.stack(
        [
            rng.uniform(0.5, 1, (256, 256, 1)),
            np.full((256, 256, 1), 1.9),
            rng.uniform(500, 2000, (256, 256, 1)),
        ],
        -1,
    )
    S = INVERSION_RECOVERY.forward(kappa, read_protocol("cine31", "tis").tau)
    S = (1000 * (S + 0.02 * rng.standard_normal(S.shape))).astype(np.float32)
    path = folder / "series.nii.gz"
    nib.save(nib.Nifti1Image(S, np.diag([0.85, 0.85, 3, 1])), path)
    return path


def processor() -> str:
    """Name of the processor."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    return platform.processor() or platform.machine()


@click.command()
@click.option("--quick", is_flag=True, help="Fewer patches and steps.")
@click.option("--out", type=click.Path(path_type=Path), help="Markdown file.")
def main(quick: bool, out: Path | None) -> None:
    """Measure generation, training steps and prediction."""
    with tempfile.TemporaryDirectory() as folder:
        table = rows(Path(folder), quick)
    import tensorflow as tf

    head = {
        "processor": processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }
    text = f"# Speed and memory\n\n`python tools/benchmark.py` on {json.dumps(head)}\n\n"
    text += "| job | figure | peak memory |\n|---|---|---|\n"
    text += "".join(f"| {' | '.join(row)} |\n" for row in table)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
