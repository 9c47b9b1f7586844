"""Speed and memory of the main jobs, with the peak of the machine beside them, in one run.

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
import json, time, tensorflow as tf
def best(f, n=5):
    f(); times = []
    for _ in range(n):
        t = time.perf_counter(); f(); times.append(time.perf_counter() - t)
    return min(times)
rates = {}
for name in ("float32", "bfloat16"):
    kind = tf.as_dtype(name)
    a = tf.cast(tf.random.normal((2048, 2048)), kind)
    product = tf.function(lambda: a @ a)
    rates["matrix product", name] = 2 * 2048**3 / best(lambda: product().numpy())
    for width in (36, 160):
        x = tf.cast(tf.random.normal((24, 40, 40, width)), kind)
        k = tf.cast(tf.random.normal((3, 3, width, width)), kind)
        conv = tf.function(lambda: tf.nn.conv2d(x, k, 1, "SAME"))
        flop = 2 * 24 * 1600 * 9 * width * width
        rates[f"3x3 convolution, {width} channels", name] = flop / best(lambda: conv().numpy())
print(json.dumps([[*k, v / 1e9] for k, v in rates.items()]))
"""
NETWORK = """
import json, sys, time, numpy as np, tensorflow as tf
from relaxnet.networks.registry import load_network, shipped_models
from relaxnet.networks.resnet import ResNet
from relaxnet.networks.rim import DEFAULT, RIM
what, repeats, precision = sys.argv[1], int(sys.argv[2]), sys.argv[3]
name = {"rim": "rim-cine31", "resnet": "resnet-cine31"}[what]
new = {
    "rim": lambda: RIM("inversion_recovery", **DEFAULT),
    "resnet": lambda: ResNet("inversion_recovery", num_images=31),
}[what]
network = exact = load_network(name) if name in shipped_models() else new()
if precision != "float32":
    network = type(exact).from_config({**exact.get_config(), "dtype": f"mixed_{precision}"})
    network.set_weights(exact.get_weights())
rng = np.random.default_rng(0)
tau = np.linspace(139, 937, 31).astype("f")
def series(*shape):
    yx = [np.linspace(0, 9, n) for n in shape[-2:]]
    T = 1200 + 600 * np.sin(yx[0])[:, None] * np.cos(yx[1]) + np.zeros(shape)
    S = np.abs(1 - 1.9 * np.exp(-tau / T[..., None])) + 0.02 * rng.standard_normal((*shape, 31))
    return np.abs(S).astype("f")
def times(f):
    f(); out = []
    for _ in range(repeats):
        t = time.perf_counter(); f(); out.append(time.perf_counter() - t)
    return float(np.median(out))
"""
STEP = f"""{NETWORK}
from relaxnet.training.loop import make_optimizer, make_steps
from relaxnet.training.loss import patch_loss
from relaxnet.training.settings import Settings
step, _ = make_steps(network, make_optimizer(network, Settings(("",))), patch_loss)
batch = [series(24, 40, 40), np.ones((24, 40, 40, 3)) * [1, 1.9, 900], np.full(24, 0.02),
         np.ones((24, 40, 40)), tau, np.ones(24)]
batch = [tf.constant(x, tf.float32) for x in batch]
print(times(lambda: float(step(*batch))))
"""
PREDICT = f"""{NETWORK}
from relaxnet.networks.tiling import run_network
shape = tuple(map(int, sys.argv[4:]))
S, noise = series(*shape), np.full(shape[0], 0.02)
seconds = times(lambda: run_network(network, S, tau, noise))
change = 0.0
if network is not exact:
    T = [run_network(n, S[:1], tau, noise[:1])[..., 2] for n in (network, exact)]
    change = float(np.percentile(np.abs(T[0] / T[1] - 1), 99))
print(json.dumps([seconds, change]))
"""
#: Operations of a training step of 24 patches of 40 x 40 (three times those of the forward pass:
#: products and convolutions of the default RIM, J = 6, and of the ResNet).
STEP_GFLOP = {"rim": 61, "resnet": 725}


#: Network, precision and slices x rows x columns of what is timed warm.
PREDICTIONS = (
    ("rim", "float32", (1, 256, 256)),
    ("rim", "bfloat16", (1, 256, 256)),
    ("resnet", "float32", (1, 256, 256)),
    ("resnet", "bfloat16", (1, 256, 256)),
    ("rim", "float32", (10, 210, 210)),
)


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
    """Command that runs a piece of Python in a new process."""
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
    for what, precision, rate in json.loads(text):
        add(f"machine: {precision} {what}", f"{rate:.0f} GFLOP/s", memory)
    patches = 960 if quick else 7200
    data = folder / "shards"
    command = [*script("relaxsim"), "generate", "--tis", "cine31", "--patches", str(patches)]
    _, seconds, memory = measure([*command, "--out", str(data)])
    figure = f"{patches / seconds:.0f} patches/s ({seconds:.1f} s, whole command)"
    add(f"generate {patches} patches of 40 x 40 x 31", figure, memory)
    for kind, steps in (("rim", 10), ("resnet", 3)):
        text, _, memory = measure(inline(STEP, kind, str(1 if quick else steps), "float32"))
        rate = STEP_GFLOP[kind] / float(text)
        figure = f"{float(text):.2f} s ({rate:.0f} GFLOP/s)"
        add(f"{kind} training step, 24 x 40 x 40 x 31", figure, memory)
    for kind, precision, shape in PREDICTIONS:
        numbers = [str(n) for n in ((shape[0], 64, 64) if quick else shape)]
        command = inline(PREDICT, kind, str(1 if quick else 5), precision, *numbers)
        text, _, memory = measure(command)
        seconds, change = json.loads(text)
        figure = f"{seconds:.2f} s ({np.prod([int(n) for n in numbers]) / seconds:.0f} voxels/s)"
        if precision != "float32":
            figure += f"; T1 changes by at most {100 * change:.2f} % in 99 % of voxels"
        add(f"{kind}, {' x '.join(numbers)} x 31, warm, {precision}", figure, memory)
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

    from relaxsim.models.inversion_recovery import MODEL as INVERSION_RECOVERY
    from relaxsim.models.protocols import read_protocol

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


def sections_of(path: Path) -> str:
    """Sections after the table of an earlier file; they are kept."""
    old = path.read_text(encoding="utf-8") if path.is_file() else ""
    _, heading, rest = old.partition("\n## ")
    return heading + rest


@click.command()
@click.option("--quick", is_flag=True, help="Fewer patches and steps.")
@click.option("--out", type=click.Path(path_type=Path), help="Markdown file; keeps its sections.")
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
        out.write_text(text + sections_of(out), encoding="utf-8")


if __name__ == "__main__":
    main()
