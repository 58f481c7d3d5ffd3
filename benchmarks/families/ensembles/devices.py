"""One run over 1, 2, 4 and 8 devices: its time, its error against one, and what is sent.

``python -m benchmarks.devices``: a student of 64 units and 4,417 weights on 16,384 samples, to
t = 0.01, after compilation. Where JAX finds fewer than 8 accelerators these are parts of one CPU,
which has no more cores for being cut: what is measured then is what cutting costs. Rows alternate;
medians of the rounds, of the gradient evaluations alone.

What is sent is counted in the compiled loop, where one instruction may carry several arrays.
"""

import os
import re
import statistics
from collections import Counter

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import gradflow as gf
from gradflow.flow.plan import observed
from gradflow.flow.run import FlowRun
from gradflow.flow.solve import checked
from gradflow.solvers import stepping

MESHES = ((1, 1), (2, 1), (4, 1), (8, 1), (4, 2), (2, 4))
ROUNDS = 3
OPTIONS = {"t1": 0.01, "rtol": 1e-6, "solver": "tsit5", "save": gf.Linear(count=3)}
KINDS = ("all-reduce", "all-gather", "all-to-all", "collective-permute")


def compiled_loop(problem: gf.Problem):
    """The program that takes the steps."""
    spec = checked(**OPTIONS)
    run = FlowRun(problem, spec, "tsit5", observed(problem, spec, ()))
    kept = run.kept, jnp.asarray(1, jnp.int32)
    return stepping.advance.lower(kept, run.carry).compile().compiled


def sent(text: str) -> Counter[str]:
    """How many instructions of each kind send something from device to device."""
    return Counter(re.findall(rf"= .*? ({'|'.join(KINDS)})(?:-start)?\(", text))


def weights(flow: gf.Trajectory) -> np.ndarray:
    leaves = jax.tree.leaves(eqx.filter(flow.final_params, eqx.is_inexact_array))
    return np.concatenate([np.asarray(leaf).ravel() for leaf in leaves])


def main():
    jax.config.update("jax_enable_x64", True)
    task = gf.tasks.TeacherStudent(
        inputs=2, width=64, teacher_width=16, depth=2, samples=16_384, test_samples=1
    )
    problem = task.build(jax.random.key(0)).quiet()
    alone = weights(gf.solve(problem, **OPTIONS))
    placed = {
        mesh: gf.Mesh(data=mesh[0], params=mesh[1]).place(problem)
        for mesh in MESHES
        if mesh[0] * mesh[1] <= len(jax.devices())
    }
    loops = {mesh: compiled_loop(each) for mesh, each in placed.items()}
    flows = {mesh: [gf.solve(each, **OPTIONS)] for mesh, each in placed.items()}
    for _ in range(ROUNDS):
        for mesh, each in placed.items():
            flows[mesh].append(gf.solve(each, **OPTIONS))
    print(f"{problem.size} weights on {len(jax.devices())} x {jax.devices()[0].device_kind}")
    print(
        f"{'data x params':<14}{'ms/gradient':>12}{'ratio':>7}{'gradients':>10}{'error':>9}"
        f"{'MB a device':>12}  sent"
    )
    base = None
    for mesh, runs in flows.items():
        spent = runs[0].stats["gradient_evaluations"]
        each = statistics.median(1e3 * run.stats["wall_seconds"] / spent for run in runs[1:])
        base = base or each
        error = np.linalg.norm(weights(runs[-1]) - alone) / runs[-1]["distance"][-1]
        held = loops[mesh].memory_analysis().argument_size_in_bytes / 1e6
        what = ", ".join(f"{n} {kind}" for kind, n in sent(loops[mesh].as_text()).items())
        print(
            f"{mesh[0]:>4} x {mesh[1]:<7}{each:>12.1f}{each / base:>7.2f}{spent:>10}{error:>9.1e}"
            f"{held:>12.2f}  {what or 'nothing'}"
        )


if __name__ == "__main__":
    main()
