"""The coupled dynamical system against the transformer's own flow, and at widths beyond memory.

What it takes depends on the words that occur, not on the widths.
"""

from __future__ import annotations

from collections.abc import Callable

import jax

import gradflow as gf
from benchmarks.suite import Column, Effort, Kind, Table, alternating, ratios

WIDTHS = (128, 10**4, 10**6)
_PHASES = 2000  # the end, in units of the time 1 / (s1^2 m m1) of phase 1
_RTOL = 2e-4  # the shipped tolerance


def paper(effort: Effort) -> Table:
    """The paper's sizes to t = 300 at the shipped tolerance: transformer and coupled system."""
    key = jax.random.key(0)
    effort.say("coupled system and transformer")
    return _table(
        "The paper's size to t = 300",
        {
            "coupled system": (gf.tasks.Coupled().build(key), 300.0),
            "transformer": (gf.tasks.Cooccurrence().build(key), 300.0),
        },
        effort,
    )


def widths(effort: Effort) -> Table:
    """The coupled system, started from statistics, to the same multiple of phase 1's time."""
    problems = {}
    for m in WIDTHS:
        task = gf.tasks.Coupled(
            width=m, neurons=m, initialisation="theory", start="statistics", test_samples=60
        )
        end = _PHASES / (task.deviation("w") ** 2 * m * m)
        problems[f"m = m1 = {m:,}"] = (task.build(jax.random.key(0)), end)
    effort.say("coupled system at growing widths")
    return _table(f"The coupled system to {_PHASES} / (s1^2 m m1)", problems, effort)


def _table(title: str, problems: dict[str, tuple[gf.Problem, float]], effort: Effort) -> Table:
    """A row for each problem and end time, ratios to the first."""
    evaluations: dict[str, int] = {}

    def solve(name: str, problem: gf.Problem, t1: float) -> Callable[[], None]:
        def run() -> None:
            flow = gf.solve(problem, t1=t1, rtol=_RTOL, save=gf.Linear(count=2))
            if flow.result != "end_time":
                raise RuntimeError(f"{name}: {gf.RESULTS[flow.result]}")
            evaluations[name] = flow.stats["gradient_evaluations"]

        return run

    times = alternating(
        {name: solve(name, *of) for name, of in problems.items()}, effort.pick(9, 3)
    )
    table = Table(
        title,
        (
            Column("what"),
            Column("gradients", Kind.COUNT),
            Column("seconds", Kind.SECONDS),
            Column("over the first", Kind.RATIO),
        ),
    )
    base = next(iter(times.values()))
    for name, seconds in times.items():
        table.add(name, evaluations[name], seconds, ratios(seconds, base))
    return table
