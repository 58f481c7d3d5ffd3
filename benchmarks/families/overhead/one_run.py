"""A run in a process of its own, to see how much memory it takes: prints JSON.

``python -m benchmarks.families.overhead.one_run SOLVER``
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp

import gradflow as gf
from gradflow.flow.plan import observed
from gradflow.flow.run import FlowRun
from gradflow.flow.solve import checked
from gradflow.solvers import stepping

from .networks import WIDTHS, network

_SAMPLES = 2  # so that the gradient's own memory is that of the parameters
_ATTEMPTS = 3


def main(solver: str) -> None:
    jax.config.update("jax_enable_x64", True)
    problem = network(WIDTHS[10**7], "float64", _SAMPLES)
    copy = 8 * problem.size
    save = gf.Logarithmic(count=200)
    spec = checked(t1=1.0, rtol=1e-4, solver=solver, save=save)
    run = FlowRun(problem, spec, solver, observed(problem, spec, ()))
    kept = run.kept, jnp.asarray(_ATTEMPTS, jnp.int32)
    used = stepping.advance.lower(kept, run.carry).compile().compiled.memory_analysis()
    # The problem's own parameters are among them twice: to measure from, and to record from.
    carried = used.argument_size_in_bytes - 2 * copy
    made = used.output_size_in_bytes - used.alias_size_in_bytes + used.temp_size_in_bytes
    _forget_the_most()
    before = _resident("VmRSS")
    run.advance()
    most = _resident("VmHWM")
    grew = None if before is None or most is None else (carried + most - before) / copy
    print(json.dumps({"set_aside": (carried + made) / copy, "grew": grew}))


def _resident(what: str) -> int | None:
    """Bytes of this process that are, or at most were, in memory; ``None`` but on Linux."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    (line,) = (line for line in status.splitlines() if line.startswith(what))
    return 1024 * int(line.split()[1])


def _forget_the_most() -> None:
    """What was resident at most counts from here."""
    refs = Path("/proc/self/clear_refs")
    if refs.exists():
        refs.write_text("5")


if __name__ == "__main__":
    main(sys.argv[1])
