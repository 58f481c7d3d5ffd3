"""Memory of a run, in copies of the parameters, the user's own apart."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.suite import Column, Criterion, Effort, Kind, Table

_EXPLICIT = ("heun", "bosh3", "tsit5", "dopri5", "dopri8")
_STABILISED = ("rkc2", "rkl2")
_IMPLICIT = ("kvaerno3-cg", "kvaerno5-cg")


def measure(effort: Effort) -> tuple[Table, list[Criterion]]:
    """What XLA sets aside, and by how much the process grows; each solver in a process."""
    table = Table(
        "Memory of a run, in copies of its ten million parameters",
        (
            Column("solver"),
            Column("set aside", Kind.NUMBER),
            Column("resident", Kind.NUMBER),
        ),
        note=(
            "200 save times, two samples, float64. Set aside: by the compiler, for the loop of "
            "steps and what it goes on from. Resident: what it goes on from, and the most by which "
            "the process grew during steps, on Linux."
        ),
    )
    solvers = (*_EXPLICIT, *_STABILISED, *_IMPLICIT)
    for solver in effort.pick(solvers, ("tsit5", "rkc2")):
        effort.say(f"overhead: memory with {solver}")
        table.add(solver, *_measured(solver))
    held = {solver: max(filter(None, cells)) for solver, *cells in table.rows}
    return table, [
        Criterion(
            f"copies of the parameters, {kind}",
            most,
            {solver: copies for solver, copies in held.items() if solver in members},
        )
        for kind, most, members in (
            ("explicit methods", 12, _EXPLICIT),
            ("stabilised methods", 8, _STABILISED),
        )
    ]


def _measured(solver: str) -> tuple[float, float | None]:
    done = subprocess.run(
        [sys.executable, "-m", f"{__package__}.one_run", solver],
        cwd=Path(__file__).parents[3], capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"memory with {solver}: {done.stderr.strip().splitlines()[-1]}")
    found = json.loads(done.stdout)
    return found["set_aside"], found["grew"]
