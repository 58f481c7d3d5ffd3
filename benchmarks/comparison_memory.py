"""The memory that `gradflow.compare` takes: eight descents beside the flow of a large model.

``python -m benchmarks.comparison_memory``: two million parameters in float64, at 20 and at 200
times, each in a process of its own: its peak resident memory above that before the call, in copies
of the parameters per run. Beside it, the same of a model of 200 parameters: what compiling takes,
and everything else that does not depend on the model. The sharpness, whose method holds fifteen
copies at a time, is recorded at the start and the end.
"""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import gradflow as gf

LARGE, SMALL = 1000, 10
RATES = [0.02 - 0.0002 * k for k in range(8)]


def loss(params, data):
    return jnp.mean((jnp.tanh(data @ params["in"]) @ params["out"]) ** 2)


def resident(key):
    """A number of bytes from the kernel's account of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return 1024 * int(line.split()[1])
    raise KeyError(key)


def measure(width, count):
    """Peak bytes above those before the call."""
    rng = np.random.default_rng(0)
    layers = {name: rng.normal(size=(width, width)) / width**0.5 for name in ("in", "out")}
    problem = gf.Problem(loss, jax.device_put(layers), jnp.asarray(rng.normal(size=(1, width))))
    before = resident("VmRSS")
    found = gf.compare(
        problem,
        RATES,
        t1=4.0,
        rtol=1e-3,
        save=gf.Linear(count=count),
        save_each={"sharpness": gf.Explicit(times=(0.0, 4.0))},
    )
    assert found["drift"].shape == (count, len(RATES))
    return resident("VmHWM") - before


def main():
    parameters, runs = 2 * LARGE**2, 1 + len(RATES)
    print(f"{parameters:,} parameters in {runs} runs: copies per run")
    print(f"{'times':>5}{'peak':>8}{'without what a small model takes':>36}")
    for count in (20, 200):
        peaks = []
        for width in (LARGE, SMALL):
            command = [sys.executable, "-m", "benchmarks.comparison_memory", str(width), str(count)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            peaks.append(int(done.stdout) / (8 * parameters * runs))
        print(f"{count:>5}{peaks[0]:>8.1f}{peaks[0] - peaks[1]:>36.1f}", flush=True)


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    if len(sys.argv) > 1:
        print(measure(*map(int, sys.argv[1:])))
    else:
        main()
