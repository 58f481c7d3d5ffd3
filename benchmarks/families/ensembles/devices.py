"""One run over 1, 2, 4 and 8 devices: its time, its error against one, and what is sent.

A student of 64 units and 4,417 weights on 16,384 samples, quick on 2,048, to t = 0.01. Where JAX
finds a CPU alone, 8 parts of it are the devices, which have no more cores for being cut: what is
measured then is what cutting costs. That number is set before JAX starts, so this runs in a process
of its own: ``python -m benchmarks.families.ensembles.devices`` prints JSON.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import gradflow as gf
from benchmarks.suite import Column, Effort, Kind, Table, ratios
from gradflow.flow.plan import observed
from gradflow.flow.run import FlowRun
from gradflow.flow.solve import checked
from gradflow.solvers import stepping

_FLAG = "--xla_force_host_platform_device_count=8"
_QUICK = ((1, 1), (8, 1))
_MESHES = ((1, 1), (2, 1), (4, 1), (8, 1), (4, 2), (2, 4))
_OPTIONS = {"t1": 0.01, "rtol": 1e-6, "solver": "tsit5", "save": gf.Linear(count=3)}
_KINDS = ("all-reduce", "all-gather", "all-to-all", "collective-permute")


def measured(effort: Effort) -> tuple[Table, list[dict[str, Any]]]:
    """The table, and its rows by name; on the accelerators of this process where it has some."""
    effort.say("one run over several devices")
    measure = here if jax.default_backend() != "cpu" else _apart
    found = measure(effort.quick)
    table = Table(
        f"One run of {found['samples']:,} samples over several devices, {found['devices']}",
        (
            Column("data x params"),
            Column("a gradient", Kind.SECONDS),
            Column("over one device", Kind.RATIO),
            Column("gradients", Kind.COUNT),
            Column("error against one", Kind.ERROR),
            Column("bytes a device", Kind.COUNT),
            Column("sent in a step", Kind.WORD),
        ),
        note="What is sent is counted in the compiled loop, where one may carry several arrays.",
    )
    rows = found["rows"]
    for row in rows:
        table.add(
            row["mesh"],
            row["seconds"],
            ratios(row["seconds"], rows[0]["seconds"]),
            row["gradients"],
            row["error"],
            row["bytes"],
            row["sent"],
        )
    return table, rows


def _apart(quick: bool) -> dict[str, Any]:
    """`here`, in a process with 8 devices.

    Raises:
        RuntimeError: it failed; the message ends as that process did.
    """
    flags = f"{os.environ.get('XLA_FLAGS', '')} {_FLAG}".strip()
    done = subprocess.run(
        [sys.executable, "-m", __spec__.name, *(["--quick"] if quick else [])],
        env=os.environ | {"XLA_FLAGS": flags},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"the process with 8 devices failed: {done.stderr[-500:]}")
    return json.loads(done.stdout)


def here(quick: bool) -> dict[str, Any]:
    """A row for each mesh that the devices of this process allow; rounds alternate."""
    task = gf.tasks.TeacherStudent(
        inputs=2,
        width=64,
        teacher_width=16,
        depth=2,
        samples=2048 if quick else 16_384,
        test_samples=1,
    )
    problem = task.build(jax.random.key(0)).quiet()
    alone = _weights(gf.solve(problem, **_OPTIONS))
    placed = {
        mesh: gf.Mesh(data=mesh[0], params=mesh[1]).place(problem)
        for mesh in (_QUICK if quick else _MESHES)
        if mesh[0] * mesh[1] <= len(jax.devices())
    }
    # The first round compiles.
    flows = {mesh: [gf.solve(each, **_OPTIONS)] for mesh, each in placed.items()}
    for _ in range(2 if quick else 3):
        for mesh, each in placed.items():
            flows[mesh].append(gf.solve(each, **_OPTIONS))
    rows = []
    for mesh, (first, *others) in flows.items():
        loop = _compiled_loop(placed[mesh])
        spent = first.stats["gradient_evaluations"]
        sent = Counter(re.findall(rf"= .*? ({'|'.join(_KINDS)})(?:-start)?\(", loop.as_text()))
        rows.append(
            {
                "mesh": f"{mesh[0]} x {mesh[1]}",
                "seconds": [run.stats["wall_seconds"] / spent for run in others],
                "gradients": spent,
                "error": float(np.linalg.norm(_weights(first) - alone) / first["distance"][-1]),
                "bytes": loop.memory_analysis().argument_size_in_bytes,
                "sent": ", ".join(f"{n} {kind}" for kind, n in sent.items()) or "nothing",
            }
        )
    return {
        "devices": f"{len(jax.devices())} x {jax.devices()[0].device_kind}",
        "samples": task.samples,
        "rows": rows,
    }


def _compiled_loop(problem: gf.Problem) -> Any:
    """The program that takes the steps."""
    spec = checked(**_OPTIONS)
    run = FlowRun(problem, spec, "tsit5", observed(problem, spec, ()))
    kept = run.kept, jnp.asarray(1, jnp.int32)
    return stepping.advance.lower(kept, run.carry).compile().compiled


def _weights(flow: gf.Trajectory) -> np.ndarray:
    leaves = jax.tree.leaves(eqx.filter(flow.final_params, eqx.is_inexact_array))
    return np.concatenate([np.asarray(leaf).ravel() for leaf in leaves])


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    print(json.dumps(here("--quick" in sys.argv)))
