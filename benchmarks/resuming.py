"""Runs that are killed at random moments and go on, against the same runs left alone; and the cost.

``python -m benchmarks.resuming``: 50 runs of the co-occurrence flow, 20 with a descent beside it,
each a process of its own, killed by SIGKILL once to three times at moments drawn over its whole
life, imports and compilation included, and resumed until it ends. After every kill the directory
must be explained by `gradflow.load` and `gradflow report`. Final parameters and everything stored
must be the bits of the run that was left alone. Then what checkpoints at the default cadence cost
a flow of a minute, in one process and alternating with the same flow without any.
"""

import argparse
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

import gradflow as gf
from gradflow.storage import read_trajectory

CONFIG = Path(__file__).parent.parent / "configs" / "cooccurrence.yaml"
# Tight, so that more of a process's life is integration; a state at every fortieth of the time.
COMMON = (
    "figures=false", "report=false", "flow.certify=false", "flow.t1=30",
    "checkpoint={save: {kind: logarithmic, count: 40}}",
)  # fmt: skip
KINDS = {
    "flow": (50, ("descent=null", "flow.rtol=1e-7")),
    "flow and descent": (20, ("descent={learning_rates: [0.01]}", "flow.rtol=1e-5")),
}
SEEDS = 5  # of each kind, each left alone once
RESULTS = ("flow.nc", "descent-0.nc", "comparison.nc")


def command(*arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "gradflow", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen) -> float:
    began = time.perf_counter()
    _, told = process.communicate()
    assert process.returncode == 0, told
    return time.perf_counter() - began


def solve(folder: Path, seed: int, options: tuple[str, ...]) -> subprocess.Popen:
    of_seed = (*COMMON, *options, f"seed={seed}")
    return command("solve", str(CONFIG), *of_seed, "--output", str(folder), "--resume")


def same(folder: Path, other: Path) -> bool:
    """Whether two runs stored the same bits, but for times of the machine."""
    with np.load(folder / "flow-final.npz") as a, np.load(other / "flow-final.npz") as b:
        if list(a) != list(b) or any(a[key].tobytes() != b[key].tobytes() for key in a):
            return False
    for name in RESULTS:
        if (folder / name).exists() != (other / name).exists():
            return False
        if (folder / name).exists():
            a, b = (read_trajectory(path / name) for path in (folder, other))
            if list(a) != list(b) or any(a[key].tobytes() != b[key].tobytes() for key in a):
                return False
            if any(a.crossings[key].tobytes() != b.crossings[key].tobytes() for key in a.crossings):
                return False
    return True


def explained(folder: Path) -> bool:
    """Whether what a killed run has left can be read and put on a page, if it had begun."""
    if not (folder / "manifest.json").exists():
        return True
    gf.load(folder)
    report = [sys.executable, "-m", "gradflow", "report", str(folder)]
    done = subprocess.run(report, capture_output=True)
    (folder / "report.html").unlink(missing_ok=True)
    return done.returncode == 0


def killed(folder: Path, seed: int, options: tuple[str, ...], life: float) -> tuple[int, int]:
    """Run, kill, go on; how often it was killed, and how often it had a state to go on from."""
    kills = had = 0
    for moment in [random.uniform(0.1, 0.95) * life for _ in range(random.randint(1, 3))]:
        process = solve(folder, seed, options)
        try:
            process.communicate(timeout=moment)
            break  # it was faster
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
        kills += 1
        had += any((folder / "checkpoints").glob("*.npz"))
        assert explained(folder), folder
    if not kills:
        shutil.rmtree(folder)
        return killed(folder, seed, options, 0.8 * life)
    finish(solve(folder, seed, options))
    return kills, had


def survival(kind: str, runs: int, options: tuple[str, ...], home: Path) -> None:
    whole, lives = [], []
    for seed in range(SEEDS):
        alone = home / f"{kind}-{seed}-alone"
        lives.append(finish(solve(alone, seed, options)))
        whole.append(alone)
    life = statistics.median(lives[1:])
    equal = kills = had = 0
    for i in range(runs):
        seed = i % SEEDS
        folder = home / f"{kind}-{i}"
        k, h = killed(folder, seed, options, life)
        kills, had = kills + k, had + h
        equal += same(folder, whole[seed])
    print(
        f"{kind}: {equal} of {runs} bit for bit, killed {kills} times, {had} of them with a state "
        f"to go on from; a run left alone takes {life:.1f} s",
        flush=True,
    )


def overhead(seconds: float) -> None:
    """The flow on as many samples as take it so long, with checkpoints and without."""
    jax.config.update("jax_enable_x64", True)

    def solve(samples: int, checkpoints: gf.Checkpoints | None = None) -> float:
        problem = gf.tasks.Cooccurrence(samples=samples).build(jax.random.key(0))
        began = time.perf_counter()
        flow = gf.solve(
            problem, t1=300.0, rtol=1e-7, solver="tsit5", spectrum=gf.Spectrum(),
            checkpoints=checkpoints,
        )  # fmt: skip
        return time.perf_counter() - began - flow.stats["compile_seconds"]

    samples = 6000
    samples = 6 * int(samples / 6 * seconds / solve(samples))
    ratios = []
    with tempfile.TemporaryDirectory() as home:
        for i in range(3):
            without = solve(samples)
            kept = gf.Checkpoints(Path(home) / str(i))
            ratios.append(solve(samples, kept) / without)
            print(
                f"{samples} samples: {without:.1f} s without, with {kept.number} checkpoints x "
                f"{ratios[-1]:.4f}",
                flush=True,
            )
    print(f"with checkpoints: x {statistics.median(ratios):.4f} in the median", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=(*KINDS, "cost"), help="one part")
    only = parser.parse_args().only
    random.seed(0)
    with tempfile.TemporaryDirectory() as home:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = f"{home}/compiled"
        for kind, (runs, options) in KINDS.items():
            if only in (None, kind):
                survival(kind, runs, options, Path(home))
    if only in (None, "cost"):
        overhead(60.0)


if __name__ == "__main__":
    main()
