"""Where the time of a gradient inside of a solver goes, at the paper's size."""

from __future__ import annotations

import statistics
import time

import equinox as eqx
import jax

import gradflow as gf
from benchmarks.suite import Column, Effort, Kind, Table

from .runs import RTOL, alternating, bare

_T1 = 300.0
_CALLS = 300


def measure(effort: Effort) -> Table:
    """Parts of a run of configs/cooccurrence.yaml's flow, each measured by leaving others out."""
    effort.say("overhead: where the time goes")
    full = gf.tasks.Cooccurrence().build(jax.random.key(0))
    quiet = gf.Problem(full.loss, full.params, full.data)
    # The same state under a field that costs next to nothing: what is left is the solver's own.
    still = gf.Problem(params=full.params, data=full.data, vector_field=_decay)
    ends, shipped = gf.Explicit(times=[0.0, _T1]), gf.Logarithmic(count=200, start=1e-3)
    gradients = _run(quiet, ends, _T1).stats["gradient_evaluations"]
    runs = {
        "bare": bare(quiet, 0.1),
        "in a compiled loop": lambda: _in_a_loop(quiet),
        "arithmetic": lambda: _each(still, gf.Explicit(times=[0.0, 20.0]), 20.0),
        "end only": lambda: _each(quiet, ends, _T1),
        "rows": lambda: _each(quiet, shipped, _T1),
        "as shipped": lambda: _each(full, shipped, _T1),
    }
    said = {name: statistics.median(s) for name, s in alternating(runs, effort.pick(9, 3)).items()}
    base = said["bare"]
    rows = {
        "the bare gradient, called from Python": base,
        "the bare gradient inside of a compiled loop": said["in a compiled loop"],
        "the solver's own: stages, error, step size": said["arithmetic"],
        "all of `solve`, bosh3, end only": said["end only"],
        "beside it 200 rows of loss, gradient norm and distance": said["rows"] - said["end only"],
        "beside these the task's 23 observables and two events": said["as shipped"] - said["rows"],
    }
    table = Table(
        "Where the time goes: the paper's transformer",
        (Column("part"), Column("for one gradient", Kind.SECONDS), Column("of a bare", Kind.RATIO)),
        note=f"bosh3, {gradients} gradients. The solver's own is measured on the same state under "
        "d theta/dt = -theta. Medians, and their differences.",
    )
    for name, seconds in rows.items():
        table.add(name, [seconds], seconds / base)
    return table


def _decay(t, params, data):
    del t, data
    return jax.tree.map(lambda p: -p, params)


def _run(problem: gf.Problem, save: gf.SaveTimes, t1: float) -> gf.Trajectory:
    return gf.solve(problem, t1=t1, rtol=RTOL, solver="bosh3", save=save)


def _each(problem: gf.Problem, save: gf.SaveTimes, t1: float) -> float:
    stats = _run(problem, save, t1).stats
    return stats["wall_seconds"] / stats["gradient_evaluations"]


def _in_a_loop(problem: gf.Problem) -> float:
    began = time.perf_counter()
    jax.block_until_ready(_repeated(problem))
    return (time.perf_counter() - began) / _CALLS


@eqx.filter_jit
def _repeated(problem: gf.Problem):
    """Each result feeds the next call, or the compiler would evaluate it only once."""
    gradient = jax.grad(problem.loss)

    def body(_, params):
        slope = gradient(params, problem.data)
        return jax.tree.map(lambda p, g: p - 1e-12 * g, params, slope)

    return jax.lax.fori_loop(0, _CALLS, body, problem.params)
